//! The question of `explain`: a request described in words, made into what the decision takes.
//!
//! The running node and the command line without one ask through the same [`Question`].

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use constellation_config::Protocol;
use constellation_table::{EntryPointId, Explanation, RequestMeta, Snapshot, Turn, host, path};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

/// What a question has to know of an entry point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPointFacts {
    /// Its name.
    pub name: Arc<str>,
    /// What it takes.
    pub protocol: Protocol,
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
}

/// A request to be explained.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// `http://HOST[:PORT]/PATH?QUERY`, or `https`.
    pub url: String,
    /// Default `GET`.
    pub method: Option<String>,
    /// `NAME: VALUE` each. `Host` replaces the URL's.
    pub headers: Vec<String>,
    /// Name of the entry point; else the one that listens on the URL's port, else the usual one of its scheme.
    pub entry_point: Option<String>,
    /// Default 127.0.0.1.
    pub client_ip: Option<String>,
}

/// Why a question can't be asked, in words for who asked it.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// A parameter nobody knows.
    #[error("the parameter {0:?} is not known; expected url, method, header, entrypoint or client_ip")]
    Parameter(String),
    /// No URL.
    #[error("the parameter url is missing; expected for example url=http://app.example.test/path")]
    NoUrl,
    /// Not an absolute URL.
    #[error("{0:?} is not an absolute http or https URL; expected for example http://app.example.test/path")]
    Url(String),
    /// Not a method.
    #[error("{0:?} is not a method; expected for example GET")]
    Method(String),
    /// Not a header.
    #[error("{0:?} is not a header; expected NAME: VALUE")]
    Header(String),
    /// Not an address.
    #[error("{0:?} is not an IP address; expected for example 192.0.2.1")]
    ClientIp(String),
    /// No such entry point.
    #[error("there is no entry point {name:?}; there are: {known}")]
    EntryPoint {
        /// As asked.
        name: String,
        /// All names, joined by commas.
        known: String,
    },
    /// The proxy would answer 400 before routing.
    #[error("such a request is answered with 400 before any router sees it: {0}")]
    Refused(String),
}

impl QuestionError {
    fn no_entry_point(name: &str, protocol: Protocol, entry_points: &[EntryPointFacts]) -> Self {
        let fitting = entry_points
            .iter()
            .filter(|entry_point| entry_point.protocol == protocol);
        let known: Vec<&str> = fitting.map(|entry_point| &*entry_point.name).collect();
        Self::EntryPoint {
            name: name.to_owned(),
            known: known.join(", "),
        }
    }
}

impl Question {
    /// From the parameters of a query string; `header` may come more than once.
    pub fn from_parameters(parameters: Vec<(String, String)>) -> Result<Self, QuestionError> {
        let mut question = Self::default();
        for (name, value) in parameters {
            match name.as_str() {
                "url" => question.url = value,
                "method" => question.method = Some(value),
                "header" => question.headers.push(value),
                "entrypoint" | "entry_point" | "entryPoint" => question.entry_point = Some(value),
                "client_ip" | "clientIp" | "client-ip" => question.client_ip = Some(value),
                _ => return Err(QuestionError::Parameter(name)),
            }
        }
        if question.url.is_empty() {
            Err(QuestionError::NoUrl)
        } else {
            Ok(question)
        }
    }

    /// Asks a snapshot. The balancing cursors stay as they are.
    pub fn ask(
        &self,
        table: &Snapshot,
        entry_points: &[EntryPointFacts],
    ) -> Result<Explanation, QuestionError> {
        let bad_url = || QuestionError::Url(self.url.clone());
        let uri: Uri = self.url.parse().map_err(|_| bad_url())?;
        let authority = uri.authority().ok_or_else(bad_url)?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad_url()),
        };
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
        let client = self.client_ip.as_deref().unwrap_or("127.0.0.1");
        let client: IpAddr = client
            .parse()
            .map_err(|_| QuestionError::ClientIp(client.to_owned()))?;
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
        let mut explanation = constellation_table::explain(table, &request);
        let names: Vec<&str> = entry_points
            .iter()
            .map(|entry_point| &*entry_point.name)
            .collect();
        explanation.name_entry_points(&names);
        Ok(explanation)
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
        let id = |position: usize| EntryPointId(u16::try_from(position).unwrap_or(u16::MAX));
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

/// The position of the entry point of that name and protocol.
fn named(entry_points: &[EntryPointFacts], protocol: Protocol, name: &str) -> Option<usize> {
    entry_points.iter().position(|entry_point| {
        entry_point.protocol == protocol && entry_point.name.eq_ignore_ascii_case(name)
    })
}
