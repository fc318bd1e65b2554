//! Configuration: raw text to resolved values, with every error at once and each with its place.

mod document;
pub mod dynamic;
mod error;
mod load;
mod resolved;
mod secret;

pub use document::Format;
pub use error::{ConfigError, ConfigErrors, Origin};
pub use load::{LoadOptions, Loaded};
pub use resolved::*;
pub use secret::Secret;
