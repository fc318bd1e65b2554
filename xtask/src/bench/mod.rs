//! `bench`: measures the release binary, beside its peers or by itself.
//!
//! [`http`] is the side-by-side run: [`scenario`] says what is asked, [`peer`] how each proxy is set up for it,
//! [`backend`] what answers behind them, [`load`] what asks, [`cpu`] what it cost, [`sample`] and [`report`] what is
//! made of it.
//! [`stream`] is the like run for TCP and UDP.
//! [`footprint`] measures memory and configuration changes of our binary alone. [`child`] and [`interrupt`] see to it
//! that nothing outlives the run. Everything stays on the loopback interface and in temporary directories.

pub(crate) mod backend;
mod child;
mod cpu;
mod footprint;
mod http;
mod identity;
mod interrupt;
mod load;
pub(crate) mod node;
mod peer;
mod pin;
mod port;
mod probe;
mod report;
mod sample;
mod scenario;
pub(crate) mod stream;
mod wheel;

use clap::Subcommand;

/// `bench`.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Our release binary beside nginx, HAProxy, Envoy and Traefik, on the same work in turn.
    Http(http::HttpArgs),
    /// TCP streams beside HAProxy, nginx, Traefik and tokio's plain copy.
    Tcp(stream::TcpArgs),
    /// UDP datagrams beside nginx and Traefik.
    Udp(stream::UdpArgs),
    /// Memory with many routes, time to start, and time of a single change.
    Footprint(footprint::FootprintArgs),
}

/// Traefik in the version that everything here is compared with, downloaded unless it was before; else why there is none.
pub(crate) fn traefik(cache: &std::path::Path) -> Result<std::path::PathBuf, String> {
    peer::Proxy::Traefik.wheel(cache)
}

/// Runs the verb.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<()> {
    interrupt::watch()?;
    match bench {
        Bench::Http(args) => http::run(args),
        Bench::Tcp(args) => stream::tcp(args),
        Bench::Udp(args) => stream::udp(args),
        Bench::Footprint(args) => footprint::run(args),
    }
}
