//! Which certificate a server name gets.

use super::*;

#[tokio::test]
async fn certificates_are_chosen_by_server_name() {
    let (exact, wildcard, fallback) = (
        Pair::self_signed(&["a.example.test"]),
        Pair::self_signed(&["*.example.test"]),
        Pair::self_signed(&["fallback.test"]),
    );
    let spec = TlsSpec {
        default_certificate: Some(fallback.spec()),
        ..certificates(&[&wildcard, &exact])
    };
    let server = Server::new(&spec);
    for (name, expected) in [
        ("a.example.test", &exact),
        ("A.Example.TEST", &exact),
        ("b.example.test", &wildcard),
        ("x.y.example.test", &fallback),
        ("example.test", &fallback),
        ("127.0.0.1", &fallback),
        ("", &fallback),
    ] {
        assert_eq!(
            server.meet(&Client::new(), name).await.seen().leaf,
            expected.leaf(),
            "{name:?}"
        );
    }
}

#[tokio::test]
async fn without_any_certificate_the_self_signed_one_is_served() {
    let server = Server::new(&TlsSpec::default());
    let seen = server.meet(&Client::new(), "node.test").await.seen();
    let view = server.view();
    let info = view.certificates().next().unwrap();
    assert_eq!(
        (&*info.origin, &*info.subject),
        ("self-signed default", "node.test")
    );
    let (_, parsed) = x509_parser::parse_x509_certificate(&seen.leaf).unwrap();
    assert!(parsed.validity().is_valid());
    assert_eq!(
        parsed.subject().to_string(),
        "CN=Constellation default certificate"
    );
}

#[tokio::test]
async fn the_certificate_that_the_client_can_verify_is_served() {
    let (ecdsa, rsa) = (Pair::self_signed(&["a.test"]), Pair::rsa(&["a.test"]));
    for order in [[&ecdsa, &rsa], [&rsa, &ecdsa]] {
        let server = Server::new(&certificates(&order));
        for (schemes, expected) in [
            (
                &[
                    SignatureScheme::RSA_PSS_SHA256,
                    SignatureScheme::ECDSA_NISTP256_SHA256,
                ][..],
                &ecdsa,
            ),
            (&[SignatureScheme::RSA_PSS_SHA256], &rsa),
        ] {
            let seen = server.meet(&Client::verifying(schemes), "a.test").await.seen();
            assert_eq!(seen.leaf, expected.leaf(), "{schemes:?}");
        }
    }
}

#[tokio::test]
async fn of_two_certificates_the_one_valid_longer_is_served() {
    let until = |year| {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Pair::with(&["a.test"], &key, |params| {
            params.not_after = rcgen::date_time_ymd(year, 1, 1)
        })
    };
    let (old, renewed) = (until(2030), until(2031));
    for order in [[&old, &renewed], [&renewed, &old]] {
        let server = Server::new(&certificates(&order));
        assert_eq!(
            server.meet(&Client::new(), "a.test").await.seen().leaf,
            renewed.leaf()
        );
    }
}

#[tokio::test]
async fn strict_sni_refuses_unknown_names_with_the_right_alert() {
    let known = Pair::self_signed(&["a.test"]);
    let strict = OptionsSpec {
        sni_strict: true,
        ..OptionsSpec::default()
    };
    let spec = TlsSpec {
        options: options(&[("default", strict)]),
        ..certificates(&[&known])
    };
    let server = Server::new(&spec);
    assert_eq!(
        server.meet(&Client::new(), "a.test").await.seen().leaf,
        known.leaf()
    );
    for name in ["b.test", ""] {
        let (outcome, told) = server.meet(&Client::new(), name).await.refused();
        assert_eq!(outcome, HandshakeOutcome::UnknownName);
        assert!(
            told.contains("UnrecognizedName") || told.contains("UnrecognisedName"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn a_certificate_is_swapped_under_the_same_path() {
    let folder = tempfile::tempdir().unwrap();
    let paths = [folder.path().join("a.crt"), folder.path().join("a.key")];
    let write = |pair: &Pair| {
        std::fs::write(&paths[0], &pair.chain).unwrap();
        std::fs::write(&paths[1], &pair.key).unwrap();
    };
    let [chain, key] = paths.clone().map(PemSource::File);
    let spec = TlsSpec {
        certificates: vec![CertificateSpec { chain, key }],
        ..TlsSpec::default()
    };
    assert_eq!(spec.files(), paths);
    let (old, new) = (
        Pair::self_signed(&["a.test"]),
        Pair::self_signed(&["a.test", "new.a.test"]),
    );
    write(&old);
    let server = Server::new(&spec);
    let before = server.view().server_config(WEB, Some("a.test")).unwrap();
    assert_eq!(server.publish(&spec), []);
    let again = server.view().server_config(WEB, Some("a.test")).unwrap();
    assert!(Arc::ptr_eq(&before, &again), "nothing changed");
    write(&new);
    assert_eq!(server.publish(&spec), []);
    assert_eq!(
        server.meet(&Client::new(), "a.test").await.seen().leaf,
        new.leaf()
    );

    std::fs::write(&paths[1], "damaged").unwrap();
    let problems = server.publish(&spec);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].subject, format!("certificate {}", paths[0].display()));
    assert!(
        problems[0].message.ends_with("; the last good one stays"),
        "{}",
        problems[0].message
    );
    assert_eq!(
        server.meet(&Client::new(), "a.test").await.seen().leaf,
        new.leaf()
    );
}
