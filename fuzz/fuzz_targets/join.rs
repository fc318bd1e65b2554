//! Whatever is pasted as a join token, asked for as a certificate, or shown as one: read or refused.
#![no_main]

use constellation_identity::{ClusterId, JoinToken, SigningRequest, Trust, identity};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let pasted = [
            text.to_owned(),
            format!("{}{text}", constellation_identity::TOKEN_PREFIX),
        ];
        for token in pasted.iter().filter_map(|text| text.parse::<JoinToken>().ok()) {
            assert_eq!(token.to_text().parse(), Ok(token));
        }
        if let Ok((cluster, node)) = ClusterId::parse_node_uri(text) {
            assert_eq!(cluster.node_uri(&node), text);
        }
        let _ = Trust::from_pem(ClusterId::from_bytes([1; 16]), text);
    }
    let _ = SigningRequest::parse(bytes);
    let _ = identity(&bytes.into());
});
