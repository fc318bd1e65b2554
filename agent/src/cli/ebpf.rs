//! `constellation ebpf`: what is attached and pinned in the kernel, read from there and not from a node.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Args, Subcommand};
use constellation_ebpf_loader::{
    BootTime, Error, Lock, Namespace, Status, detach, detach_without_lock, status,
};
use serde_json::{Value, json};

use super::{Exit, Failure, print, print_json};

/// `ebpf`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(super) struct EbpfArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show maps, attached programs and the lease's grant in this network namespace.
    Status(StatusArgs),
    /// Detach every program and remove every map in this network namespace. Established connections go on.
    Detach(DetachArgs),
}

#[derive(Debug, Args)]
struct StatusArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct DetachArgs {
    /// Also while a node holds it. That node serves on with the sockets that it has bound; networks and addresses that
    /// were added while it ran are refused until it is restarted.
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &EbpfArgs) -> Result<(), Failure> {
    let namespace = Namespace::find().map_err(|error| failure(&error))?;
    match &args.command {
        Command::Status(args) => show(namespace.as_ref(), args),
        Command::Detach(args) => remove(namespace.as_ref(), args),
    }
}

fn show(namespace: Option<&Namespace>, args: &StatusArgs) -> Result<(), Failure> {
    let Some(namespace) = namespace else {
        return match args.json {
            true => print_json(&Value::Null),
            false => print(NOTHING),
        };
    };
    let status = status(namespace).map_err(|error| failure(&error))?;
    let held = match Lock::take(namespace) {
        Ok(_) => false,
        Err(Error::Busy(_)) => true,
        Err(error) => return Err(failure(&error)),
    };
    if args.json {
        print_json(&document(namespace, &status, held))
    } else {
        print(&text(&status, held))
    }
}

const NOTHING: &str = "nothing is attached or pinned in this network namespace\n";

fn document(namespace: &Namespace, status: &Status, held: bool) -> Value {
    let links = status
        .links
        .iter()
        .map(|link| {
        json!({
            "pin": link.pin.display().to_string(), "id": link.id, "program": link.program, "device": device(&link.pin),
        })
    });
    let maps = status.maps.iter().map(|map| {
        json!({
            "pin": map.pin.display().to_string(), "name": map.name, "id": map.id, "max_entries": map.max_entries,
            "key_size": map.key_size, "value_size": map.value_size,
        })
    });
    json!({
        "folder": namespace.folder().display().to_string(),
        "held": held,
        "grant": status.grant.map(|grant| json!({
            "epoch": grant.epoch,
            "authority": if grant.issuer.is_cluster() { "lease" } else { "local" },
            "stands_by": grant.stands_by,
            "remaining_seconds": grant.valid_until.remaining(BootTime::now()).unwrap_or_default().as_secs_f64(),
        })),
        "links": links.collect::<Vec<_>>(),
        "maps": maps.collect::<Vec<_>>(),
    })
}

fn text(status: &Status, held: bool) -> String {
    if status.links.is_empty() && status.maps.is_empty() {
        return NOTHING.to_owned();
    }
    let mut text = format!("held by a node  {}\n", if held { "yes" } else { "no" });
    // Writing to a String can't fail.
    if let Some(grant) = status.grant {
        let left = match grant.valid_until.remaining(BootTime::now()) {
            Some(left) => format!("for another {:.1} s", left.as_secs_f64()),
            None => "over: new connections are refused".to_owned(),
        };
        let of = if grant.issuer.is_cluster() {
            " of the cluster's lease"
        } else {
            ""
        };
        let as_what = if grant.stands_by {
            ", standing by for the holder"
        } else {
            ""
        };
        writeln!(text, "grant           epoch {}{of}{as_what}, {left}", grant.epoch).unwrap_or_default();
    }
    for link in &status.links {
        let (pin, id, program) = (link.pin.display(), link.id, link.program);
        let device = device(&link.pin).map_or_else(String::new, |device| format!(", device {device}"));
        writeln!(
            text,
            "attached        {pin}, link {id}, program {program}{device}"
        )
        .unwrap_or_default();
    }
    for map in &status.maps {
        let (pin, id, entries) = (map.pin.display(), map.id, map.max_entries);
        writeln!(text, "map             {pin}, id {id}, up to {entries} entries").unwrap_or_default();
    }
    text
}

/// The device that the guard is at by this link; its pin says the index.
fn device(pin: &Path) -> Option<String> {
    let name = pin.file_name()?.to_str()?.strip_prefix("edge_guard_")?;
    let index = name.rsplit_once('_')?.1.parse().ok()?;
    let device = nix::net::if_::if_indextoname(index).ok()?;
    Some(device.to_string_lossy().into_owned())
}

fn remove(namespace: Option<&Namespace>, args: &DetachArgs) -> Result<(), Failure> {
    let Some(namespace) = namespace else {
        return print(NOTHING);
    };
    let removed = if args.force {
        detach_without_lock(namespace)
    } else {
        Lock::take(namespace).and_then(|lock| detach(&lock))
    };
    match removed {
        Ok(()) => print("every program is detached, and every map removed\n"),
        Err(error @ Error::Busy(_)) => Err(Failure::new(
            Exit::Unavailable,
            format!("{error}. To detach all the same: --force"),
        )),
        Err(error) => Err(failure(&error)),
    }
}

fn failure(error: &Error) -> Failure {
    let exit = match error {
        Error::Denied { .. } => Exit::Permission,
        Error::File { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            Exit::Permission
        }
        _ => Exit::System,
    };
    Failure::new(exit, error.to_string())
}
