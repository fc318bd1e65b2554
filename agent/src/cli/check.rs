//! `constellation check FILE`: is this file usable?

use std::path::PathBuf;

use clap::Args;
use constellation_config::{Config, ConfigErrors, Format, LoadOptions, dynamic};

use super::{Exit, Failure, print, print_json};
use crate::compile::{Compiler, Statics};
use crate::sources::{self, Contribution};

/// `check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The file, YAML, TOML or JSON by its extension.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The file is a Traefik dynamic configuration (routers, services, tls) rather than the node's own. Its routers are
    /// checked against the entry points of --config.
    #[arg(long)]
    dynamic: bool,
    /// The node's configuration, for --dynamic.
    #[arg(long, short, value_name = "FILE", requires = "dynamic")]
    config: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &CheckArgs) -> Result<(), Failure> {
    let checked = if args.dynamic {
        check_dynamic(args)
    } else {
        check_static(args)
    };
    match checked {
        Ok(warnings) => {
            if args.json {
                return print_json(&serde_json::json!({"ok": true, "errors": [], "warnings": warnings}));
            }
            let mut text: String = warnings
                .iter()
                .map(|warning| format!("warning: {warning}\n"))
                .collect();
            text.push_str(&format!("{}: ok\n", args.file.display()));
            print(&text)
        }
        Err(Refused::File(errors)) => {
            if args.json {
                print_json(&serde_json::json!({"ok": false, "errors": errors.0, "warnings": []}))?;
                return Err(Failure::new(Exit::Config, ""));
            }
            let count = errors.0.len();
            let noun = if count == 1 { "error" } else { "errors" };
            Err(Failure::new(
                Exit::Config,
                format!("{}: {count} {noun}\n{errors}", args.file.display()),
            ))
        }
        Err(Refused::Other(failure)) => Err(failure),
    }
}

enum Refused {
    File(ConfigErrors),
    Other(Failure),
}

/// The file alone counts: neither this machine's environment nor flags.
fn check_static(args: &CheckArgs) -> Result<Vec<String>, Refused> {
    let options = LoadOptions {
        file: Some(args.file.clone()),
        ..LoadOptions::default()
    };
    let loaded = Config::load(options).map_err(Refused::File)?;
    if let Some(docker) = &loaded.config.providers.docker {
        sources::docker::check(docker)
            .map_err(|error| Refused::Other(Failure::new(Exit::Config, error.to_string())))?;
    }
    Ok(loaded.warnings)
}

fn check_dynamic(args: &CheckArgs) -> Result<Vec<String>, Refused> {
    let format = Format::of(&args.file).ok_or_else(|| {
        Refused::Other(Failure::new(
            Exit::Config,
            format!(
                "{}: the extension says no format: name the file .yaml, .yml, .toml or .json",
                args.file.display()
            ),
        ))
    })?;
    let text = std::fs::read_to_string(&args.file).map_err(|error| {
        Refused::Other(Failure::new(
            Exit::Config,
            format!("{}: cannot be read: {error}", args.file.display()),
        ))
    })?;
    let dynamic = dynamic::parse(&text, format, &args.file).map_err(Refused::File)?;
    let options = LoadOptions {
        file: args.config.clone(),
        ..LoadOptions::default()
    };
    let config = match &args.config {
        Some(_) => Config::load(options).map_err(Refused::File)?.config,
        None => Config::default(),
    };
    let statics =
        Statics::new(&config, &[]).map_err(|error| Refused::Other(Failure::new(Exit::Config, error)))?;
    let contribution = Contribution {
        provider: "file",
        dynamic,
        ..Contribution::default()
    };
    let compiled = Compiler::new(statics).compile(&[contribution.into()], 1);
    let warnings = compiled
        .problems
        .iter()
        .map(|problem| format!("{}: {}", problem.subject, problem.message));
    let warnings: Vec<String> = warnings.collect();
    if compiled.disabled.is_empty() {
        return Ok(warnings);
    }
    let count = compiled.disabled.len();
    Err(Refused::Other(Failure::new(
        Exit::Config,
        format!(
            "{}: {count} router(s) would not be served\n{}",
            args.file.display(),
            warnings.join("\n")
        ),
    )))
}
