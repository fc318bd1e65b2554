//! What reached a back end.

use std::sync::{Arc, Mutex, MutexGuard};

use http::{HeaderMap, Method, Version};

/// One request as the back end parsed it.
#[derive(Clone, Debug)]
pub struct Received {
    /// Number of the connection it came on, from 0.
    pub connection: usize,
    /// Method.
    pub method: Method,
    /// Path and query as received.
    pub target: String,
    /// Authority: `Host` or `:authority`.
    pub authority: String,
    /// HTTP version.
    pub version: Version,
    /// Headers.
    pub headers: HeaderMap,
}

/// Shared between the back end's connections and the test.
#[derive(Clone, Debug, Default)]
pub struct Record(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    requests: Vec<Received>,
    raw: Vec<Vec<u8>>,
}

/// Raw bytes kept of each connection; framing tests look at heads, not at uploads.
const RAW_LIMIT: usize = 64 * 1024;

impl Record {
    /// All requests so far.
    pub fn requests(&self) -> Vec<Received> {
        self.lock().requests.clone()
    }

    /// How many requests came.
    pub fn count(&self) -> usize {
        self.lock().requests.len()
    }

    /// The one request that came.
    ///
    /// # Panics
    /// When it was not exactly one.
    pub fn only(&self) -> Received {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "expected one request: {requests:#?}");
        requests[0].clone()
    }

    /// The last request.
    ///
    /// # Panics
    /// When none came.
    pub fn last(&self) -> Received {
        self.requests().pop().expect("a request reached the back end")
    }

    /// The first 64 KiB of what came on each connection.
    pub fn raw(&self) -> Vec<Vec<u8>> {
        self.lock().raw.clone()
    }

    /// Forgets the requests and bytes so far.
    pub fn clear(&self) {
        let mut entries = self.lock();
        entries.requests.clear();
        entries.raw.iter_mut().for_each(Vec::clear);
    }

    pub(super) fn connection(&self) -> usize {
        let mut entries = self.lock();
        entries.raw.push(Vec::new());
        entries.raw.len() - 1
    }

    pub(super) fn bytes(&self, connection: usize, bytes: &[u8]) {
        let raw = &mut self.lock().raw[connection];
        let room = RAW_LIMIT.saturating_sub(raw.len()).min(bytes.len());
        raw.extend_from_slice(&bytes[..room]);
    }

    pub(super) fn request(&self, received: Received) {
        self.lock().requests.push(received);
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap()
    }
}
