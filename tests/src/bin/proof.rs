//! Runs the proofs at length and prints figures: `cargo xtask faults`, `bodies`, `storm`, `silence`, `streams`, `upgrades`.
//!
//! `CONSTELLATION_BIN` names the binary that is put to the proof.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};
use constellation_tests::fleet::Mix;
use constellation_tests::flood::{self, Flood, Target};
use constellation_tests::proof::peer::Proxy;
use constellation_tests::proof::{Phase, attack, bodies, faults, silence, storm, streams, upgrades};
use constellation_tests::sandbox;
use constellation_tests::stream::JobServer;

#[derive(Debug, Parser)]
#[command(name = "proof", about = "Proves on the real binary what failover promises")]
enum Proof {
    /// One of two back ends fails under load and comes back: no GET is lost, no POST is sent twice.
    Faults(FaultsArgs),
    /// Uploads through a back end that fails at each stage of them: replayed whole or failed cleanly.
    Bodies(BodiesArgs),
    /// All back ends fail: retries stay below a fifth of the load, and recovery is immediate.
    Storm(StormArgs),
    /// A slow answer and a silent stream are left alone.
    Silence(SilenceArgs),
    /// Floods of HTTP/2 frames: normal clients are served, memory stays.
    Flood(FloodArgs),
    /// The attackers of `flood`, until standard input ends.
    #[command(hide = true)]
    Attack(AttackArgs),
    /// Slow clients (slowhttptest): normal ones are served, memory stays.
    Slow(SlowArgs),
    /// TCP streams: bulk, half-closes, resets, a storm of connections, a ClientHello in pieces.
    Streams(StreamsArgs),
    /// The node is replaced again and again under load: no connection is refused or reset.
    Upgrades(UpgradesArgs),
}

#[derive(Clone, Copy, Debug, Args)]
struct Fleet {
    /// Clients with a GET each at a time, each on a connection of its own.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=240))]
    clients: u16,
    /// Clients that POST without a key, and as many with one.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(0..=8))]
    posts: u16,
    /// Milliseconds between an answer and the next request of a client.
    #[arg(long, default_value_t = 20)]
    pause: u64,
}

#[derive(Debug, Args)]
struct FaultsArgs {
    /// Only this fault.
    #[arg(long)]
    fault: Option<faults::Fault>,
    /// What is put to the proof; the others calibrate it.
    #[arg(long, value_enum, default_value_t)]
    proxy: Proxy,
    /// Runs of each fault.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Moves the moments at which the fault comes and goes, by some milliseconds in each run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds with the fault.
    #[arg(long, default_value_t = 4.0)]
    during: f64,
    /// Seconds after it.
    #[arg(long, default_value_t = 4.0)]
    after: f64,
    #[command(flatten)]
    fleet: Fleet,
}

#[derive(Debug, Args)]
struct BodiesArgs {
    /// Only this stage.
    #[arg(long)]
    stage: Option<bodies::Stage>,
    /// Sizes in KiB.
    #[arg(long, value_delimiter = ',', default_value = "1,64,1024,51200")]
    sizes: Vec<usize>,
}

#[derive(Debug, Args)]
struct StormArgs {
    /// Only this storm.
    #[arg(long)]
    storm: Option<storm::Storm>,
    /// Runs of each.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Seconds during which all fail.
    #[arg(long, default_value_t = 5.0)]
    during: f64,
    #[command(flatten)]
    fleet: Fleet,
}

#[derive(Debug, Args)]
struct SilenceArgs {
    /// Seconds of the slow answer.
    #[arg(long, default_value_t = 25)]
    slow: u64,
    /// Seconds of silence in the stream.
    #[arg(long, default_value_t = 120)]
    silence: u64,
    #[command(flatten)]
    fleet: Fleet,
}

#[derive(Debug, Args)]
struct FloodArgs {
    /// Only this kind.
    #[arg(long)]
    kind: Option<Flood>,
    /// Seconds of each.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Connections at a time.
    #[arg(long, default_value_t = 32)]
    attackers: usize,
    #[command(flatten)]
    fleet: Fleet,
}

#[derive(Debug, Args)]
struct AttackArgs {
    kind: Flood,
    address: SocketAddr,
    host: String,
    large: String,
    attackers: usize,
}

#[derive(Debug, Args)]
struct SlowArgs {
    /// Only this mode.
    #[arg(long)]
    mode: Option<attack::Slow>,
    /// Seconds of each.
    #[arg(long, default_value_t = 40)]
    seconds: u64,
    /// Connections.
    #[arg(long, default_value_t = 4000)]
    connections: usize,
    #[command(flatten)]
    fleet: Fleet,
}

#[derive(Debug, Args)]
struct StreamsArgs {
    /// Only these.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<StreamProof>,
    /// What is put to the proof; the others calibrate it, and take no part in what is about ClientHellos.
    #[arg(long, value_enum, default_value_t)]
    proxy: streams::Proxy,
    /// MiB each way.
    #[arg(long, default_value_t = 1024)]
    mebibytes: u64,
    /// Streams that share them, one run for each number.
    #[arg(long, value_delimiter = ',', default_value = "1,64")]
    streams: Vec<usize>,
    /// Half-closes of 300 KB.
    #[arg(long, default_value_t = 2000)]
    half_closes: usize,
    /// Resets, half of them from either side.
    #[arg(long, default_value_t = 1000)]
    resets: usize,
    /// Short connections.
    #[arg(long, default_value_t = 20_000)]
    connections: usize,
    /// Connections that stop within their ClientHello.
    #[arg(long, default_value_t = 1000)]
    attackers: usize,
}

#[derive(Debug, Args)]
struct UpgradesArgs {
    /// Connections with a request each.
    #[arg(long, default_value_t = 20_000)]
    connections: usize,
    /// Replacements meanwhile.
    #[arg(long, default_value_t = 10)]
    upgrades: usize,
    /// Clients that connect again and again.
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// With steering by the kernel, in a network namespace of its own; needs root.
    #[arg(long)]
    steering: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StreamProof {
    Bulk,
    HalfCloses,
    Resets,
    Storm,
    Cut,
    Slow,
}

impl Fleet {
    /// Clients that only GET.
    fn normal(self) -> Mix {
        Mix {
            post: 0,
            keyed: 0,
            ..self.mix()
        }
    }

    fn mix(self) -> Mix {
        Mix {
            get: self.clients.into(),
            post: self.posts.into(),
            keyed: self.posts.into(),
            pause: Duration::from_millis(self.pause),
        }
    }
}

fn main() -> ExitCode {
    let proof = Proof::parse();
    if let Proof::Upgrades(UpgradesArgs { steering: true, .. }) = proof {
        return sandbox::run(&[], async || prove(proof).await).unwrap_or_else(|reason| {
            println!("{reason}");
            ExitCode::FAILURE
        });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(prove(proof)),
        Err(error) => {
            println!("cannot start a runtime: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn prove(proof: Proof) -> ExitCode {
    let proof = async {
        match proof {
            Proof::Faults(args) => run_faults(&args).await,
            Proof::Bodies(args) => run_bodies(&args).await,
            Proof::Storm(args) => run_storm(&args).await,
            Proof::Silence(args) => run_silence(&args).await,
            Proof::Flood(args) => run_flood(&args).await,
            Proof::Attack(args) => {
                let (kind, attackers) = (args.kind, args.attackers);
                let target = Target {
                    address: args.address,
                    host: args.host,
                    large: args.large,
                };
                println!("{}", flood::serve_apart(kind, &target, attackers).await);
                true
            }
            Proof::Slow(args) => run_slow(&args).await,
            Proof::Streams(args) => run_streams(&args).await,
            Proof::Upgrades(args) => {
                let plan = upgrades::Plan {
                    connections: args.connections,
                    upgrades: args.upgrades,
                    clients: args.clients,
                    steering: args.steering,
                    ..upgrades::Plan::SMALL
                };
                let report = upgrades::run(&plan).await;
                println!("{report}");
                report.holds()
            }
        }
    };
    // Interrupted, it still ends what it started.
    let holds = tokio::select! {
        holds = proof => holds,
        _ = tokio::signal::ctrl_c() => false,
    };
    if holds {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn run_faults(args: &FaultsArgs) -> bool {
    let kinds = args
        .fault
        .map_or(faults::Fault::ALL.to_vec(), |fault| vec![fault]);
    let mut held = 0;
    for fault in &kinds {
        let name = fault
            .to_possible_value()
            .map_or(String::new(), |value| value.get_name().to_owned());
        for run in 0..args.runs {
            let jitter =
                |salt: u64| Duration::from_millis((args.seed * 7919 + run as u64 * 104_729 + salt) % 97);
            let plan = faults::Plan {
                mix: args.fleet.mix(),
                before: Phase::Time(Duration::from_secs(2) + jitter(1)),
                during: Phase::Time(Duration::from_secs_f64(args.during) + jitter(2)),
                after: Phase::Time(Duration::from_secs_f64(args.after)),
            };
            let report = faults::run(args.proxy, *fault, &plan).await;
            held += usize::from(report.verdict.holds());
            println!("{name} {}/{}: {report}", run + 1, args.runs);
        }
    }
    let runs = kinds.len() * args.runs;
    println!("{held} of {runs} runs lost nothing and repeated nothing");
    held == runs
}

async fn run_bodies(args: &BodiesArgs) -> bool {
    let sizes: Vec<usize> = args.sizes.iter().map(|size| size * 1024).collect();
    let mut holds = true;
    for stage in args
        .stage
        .map_or(bodies::Stage::ALL.to_vec(), |stage| vec![stage])
    {
        let report = bodies::run(stage, &sizes).await;
        holds &= report.wrong.is_empty();
        println!("{report}");
    }
    holds
}

async fn run_storm(args: &StormArgs) -> bool {
    let plan = storm::Plan {
        mix: Mix {
            post: 0,
            keyed: 0,
            ..args.fleet.mix()
        },
        before: Phase::Time(Duration::from_secs(2)),
        during: Phase::Time(Duration::from_secs_f64(args.during)),
        after: Phase::Time(Duration::from_secs(2)),
    };
    let mut holds = true;
    for kind in args.storm.map_or(storm::Storm::ALL.to_vec(), |storm| vec![storm]) {
        for run in 0..args.runs {
            let report = storm::run(kind, &plan).await;
            holds &= report.holds();
            println!("{kind:?} {}/{}: {report}", run + 1, args.runs);
        }
    }
    holds
}

async fn run_silence(args: &SilenceArgs) -> bool {
    let wrong = silence::run(&silence::Plan {
        mix: args.fleet.mix(),
        slow: Duration::from_secs(args.slow),
        silence: Duration::from_secs(args.silence),
        each: 4,
    })
    .await;
    println!(
        "4 answers after {} s, 4 streams silent for {} s: {} wrong",
        args.slow,
        args.silence,
        wrong.len()
    );
    for line in wrong.iter().take(20) {
        println!("    {line}");
    }
    wrong.is_empty()
}

async fn run_flood(args: &FloodArgs) -> bool {
    let plan = attack::Plan {
        mix: args.fleet.normal(),
        before: Duration::from_secs(5),
        during: Duration::from_secs(args.seconds),
        attackers: args.attackers,
        apart: true,
    };
    let mut holds = true;
    for kind in args.kind.map_or(Flood::ALL.to_vec(), |kind| vec![kind]) {
        let report = attack::flood(kind, &plan).await;
        holds &= report.holds();
        println!("{kind:?}: {report}");
    }
    holds
}

async fn run_slow(args: &SlowArgs) -> bool {
    let program = match constellation_tests::require::program("slowhttptest") {
        Ok(program) => program,
        Err(reason) => {
            println!("{reason}");
            return false;
        }
    };
    let plan = attack::Plan {
        mix: args.fleet.normal(),
        before: Duration::from_secs(5),
        during: Duration::from_secs(args.seconds),
        attackers: args.connections,
        apart: false,
    };
    let mut holds = true;
    for mode in args.mode.map_or(attack::Slow::ALL.to_vec(), |mode| vec![mode]) {
        let report = attack::slow(mode, &program, &plan).await;
        holds &= report.holds();
        println!("{mode:?}: {report}");
    }
    holds
}

async fn run_streams(args: &StreamsArgs) -> bool {
    let server = JobServer::start().await;
    let front = args.proxy.start(server.address()).await;
    let ours = args.proxy == streams::Proxy::Constellation;
    let mut holds = true;
    let proofs = StreamProof::value_variants().iter().copied();
    for proof in proofs.filter(|proof| args.only.is_empty() || args.only.contains(proof)) {
        let mut reports = Vec::new();
        match proof {
            StreamProof::Bulk => {
                for &count in &args.streams {
                    reports.push(streams::bulk(&front, &server, count, args.mebibytes << 20).await);
                }
            }
            StreamProof::HalfCloses => {
                reports.push(streams::half_closes(&front, &server, args.half_closes).await);
            }
            StreamProof::Resets => reports.push(streams::resets(&front, &server, args.resets).await),
            StreamProof::Storm => reports.push(streams::storm(&front, &server, args.connections).await),
            StreamProof::Cut if ours => reports.push(streams::cut().await),
            StreamProof::Slow if ours => reports.push(streams::slow(args.attackers, 200).await),
            StreamProof::Cut | StreamProof::Slow => {}
        }
        for report in &reports {
            holds &= report.holds();
            println!("{report}");
        }
    }
    holds
}
