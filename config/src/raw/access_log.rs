//! `accessLog` as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;
use crate::resolved::{AccessLog, AccessLogFormat, FieldMode};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawAccessLog {
    /// Records that may wait for the writer, 1 to 1000000; further ones are dropped and counted.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) buffering_size: u32,
    /// Which fields are written.
    pub(crate) fields: RawFields,
    /// File to append to; null: standard output.
    pub(crate) file_path: Option<String>,
    /// A request is recorded when one of these applies; without any, every request.
    pub(crate) filters: RawFilters,
    /// `common` for the Common Log Format as Traefik extends it, `genericCLF` for it without extensions, `json` for one object a line.
    pub(crate) format: AccessLogFormat,
    /// Share of requests that are recorded, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) sampling: f64,
}

impl Default for RawAccessLog {
    fn default() -> Self {
        let defaults = AccessLog::default();
        Self {
            buffering_size: u32::try_from(defaults.buffering_size).unwrap_or(u32::MAX),
            fields: RawFields::default(),
            file_path: None,
            filters: RawFilters::default(),
            format: defaults.format,
            sampling: defaults.sampling,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawFields {
    /// What happens to fields that `names` leaves out: keep, drop or redact.
    pub(crate) default_mode: FieldMode,
    /// Headers of requests and responses.
    pub(crate) headers: RawHeaders,
    /// Modes of single fields by name, such as `ClientUsername: drop`.
    pub(crate) names: BTreeMap<String, FieldMode>,
}

impl Default for RawFields {
    fn default() -> Self {
        Self {
            default_mode: AccessLog::default().field_mode,
            headers: RawHeaders::default(),
            names: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawHeaders {
    /// What happens to headers that `names` leaves out: keep, drop or redact.
    pub(crate) default_mode: FieldMode,
    /// Modes of single headers by name, such as `User-Agent: keep`.
    pub(crate) names: BTreeMap<String, FieldMode>,
}

impl Default for RawHeaders {
    fn default() -> Self {
        Self {
            default_mode: AccessLog::default().header_mode,
            names: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawFilters {
    /// Record requests that took at least this long; 0: not a reason.
    pub(crate) min_duration: Time,
    /// Record requests that were sent to a server more than once.
    pub(crate) retry_attempts: bool,
    /// Record these statuses and ranges of them, such as 404 and 500-599.
    pub(crate) status_codes: Vec<String>,
}

impl Default for RawFilters {
    fn default() -> Self {
        Self {
            min_duration: None.into(),
            retry_attempts: false,
            status_codes: Vec::new(),
        }
    }
}
