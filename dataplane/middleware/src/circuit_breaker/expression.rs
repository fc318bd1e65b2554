//! When a breaker opens: comparisons of what was seen with numbers, joined by `&&` and `||` with parentheses.
//!
//! `NetworkErrorRatio()`, `ResponseCodeRatio(from, to, of from, of to)` and `LatencyAtQuantileMS(percent)`.

use super::statistics::Statistics;
use crate::condition::{Comparison, Condition, Cursor};
pub use crate::condition::{Invalid, MAX_BYTES};

/// Most comparisons; each costs a look at all that was seen.
const MAX_TERMS: usize = 32;

/// A compiled expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression(Condition<Term>);

/// A measure that is compared with a number.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Term(Measure, Comparison, f64);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Measure {
    NetworkErrorRatio,
    /// The share of the statuses from the first up to the second, without it, among those from the third to the fourth.
    ResponseCodeRatio([u16; 4]),
    /// In percent.
    LatencyAtQuantile(f64),
}

impl Expression {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let mut terms = 0;
        let read = Condition::parse(text, |cursor| {
            terms += 1;
            if terms > MAX_TERMS {
                return Err(cursor.wrong(format_args!("it has more than {MAX_TERMS} comparisons")));
            }
            Ok(Term(measure(cursor)?, cursor.comparison()?, number(cursor)?))
        });
        read.map(Self)
    }

    /// Whether it looks at latencies.
    pub(super) fn looks_at_latency(&self) -> bool {
        self.0
            .mentions(&|Term(measure, ..)| matches!(measure, Measure::LatencyAtQuantile(_)))
    }

    /// Whether it holds of what was seen.
    pub(super) fn holds(&self, seen: &Statistics) -> bool {
        self.0
            .holds(&|Term(measure, comparison, number)| comparison.holds(measure.of(seen), *number))
    }
}

impl Measure {
    fn of(self, seen: &Statistics) -> f64 {
        match self {
            Self::NetworkErrorRatio => seen.network_error_ratio(),
            Self::ResponseCodeRatio([from, to, of_from, of_to]) => {
                seen.status_ratio(from..to, of_from..of_to)
            }
            Self::LatencyAtQuantile(percent) => seen.latency_at(percent),
        }
    }
}

fn measure(cursor: &mut Cursor<'_>) -> Result<Measure, Invalid> {
    if cursor.takes("NetworkErrorRatio") {
        cursor.expects("(")?;
        cursor.expects(")")?;
        return Ok(Measure::NetworkErrorRatio);
    }
    if cursor.takes("ResponseCodeRatio") {
        let mut bounds = [0; 4];
        for (number, bound) in bounds.iter_mut().enumerate() {
            cursor.expects(if number == 0 { "(" } else { "," })?;
            *bound = status(cursor)?;
        }
        cursor.expects(")")?;
        return Ok(Measure::ResponseCodeRatio(bounds));
    }
    if cursor.takes("LatencyAtQuantileMS") {
        cursor.expects("(")?;
        let percent = number(cursor)?;
        cursor.expects(")")?;
        return Ok(Measure::LatencyAtQuantile(percent));
    }
    Err(cursor.wrong("NetworkErrorRatio(), ResponseCodeRatio(from, to, of from, of to) or LatencyAtQuantileMS(percent) was expected"))
}

fn status(cursor: &mut Cursor<'_>) -> Result<u16, Invalid> {
    let word = word(cursor);
    let status = word.parse().ok().filter(|status| *status <= 1000);
    status.ok_or_else(|| cursor.wrong(format_args!("a status up to 1000 was expected, not {word:?}")))
}

fn number(cursor: &mut Cursor<'_>) -> Result<f64, Invalid> {
    let word = word(cursor);
    let plain = word.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let number = word
        .parse::<f64>()
        .ok()
        .filter(|number| plain && number.is_finite());
    number.ok_or_else(|| cursor.wrong(format_args!("a number was expected, not {word:?}")))
}

/// The letters of a number.
fn word<'t>(cursor: &mut Cursor<'t>) -> &'t str {
    cursor.blank();
    let mut before = ' ';
    cursor.while_first(|letter| {
        let exponent = matches!(before, 'e' | 'E') && matches!(letter, '-' | '+');
        before = letter;
        letter.is_ascii_alphanumeric() || letter == '.' || letter == '_' || exponent
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn what_can_be_written() {
        for text in [
            "NetworkErrorRatio() > 0.5",
            "NetworkErrorRatio()>=.5",
            "NetworkErrorRatio() != 1e-1",
            "LatencyAtQuantileMS(50.0) > 100",
            "ResponseCodeRatio(500, 600, 0, 600) > 0.25",
            "((NetworkErrorRatio() > 0.5))",
            "NetworkErrorRatio() > 0.5 && LatencyAtQuantileMS(50.0) > 100 || ResponseCodeRatio(500, 600, 0, 600) > 0.25",
        ] {
            assert!(Expression::parse(text).is_ok(), "{text}");
        }
        let deep = format!("{}NetworkErrorRatio() > 0.5{}", "(".repeat(33), ")".repeat(33));
        let many = vec!["NetworkErrorRatio() > 0.5"; 33].join("||");
        let long = " ".repeat(5000);
        for (text, expected) in [
            ("", "was expected (at byte 0)"),
            ("true", "NetworkErrorRatio()"),
            ("NetworkErrorRatio()", "a comparison"),
            ("NetworkErrorRatio > 0.5", "( was expected"),
            ("NetworkErrorRatio(1) > 0.5", ") was expected"),
            ("networkerrorratio() > 0.5", "was expected"),
            ("NetworkErrorRatio() > -0.5", "a number"),
            ("NetworkErrorRatio() > \"0.5\"", "a number"),
            ("NetworkErrorRatio() > inf", "a number"),
            ("NetworkErrorRatio() > 0x10", "a number"),
            ("NetworkErrorRatio() > NetworkErrorRatio()", "a number"),
            ("0.5 < NetworkErrorRatio()", "was expected"),
            ("!(NetworkErrorRatio() > 0.5)", "was expected"),
            ("NetworkErrorRatio() > 0.5 and x", "&& or ||"),
            ("NetworkErrorRatio() > 0.5 ||", "was expected"),
            ("(NetworkErrorRatio() > 0.5", ") was expected"),
            ("ResponseCodeRatio(500, 600) > 0.25", ", was expected"),
            ("ResponseCodeRatio(500.0, 600, 0, 600) > 0.25", "a status"),
            ("ResponseCodeRatio(500, 6000, 0, 600) > 0.25", "a status"),
            (&deep, "32 parentheses"),
            (&many, "32 comparisons"),
            (&long, "4096 bytes"),
        ] {
            let error = Expression::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:.60}: {error}");
        }
    }

    #[test]
    fn and_binds_closer_than_or() {
        let mut seen = Statistics::new(true);
        let now = Instant::now();
        for (status, millis) in [(502, 10), (200, 200), (500, 300), (200, 400)] {
            seen.record(status, Duration::from_millis(millis), now);
        }
        for (text, holds) in [
            ("NetworkErrorRatio() == 0.25", true),
            ("ResponseCodeRatio(500, 600, 0, 600) == 0.5", true),
            ("ResponseCodeRatio(500, 502, 500, 600) == 0.5", true),
            ("ResponseCodeRatio(300, 400, 400, 500) > 0", false),
            (
                "LatencyAtQuantileMS(50.0) >= 200 && LatencyAtQuantileMS(50.0) < 206",
                true,
            ),
            ("LatencyAtQuantileMS(150.0) >= 400", true),
            (
                "NetworkErrorRatio() > 0.5 && NetworkErrorRatio() > 0.5 || NetworkErrorRatio() > 0.1",
                true,
            ),
            (
                "NetworkErrorRatio() > 0.5 && (NetworkErrorRatio() > 0.5 || NetworkErrorRatio() > 0.1)",
                false,
            ),
            (
                "NetworkErrorRatio() > 0.1 || NetworkErrorRatio() > 0.5 && NetworkErrorRatio() > 0.5",
                true,
            ),
            ("NetworkErrorRatio() <= 0.2", false),
            ("NetworkErrorRatio() != 0.25", false),
        ] {
            assert_eq!(Expression::parse(text).unwrap().holds(&seen), holds, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(NetworkErrorRatio\\(\\)|LatencyAtQuantileMS\\(|[ ()0-9.e|&<>=,é]{1,6}){0,12}") {
            let read = Expression::parse(&text);
            proptest::prop_assert_eq!(read.clone(), Expression::parse(&text));
        }
    }
}
