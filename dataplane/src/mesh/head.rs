//! What one node tells another about a stream, as header fields of their HTTP/2.
//!
//! The fields are ours alone: what a client sends under these names is removed where it enters ([`reserved`]), and what is
//! read here has come over a connection whose other end has shown a node's certificate.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// What all names begin with.
pub const PREFIX: &str = "constellation-";
/// The service that is to serve the stream, percent-encoded.
const SERVICE: HeaderName = HeaderName::from_static("constellation-service");
/// What a tunnel carries; a stream without it is a request.
const TUNNEL: HeaderName = HeaderName::from_static("constellation-tunnel");
/// The entry point that a relayed connection came in at, percent-encoded.
const ENTRY_POINT: HeaderName = HeaderName::from_static("constellation-entry-point");
/// The client's address and port.
const CLIENT: HeaderName = HeaderName::from_static("constellation-client");
/// Where the client connected to.
const LOCAL: HeaderName = HeaderName::from_static("constellation-local");
/// Milliseconds until nobody waits for a response any more.
const DEADLINE: HeaderName = HeaderName::from_static("constellation-deadline");
/// The client may know who serves it.
const TELL: HeaderName = HeaderName::from_static("constellation-tell");
/// Why a stream was not taken. Nothing was done for it.
const REFUSAL: HeaderName = HeaderName::from_static("constellation-refusal");
/// Longest name of a service or an entry point, bytes.
const MAX_NAME: usize = 1024;

/// What the fields of a stream say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamHead {
    /// What it is.
    pub kind: Kind,
    /// The client's address.
    pub client: SocketAddr,
    /// Where the client connected to.
    pub local: SocketAddr,
    /// How long somebody waits for a response; `None`: for as long as it takes.
    pub deadline: Option<Duration>,
    /// The client may know who serves it.
    pub tell: bool,
}

/// What a stream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request to the service.
    Request(Box<str>),
    /// HTTP/1.1 of one request, for what HTTP/2 can't carry: upgrades, and targets that are no text. The request names its
    /// service itself.
    Http,
    /// A connection to the TCP service.
    Tcp(Box<str>),
    /// Datagrams of one client to the UDP service.
    Udp(Box<str>),
    /// A connection that came in at an entry point.
    EntryPoint(Box<str>),
    /// No tunnel but a word: connections of entry points that come over the connection of this stream are to be ended as
    /// if the node that reads this was about to stop, since the other one is.
    Leaving,
}

/// Why a stream was not taken, so that another endpoint may have it, whatever it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The node has no instance of the service that could serve it.
    NoInstance,
    /// None of its instances could be reached.
    Unreachable,
    /// It has too much to do.
    Busy,
    /// Its fields can't be understood.
    Malformed,
}

impl Refusal {
    /// As the field writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoInstance => "no-local-instance",
            Self::Unreachable => "unreachable",
            Self::Busy => "busy",
            Self::Malformed => "malformed",
        }
    }

    /// What a response says; one that this version doesn't know is [`Refusal::Busy`], which blames nobody.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let word = headers.get(REFUSAL)?.as_bytes();
        let known = [Self::NoInstance, Self::Unreachable, Self::Busy, Self::Malformed];
        let same = |refusal: &Self| refusal.as_str().as_bytes() == word;
        Some(known.into_iter().find(same).unwrap_or(Self::Busy))
    }

    /// The field of a response.
    pub fn field(self) -> (HeaderName, HeaderValue) {
        (REFUSAL, HeaderValue::from_static(self.as_str()))
    }
}

/// What is wrong with the fields of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the field {0} is missing or can't be read")]
pub struct HeadError(pub &'static str);

impl StreamHead {
    /// Reads and checks the fields.
    pub fn read(headers: &HeaderMap) -> Result<Self, HeadError> {
        let name = |field: &HeaderName, what| decoded(headers.get(field)).ok_or(HeadError(what));
        let kind = match headers.get(TUNNEL).map(HeaderValue::as_bytes) {
            None => Kind::Request(name(&SERVICE, "constellation-service")?),
            Some(b"http") => Kind::Http,
            Some(b"tcp") => Kind::Tcp(name(&SERVICE, "constellation-service")?),
            Some(b"udp") => Kind::Udp(name(&SERVICE, "constellation-service")?),
            Some(b"entry-point") => Kind::EntryPoint(name(&ENTRY_POINT, "constellation-entry-point")?),
            Some(b"leaving") => Kind::Leaving,
            Some(_) => return Err(HeadError("constellation-tunnel")),
        };
        let deadline = match headers.get(DEADLINE) {
            None => None,
            Some(value) => {
                let millis: u32 = parsed(Some(value)).ok_or(HeadError("constellation-deadline"))?;
                Some(Duration::from_millis(millis.into()))
            }
        };
        Ok(Self {
            kind,
            client: parsed(headers.get(CLIENT)).ok_or(HeadError("constellation-client"))?,
            local: parsed(headers.get(LOCAL)).ok_or(HeadError("constellation-local"))?,
            deadline,
            tell: headers.contains_key(TELL),
        })
    }

    /// The fields, to be added to a head without any ([`reserved`]).
    pub fn write(&self, mut add: impl FnMut(HeaderName, HeaderValue)) {
        match &self.kind {
            Kind::Request(service) => add(SERVICE, encoded(service)),
            Kind::Http => add(TUNNEL, HeaderValue::from_static("http")),
            Kind::Tcp(service) => {
                add(TUNNEL, HeaderValue::from_static("tcp"));
                add(SERVICE, encoded(service));
            }
            Kind::Udp(service) => {
                add(TUNNEL, HeaderValue::from_static("udp"));
                add(SERVICE, encoded(service));
            }
            Kind::EntryPoint(name) => {
                add(TUNNEL, HeaderValue::from_static("entry-point"));
                add(ENTRY_POINT, encoded(name));
            }
            Kind::Leaving => add(TUNNEL, HeaderValue::from_static("leaving")),
        }
        for (field, address) in [(CLIENT, self.client), (LOCAL, self.local)] {
            add(field, text(&address.to_string()));
        }
        if let Some(deadline) = self.deadline {
            let millis = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
            add(DEADLINE, HeaderValue::from(millis));
        }
        if self.tell {
            add(TELL, HeaderValue::from_static("1"));
        }
    }
}

/// The names in a head that only nodes may use.
pub fn reserved(headers: &HeaderMap) -> impl Iterator<Item = &HeaderName> {
    headers.keys().filter(|name| name.as_str().starts_with(PREFIX))
}

/// Digits, dots, colons and brackets always make a header value.
fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn parsed<T: FromStr>(value: Option<&HeaderValue>) -> Option<T> {
    value?.to_str().ok()?.parse().ok()
}

/// A name as a field may carry it: what is not a visible character of ASCII is percent-encoded.
fn encoded(name: &str) -> HeaderValue {
    use std::fmt::Write as _;
    let mut written = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            written.push(char::from(byte));
        } else {
            // Writing to a string can't fail.
            let _ = write!(written, "%{byte:02x}");
        }
    }
    text(&written)
}

/// The name again; `None` when it is none, or too long.
fn decoded(value: Option<&HeaderValue>) -> Option<Box<str>> {
    let mut left = value?.as_bytes().iter();
    let mut name = Vec::new();
    while let Some(byte) = left.next() {
        if name.len() == MAX_NAME {
            return None;
        }
        let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
        name.push(match byte {
            b'%' => u8::try_from(digit(left.next())? * 16 + digit(left.next())?).ok()?,
            byte if byte.is_ascii_graphic() => *byte,
            _ => return None,
        });
    }
    let name = String::from_utf8(name).ok()?;
    (!name.is_empty()).then(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(head: &StreamHead) -> HeaderMap {
        let mut fields = HeaderMap::new();
        head.write(|name, value| {
            assert!(fields.insert(name, value).is_none(), "written twice");
        });
        fields
    }

    #[test]
    fn what_is_written_is_read() {
        let kinds = [
            Kind::Request("web@docker".into()),
            Kind::Http,
            Kind::Tcp("tcp/db ü 100%@file".into()),
            Kind::Udp("udp/dns@docker".into()),
            Kind::EntryPoint("websecure".into()),
            Kind::Leaving,
        ];
        for (number, kind) in kinds.into_iter().enumerate() {
            let head = StreamHead {
                kind,
                client: "[2001:db8::1]:4711".parse().unwrap(),
                local: "192.0.2.1:443".parse().unwrap(),
                deadline: (number > 1).then_some(Duration::from_millis(1500)),
                tell: number % 2 == 0,
            };
            assert_eq!(StreamHead::read(&fields(&head)), Ok(head));
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let good = StreamHead {
            kind: Kind::Request("web@docker".into()),
            client: "192.0.2.7:1".parse().unwrap(),
            local: "192.0.2.1:443".parse().unwrap(),
            deadline: None,
            tell: false,
        };
        let long = "x".repeat(MAX_NAME + 1);
        let cases = [
            ("constellation-service", ""),
            ("constellation-service", "a%zz"),
            ("constellation-service", "a%f"),
            ("constellation-service", "%ff"),
            ("constellation-service", &long),
            ("constellation-tunnel", "raw"),
            ("constellation-client", "192.0.2.7"),
            ("constellation-local", "here:80"),
            ("constellation-deadline", "-1"),
        ];
        for (name, value) in cases {
            let mut fields = fields(&good);
            fields.insert(name, value.parse().unwrap());
            assert_eq!(StreamHead::read(&fields), Err(HeadError(name)), "{value}");
        }
    }

    proptest::proptest! {
        /// Whatever is read is written so that it is read again.
        #[test]
        fn nothing_is_read_that_is_not_written_alike(
            service in "[ -~]{0,40}",
            tunnel in proptest::option::of("(http|tcp|udp|entry-point|leaving|[a-z]{0,4})"),
            client in "([0-9a-f.:\\[\\]]{0,30}|192\\.0\\.2\\.[0-9]{1,3}:[0-9]{1,5}|\\[::[0-9a-f]{0,4}\\]:[0-9]{1,5})",
            deadline in proptest::option::of("[0-9]{1,12}"),
        ) {
            let mut fields = HeaderMap::new();
            let mut put = |name: HeaderName, text: &str| {
                if let Ok(value) = HeaderValue::from_str(text) {
                    fields.insert(name, value);
                }
            };
            put(SERVICE, &service);
            put(ENTRY_POINT, &service);
            put(CLIENT, &client);
            put(LOCAL, "192.0.2.1:443");
            if let Some(tunnel) = &tunnel {
                put(TUNNEL, tunnel);
            }
            if let Some(deadline) = &deadline {
                put(DEADLINE, deadline);
            }
            if let Ok(head) = StreamHead::read(&fields) {
                let mut written = HeaderMap::new();
                head.write(|name, value| {
                    written.insert(name, value);
                });
                proptest::prop_assert_eq!(StreamHead::read(&written), Ok(head));
            }
        }
    }
}
