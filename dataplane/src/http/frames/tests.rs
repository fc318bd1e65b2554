//! Frames by hand: what is counted, what is earned, who is slow.

use std::num::NonZeroU32;

use super::reader::PREFACE;
use super::*;

/// The n-th frame of a flood.
type Make = Box<dyn Fn(u32) -> Vec<u8>>;

fn limits() -> FrameLimits {
    let least = Least {
        rate: NonZeroU32::new(240).unwrap(),
        grace: Duration::from_secs(30),
    };
    FrameLimits {
        streams: 250,
        header_bytes: 65_536,
        body: Some(least),
        send: Some(least),
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    let mut payload = id.to_be_bytes().to_vec();
    payload.extend_from_slice(&value.to_be_bytes());
    frame(SETTINGS, 0, 0, &payload)
}

fn window(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// A connection whose client has said hello.
struct Connection {
    guard: Guard,
    now: Instant,
}

impl Connection {
    fn new() -> Self {
        let mut connection = Self {
            guard: Guard::new(limits()),
            now: Instant::now(),
        };
        assert!(connection.guard.is_in_head());
        connection.client(&[0; PREFACE]).unwrap();
        connection.client(&frame(SETTINGS, 0, 0, &[])).unwrap();
        connection.us(&setting(INITIAL_WINDOW_SIZE, 100_000)).unwrap();
        assert!(!connection.guard.is_in_head());
        connection
    }

    fn client(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.guard.received(bytes, self.now)
    }

    fn us(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.guard.sent(bytes, self.now)
    }

    /// A request without a body, or the head of one with.
    fn request(&mut self, stream: u32, whole: bool) {
        let flags = END_HEADERS | if whole { END_STREAM } else { 0 };
        self.client(&frame(HEADERS, flags, stream, b"head")).unwrap();
    }

    /// How many of these a client may send at once.
    fn how_many(&mut self, make: impl Fn(u32) -> Vec<u8>) -> Result<u32, Refusal> {
        for number in 0..100_000 {
            if let Err(refusal) = self.client(&make(number)) {
                assert!(number > 0);
                return if matches!(refusal, Refusal::Calm(_)) {
                    Ok(number)
                } else {
                    Err(refusal)
                };
            }
        }
        panic!("no limit");
    }

    /// Lets seconds pass, looking when asked to. Returns when and how it ended.
    fn pass(&mut self, seconds: u64, each: impl Fn(&mut Self)) -> Option<(u64, Result<Look, Refusal>)> {
        for second in 1..=seconds {
            self.now += Duration::from_secs(1);
            each(self);
            if self.guard.next_look(self.now).is_some_and(|at| at <= self.now) {
                let look = self.guard.look(self.now, true);
                if look != Ok(Look::Fine) {
                    return Some((second, look));
                }
            }
        }
        None
    }
}

#[test]
fn every_kind_of_frame_has_its_limit() {
    let cases: [(&str, u32, Make); 8] = [
        ("pings", 500, Box::new(|_| frame(PING, 0, 0, &[0; 8]))),
        ("settings", 49, Box::new(|_| setting(0x3, 100))),
        ("acknowledgements", 49, Box::new(|_| frame(SETTINGS, ACK, 0, &[]))),
        (
            "priorities",
            1000,
            Box::new(|n| frame(PRIORITY, 0, 2 * n + 1, &[0; 5])),
        ),
        ("window updates", 2000, Box::new(|_| window(0, 1))),
        ("empty data", 64, Box::new(|_| frame(DATA, 0, 1, &[]))),
        ("unknown", 100, Box::new(|_| frame(0xfe, 0, 0, b"grease"))),
        (
            "rapid resets",
            500,
            Box::new(|n| {
                let mut both = frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, b"head");
                both.extend(frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8]));
                both
            }),
        ),
    ];
    for (name, most, make) in cases {
        let mut connection = Connection::new();
        assert_eq!(connection.how_many(make), Ok(most), "{name}");
    }
}

#[test]
fn a_slow_trickle_of_each_is_fine() {
    let mut connection = Connection::new();
    for _ in 0..1000 {
        connection.now += Duration::from_secs(1);
        for one in [
            frame(PING, 0, 0, &[0; 8]),
            setting(0x3, 100),
            frame(PRIORITY, 0, 1, &[0; 5]),
            window(0, 1),
            frame(DATA, 0, 1, &[]),
            frame(RST_STREAM, 0, 1, &[0; 4]),
            frame(0xfe, 0, 0, &[]),
        ] {
            connection.client(&one).unwrap();
        }
    }
}

#[test]
fn a_busy_download_earns_its_window_updates_and_pings() {
    let mut connection = Connection::new();
    connection.request(1, true);
    for _ in 0..100_000 {
        connection.us(&frame(DATA, 0, 1, &[0; 100])).unwrap();
        connection.client(&window(1, 100)).unwrap();
        connection.client(&window(0, 100)).unwrap();
        connection.client(&frame(PING, 0, 0, &[0; 8])).unwrap();
    }
}

#[test]
fn a_client_that_cancels_some_of_many_requests_is_fine() {
    let mut connection = Connection::new();
    for number in 0..50_000 {
        let stream = 2 * number + 1;
        connection.request(stream, true);
        if number % 2 == 0 {
            connection.client(&frame(RST_STREAM, 0, stream, &[0; 4])).unwrap();
        } else {
            connection
                .us(&frame(HEADERS, END_HEADERS | END_STREAM, stream, b"head"))
                .unwrap();
        }
    }
    assert!(connection.guard.state.streams.is_empty());
}

#[test]
fn resets_that_a_client_provokes_count() {
    let mut connection = Connection::new();
    let refused = (0..1000).find_map(|n| {
        connection.request(2 * n + 1, false);
        connection.us(&frame(RST_STREAM, 0, 2 * n + 1, &[0; 4])).err()
    });
    assert_eq!(refused, Some(Refusal::Calm(Label::H2Resets)));
}

#[test]
fn a_header_section_in_too_many_pieces_is_refused() {
    let mut connection = Connection::new();
    connection.client(&frame(HEADERS, 0, 1, b"")).unwrap();
    assert!(connection.guard.is_in_head());
    assert!(!connection.guard.client_at_boundary());
    assert_eq!(connection.how_many(|_| frame(CONTINUATION, 0, 1, b"x")), Ok(5));
    let mut whole = Connection::new();
    whole.client(&frame(HEADERS, 0, 1, b"")).unwrap();
    whole.client(&frame(CONTINUATION, END_HEADERS, 1, b"x")).unwrap();
    assert!(!whole.guard.is_in_head());
}

#[test]
fn streams_that_are_never_served_are_bounded() {
    let mut connection = Connection::new();
    let most = connection.how_many(|n| frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, b"head"));
    assert_eq!(most, Ok(600));
}

#[test]
fn cuts_make_no_difference() {
    let mut bytes = vec![0; PREFACE];
    bytes.extend(setting(INITIAL_WINDOW_SIZE, 10));
    bytes.extend(frame(HEADERS, END_HEADERS, 1, b"head"));
    bytes.extend(frame(DATA, 0, 1, &[7; 300]));
    bytes.extend(window(1, 77));
    bytes.extend(frame(WINDOW_UPDATE, 0, 1, &[0; 9]));
    bytes.extend(frame(GOAWAY, 0, 0, b"\0\0\0\x01\0\0\0\x0bwords of any length"));
    bytes.extend(frame(DATA, END_STREAM, 1, &[]));
    let events = |size: usize| {
        let mut frames = Frames::new(true);
        let mut events = Vec::new();
        for piece in bytes.chunks(size) {
            let fed: Result<(), ()> = frames.feed(piece, |event| {
                events.push(event);
                Ok(())
            });
            fed.unwrap();
        }
        assert!(frames.at_boundary());
        events
    };
    let whole = events(bytes.len());
    assert!(whole.contains(&Event::Window {
        stream: 1,
        increment: 77
    }));
    assert!(whole.contains(&Event::Setting {
        id: INITIAL_WINDOW_SIZE,
        value: 10
    }));
    assert!(whole.contains(&Event::GoAway { code: 11 }));
    for size in 1..40 {
        assert_eq!(events(size), whole, "in pieces of {size}");
    }
}

#[test]
fn a_body_that_does_not_come_is_waited_for_as_long_as_the_grace() {
    let mut connection = Connection::new();
    connection.request(1, false);
    let (second, end) = connection.pass(100, |_| {}).unwrap();
    assert_eq!(end, Err(Refusal::BodyTooSlow));
    assert!((30..=35).contains(&second), "{second}");
    // The rate is asked of each of ten.
    let mut many = Connection::new();
    for number in 0..10 {
        many.request(2 * number + 1, false);
    }
    let (second, end) = many
        .pass(100, |c| c.client(&frame(DATA, 0, 1, &[0; 300])).unwrap())
        .unwrap();
    assert_eq!(end, Err(Refusal::BodyTooSlow));
    assert!((30..=40).contains(&second), "{second}");
}

#[test]
fn a_body_that_we_do_not_take_is_not_waited_for() {
    // The window is used up: the back end is slow, not the client.
    let mut connection = Connection::new();
    connection.request(1, false);
    for _ in 0..10 {
        connection.us(&window(0, 10_000)).unwrap();
        connection.client(&frame(DATA, 0, 1, &[0; 10_000])).unwrap();
    }
    assert_eq!(connection.pass(1000, |_| {}), None);
    // Neither is one whose response has begun: the two may talk for hours.
    let mut connection = Connection::new();
    connection.request(1, false);
    connection.us(&frame(HEADERS, END_HEADERS, 1, b"head")).unwrap();
    assert_eq!(connection.pass(1000, |_| {}), None);
    // A slow one that keeps the rate lasts.
    let mut connection = Connection::new();
    connection.request(1, false);
    let ended = connection.pass(1000, |c| {
        c.us(&window(0, 300)).unwrap();
        c.us(&window(1, 300)).unwrap();
        c.client(&frame(DATA, 0, 1, &[0; 300])).unwrap();
    });
    assert_eq!(ended, None);
}

#[test]
fn a_stream_without_a_window_is_reset_and_silence_is_not() {
    let mut connection = Connection::new();
    connection.request(1, true);
    connection.request(3, true);
    for stream in [1, 3] {
        connection
            .us(&frame(HEADERS, END_HEADERS, stream, b"head"))
            .unwrap();
    }
    assert_eq!(connection.pass(10_000, |_| {}), None, "two silent event streams");
    connection.client(&setting(INITIAL_WINDOW_SIZE, 1000)).unwrap();
    connection.us(&frame(DATA, 0, 3, &[0; 1000])).unwrap();
    let (second, look) = connection.pass(100, |_| {}).unwrap();
    assert_eq!(look, Ok(Look::Reset(vec![3])));
    assert!((30..=45).contains(&second), "{second}");
    assert_eq!(connection.pass(10_000, |_| {}), None, "the other one lives");
}

#[test]
fn a_stalled_connection_and_a_trickle_of_window_end_too() {
    let mut connection = Connection::new();
    connection.client(&window(1, 1)).unwrap();
    connection.request(1, true);
    connection.us(&frame(HEADERS, END_HEADERS, 1, b"head")).unwrap();
    for _ in 0..6 {
        connection.us(&frame(DATA, 0, 1, &[0; 10_000])).unwrap();
        connection.client(&window(1, 10_000)).unwrap();
    }
    connection.us(&frame(DATA, 0, 1, &[0; 5535])).unwrap();
    let (second, look) = connection.pass(1000, |_| {}).unwrap();
    assert_eq!(look, Ok(Look::Reset(vec![1])));
    assert!(
        (110..=130).contains(&second),
        "what it took counted for it: {second}"
    );
    // One byte of window every other second.
    let mut trickle = Connection::new();
    trickle.client(&setting(INITIAL_WINDOW_SIZE, 0)).unwrap();
    trickle.request(1, true);
    trickle.us(&frame(HEADERS, END_HEADERS, 1, b"head")).unwrap();
    let (second, look) = trickle
        .pass(1000, |c| {
            c.client(&window(1, 1)).unwrap();
            c.us(&frame(DATA, 0, 1, &[0])).unwrap();
        })
        .unwrap();
    assert_eq!(look, Ok(Look::Reset(vec![1])));
    assert!((30..=45).contains(&second), "{second}");
}

#[test]
fn a_stream_is_forgotten_at_its_end() {
    let mut connection = Connection::new();
    connection.request(1, false);
    connection
        .us(&frame(HEADERS, END_HEADERS | END_STREAM, 1, b"head"))
        .unwrap();
    assert_eq!(connection.guard.state.streams.len(), 1, "its body may still come");
    connection.client(&frame(DATA, END_STREAM, 1, b"body")).unwrap();
    connection.request(3, false);
    connection
        .client(&frame(HEADERS, END_HEADERS | END_STREAM, 3, b"trailers"))
        .unwrap();
    connection.us(&frame(HEADERS, END_HEADERS, 3, b"head")).unwrap();
    connection.us(&frame(DATA, END_STREAM, 3, b"body")).unwrap();
    connection.request(5, false);
    connection.us(&frame(RST_STREAM, 0, 5, &[0; 4])).unwrap();
    assert!(connection.guard.state.streams.is_empty());
    assert_eq!(connection.guard.next_look(connection.now), None);
}

#[test]
fn a_crowd_of_streams_without_a_window_has_less_time() {
    let mut connection = Connection::new();
    connection.client(&window(0, 100_000_000)).unwrap();
    for number in 0..100 {
        let stream = 2 * number + 1;
        connection.request(stream, true);
        connection
            .us(&frame(HEADERS, END_HEADERS, stream, b"head"))
            .unwrap();
        for _ in 0..4 {
            connection.us(&frame(DATA, 0, stream, &[0; 16_383])).unwrap();
        }
        connection.us(&frame(DATA, 0, stream, &[0; 3])).unwrap();
    }
    // A round trip later there is a window, and nobody is stuck.
    let all = |c: &mut Connection| {
        for number in 0..100 {
            let stream = 2 * number + 1;
            c.client(&window(stream, 100)).unwrap();
            c.us(&frame(DATA, 0, stream, &[0; 100])).unwrap();
        }
    };
    assert_eq!(connection.pass(60, all), None);
    let (second, look) = connection.pass(60, |_| {}).unwrap();
    let Ok(Look::Reset(reset)) = look else {
        panic!("{look:?}");
    };
    assert_eq!((reset.len(), reset[0]), (68, 65));
    assert!(second <= 3, "{second}");
    let (second, _) = connection.pass(200, |_| {}).unwrap();
    assert!(second > 60, "the others have their time: {second}");
}

#[test]
fn many_requests_without_any_window_end_the_connection() {
    // With each request the client says how much of its response may come.
    let ended_at = |window_of_each: u32| {
        let mut connection = Connection::new();
        connection.client(&setting(INITIAL_WINDOW_SIZE, 0)).unwrap();
        (0..100).find_map(|number| {
            let stream = 2 * number + 1;
            let request = frame(HEADERS, END_HEADERS | END_STREAM, stream, b"head");
            if let Err(refusal) = connection.client(&request) {
                return Some((number, refusal));
            }
            connection.client(&window(stream, window_of_each)).unwrap();
            None
        })
    };
    assert_eq!(ended_at(1), Some((32, Refusal::Calm(Label::SlowReader))));
    assert_eq!(ended_at(1024), None);
}
