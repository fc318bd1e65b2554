//! An authority is refused, or gives a lower-case name that is final.
#![no_main]

use constellation_table::host::canonical;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|authority: &str| {
    if let Ok(name) = canonical(authority) {
        assert!(!name.is_empty() && name.is_ascii());
        assert!(
            !name
                .bytes()
                .any(|byte| byte.is_ascii_uppercase() || byte.is_ascii_whitespace())
        );
        let literal = if name.contains(':') {
            format!("[{name}]")
        } else {
            name.to_string()
        };
        assert_eq!(canonical(&literal).as_deref(), Ok(&*name));
    }
});
