//! Where the service is that is asked.

use std::fmt;

use data_encoding::BASE64;
use http::HeaderValue;
use url::Url;

/// The URL of the service that is asked. `Debug` shows neither the name and password in it nor its query.
pub struct AuthAddress {
    url: Url,
    target: Box<str>,
    authorization: Option<HeaderValue>,
}

impl fmt::Debug for AuthAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.url.scheme(), self.host(), self.port())
    }
}

impl AuthAddress {
    /// Reads a URL; the error doesn't show it, as there may be a password in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "write the URL of the service to ask, such as http://auth:8080/verify";
        if text.is_empty() {
            return Err(format!("address is missing: {EXPECTED}"));
        }
        let mut url = Url::parse(text).map_err(|error| format!("address is no URL ({error}): {EXPECTED}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err(format!(
                "address is no URL of http or https with a host: {EXPECTED}"
            ));
        }
        url.set_fragment(None);
        let authorization = match (url.username(), url.password()) {
            ("", None) => None,
            (name, password) => {
                let decoded = |text: &str| {
                    crate::escape::decode(text)
                        .map_err(|_| "address has a name or password with a broken escape".to_owned())
                };
                let mut credentials = decoded(name)?;
                credentials.push(b':');
                credentials.extend(decoded(password.unwrap_or_default())?);
                let value = format!("Basic {}", BASE64.encode(&credentials));
                let mut value = HeaderValue::from_str(&value)
                    .map_err(|_| "address has a name or password that can't be sent".to_owned())?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        // What is made of it for clients must not show them.
        url.set_username("")
            .and_then(|()| url.set_password(None))
            .unwrap_or_default();
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        Ok(Self {
            target: target.into(),
            authorization,
            url,
        })
    }

    /// Whether TLS is spoken.
    pub fn tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The host, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        self.url
            .host_str()
            .unwrap_or_default()
            .trim_start_matches('[')
            .trim_end_matches(']')
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(80)
    }

    /// Path and query.
    pub(super) fn target(&self) -> &str {
        &self.target
    }

    /// The name and password in it, as a header.
    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// A reference as seen from there; `None` when it is none. What is absolute stays as it is written.
    pub(super) fn absolute(&self, reference: &str) -> Option<String> {
        let joined = self.url.join(reference).ok()?;
        match Url::parse(reference) {
            Ok(_) => Some(reference.to_owned()),
            Err(_) => Some(joined.into()),
        }
    }
}
