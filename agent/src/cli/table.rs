//! Aligned columns for people; scripts use `--json`.

use std::fmt::Write as _;

/// Lays `rows` out under `header`, every column as wide as its widest cell. The last column is not padded.
pub(super) fn render<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        let title = header.get(column).map_or(0, |title| title.len());
        cells.chain([title]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    push_row(&mut text, &widths, header);
    for row in rows {
        push_row(&mut text, &widths, row.each_ref().map(String::as_str));
    }
    text
}

fn push_row<const N: usize>(text: &mut String, widths: &[usize; N], cells: [&str; N]) {
    let start = text.len();
    for (width, cell) in widths.iter().zip(cells) {
        // Writing to a String can't fail.
        write!(text, "{cell:<width$}  ").unwrap_or_default();
    }
    let end = text[start..].trim_end().len();
    text.truncate(start + end);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_space() {
        let rows = [
            ["a@file".to_owned(), "Host(`ä`)".to_owned()],
            ["long-name@docker".to_owned(), String::new()],
        ];
        assert_eq!(
            render(["NAME", "RULE"], &rows),
            "NAME              RULE\na@file            Host(`ä`)\nlong-name@docker\n"
        );
    }
}
