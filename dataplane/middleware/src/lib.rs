//! HTTP middlewares: what a router does with a request before its service gets it, and with the response on its way back.
//!
//! Everything is compiled once, when the configuration is read; a request costs what its middlewares do and nothing for
//! those of others. A [`Middleware`] is one named object of the configuration, its [`Kind`] the compiled options with
//! whatever state they need. A [`Chain`] is the list that one router runs, first to last for requests and last to first
//! for responses, as an onion.
//!
//! The kinds know no socket and no runtime: [`Middleware::enter`] looks at the head of a request and says by a [`Flow`]
//! what follows. What needs the network or a body is asked of the data plane ([`Flow::Ask`]); what has to wait for the
//! response is a [`Later`].

mod add_prefix;
mod address;
mod answer;
mod basic_auth;
mod buffering;
mod chain;
mod circuit_breaker;
mod client_certificate;
mod compress;
mod condition;
mod content_type;
mod digest_auth;
mod encoded_characters;
mod errors;
mod escape;
mod field;
mod flow;
mod forward_auth;
mod go;
mod grpc_web;
mod headers;
mod identity;
mod in_flight_req;
mod ip_allow_list;
mod password;
mod path;
pub mod predicate;
mod rate_limit;
mod redirect;
mod replace_path;
mod retry;
mod seen;
mod source;
mod statuses;
mod strip_prefix;
mod target;
mod url;

pub use add_prefix::AddPrefix;
pub use address::ClientAddress;
pub use answer::Answer;
pub use basic_auth::{BasicAuth, Verify};
pub use buffering::{Buffering, Buffers};
pub use chain::Chain;
pub use circuit_breaker::expression;
pub use circuit_breaker::{CircuitBreaker, Rules, Watch};
pub use client_certificate::{CertificateInfo, NameParts, PassClientCertificate};
pub use compress::{Compress, CompressOptions};
pub use content_type::DetectType;
pub use digest_auth::DigestAuth;
pub use encoded_characters::{Encodable, EncodedCharacters};
pub use errors::{Errors, ErrorsOptions, Page};
pub use flow::{After, Ask, Flow, Later, Transform, Unfit};
pub use forward_auth::{AuthAddress, AuthCookies, ForwardAuth, ForwardAuthOptions};
pub use grpc_web::GrpcWeb;
pub use headers::{CorsOptions, Headers, HeadersOptions, SecurityOptions};
pub use identity::Identity;
pub use in_flight_req::{InFlightReq, Place};
pub use ip_allow_list::IpAllowList;
pub use rate_limit::RateLimit;
pub use redirect::{RedirectRegex, RedirectScheme};
pub use replace_path::{ReplacePath, ReplacePathRegex};
pub use retry::{MAX_ATTEMPTS, Retry, Retrying};
pub use seen::Seen;
pub use source::{MAX_SOURCES, Source};
pub use statuses::Statuses;
pub use strip_prefix::{StripPrefix, StripPrefixRegex};

use std::sync::Arc;

use pingora_http::RequestHeader;

/// One middleware of the configuration.
#[derive(Debug)]
pub struct Middleware {
    /// The qualified name, `NAME@PROVIDER`.
    pub name: Arc<str>,
    /// What it does.
    pub kind: Kind,
}

/// What a middleware does: one variant for each kind.
#[derive(Debug)]
pub enum Kind {
    /// Puts something in front of the path.
    AddPrefix(AddPrefix),
    /// Lets those pass who know a password.
    BasicAuth(BasicAuth),
    /// Takes whole bodies before they go on.
    Buffering(Buffering),
    /// Answers in the place of a service that fails.
    CircuitBreaker(CircuitBreaker),
    /// Compresses responses.
    Compress(Compress),
    /// Guesses the type of responses that name none.
    ContentType,
    /// Lets those pass who prove that they know a password.
    DigestAuth(Box<DigestAuth>),
    /// Refuses paths with certain characters in encoded form.
    EncodedCharacters(EncodedCharacters),
    /// Pages of another service for responses that are errors.
    Errors(Errors),
    /// Asks another service who may pass.
    ForwardAuth(ForwardAuth),
    /// Speaks gRPC-Web with clients.
    GrpcWeb(GrpcWeb),
    /// Changes headers.
    Headers(Headers),
    /// So many requests at once.
    InFlightReq(InFlightReq),
    /// Lets only certain addresses pass.
    IpAllowList(IpAllowList),
    /// Tells the service of the client's certificates.
    PassTlsClientCert(PassClientCertificate),
    /// So many requests in a time.
    RateLimit(RateLimit),
    /// Sends clients to what a pattern makes of the URL.
    RedirectRegex(RedirectRegex),
    /// Sends clients to another scheme or port.
    RedirectScheme(RedirectScheme),
    /// Gives every request the same path.
    ReplacePath(ReplacePath),
    /// Gives requests another path where a pattern matches.
    ReplacePathRegex(ReplacePathRegex),
    /// Asks for more attempts.
    Retry(Retry),
    /// Takes a prefix from the path.
    StripPrefix(StripPrefix),
    /// Takes from the path what a pattern matches at its begin.
    StripPrefixRegex(StripPrefixRegex),
}

impl Middleware {
    /// Looks at a request on its way in, and changes its head.
    ///
    /// An error means that the changed head can't be written: the request fails with 400.
    pub fn enter(&self, request: &mut RequestHeader, seen: &Seen<'_>) -> Result<Flow<'_>, Unfit> {
        match &self.kind {
            Kind::AddPrefix(kind) => kind.enter(request),
            Kind::BasicAuth(kind) => kind.enter(request),
            Kind::Buffering(kind) => Ok(Flow::Ask(Ask::Buffer(&kind.0))),
            Kind::CircuitBreaker(kind) => Ok(kind.enter(seen)),
            Kind::Compress(kind) => Ok(kind.enter(request)),
            Kind::ContentType => Ok(Flow::Later(Later::DetectType(DetectType))),
            Kind::DigestAuth(kind) => kind.enter(request, seen),
            Kind::EncodedCharacters(kind) => Ok(kind.enter(request)),
            Kind::Errors(kind) => Ok(kind.enter(request, seen)),
            Kind::ForwardAuth(kind) => Ok(kind.enter()),
            Kind::GrpcWeb(kind) => kind.enter(request),
            Kind::Headers(kind) => kind.enter(request, seen),
            Kind::InFlightReq(kind) => Ok(kind.enter(request, seen)),
            Kind::IpAllowList(kind) => Ok(kind.enter(request, seen)),
            Kind::PassTlsClientCert(kind) => kind.enter(request, seen),
            Kind::RateLimit(kind) => Ok(kind.enter(request, seen)),
            Kind::RedirectRegex(kind) => kind.enter(request, seen),
            Kind::RedirectScheme(kind) => kind.enter(request, seen),
            Kind::ReplacePath(kind) => kind.enter(request),
            Kind::ReplacePathRegex(kind) => kind.enter(request),
            Kind::Retry(kind) => Ok(Flow::Ask(Ask::Retry(&kind.0))),
            Kind::StripPrefix(kind) => kind.enter(request),
            Kind::StripPrefixRegex(kind) => kind.enter(request),
        }
    }
}
