//! `constellation config`: the schema, an example, the configuration in force.

use clap::{Args, Subcommand};
use constellation_config as config;
use constellation_config::dynamic::Dynamic;

use super::{Failure, Settings, complain, print, print_json};

/// `config`.
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The JSON schema of the configuration, for editors.
    Schema {
        /// The schema of Traefik dynamic configuration instead: routers, services, tls.
        #[arg(long)]
        dynamic: bool,
    },
    /// An example: every key with its meaning and its default.
    Example,
    /// The configuration in force as JSON, every key with its value; secrets are redacted.
    Print(Settings),
}

pub(super) fn run(args: &ConfigArgs) -> Result<(), Failure> {
    match &args.what {
        What::Schema { dynamic: false } => print_json(&config::schema()),
        What::Schema { dynamic: true } => print_json(&schemars::schema_for!(Dynamic)),
        What::Example => print(&config::example()),
        What::Print(settings) => {
            let loaded = settings.load()?;
            for warning in &loaded.warnings {
                complain(warning);
            }
            print_json(&loaded.effective)
        }
    }
}
