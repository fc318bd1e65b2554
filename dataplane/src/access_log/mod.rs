//! The access log: records leave the request path through a bounded queue; a writer thread formats and writes.
//!
//! The request path fills a [`Record`] (names shared, nothing formatted) and hands it to [`AccessLog::record`], which
//! never waits: when the queue is full the line is lost and counted. Only the writer thread knows formats and files.

mod record;

pub use record::{Headers, Record, TlsDetails};

/// A handle to the log. Cloning shares the queue.
#[derive(Clone, Debug, Default)]
pub struct AccessLog {}

impl AccessLog {
    /// A log that records nothing.
    pub fn off() -> Self {
        Self {}
    }

    /// Whether a request that ended like this is to be logged: filters and sampling. Ask before filling a record.
    pub fn wants(&self, _status: u16, _duration: std::time::Duration, _retries: u32) -> bool {
        false
    }

    /// The request headers that the settings keep; free of cost when they keep none.
    pub fn request_headers(&self, _headers: &http::HeaderMap) -> Headers {
        Headers::default()
    }

    /// The response headers that the settings keep.
    pub fn response_headers(&self, _headers: &http::HeaderMap) -> Headers {
        Headers::default()
    }

    /// Queues a record. Never waits.
    pub fn record(&self, _record: Record) {}
}
