//! The question of `explain`: a request, a connection or a client's datagrams described in words, made into what the
//! decision takes.
//!
//! The running node and the command line without one ask through the same [`Question`]. Its URL says what is asked
//! about: [`request`] for `http` and `https`, [`stream`] for `tcp`, `tls` and `udp`.

mod request;
mod stream;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use constellation_config::Protocol;
use constellation_table::{EntryPointId, Explanation, Snapshot, StreamExplanation};
use http::Uri;
use serde::{Deserialize, Serialize};

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

/// What is to be explained.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// A request: `http://HOST[:PORT]/PATH?QUERY`, or `https`. A connection: `tcp://HOST:PORT`, which begins with a
    /// ClientHello when `?sni=NAME&alpn=PROTOCOL,PROTOCOL` says what is in it; `tls://NAME:PORT` is short for one that
    /// asks for `NAME`. A client's datagrams: `udp://HOST:PORT`.
    pub url: String,
    /// Of a request; default `GET`.
    pub method: Option<String>,
    /// Of a request; `NAME: VALUE` each. `Host` replaces the URL's.
    pub headers: Vec<String>,
    /// Name of the entry point. Else of a request the one that listens on the URL's port, else the usual one of its
    /// scheme; of a stream the one that listens on the URL's host and port.
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
    /// Not an absolute URL of a scheme that there is.
    #[error(
        "{0:?} is not an absolute URL of http, https, tcp, tls or udp; expected for example \
         http://app.example.test/path, tls://db.example.test:5432 or udp://192.0.2.1:53"
    )]
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
    /// A stream has no such thing.
    #[error("a stream has no {0}: leave it out, or ask for an http or https URL")]
    NotOfStreams(&'static str),
    /// Datagrams have no such thing.
    #[error(
        "the parameter {0} of the URL is about the ClientHello of a connection, and datagrams have none: leave it out"
    )]
    NotOfDatagrams(String),
    /// The URL has a parameter nobody knows.
    #[error("the parameter {0:?} of the URL is not known; expected sni or alpn")]
    StreamParameter(String),
    /// No ClientHello could ask for this name.
    #[error("{name:?} can't be asked for by a ClientHello: {why}")]
    ServerName {
        /// As asked.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Not a protocol of ALPN.
    #[error(
        "{0:?} is not a protocol of ALPN, which has 1 to 255 bytes; expected for example alpn=h2,http/1.1"
    )]
    Alpn(String),
    /// The URL of a stream has no port, and no entry point is named.
    #[error("{0:?} has no port; write one, or name the entry point")]
    NoPort(String),
    /// No entry point listens there.
    #[error("no entry point takes {protocol} at {at}; there are: {known}")]
    NothingListens {
        /// The URL's.
        protocol: Protocol,
        /// Host and port as asked.
        at: String,
        /// Those of the protocol with their addresses, joined by commas.
        known: String,
    },
    /// Several entry points listen there.
    #[error(
        "several entry points listen on port {port}: {known}; name one of them, or write its address into the URL"
    )]
    SeveralListen {
        /// As asked.
        port: u16,
        /// Their names with their addresses, joined by commas.
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
    pub fn ask(&self, table: &Snapshot, entry_points: &[EntryPointFacts]) -> Result<Answer, QuestionError> {
        let bad_url = || QuestionError::Url(self.url.clone());
        let uri: Uri = self.url.parse().map_err(|_| bad_url())?;
        let names: Vec<&str> = entry_points
            .iter()
            .map(|entry_point| &*entry_point.name)
            .collect();
        match uri.scheme_str() {
            Some(scheme @ ("http" | "https")) => {
                let mut explanation = self.ask_request(table, entry_points, &uri, scheme == "https")?;
                explanation.name_entry_points(&names);
                Ok(Answer::Request(explanation))
            }
            Some(scheme @ ("tcp" | "tls" | "udp")) => {
                let mut explanation = self.ask_stream(table, entry_points, &uri, scheme)?;
                explanation.name_entry_points(&names);
                Ok(Answer::Stream(explanation))
            }
            _ => Err(bad_url()),
        }
    }

    fn client(&self) -> Result<IpAddr, QuestionError> {
        let client = self.client_ip.as_deref().unwrap_or("127.0.0.1");
        client
            .parse()
            .map_err(|_| QuestionError::ClientIp(client.to_owned()))
    }
}

/// The explanation, as JSON and, with `Display`, as text for a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// Of a request.
    Request(Explanation),
    /// Of a connection or a client's datagrams.
    Stream(StreamExplanation),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(explanation) => explanation.fmt(f),
            Self::Stream(explanation) => explanation.fmt(f),
        }
    }
}

fn id(position: usize) -> EntryPointId {
    EntryPointId(u16::try_from(position).unwrap_or(u16::MAX))
}

/// The position of the entry point of that name and protocol.
fn named(entry_points: &[EntryPointFacts], protocol: Protocol, name: &str) -> Option<usize> {
    entry_points.iter().position(|entry_point| {
        entry_point.protocol == protocol && entry_point.name.eq_ignore_ascii_case(name)
    })
}
