//! When a breaker opens: comparisons of what was seen with numbers, joined by `&&` and `||` with parentheses.
//!
//! `NetworkErrorRatio()`, `ResponseCodeRatio(from, to, of from, of to)` and `LatencyAtQuantileMS(percent)`.

use std::fmt;

use super::statistics::Statistics;

/// Longest expression, bytes.
pub const MAX_BYTES: usize = 4096;
/// Deepest nesting of parentheses.
const MAX_DEPTH: usize = 32;
/// Most comparisons; each costs a look at all that was seen.
const MAX_TERMS: usize = 32;

/// A compiled expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression(Node);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Compare(Measure, Comparison, f64),
    All(Vec<Node>),
    Any(Vec<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Measure {
    NetworkErrorRatio,
    /// The share of the statuses from the first up to the second, without it, among those from the third to the fourth.
    ResponseCodeRatio([u16; 4]),
    /// In percent.
    LatencyAtQuantile(f64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
}

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (at byte {at})")]
pub struct Invalid {
    message: String,
    at: usize,
}

impl Expression {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.len() > MAX_BYTES {
            return Err(Invalid {
                message: format!("it has more than {MAX_BYTES} bytes"),
                at: MAX_BYTES,
            });
        }
        let mut parser = Parser {
            text,
            at: 0,
            terms: 0,
        };
        let node = parser.any(0)?;
        parser.blank();
        match parser.rest() {
            "" => Ok(Self(node)),
            _ => Err(parser.wrong("&& or || was expected")),
        }
    }

    /// Whether it looks at latencies.
    pub(super) fn looks_at_latency(&self) -> bool {
        fn looks(node: &Node) -> bool {
            match node {
                Node::Compare(measure, ..) => matches!(measure, Measure::LatencyAtQuantile(_)),
                Node::All(parts) | Node::Any(parts) => parts.iter().any(looks),
            }
        }
        looks(&self.0)
    }

    /// Whether it holds of what was seen.
    pub(super) fn holds(&self, seen: &Statistics) -> bool {
        self.0.holds(seen)
    }
}

impl Node {
    fn holds(&self, seen: &Statistics) -> bool {
        match self {
            Self::Compare(measure, comparison, number) => comparison.holds(measure.of(seen), *number),
            Self::All(parts) => parts.iter().all(|part| part.holds(seen)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(seen)),
        }
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

impl Comparison {
    #[expect(clippy::float_cmp, reason = "it is what was asked for")]
    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Unequal => left != right,
            Self::Less => left < right,
            Self::AtMost => left <= right,
            Self::More => left > right,
            Self::AtLeast => left >= right,
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    terms: usize,
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn wrong(&self, message: impl fmt::Display) -> Invalid {
        Invalid {
            message: message.to_string(),
            at: self.at,
        }
    }

    fn blank(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    fn takes(&mut self, token: &str) -> bool {
        self.blank();
        let taken = self.rest().starts_with(token);
        self.at += if taken { token.len() } else { 0 };
        taken
    }

    fn expects(&mut self, token: &str) -> Result<(), Invalid> {
        match self.takes(token) {
            true => Ok(()),
            false => Err(self.wrong(format_args!("{token} was expected"))),
        }
    }

    fn any(&mut self, depth: usize) -> Result<Node, Invalid> {
        let mut parts = vec![self.all(depth)?];
        while self.takes("||") {
            parts.push(self.all(depth)?);
        }
        Ok(one_or(parts, Node::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Node, Invalid> {
        let mut parts = vec![self.one(depth)?];
        while self.takes("&&") {
            parts.push(self.one(depth)?);
        }
        Ok(one_or(parts, Node::All))
    }

    fn one(&mut self, depth: usize) -> Result<Node, Invalid> {
        if self.takes("(") {
            if depth >= MAX_DEPTH {
                return Err(self.wrong(format_args!("more than {MAX_DEPTH} parentheses are open")));
            }
            let inner = self.any(depth + 1)?;
            self.expects(")")?;
            return Ok(inner);
        }
        self.terms += 1;
        if self.terms > MAX_TERMS {
            return Err(self.wrong(format_args!("it has more than {MAX_TERMS} comparisons")));
        }
        let measure = self.measure()?;
        let comparison = self.comparison()?;
        let number = self.number()?;
        Ok(Node::Compare(measure, comparison, number))
    }

    fn measure(&mut self) -> Result<Measure, Invalid> {
        if self.takes("NetworkErrorRatio") {
            self.expects("(")?;
            self.expects(")")?;
            return Ok(Measure::NetworkErrorRatio);
        }
        if self.takes("ResponseCodeRatio") {
            let mut bounds = [0; 4];
            for (number, bound) in bounds.iter_mut().enumerate() {
                self.expects(if number == 0 { "(" } else { "," })?;
                *bound = self.status()?;
            }
            self.expects(")")?;
            return Ok(Measure::ResponseCodeRatio(bounds));
        }
        if self.takes("LatencyAtQuantileMS") {
            self.expects("(")?;
            let percent = self.number()?;
            self.expects(")")?;
            return Ok(Measure::LatencyAtQuantile(percent));
        }
        Err(self.wrong("NetworkErrorRatio(), ResponseCodeRatio(from, to, of from, of to) or LatencyAtQuantileMS(percent) was expected"))
    }

    fn comparison(&mut self) -> Result<Comparison, Invalid> {
        let all = [
            ("==", Comparison::Equal),
            ("!=", Comparison::Unequal),
            ("<=", Comparison::AtMost),
            (">=", Comparison::AtLeast),
            ("<", Comparison::Less),
            (">", Comparison::More),
        ];
        for (token, comparison) in all {
            if self.takes(token) {
                return Ok(comparison);
            }
        }
        Err(self.wrong("a comparison such as > was expected"))
    }

    fn status(&mut self) -> Result<u16, Invalid> {
        let word = self.word();
        let status = word.parse().ok().filter(|status| *status <= 1000);
        status.ok_or_else(|| self.wrong(format_args!("a status up to 1000 was expected, not {word:?}")))
    }

    fn number(&mut self) -> Result<f64, Invalid> {
        let word = self.word();
        let plain = word.starts_with(|c: char| c.is_ascii_digit() || c == '.');
        let number = word
            .parse::<f64>()
            .ok()
            .filter(|number| plain && number.is_finite());
        number.ok_or_else(|| self.wrong(format_args!("a number was expected, not {word:?}")))
    }

    /// The letters of a number.
    fn word(&mut self) -> &'t str {
        self.blank();
        let rest = self.rest();
        let mut before = ' ';
        let end = rest.find(|letter: char| {
            let exponent = matches!(before, 'e' | 'E') && matches!(letter, '-' | '+');
            before = letter;
            !(letter.is_ascii_alphanumeric() || letter == '.' || letter == '_' || exponent)
        });
        let (word, _) = rest.split_at(end.unwrap_or(rest.len()));
        self.at += word.len();
        word
    }
}

fn one_or(mut parts: Vec<Node>, several: fn(Vec<Node>) -> Node) -> Node {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            several(parts)
        }
    }
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
