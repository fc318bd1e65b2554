//! Documents: text in one of three formats, read into one tree of nodes with places.
//!
//! Only syntax is judged here, duplicate keys included; what keys mean is the business of `schema`. Every reader is
//! bounded in depth and in the number of nodes, so that a hostile document costs no more than its size.

mod json;
mod node;
mod position;
mod toml;
mod yaml;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

pub(crate) use node::{Entry, Node, Scalar, ScalarKind, Value};

use crate::{ConfigError, ConfigErrors, Origin};

/// The largest document that is read, bytes: 100,000 routers take about 30 MB.
pub const MAX_DOCUMENT_BYTES: u64 = 64 << 20;
/// How deep a document may be nested. The deepest key we know is 9 levels down.
const MAX_DEPTH: usize = 64;
/// How many values a document may hold, with every use of an alias counted.
const MAX_NODES: usize = 4_000_000;
/// How many errors of one document are reported.
pub(crate) const MAX_ERRORS: usize = 100;

/// The format of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `.yaml`, `.yml`.
    Yaml,
    /// `.toml`.
    Toml,
    /// `.json`.
    Json,
}

impl Format {
    /// The format that a file's extension says, in any case; `None` for any other extension.
    pub fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?;
        let known = [
            ("yaml", Self::Yaml),
            ("yml", Self::Yaml),
            ("toml", Self::Toml),
            ("json", Self::Json),
        ];
        known
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(extension))
            .map(|(_, format)| *format)
    }
}

/// Reads a whole file as text, or says why not in words for the operator.
pub fn read_text(path: &Path) -> Result<String, ConfigErrors> {
    let failed = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => Some("check the path, or leave the option out"),
            std::io::ErrorKind::PermissionDenied => {
                Some("give the user this process runs as read permission")
            }
            _ => None,
        };
        ConfigErrors::about_file(path, format!("cannot be read: {error}"), hint.map(str::to_owned))
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_DOCUMENT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
        let message = format!("is larger than {} MiB", MAX_DOCUMENT_BYTES >> 20);
        let hint = "split it into several files of a directory".to_owned();
        return Err(ConfigErrors::about_file(path, message, Some(hint)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..at]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        let message = format!("is not UTF-8: line {line} holds other bytes");
        ConfigErrors::about_file(path, message, Some("save it as UTF-8".to_owned()))
    })
}

/// Parses a document. An empty one is a null node. The node is complete only when there are no errors.
pub(crate) fn parse(text: &str, format: Format, path: &Path) -> Result<Node, ConfigErrors> {
    let path: Arc<Path> = path.into();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut report = Report {
        path,
        errors: Vec::new(),
    };
    let node = match format {
        Format::Yaml => yaml::parse(text, &mut report),
        Format::Toml => toml::parse(text, &mut report),
        Format::Json => json::parse(text, &mut report),
    };
    match node {
        Some(node) if report.errors.is_empty() => Ok(node),
        _ => {
            report.errors.truncate(MAX_ERRORS);
            Err(ConfigErrors(report.errors))
        }
    }
}

/// Where a reader puts what is wrong.
struct Report {
    path: Arc<Path>,
    errors: Vec<ConfigError>,
}

impl Report {
    fn origin(&self, line: usize, column: usize) -> Origin {
        Origin::File {
            path: self.path.clone(),
            line,
            column,
        }
    }

    fn duplicate(&mut self, origin: Origin, key: &str, first: &Origin) {
        let first = match first {
            Origin::File { line, .. } => format!("on line {line}"),
            other => other.to_string(),
        };
        let error = ConfigError::new(
            origin,
            key,
            format!("the key stands here again; it is first {first}"),
        )
        .hint("keep one of them");
        self.errors.push(error);
    }

    fn syntax(&mut self, origin: Origin, message: impl Into<String>) {
        self.errors.push(ConfigError::new(origin, "", message));
    }
}
