//! Constellation.

use std::process::Command;

use anyhow::Result;

use super::{KEPT_CONNECTIONS, Site};

pub(super) fn set_up(site: &Site<'_>, command: &mut Command) -> Result<()> {
    let dynamic = site.write("dynamic.yaml", &super::dynamic(site))?;
    let config = format!(
        "{entry_points}\
         providers:\n  file: {{ filename: \"{dynamic}\", watch: false }}\n\
         control: {{ address: \"127.0.0.1:{control}\" }}\n\
         serversTransport: {{ maxIdleConnsPerHost: {KEPT_CONNECTIONS} }}\n\
         proxy: {{ workers: 1 }}\nlog: {{ level: warn }}\n",
        entry_points = super::entry_points(site),
        control = site.control,
        dynamic = dynamic.display(),
    );
    let config = site.write("constellation.yaml", &config)?;
    // The environment overrides the file; none of it may decide here.
    command.env_clear().env("RUNTIME_DIRECTORY", site.directory);
    command.args(["run", "--config"]).arg(config);
    Ok(())
}
