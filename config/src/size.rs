//! Numbers of bytes: `65536`, `64KiB`, `1MiB`, `10MB`.

/// Bytes of each unit, longest name first.
const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

/// Reads a number of bytes: digits and, in any case, one of the units B, kB, MB, GB, TB, KiB, MiB, GiB, TiB. `None` for
/// anything else, and for more than fits.
pub fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let scale = match unit {
        "" => 1,
        _ => {
            let known = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
            known.map(|(_, scale)| *scale)?
        }
    };
    let digits = digits.trim_end();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(scale)
}

/// Writes a number of bytes so that [`parse`] reads the same.
pub fn format(bytes: u64) -> String {
    let binary = UNITS.iter().take(4).rev();
    let mut fitting = binary.filter(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale));
    match fitting.next() {
        Some((unit, scale)) => format!("{}{unit}", bytes / scale),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_with_and_without_units() {
        let table = [
            ("0", Some(0)),
            ("65536", Some(65_536)),
            ("64KiB", Some(65_536)),
            ("64 kib", Some(65_536)),
            ("1MiB", Some(1 << 20)),
            ("10MB", Some(10_000_000)),
            ("5B", Some(5)),
            ("1TiB", Some(1 << 40)),
            ("1.5MiB", None),
            ("-1", None),
            ("MiB", None),
            ("1 M", None),
            ("", None),
            ("99999999999999999999", None),
            ("99999999TiB", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_the_same(bytes: u64) {
            proptest::prop_assert_eq!(parse(&format(bytes)), Some(bytes));
        }
    }
}
