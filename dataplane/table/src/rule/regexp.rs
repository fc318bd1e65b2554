//! Regular expressions with the syntax and meaning of Go's RE2.

use std::fmt;

use regex::{Regex, RegexBuilder};

use super::RuleError;
use super::parser::Argument;

/// Largest compiled pattern, in bytes.
const SIZE_LIMIT: usize = 1 << 20;

/// A compiled pattern; matches anywhere in the text unless anchored.
#[derive(Debug)]
pub(crate) struct Pattern {
    written: Box<str>,
    regex: Regex,
}

impl Pattern {
    pub(crate) fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// Compiles the pattern in an argument.
pub(super) fn compile(argument: &Argument) -> Result<Pattern, RuleError> {
    let regex = RegexBuilder::new(&argument.value)
        .size_limit(SIZE_LIMIT)
        .dfa_size_limit(SIZE_LIMIT)
        .build()
        .map_err(|error| {
            RuleError::new(
                argument.offset,
                format!("{:?} is not a regular expression: {error}", argument.value),
            )
        })?;
    Ok(Pattern {
        written: argument.value.as_str().into(),
        regex,
    })
}
