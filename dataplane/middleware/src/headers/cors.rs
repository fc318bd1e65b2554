//! Cross-origin requests: preflights, and what responses allow.

use constellation_table::regexp::Regexp;
use http::Method;
use http::header::{self, HeaderName, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};

use crate::Unfit;

/// The options about cross-origin requests, as written.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "each is the option of that name")]
pub struct CorsOptions<'o> {
    pub allow_credentials: bool,
    pub allow_headers: &'o [String],
    pub allow_methods: &'o [String],
    pub allow_origins: &'o [String],
    pub allow_origins_regex: &'o [String],
    pub expose_headers: &'o [String],
    pub max_age: Option<i64>,
    pub add_vary: bool,
}

#[derive(Debug)]
pub(super) struct Cors {
    credentials: bool,
    headers: Option<Allowed>,
    methods: Option<Allowed>,
    expose: Option<Allowed>,
    max_age: Option<HeaderValue>,
    origins: Box<[HeaderValue]>,
    patterns: Box<[Regexp]>,
    vary: bool,
}

/// What a list allows.
#[derive(Debug)]
enum Allowed {
    /// This.
    These(HeaderValue),
    /// Whatever is asked for: with credentials, browsers take `*` for a name like others.
    Asked,
}

/// The origin of a preflight; `None` for any other request.
pub(super) fn preflight(request: &RequestHeader) -> Option<HeaderValue> {
    if request.method != Method::OPTIONS {
        return None;
    }
    let given = |name: HeaderName| request.headers.get(name).filter(|value| !value.is_empty());
    given(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    given(header::ORIGIN).cloned()
}

impl Cors {
    /// `None` when no option is about it.
    pub(super) fn new(options: &CorsOptions<'_>) -> Result<Option<Self>, String> {
        let list = |option: &str, values: &[String]| -> Result<Option<Allowed>, String> {
            if values.is_empty() {
                return Ok(None);
            }
            if options.allow_credentials && values.iter().any(|value| value == "*") {
                return Ok(Some(Allowed::Asked));
            }
            let value = HeaderValue::from_str(&values.join(","));
            value
                .map(|value| Some(Allowed::These(value)))
                .map_err(|_| format!("{option} can't be a header: {values:?}"))
        };
        let origin = |value: &String| {
            HeaderValue::from_str(value)
                .map_err(|_| format!("accessControlAllowOriginList has {value:?}, which can't be an origin"))
        };
        let cors = Self {
            credentials: options.allow_credentials,
            headers: list("accessControlAllowHeaders", options.allow_headers)?,
            methods: list("accessControlAllowMethods", options.allow_methods)?,
            expose: list("accessControlExposeHeaders", options.expose_headers)?,
            max_age: options.max_age.map(HeaderValue::from),
            origins: options
                .allow_origins
                .iter()
                .map(origin)
                .collect::<Result<_, _>>()?,
            patterns: options
                .allow_origins_regex
                .iter()
                .map(|pattern| Regexp::new(pattern))
                .collect::<Result<_, _>>()
                .map_err(|error| format!("accessControlAllowOriginListRegex: {error}"))?,
            vary: options.add_vary,
        };
        let asked = cors.credentials
            || cors.vary
            || cors.headers.is_some()
            || cors.methods.is_some()
            || cors.expose.is_some()
            || cors.max_age.is_some()
            || !cors.origins.is_empty()
            || !cors.patterns.is_empty();
        Ok(asked.then_some(cors))
    }

    pub(super) fn answer_preflight(
        &self,
        request: &RequestHeader,
        origin: &HeaderValue,
        response: &mut ResponseHeader,
    ) -> Result<(), Unfit> {
        self.allow(origin, response)?;
        let lists = [
            (
                "Access-Control-Allow-Headers",
                &self.headers,
                header::ACCESS_CONTROL_REQUEST_HEADERS,
            ),
            (
                "Access-Control-Allow-Methods",
                &self.methods,
                header::ACCESS_CONTROL_REQUEST_METHOD,
            ),
        ];
        for (name, allowed, asked) in lists {
            let value = match allowed {
                Some(Allowed::These(value)) => Some(value),
                Some(Allowed::Asked) => request.headers.get(asked).filter(|asked| !asked.is_empty()),
                None => None,
            };
            if let Some(value) = value {
                response.insert_header(name, value.clone())?;
            }
        }
        if let Some(seconds) = &self.max_age {
            response.insert_header("Access-Control-Max-Age", seconds.clone())?;
        }
        self.tell_more(response)
    }

    pub(super) fn apply(
        &self,
        origin: Option<&HeaderValue>,
        response: &mut ResponseHeader,
    ) -> Result<(), Unfit> {
        let none = HeaderValue::from_static("");
        self.allow(origin.unwrap_or(&none), response)?;
        self.tell_more(response)?;
        if self.vary {
            vary_by_origin(response)?;
        }
        Ok(())
    }

    fn tell_more(&self, response: &mut ResponseHeader) -> Result<(), Unfit> {
        if self.credentials {
            response.insert_header("Access-Control-Allow-Credentials", "true")?;
        }
        // Nobody has asked which ones to expose.
        if let Some(Allowed::These(expose)) = &self.expose {
            response.insert_header("Access-Control-Expose-Headers", expose.clone())?;
        }
        Ok(())
    }

    /// Allows an origin that is listed. `*` is never written together with credentials: browsers would not take it.
    fn allow(&self, origin: &HeaderValue, response: &mut ResponseHeader) -> Result<(), Unfit> {
        let listed = self
            .origins
            .iter()
            .find(|listed| *listed == "*" || *listed == origin);
        let allowed = match listed {
            Some(any) if any == "*" && self.credentials => Some(origin),
            Some(listed) => Some(listed),
            None => {
                let text = origin.to_str().unwrap_or_default();
                let matches = self.patterns.iter().any(|pattern| pattern.is_match(text));
                matches.then_some(origin)
            }
        };
        if let Some(allowed) = allowed {
            response.insert_header("Access-Control-Allow-Origin", allowed.clone())?;
        }
        Ok(())
    }
}

/// Says that the response differs by origin, without a word of what else it differs by getting lost.
fn vary_by_origin(response: &mut ResponseHeader) -> Result<(), Unfit> {
    let mut lines = Vec::new();
    for line in response.headers.get_all(header::VARY) {
        if line == "Origin" {
            return Ok(());
        }
        if !line.is_empty() {
            lines.push(line.as_bytes());
        }
    }
    lines.push(b"Origin");
    Ok(response.insert_header("Vary", lines.join(b",".as_slice()))?)
}
