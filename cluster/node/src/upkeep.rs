//! What has to be renewed while a node runs: its certificate, whom it believes, and what gossip is sealed with.

use std::sync::Arc;
use std::time::Duration;

use constellation_cluster::raft::Consensus as _;
use constellation_cluster::state::{Command, DocumentOutcome, Outcome};
use constellation_gossip::GossipKey;
use constellation_identity::tls::Credentials;
use constellation_identity::{JoinGrant, NodeCertificate, RenewRequest, SigningRequest, UnixSeconds};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ask::{Ask, Reply};
use crate::core::Core;
use crate::home::Home;
use crate::secrets::{self, RotationStep};
use crate::serve;

/// How often it is looked whether a certificate is due, and how long to wait after a renewal that failed.
const EVERY: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(5);
/// Between the steps of a rotation: everybody has the log's last entries within this.
const STEP: Duration = Duration::from_secs(2);

/// Renews the certificate in time and takes over new authorities, until it is stopped. `due`: at once, whatever its date.
pub(crate) async fn certificate(
    core: Arc<Core>,
    home: Home,
    credentials: watch::Sender<Arc<Credentials>>,
    due: Arc<tokio::sync::Notify>,
    stop: CancellationToken,
) {
    let mut log = core.raft.watch();
    let mut trusted = 0;
    let mut asked = false;
    loop {
        let now = UnixSeconds::now();
        let revision = core.read(secrets::trust_revision);
        let cluster = core.identity.cluster;
        if revision != trusted {
            match core.read(|state| secrets::trust(state, cluster)) {
                Ok(trust) if trust != *credentials.borrow().trust() => {
                    let renewed = credentials
                        .borrow()
                        .believing(trust)
                        .map_err(|error| error.to_string());
                    match store(&home, &credentials, renewed).await {
                        Ok(()) => tracing::info!("other authorities are believed from now on"),
                        Err(error) => {
                            tracing::error!(%error, "the authorities that are believed can't be written")
                        }
                    }
                }
                Ok(_) => {}
                Err(error) => tracing::error!(%error, "the authorities can't be read"),
            }
            trusted = revision;
        }
        let mut wait = EVERY;
        if asked || credentials.borrow().certificate().renewal_due(now) {
            match renew(&core, &credentials).await {
                Ok(renewed) => match store(&home, &credentials, Ok(renewed)).await {
                    Ok(()) => {
                        asked = false;
                        let ends = credentials.borrow().certificate().ends();
                        tracing::info!(%ends, "the certificate of this node is renewed");
                    }
                    Err(error) => tracing::error!(%error, "the renewed certificate can't be written"),
                },
                Err(error) => {
                    wait = AGAIN;
                    let ends = credentials.borrow().certificate().ends();
                    tracing::warn!(error, %ends, "the certificate of this node is not renewed yet");
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            () = due.notified() => asked = true,
            changed = log.changed() => if changed.is_err() { return },
        }
    }
}

async fn store(
    home: &Home,
    credentials: &watch::Sender<Arc<Credentials>>,
    renewed: Result<Credentials, String>,
) -> Result<(), String> {
    let renewed = renewed?;
    let folder = home.folder().to_owned();
    let stored = tokio::task::spawn_blocking(move || renewed.store(&folder).map(|()| renewed)).await;
    let renewed = stored
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
    credentials.send_replace(Arc::new(renewed));
    Ok(())
}

async fn renew(core: &Core, credentials: &watch::Sender<Arc<Credentials>>) -> Result<Credentials, String> {
    let current = Arc::clone(&credentials.borrow());
    let csr = current.signing_request().map_err(|error| error.to_string())?;
    let view = core.leader();
    let grant: JoinGrant = match view.leader {
        _ if view.leading => {
            let signing = SigningRequest::parse(&csr).map_err(|error| error.to_string())?;
            serve::certify(core, &core.identity.node, &signing, UnixSeconds::now())
                .map_err(|error| error.to_string())?
        }
        Some(leader) => match core
            .ask(leader, &Ask::Renew(RenewRequest { csr }), PATIENCE)
            .await
        {
            Ok(Reply::Renewed(Ok(grant))) => grant,
            Ok(Reply::Renewed(Err(error))) => return Err(error.to_string()),
            Ok(_) => return Err(format!("node {leader} answered something else")),
            Err(error) => return Err(error.to_string()),
        },
        None => return Err("nobody leads".to_owned()),
    };
    let certificate =
        NodeCertificate::from_der(grant.certificate.into()).map_err(|error| error.to_string())?;
    current
        .with_certificate(certificate, UnixSeconds::now())
        .map_err(|error| error.to_string())
}

/// Rotates the gossip key, in three steps with time between them for everybody to follow. What another one changed
/// meanwhile ends it.
pub(crate) async fn rotate_gossip(core: &Core) -> Result<(), String> {
    let key = GossipKey::generate().map_err(|error| error.to_string())?;
    // One that was begun and not finished is finished first.
    for step in [RotationStep::Seal, RotationStep::Drop] {
        gossip_step(core, step).await?;
    }
    for step in [RotationStep::Accept(key), RotationStep::Seal, RotationStep::Drop] {
        gossip_step(core, step).await?;
    }
    tracing::info!("the gossip key is another one");
    Ok(())
}

async fn gossip_step(core: &Core, step: RotationStep) -> Result<(), String> {
    let (ring, revision) = core.read(|state| (secrets::gossip(state), secrets::gossip_revision(state)));
    let ring = ring.map_err(|error| error.to_string())?;
    let Some(command @ Command::Document(_)) = secrets::gossip_step(&ring, revision, step) else {
        return Ok(());
    };
    match core
        .apply(command, PATIENCE)
        .await
        .map_err(|error| error.to_string())?
    {
        Outcome::Document(DocumentOutcome::Changed { .. }) => {}
        Outcome::Document(DocumentOutcome::Conflict { .. }) => {
            return Err(
                "somebody else rotates the gossip key at this moment: look again in a minute".to_owned(),
            );
        }
        other => return Err(format!("the log answered {other:?}")),
    }
    tokio::time::sleep(STEP).await;
    Ok(())
}
