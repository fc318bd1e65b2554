//! What is followed of a carried connection: the same however the bytes were cut, and never more than what the client said
//! last.
#![no_main]

use constellation_dataplane::mesh::unanswered::Unanswered;
use libfuzzer_sys::fuzz_target;

/// What one of both says begins with its name and ends with this.
const END: &[u8] = b"|";

fuzz_target!(|bytes: &[u8]| {
    let (mut whole, mut pieces) = (Unanswered::default(), Unanswered::default());
    let mut asked = Vec::new();
    let mut rest = bytes;
    while let Some((from, said)) = rest.split_first() {
        let end = said.windows(END.len()).position(|at| at == END);
        let (said, after) = said.split_at(end.unwrap_or(said.len()));
        rest = after.get(END.len()..).unwrap_or_default();
        let say: fn(&mut Unanswered, &[u8]) = match from {
            b'<' => Unanswered::answered,
            _ => Unanswered::asked,
        };
        if *from != b'<' {
            asked.extend_from_slice(said);
        }
        say(&mut whole, said);
        said.chunks(7).for_each(|piece| say(&mut pieces, piece));
        assert_eq!(whole.again(), pieces.again());
        if let Some(again) = whole.again() {
            assert!(asked.ends_with(again));
        }
    }
});
