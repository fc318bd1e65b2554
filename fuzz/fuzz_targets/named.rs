//! The path, or the server's name, by which a proxy in front names a service: read or not, and what was written is read again.
#![no_main]

use constellation_dataplane::named;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some((service, rest)) = named::split(text) {
        assert!(text.ends_with(rest) && (rest.is_empty() || rest.starts_with('/')));
        let again = format!("{}{rest}", named::path(&service));
        assert_eq!(named::split(&again), Some((service, rest)));
    }
    if let Some(service) = named::from_host(text) {
        let host = named::host(&service);
        assert!(host.is_none_or(|host| named::from_host(&host) == Some(service)));
    }
    if let Some(host) = named::host(text) {
        assert_eq!(named::from_host(&host).as_deref(), Some(text));
    }
    if !text.is_empty() && text.len() <= 1024 {
        let path = named::path(text);
        assert_eq!(named::split(&path), Some((text.to_owned(), "")));
    }
});
