//! The file provider: documents of Traefik dynamic configuration to routes.

mod read;

use constellation_config::{FileProvider, FileSource};
use tokio_util::sync::CancellationToken;

use super::publication::Publication;
use super::{Contribution, Reload, SourceHandle};

/// The name of the provider, which qualifies everything files define.
const PROVIDER: &str = "file";

/// Reads everything once, for offline commands. Blocks on the file system.
pub fn read_once(source: &FileSource) -> Contribution {
    read::Reader::new(source.clone()).read().contribution
}

/// Starts the provider. It runs until `cancel`.
pub fn spawn(provider: FileProvider, cancel: CancellationToken) -> SourceHandle {
    let (mut publication, state) = Publication::new(PROVIDER);
    let reload = Reload::default();
    let task = tokio::spawn({
        let reload = reload.clone();
        async move {
            let running = async {
                loop {
                    publication.publish(read_once(&provider.source));
                    reload.requested().await;
                }
            };
            cancel.run_until_cancelled(running).await;
        }
    });
    SourceHandle { state, reload, task }
}
