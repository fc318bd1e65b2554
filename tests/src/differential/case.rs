//! A case: a piece of dynamic configuration with its own entry points, and the requests that are sent to it.
//!
//! Nothing of a case can be reached through the entry points of another one, so many cases are served at once, and any
//! rule may stand in any of them.

use std::fmt;
use std::net::Ipv4Addr;

use bytes::Bytes;
use http_body_util::Full;
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
    /// `tls.certificates` of a file, with words of [`Pki`](super::pki::Pki).
    pub(super) certificates: Vec<Value>,
    /// `tls.options` of a file, with such words.
    pub(super) options: Map<String, Value>,
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

/// What both proxies are started with, for all cases of a batch.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Setting {
    /// Options of `providers.docker`.
    pub(super) docker: Map<String, Value>,
    /// `tls.options.default` of a file.
    pub(super) options: Option<Value>,
    /// `tls.stores.default.defaultCertificate` of a file.
    pub(super) certificate: Option<Value>,
}

impl Default for Setting {
    fn default() -> Self {
        let mut docker = Map::new();
        // The defaults differ.
        docker.insert("exposedByDefault".into(), json!(false));
        Self {
            docker,
            options: None,
            certificate: None,
        }
    }
}

/// A container.
#[derive(Clone, Debug)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) labels: Vec<(String, String)>,
    /// Ports such as `8080/tcp`.
    pub(super) exposed: Vec<String>,
    /// In [`NETWORK`].
    pub(super) address: Ipv4Addr,
    /// Whose network it uses.
    pub(super) attached: Attached,
    /// Ports with what they are on the host: an address and a port.
    pub(super) bound: Vec<(String, String, u16)>,
    /// `running` and the like.
    pub(super) status: &'static str,
    /// What its health check says, where it has one.
    pub(super) health: Option<&'static str>,
}

/// Whose network a container uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Attached {
    /// Its own, in [`NETWORK`].
    #[default]
    Usual,
    /// Its own, in all of these.
    Networks(Vec<(String, Ipv4Addr)>),
    /// The host's.
    Host,
    /// That of the container of this name.
    Container(String),
}

impl Default for Container {
    fn default() -> Self {
        Self {
            name: String::new(),
            labels: Vec::new(),
            exposed: Vec::new(),
            address: Ipv4Addr::UNSPECIFIED,
            attached: Attached::Usual,
            bound: Vec::new(),
            status: "running",
            health: None,
        }
    }
}

/// A request.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    /// Which of the two entry points; 2 and 3: of the default ones.
    pub(super) entry: u8,
    /// How TLS begins; none at all without it.
    pub(super) tls: Option<Hello>,
    /// In HTTP/2 without TLS and without asking. With TLS the two agree on a protocol.
    pub(super) prior: bool,
    /// Which of the two addresses it comes from.
    pub(super) client: u8,
    pub(super) method: String,
    pub(super) target: String,
    pub(super) version: &'static str,
    /// With `Host`, which is not always there.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Body,
}

/// What a client says at the beginning of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Hello {
    /// The server name, empty for none.
    pub(super) name: String,
    /// Application protocols; none: the extension is not sent.
    pub(super) protocols: Vec<&'static str>,
    /// The only version, of both that there are.
    pub(super) version: Option<Version>,
    /// The only cipher suite.
    pub(super) suite: Option<&'static str>,
    pub(super) presented: Presented,
}

/// Versions of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Version {
    /// 1.2.
    Two,
    /// 1.3.
    Three,
}

/// Certificates of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Presented {
    /// None.
    #[default]
    Nothing,
    /// Of the authority that configurations trust.
    Trusted,
    /// Of another one that some do.
    Other,
    /// Of one that none does.
    Stranger,
    /// No longer valid.
    Expired,
    /// For servers only.
    ServerOnly,
}

impl Hello {
    /// The usual one for a server of this name.
    pub(super) fn named(name: String) -> Self {
        Self {
            name,
            protocols: vec!["http/1.1"],
            ..Self::default()
        }
    }
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
    /// Whether Traefik would use it.
    pub(super) fn is_ready(&self) -> bool {
        self.status == "running" && self.health.is_none_or(|health| health == "healthy")
    }

    /// What the engine says of it.
    pub(super) fn inspection(&self) -> Value {
        let labels: Map<String, Value> = self
            .labels
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        let exposed: Map<String, Value> = self
            .exposed
            .iter()
            .map(|port| (port.clone(), json!({})))
            .collect();
        let running = self.status == "running";
        let alive = ["running", "paused", "restarting"].contains(&self.status);
        let mut state = json!({
            "Status": self.status,
            "Running": alive,
            "StartedAt": "2026-01-01T00:00:01Z",
        });
        if let Some(health) = self.health {
            state["Health"] = json!({ "Status": health });
        }
        let (mode, networks) = match &self.attached {
            Attached::Usual => (NETWORK.to_owned(), vec![(NETWORK, Some(self.address))]),
            Attached::Networks(all) => {
                let mode = all.first().map(|(name, _)| name.clone()).unwrap_or_default();
                let all = all.iter().map(|(name, address)| (name.as_str(), Some(*address)));
                (mode, all.collect())
            }
            Attached::Host => ("host".to_owned(), vec![("host", None)]),
            Attached::Container(name) => (format!("container:{name}"), Vec::new()),
        };
        // The engine takes the addresses of what has stopped.
        let address = |address: Option<Ipv4Addr>| {
            let address = address.filter(|_| alive);
            json!({ "IPAddress": address.map(|address| address.to_string()).unwrap_or_default() })
        };
        let networks: Map<String, Value> = networks
            .into_iter()
            .map(|(name, at)| (name.to_owned(), address(at)))
            .collect();
        let own = matches!(self.attached, Attached::Usual | Attached::Networks(_));
        json!({
            "Id": format!("id-{}", self.name),
            "Created": "2026-01-01T00:00:00Z",
            "Name": format!("/{}", self.name),
            "State": state,
            "Config": { "Labels": labels, "ExposedPorts": exposed },
            "HostConfig": { "NetworkMode": mode },
            "NetworkSettings": {
                "Ports": if running && own { self.published() } else { Map::new() },
                "Networks": networks,
            },
        })
    }

    /// Its ports with what they are on the host.
    fn published(&self) -> Map<String, Value> {
        let on_host = |port: &String| -> Value {
            let bound = self.bound.iter().filter(|(bound, ..)| bound == port);
            let bound: Vec<Value> = bound
                .map(|(_, address, port)| json!({ "HostIp": address, "HostPort": port.to_string() }))
                .collect();
            if bound.is_empty() {
                Value::Null
            } else {
                json!(bound)
            }
        };
        self.exposed
            .iter()
            .map(|port| (port.clone(), on_host(port)))
            .collect()
    }
}

impl Request {
    /// The first value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        let found = all.find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The same in HTTP/2, where it can be said there.
    pub(super) fn in_two(&self, added: &[(&str, &str)]) -> Option<http::Request<Full<Bytes>>> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let host = self.header("host")?;
        let mut builder = http::Request::builder()
            .version(http::Version::HTTP_2)
            .method(self.method.as_str())
            .uri(format!("{scheme}://{host}{}", self.target));
        let own = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in own.chain(added.iter().copied()) {
            if !name.eq_ignore_ascii_case("host") {
                builder = builder.header(name, value);
            }
        }
        let (body, length) = match &self.body {
            Body::None => (String::new(), None),
            Body::Sized(body) => (body.clone(), Some(body.len())),
            Body::Chunked(body) => (body.clone(), None),
        };
        if let Some(length) = length {
            builder = builder.header("content-length", length);
        }
        builder.body(Full::new(body.into())).ok()
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

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "providers.docker: {}", json!(self.docker))?;
        if let Some(options) = &self.options {
            writeln!(f, "tls.options.default: {options}")?;
        }
        if let Some(certificate) = &self.certificate {
            writeln!(f, "tls.stores.default.defaultCertificate: {certificate}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.http.is_empty() {
            let text = serde_json::to_string_pretty(&self.http).map_err(|_| fmt::Error)?;
            writeln!(f, "file, http: {text}")?;
        }
        for certificate in &self.certificates {
            writeln!(f, "file, a certificate: {certificate}")?;
        }
        for (name, options) in &self.options {
            writeln!(f, "file, options {name}: {options}")?;
        }
        for container in &self.containers {
            writeln!(
                f,
                "container {} at {}, exposes {:?}, {}{}",
                container.name,
                container.address,
                container.exposed,
                container.status,
                container
                    .health
                    .map(|health| format!(", {health}"))
                    .unwrap_or_default()
            )?;
            if container.attached != Attached::Usual {
                writeln!(f, "    attached to: {:?}", container.attached)?;
            }
            if !container.bound.is_empty() {
                writeln!(f, "    bound on the host: {:?}", container.bound)?;
            }
            for (name, value) in &container.labels {
                writeln!(f, "    {name}={value}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = match &self.tls {
            None if self.prior => ", HTTP/2 without TLS".to_owned(),
            None => String::new(),
            Some(hello) => format!(", {hello:?}"),
        };
        writeln!(
            f,
            "request to entry point {}, from client {}{tls}:",
            ["a", "b", "a0", "b0"][usize::from(self.entry)],
            self.client
        )?;
        let bytes = self.bytes(&[]);
        for line in String::from_utf8_lossy(&bytes).split_inclusive("\r\n") {
            writeln!(f, "    {}", line.escape_debug())?;
        }
        Ok(())
    }
}
