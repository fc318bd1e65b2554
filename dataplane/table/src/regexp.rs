//! Regular expressions of middlewares: Go's syntax and meaning, with Go's replacements.

use std::fmt;

use regex::Regex;

use crate::rule::{build, translate_with_groups};

/// The longest text that a replacement makes.
pub const MAX_REPLACED: usize = 128 << 10;

/// A compiled pattern; matches anywhere in the text unless anchored.
pub struct Regexp {
    written: Box<str>,
    regex: Regex,
    /// The names of the groups from the first on; empty ones for those without a name.
    names: Vec<Box<str>>,
}

impl Regexp {
    /// Compiles a pattern; the error quotes it and says what is wrong.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let refuse = |problem: String| format!("{pattern:?} is not a regular expression: {problem}");
        let (translated, names) = translate_with_groups(pattern).map_err(refuse)?;
        Ok(Self {
            written: pattern.into(),
            regex: build(&translated).map_err(refuse)?,
            names,
        })
    }

    /// Whether it matches anywhere in the text.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The first match in the text, wherever it is; may be empty.
    pub fn find<'t>(&self, text: &'t str) -> Option<&'t str> {
        self.regex.find(text).map(|found| found.as_str())
    }

    /// Reads a replacement for the matches of this pattern. It can't fail: what names no group stands for nothing.
    pub fn template(&self, replacement: &str) -> Template {
        Template::parse(replacement, &self.names)
    }

    /// The text with every match replaced; `None` when nothing matches. The error says that it got too long.
    pub fn replace_all(&self, text: &str, template: &Template) -> Result<Option<String>, TooLong> {
        let mut out = String::new();
        let mut copied = None;
        for captures in self.regex.captures_iter(text) {
            let Some(whole) = captures.get(0) else {
                continue;
            };
            out.push_str(text.get(copied.unwrap_or(0)..whole.start()).unwrap_or_default());
            for part in &template.0 {
                match part {
                    Part::Text(text) => out.push_str(text),
                    Part::Group(number) => {
                        out.push_str(captures.get(*number).map_or("", |group| group.as_str()));
                    }
                }
            }
            if out.len() > MAX_REPLACED {
                return Err(TooLong);
            }
            copied = Some(whole.end());
        }
        Ok(copied.map(|end| out + text.get(end..).unwrap_or_default()))
    }
}

impl fmt::Debug for Regexp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Regexp({:?})", self.written)
    }
}

impl PartialEq for Regexp {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

/// A replacement made a text longer than [`MAX_REPLACED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the replacement makes more than {MAX_REPLACED} bytes")]
pub struct TooLong;

/// A replacement: `$1`, `${1}`, `$name` and `${name}` stand for groups, `$$` for a dollar, as in Go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Group(usize),
}

impl Template {
    fn parse(text: &str, names: &[Box<str>]) -> Self {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            plain.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                plain.push('$');
                rest = after;
                continue;
            }
            let Some((name, after)) = group_name(after) else {
                // Not a group: the dollar is one.
                plain.push('$');
                rest = after;
                continue;
            };
            rest = after;
            if let Some(number) = number_of(name, names) {
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(Part::Group(number));
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Self(parts)
    }
}

/// The name after a dollar, and what follows it.
fn group_name(text: &str) -> Option<(&str, &str)> {
    let (inner, braced) = match text.strip_prefix('{') {
        Some(inner) => (inner, true),
        None => (text, false),
    };
    let end = inner
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(inner.len());
    let (name, rest) = inner.split_at(end);
    if name.is_empty() {
        return None;
    }
    if !braced {
        return Some((name, rest));
    }
    Some((name, rest.strip_prefix('}')?))
}

/// The number of a group; `None` when there is no such group.
fn number_of(name: &str, names: &[Box<str>]) -> Option<usize> {
    let is_number = name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    if is_number {
        return name.parse().ok().filter(|number| *number <= names.len());
    }
    let position = names.iter().position(|known| **known == *name)?;
    Some(position + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacements_as_in_go() {
        // pattern, replacement, text, result; each as the real one gives it
        let cases = [
            ("^/foo/(.*)", "/bar/$1", "/foo/a", Some("/bar/a")),
            (
                "^/foo/(?P<x>.*)",
                "/bar/${x}-$1x-${1}y$$",
                "/foo/a",
                Some("/bar/a--ay$"),
            ),
            ("o", "0?q=1", "/foo/a", Some("/f0?q=10?q=1/a")),
            ("", "x", "/foo/a", Some("x/xfxoxox/xax")),
            ("(?<1a>b)", "[${1a}$0]", "abc", Some("a[bb]c")),
            ("b", "$", "abc", Some("a$c")),
            ("b", "${", "abc", Some("a${c")),
            ("b", "$-${é}", "abc", Some("a$-c")),
            ("(b)", "$01$2", "abc", Some("ac")),
            ("(b)(x)?", "$2$1", "abc", Some("abc")),
            ("z", "y", "abc", None),
        ];
        for (pattern, replacement, text, expected) in cases {
            let regexp = Regexp::new(pattern).unwrap();
            let template = regexp.template(replacement);
            let replaced = regexp.replace_all(text, &template).unwrap();
            assert_eq!(replaced.as_deref(), expected, "{pattern} {replacement} {text}");
        }
    }

    #[test]
    fn what_is_refused_says_why() {
        for (pattern, word) in [
            ("(", "closing"),
            ("(?<a>x)(?<a>y)", "two groups"),
            (r"\z\1", "Go"),
        ] {
            let error = Regexp::new(pattern).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        assert!(Regexp::new(&"()".repeat(101)).is_err());
    }

    #[test]
    fn a_replacement_that_grows_without_bound_is_given_up() {
        let regexp = Regexp::new("").unwrap();
        let template = regexp.template(&"x".repeat(1000));
        assert_eq!(regexp.replace_all(&"y".repeat(1000), &template), Err(TooLong));
    }
}
