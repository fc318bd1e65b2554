//! Bytes that depend on their position.

use std::sync::OnceLock;

/// The period: a prime, so that no buffer, page or pipe of a proxy is a multiple of it.
const PERIOD: usize = 1_048_583;
/// The longest piece that is given out at once.
pub(super) const PIECE: usize = 64 * 1024;

/// An endless sequence of bytes that look random, another one for each seed. Made by copying from a table, so that
/// making and checking it is fast in a build without optimisation as well.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    offset: usize,
}

fn table() -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut table = Vec::with_capacity(PERIOD + PIECE);
        for _ in 0..PERIOD {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            table.push(state.to_le_bytes()[3]);
        }
        table.extend_from_within(..PIECE);
        table
    })
}

impl Pattern {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        let period = PERIOD as u64;
        Self {
            offset: usize::try_from(seed.wrapping_mul(2_654_435_761) % period).unwrap(),
        }
    }

    /// The bytes from `position` on: as many as are asked for, [`PIECE`] at the most.
    pub fn at(self, position: u64, length: u64) -> &'static [u8] {
        let start = (position + self.offset as u64) % PERIOD as u64;
        let start = usize::try_from(start).unwrap();
        let length = usize::try_from(length).unwrap_or(PIECE).min(PIECE);
        &table()[start..start + length]
    }

    /// Where `bytes`, which came at `position`, differ first.
    pub fn differs(self, position: u64, bytes: &[u8]) -> Option<u64> {
        let mut at = position;
        for piece in bytes.chunks(PIECE) {
            let expected = self.at(at, piece.len() as u64);
            if piece != expected {
                let same = piece
                    .iter()
                    .zip(expected)
                    .take_while(|(is, should)| is == should)
                    .count();
                return Some(at + same as u64);
            }
            at += piece.len() as u64;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_piece_is_checked_at_any_position_and_one_wrong_byte_is_found() {
        let pattern = Pattern::new(7);
        for position in [0, 1, 4095, PERIOD as u64 - 3, 5 << 30] {
            let mut bytes: Vec<u8> = pattern.at(position, PIECE as u64).to_vec();
            bytes.extend(pattern.at(position + PIECE as u64, 1000));
            assert_eq!(pattern.differs(position, &bytes), None);
            assert!(pattern.differs(position + 1, &bytes).is_some(), "moved by a byte");
            assert!(
                pattern.differs(position + 4096, &bytes).is_some(),
                "moved by a page"
            );
            bytes[70_000 - PIECE + PIECE / 2] ^= 1;
            let wrong = (70_000 - PIECE + PIECE / 2) as u64;
            assert_eq!(pattern.differs(position, &bytes), Some(position + wrong));
        }
        assert!(Pattern::new(8).differs(0, pattern.at(0, 100)).is_some());
    }
}
