//! Documents: text in one of three formats.

use std::path::Path;

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
