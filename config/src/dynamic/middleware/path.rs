//! Middlewares that change where a request goes.

use super::options;

options! {
/// `addPrefix`.
pub struct AddPrefix {
    /// What is put before the path; starts with `/`.
    pub prefix: String,
}

/// `redirectRegex`.
pub struct RedirectRegex {
    /// Matched against the whole URL.
    pub regex: String,
    /// The new URL; `$1` and `${name}` stand for groups.
    pub replacement: String,
    /// 301 or 308 instead of 302 or 307.
    pub permanent: bool,
}

/// `redirectScheme`.
pub struct RedirectScheme {
    /// The new scheme.
    pub scheme: String,
    /// The new port; empty: the scheme's own.
    pub port: String,
    /// 301 or 308 instead of 302 or 307.
    pub permanent: bool,
    /// 308 for every method.
    pub force_permanent_redirect: bool,
}

/// `replacePath`.
pub struct ReplacePath {
    /// The new path.
    pub path: String,
}

/// `replacePathRegex`.
pub struct ReplacePathRegex {
    /// Matched against the path.
    pub regex: String,
    /// The new path; `$1` and `${name}` stand for groups.
    pub replacement: String,
}

/// `stripPrefix`.
pub struct StripPrefix {
    /// The first that the path begins with is taken off.
    pub prefixes: Vec<String>,
    /// Whether nothing that is left is `/` for the middlewares after it. A back end gets `/` in any case.
    pub force_slash: Option<bool>,
}

/// `stripPrefixRegex`.
pub struct StripPrefixRegex {
    /// The first that matches at the beginning of the path is taken off.
    pub regex: Vec<String>,
}
}
