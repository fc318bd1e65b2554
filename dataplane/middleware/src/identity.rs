//! What becomes of a request once it is known whose it is.

use http::HeaderName;
use http::header::AUTHORIZATION;
use pingora_http::RequestHeader;

use crate::{Flow, Unfit};

/// What the service gets to know of who has passed.
#[derive(Debug, Default)]
pub struct Identity {
    /// Whether the credentials are taken out.
    remove_header: bool,
    /// Where the name stands.
    header: Option<HeaderName>,
}

impl Identity {
    /// `header` is the name of the header for the user's name; empty: none.
    pub fn new(remove_header: bool, header: &str) -> Result<Self, String> {
        let named = match header {
            "" => None,
            name => Some(
                name.parse::<HeaderName>()
                    .map_err(|_| format!("headerField is {name:?}: write the name of a header"))?,
            ),
        };
        Ok(Self {
            remove_header,
            header: named,
        })
    }

    /// Lets the request of this user pass.
    pub(crate) fn pass(&self, request: &mut RequestHeader, user: &str) -> Result<Flow<'static>, Unfit> {
        if let Some(header) = &self.header {
            set_trusted(request, header, user.as_bytes())?;
        }
        if self.remove_header {
            request.remove_header(&AUTHORIZATION);
        }
        Ok(Flow::User(user.into()))
    }
}

/// Sets a header that a service believes. Those that some services take for the same one go.
pub(crate) fn set_trusted(request: &mut RequestHeader, name: &HeaderName, value: &[u8]) -> Result<(), Unfit> {
    remove_aliases(request, name);
    let value = http::HeaderValue::from_bytes(value)
        .map_err(|_| Unfit::new(format!("what is to be put into {name} is no header value")))?;
    Ok(request.insert_header(name.clone(), value)?)
}

/// Takes a header out under every spelling that some services take for it: with `_` or `.` for `-`.
pub(crate) fn remove_aliases(request: &mut RequestHeader, name: &HeaderName) {
    let plain = |byte: u8| if matches!(byte, b'_' | b'.') { b'-' } else { byte };
    let same = |other: &HeaderName| {
        let (a, b) = (name.as_str().bytes(), other.as_str().bytes());
        a.len() == b.len() && a.map(plain).eq(b.map(plain))
    };
    let aliases: Vec<HeaderName> = request
        .headers
        .keys()
        .filter(|other| same(other))
        .cloned()
        .collect();
    for alias in aliases {
        request.remove_header(&alias);
    }
}
