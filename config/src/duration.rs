//! Durations as Traefik writes them: Go's `1h30m`, `1.5s`, `250ms`, or a whole number of seconds.

use std::fmt::Write as _;
use std::time::Duration;

/// What is expected, for errors.
pub const EXPECTED: &str = "a duration such as 500ms, 10s, 1m30s or 2h, or a whole number of seconds";

/// The same where Go's durations below zero have a meaning.
pub(crate) const EXPECTED_SIGNED: &str =
    "a duration such as 500ms, 10s, 1m30s or -1ms, or a whole number of seconds";

/// The longest duration, Go's: a bit more than 292 years.
const MAX_NANOS: u128 = i64::MAX as u128;

/// Nanoseconds of each unit, longest name first.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration; `None` for anything that is not one, negative ones included.
pub fn parse(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds: u64 = text.parse().ok()?;
        return (u128::from(seconds) * 1_000_000_000 <= MAX_NANOS).then(|| Duration::from_secs(seconds));
    }
    let mut rest = text;
    let mut total: u128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let (unit, nanos) = UNITS.iter().find(|(unit, _)| after.starts_with(unit))?;
        total = total.checked_add(scaled(whole, fraction, *nanos)?)?;
        if total > MAX_NANOS {
            return None;
        }
        rest = &after[unit.len()..];
    }
    Some(Duration::from_nanos(u64::try_from(total).ok()?))
}

/// Whether a text is a duration, which may be below zero.
pub(crate) fn is_signed(text: &str) -> bool {
    parse(text.strip_prefix('-').unwrap_or(text)).is_some() && !text.starts_with("-+")
}

/// Writes a duration so that [`parse`] reads the same.
pub fn format(duration: Duration) -> String {
    let mut out = String::new();
    let mut nanos = duration.as_nanos();
    let units = [
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ];
    for (unit, size) in units {
        if nanos >= size {
            // Writing to a string can't fail.
            write!(out, "{}{unit}", nanos / size).unwrap_or_default();
            nanos %= size;
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn scaled(whole: &str, fraction: &str, unit: u128) -> Option<u128> {
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // More digits than a nanosecond needs change nothing.
    let fraction = &fraction[..fraction.len().min(18)];
    let part: u128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    whole
        .checked_mul(unit)?
        .checked_add(part.checked_mul(unit)? / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        let table = [
            ("10s", Some(10_000)),
            ("10", Some(10_000)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("1.5s", Some(1_500)),
            (".5s", Some(500)),
            ("1.s", Some(1_000)),
            ("1h30m", Some(5_400_000)),
            ("1m1ms", Some(60_001)),
            ("+5ms", Some(5)),
            ("1000us", Some(1)),
            ("1000µs", Some(1)),
            ("", None),
            ("s", None),
            (".s", None),
            ("-1s", None),
            ("10 s", None),
            ("10S", None),
            ("10.5", None),
            ("10 parsecs", None),
            ("1d", None),
            ("abc", None),
            ("9223372037", None),
            ("99999999999999999999999999h", None),
            ("99999999999999999999999999999999999999999999h", None),
        ];
        for (text, millis) in table {
            assert_eq!(parse(text), millis.map(Duration::from_millis), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_the_same(nanos in 0..=i64::MAX as u64) {
            let duration = Duration::from_nanos(nanos);
            proptest::prop_assert_eq!(parse(&format(duration)), Some(duration));
        }
    }
}
