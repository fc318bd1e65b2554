//! `customRequestHeaders` and `customResponseHeaders`: headers that are set or removed.

use http::HeaderValue;
use http::header::{HOST, TE};
use pingora_http::{RequestHeader, ResponseHeader};

use crate::field::FieldName;
use crate::{Unfit, target};

/// What belongs to one hop or frames a message: the proxy decides on it.
const OF_THE_PROXY: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// What becomes of the headers of requests.
#[derive(Debug)]
pub(super) struct RequestChanges {
    host: Option<HeaderValue>,
    fields: Changes,
}

/// What becomes of the headers of responses.
#[derive(Debug)]
pub(super) struct ResponseChanges(Changes);

/// Headers and what they are set to; `None`: removed.
type Changes = Box<[(FieldName, Option<HeaderValue>)]>;

impl RequestChanges {
    pub(super) fn new(fields: &[(&str, &str)], warnings: &mut Vec<String>) -> Result<Self, String> {
        let mut host = None;
        let mut changes = Vec::new();
        for (name, value) in fields {
            let (field, mut value) = read("customRequestHeaders", name, value)?;
            if let Some(value) = &mut value {
                // It may be a credential: no print shows it, and no table of HTTP/2 keeps it.
                value.set_sensitive(true);
            }
            if field.name == HOST {
                host = value;
            } else if field.name != TE && OF_THE_PROXY.contains(&field.name.as_str()) {
                warnings.push(format!(
                    "customRequestHeaders.{name} has no effect: it concerns one connection only, and the proxy sets \
                     it itself"
                ));
            } else {
                changes.push((field, value));
            }
        }
        Ok(Self {
            host,
            fields: changes.into(),
        })
    }

    /// Whether `X-Forwarded-For` is taken out, which hides the client from services.
    pub(super) fn hide_client(&self) -> bool {
        self.fields
            .iter()
            .any(|(field, value)| value.is_none() && field.name == "x-forwarded-for")
    }

    pub(super) fn apply(&self, request: &mut RequestHeader) -> Result<(), Unfit> {
        for (field, value) in &self.fields {
            match value {
                Some(value) => request.insert_header(field.written.clone(), value.clone())?,
                None => {
                    request.remove_header(&field.name);
                }
            }
        }
        match &self.host {
            Some(host) => target::set_authority(request, host),
            None => Ok(()),
        }
    }
}

impl ResponseChanges {
    pub(super) fn new(fields: &[(&str, &str)]) -> Result<Self, String> {
        let mut changes = Vec::new();
        for (name, value) in fields {
            let (field, value) = read("customResponseHeaders", name, value)?;
            match (OF_THE_PROXY.contains(&field.name.as_str()), &value) {
                (false, _) => changes.push((field, value)),
                // Whether these are there is the proxy's business in any case.
                (true, None) => {}
                (true, Some(_)) => {
                    return Err(format!(
                        "customResponseHeaders.{name} would break responses: it concerns one connection only; remove it"
                    ));
                }
            }
        }
        Ok(Self(changes.into()))
    }

    pub(super) fn apply(&self, response: &mut ResponseHeader) -> Result<(), Unfit> {
        for (field, value) in &self.0 {
            match value {
                Some(value) => response.insert_header(field.written.clone(), value.clone())?,
                None => {
                    response.remove_header(&field.name);
                }
            }
        }
        Ok(())
    }
}

/// The error does not show the value, which may be a secret.
fn read(option: &str, name: &str, value: &str) -> Result<(FieldName, Option<HeaderValue>), String> {
    let field = FieldName::parse(name).ok_or_else(|| {
        format!("{option} has {name:?}, which is no name of a header: write letters, digits and hyphens")
    })?;
    if value.is_empty() {
        return Ok((field, None));
    }
    let value = HeaderValue::from_str(value.trim())
        .or_else(|_| HeaderValue::from_bytes(value.trim().as_bytes()))
        .map_err(|_| {
            format!("the value of {option}.{name} can't be a header: it has a line break or the like")
        })?;
    Ok((field, Some(value)))
}
