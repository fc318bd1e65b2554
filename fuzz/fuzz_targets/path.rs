//! A path is refused, or its normal form is final and free of dot segments and double slashes.
#![no_main]

use constellation_table::path::normalise;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|path: &str| {
    let Ok(normal) = normalise(path) else { return };
    if normal.clean == "*" {
        return;
    }
    assert!(normal.clean.starts_with('/') && normal.clean.is_ascii());
    assert!(!normal.clean.contains("//"));
    assert!(
        !normal
            .clean
            .split('/')
            .any(|segment| matches!(segment, "." | ".."))
    );
    let again = normalise(&normal.clean).expect("a normal path is a path");
    assert_eq!((&again.clean, &again.routing), (&normal.clean, &normal.routing));
});
