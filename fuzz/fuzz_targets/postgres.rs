//! Whatever a client begins with: what is done in PostgreSQL's place does not depend on how the bytes were cut, and ends.
#![no_main]

use constellation_dataplane::l4::postgres::{Preamble, REQUEST_LEN, Step};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let at_once = steps(bytes, |_| bytes.len());
    let by_byte = steps(bytes, |end| end + 1);
    assert_eq!(at_once, by_byte);
    assert!(at_once.len() <= 2, "a request is refused once");
});

/// All steps but those that only wait.
fn steps(bytes: &[u8], more: impl Fn(usize) -> usize) -> Vec<Step> {
    let mut preamble = Preamble::default();
    let (mut from, mut to) = (0, 0);
    let mut steps = Vec::new();
    loop {
        match preamble.step(&bytes[from..to]) {
            Step::More if to == bytes.len() => return steps,
            Step::More => {
                assert!(to - from < REQUEST_LEN);
                to = more(to);
            }
            Step::RefuseGss => {
                steps.push(Step::RefuseGss);
                from += REQUEST_LEN;
            }
            last => {
                steps.push(last);
                return steps;
            }
        }
    }
}
