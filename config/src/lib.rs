//! Configuration: raw text to resolved values, with every error at once and each with its place.

pub mod dynamic;
