//! `bench footprint`: placeholder.

use clap::Args;

/// `bench footprint`.
#[derive(Debug, Args)]
pub(crate) struct FootprintArgs {
    /// Host routes, each with a service of its own.
    #[arg(long, default_value_t = 10_000)]
    routes: usize,
}

pub(super) fn run(args: &FootprintArgs) -> anyhow::Result<()> {
    anyhow::bail!("not yet: {}", args.routes)
}
