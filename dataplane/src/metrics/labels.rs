//! Label sets: every label is a name from the configuration or a value of an enum, so that no client can add series.

use std::fmt::Write as _;
use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

/// A label value that comes from configuration (router, service, endpoint, entry point).
///
/// Encodes with the escapes of the OpenMetrics text format: names come from container labels and may hold quotes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name(pub(super) Arc<str>);

impl Name {
    pub(super) fn new(name: &Arc<str>) -> Self {
        Self(Arc::clone(name))
    }
}

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        for character in self.0.chars() {
            match character {
                '\\' => encoder.write_str("\\\\")?,
                '"' => encoder.write_str("\\\"")?,
                '\n' => encoder.write_str("\\n")?,
                other => encoder.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// Declares an enum whose values are label values, with their text.
macro_rules! label_enum {
    ($(#[$meta:meta])* $visibility:vis enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $visibility enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The value as it stands in metrics and logs.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
                encoder.write_str(self.as_str())
            }
        }
    };
}

label_enum! {
    /// The request method, bounded: what is not listed is `other`.
    pub enum Method {
        /// GET
        Get = "GET",
        /// HEAD
        Head = "HEAD",
        /// POST
        Post = "POST",
        /// PUT
        Put = "PUT",
        /// PATCH
        Patch = "PATCH",
        /// DELETE
        Delete = "DELETE",
        /// OPTIONS
        Options = "OPTIONS",
        /// TRACE
        Trace = "TRACE",
        /// CONNECT
        Connect = "CONNECT",
        /// Any other token.
        Other = "other",
    }
}

impl From<&str> for Method {
    /// Methods are case-sensitive: `get` is another method than `GET`.
    fn from(method: &str) -> Self {
        Self::ALL
            .iter()
            .copied()
            .find(|known| known.as_str() == method)
            .unwrap_or(Self::Other)
    }
}

label_enum! {
    /// What is spoken with the client.
    pub enum Protocol {
        /// HTTP/1.0 and HTTP/1.1.
        Http1 = "http/1",
        /// HTTP/2, with or without TLS.
        Http2 = "http/2",
        /// A WebSocket or another upgrade, from the 101 to its end.
        Upgrade = "upgrade",
    }
}

label_enum! {
    /// Why a connection or request was refused before any router saw it.
    pub enum Refusal {
        /// More connections than the entry point admits.
        TooManyConnections = "too_many_connections",
        /// The peer is on the deny list, and the kernel did not see to it.
        Denied = "denied",
        /// This node is not the one to answer, and the kernel did not see to it.
        NoLease = "no_lease",
        /// More connections than one source may have.
        TooManyFromSource = "too_many_from_source",
        /// The request line and headers did not arrive in time (408).
        HeaderTimeout = "header_timeout",
        /// The body paused for too long (408).
        BodyTimeout = "body_timeout",
        /// The body came too slowly (408).
        SlowBody = "slow_body",
        /// The client takes its response too slowly.
        SlowReader = "slow_reader",
        /// More HTTP/2 streams than were offered.
        H2Streams = "h2_streams",
        /// Streams reset, by either side, faster than requests end.
        H2Resets = "h2_resets",
        /// Too many PING frames.
        H2Pings = "h2_pings",
        /// Too many SETTINGS frames.
        H2Settings = "h2_settings",
        /// Too many PRIORITY or PRIORITY_UPDATE frames.
        H2Priority = "h2_priority",
        /// More WINDOW_UPDATE frames than data was sent.
        H2WindowUpdates = "h2_window_updates",
        /// A header section in too many pieces, or too large.
        H2Headers = "h2_headers",
        /// Too many DATA frames without data.
        H2EmptyData = "h2_empty_data",
        /// HTTP/2 that breaks the rules, or too much of what the HTTP/2 library counts by itself.
        H2Error = "h2_error",
        /// Too many frames of unknown types.
        H2Unknown = "h2_unknown",
        /// The request line and headers are too long (431).
        HeaderTooLarge = "header_too_large",
        /// Too many header lines (431).
        TooManyHeaders = "too_many_headers",
        /// The request target is too long (414).
        UriTooLong = "uri_too_long",
        /// The body is longer than the limit (413).
        BodyTooLarge = "body_too_large",
        /// The request line or a header is not HTTP (400).
        Malformed = "malformed",
        /// No host, two hosts, or one that can't be a host (400).
        Host = "host",
        /// The path can't be normalised (400).
        Path = "path",
        /// Lengths that contradict each other, or bad chunks (400).
        Framing = "framing",
        /// A method that is not served, such as CONNECT.
        Method = "method",
        /// A transfer coding or an expectation that is not known.
        Unsupported = "unsupported",
        /// A protocol version that is not served (505).
        Version = "version",
        /// The host belongs to other TLS options than the connection (421).
        Misdirected = "misdirected",
        /// The PROXY protocol header is missing, malformed or from a peer that is not trusted.
        ProxyProtocol = "proxy_protocol",
        /// A ClientHello that can't be read, where its name would choose between routers.
        ClientHello = "client_hello",
    }
}

label_enum! {
    /// How an attempt to reach an endpoint failed.
    pub enum EndpointFailure {
        /// No TCP connection (refused, unreachable, name not found).
        Connect = "connect",
        /// No TCP connection in time.
        ConnectTimeout = "connect_timeout",
        /// The TLS handshake failed, or the certificate is not trusted.
        Tls = "tls",
        /// The connection ended before the response did.
        Closed = "closed",
        /// No response headers in time, or a pause that was too long.
        Timeout = "timeout",
        /// The response is not HTTP.
        Protocol = "protocol",
        /// A response status that counts as a failure.
        Status = "status",
        /// It left requests unanswered while its siblings answered.
        Unanswered = "unanswered",
        /// It refused the stream before it looked at the request (HTTP/2 GOAWAY, REFUSED_STREAM).
        NotProcessed = "not_processed",
        /// It left the configuration, or began to stop, before the connection was made.
        Departed = "departed",
    }
}

label_enum! {
    /// How a request that needed more than one attempt ended.
    pub enum RetryOutcome {
        /// A later attempt gave the client a good answer.
        Saved = "saved",
        /// No attempt did.
        Failed = "failed",
    }
}

label_enum! {
    /// Why a failed attempt was not followed by another one.
    pub enum GaveUp {
        /// Repeating the request might have done it twice.
        Unrepeatable = "unrepeatable",
        /// Its body could not be sent again in full.
        Body = "body",
        /// A part of the answer had reached the client.
        Answered = "answered",
        /// No candidate was left.
        Candidates = "candidates",
        /// The policy's number of attempts was used up.
        Attempts = "attempts",
        /// The policy's time for all attempts was over.
        Deadline = "deadline",
        /// The retry budget was spent.
        Budget = "budget",
    }
}

label_enum! {
    /// What became of a second attempt that was started while the first one still ran.
    pub enum HedgeOutcome {
        /// It answered first.
        Won = "won",
        /// The first attempt answered first after all, or both failed.
        Lost = "lost",
        /// It was not started: the budget was spent.
        Denied = "denied",
    }
}

label_enum! {
    /// Why a request that had to wait for a place in its service was sent away.
    pub enum QueueRefusal {
        /// As many were waiting already as the policy allows.
        Full = "full",
        /// No place became free in the policy's time.
        Timeout = "timeout",
    }
}

label_enum! {
    /// How an active health check ended.
    pub enum CheckOutcome {
        /// The answer was the wanted one.
        Healthy = "healthy",
        /// Another status, of HTTP or gRPC, or another answer to what a TCP check says.
        Status = "status",
        /// The endpoint's name has no address.
        Name = "name",
        /// No TCP connection.
        Connect = "connect",
        /// No connection in time.
        ConnectTimeout = "connect_timeout",
        /// The TLS handshake failed, or the certificate is not trusted.
        Tls = "tls",
        /// The connection ended before the answer did.
        Closed = "closed",
        /// No answer in time.
        Timeout = "timeout",
        /// The answer breaks the protocol or its limits.
        Protocol = "protocol",
        /// The check can't be made as it is configured.
        Settings = "settings",
    }
}

label_enum! {
    /// How the connection of a TCP router ended.
    pub enum StreamEnd {
        /// Both sides ended it.
        Complete = "complete",
        /// The client broke it.
        ClientReset = "client_reset",
        /// The back end broke it.
        ServerReset = "server_reset",
        /// No byte came for too long.
        Idle = "idle",
        /// One direction outlived the other one for too long.
        HalfOpen = "half_open",
        /// The endpoint has left, and the time after that was over.
        Departed = "departed",
        /// The node stopped, and the time to drain was over.
        Cut = "cut",
        /// The router's list of addresses does not name the client's.
        NotAllowed = "not_allowed",
        /// The client's address had as many connections as it may.
        InFlight = "in_flight",
        /// The service had as many connections as it admits.
        ServiceFull = "service_full",
        /// The TLS handshake with the client failed.
        Handshake = "handshake",
        /// No endpoint could be tried.
        Unavailable = "unavailable",
        /// No endpoint could be reached.
        Unreachable = "unreachable",
        /// The client left before there was a connection to a back end.
        ClientLeft = "client_left",
    }
}

impl StreamEnd {
    /// No back end has served it.
    pub fn is_unserved(self) -> bool {
        matches!(self, Self::Unavailable | Self::Unreachable | Self::ServiceFull)
    }
}

label_enum! {
    /// A side of a connection.
    pub enum StreamSide {
        /// The client's.
        Client = "client",
        /// The back end's.
        Server = "server",
    }
}

label_enum! {
    /// The TLS version of a handshake.
    pub enum TlsVersion {
        /// TLS 1.2
        V12 = "1.2",
        /// TLS 1.3
        V13 = "1.3",
        /// The handshake ended before a version was agreed on.
        None = "none",
    }
}

label_enum! {
    /// How a TLS handshake ended.
    pub enum HandshakeOutcome {
        /// Full handshake.
        Full = "full",
        /// Resumed from a ticket.
        Resumed = "resumed",
        /// Strict SNI, and no certificate for the name.
        UnknownName = "unknown_name",
        /// The options of the name can't be used.
        Options = "options",
        /// No common version, cipher suite, group or application protocol.
        NoOverlap = "no_overlap",
        /// The client's certificate is missing or not trusted.
        ClientCertificate = "client_certificate",
        /// The client refused our certificate or gave up with an alert.
        ClientAlert = "client_alert",
        /// Not TLS, or TLS that breaks the rules.
        Malformed = "malformed",
        /// The time limit passed.
        Timeout = "timeout",
        /// The connection ended.
        Closed = "closed",
    }
}

label_enum! {
    /// Which node made a connection between nodes.
    pub enum MeshDirection {
        /// Another one.
        In = "in",
        /// This one.
        Out = "out",
    }
}

label_enum! {
    /// What became of a connection between nodes.
    pub enum MeshConnectionOutcome {
        /// It was made.
        Made = "made",
        /// There was no TCP connection.
        Connect = "connect",
        /// There was no TLS, or not the protocol of nodes in it.
        Tls = "tls",
        /// The certificate is of nobody who belongs here.
        Stranger = "stranger",
    }
}

label_enum! {
    /// What a stream between nodes carries.
    pub enum MeshKind {
        /// A request.
        Request = "request",
        /// A request that HTTP/2 can't carry.
        Http = "http",
        /// A connection of a TCP service.
        Tcp = "tcp",
        /// Datagrams of a UDP service.
        Udp = "udp",
        /// A connection of an entry point.
        EntryPoint = "entry-point",
        /// The word that a node is about to stop.
        Leaving = "leaving",
    }
}

label_enum! {
    /// What became of a stream between nodes.
    pub enum MeshOutcome {
        /// It was taken.
        Taken = "taken",
        /// The node has no instance that could serve it.
        NoInstance = "no-local-instance",
        /// None of its instances could be reached.
        Unreachable = "unreachable",
        /// It had too much to do.
        Busy = "busy",
        /// It could not be understood.
        Malformed = "malformed",
        /// The connection under it broke, or was about to close.
        Broken = "broken",
    }
}

label_enum! {
    /// How the session of a UDP router ended.
    pub enum SessionEnd {
        /// Nothing came from either side for the time-out.
        Idle = "idle",
        /// It gave its place to another one before its back end had replied.
        EvictedUnanswered = "evicted_unanswered",
        /// It gave its place to another one.
        Evicted = "evicted",
        /// No endpoint could be reached.
        Unreachable = "unreachable",
        /// Its endpoint has left, and the time after that was over.
        Departed = "departed",
        /// The node stopped, and the time to drain was over.
        Cut = "cut",
    }
}

label_enum! {
    /// Why a datagram went nowhere.
    pub enum DatagramDrop {
        /// The entry point has no router.
        NoRoute = "no_route",
        /// No endpoint can serve.
        Unavailable = "unavailable",
        /// It says that it comes from the entry point itself, or from no port.
        Forged = "forged",
        /// The client's address is on the deny list, and the kernel did not see to it.
        Denied = "denied",
        /// This node is not the one to answer, and the kernel did not see to it.
        NoLease = "no_lease",
        /// The client's address has as many sessions as it may.
        Source = "source",
        /// More sessions began than may in that time.
        Rate = "rate",
        /// There was no descriptor, port or memory for another session.
        Shortage = "shortage",
        /// The node is draining, and this would have been a new session.
        Draining = "draining",
        /// It was longer than there was room for.
        Truncated = "truncated",
        /// The back end refused it, and nobody else could be asked.
        Refused = "refused",
        /// It waited for the address of a back end, with more than is kept.
        Waiting = "waiting",
        /// The kernel had no room to send it.
        Full = "full",
        /// The kernel did not send it for another reason: too long for the way, no way, a filter.
        Unsent = "unsent",
    }
}

/// The response status, bounded: registered codes stand for themselves, others for their class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Code(u16);

impl Code {
    pub(super) fn new(status: u16) -> Self {
        let registered =
            http::StatusCode::from_u16(status).is_ok_and(|code| code.canonical_reason().is_some());
        if registered {
            Self(status)
        } else {
            Self(status / 100)
        }
    }
}

impl EncodeLabelValue for Code {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        match self.0 {
            class @ 1..=9 => write!(encoder, "{class}xx"),
            0 => encoder.write_str("none"),
            code => write!(encoder, "{code}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) entry_point: Name,
    pub(super) router: Name,
    pub(super) service: Name,
    pub(super) method: Method,
    pub(super) code: Code,
    pub(super) protocol: Protocol,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TrafficLabels {
    pub(super) entry_point: Name,
    pub(super) service: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StreamLabels {
    pub(super) entry_point: Name,
    pub(super) router: Name,
    pub(super) service: Name,
    pub(super) outcome: StreamEnd,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StreamSideLabels {
    pub(super) entry_point: Name,
    pub(super) service: Name,
    pub(super) by: StreamSide,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct EntryPointLabels {
    pub(super) entry_point: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RefusalLabels {
    pub(super) entry_point: Name,
    pub(super) reason: Refusal,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct HandshakeLabels {
    pub(super) entry_point: Name,
    pub(super) version: TlsVersion,
    pub(super) outcome: HandshakeOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct EndpointLabels {
    pub(super) service: Name,
    pub(super) endpoint: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct HealthCheckLabels {
    pub(super) service: Name,
    pub(super) endpoint: Name,
    pub(super) outcome: CheckOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct EndpointFailureLabels {
    pub(super) service: Name,
    pub(super) endpoint: Name,
    pub(super) reason: EndpointFailure,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ServiceLabels {
    pub(super) service: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TransitionLabels {
    pub(super) service: Name,
    pub(super) endpoint: Name,
    pub(super) fact: &'static str,
    pub(super) to: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReasonLabels {
    pub(super) service: Name,
    /// Of an enum.
    pub(super) reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabels {
    pub(super) service: Name,
    /// Of an enum.
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SessionLabels {
    pub(super) entry_point: Name,
    pub(super) router: Name,
    pub(super) service: Name,
    pub(super) reason: SessionEnd,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DatagramDropLabels {
    pub(super) entry_point: Name,
    pub(super) reason: DatagramDrop,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_case_sensitive_and_bounded() {
        assert_eq!(Method::from("GET"), Method::Get);
        assert_eq!(Method::from("get"), Method::Other);
        assert_eq!(Method::from("PROPFIND"), Method::Other);
    }

    #[test]
    fn codes_that_are_not_registered_count_by_class() {
        for (status, expected) in [
            (200, Code(200)),
            (503, Code(503)),
            (299, Code(2)),
            (599, Code(5)),
            (0, Code(0)),
        ] {
            assert_eq!(Code::new(status), expected, "{status}");
        }
    }
}
