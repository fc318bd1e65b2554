//! From text or labels to [`Dynamic`].

use std::path::Path;

use serde_json::Value;

use super::Dynamic;
use crate::{ConfigError, ConfigErrors, Format, Origin};

/// Reads a document with Traefik's leniencies. An unknown field or a value of a wrong type refuses the whole document;
/// all of them are reported. `path` is only named in the errors.
pub fn parse(text: &str, _format: Format, path: &Path) -> Result<Dynamic, ConfigErrors> {
    serde_json::from_str(text).map_err(|error| refused(path, &error))
}

/// Reads a tree made from labels: maps, lists and strings, rooted above `http`. The same leniencies apply. The errors
/// name the key; their origin is [`Origin::Label`].
pub fn from_labels(tree: Value) -> Result<Dynamic, ConfigErrors> {
    serde_json::from_value(tree)
        .map_err(|error| ConfigErrors(vec![ConfigError::new(Origin::Label, "", error.to_string())]))
}

fn refused(path: &Path, error: &serde_json::Error) -> ConfigErrors {
    let origin = Origin::File {
        path: path.into(),
        line: error.line(),
        column: error.column(),
    };
    ConfigErrors(vec![ConfigError::new(origin, "", error.to_string())])
}
