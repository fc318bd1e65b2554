//! `constellation status`: how the running node fares.

use std::fmt::Write as _;
use std::net::SocketAddr;

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::client::Ask;
use super::{Failure, print, print_json};
use super::{chase, guard, nodes};

/// `status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    ask: Ask,
}

/// What the summary shows of `/api/v1/status`.
#[derive(Debug, Deserialize)]
struct Status {
    node: String,
    domain: Option<String>,
    region: Option<String>,
    priority: u16,
    version: String,
    status: String,
    draining: bool,
    uptime_seconds: u64,
    config_file: Option<String>,
    generation: u64,
    routers: usize,
    services: usize,
    healthy_services: usize,
    entry_points: Vec<EntryPoint>,
    sources: Vec<Source>,
    problems: Vec<Problem>,
    last_reload_error: Option<String>,
    steering: Steering,
    guard: guard::Guard,
    chase: chase::Chase,
    #[serde(default)]
    virtual_ips: Option<VirtualIps>,
    #[serde(default)]
    mode: String,
    #[serde(default)]
    traefik_provider: Option<Provider>,
    #[serde(default)]
    quorum: Option<bool>,
    #[serde(default)]
    cluster_nodes: Vec<nodes::Node>,
}

#[derive(Debug, Deserialize)]
struct Provider {
    address: Option<SocketAddr>,
    ready: bool,
    reason: Option<String>,
    routers: usize,
    left_out: Vec<Problem>,
}

#[derive(Debug, Deserialize)]
struct Steering {
    state: String,
    reason: Option<String>,
    stand_in: Option<String>,
    lease: Option<Lease>,
}

#[derive(Debug, Deserialize)]
struct VirtualIps {
    state: String,
    reason: Option<String>,
    addresses: Vec<String>,
    remaining_seconds: f64,
    set_aside_seconds: f64,
}

#[derive(Debug, Deserialize)]
struct Lease {
    epoch: u64,
    remaining_seconds: f64,
    losses: u64,
    steered: usize,
    #[serde(default)]
    stands_by: bool,
}

#[derive(Debug, Deserialize)]
struct EntryPoint {
    name: String,
    address: SocketAddr,
    protocol: String,
}

#[derive(Debug, Deserialize)]
struct Source {
    name: String,
    connected: bool,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Problem {
    subject: String,
    message: String,
}

pub(super) fn run(args: &StatusArgs) -> Result<(), Failure> {
    let node = args.ask.node.find(&args.ask.settings)?;
    if args.ask.json {
        return print_json(&node.get::<Value>("/api/v1/status", &[])?);
    }
    let status: Status = node.get("/api/v1/status", &[])?;
    // Writing to a String can't fail.
    let mut text = String::new();
    render(&mut text, node.base(), &status).unwrap_or_default();
    print(&text)
}

fn render(text: &mut String, control: &str, status: &Status) -> std::fmt::Result {
    let state = if status.draining {
        "draining"
    } else {
        &status.status
    };
    writeln!(
        text,
        "node         {} ({state}), version {}",
        status.node, status.version
    )?;
    let domain = status.domain.as_deref().unwrap_or("none");
    let region = status.region.as_deref().unwrap_or("none");
    let priority = status.priority;
    writeln!(
        text,
        "cluster      domain {domain}, region {region}, priority {priority}"
    )?;
    let uptime = std::time::Duration::from_secs(status.uptime_seconds);
    writeln!(text, "up           {}", humantime::format_duration(uptime))?;
    let file = status.config_file.as_deref().unwrap_or("none");
    writeln!(text, "config file  {file}")?;
    writeln!(text, "control      {control}")?;
    for entry_point in &status.entry_points {
        let datagrams = if entry_point.protocol == "udp" { "/udp" } else { "" };
        writeln!(
            text,
            "listening    {} on {}{datagrams}",
            entry_point.name, entry_point.address
        )?;
    }
    traefik(text, &status.mode, status.traefik_provider.as_ref())?;
    steering(text, &status.steering)?;
    guard::line(text, &status.guard)?;
    chase::line(text, &status.chase)?;
    if let Some(virtual_ips) = status.virtual_ips.as_ref().filter(|ips| ips.state != "disabled") {
        render_virtual_ips(text, virtual_ips)?;
    }
    if let Some(quorum) = status.quorum {
        for node in &status.cluster_nodes {
            writeln!(text, "member       {}", node.line())?;
        }
        if !quorum {
            writeln!(
                text,
                "NO QUORUM    no majority of the voters answers: this node serves on with what it knows, and nothing is changed"
            )?;
        }
    }
    writeln!(
        text,
        "serving      {} routers, {} of {} services healthy, generation {}",
        status.routers, status.healthy_services, status.services, status.generation
    )?;
    for source in &status.sources {
        let state = match (&source.error, source.connected) {
            (Some(error), _) => error,
            (None, true) => "connected",
            (None, false) => "not connected yet",
        };
        writeln!(text, "source       {}: {state}", source.name)?;
    }
    if let Some(error) = &status.last_reload_error {
        writeln!(text, "last reload  {error}")?;
    }
    for problem in &status.problems {
        writeln!(text, "problem      {}: {}", problem.subject, problem.message)?;
    }
    Ok(())
}

fn render_virtual_ips(text: &mut String, ips: &VirtualIps) -> std::fmt::Result {
    write!(text, "virtual ips  {}", ips.state)?;
    if ips.state == "active" {
        let here = match (ips.remaining_seconds > 0.0, ips.set_aside_seconds > 0.0) {
            (true, _) => "here",
            (_, true) => "elsewhere, with connections from before here",
            _ => "elsewhere",
        };
        write!(text, ", {here}: {}", ips.addresses.join(", "))?;
    }
    if let Some(reason) = &ips.reason {
        write!(text, "; {reason}")?;
    }
    writeln!(text)
}

fn steering(text: &mut String, steering: &Steering) -> std::fmt::Result {
    write!(text, "steering     {}", steering.state)?;
    if let Some(lease) = &steering.lease {
        let Lease {
            epoch,
            remaining_seconds,
            losses,
            steered,
            stands_by,
        } = lease;
        let what = if *stands_by {
            "stands by for another"
        } else {
            "lease for another"
        };
        write!(
            text,
            ": {steered} addresses, epoch {epoch}, {what} {remaining_seconds:.1} s"
        )?;
        if *losses > 0 {
            write!(text, ", lost {losses} times")?;
        }
    }
    for words in [&steering.reason, &steering.stand_in].into_iter().flatten() {
        write!(text, "; {words}")?;
    }
    writeln!(text)
}

/// Who takes clients, where a Traefik does or may ask for its routes.
fn traefik(text: &mut String, mode: &str, provider: Option<&Provider>) -> std::fmt::Result {
    let Some((provider, address)) = provider.and_then(|provider| Some((provider, provider.address?))) else {
        return Ok(());
    };
    write!(text, "traefik      {mode}, polls {address}: ")?;
    match provider.ready {
        true => write!(text, "{} routers", provider.routers)?,
        false => write!(text, "no document")?,
    }
    if let Some(reason) = &provider.reason {
        write!(text, "; {reason}")?;
    }
    writeln!(text)?;
    for problem in &provider.left_out {
        writeln!(text, "left out     {}: {}", problem.subject, problem.message)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_summary_names_listeners_sources_and_problems() {
        let mut answer = json!({
            "service": "constellation", "node": "edge-1", "domain": "example.test", "region": null,
            "priority": 7, "version": "0.1.0", "status": "degraded", "draining": false,
            "uptime_seconds": 61, "config_file": null, "generation": 4, "routers": 2, "services": 2,
            "healthy_services": 1, "entry_points": [
                {"name": "web", "address": "127.0.0.1:8000", "protocol": "tcp"},
                {"name": "dns", "address": "127.0.0.1:53", "protocol": "udp"},
            ],
            "sources": [{"name": "file", "connected": true, "error": null},
                        {"name": "docker", "connected": false, "error": "no socket"}],
            "problems": [{"subject": "router a@file", "message": "it has no rule"}], "last_reload_error": null,
            "steering": {"state": "active", "reason": null, "stand_in": null,
                         "lease": {"epoch": 3, "remaining_seconds": 2.51, "renewals": 9, "losses": 0, "steered": 2}},
            "chase": {"state": "active", "reason": null, "stand_in": null, "devices": ["eth0"], "problems": [],
                      "moved": [{"address": "10.0.0.1", "previous": "10.0.0.7", "remaining_seconds": 9.5}]},
            "guard": {"state": "active", "reason": null, "stand_in": null, "denied": 3, "allowed": 1, "problems": ["lost"],
                      "devices": [{"name": "eth0", "hook": "xdp", "problem": null, "no_xdp": null},
                                  {"name": "tun0", "hook": null, "problem": "gone", "no_xdp": null}],
                      "attack": {"under_attack": true, "xdp": "auto", "by_hand": false}},
            "virtual_ips": {"state": "active", "reason": null, "stand_in": null, "addresses": ["10.0.0.9/24 at eth0"],
                            "remaining_seconds": 1.5, "set_aside_seconds": 0.0, "announced": 1},
            "quorum": false,
            "cluster_nodes": [
                {"name": "edge-1", "this": true, "online": true, "cordoned": false, "draining": false, "voter": true,
                 "leader": true, "witness": false, "priority": 7, "region": null, "version": null, "address": null,
                 "leases": ["lb_leader"]},
                {"name": "edge-2", "this": false, "online": false, "cordoned": true, "draining": false, "voter": true,
                 "leader": false, "witness": true, "priority": null, "region": null, "version": null, "address": null,
                 "leases": []},
            ],
        });
        answer["mode"] = "behind-traefik".into();
        answer["traefik_provider"] = json!({
            "address": "127.0.0.1:8081", "failover": "127.0.0.1:8082", "ready": true, "reason": null,
            "routers": 2, "services": 2, "bytes": 99, "etag": "x",
            "left_out": [{"subject": "middleware m@file", "message": "no kind"}],
        });
        let mut text = String::new();
        render(
            &mut text,
            "http://127.0.0.1:8080",
            &serde_json::from_value(answer).unwrap(),
        )
        .unwrap();
        assert_eq!(
            text,
            "\
node         edge-1 (degraded), version 0.1.0
cluster      domain example.test, region none, priority 7
up           1m 1s
config file  none
control      http://127.0.0.1:8080
listening    web on 127.0.0.1:8000
listening    dns on 127.0.0.1:53/udp
traefik      behind-traefik, polls 127.0.0.1:8081: 2 routers
left out     middleware m@file: no kind
steering     active: 2 addresses, epoch 3, lease for another 2.5 s
guard        active at eth0/xdp tun0/none: 3 denied, 1 allowed, UNDER ATTACK; lost
chase        active at eth0: connections of 1 addresses stay with the node before
virtual ips  active, here: 10.0.0.9/24 at eth0
member       edge-1 online, leader, has lb_leader
member       edge-2 offline, witness
NO QUORUM    no majority of the voters answers: this node serves on with what it knows, and nothing is changed
serving      2 routers, 1 of 2 services healthy, generation 4
source       file: connected
source       docker: no socket
problem      router a@file: it has no rule
"
        );
    }
}
