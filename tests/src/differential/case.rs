//! A case: a piece of dynamic configuration with its own entry points, and the requests that are sent to it.
//!
//! Nothing of a case can be reached through the entry points of another one, so many cases are served at once, and any
//! rule may stand in any of them.

use std::fmt;
use std::net::Ipv4Addr;

use serde_json::{Map, Value, json};

/// Cases that are served at once: each has a place of its own, which has two entry points.
pub(super) const PLACES: u64 = 64;

/// The network that containers are on.
pub(super) const NETWORK: &str = "edge";

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Case {
    /// Which one of its seed.
    pub(super) number: u64,
    /// `http` of a file: sections with objects.
    pub(super) http: Map<String, Value>,
    /// What it is about, for the report.
    pub(super) subject: String,
    /// What the Docker engine has.
    pub(super) containers: Vec<Container>,
    /// Sent in this order.
    pub(super) requests: Vec<Request>,
    /// Which back ends get them.
    pub(super) expect: Expect,
}

/// What is known of the back ends that get the requests of a case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Expect {
    /// The same ones at both proxies, request by request.
    #[default]
    Same,
    /// The same number of requests for each, over all requests.
    Shares,
    /// One of them, by a hash that is each proxy's own.
    Somebody,
    /// The same ones, so many of which get a copy some time after the answer.
    Copies(usize),
}

/// A container.
#[derive(Clone, Debug)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) labels: Vec<(String, String)>,
    /// Ports such as `8080/tcp`.
    pub(super) exposed: Vec<String>,
    pub(super) address: Ipv4Addr,
}

/// A request.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    /// Which of the two entry points.
    pub(super) entry: u8,
    /// The server name of the ClientHello, empty for none; no TLS at all without it.
    pub(super) tls: Option<String>,
    /// Which of the two addresses it comes from.
    pub(super) client: u8,
    pub(super) method: String,
    pub(super) target: String,
    pub(super) version: &'static str,
    /// With `Host`, which is not always there.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Body,
}

/// The body of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Body {
    /// None, and no header says so.
    #[default]
    None,
    /// With `Content-Length`.
    Sized(String),
    /// In two chunks.
    Chunked(String),
}

impl Case {
    /// The place where it is served.
    pub(super) fn place(&self) -> u64 {
        self.number % PLACES
    }

    /// The objects in a section of the file.
    pub(super) fn section(&mut self, name: &str) -> &mut Map<String, Value> {
        let section = self.http.entry(name).or_insert_with(|| json!({}));
        section.as_object_mut().expect("sections are objects")
    }
}

/// The name of one of the entry points of a place.
pub(super) fn entry_point(place: u64, which: u8) -> String {
    format!("{}{place}", if which == 0 { 'a' } else { 'b' })
}

impl Container {
    /// What the engine says of it.
    pub(super) fn inspection(&self) -> Value {
        let labels: Map<String, Value> = self
            .labels
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        let ports = |value: Value| -> Map<String, Value> {
            let exposed = self.exposed.iter();
            exposed.map(|port| (port.clone(), value.clone())).collect()
        };
        json!({
            "Id": format!("id-{}", self.name),
            "Created": "2026-01-01T00:00:00Z",
            "Name": format!("/{}", self.name),
            "State": { "Status": "running", "Running": true, "StartedAt": "2026-01-01T00:00:01Z" },
            "Config": { "Labels": labels, "ExposedPorts": ports(json!({})) },
            "HostConfig": { "NetworkMode": NETWORK },
            "NetworkSettings": {
                "Ports": ports(Value::Null),
                "Networks": { NETWORK: { "IPAddress": self.address.to_string() } },
            },
        })
    }
}

impl Request {
    /// The first value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        let found = all.find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Its bytes, with headers that the harness adds.
    pub(super) fn bytes(&self, added: &[(&str, &str)]) -> Vec<u8> {
        let mut out = format!("{} {} {}\r\n", self.method, self.target, self.version);
        let own = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in own.chain(added.iter().copied()) {
            out += &format!("{name}: {value}\r\n");
        }
        match &self.body {
            Body::None => out += "\r\n",
            Body::Sized(body) => out += &format!("Content-Length: {}\r\n\r\n{body}", body.len()),
            Body::Chunked(body) => {
                out += "Transfer-Encoding: chunked\r\n\r\n";
                let (first, second) = body.split_at(body.len() / 2);
                for part in [first, second].into_iter().filter(|part| !part.is_empty()) {
                    out += &format!("{:x}\r\n{part}\r\n", part.len());
                }
                out += "0\r\n\r\n";
            }
        }
        out.into_bytes()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.http.is_empty() {
            let text = serde_json::to_string_pretty(&self.http).map_err(|_| fmt::Error)?;
            writeln!(f, "file, http: {text}")?;
        }
        for container in &self.containers {
            writeln!(
                f,
                "container {} at {}, exposes {:?}",
                container.name, container.address, container.exposed
            )?;
            for (name, value) in &container.labels {
                writeln!(f, "    {name}={value}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = match self.tls.as_deref() {
            None => String::new(),
            Some("") => ", TLS without a server name".to_owned(),
            Some(name) => format!(", TLS for {name}"),
        };
        writeln!(
            f,
            "request to entry point {}, from client {}{tls}:",
            if self.entry == 0 { 'a' } else { 'b' },
            self.client
        )?;
        let bytes = self.bytes(&[]);
        for line in String::from_utf8_lossy(&bytes).split_inclusive("\r\n") {
            writeln!(f, "    {}", line.escape_debug())?;
        }
        Ok(())
    }
}
