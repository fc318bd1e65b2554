//! `constellation import traefik`: a configuration of Traefik, as ours.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use constellation_config::import::{self, Import, Verdict};
use constellation_config::{Config, FileSource, Format, LoadOptions, read_text};
use serde::Serialize;

use super::{Exit, Failure, complain_softly, print, print_json};
use crate::compile::{Compiler, Statics};
use crate::sources;

/// `import`.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    /// Read a static configuration of Traefik and write ours. Says of every key what became of it; ends with 0 when all was
    /// taken over, with 3 when something differs, with 4 when something has no counterpart.
    Traefik(TraefikArgs),
}

#[derive(Debug, Args)]
struct TraefikArgs {
    /// Traefik's static configuration, YAML, TOML or JSON by its extension.
    #[arg(long = "static", value_name = "FILE")]
    static_file: PathBuf,
    /// Traefik's dynamic configuration, a file or a folder of them: says of every router and service whether it would be
    /// served.
    #[arg(long, value_name = "PATH")]
    dynamic: Option<PathBuf>,
    /// Where to write our configuration; otherwise it goes to standard output, and the report to standard error.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the report as JSON, with the configuration in it.
    #[arg(long)]
    json: bool,
}

/// An object of the dynamic configuration.
#[derive(Debug, Serialize)]
struct Object {
    subject: String,
    served: bool,
    message: String,
}

pub(super) fn run(args: &ImportArgs) -> Result<(), Failure> {
    let From::Traefik(args) = &args.from;
    let file = &args.static_file;
    let format = Format::of(file).ok_or_else(|| {
        let text = format!(
            "{}: the extension says no format: name the file .yaml, .yml, .toml or .json",
            file.display()
        );
        Failure::new(Exit::Config, text)
    })?;
    let config_failure =
        |errors: constellation_config::ConfigErrors| Failure::new(Exit::Config, errors.to_string());
    let text = read_text(file).map_err(config_failure)?;
    let import = import::traefik(&text, format, file).map_err(config_failure)?;
    let yaml = import::to_yaml(&import.config);
    let objects = match &args.dynamic {
        Some(path) => check(path, &import)?,
        None => Vec::new(),
    };
    if let Some(out) = &args.out {
        write(out, &yaml)?;
    }
    if args.json {
        print_json(&serde_json::json!({
            "config": import.config, "findings": import.findings, "notes": import.notes, "dynamic": objects,
        }))?;
    } else {
        let report = report(&import, &objects);
        match &args.out {
            Some(_) => print(&report)?,
            None => {
                complain_softly(report.trim_end());
                print(&yaml)?;
            }
        }
    }
    match outcome(&import, &objects) {
        Exit::Ok => Ok(()),
        exit => Err(Failure::new(exit, "")),
    }
}

/// Never over a file that is there: it may be the one that runs.
fn write(out: &Path, yaml: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    let failed = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AlreadyExists => "; it is not overwritten: name another file, or remove it",
            _ => "",
        };
        Failure::new(Exit::Io, format!("cannot write {}: {error}{hint}", out.display()))
    };
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(out)
        .map_err(failed)?;
    file.write_all(yaml.as_bytes()).map_err(failed)?;
    let options = LoadOptions {
        file: Some(out.to_owned()),
        ..LoadOptions::default()
    };
    let loaded = Config::load(options).map_err(|errors| {
        let text = format!(
            "{} has to be corrected before it can be used:\n{errors}",
            out.display()
        );
        Failure::new(Exit::Config, text)
    })?;
    for warning in loaded.warnings {
        complain_softly(&format!("warning: {warning}"));
    }
    Ok(())
}

/// What would be served of the dynamic configuration, at the entry points that were taken over.
fn check(path: &Path, import: &Import) -> Result<Vec<Object>, Failure> {
    let source = match path.is_dir() {
        true => FileSource::Directory(path.to_owned()),
        false => FileSource::File(path.to_owned()),
    };
    let reading = sources::file::read_once(&source);
    // For the sake of entry points alone.
    let mut config = Config::default();
    let names = import
        .config
        .get("entryPoints")
        .and_then(serde_json::Value::as_object);
    config.entry_points = names
        .into_iter()
        .flatten()
        .map(|(name, _)| constellation_config::EntryPoint::new(name.as_str(), Vec::new()))
        .collect();
    let statics = Statics::new(&config, &[]).map_err(|error| Failure::new(Exit::Config, error))?;
    let mut defined = Vec::new();
    let dynamic = &reading.dynamic;
    let mut add = |kind: &str, names: &mut dyn Iterator<Item = &String>| {
        defined.extend(names.map(|name| format!("{kind}{name}@file")));
    };
    add("router ", &mut dynamic.http.routers.keys());
    add("service ", &mut dynamic.http.services.keys());
    add("middleware ", &mut dynamic.http.middlewares.keys());
    add("serversTransport ", &mut dynamic.http.servers_transports.keys());
    add("router tcp/", &mut dynamic.tcp.routers.keys());
    add("service tcp/", &mut dynamic.tcp.services.keys());
    add("middleware tcp/", &mut dynamic.tcp.middlewares.keys());
    add("router udp/", &mut dynamic.udp.routers.keys());
    add("service udp/", &mut dynamic.udp.services.keys());
    let compiled = Compiler::new(statics).compile(&[reading.into()], 1);
    let mut problems = compiled.problems;
    let mut objects: Vec<Object> = defined
        .into_iter()
        .map(|subject| {
            let (own, others) = std::mem::take(&mut problems)
                .into_iter()
                .partition::<Vec<_>, _>(|problem| problem.subject == subject);
            problems = others;
            let name = subject.split_once(' ').map_or("", |(_, name)| name);
            let disabled = compiled.disabled.iter().any(|disabled| disabled.name == name);
            let messages: Vec<String> = own.into_iter().map(|problem| problem.message).collect();
            Object {
                served: !(disabled && subject.starts_with("router ")),
                subject,
                message: messages.join("; "),
            }
        })
        .collect();
    // Files that can't be read at all, and the like.
    objects.extend(problems.into_iter().map(|problem| Object {
        subject: problem.subject,
        served: false,
        message: problem.message,
    }));
    Ok(objects)
}

fn report(import: &Import, objects: &[Object]) -> String {
    let mut text = String::new();
    let mut line = |what: &str, about: &str, message: &str| {
        let separator = if message.is_empty() { "" } else { ": " };
        // Writing to a string can't fail.
        writeln!(text, "{what:<8} {about}{separator}{message}").unwrap_or_default();
    };
    for finding in &import.findings {
        let what = match finding.verdict {
            Verdict::Taken => "taken",
            Verdict::Differs => "differs",
            Verdict::Refused => "refused",
        };
        line(
            what,
            &format!("{} {}", finding.origin, finding.key),
            &finding.message,
        );
    }
    for note in &import.notes {
        line("added", note, "");
    }
    for object in objects {
        let what = match (object.served, object.message.is_empty()) {
            (true, true) => "served",
            (true, false) => "differs",
            (false, _) => "refused",
        };
        line(what, &object.subject, &object.message);
    }
    text
}

fn outcome(import: &Import, objects: &[Object]) -> Exit {
    let worst = import.findings.iter().map(|finding| finding.verdict).max();
    let refused = worst == Some(Verdict::Refused) || objects.iter().any(|object| !object.served);
    let differs = worst == Some(Verdict::Differs) || objects.iter().any(|object| !object.message.is_empty());
    match (refused, differs) {
        (true, _) => Exit::Refused,
        (false, true) => Exit::Differs,
        (false, false) => Exit::Ok,
    }
}
