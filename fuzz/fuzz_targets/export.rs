//! What another node tells of its routes: read or refused, and read again it is the same.
#![no_main]

use constellation_agent::peers::Export;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(read) = Export::decode(bytes) else {
        return;
    };
    let Ok(told) = read.encode() else {
        return;
    };
    let again = Export::decode(&told.bytes);
    let again = again.expect("what was encoded is read");
    assert_eq!(again.providers, read.providers);
    assert!(again.unread.is_empty());
    assert_eq!(again.encode().expect("it fits").digest, told.digest);
});
