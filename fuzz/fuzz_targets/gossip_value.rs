//! Whatever a node tells: read or refused, and what is read is written again as it was, but for what a later release
//! appended.
#![no_main]

use constellation_gossip::{Bulk, Counts, Load, Metadata, ServiceId, VALUE_LIMIT};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let written = [
        text.parse::<Metadata>().map(|value| value.to_string()),
        text.parse::<Counts>().map(|value| value.to_string()),
        text.parse::<Load>().map(|value| value.to_string()),
        text.parse::<Bulk>().map(|value| value.to_string()),
    ];
    for value in written.into_iter().flatten() {
        assert!(text.len() <= VALUE_LIMIT);
        assert!(
            text == value
                || text
                    .strip_prefix(&value)
                    .is_some_and(|rest| rest.starts_with('|'))
        );
    }
    if let Ok(key) = text.parse::<ServiceId>() {
        assert_eq!(key.to_string(), text);
    }
});
