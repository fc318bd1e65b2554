//! From byte offsets to lines and columns.

/// How many bytes are counted at most to find a column: minified JSON has lines of megabytes.
const STEP: usize = 128;

/// The starts of the lines of a text.
pub(super) struct Lines<'t> {
    text: &'t [u8],
    starts: Vec<usize>,
    /// How many characters begin before every `STEP`th byte.
    counts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let after_breaks = text.match_indices('\n').map(|(offset, _)| offset + 1);
        let starts = std::iter::once(0).chain(after_breaks).collect();
        let text = text.as_bytes();
        let mut counts = vec![0];
        for step in text.chunks(STEP) {
            let before = counts.last().copied().unwrap_or_default();
            counts.push(before + characters(step));
        }
        Self { text, starts, counts }
    }

    /// Line and column of a byte offset, both from 1, the column in characters. An offset inside a character counts as
    /// the next one, one past the end as the end.
    pub(super) fn place(&self, offset: usize) -> (usize, usize) {
        let offset = offset.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        (line, 1 + self.before(offset) - self.before(start))
    }

    /// How many characters begin before a byte.
    fn before(&self, offset: usize) -> usize {
        let step = offset / STEP;
        let counted = self.counts.get(step).copied().unwrap_or_default();
        counted + characters(&self.text[step * STEP..offset])
    }
}

/// How many characters begin in UTF-8 bytes.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_become_places() {
        let lines = Lines::of("ab\nää\n\nx");
        let table = [
            (0, (1, 1)),
            (1, (1, 2)),
            (2, (1, 3)),
            (3, (2, 1)),
            (4, (2, 2)), // inside a character
            (5, (2, 2)),
            (8, (3, 1)),
            (9, (4, 1)),
            (99, (4, 2)),
        ];
        for (offset, place) in table {
            assert_eq!(lines.place(offset), place, "offset {offset}");
        }
    }

    #[test]
    fn long_lines_are_counted_from_the_nearest_step() {
        let text = "ä".repeat(3 * STEP);
        let lines = Lines::of(&text);
        for character in [0, 1, STEP / 2, STEP - 1, STEP, 2 * STEP + 7, 3 * STEP] {
            assert_eq!(lines.place(2 * character), (1, 1 + character));
        }
    }
}
