//! Questions about requests.

use constellation_config::Protocol;
use constellation_table::{EntryPointId, Explanation, RequestMeta, Snapshot, Turn, host, path};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::{EntryPointFacts, Question, QuestionError, id, named};

impl Question {
    pub(super) fn ask_request(
        &self,
        table: &Snapshot,
        entry_points: &[EntryPointFacts],
        uri: &Uri,
        tls: bool,
    ) -> Result<Explanation, QuestionError> {
        let authority = uri
            .authority()
            .ok_or_else(|| QuestionError::Url(self.url.clone()))?;
        let method = self.method.as_deref().unwrap_or("GET");
        http::Method::from_bytes(method.as_bytes()).map_err(|_| QuestionError::Method(method.to_owned()))?;
        let headers = self.header_map()?;
        let named = headers
            .get(http::header::HOST)
            .and_then(|value| value.to_str().ok());
        // A URL's user information is not part of the host.
        let of_url = authority
            .as_str()
            .rsplit_once('@')
            .map_or(authority.as_str(), |(_, host)| host);
        let host = host::canonical(named.unwrap_or(of_url))
            .map_err(|error| QuestionError::Refused(error.to_string()))?;
        let path = path::normalise(uri.path()).map_err(|error| QuestionError::Refused(error.to_string()))?;
        let client = self.client()?;
        let request = RequestMeta {
            entry_point: self.entry_point(table, entry_points, authority.port_u16(), tls)?,
            tls,
            method,
            host: &host,
            path: &path.routing,
            query: uri.query().unwrap_or_default(),
            headers: &headers,
            client,
            repeatable: true,
            now: std::time::Instant::now(),
            turn: Turn::Look,
        };
        Ok(constellation_table::explain(table, &request))
    }

    fn header_map(&self) -> Result<HeaderMap, QuestionError> {
        let mut headers = HeaderMap::new();
        for header in &self.headers {
            let parsed = header.split_once(':').and_then(|(name, value)| {
                let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
                Some((name, HeaderValue::from_str(value.trim()).ok()?))
            });
            let (name, value) = parsed.ok_or_else(|| QuestionError::Header(header.clone()))?;
            headers.append(name, value);
        }
        Ok(headers)
    }

    /// The one asked for; else the one that listens on the port; else `web` or `websecure`; else the first one that has
    /// a router of this kind; else the first.
    fn entry_point(
        &self,
        table: &Snapshot,
        entry_points: &[EntryPointFacts],
        port: Option<u16>,
        tls: bool,
    ) -> Result<EntryPointId, QuestionError> {
        let named = |name: &str| named(entry_points, Protocol::Tcp, name);
        if let Some(name) = &self.entry_point {
            return named(name)
                .map(id)
                .ok_or_else(|| QuestionError::no_entry_point(name, Protocol::Tcp, entry_points));
        }
        let port = port.unwrap_or(if tls { 443 } else { 80 });
        let listening = |entry_point: &EntryPointFacts| {
            entry_point.protocol == Protocol::Tcp
                && entry_point.addresses.iter().any(|address| address.port() == port)
        };
        let kind = || {
            let router = table.routers().iter().find(|router| router.spec.tls == tls)?;
            router.spec.entry_points.first().copied()
        };
        let position = entry_points
            .iter()
            .position(listening)
            .or_else(|| named(if tls { "websecure" } else { "web" }));
        Ok(position.map(id).or_else(kind).unwrap_or(EntryPointId(0)))
    }
}
