//! `constellation guard`: who is denied and allowed, and whether there is an attack.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{Ask, Node};
use super::{Exit, Failure, print, print_json, table};
use crate::guard::Wish;

/// `guard`.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "The allow list always wins: whoever is on it gets in, whatever is denied or limited. What is said \
                  here outlasts the node; edge.guard.deny and edge.guard.allow are changed in the configuration."
)]
pub(super) struct GuardArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show where the guard is, what it does, and what it told last.
    Status(Ask),
    /// List who is denied and who is allowed.
    List(Ask),
    /// Take nothing from these any more, on any port of the host.
    Deny(Deny),
    /// Lift bans.
    Undeny(Prefixes),
    /// Take everything from these, whatever is denied or limited.
    Allow(Allow),
    /// Take them off the allow list.
    Disallow(Prefixes),
    /// Move into the drivers of the devices (XDP), back, or let the thresholds decide.
    Attack(Attack),
}

#[derive(Debug, Args)]
struct Prefixes {
    /// Addresses and networks, such as 192.0.2.1 or 2001:db8::/32.
    #[arg(value_name = "PREFIX", required_unless_present = "file")]
    prefixes: Vec<String>,
    /// Those in a file as well, one a line, `#` begins a remark; `-`: standard input.
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Debug, Args)]
struct Deny {
    /// For how long, such as 90s or 1h. Default: until they are taken back.
    #[arg(long = "for", value_name = "DURATION")]
    duration: Option<String>,
    /// Why, for whoever reads the list.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Also everybody, a large part of the Internet, or where you come from yourself.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    prefixes: Prefixes,
}

#[derive(Debug, Args)]
struct Allow {
    /// Why, for whoever reads the list.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    prefixes: Prefixes,
}

#[derive(Debug, Args)]
struct Attack {
    /// `on`: into the drivers; `off`: out of them; `auto`: as the configuration says.
    mode: Mode,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    On,
    Off,
    Auto,
}

pub(super) fn run(args: &GuardArgs) -> Result<(), Failure> {
    match &args.command {
        Command::Status(ask) => status(ask),
        Command::List(ask) => list(ask),
        Command::Deny(deny) => {
            let wish = Wish {
                prefixes: deny.prefixes.read()?,
                duration: deny.duration.clone(),
                reason: deny.reason.clone(),
                force: deny.force,
                seat: seat(),
            };
            change(&deny.prefixes.ask, "deny", &wish)
        }
        Command::Undeny(prefixes) => change(&prefixes.ask, "undeny", &prefixes.wish()?),
        Command::Allow(allow) => {
            let wish = Wish {
                reason: allow.reason.clone(),
                ..allow.prefixes.wish()?
            };
            change(&allow.prefixes.ask, "allow", &wish)
        }
        Command::Disallow(prefixes) => change(&prefixes.ask, "disallow", &prefixes.wish()?),
        Command::Attack(attack) => attacked(attack),
    }
}

/// Where this shell is used from: an operator on the machine itself is no less locked out.
fn seat() -> Option<std::net::IpAddr> {
    let connection = std::env::var("SSH_CONNECTION").ok()?;
    let address = connection.split_ascii_whitespace().next()?;
    // A link-local address may have its device behind it.
    address.split('%').next()?.parse().ok()
}

impl Ask {
    fn find(&self) -> Result<Node, Failure> {
        self.node.find(&self.settings)
    }
}

impl Prefixes {
    fn wish(&self) -> Result<Wish, Failure> {
        Ok(Wish {
            prefixes: self.read()?,
            ..Wish::default()
        })
    }

    fn read(&self) -> Result<Vec<String>, Failure> {
        let mut all = self.prefixes.clone();
        if let Some(file) = &self.file {
            let text = text_of(file).map_err(|error| {
                Failure::new(Exit::Io, format!("{} can't be read: {error}", file.display()))
            })?;
            let lines = text
                .lines()
                .map(|line| line.split('#').next().unwrap_or_default().trim());
            all.extend(lines.filter(|line| !line.is_empty()).map(str::to_owned));
        }
        Ok(all)
    }
}

fn text_of(file: &Path) -> std::io::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file)
}

#[derive(Debug, Deserialize)]
struct Changed {
    changed: Vec<String>,
    unchanged: Vec<String>,
    notes: Vec<String>,
    enforced_by: String,
}

fn change(ask: &Ask, verb: &str, wish: &Wish) -> Result<(), Failure> {
    let node = ask.find()?;
    let path = format!("/api/v1/guard/{verb}");
    if ask.json {
        return print_json(&node.post_json::<Value>(&path, wish)?);
    }
    let changed: Changed = node.post_json(&path, wish)?;
    let done = match verb {
        "deny" => "denied",
        "undeny" => "no longer denied",
        "allow" => "allowed",
        _ => "no longer allowed",
    };
    let mut text = String::new();
    // Writing to a String can't fail.
    match changed.changed.as_slice() {
        many @ [_, _, _, _, _, ..] => writeln!(text, "{done}: {} prefixes", many.len()),
        few => few.iter().try_for_each(|net| writeln!(text, "{done}: {net}")),
    }
    .unwrap_or_default();
    for line in &changed.unchanged {
        writeln!(text, "nothing to do: {line}").unwrap_or_default();
    }
    for note in &changed.notes {
        writeln!(text, "note: {note}").unwrap_or_default();
    }
    if changed.enforced_by != "kernel" {
        text +=
            "note: the kernel does not help here; the node itself closes connections from denied prefixes\n";
    }
    print(&text)
}

fn attacked(attack: &Attack) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Attacked {
        xdp: String,
        devices: Vec<Device>,
    }
    const PATH: &str = "/api/v1/guard/attack";
    let node = attack.ask.find()?;
    let xdp = match attack.mode {
        Mode::On => "on",
        Mode::Off => "off",
        Mode::Auto => "auto",
    };
    let body = json!({ "xdp": xdp });
    if attack.ask.json {
        return print_json(&node.post_json::<Value>(PATH, &body)?);
    }
    let Attacked { xdp, devices } = node.post_json(PATH, &body)?;
    let mut text = format!("xdp          {xdp}\n");
    render_devices(&mut text, &devices).unwrap_or_default();
    print(&text)
}

/// As [`crate::guard::Report`] is sent.
#[derive(Debug, Deserialize)]
pub(super) struct Guard {
    state: String,
    reason: Option<String>,
    stand_in: Option<String>,
    devices: Vec<Device>,
    denied: usize,
    allowed: usize,
    attack: Option<UnderAttack>,
    problems: Vec<String>,
    #[serde(default)]
    events: Vec<Event>,
    #[serde(default)]
    packets: std::collections::BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
struct Device {
    name: String,
    hook: Option<String>,
    problem: Option<String>,
    no_xdp: Option<String>,
}

#[derive(Debug, Deserialize)]
struct UnderAttack {
    under_attack: bool,
    xdp: String,
    by_hand: bool,
}

#[derive(Debug, Deserialize)]
struct Event {
    at: String,
    verdict: String,
    source: String,
    prefix: Option<String>,
    reason: Option<String>,
    port: Option<String>,
}

/// One line of `constellation status`.
pub(super) fn line(text: &mut String, guard: &Guard) -> std::fmt::Result {
    write!(text, "guard        {}", guard.state)?;
    if guard.state == "active" {
        let devices: Vec<String> = guard
            .devices
            .iter()
            .map(|device| format!("{}/{}", device.name, device.hook.as_deref().unwrap_or("none")))
            .collect();
        let devices = if devices.is_empty() {
            "no device".to_owned()
        } else {
            devices.join(" ")
        };
        write!(
            text,
            " at {devices}: {} denied, {} allowed",
            guard.denied, guard.allowed
        )?;
        if guard.attack.as_ref().is_some_and(|attack| attack.under_attack) {
            write!(text, ", UNDER ATTACK")?;
        }
    }
    for words in [&guard.reason, &guard.stand_in].into_iter().flatten() {
        write!(text, "; {words}")?;
    }
    for problem in &guard.problems {
        write!(text, "; {problem}")?;
    }
    writeln!(text)
}

fn status(ask: &Ask) -> Result<(), Failure> {
    const PATH: &str = "/api/v1/guard";
    let node = ask.find()?;
    if ask.json {
        return print_json(&node.get::<Value>(PATH, &[])?);
    }
    let guard: Guard = node.get(PATH, &[])?;
    let mut text = String::new();
    render(&mut text, &guard).unwrap_or_default();
    print(&text)
}

fn render(text: &mut String, guard: &Guard) -> std::fmt::Result {
    line(text, guard)?;
    render_devices(text, &guard.devices)?;
    if let Some(attack) = &guard.attack {
        let hand = if attack.by_hand { ", said by hand" } else { "" };
        let now = if attack.under_attack { "an attack" } else { "calm" };
        writeln!(text, "attack       {now} (xdp: {}{hand})", attack.xdp)?;
    }
    let mut packets = guard.packets.iter().filter(|(_, count)| **count > 0).peekable();
    if packets.peek().is_some() {
        let packets: Vec<String> = packets
            .map(|(verdict, count)| format!("{verdict} {count}"))
            .collect();
        writeln!(text, "packets      {}", packets.join(", "))?;
    }
    for event in &guard.events {
        write!(
            text,
            "event        {} {} {}",
            event.at, event.verdict, event.source
        )?;
        if let Some(port) = &event.port {
            write!(text, " to {port}")?;
        }
        if let Some(prefix) = &event.prefix {
            write!(text, " by {prefix}")?;
        }
        if let Some(reason) = &event.reason {
            write!(text, ": {reason}")?;
        }
        writeln!(text)?;
    }
    Ok(())
}

fn render_devices(text: &mut String, devices: &[Device]) -> std::fmt::Result {
    for device in devices {
        let hook = device.hook.as_deref().unwrap_or("not attached");
        write!(text, "device       {}: {hook}", device.name)?;
        for words in [&device.problem, &device.no_xdp].into_iter().flatten() {
            write!(text, "; {words}")?;
        }
        writeln!(text)?;
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
struct Lists {
    denied: Vec<Denied>,
    allowed: Vec<Allowed>,
}

#[derive(Debug, Deserialize)]
struct Denied {
    prefix: String,
    origin: String,
    reason: String,
    until: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Allowed {
    prefix: String,
    origin: String,
    reason: String,
}

fn list(ask: &Ask) -> Result<(), Failure> {
    const PATH: &str = "/api/v1/guard/lists";
    let node = ask.find()?;
    if ask.json {
        return print_json(&node.get::<Value>(PATH, &[])?);
    }
    let lists: Lists = node.get(PATH, &[])?;
    let row = |list: &str, prefix: String, origin: String, until: Option<String>, reason: String| {
        [
            list.to_owned(),
            prefix,
            origin,
            until.unwrap_or_else(|| "-".to_owned()),
            reason,
        ]
    };
    let denied = lists.denied.into_iter();
    let denied = denied.map(|line| row("denied", line.prefix, line.origin, line.until, line.reason));
    let allowed = lists.allowed.into_iter();
    let allowed = allowed.map(|line| row("allowed", line.prefix, line.origin, None, line.reason));
    let rows: Vec<_> = denied.chain(allowed).collect();
    print(&table::render(["LIST", "PREFIX", "BY", "UNTIL", "REASON"], &rows))
}
