//! What is wrong with a configuration: all of it at once, each with its place.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

/// Everything that is wrong, in the order of the text. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigErrors {
    /// One error about a file as a whole, such as one that can't be read.
    pub fn about_file(path: &Path, message: impl Into<String>, hint: Option<String>) -> Self {
        let origin = Origin::File {
            path: path.into(),
            line: 0,
            column: 0,
        };
        let mut error = ConfigError::new(origin, "", message);
        error.hint = hint;
        Self(vec![error])
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigError {
    /// Where it stands.
    pub origin: Origin,
    /// The key as a path (`entryPoints.web.address[1]`); empty for the document as a whole.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// The value seen, shortened, secrets redacted; `None` where there is none.
    pub value: Option<String>,
    /// What would be right.
    pub expected: Option<String>,
    /// What to do next.
    pub hint: Option<String>,
}

impl ConfigError {
    /// An error without value, expectation and hint.
    pub fn new(origin: Origin, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            origin,
            key: key.into(),
            message: message.into(),
            value: None,
            expected: None,
            hint: None,
        }
    }

    /// Adds the value that was seen.
    pub(crate) fn value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// Adds what would be right.
    pub(crate) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Adds the next step.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Origin {
    /// A place in a file.
    File {
        /// The file as it was named.
        path: Arc<Path>,
        /// From 1; 0 for the file as a whole.
        line: usize,
        /// In characters, from 1; 0 for the file as a whole.
        column: usize,
    },
    /// An environment variable.
    Variable {
        /// Its name.
        name: Arc<str>,
    },
    /// A command line flag.
    Flag {
        /// The key path it sets.
        name: Arc<str>,
    },
    /// A container label; the key says which.
    Label,
    /// The built-in default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: 0, .. } => write!(f, "{}", path.display()),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable { name } => write!(f, "environment variable {name}"),
            Self::Flag { name } => write!(f, "flag for {name}"),
            Self::Label => f.write_str("label"),
            Self::Default => f.write_str("built-in default"),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Label if self.key.starts_with("constellation.") => write!(f, "label {}: ", self.key)?,
            Origin::Label if !self.key.is_empty() => write!(f, "label traefik.{}: ", self.key)?,
            origin if self.key.is_empty() => write!(f, "{origin}: ")?,
            origin => write!(f, "{origin}: {}: ", self.key)?,
        }
        f.write_str(&self.message)?;
        let details = [
            ("value", &self.value),
            ("expected", &self.expected),
            ("hint", &self.hint),
        ];
        for (name, detail) in details {
            if let Some(text) = detail {
                write!(f, "\n    {name}: {text}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, error) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
impl std::error::Error for ConfigError {}
