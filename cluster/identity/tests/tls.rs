//! Real handshakes: who gets through, and what who does not reads about it.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Cluster, DAY, HOUR, NOW, name};
use constellation_identity::tls::{self, Credentials, explain, joining, peer, server_name};
use constellation_identity::{
    Authority, Joining, NODE_VALIDITY, NodeIdentity, NodeKey, SigningRequest, Trust, UnixSeconds,
};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::UnixTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const ALPN: &[u8] = b"test/1";

#[derive(Debug)]
struct At(UnixSeconds);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.0)))
    }
}

fn server(credentials: &Credentials, now: UnixSeconds) -> ServerConfig {
    let mut config = credentials.server(&[ALPN]).unwrap();
    config.time_provider = Arc::new(At(now));
    config
}

fn client(credentials: &Credentials, node: &str, now: UnixSeconds) -> ClientConfig {
    let mut config = credentials.client(&name(node), ALPN).unwrap();
    config.time_provider = Arc::new(At(now));
    config
}

/// What either side has in the end: who the other one is, or why not.
type Outcome = Result<Option<NodeIdentity>, String>;

fn reason(error: &std::io::Error) -> String {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        Some(error) => explain(error),
        None => error.to_string(),
    }
}

/// A handshake and a byte each way, as with TLS 1.3 a client learns only then that its certificate was refused.
async fn handshake(client: ClientConfig, server: ServerConfig) -> (Outcome, Outcome) {
    let (near, far) = tokio::io::duplex(16 * 1024);
    let connecting = async {
        let mut stream = TlsConnector::from(Arc::new(client))
            .connect(server_name(), near)
            .await?;
        stream.write_all(b"x").await?;
        stream.flush().await?;
        stream.read_u8().await?;
        Ok(peer(stream.get_ref().1).unwrap())
    };
    let accepting = async {
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(far).await?;
        stream.read_u8().await?;
        stream.write_all(b"y").await?;
        stream.flush().await?;
        Ok(peer(stream.get_ref().1).unwrap())
    };
    let (near, far): (std::io::Result<_>, std::io::Result<_>) = tokio::join!(connecting, accepting);
    (
        near.map_err(|error| reason(&error)),
        far.map_err(|error| reason(&error)),
    )
}

#[track_caller]
fn says(outcome: &Outcome, expected: &str) {
    let error = outcome.as_ref().unwrap_err();
    assert!(error.contains(expected), "{error:?} does not say {expected:?}");
}

#[tokio::test]
async fn members_know_each_other() {
    let mut cluster = Cluster::new();
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    let (near, far) = handshake(client(&a, "b", NOW), server(&b, NOW)).await;
    assert_eq!(near.unwrap().as_ref(), Some(b.certificate().identity()));
    let seen = far.unwrap().unwrap();
    assert_eq!(&seen, a.certificate().identity());
    assert!(cluster.members.admits(&seen));
    cluster.members.remove(&name("a"));
    assert!(!cluster.members.admits(&seen));
}

#[tokio::test]
async fn another_node_at_the_address_is_found() {
    let mut cluster = Cluster::new();
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    let (near, far) = handshake(client(&a, "c", NOW), server(&b, NOW)).await;
    says(&near, "the peer is node b, expected node c");
    assert!(far.is_err());
}

#[tokio::test]
async fn another_cluster_is_refused_by_both_sides() {
    let (mut ours, mut theirs) = (Cluster::new(), Cluster::new());
    let (a, b) = (ours.node("a"), theirs.node("b"));
    let (near, far) = handshake(client(&a, "b", NOW), server(&b, NOW)).await;
    says(&near, "an authority that this node does not trust");
    assert!(far.is_err());

    // A client that does not check the server: the server refuses it all the same.
    let b_like_a = theirs.node("b");
    let mixed = Trust::new(theirs.id, vec![theirs.authority.certificate().clone()]).unwrap();
    let a = a.with_trust(mixed);
    let (near, far) = handshake(client(&a, "b", NOW), server(&b_like_a, NOW)).await;
    assert!(near.is_err());
    says(&far, "an authority that this node does not trust");
}

#[tokio::test]
async fn a_cluster_that_signs_for_another_one_gains_nothing() {
    // The same authority key can't be of two clusters, so a foreign identity under our authority is made by hand.
    let mut cluster = Cluster::new();
    let a = cluster.node("a");
    let foreign = Cluster::new();
    let key = NodeKey::generate().unwrap();
    let rcgen_key = rcgen::KeyPair::from_pem(&key.to_pem()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    cluster.authority.store(folder.path()).unwrap();
    let authority_key = std::fs::read_to_string(folder.path().join("ca.key")).unwrap();
    let authority_key = rcgen::KeyPair::from_pem(&authority_key).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_der(cluster.authority.certificate(), authority_key).unwrap();
    let mut params = rcgen::CertificateParams::default();
    let uri = foreign.id.node_uri(&name("a"));
    params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
    let der = params.signed_by(&rcgen_key, &issuer).unwrap().der().clone();
    let mut config = client(&a, "a", NOW);
    config.client_auth_cert_resolver = {
        let mut with =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_client_auth_cert(
                    vec![der],
                    rustls_pki_types::PrivateKeyDer::try_from(rcgen_key.serialize_der()).unwrap(),
                )
                .unwrap();
        std::mem::replace(
            &mut with.client_auth_cert_resolver,
            config.client_auth_cert_resolver.clone(),
        )
    };
    let (near, far) = handshake(config, server(&a, NOW)).await;
    assert!(near.is_err());
    says(
        &far,
        &format!(
            "the peer is node a of cluster {}, this is cluster {}",
            foreign.id, cluster.id
        ),
    );
}

#[tokio::test]
async fn who_shows_no_certificate_may_only_join() {
    let mut cluster = Cluster::new();
    let a = cluster.node("a");
    let token = cluster.token();
    let mut config = joining(&token).unwrap();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.time_provider = Arc::new(At(NOW));
    let (near, far) = handshake(config, server(&a, NOW)).await;
    assert!(near.is_err());
    says(&far, "peer sent no certificates");

    let mut config = joining(&token).unwrap();
    config.time_provider = Arc::new(At(NOW));
    let (near, far) = handshake(config, a.join_server().unwrap()).await;
    assert_eq!(near.unwrap().as_ref(), Some(a.certificate().identity()));
    assert_eq!(far.unwrap(), None);
    // And a member's connection is not taken for a joiner's.
    let (near, _) = handshake(client(&a, "a", NOW), a.join_server().unwrap()).await;
    assert!(near.is_err());
}

#[tokio::test]
async fn the_pin_is_checked_before_anything_is_sent() {
    let (mut cluster, mut impostor) = (Cluster::new(), Cluster::new());
    let token = cluster.token();
    let fake = impostor.node("a");
    let mut config = joining(&token).unwrap();
    config.time_provider = Arc::new(At(NOW));
    let (near, far) = handshake(config.clone(), fake.join_server().unwrap()).await;
    says(&near, "did not show the authority that the join token pins");
    assert!(far.is_err(), "not a byte arrived");

    // One that shows the right authority, which is no secret, beside its own certificate.
    let key = NodeKey::generate().unwrap();
    let certificate = impostor.certify("a", &key, NOW);
    let chain = vec![certificate.der().clone(), cluster.authority.certificate().clone()];
    let mut server =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, rustls_pki_types::PrivateKeyDer::from_pem(&key))
            .unwrap();
    server.alpn_protocols = vec![tls::JOIN_ALPN.to_vec()];
    let (near, far) = handshake(config, server).await;
    says(&near, "an authority that this node does not trust");
    assert!(far.is_err());
}

trait FromPem {
    fn from_pem(key: &NodeKey) -> Self;
}

impl FromPem for rustls_pki_types::PrivateKeyDer<'static> {
    fn from_pem(key: &NodeKey) -> Self {
        use rustls_pki_types::pem::PemObject as _;
        Self::from_pem_slice(key.to_pem().as_bytes()).unwrap()
    }
}

#[tokio::test]
async fn a_wrong_clock_is_called_one() {
    let mut cluster = Cluster::new();
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    // Certificates begin an hour early: less than that goes unnoticed.
    let (near, far) = handshake(client(&a, "b", NOW.minus(HOUR / 2)), server(&b, NOW)).await;
    assert!(near.is_ok() && far.is_ok());
    let (near, _) = handshake(client(&a, "b", NOW.minus(5 * HOUR)), server(&b, NOW)).await;
    says(
        &near,
        "valid from 2027-01-15T07:00:00Z, this node's clock says 2027-01-15T03:00:00Z: a clock is wrong",
    );
    let (_, far) = handshake(client(&a, "b", NOW), server(&b, NOW.minus(5 * HOUR))).await;
    says(&far, "a clock is wrong");
    let token = cluster.token();
    let mut config = joining(&token).unwrap();
    config.time_provider = Arc::new(At(NOW.minus(5 * HOUR)));
    let (near, _) = handshake(config, a.join_server().unwrap()).await;
    says(&near, "a clock is wrong");
}

#[tokio::test]
async fn an_expired_certificate_is_refused_and_says_since_when() {
    let mut cluster = Cluster::new();
    let (old, new) = (cluster.node("old"), cluster.node_at("new", NOW.plus(29 * DAY)));
    let later = NOW.plus(31 * DAY);
    let (near, far) = handshake(client(&old, "new", later), server(&new, later)).await;
    assert!(near.is_err());
    says(
        &far,
        "expired at 2027-02-14T08:00:00Z, this node's clock says 2027-02-15T08:00:00Z",
    );
    let (near, far) = handshake(client(&new, "old", later), server(&old, later)).await;
    says(&near, "has to join again with a new token");
    assert!(far.is_err());
    assert!(old.check(later).is_err() && new.check(later).is_ok());
}

/// The three steps of a rotation: in each, every pair of nodes gets through, wherever each of them is.
#[tokio::test]
async fn an_authority_is_replaced_while_connections_are_made() {
    let mut cluster = Cluster::new();
    let second = Authority::generate(cluster.id, NOW).unwrap();
    let both = cluster.trust().with(second.certificate().clone()).unwrap();
    let only_new = both.clone().without(cluster.authority.pin()).unwrap();
    let renewed = |node: &str, trust: &Trust| {
        let key = NodeKey::generate().unwrap();
        let request = SigningRequest::parse(&key.signing_request().unwrap()).unwrap();
        let certificate = second.certify(&name(node), &request, NOW, NODE_VALIDITY).unwrap();
        Credentials::new(certificate, key, trust.clone(), NOW).unwrap()
    };
    let steps = [
        ("before", cluster.node("x")),
        ("trusts both", cluster.node("x").with_trust(both.clone())),
        ("certified anew", renewed("x", &both)),
        ("forgot the old one", renewed("x", &only_new)),
    ];
    for (i, (left, a)) in steps.iter().enumerate() {
        for (j, (right, b)) in steps.iter().enumerate() {
            let (near, far) = handshake(client(a, "x", NOW), server(b, NOW)).await;
            // Nodes are at most one step apart.
            let expected = i.abs_diff(j) <= 1;
            assert_eq!(
                near.is_ok() && far.is_ok(),
                expected,
                "{left} to {right}: {near:?} {far:?}"
            );
        }
    }
    // A token made before the rotation is good until the old authority is forgotten.
    let token = cluster.token();
    let mut config = joining(&token).unwrap();
    config.time_provider = Arc::new(At(NOW));
    let (near, _) = handshake(config.clone(), steps[1].1.join_server().unwrap()).await;
    assert!(near.is_ok());
    let (near, _) = handshake(config, steps[3].1.join_server().unwrap()).await;
    says(&near, "create another token");
}

#[tokio::test]
async fn sessions_are_not_resumed() {
    let mut cluster = Cluster::new();
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    let (client, server) = (Arc::new(client(&a, "b", NOW)), Arc::new(server(&b, NOW)));
    for _ in 0..2 {
        let (near, far) = tokio::io::duplex(16 * 1024);
        let (near, far) = tokio::join!(
            TlsConnector::from(client.clone()).connect(server_name(), near),
            TlsAcceptor::from(server.clone()).accept(far)
        );
        let (near, far) = (near.unwrap(), far.unwrap());
        assert_eq!(
            near.get_ref().1.handshake_kind(),
            Some(rustls::HandshakeKind::Full)
        );
        assert_eq!(
            near.get_ref().1.protocol_version(),
            Some(rustls::ProtocolVersion::TLSv1_3)
        );
        assert_eq!(far.get_ref().1.alpn_protocol(), Some(ALPN));
    }
}

#[tokio::test]
async fn a_node_joins_and_is_then_accepted() {
    let mut cluster = Cluster::new();
    let a = cluster.node("a");
    let joiner = Joining::new(cluster.token(), name("b")).unwrap();
    let grant = cluster.join(&joiner, NOW, NOW).unwrap();
    let b = joiner.finish(&grant, NOW).unwrap();
    let (near, far) = handshake(client(&b, "a", NOW), server(&a, NOW)).await;
    assert!(near.is_ok());
    assert!(cluster.members.admits(&far.unwrap().unwrap()));
}
