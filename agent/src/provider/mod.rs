//! The document for a Traefik.

mod document;

pub use self::document::{Document, RETRY, Terms, document};
