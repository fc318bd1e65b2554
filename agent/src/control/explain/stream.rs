//! Questions about connections and datagrams.

use std::net::IpAddr;
use std::time::Instant;

use axum::extract::Query;
use constellation_config::Protocol;
use constellation_dataplane::l4::hello;
use constellation_table::{
    ConnectionMeta, EntryPointId, Snapshot, StreamExplanation, Turn, explain_tcp, explain_udp,
};
use http::Uri;

use super::{EntryPointFacts, Question, QuestionError, id, named};

/// What the ClientHello of a connection asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Hello {
    /// As rules know it; empty when there is none.
    server_name: Box<str>,
    alpn: Vec<String>,
}

impl Question {
    pub(super) fn ask_stream(
        &self,
        table: &Snapshot,
        entry_points: &[EntryPointFacts],
        uri: &Uri,
        scheme: &str,
    ) -> Result<StreamExplanation, QuestionError> {
        if self.method.is_some() {
            return Err(QuestionError::NotOfStreams("method"));
        }
        if !self.headers.is_empty() {
            return Err(QuestionError::NotOfStreams("header"));
        }
        if !matches!(uri.path(), "" | "/") {
            return Err(QuestionError::NotOfStreams("path"));
        }
        let client = self.client()?;
        let hello = Hello::of(uri, scheme)?;
        if scheme == "udp" {
            let entry_point = self.listener(entry_points, uri, Protocol::Udp)?;
            return Ok(explain_udp(table, entry_point, client, Instant::now()));
        }
        let (server_name, alpn) = match &hello {
            Some(hello) => (&*hello.server_name, &*hello.alpn),
            None => ("", &[][..]),
        };
        let alpn: Vec<&[u8]> = alpn.iter().map(String::as_bytes).collect();
        let connection = ConnectionMeta {
            entry_point: self.listener(entry_points, uri, Protocol::Tcp)?,
            tls: hello.is_some(),
            server_name,
            alpn: &alpn,
            client,
            now: Instant::now(),
            turn: Turn::Look,
        };
        Ok(explain_tcp(table, &connection))
    }

    /// The entry point asked for; else the one that listens on the host and port of the URL.
    fn listener(
        &self,
        entry_points: &[EntryPointFacts],
        uri: &Uri,
        protocol: Protocol,
    ) -> Result<EntryPointId, QuestionError> {
        if let Some(name) = &self.entry_point {
            return named(entry_points, protocol, name)
                .map(id)
                .ok_or_else(|| QuestionError::no_entry_point(name, protocol, entry_points));
        }
        let authority = uri
            .authority()
            .ok_or_else(|| QuestionError::Url(self.url.clone()))?;
        let port = authority
            .port_u16()
            .filter(|port| *port > 0)
            .ok_or_else(|| QuestionError::NoPort(self.url.clone()))?;
        let ip = literal(authority.host());
        // Of several the one that listens on this very address, else those that listen on any.
        let fit = |entry_point: &EntryPointFacts| {
            if entry_point.protocol != protocol {
                return None;
            }
            let listening = entry_point.addresses.iter();
            let on_port = listening.filter(|address| address.port() == port);
            on_port
                .filter_map(|address| match ip {
                    Some(ip) if address.ip().to_canonical() == ip.to_canonical() => Some(0),
                    Some(_) if !address.ip().is_unspecified() => None,
                    _ => Some(1),
                })
                .min()
        };
        let fits: Vec<(usize, usize)> = entry_points
            .iter()
            .enumerate()
            .filter_map(|(position, entry_point)| Some((fit(entry_point)?, position)))
            .collect();
        let best = fits.iter().map(|(fit, _)| *fit).min();
        let best: Vec<usize> = fits
            .iter()
            .filter(|(fit, _)| Some(*fit) == best)
            .map(|(_, position)| *position)
            .collect();
        match *best {
            [position] => Ok(id(position)),
            [] => Err(QuestionError::NothingListens {
                protocol,
                at: authority.to_string(),
                known: shown(entry_points.iter().filter(|known| known.protocol == protocol)),
            }),
            _ => Err(QuestionError::SeveralListen {
                port,
                known: shown(best.iter().filter_map(|position| entry_points.get(*position))),
            }),
        }
    }
}

impl Hello {
    /// What the URL says of it; `None`: the connection begins without one.
    fn of(uri: &Uri, scheme: &str) -> Result<Option<Self>, QuestionError> {
        let parameters = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| QuestionError::Url(uri.to_string()))?;
        let (mut server_name, mut alpn) = (None, Vec::new());
        for (name, value) in parameters.0 {
            match name.as_str() {
                "sni" | "alpn" if scheme == "udp" => return Err(QuestionError::NotOfDatagrams(name)),
                "sni" => server_name = Some(asked_for(&value)?),
                "alpn" => {
                    for protocol in value.split(',') {
                        if !(1..=255).contains(&protocol.len()) {
                            return Err(QuestionError::Alpn(protocol.to_owned()));
                        }
                        alpn.push(protocol.to_owned());
                    }
                }
                _ => return Err(QuestionError::StreamParameter(name)),
            }
        }
        if scheme == "tcp" && server_name.is_none() && alpn.is_empty() {
            return Ok(None);
        }
        let server_name = match (server_name, uri.host()) {
            (Some(server_name), _) => server_name,
            (None, Some(host)) if scheme == "tls" && literal(host).is_none() => asked_for(host)?,
            (None, _) => Box::default(),
        };
        Ok(Some(Self { server_name, alpn }))
    }
}

/// A name as the ClientHello that asks for it is understood.
fn asked_for(name: &str) -> Result<Box<str>, QuestionError> {
    if name.is_empty() {
        return Ok(Box::default());
    }
    let refused = |why: String| QuestionError::ServerName {
        name: name.to_owned(),
        why,
    };
    hello::host_name(name.as_bytes())
        .map_err(|fault| refused(fault.to_string()))?
        .ok_or_else(|| refused("clients send no server name for an address".to_owned()))
}

/// The address that a URL's host is.
fn literal(host: &str) -> Option<IpAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    bare.parse().ok()
}

/// Names with their addresses.
fn shown<'e>(entry_points: impl Iterator<Item = &'e EntryPointFacts>) -> String {
    let one = |entry_point: &EntryPointFacts| {
        let addresses: Vec<String> = entry_point.addresses.iter().map(ToString::to_string).collect();
        format!("{} ({})", entry_point.name, addresses.join(", "))
    };
    let all: Vec<String> = entry_points.map(one).collect();
    match all.is_empty() {
        true => "none".to_owned(),
        false => all.join(", "),
    }
}
