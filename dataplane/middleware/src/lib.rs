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
mod flow;
mod seen;
mod target;

pub use add_prefix::AddPrefix;
pub use answer::Answer;
pub use chain::Chain;
pub use flow::{After, Ask, Flow, Later, Transform, Unfit};
pub use seen::Seen;

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
}

impl Middleware {
    /// Looks at a request on its way in, and changes its head.
    ///
    /// An error means that the changed head can't be written: the request fails with 400.
    pub fn enter(&self, request: &mut RequestHeader, seen: &Seen<'_>) -> Result<Flow<'_>, Unfit> {
        let _ = seen;
        match &self.kind {
            Kind::AddPrefix(kind) => kind.enter(request),
        }
    }
}
