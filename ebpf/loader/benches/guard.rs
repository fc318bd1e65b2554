//! What `edge_guard` drops in a second, beside nftables, and what it costs those who come in good faith.
//!
//! Every sample has network namespaces of its own, with a pair of veth devices between a peer and the edge. For drops the
//! peer floods the edge with SYN from 2,560,000 sources, all of them in 10,000 denied prefixes; the flood is made by XDP
//! (`test_flood`), and what the receiver drops is counted by the receiver. The sender's work and the receiver's fall on one
//! CPU, so a rate is that of both together, and the differences between ways are larger than they seem. For good traffic
//! the peer sends one TCP stream past the same prefixes. Ways take turns within a round; medians stand.
//!
//! As root, with `nft` and `ethtool`:
//! `cargo bench -p constellation-ebpf-loader --bench guard [-- SECONDS ROUNDS]`

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use aya::maps::{Array, PerCpuArray};
use aya::programs::{SchedClassifier, TcAttachType, TestRunAttrs, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader, TestRun as _, TestRunOptions};
use constellation_ebpf_loader::guard::{Ban, Guard, Hook, Limits, Rate};
use constellation_ebpf_loader::steering::Protocol;
use constellation_ebpf_loader::{Lock, Namespace};
use constellation_tests::sandbox::{self, ip};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::unistd::{Pid, gettid};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

static FLOOD: &[u8] = aya::include_bytes_aligned!("../../object/test_flood.o");

/// Denied prefixes: `11.0.0.0/24` and every fourth that follows, since neighbours could be merged into one.
const PREFIXES: u32 = 10_000;
const DISTANCE: u32 = 4 << 8;
const FIRST: u32 = 11 << 24;
const EDGE: &str = "10.9.0.1";
const EDGE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const PORT: u16 = 443;

/// Who stands in the way of what the peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Nothing,
    NftPrerouting,
    NftNetdev,
    Tcx,
    Xdp,
    /// A program at TCX that does nothing but drop: what the flood, the device and the socket buffers cost by themselves.
    DropAtTcx,
    /// The same at XDP, where there are no socket buffers.
    DropAtXdp,
}

impl Way {
    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::NftPrerouting => "nftables, prerouting (raw)",
            Self::NftNetdev => "nftables, netdev ingress",
            Self::Tcx => "edge_guard, TCX",
            Self::Xdp => "edge_guard, native XDP",
            Self::DropAtTcx => "TCX that drops all",
            Self::DropAtXdp => "native XDP that drops all",
        }
    }
}

/// The first is what the others are compared with.
const DROPPING: [Way; 6] = [
    Way::NftNetdev,
    Way::NftPrerouting,
    Way::Tcx,
    Way::Xdp,
    Way::DropAtTcx,
    Way::DropAtXdp,
];
const LETTING_PASS: [Way; 4] = [Way::Nothing, Way::NftNetdev, Way::Tcx, Way::Xdp];

fn main() -> Outcome<()> {
    // Cargo passes `--bench` along.
    let numbers: Vec<u64> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let seconds = Duration::from_secs(numbers.first().copied().unwrap_or(3));
    let rounds = numbers.get(1).copied().unwrap_or(3);

    let title = format!("Dropped, {PREFIXES} denied prefixes, millions a second");
    let rates = compare(&title, &DROPPING, rounds, |way| dropped(way, seconds))?;
    if let [netdev, prerouting, tcx, xdp, at_tcx, at_xdp] = rates[..] {
        println!("\nNanoseconds a packet beyond those of the program that drops all, at TCX and at XDP\n");
        println!(
            "| {} | {} | edge_guard, TCX | edge_guard, XDP |",
            Way::NftNetdev.name(),
            Way::NftPrerouting.name()
        );
        println!("|--:|--:|--:|--:|");
        let beyond = |rate: f64, floor: f64| 1e3 / rate - 1e3 / floor;
        println!(
            "| {:.0} | {:.0} | {:.0} | {:.0} |",
            beyond(netdev, at_tcx),
            beyond(prerouting, at_tcx),
            beyond(tcx, at_tcx),
            beyond(xdp, at_xdp)
        );
    }
    let title = format!("One good TCP stream past {PREFIXES} denied prefixes, Gbit/s");
    compare(&title, &LETTING_PASS, rounds, |way| bulk(way, seconds)).map(drop)
}

/// Takes a sample of every way in each round, and prints them. Gives the medians.
fn compare(
    title: &str,
    ways: &[Way],
    rounds: u64,
    sample: impl Fn(Way) -> Outcome<f64>,
) -> Outcome<Vec<f64>> {
    let mut samples = vec![Vec::new(); ways.len()];
    for _ in 0..rounds {
        for (way, samples) in ways.iter().zip(&mut samples) {
            samples.push(sample(*way)?);
        }
    }
    println!("\n{title}; median of {rounds} rounds\n");
    println!("| | median | of the first | all rounds |\n|---|--:|--:|---|");
    let (mut first, mut medians) = (None, Vec::new());
    for (way, samples) in ways.iter().zip(&mut samples) {
        let all = samples.iter().fold(String::new(), |mut all, sample| {
            // Into a string, which can't fail.
            let _ = write!(all, "{sample:.2} ");
            all
        });
        samples.sort_by(f64::total_cmp);
        let median = samples.get(samples.len() / 2).copied().unwrap_or_default();
        let ratio = median / *first.get_or_insert(median);
        println!("| {} | {median:.2} | {ratio:.2} | {} |", way.name(), all.trim());
        medians.push(median);
    }
    Ok(medians)
}

/// Millions of packets dropped in a second.
fn dropped(way: Way, time: Duration) -> Outcome<f64> {
    between(move |peer| {
        // Without it, or a program at XDP, veth takes no frames from XDP.
        run("ethtool", &["-K", "edge", "gro", "on"], None)?;
        let mut edge = Edge::stand(way)?;
        // The first packets fill caches.
        peer(Box::new(|| flood(Duration::from_millis(300))))?;
        let before = edge.dropped()?;
        let began = Instant::now();
        let sent = peer(Box::new(move || flood(time)))?;
        let elapsed = began.elapsed();
        let dropped = edge.dropped()? - before;
        // A few come from the kernel itself, such as its neighbour discovery.
        if dropped == 0 || dropped > sent + 100 {
            return Err(format!("{way:?}: {dropped} dropped of {sent} sent").into());
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate to two places")]
        Ok(dropped as f64 / elapsed.as_secs_f64() / 1e6)
    })
}

/// Gigabits in a second.
fn bulk(way: Way, time: Duration) -> Outcome<f64> {
    between(move |peer| {
        let listener = TcpListener::bind((EDGE, PORT))?;
        let receiver = thread::spawn(move || -> std::io::Result<(u64, Duration)> {
            let (mut stream, _) = listener.accept()?;
            let (mut buffer, mut bytes, began) = (vec![0; 256 * 1024], 0, Instant::now());
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok((bytes, began.elapsed())),
                    count => bytes += count as u64,
                }
            }
        });
        let mut edge = Edge::stand(way)?;
        peer(Box::new(move || {
            let mut stream = TcpStream::connect((EDGE, PORT))?;
            let (buffer, began) = (vec![b'x'; 256 * 1024], Instant::now());
            while began.elapsed() < time {
                stream.write_all(&buffer)?;
            }
            Ok(0)
        }))?;
        let (bytes, elapsed) = receiver.join().map_err(|_| "the receiver panicked")??;
        if edge.dropped()? != 0 {
            return Err(format!("{way:?}: good packets were dropped").into());
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate to two places")]
        Ok(bytes as f64 * 8.0 / elapsed.as_secs_f64() / 1e9)
    })
}

/// The filter at the edge.
enum Edge {
    Open,
    Nft,
    Guard(Box<Guard>),
    DropAll(Ebpf),
}

impl Edge {
    fn stand(way: Way) -> Outcome<Self> {
        let rules = match way {
            Way::Nothing => return Ok(Self::Open),
            Way::Tcx | Way::Xdp => return guard(way == Way::Xdp),
            Way::DropAtTcx | Way::DropAtXdp => return drop_all(way == Way::DropAtXdp),
            Way::NftPrerouting => {
                "table ip bench { SET\nchain c { type filter hook prerouting priority raw; RULE\n}\n}"
            }
            Way::NftNetdev => {
                "table netdev bench { SET\nchain c { type filter hook ingress device edge priority 0; RULE\n}\n}"
            }
        };
        let prefixes: Vec<String> = prefixes().map(|prefix| prefix.to_string()).collect();
        let set = format!(
            "set s {{ type ipv4_addr; flags interval; elements = {{ {} }} }}",
            prefixes.join(", ")
        );
        let rules = rules
            .replace("SET", &set)
            .replace("RULE", "ip saddr @s counter drop");
        run("nft", &["-f", "-"], Some(&rules))?;
        Ok(Self::Nft)
    }

    /// Packets dropped so far.
    fn dropped(&mut self) -> Outcome<u64> {
        match self {
            Self::Open => Ok(0),
            Self::Guard(guard) => Ok(guard.dropped()?),
            Self::DropAll(ebpf) => {
                let map = ebpf.map_mut("DROPPED").ok_or("no map DROPPED")?;
                Ok(PerCpuArray::<_, u64>::try_from(map)?.get(&0, 0)?.iter().sum())
            }
            Self::Nft => {
                let listed = run("nft", &["-t", "list", "ruleset"], None)?;
                let packets = listed.split("counter packets ").nth(1);
                let packets = packets.and_then(|rest| rest.split(' ').next()?.parse().ok());
                Ok(packets.ok_or("nft shows no counter")?)
            }
        }
    }
}

/// As a node would have it: with limits, too.
fn guard(at_xdp: bool) -> Outcome<Edge> {
    let mut guard = Guard::open(&Lock::take(&Namespace::current()?)?)?;
    let rate = Rate {
        per_second: 100,
        burst: 200,
    };
    guard.set_guarded_ports(&[(Protocol::Tcp, PORT)])?;
    guard.set_limits(&Limits {
        connections: rate,
        ..Limits::default()
    })?;
    for prefix in prefixes() {
        let ban = Ban {
            reason: 1,
            until: None,
        };
        guard.deny(prefix.into(), ban)?;
    }
    let mut hook = guard.attach("edge")?;
    for moved in guard.set_under_attack(at_xdp) {
        if let Some(obstacle) = moved.obstacle {
            return Err(obstacle.into());
        }
        hook = moved.attachment.hook;
    }
    let expected = if at_xdp { Hook::Xdp } else { Hook::Tcx };
    if hook != expected {
        return Err(format!("the guard is at {hook:?}").into());
    }
    Ok(Edge::Guard(Box::new(guard)))
}

fn drop_all(at_xdp: bool) -> Outcome<Edge> {
    let mut ebpf = EbpfLoader::new().load(FLOOD)?;
    let name = if at_xdp { "test_drop" } else { "test_shoot" };
    let program = ebpf.program_mut(name).ok_or("no program that drops")?;
    if at_xdp {
        let program: &mut Xdp = program.try_into()?;
        program.load()?;
        program.attach("edge", XdpMode::Driver)?;
    } else {
        let program: &mut SchedClassifier = program.try_into()?;
        program.load()?;
        program.attach("edge", TcAttachType::Ingress)?;
    }
    Ok(Edge::DropAll(ebpf))
}

fn prefixes() -> impl Iterator<Item = ipnet::Ipv4Net> {
    (0..PREFIXES).map(|number| ipnet::Ipv4Net::new_assert((FIRST + number * DISTANCE).into(), 24))
}

/// Floods the edge from the namespace of the calling thread. Says how many packets were sent at most: the device drops those
/// that it has no room for.
fn flood(time: Duration) -> Outcome<u64> {
    const REPEAT: u32 = 1 << 16;
    let mut ebpf = EbpfLoader::new().load(FLOOD)?;
    let mut plan = Array::<_, [u32; 5]>::try_from(ebpf.map_mut("FLOOD").ok_or("no map FLOOD")?)?;
    plan.set(0, [if_nametoindex("peer")?, FIRST, PREFIXES, DISTANCE, 1 << 8], 0)?;
    let program: &mut Xdp = ebpf
        .program_mut("test_flood")
        .ok_or("no program test_flood")?
        .try_into()?;
    program.load()?;
    let (frame, began, mut sent) = (syn(), Instant::now(), 0);
    while began.elapsed() < time {
        program.test_run(TestRunOptions {
            data_in: Some(&frame),
            repeat: REPEAT,
            attrs: TestRunAttrs::new().xdp_live_frames(64),
            ..TestRunOptions::new()
        })?;
        sent += u64::from(REPEAT);
    }
    Ok(sent)
}

/// A SYN to the edge, whose checksums are those of the source 0.0.0.0 and port 0.
fn syn() -> Vec<u8> {
    let edge: [u8; 4] = [10, 9, 0, 1];
    let mut frame = [EDGE_MAC, PEER_MAC].concat();
    frame.extend([8, 0]);
    let mut header = vec![0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 0, 0, 0, 0];
    header.extend(edge);
    let mut tcp = vec![0, 0];
    tcp.extend(PORT.to_be_bytes());
    tcp.extend([0, 0, 0, 7, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    let of_ip = checksum(&header);
    let mut pseudo = vec![0, 0, 0, 0];
    pseudo.extend(edge);
    pseudo.extend([0, 6, 0, 20]);
    pseudo.extend(&tcp);
    let of_tcp = checksum(&pseudo);
    header.splice(10..12, of_ip.to_be_bytes());
    tcp.splice(16..18, of_tcp.to_be_bytes());
    frame.extend(header);
    frame.extend(tcp);
    // The shortest frame of Ethernet.
    frame.resize(60, 0);
    frame
}

/// Of the internet protocols (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| match *word {
        [high, low] => u32::from(high) << 8 | u32::from(low),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

type Job = Box<dyn FnOnce() -> Outcome<u64> + Send>;

/// Runs something at the edge, which is handed a way to run something at the peer.
fn between<T: Send + 'static>(
    at_edge: impl FnOnce(&dyn Fn(Job) -> Outcome<u64>) -> Outcome<T> + Send + 'static,
) -> Outcome<T> {
    let (jobs, received) = channel::<Job>();
    let (results, result) = channel();
    let (says, peer_thread) = channel();
    let peer = thread::spawn(move || -> Outcome<()> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let mut first = CpuSet::new();
        first.set(0)?;
        sched_setaffinity(Pid::from_raw(0), &first)?;
        says.send(gettid()).map_err(|_| "the edge has ended")?;
        for job in received {
            results.send(job()).map_err(|_| "the edge has ended")?;
        }
        Ok(())
    });
    let edge = thread::spawn(move || {
        let thread = peer_thread.recv()?;
        sandbox::enter(&[
            &format!("link add edge type veth peer name peer netns {thread}"),
            "link set edge address 02:00:00:00:00:01",
            "addr add 10.9.0.1/24 dev edge",
            "link set edge up",
        ])?;
        // Denied sources have no route back, and are to be dropped by the filter, not for that.
        fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0")?;
        fs::write("/proc/sys/net/ipv4/conf/edge/rp_filter", "0")?;
        let at_peer = |job: Job| {
            jobs.send(job).map_err(|_| "the peer has ended")?;
            result.recv()?
        };
        at_peer(Box::new(|| {
            ip("link set peer address 02:00:00:00:00:02")?;
            ip("addr add 10.9.0.2/24 dev peer")?;
            ip("link set peer up")?;
            Ok(0)
        }))?;
        at_edge(&at_peer)
    });
    let outcome = edge.join().map_err(|_| "the edge panicked")?;
    peer.join().map_err(|_| "the peer panicked")??;
    outcome
}

/// Runs a program to its end.
fn run(program: &str, arguments: &[&str], input: Option<&str>) -> Outcome<String> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        // nft repeats the line, which has all prefixes.
        let said: String = said.chars().take(200).collect();
        Err(format!("{program} {}: {said}", arguments.join(" ")).into())
    }
}
