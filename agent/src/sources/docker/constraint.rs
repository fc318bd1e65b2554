//! `providers.docker.constraints`: which containers are looked at, by their labels.
//!
//! `Label(key, value)` and `LabelRegex(key, pattern)` with `&&`, `||`, `!` and parentheses; strings in back quotes or
//! double quotes. A label that is absent counts as empty, as in Traefik.

use std::collections::BTreeMap;

use regex::Regex;

/// Nesting of parentheses and negations.
const MAX_DEPTH: usize = 64;

/// A parsed expression.
#[derive(Clone, Debug)]
pub struct Constraint(Expression);

/// Why an expression can't be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {position}: {message}")]
pub struct ConstraintError {
    /// In bytes, from 1.
    pub position: usize,
    /// What is wrong and what was expected.
    pub message: String,
}

#[derive(Clone, Debug)]
enum Expression {
    Label { key: String, value: String },
    Pattern { key: String, pattern: Regex },
    Not(Box<Expression>),
    All(Vec<Expression>),
    Any(Vec<Expression>),
}

impl Constraint {
    /// Parses.
    pub fn parse(text: &str) -> Result<Self, ConstraintError> {
        let mut parser = Parser {
            text,
            at: 0,
            depth: 0,
        };
        let expression = parser.any()?;
        parser.space();
        if parser.at < text.len() {
            return Err(parser.error("expected `&&`, `||` or the end"));
        }
        Ok(Self(expression))
    }

    /// Whether a container with these labels is looked at.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.matches(labels)
    }
}

impl Expression {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let label = |key: &String| labels.get(key).map(String::as_str).unwrap_or_default();
        match self {
            Self::Label { key, value } => label(key) == value,
            Self::Pattern { key, pattern } => pattern.is_match(label(key)),
            Self::Not(inner) => !inner.matches(labels),
            Self::All(parts) => parts.iter().all(|part| part.matches(labels)),
            Self::Any(parts) => parts.iter().any(|part| part.matches(labels)),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn any(&mut self) -> Result<Expression, ConstraintError> {
        let first = self.all()?;
        let mut parts = vec![first];
        while self.take("||") {
            parts.push(self.all()?);
        }
        Ok(Expression::Any(parts))
    }

    fn all(&mut self) -> Result<Expression, ConstraintError> {
        let first = self.single()?;
        let mut parts = vec![first];
        while self.take("&&") {
            parts.push(self.single()?);
        }
        Ok(Expression::All(parts))
    }

    fn single(&mut self) -> Result<Expression, ConstraintError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(&format!("nested more than {MAX_DEPTH} deep")));
        }
        let expression = if self.take("!") {
            Expression::Not(Box::new(self.single()?))
        } else if self.take("(") {
            let inner = self.any()?;
            self.expect(")")?;
            inner
        } else {
            self.function()?
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn function(&mut self) -> Result<Expression, ConstraintError> {
        self.space();
        let start = self.at;
        let rest = self.rest();
        let name = &rest[..rest
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(rest.len())];
        let pattern = match name {
            "Label" => false,
            "LabelRegex" => true,
            "" => return Err(self.error("expected Label(`key`, `value`) or LabelRegex(`key`, `pattern`)")),
            other => {
                let message = format!("there is no function `{other}`; there are Label and LabelRegex");
                return Err(self.error(&message));
            }
        };
        self.at += name.len();
        self.expect("(")?;
        let key = self.string()?;
        self.expect(",")?;
        let value = self.string()?;
        self.expect(")")?;
        if !pattern {
            return Ok(Expression::Label { key, value });
        }
        match Regex::new(&value) {
            Ok(pattern) => Ok(Expression::Pattern { key, pattern }),
            Err(error) => Err(ConstraintError {
                position: start + 1,
                message: format!("`{value}` is not a regular expression: {error}"),
            }),
        }
    }

    fn string(&mut self) -> Result<String, ConstraintError> {
        self.space();
        let rest = self.rest();
        if let Some(raw) = rest.strip_prefix('`') {
            let Some(end) = raw.find('`') else {
                return Err(self.error("the string is not closed; write a second back quote"));
            };
            let text = raw[..end].to_owned();
            self.at += end + 2;
            return Ok(text);
        }
        if !rest.starts_with('"') {
            return Err(self.error("expected a string in back quotes or double quotes"));
        }
        // Go's and JSON's escapes are the same for what labels hold.
        let mut strings = serde_json::Deserializer::from_str(rest).into_iter::<String>();
        match strings.next() {
            Some(Ok(text)) => {
                self.at += strings.byte_offset();
                Ok(text)
            }
            _ => Err(self.error("the string is not closed or has an unknown escape; use back quotes")),
        }
    }

    fn expect(&mut self, mark: &str) -> Result<(), ConstraintError> {
        if self.take(mark) {
            return Ok(());
        }
        Err(self.error(&format!("expected `{mark}`")))
    }

    fn take(&mut self, mark: &str) -> bool {
        self.space();
        let found = self.rest().starts_with(mark);
        if found {
            self.at += mark.len();
        }
        found
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn error(&self, message: &str) -> ConstraintError {
        ConstraintError {
            position: self.at + 1,
            message: message.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_labels() {
        let labels = BTreeMap::from([
            ("stage".to_owned(), "live".to_owned()),
            ("team".to_owned(), "shop-a".to_owned()),
        ]);
        for (expression, expected) in [
            ("Label(`stage`,`live`)", true),
            ("Label(\"stage\", \"live\")", true),
            ("Label(`stage`, `test`)", false),
            ("!Label(`stage`, `test`)", true),
            ("! ! Label(`stage`, `live`)", true),
            ("Label(`absent`, ``)", true),
            ("LabelRegex(`team`, `^shop-.+$`)", true),
            ("LabelRegex(`team`, `op`)", true),
            ("LabelRegex(`absent`, `.`)", false),
            (
                "Label(`stage`,`test`) && Label(`x`,`y`) || Label(`stage`,`live`)",
                true,
            ),
            ("Label(`stage`,`live`) || Label(`x`,`y`) && Label(`x`,`y`)", true),
            (
                "(Label(`stage`,`live`) || Label(`x`,`y`)) && Label(`x`,`y`)",
                false,
            ),
        ] {
            let constraint = Constraint::parse(expression).unwrap();
            assert_eq!(constraint.matches(&labels), expected, "{expression}");
        }
    }

    #[test]
    fn names_what_is_wrong_and_where() {
        for (expression, expected) in [
            (
                "Host(`a`)",
                "at character 1: there is no function `Host`; there are Label and LabelRegex",
            ),
            ("Label(`a`)", "at character 10: expected `,`"),
            (
                "Label('a', 'b')",
                "at character 7: expected a string in back quotes or double quotes",
            ),
            (
                "Label(`a`, `b`) Label(`c`, `d`)",
                "at character 17: expected `&&`, `||` or the end",
            ),
            (
                "Label(`a`, `b) ",
                "at character 12: the string is not closed; write a second back quote",
            ),
            ("(Label(`a`,`b`)", "at character 16: expected `)`"),
            (
                "&& Label(`a`,`b`)",
                "at character 1: expected Label(`key`, `value`) or LabelRegex(`key`, `pattern`)",
            ),
        ] {
            assert_eq!(
                Constraint::parse(expression).unwrap_err().to_string(),
                expected,
                "{expression}"
            );
        }
        let deep = format!("{}Label(`a`,`b`)", "!".repeat(1000));
        assert!(Constraint::parse(&deep).unwrap_err().message.contains("nested"));
        let bad = Constraint::parse("LabelRegex(`a`, `(`)").unwrap_err();
        assert!(
            bad.message.starts_with("`(` is not a regular expression"),
            "{bad}"
        );
    }
}
