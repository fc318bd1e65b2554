//! `accessLog` resolved.

use std::collections::BTreeMap;

use super::{Judge, given};
use crate::raw::{RawAccessLog, RawFilters};
use crate::resolved::{AccessLog, AccessLogFilters, FieldMode, StatusRange};

pub(super) fn one(raw: &RawAccessLog, judge: &mut Judge<'_>) -> AccessLog {
    let lower = |modes: &BTreeMap<String, FieldMode>| {
        modes
            .iter()
            .map(|(name, mode)| (name.to_ascii_lowercase(), *mode))
            .collect()
    };
    AccessLog {
        file_path: given(raw.file_path.as_deref()),
        format: raw.format,
        buffering_size: raw.buffering_size as usize,
        sampling: raw.sampling,
        filters: filters(&raw.filters, judge),
        field_mode: raw.fields.default_mode,
        field_modes: raw.fields.names.clone(),
        header_mode: raw.fields.headers.default_mode,
        header_modes: lower(&raw.fields.headers.names),
    }
}

fn filters(raw: &RawFilters, judge: &mut Judge<'_>) -> AccessLogFilters {
    let mut status_codes = Vec::with_capacity(raw.status_codes.len());
    for (index, text) in raw.status_codes.iter().enumerate() {
        match status_range(text) {
            Some(range) => status_codes.push(range),
            None => {
                judge
                    .refuse(
                        &format!("accessLog.filters.statusCodes[{index}]"),
                        "is not a status or a range",
                    )
                    .expects("a number from 100 to 599 such as 404, or a range such as 500-599");
            }
        }
    }
    AccessLogFilters {
        status_codes,
        min_duration: raw.min_duration.limit(),
        retry_attempts: raw.retry_attempts,
    }
}

fn status_range(text: &str) -> Option<StatusRange> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| {
        text.trim()
            .parse::<u16>()
            .ok()
            .filter(|status| (100..=599).contains(status))
    };
    let (from, to) = (status(from)?, status(to)?);
    (from <= to).then_some(StatusRange { from, to })
}
