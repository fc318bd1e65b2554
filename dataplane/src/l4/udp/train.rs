//! Which datagrams leave together: those of one session, of one size but for the last one, which may be shorter.
//!
//! The kernel cuts such a train into its datagrams as late as it can (`UDP_SEGMENT`, Linux 4.18), and joins what comes
//! in the same way (`UDP_GRO`, Linux 5.0), so a train costs little more than one datagram.

use crate::metrics::Carried;

/// Most datagrams in a train (`UDP_MAX_SEGMENTS` of Linux before 6.9, which has twice as many since).
const MOST: usize = 64;
/// Most bytes in a train: what an IPv4 packet of full length has room for.
const MOST_BYTES: usize = 65_507;

/// What was received at once: one datagram, or some that the kernel has joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Bytes of all its datagrams.
    pub(super) len: usize,
    /// Bytes of each of them; the last one may be shorter.
    pub(super) each: usize,
}

impl Message {
    /// How many there are; an empty one is one.
    pub(super) fn datagrams(self) -> usize {
        match self.each {
            0 => 1,
            each => self.len.div_ceil(each).max(1),
        }
    }

    fn is_even(self) -> bool {
        self.each != 0 && self.len.is_multiple_of(self.each)
    }
}

/// What a train carries, for the counters. `together`: its datagrams leave with one call.
pub(super) fn carried(train: &[(&[u8], Message)], together: bool) -> Carried {
    let mut carried = Carried::default();
    for (bytes, message) in train {
        let datagrams = message.datagrams() as u64;
        carried.datagrams += datagrams;
        carried.bytes += bytes.len() as u64;
        if datagrams > 1 {
            carried.joined += datagrams;
        }
    }
    if together {
        carried.together = carried.datagrams;
    }
    carried
}

/// How many of the messages, from the first one on, can leave together when none of their datagrams may be longer than
/// `longest`; `None`: the datagrams of the first message have to leave one by one. A first message of one datagram that
/// finds no company is a train of one.
pub(super) fn couple(messages: impl IntoIterator<Item = Message>, longest: usize) -> Option<usize> {
    let mut messages = messages.into_iter();
    let first = messages.next()?;
    if first.datagrams() == 1 && (first.len == 0 || first.len > longest) {
        return Some(1);
    }
    if first.each > longest || first.datagrams() > MOST || first.len > MOST_BYTES {
        return None;
    }
    let (mut count, mut datagrams, mut bytes) = (1, first.datagrams(), first.len);
    let mut open = first.is_even();
    for message in messages {
        datagrams += message.datagrams();
        bytes += message.len;
        let fits = message.len > 0 && message.each <= first.each && datagrams <= MOST && bytes <= MOST_BYTES;
        let alike = message.each == first.each || message.datagrams() == 1;
        if !(open && fits && alike) {
            break;
        }
        count += 1;
        open = message.each == first.each && message.is_even();
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(len: usize) -> Message {
        Message { len, each: len }
    }

    fn joined(len: usize, each: usize) -> Message {
        Message { len, each }
    }

    #[test]
    fn trains() {
        let cases: [(&[Message], usize, Option<usize>); 16] = [
            (&[], 9000, None),
            (&[one(100)], 9000, Some(1)),
            (&[one(0), one(0)], 9000, Some(1)),
            (&[one(100), one(0)], 9000, Some(1)),
            (&[one(100), one(100), one(100)], 9000, Some(3)),
            (&[one(100), one(100), one(40), one(40)], 9000, Some(3)),
            (&[one(100), one(101)], 9000, Some(1)),
            (&[one(40), one(100)], 9000, Some(1)),
            (
                &[joined(1000, 100), one(100), joined(250, 100), one(1)],
                9000,
                Some(3),
            ),
            (&[joined(950, 100), one(100)], 9000, Some(1)),
            (&[joined(1000, 100), joined(100, 50)], 9000, Some(1)),
            (&[one(100); 70], 9000, Some(64)),
            (&[one(1400); 60], 9000, Some(46)),
            (&[joined(1000, 100)], 99, None),
            (&[one(100), one(100)], 99, Some(1)),
            (&[joined(6500, 100)], 9000, None),
        ];
        for (messages, longest, expected) in cases {
            assert_eq!(
                couple(messages.iter().copied(), longest),
                expected,
                "{messages:?} up to {longest}"
            );
        }
    }

    proptest! {
        /// The kernel cuts by length alone: where it cuts must be where the datagrams end.
        #[test]
        fn a_train_is_cut_where_its_datagrams_end(
            sizes in prop::collection::vec((1..5usize, 0..4usize, 0..60usize), 1..40),
            longest in 1..80usize,
        ) {
            let messages: Vec<Message> = sizes
                .iter()
                .map(|(count, size, rest)| {
                    let each = [0, 20, 40, 60][*size];
                    let last = if each == 0 { 0 } else { rest % each + 1 };
                    if *count == 1 { one(last) } else { joined(each * (count - 1) + last, each) }
                })
                .collect();
            let Some(count) = couple(messages.iter().copied(), longest) else {
                return Ok(());
            };
            prop_assert!(count >= 1);
            let datagrams = |message: &Message| -> Vec<usize> {
                match message.len {
                    0 => vec![0],
                    len => (0..len).step_by(message.each).map(|at| message.each.min(len - at)).collect(),
                }
            };
            let whole: Vec<usize> = messages[..count].iter().flat_map(datagrams).collect();
            if whole.len() > 1 {
                let (each, total) = (messages[0].each, whole.iter().sum::<usize>());
                prop_assert!(each <= longest && whole.len() <= MOST && total <= MOST_BYTES);
                let cut: Vec<usize> = (0..total).step_by(each).map(|at| each.min(total - at)).collect();
                prop_assert_eq!(cut, whole);
            }
        }
    }
}
