//! What becomes of a request once it is known whose it is.

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use pingora_http::RequestHeader;

use crate::{Flow, Unfit};

/// What the service gets to know of who has passed.
#[derive(Debug, Default)]
pub struct Identity {
    /// Whether the credentials are taken out.
    remove_header: bool,
    /// Where the name stands.
    header: Option<Bytes>,
}

impl Identity {
    /// `header` is the name of the header for the user's name; empty: none.
    pub fn new(remove_header: bool, header: &str) -> Result<Self, String> {
        let named = match header {
            "" => None,
            name => match name.parse::<HeaderName>() {
                Ok(_) => Some(Bytes::copy_from_slice(name.as_bytes())),
                Err(_) => return Err(format!("headerField is {name:?}: write the name of a header")),
            },
        };
        Ok(Self {
            remove_header,
            header: named,
        })
    }

    /// Lets the request of this user pass.
    pub(crate) fn pass(&self, request: &mut RequestHeader, user: &str) -> Result<Flow<'static>, Unfit> {
        if let Some(header) = &self.header {
            let value = HeaderValue::from_str(user).or_else(|_| HeaderValue::from_bytes(user.as_bytes()));
            let value = value.map_err(|_| Unfit::new("the name of a user that is no value of a header"))?;
            set_trusted(request, header, [value].iter())?;
        }
        if self.remove_header {
            request.remove_header(&AUTHORIZATION);
        }
        Ok(Flow::User(user.into(), None))
    }
}

/// Sets a header that a service believes to these values, or takes it out when there are none. Those that some services take
/// for the same one go.
pub(crate) fn set_trusted<'v>(
    request: &mut RequestHeader,
    written: &Bytes,
    values: impl Iterator<Item = &'v HeaderValue>,
) -> Result<(), Unfit> {
    remove_aliases(request, written);
    for value in values {
        request.append_header(written.clone(), value.clone())?;
    }
    Ok(())
}

/// Takes a header out under every spelling that some services take for it: with `_` or `.` for `-`.
pub(crate) fn remove_aliases(request: &mut RequestHeader, name: &[u8]) {
    let plain = |byte: u8| match byte {
        b'_' | b'.' => b'-',
        byte => byte.to_ascii_lowercase(),
    };
    let same = |other: &&HeaderName| {
        let other = other.as_str().as_bytes();
        name.len() == other.len()
            && name
                .iter()
                .copied()
                .map(plain)
                .eq(other.iter().copied().map(plain))
    };
    let aliases: Vec<HeaderName> = request.headers.keys().filter(same).cloned().collect();
    for alias in aliases {
        request.remove_header(&alias);
    }
}
