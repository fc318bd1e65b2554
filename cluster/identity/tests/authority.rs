//! The authority's files and limits, and sets of authorities.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use common::{Cluster, NOW, name};
use constellation_identity::tls::Credentials;
use constellation_identity::{
    AUTHORITIES_LIMIT, Authority, AuthorityError, NODE_VALIDITY, NodeKey, SigningRequest, Trust, TrustError,
    UnixSeconds,
};

#[test]
fn an_authority_survives_its_files() {
    let cluster = Cluster::new();
    let folder = tempfile::tempdir().unwrap();
    cluster.authority.store(folder.path()).unwrap();
    let loaded = Authority::load(cluster.id, folder.path()).unwrap();
    assert_eq!(loaded.pin(), cluster.authority.pin());
    let key = NodeKey::generate().unwrap();
    let request = SigningRequest::parse(&key.signing_request().unwrap()).unwrap();
    let certificate = loaded.certify(&name("a"), &request, NOW, NODE_VALIDITY).unwrap();
    Credentials::new(certificate, key, cluster.trust(), NOW).unwrap();

    let secret = fs::read_to_string(folder.path().join("ca.key")).unwrap();
    let secret = secret.lines().nth(1).unwrap();
    for shown in [format!("{loaded:?}"), format!("{:?}", cluster.authority)] {
        assert!(!shown.contains(secret) && shown.contains("not shown"), "{shown}");
    }
}

#[test]
fn files_that_do_not_fit_are_named() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let folder = tempfile::tempdir().unwrap();
    let load = || Authority::load(cluster.id, folder.path()).unwrap_err();
    assert!(load().to_string().contains("ca.crt"));
    cluster.authority.store(folder.path()).unwrap();
    let key = folder.path().join("ca.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);

    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let error = load().to_string();
    assert!(error.contains("0644") && error.contains("chmod 600"), "{error}");

    other.authority.store(folder.path()).unwrap();
    let error = load();
    assert!(
        matches!(error, AuthorityError::Trust(TrustError::Foreign { .. })),
        "{error}"
    );
    cluster.authority.store(folder.path()).unwrap();
    let second = Authority::generate(cluster.id, NOW).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    second.store(elsewhere.path()).unwrap();
    fs::copy(elsewhere.path().join("ca.key"), &key).unwrap();
    assert!(matches!(load(), AuthorityError::Mismatch { .. }));
    fs::write(&key, "garbage").unwrap();
    assert!(matches!(load(), AuthorityError::Mismatch { .. }));
}

#[test]
fn nodes_never_outlive_their_authority() {
    let cluster = Cluster::new();
    let key = NodeKey::generate().unwrap();
    let request = SigningRequest::parse(&key.signing_request().unwrap()).unwrap();
    let years = |count: u64| Duration::from_secs(count * 365 * 24 * 3600);
    let certificate = cluster
        .authority
        .certify(&name("a"), &request, NOW, years(100))
        .unwrap();
    assert_eq!(certificate.ends(), NOW.plus(years(10)));
    let error = cluster
        .authority
        .certify(&name("a"), &request, NOW.plus(years(10)), NODE_VALIDITY)
        .unwrap_err();
    assert!(matches!(error, AuthorityError::Expired { .. }), "{error}");
    let error = Authority::generate(cluster.id, UnixSeconds(u64::MAX)).unwrap_err();
    assert!(matches!(error, AuthorityError::Date(_)), "{error}");
}

#[test]
fn a_set_of_authorities_has_bounds() {
    let cluster = Cluster::new();
    assert_eq!(Trust::new(cluster.id, vec![]), Err(TrustError::Empty));
    let mut trust = cluster.trust();
    assert_eq!(
        trust.clone().with(cluster.authority.certificate().clone()),
        Ok(trust.clone()),
        "no duplicates"
    );
    assert_eq!(
        trust.clone().without(cluster.authority.pin()),
        Err(TrustError::Empty)
    );
    for _ in 1..AUTHORITIES_LIMIT {
        let more = Authority::generate(cluster.id, NOW).unwrap();
        trust = trust.with(more.certificate().clone()).unwrap();
    }
    assert_eq!(Trust::from_pem(cluster.id, &trust.to_pem()), Ok(trust.clone()));
    let more = Authority::generate(cluster.id, NOW).unwrap();
    assert_eq!(trust.with(more.certificate().clone()), Err(TrustError::TooMany));
    // The certificate of a node is no authority, and no authority is a node's.
    let key = NodeKey::generate().unwrap();
    let node = cluster.certify("a", &key, NOW);
    assert!(matches!(
        Trust::new(cluster.id, vec![node.der().clone()]),
        Err(TrustError::Foreign { .. })
    ));
    assert!(constellation_identity::identity(cluster.authority.certificate()).is_err());
    for bad in [
        "",
        "garbage",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        assert!(Trust::from_pem(cluster.id, bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_key_beside_another_certificate_is_refused() {
    let mut cluster = Cluster::new();
    let node = cluster.node("a");
    let other = NodeKey::generate().unwrap();
    let error = Credentials::new(node.certificate().clone(), other, cluster.trust(), NOW).unwrap_err();
    assert!(
        error.to_string().contains("is not for the private key beside it"),
        "{error}"
    );
}
