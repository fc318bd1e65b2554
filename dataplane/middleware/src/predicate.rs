//! `retryExpression` of `buffering`: whether an attempt is followed by another one.
//!
//! `IsNetworkError()`, and comparisons of `Attempts()`, `ResponseCode()` and `RequestMethod()` with a literal, joined by
//! `&&` and `||` with parentheses.

use std::fmt;

/// Longest expression, bytes.
pub const MAX_BYTES: usize = 4096;
/// Deepest nesting of parentheses.
const MAX_DEPTH: usize = 32;

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
pub struct Predicate(Expression);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expression {
    NetworkError,
    Attempts(Comparison, i64),
    Status(Comparison, i64),
    Method { is: bool, text: Box<str> },
    And(Vec<Expression>),
    Or(Vec<Expression>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
}

/// Why an expression is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (at byte {at})")]
pub struct Invalid {
    message: String,
    at: usize,
}

impl Predicate {
    /// Reads an expression.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.len() > MAX_BYTES {
            return Err(Invalid {
                message: format!("it has more than {MAX_BYTES} bytes"),
                at: MAX_BYTES,
            });
        }
        let mut parser = Parser { text, at: 0 };
        let expression = parser.either(0)?;
        parser.blank();
        if parser.at < text.len() {
            return Err(parser.wrong("&& or || was expected"));
        }
        Ok(Self(expression))
    }

    /// Whether another attempt follows.
    pub fn holds(&self, attempted: &Attempted<'_>) -> bool {
        self.0.holds(attempted)
    }
}

impl Expression {
    fn holds(&self, attempted: &Attempted<'_>) -> bool {
        match self {
            Self::NetworkError => matches!(attempted.status, 502 | 504),
            Self::Attempts(comparison, number) => {
                comparison.holds(i64::try_from(attempted.attempts).unwrap_or(i64::MAX), *number)
            }
            Self::Status(comparison, number) => comparison.holds(i64::from(attempted.status), *number),
            Self::Method { is, text } => (**text == *attempted.method) == *is,
            Self::And(parts) => parts.iter().all(|part| part.holds(attempted)),
            Self::Or(parts) => parts.iter().any(|part| part.holds(attempted)),
        }
    }
}

impl Comparison {
    fn holds(self, left: i64, right: i64) -> bool {
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
        self.at += rest.len() - rest.trim_start().len();
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

    fn either(&mut self, depth: usize) -> Result<Expression, Invalid> {
        let mut parts = vec![self.both(depth)?];
        while self.takes("||") {
            parts.push(self.both(depth)?);
        }
        Ok(one_or(parts, Expression::Or))
    }

    fn both(&mut self, depth: usize) -> Result<Expression, Invalid> {
        let mut parts = vec![self.term(depth)?];
        while self.takes("&&") {
            parts.push(self.term(depth)?);
        }
        Ok(one_or(parts, Expression::And))
    }

    fn term(&mut self, depth: usize) -> Result<Expression, Invalid> {
        if self.takes("(") {
            if depth >= MAX_DEPTH {
                return Err(self.wrong("it is nested too deeply"));
            }
            let inner = self.either(depth + 1)?;
            self.expects(")")?;
            return Ok(inner);
        }
        if self.rest().starts_with('!') {
            return Err(self.wrong("! is not supported: write the opposite comparison"));
        }
        let rest = self.rest();
        let length = rest
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(rest.len());
        let name = rest.get(..length).unwrap_or_default();
        if !matches!(
            name,
            "IsNetworkError" | "Attempts" | "ResponseCode" | "RequestMethod"
        ) {
            return Err(self.wrong(
                "one of IsNetworkError(), Attempts(), ResponseCode() and RequestMethod() was expected",
            ));
        }
        self.at += length;
        self.expects("(")?;
        self.expects(")")?;
        match name {
            "IsNetworkError" => Ok(Expression::NetworkError),
            "Attempts" => Ok(Expression::Attempts(self.comparison()?, self.number()?)),
            "ResponseCode" => Ok(Expression::Status(self.comparison()?, self.number()?)),
            _ => {
                let comparison = self.comparison()?;
                let is = match comparison {
                    Comparison::Equal => true,
                    Comparison::Unequal => false,
                    _ => return Err(self.wrong("methods are compared by == and != only")),
                };
                let text = self.quoted()?.into();
                Ok(Expression::Method { is, text })
            }
        }
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
        let found = all.into_iter().find(|(token, _)| self.takes(token));
        found
            .map(|(_, comparison)| comparison)
            .ok_or_else(|| self.wrong("a comparison was expected: one of == != < <= > >="))
    }

    fn number(&mut self) -> Result<i64, Invalid> {
        self.blank();
        let rest = self.rest();
        let length = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number = rest.get(..length).and_then(|digits| digits.parse().ok());
        let number = number.ok_or_else(|| self.wrong("a number was expected"))?;
        self.at += length;
        Ok(number)
    }

    fn quoted(&mut self) -> Result<&'t str, Invalid> {
        for quote in ["\"", "`"] {
            if self.takes(quote) {
                let Some((text, _)) = self.rest().split_once(quote) else {
                    return Err(self.wrong("the text has no end"));
                };
                self.at += text.len() + quote.len();
                return Ok(text);
            }
        }
        Err(self.wrong("a text such as \"GET\" was expected"))
    }
}

fn one_or(mut parts: Vec<Expression>, all: impl FnOnce(Vec<Expression>) -> Expression) -> Expression {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            all(parts)
        }
        None => all(parts),
    }
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
            (&deep, "deeply"),
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
