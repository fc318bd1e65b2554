//! A dynamic document is refused with reasons, or read; the same text never panics in any format.
#![no_main]

use std::path::Path;

use constellation_config::{Format, dynamic};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for format in [Format::Yaml, Format::Toml, Format::Json] {
        if let Err(errors) = dynamic::parse(text, format, Path::new("document")) {
            assert!(!errors.0.is_empty());
            assert!(errors.0.iter().all(|error| !error.message.is_empty()));
        }
    }
});
