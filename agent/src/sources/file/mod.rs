//! The file provider: documents of Traefik dynamic configuration to routes.
//!
//! `discover` finds the files, `read` keeps the last good content of each, `merge` makes one contribution of them, and
//! `reference` follows certificates and keys.

mod discover;
mod merge;
mod read;
mod reference;
#[cfg(test)]
mod tests;

use constellation_config::{FileProvider, FileSource};
use tokio_util::sync::CancellationToken;

use super::watched::{self, Read};
use super::{Contribution, SourceHandle};
use read::Reader;

/// The name of the provider, which qualifies everything files define.
const PROVIDER: &str = "file";

/// Reads everything once, for offline commands. Blocks on the file system.
pub fn read_once(source: &FileSource) -> Contribution {
    Reader::new(source.clone()).read().contribution
}

/// Starts the provider. It runs until `cancel`.
pub fn spawn(provider: FileProvider, cancel: CancellationToken) -> SourceHandle {
    let FileProvider { source, watch } = provider;
    watched::spawn(PROVIDER, watch, move || Reader::new(source.clone()), cancel)
}
