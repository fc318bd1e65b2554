//! Conditions that users write: terms joined by `&&` and `||` with parentheses, `&&` binding closer. What a term is, each
//! kind of middleware says itself.

use std::fmt;

/// Longest condition, bytes.
pub const MAX_BYTES: usize = 4096;
/// Deepest nesting of parentheses.
const MAX_DEPTH: usize = 32;

/// Why a text is no condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (at byte {at})")]
pub struct Invalid {
    message: String,
    at: usize,
}

/// Terms and how they are joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition<T> {
    Term(T),
    All(Vec<Self>),
    Any(Vec<Self>),
}

impl<T> Condition<T> {
    /// Reads a condition whose terms `term` reads.
    pub(crate) fn parse(
        text: &str,
        mut term: impl FnMut(&mut Cursor<'_>) -> Result<T, Invalid>,
    ) -> Result<Self, Invalid> {
        if text.len() > MAX_BYTES {
            return Err(Invalid {
                message: format!("it has more than {MAX_BYTES} bytes"),
                at: MAX_BYTES,
            });
        }
        let mut cursor = Cursor { text, at: 0 };
        let read = Self::any(&mut cursor, &mut term, 0)?;
        cursor.blank();
        match cursor.rest() {
            "" => Ok(read),
            _ => Err(cursor.wrong("&& or || was expected")),
        }
    }

    /// Whether it holds when terms do.
    pub(crate) fn holds(&self, term: &impl Fn(&T) -> bool) -> bool {
        match self {
            Self::Term(one) => term(one),
            Self::All(parts) => parts.iter().all(|part| part.holds(term)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(term)),
        }
    }

    /// Whether a term is among its own, however they are joined.
    pub(crate) fn mentions(&self, is: &impl Fn(&T) -> bool) -> bool {
        match self {
            Self::Term(one) => is(one),
            Self::All(parts) | Self::Any(parts) => parts.iter().any(|part| part.mentions(is)),
        }
    }

    fn any(
        cursor: &mut Cursor<'_>,
        term: &mut impl FnMut(&mut Cursor<'_>) -> Result<T, Invalid>,
        depth: usize,
    ) -> Result<Self, Invalid> {
        let mut parts = vec![Self::all(cursor, term, depth)?];
        while cursor.takes("||") {
            parts.push(Self::all(cursor, term, depth)?);
        }
        Ok(joined(parts, Self::Any))
    }

    fn all(
        cursor: &mut Cursor<'_>,
        term: &mut impl FnMut(&mut Cursor<'_>) -> Result<T, Invalid>,
        depth: usize,
    ) -> Result<Self, Invalid> {
        let mut parts = vec![Self::one(cursor, term, depth)?];
        while cursor.takes("&&") {
            parts.push(Self::one(cursor, term, depth)?);
        }
        Ok(joined(parts, Self::All))
    }

    fn one(
        cursor: &mut Cursor<'_>,
        term: &mut impl FnMut(&mut Cursor<'_>) -> Result<T, Invalid>,
        depth: usize,
    ) -> Result<Self, Invalid> {
        if !cursor.takes("(") {
            return term(cursor).map(Self::Term);
        }
        if depth >= MAX_DEPTH {
            return Err(cursor.wrong(format_args!("more than {MAX_DEPTH} parentheses are open")));
        }
        let inner = Self::any(cursor, term, depth + 1)?;
        cursor.expects(")")?;
        Ok(inner)
    }
}

fn joined<T>(mut parts: Vec<Condition<T>>, several: fn(Vec<Condition<T>>) -> Condition<T>) -> Condition<T> {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            several(parts)
        }
    }
}

/// A comparison of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
}

impl Comparison {
    pub(crate) fn holds<N: PartialOrd>(self, left: N, right: N) -> bool {
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

/// A place in the text of a condition.
pub(crate) struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Cursor<'t> {
    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// What is wrong here.
    pub(crate) fn wrong(&self, message: impl fmt::Display) -> Invalid {
        Invalid {
            message: message.to_string(),
            at: self.at,
        }
    }

    /// Reads blanks.
    pub(crate) fn blank(&mut self) {
        self.while_first(|letter| matches!(letter, ' ' | '\t' | '\r' | '\n'));
    }

    /// Reads as long as the next letter is such a one.
    pub(crate) fn while_first(&mut self, mut is: impl FnMut(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|letter| !is(letter)).unwrap_or(rest.len());
        let (read, _) = rest.split_at(end);
        self.at += read.len();
        read
    }

    /// Reads a token, if it is the next one.
    pub(crate) fn takes(&mut self, token: &str) -> bool {
        self.blank();
        let taken = self.rest().starts_with(token);
        self.at += if taken { token.len() } else { 0 };
        taken
    }

    /// Reads a token that must be the next one.
    pub(crate) fn expects(&mut self, token: &str) -> Result<(), Invalid> {
        match self.takes(token) {
            true => Ok(()),
            false => Err(self.wrong(format_args!("{token} was expected"))),
        }
    }

    /// Reads a comparison.
    pub(crate) fn comparison(&mut self) -> Result<Comparison, Invalid> {
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
}
