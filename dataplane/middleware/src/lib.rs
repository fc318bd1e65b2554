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
mod answer;
mod chain;
mod escape;
mod flow;
mod path;
mod redirect;
mod replace_path;
mod seen;
mod strip_prefix;
mod target;
mod url;

pub use add_prefix::AddPrefix;
pub use answer::Answer;
pub use chain::Chain;
pub use flow::{After, Ask, Flow, Later, Transform, Unfit};
pub use redirect::{RedirectRegex, RedirectScheme};
pub use replace_path::{ReplacePath, ReplacePathRegex};
pub use seen::Seen;
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
    /// Sends clients to what a pattern makes of the URL.
    RedirectRegex(RedirectRegex),
    /// Sends clients to another scheme or port.
    RedirectScheme(RedirectScheme),
    /// Gives every request the same path.
    ReplacePath(ReplacePath),
    /// Gives requests another path where a pattern matches.
    ReplacePathRegex(ReplacePathRegex),
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
            Kind::RedirectRegex(kind) => kind.enter(request, seen),
            Kind::RedirectScheme(kind) => kind.enter(request, seen),
            Kind::ReplacePath(kind) => kind.enter(request),
            Kind::ReplacePathRegex(kind) => kind.enter(request),
            Kind::StripPrefix(kind) => kind.enter(request),
            Kind::StripPrefixRegex(kind) => kind.enter(request),
        }
    }
}
