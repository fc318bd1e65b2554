//! Requests written on one line, so that tests read as tables.

#![expect(
    clippy::expect_used,
    reason = "a malformed row of a test table fails the test"
)]

use std::net::IpAddr;

use constellation_table::{EntryPointId, RequestMeta, Turn, host, path};
use http::{HeaderMap, HeaderName, HeaderValue};

/// A request that went through the same normalising as in the data plane.
pub(crate) struct Asked {
    method: String,
    host: String,
    path: String,
    query: String,
    headers: HeaderMap,
    client: IpAddr,
    entry_point: EntryPointId,
    tls: bool,
}

impl Asked {
    /// `METHOD AUTHORITY TARGET`, then ` | ` before each header line or `@CLIENT`. `None` when host or path are
    /// refused. Header values are taken as Latin-1, so `\u{ff}` is the byte FF.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut parts = line.split(" | ");
        let [method, authority, target] = parts.next()?.split(' ').collect::<Vec<_>>().try_into().ok()?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut asked = Self {
            method: method.to_owned(),
            host: host::canonical(authority).ok()?.into_owned(),
            path: path::normalise(path).ok()?.routing.into_owned(),
            query: query.to_owned(),
            headers: HeaderMap::new(),
            client: IpAddr::from([127, 0, 0, 1]),
            entry_point: EntryPointId(0),
            tls: false,
        };
        for part in parts {
            if let Some(client) = part.strip_prefix('@') {
                asked.client = client.parse().expect("a client address");
                continue;
            }
            let (name, value) = part.split_once(": ").expect("a header line");
            let value: Vec<u8> = value
                .chars()
                .map(|c| u8::try_from(u32::from(c)).expect("Latin-1"))
                .collect();
            asked.headers.append(
                name.parse::<HeaderName>().expect("a header name"),
                HeaderValue::from_bytes(&value).expect("a header value"),
            );
        }
        Some(asked)
    }

    /// On this entry point.
    pub(crate) fn on(mut self, entry_point: u16, tls: bool) -> Self {
        self.entry_point = EntryPointId(entry_point);
        self.tls = tls;
        self
    }

    /// As the decision sees it; only looks.
    pub(crate) fn meta(&self) -> RequestMeta<'_> {
        RequestMeta {
            entry_point: self.entry_point,
            tls: self.tls,
            method: &self.method,
            host: &self.host,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
            client: self.client,
            repeatable: true,
            now: std::time::Instant::now(),
            turn: Turn::Look,
        }
    }
}
