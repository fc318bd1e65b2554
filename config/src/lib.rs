//! Configuration: raw text to resolved values, with every error at once and each with its place.

mod document;
pub mod duration;
pub mod dynamic;
mod error;
mod load;
mod resolved;
mod schema;
mod secret;

pub use document::{Format, MAX_DOCUMENT_BYTES, read_text};
pub use error::{ConfigError, ConfigErrors, Origin};
pub use load::{LoadOptions, Loaded};
pub use resolved::*;
pub use secret::Secret;
