//! Whatever both sides of an HTTP/2 connection send: the frame guard does not panic, does not depend on how the bytes were
//! cut, and keeps no more than it says.
#![no_main]

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use constellation_dataplane::http::frames::{FrameLimits, Frames, Guard};
use constellation_dataplane::http::pace::Least;
use libfuzzer_sys::fuzz_target;

const LEAST: Least = Least {
    rate: NonZeroU32::MIN,
    grace: Duration::from_secs(30),
};

fuzz_target!(|input: (Vec<(bool, Vec<u8>)>, u8)| {
    let (pieces, cut) = input;
    let client: Vec<u8> = pieces
        .iter()
        .filter(|(client, _)| *client)
        .flat_map(|(_, bytes)| bytes.clone())
        .collect();
    let events = |size: usize| {
        let mut frames = Frames::new(true);
        let mut events = Vec::new();
        for piece in client.chunks(size) {
            let fed: Result<(), ()> = frames.feed(piece, |event| {
                events.push(event);
                Ok(())
            });
            assert!(fed.is_ok());
        }
        (events, frames.at_boundary())
    };
    assert_eq!(events(client.len().max(1)), events(usize::from(cut).max(1)));

    let mut guard = Guard::new(FrameLimits {
        streams: 4,
        header_bytes: 4096,
        body: Some(LEAST),
        send: Some(LEAST),
    });
    let mut now = Instant::now();
    for (from_client, bytes) in &pieces {
        let seen = if *from_client {
            guard.received(bytes, now)
        } else {
            guard.sent(bytes, now)
        };
        if seen.is_err() {
            assert_eq!(guard.go_away().len(), 17);
            return;
        }
        assert!(guard.open_streams() <= 4 * 2 + 100);
        now += Duration::from_secs(u64::from(cut));
        if guard.next_look(now).is_some_and(|at| at <= now) && guard.look(now, true).is_err() {
            return;
        }
    }
});
