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
mod chain;
mod encoded_characters;
mod flow;
mod go;
mod identity;
mod in_flight_req;
mod ip_allow_list;
mod password;
mod rate_limit;
mod seen;
mod source;
mod target;

pub use add_prefix::AddPrefix;
pub use address::ClientAddress;
pub use answer::Answer;
pub use basic_auth::{BasicAuth, Verify};
pub use chain::Chain;
pub use encoded_characters::{Encodable, EncodedCharacters};
pub use flow::{After, Ask, Flow, Later, Transform, Unfit};
pub use identity::Identity;
pub use in_flight_req::{InFlightReq, Place};
pub use ip_allow_list::IpAllowList;
pub use rate_limit::RateLimit;
pub use seen::Seen;
pub use source::{MAX_SOURCES, Source};

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
    /// Refuses paths with certain characters in encoded form.
    EncodedCharacters(EncodedCharacters),
    /// So many requests at once.
    InFlightReq(InFlightReq),
    /// Lets only certain addresses pass.
    IpAllowList(IpAllowList),
    /// So many requests in a time.
    RateLimit(RateLimit),
}

impl Middleware {
    /// Looks at a request on its way in, and changes its head.
    ///
    /// An error means that the changed head can't be written: the request fails with 400.
    pub fn enter(&self, request: &mut RequestHeader, seen: &Seen<'_>) -> Result<Flow<'_>, Unfit> {
        match &self.kind {
            Kind::AddPrefix(kind) => kind.enter(request),
            Kind::BasicAuth(kind) => kind.enter(request),
            Kind::EncodedCharacters(kind) => Ok(kind.enter(request)),
            Kind::InFlightReq(kind) => Ok(kind.enter(request, seen)),
            Kind::IpAllowList(kind) => Ok(kind.enter(request, seen)),
            Kind::RateLimit(kind) => Ok(kind.enter(request, seen)),
        }
    }
}
