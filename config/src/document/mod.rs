//! Documents: text in one of three formats, read into one tree of nodes with places.
//!
//! Only syntax is judged here; what keys mean, and that none stands twice, is the business of `schema`. Every reader is
//! bounded in depth and in the number of nodes, so that a hostile document costs no more than its size.

mod json;
mod node;
mod position;
mod toml;
mod yaml;

use std::io::Read;
use std::os::unix::fs::FileTypeExt;
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
    // Opening a named pipe would wait for a writer that may never come.
    if std::fs::metadata(path).map_err(failed)?.file_type().is_fifo() {
        let message = "cannot be read: it is a named pipe".to_owned();
        let hint = "give the path of a regular file".to_owned();
        return Err(ConfigErrors::about_file(path, message, Some(hint)));
    }
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

/// A document whose syntax is good enough to judge its keys.
pub(crate) struct Document {
    /// Null for an empty document.
    pub(crate) root: Node,
    /// What is wrong all the same.
    pub(crate) errors: Vec<ConfigError>,
}

/// Parses a document.
pub(crate) fn parse(text: &str, format: Format, path: &Path) -> Result<Document, ConfigErrors> {
    let path: Arc<Path> = path.into();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut report = Report {
        path,
        errors: Vec::new(),
        incomplete: false,
    };
    let node = match format {
        Format::Yaml => yaml::parse(text, &mut report),
        Format::Toml => toml::parse(text, &mut report),
        Format::Json => json::parse(text, &mut report),
    };
    match node {
        Some(root) if !report.incomplete => Ok(Document {
            root,
            errors: report.errors,
        }),
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
    /// Whether parts of the text are missing in the tree, so that judging it would mislead.
    incomplete: bool,
}

impl Report {
    fn origin(&self, line: usize, column: usize) -> Origin {
        Origin::File {
            path: self.path.clone(),
            line,
            column,
        }
    }

    fn syntax(&mut self, origin: Origin, message: impl Into<String>) {
        self.incomplete = true;
        self.errors.push(ConfigError::new(origin, "", message));
    }
}

fn too_deep() -> String {
    format!("is nested more than {MAX_DEPTH} levels deep")
}
