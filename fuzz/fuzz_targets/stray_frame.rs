//! Whatever frames come while an address moves: what is sent on is one of those that came, with its hardware addresses and its
//! checksum made new and nothing beyond its packet; and no more is sent than came.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;

mod frame {
    pub(super) type Mac = [u8; 6];
}
#[path = "../../agent/src/vip/stray.rs"]
mod stray;

const OWN: frame::Mac = [2, 0, 0, 0, 7, 2];
const ADDRESSES: [&str; 2] = ["192.0.2.10", "2001:db8::10"];

/// Each frame after its length, in one byte.
fn frames(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = bytes.split_first() {
        let (frame, rest) = rest.split_at(rest.len().min((*length).into()));
        frames.push(frame);
        bytes = rest;
    }
    frames
}

fuzz_target!(|bytes: &[u8]| {
    let addresses = ADDRESSES.map(|address| address.parse::<IpAddr>().expect("an address"));
    let mut porter = stray::Porter::new(OWN, addresses);
    let (mut came, mut sent) = (Vec::new(), 0);
    for frame in frames(bytes) {
        came.push(frame);
        for passed_on in porter.saw(frame) {
            sent += 1;
            assert_eq!(passed_on[6..12], OWN);
            assert_eq!(passed_on[0] & 1, 0, "to one host");
            assert!(sent <= came.len());
            let is_of = |frame: &&&[u8]| {
                frame.len() >= passed_on.len() && frame[..6] == OWN && frame[12..34] == passed_on[12..34]
            };
            assert!(came.iter().any(|frame| is_of(&frame)));
        }
    }
});
