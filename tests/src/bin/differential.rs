//! Compares our binary with the real Traefik: `cargo xtask differential`.
//!
//! `CONSTELLATION_BIN` names our binary, `TRAEFIK_BIN` Traefik's.
#![expect(clippy::print_stdout, reason = "what differs is what it is for")]

use std::process::ExitCode;

use clap::Parser;
use constellation_tests::differential::{About, Plan, Second, run, show};
use constellation_tests::server::traefik::program;

#[derive(Debug, Parser)]
#[command(
    name = "differential",
    about = "The same configuration and requests for Traefik and for us: does anything differ?"
)]
struct Args {
    /// Pairs of requests, at least.
    #[arg(long, default_value_t = 20_000)]
    pairs: usize,
    /// Where configurations and requests come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What configurations are about: `routing`, `balance`, `docker`, `tls`, `middlewares`, `all`, or a kind of middleware such as `stripPrefix`.
    #[arg(long, default_value = "routing")]
    kind: About,
    /// Only this case.
    #[arg(long)]
    case: Option<u64>,
    /// What Traefik is compared with.
    #[arg(long, value_enum, default_value_t)]
    with: Second,
    /// So many differences are cut down and printed in full.
    #[arg(long, default_value_t = 10)]
    shown: usize,
    /// Print differences as they are, and not cut down.
    #[arg(long)]
    whole: bool,
    /// Print configurations and requests, and send nothing.
    #[arg(long, requires = "case")]
    show: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let (true, Some(case)) = (args.show, args.case) {
        println!("{}", show(&args.kind, args.seed, case));
        return ExitCode::SUCCESS;
    }
    let traefik = match program() {
        Ok(traefik) => traefik,
        Err(reason) => {
            println!("{reason}");
            return ExitCode::FAILURE;
        }
    };
    let plan = Plan {
        pairs: args.pairs,
        seed: args.seed,
        about: args.kind,
        with: args.with,
        case: args.case,
        shown: args.shown,
        whole: args.whole,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("cannot start a runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let report = runtime.block_on(run(&traefik, &plan));
    println!("{report}");
    if report.holds() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
