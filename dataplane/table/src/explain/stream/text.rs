//! The report of a stream as text for a terminal.

use std::fmt::{Display, Formatter, Result};

use super::super::text::{elsewhere, endpoints, left_out, not_taken};
use super::{
    AskedConnection, MiddlewareLine, MiddlewareVerdict, StreamExplanation, StreamKind, StreamOutcome,
};
use crate::TcpTls;

impl Display for StreamExplanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "{}", self.connection)?;
        self.outcome(f)?;
        if self.unheard {
            writeln!(
                f,
                "   decided before the client says anything: no router of this entry point wants TLS"
            )?;
        }
        if let Some(router) = &self.router {
            writeln!(f, "\nrouter {router}")?;
        }
        for line in &self.middlewares {
            writeln!(f, "  {line}")?;
        }
        left_out(f, &self.excluded)?;
        not_taken(f, &self.considered, self.considered_more)?;
        if self.other_names > 0 {
            writeln!(
                f,
                "\n{} more on this entry point are for other names",
                self.other_names
            )?;
        }
        elsewhere(f, &self.near_misses)
    }
}

impl StreamExplanation {
    fn outcome(&self, f: &mut Formatter<'_>) -> Result {
        let service = self.service.as_deref().unwrap_or_default();
        match &self.outcome {
            StreamOutcome::Forward => {
                let tls = match self.tls {
                    None => "",
                    Some(TcpTls::Passthrough) => ", its TLS as it is",
                    Some(TcpTls::Terminate) => ", its TLS ends here",
                };
                writeln!(f, "-> service {service}{}{tls}", self.way)?;
                endpoints(f, self.panic, &self.candidates, &self.further)?;
                match &self.balanced {
                    Some(balanced) => writeln!(f, "   balanced by {balanced}"),
                    None => Ok(()),
                }
            }
            StreamOutcome::Unavailable => {
                writeln!(
                    f,
                    "-> {}: no endpoint of service {service} can serve",
                    self.gone()
                )
            }
            StreamOutcome::Refused { by } => {
                writeln!(
                    f,
                    "-> {}: middleware {by} does not let {} in",
                    self.gone(),
                    self.connection.client
                )
            }
            StreamOutcome::Http { claim: None } => {
                let scheme = if self.connection.tls { "HTTPS" } else { "HTTP" };
                writeln!(f, "-> {scheme}: no TCP router matches")
            }
            StreamOutcome::Http { claim: Some(claim) } => {
                let why = if claim.by_name {
                    "names the server name, which puts it before every TCP router"
                } else {
                    "is for any name, which puts it before TCP routers that say only HostSNI(`*`)"
                };
                writeln!(f, "-> HTTPS: a router {why}\n   {}", claim.router)
            }
            StreamOutcome::NoRoute => {
                writeln!(f, "-> {}: this entry point has no UDP router", self.gone())
            }
        }
    }

    /// What becomes of a stream that nobody serves.
    fn gone(&self) -> &'static str {
        match self.connection.kind {
            StreamKind::Tcp => "closed",
            StreamKind::Udp => "dropped",
        }
    }
}

impl Display for AskedConnection {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match (self.kind, self.tls, self.server_name.as_str()) {
            (StreamKind::Udp, ..) => f.write_str("UDP")?,
            (StreamKind::Tcp, false, _) => f.write_str("TCP without TLS")?,
            (StreamKind::Tcp, true, "") => f.write_str("TLS without a server name")?,
            (StreamKind::Tcp, true, name) => write!(f, "TLS for {name}")?,
        }
        if !self.alpn.is_empty() {
            write!(f, " ({})", self.alpn.join(", "))?;
        }
        write!(f, " from {} on entry point {}", self.client, self.entry_point)
    }
}

impl Display for MiddlewareLine {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} {} ", self.kind, self.name)?;
        match self.verdict {
            MiddlewareVerdict::Passes => f.write_str("lets this client in"),
            MiddlewareVerdict::Refuses => f.write_str("does not let this client in"),
            MiddlewareVerdict::UpTo(amount) => write!(f, "lets {amount} of its connections in at once"),
        }
    }
}
