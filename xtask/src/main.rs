//! `cargo xtask VERB`: one verb per intention; CI and developers run the same ones.
//!
//! Each verb is a file. Nothing here is part of the product, and nothing in the product depends on it.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a verb has to say goes to the terminal"
)]

mod bench;
mod differential;
mod ebpf;
mod fix;
mod fuzz;
mod generated;
mod lab;
mod links;
mod nightly;
mod proof;
mod test;
mod verify;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "xtask",
    bin_name = "cargo xtask",
    about = "The chores of this repository"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check formatting, lints, generated files and the links in the documentation. Never writes to the tree.
    Verify,
    /// Format, and write the generated files anew.
    Fix,
    /// Run every test, like `./dev test`.
    Test(test::TestArgs),
    /// Fuzz the parsers that meet the network. Needs a nightly toolchain.
    Fuzz(fuzz::FuzzArgs),
    /// Build the eBPF programs and commit-ready objects from them. Needs a nightly toolchain, rust-src and bpf-linker.
    Ebpf(ebpf::EbpfArgs),
    /// Measure.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Prove that one of two back ends may fail in eight ways under load, and no GET is lost and no POST sent twice.
    Faults(proof::ProofArgs),
    /// Prove that uploads are replayed whole or fail cleanly, whatever stage of them a back end fails at.
    Bodies(proof::ProofArgs),
    /// Prove that retries do not multiply the load when all back ends fail, and that recovery is immediate.
    Storm(proof::ProofArgs),
    /// Prove that a slow answer and a silent stream are left alone.
    Silence(proof::ProofArgs),
    /// Prove that floods of HTTP/2 frames cost normal clients nothing, and no memory.
    Flood(proof::ProofArgs),
    /// Prove the same of slow clients. Needs slowhttptest.
    Slow(proof::ProofArgs),
    /// Prove that TCP streams are carried exactly: bulk, half-closes, resets, a storm, a ClientHello in pieces.
    Streams(proof::ProofArgs),
    /// Put to the proof: 20,000 connections while the node is replaced 10 times; none is refused or reset.
    Upgrades(proof::ProofArgs),
    /// Compare with the real Traefik: the same labels, files and requests; whatever differs and is not meant to is printed.
    Differential(differential::DifferentialArgs),
    /// Download Traefik for the tests that need it.
    Traefik,
    /// A cluster of real nodes in network namespaces, and faults for it: up, status, exec, kill, partition, delay, down.
    Lab(lab::LabArgs),
    /// Random faults to clusters of real nodes, judged by what their kernels let in. With `-- --bug NAME`: of nodes that leave
    /// out a rule, which has to be noticed.
    ClusterFaults(lab::LabArgs),
    /// Figures of clusters of real nodes: forming, failover, hand-over under load, what an idle cluster costs.
    ClusterBench(lab::LabArgs),
    /// The back end of `bench http`: fixed bodies, one thread.
    #[command(hide = true)]
    BenchBackend(bench::backend::BackendArgs),
    /// The back end of `bench tcp` and `bench udp`.
    #[command(hide = true)]
    BenchStreamBackend(bench::stream::backend::BackendArgs),
    /// The load generator of `bench tcp` and `bench udp`.
    #[command(hide = true)]
    BenchStreamLoad(bench::stream::load::LoadArgs),
    /// The reference of `bench tcp`: tokio's plain copy.
    #[command(hide = true)]
    BenchTokioCopy(bench::stream::copy::CopyArgs),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Verify => verify::run(),
        Verb::Fix => fix::run(),
        Verb::Test(args) => test::run(&args),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::Ebpf(args) => ebpf::run(&args),
        Verb::Bench(bench) => bench::run(&bench),
        Verb::Faults(args) => proof::run("faults", &args),
        Verb::Bodies(args) => proof::run("bodies", &args),
        Verb::Storm(args) => proof::run("storm", &args),
        Verb::Silence(args) => proof::run("silence", &args),
        Verb::Flood(args) => proof::run("flood", &args),
        Verb::Slow(args) => proof::run("slow", &args),
        Verb::Streams(args) => proof::run("streams", &args),
        Verb::Upgrades(args) => proof::run("upgrades", &args),
        Verb::Differential(args) => differential::run(&args),
        Verb::Traefik => differential::install(),
        Verb::Lab(args) => lab::run(None, &args),
        Verb::ClusterFaults(args) => lab::run(Some("faults"), &args),
        Verb::ClusterBench(args) => lab::run(Some("bench"), &args),
        Verb::BenchBackend(args) => bench::backend::run(&args),
        Verb::BenchStreamBackend(args) => bench::stream::backend::run(&args),
        Verb::BenchStreamLoad(args) => bench::stream::load::run(&args),
        Verb::BenchTokioCopy(args) => bench::stream::copy::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
