//! The default rule: the part of Go's template language that rules are written in.
//!
//! Actions with pipelines, variables, `if`/`else if`/`else`, `with`, `range`, trim markers and comments, over `.Name`,
//! `.ContainerName` and `.Labels`, with the string functions of Go and sprig. What is not there (`define`, `break`,
//! functions that read the environment or make certificates) is refused by name when the template is parsed, at start,
//! and never at the time a container appears. The one published Go template crate rests since 2021 and has none of
//! sprig's functions, so the few pages stand here.

mod eval;
mod function;
mod parse;
#[cfg(test)]
mod tests;
mod token;
mod value;

use std::collections::BTreeMap;

use parse::Piece;
use value::Value;

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template {
    pieces: Vec<Piece>,
}

/// Why a template can't be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {position}: {message}")]
pub struct TemplateError {
    /// In characters, from 1.
    pub position: usize,
    /// What is wrong and what was expected.
    pub message: String,
}

/// Why a template gave no text for one container.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RenderError(String);

/// What a template sees.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    /// `.Name`: the normalised service name.
    pub name: &'a str,
    /// `.ContainerName`: as the engine has it.
    pub container_name: &'a str,
    /// `.Labels`.
    pub labels: &'a BTreeMap<String, String>,
}

impl Template {
    /// Parses; everything that could be refused is refused here.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        parse::parse(text).map(|pieces| Self { pieces })
    }

    /// The text for one container.
    pub fn render(&self, model: &Model<'_>) -> Result<String, RenderError> {
        let labels = model.labels.iter();
        let labels = labels.map(|(key, value)| (key.clone(), Value::Text(value.clone())));
        let root = Value::Map(BTreeMap::from([
            ("Name".to_owned(), Value::Text(model.name.to_owned())),
            (
                "ContainerName".to_owned(),
                Value::Text(model.container_name.to_owned()),
            ),
            ("Labels".to_owned(), Value::Map(labels.collect())),
        ]));
        eval::render(&self.pieces, &root).map_err(RenderError)
    }
}
