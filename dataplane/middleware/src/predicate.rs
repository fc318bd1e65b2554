//! `retryExpression` of `buffering`: whether an attempt is followed by another one.
//!
//! `IsNetworkError()`, and comparisons of `Attempts()`, `ResponseCode()` and `RequestMethod()` with a literal, joined by
//! `&&` and `||` with parentheses.

use crate::condition::{Comparison, Condition, Cursor};
pub use crate::condition::{Invalid, MAX_BYTES};

/// What is known when an attempt is over.
#[derive(Clone, Copy, Debug)]
pub struct Attempted<'a> {
    /// Attempts made, this one included.
    pub attempts: usize,
    /// The status that the client would get.
    pub status: u16,
    /// The method of the request.
    pub method: &'a str,
}

/// A compiled expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predicate(Condition<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    NetworkError,
    Attempts(Comparison, i64),
    Status(Comparison, i64),
    Method { is: bool, text: Box<str> },
}

impl Predicate {
    /// Reads an expression.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        Condition::parse(text, term).map(Self)
    }

    /// Whether another attempt follows.
    pub fn holds(&self, attempted: &Attempted<'_>) -> bool {
        self.0.holds(&|term| term.holds(attempted))
    }
}

impl Term {
    fn holds(&self, attempted: &Attempted<'_>) -> bool {
        match self {
            Self::NetworkError => matches!(attempted.status, 502 | 504),
            Self::Attempts(comparison, number) => {
                comparison.holds(i64::try_from(attempted.attempts).unwrap_or(i64::MAX), *number)
            }
            Self::Status(comparison, number) => comparison.holds(i64::from(attempted.status), *number),
            Self::Method { is, text } => (**text == *attempted.method) == *is,
        }
    }
}

fn term(cursor: &mut Cursor<'_>) -> Result<Term, Invalid> {
    if cursor.rest().starts_with('!') {
        return Err(cursor.wrong("! is not supported: write the opposite comparison"));
    }
    let asks = |name: &str| {
        let rest = cursor.rest().strip_prefix(name);
        rest.is_some_and(|rest| !rest.starts_with(|letter: char| letter.is_ascii_alphanumeric()))
    };
    let names = ["IsNetworkError", "Attempts", "ResponseCode", "RequestMethod"];
    let Some(name) = names.into_iter().find(|name| asks(name)) else {
        return Err(cursor
            .wrong("one of IsNetworkError(), Attempts(), ResponseCode() and RequestMethod() was expected"));
    };
    cursor.expects(name)?;
    cursor.expects("(")?;
    cursor.expects(")")?;
    match name {
        "IsNetworkError" => Ok(Term::NetworkError),
        "Attempts" => Ok(Term::Attempts(cursor.comparison()?, number(cursor)?)),
        "ResponseCode" => Ok(Term::Status(cursor.comparison()?, number(cursor)?)),
        _ => {
            let is = match cursor.comparison()? {
                Comparison::Equal => true,
                Comparison::Unequal => false,
                _ => return Err(cursor.wrong("methods are compared by == and != only")),
            };
            let text = quoted(cursor)?.into();
            Ok(Term::Method { is, text })
        }
    }
}

fn number(cursor: &mut Cursor<'_>) -> Result<i64, Invalid> {
    cursor.blank();
    let digits = cursor.while_first(|letter| letter.is_ascii_digit());
    digits.parse().map_err(|_| cursor.wrong("a number was expected"))
}

fn quoted<'t>(cursor: &mut Cursor<'t>) -> Result<&'t str, Invalid> {
    for quote in ['"', '`'] {
        if cursor.takes(quote.encode_utf8(&mut [0; 4])) {
            let text = cursor.while_first(|letter| letter != quote);
            return match cursor.rest() {
                "" => Err(cursor.wrong("the text has no end")),
                _ => cursor.expects(quote.encode_utf8(&mut [0; 4])).map(|()| text),
            };
        }
    }
    Err(cursor.wrong("a text such as \"GET\" was expected"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_as_they_are_meant() {
        // expression, attempts, status, method, whether it holds
        let cases = [
            ("IsNetworkError() && Attempts() < 3", 2, 502, "GET", true),
            ("IsNetworkError() && Attempts() < 3", 3, 504, "GET", false),
            ("IsNetworkError()", 1, 503, "GET", false),
            ("ResponseCode() == 503", 1, 503, "GET", true),
            (
                "Attempts() <= 2 && ResponseCode() >= 500 || RequestMethod() == \"PUT\"",
                9,
                200,
                "PUT",
                true,
            ),
            (
                "Attempts() <= 2 && (ResponseCode() >= 500 || RequestMethod() == `PUT`)",
                9,
                200,
                "PUT",
                false,
            ),
            ("RequestMethod() != \"GET\"", 1, 200, "GET", false),
            ("ResponseCode()>499&&ResponseCode()!=501", 1, 500, "GET", true),
        ];
        for (text, attempts, status, method, expected) in cases {
            let attempted = Attempted {
                attempts,
                status,
                method,
            };
            assert_eq!(
                Predicate::parse(text).unwrap().holds(&attempted),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let deep = format!("{}IsNetworkError(){}", "(".repeat(40), ")".repeat(40));
        let long = "IsNetworkError() || ".repeat(300);
        for (text, word) in [
            ("", "was expected"),
            ("Foo() < 3", "IsNetworkError()"),
            ("bogus(", "IsNetworkError()"),
            ("!IsNetworkError()", "not supported"),
            ("Attempts()", "comparison"),
            ("Attempts() < x", "number"),
            ("Attempts() < 99999999999999999999", "number"),
            ("RequestMethod() < \"GET\"", "=="),
            ("RequestMethod() == \"GET", "no end"),
            ("IsNetworkError() IsNetworkError()", "&&"),
            ("(IsNetworkError()", ") was expected"),
            (&deep, "32 parentheses"),
            (&long, "4096"),
        ] {
            let error = Predicate::parse(text).unwrap_err().to_string();
            assert!(
                error.contains(word) && error.contains("at byte"),
                "{text}: {error}"
            );
        }
    }
}
