//! Regular expressions with the syntax and meaning of Go's RE2.

use std::fmt;

use regex::{Regex, RegexBuilder};

use super::parser::Argument;
use super::{RuleError, re2};

/// Largest compiled pattern, in bytes.
const SIZE_LIMIT: usize = 1 << 20;
/// Most scratch space per pattern and thread, in bytes; what needs more is matched more slowly.
const SCRATCH_LIMIT: usize = 256 << 10;

/// Compiles what was translated; the error says why not.
pub(crate) fn build(translated: &str) -> Result<Regex, String> {
    RegexBuilder::new(translated)
        .size_limit(SIZE_LIMIT)
        .dfa_size_limit(SCRATCH_LIMIT)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                "it compiles to more than 1 MiB; lower its repetition counts".to_owned()
            }
            // The last line names the problem; those before it draw the translated pattern.
            error => error.to_string().lines().last().unwrap_or_default().to_owned(),
        })
}

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
    let refuse = |problem: &str| {
        RuleError::new(
            argument.offset,
            format!("{:?} is not a regular expression: {problem}", argument.value),
        )
    };
    let translated = re2::translate(&argument.value).map_err(|problem| refuse(&problem))?;
    let regex = build(&translated).map_err(|problem| refuse(&problem))?;
    Ok(Pattern {
        written: argument.value.as_str().into(),
        regex,
    })
}
