//! What is logged, how, and where to.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::header::{self, HeaderName};

/// Settings of the access log; Traefik's `accessLog`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Appended to; `None`: standard output.
    pub file: Option<PathBuf>,
    /// Shape of a line.
    pub format: Format,
    /// Lines that may wait for the writer; further ones are lost and counted.
    pub queue: usize,
    /// Share of the requests that pass the filters, 0 to 1.
    pub sampling: f64,
    /// Which requests.
    pub filters: Filters,
    /// Which fields, by Traefik's names; `RequestQuery` is the query within `RequestPath`.
    pub fields: Modes,
    /// Which request and response headers, by name in any case. Credentials are redacted at most, never kept.
    pub headers: Modes,
}

impl Default for Settings {
    /// Every request, all fields, no headers, to standard output, as in Traefik.
    fn default() -> Self {
        Self {
            file: None,
            format: Format::Common,
            queue: 8192,
            sampling: 1.0,
            filters: Filters::default(),
            fields: Modes {
                default: FieldMode::Keep,
                named: BTreeMap::new(),
            },
            headers: Modes {
                default: FieldMode::Drop,
                named: BTreeMap::new(),
            },
        }
    }
}

/// Shape of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Traefik's extension of the Common Log Format: request count, router, server URL and milliseconds at the end.
    #[default]
    Common,
    /// The Common Log Format with referrer and user agent only.
    GenericClf,
    /// One JSON object with Traefik's field names.
    Json,
}

/// A request that passes one of them is logged; none set: every request.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// These statuses.
    pub statuses: Vec<RangeInclusive<u16>>,
    /// Requests that took at least this long.
    pub min_duration: Option<Duration>,
    /// Requests that were tried more than once.
    pub retried: bool,
}

impl Filters {
    pub(super) fn pass(&self, status: u16, duration: Duration, retries: u32) -> bool {
        let none = self.statuses.is_empty() && self.min_duration.is_none() && !self.retried;
        none || self.statuses.iter().any(|range| range.contains(&status))
            || self.min_duration.is_some_and(|min| duration >= min)
            || (self.retried && retries > 0)
    }

    /// A connection has no status: `failed` ones pass when a status of a gateway's failure does.
    pub(super) fn pass_stream(&self, failed: bool, duration: Duration, retries: u32) -> bool {
        const BAD_GATEWAY: u16 = 502;
        let none = self.statuses.is_empty() && self.min_duration.is_none() && !self.retried;
        none || (failed && self.statuses.iter().any(|range| range.contains(&BAD_GATEWAY)))
            || self.min_duration.is_some_and(|min| duration >= min)
            || (self.retried && retries > 0)
    }
}

/// What happens to each field or header.
#[derive(Clone, Debug)]
pub struct Modes {
    /// To those not named.
    pub default: FieldMode,
    /// By name.
    pub named: BTreeMap<String, FieldMode>,
}

impl Modes {
    pub(super) fn of(&self, name: &str) -> FieldMode {
        self.named.get(name).copied().unwrap_or(self.default)
    }
}

/// What happens to a field or header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldMode {
    /// Written.
    Keep,
    /// Left out.
    Drop,
    /// Written as `REDACTED`.
    Redact,
}

/// Headers whose values are credentials.
const CREDENTIALS: [HeaderName; 4] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::PROXY_AUTHORIZATION,
    header::SET_COOKIE,
];

/// [`Modes`] of headers, ready for the request path.
#[derive(Debug)]
pub(super) struct HeaderModes {
    default: FieldMode,
    named: Vec<(HeaderName, FieldMode)>,
}

impl HeaderModes {
    /// Names that no header can have are ignored: nothing will ever match them.
    pub(super) fn new(modes: &Modes) -> Self {
        let named = modes.named.iter().filter_map(|(name, mode)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            let mode = Self::capped(&name, *mode);
            Some((name, mode))
        });
        Self {
            default: modes.default,
            named: named.collect(),
        }
    }

    fn capped(name: &HeaderName, mode: FieldMode) -> FieldMode {
        match mode {
            FieldMode::Keep if CREDENTIALS.contains(name) => FieldMode::Redact,
            mode => mode,
        }
    }

    pub(super) fn of(&self, name: &HeaderName) -> FieldMode {
        let named = self.named.iter().find(|(known, _)| known == name);
        named.map_or_else(|| Self::capped(name, self.default), |(_, mode)| *mode)
    }

    /// Whether no header can ever be written.
    pub(super) fn drop_all(&self) -> bool {
        self.default == FieldMode::Drop && self.named.iter().all(|(_, mode)| *mode == FieldMode::Drop)
    }
}
