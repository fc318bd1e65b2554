//! `accessLog`: one line for each request.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The access log that is switched on.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// Where to write; `None`: standard output.
    pub file_path: Option<PathBuf>,
    /// Shape of a line.
    pub format: AccessLogFormat,
    /// Records that may wait for the writer before further ones are dropped and counted, 1 to 1,000,000.
    pub buffering_size: usize,
    /// Share of requests that are recorded, 0 to 1.
    pub sampling: f64,
    /// A request that passes one of them is recorded; all empty: every request.
    pub filters: AccessLogFilters,
    /// What happens to fields that `field_modes` doesn't name.
    pub field_mode: FieldMode,
    /// Fields by name.
    pub field_modes: BTreeMap<String, FieldMode>,
    /// What happens to headers that `header_modes` doesn't name.
    pub header_mode: FieldMode,
    /// Headers of requests and responses by name in lower case.
    pub header_modes: BTreeMap<String, FieldMode>,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            file_path: None,
            format: AccessLogFormat::Common,
            buffering_size: 8192,
            sampling: 1.0,
            filters: AccessLogFilters::default(),
            field_mode: FieldMode::Keep,
            field_modes: BTreeMap::new(),
            header_mode: FieldMode::Drop,
            header_modes: BTreeMap::new(),
        }
    }
}

/// `accessLog.format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AccessLogFormat {
    /// Traefik's extension of the Common Log Format.
    #[default]
    Common,
    /// The Common Log Format with referrer and user agent only.
    #[serde(rename = "genericCLF")]
    GenericClf,
    /// One JSON object a line.
    Json,
}

/// `accessLog.filters`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessLogFilters {
    /// Record these statuses.
    pub status_codes: Vec<StatusRange>,
    /// Record requests that took at least this long; `None`: not a reason.
    pub min_duration: Option<Duration>,
    /// Record requests that were sent to a server more than once.
    pub retry_attempts: bool,
}

/// A status or a range of them, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    /// First.
    pub from: u16,
    /// Last.
    pub to: u16,
}

impl StatusRange {
    /// Whether `status` is one of them.
    pub fn contains(self, status: u16) -> bool {
        (self.from..=self.to).contains(&status)
    }
}

/// What happens to a field or header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FieldMode {
    /// Written.
    Keep,
    /// Left out.
    Drop,
    /// Its name written, its value replaced.
    Redact,
}
