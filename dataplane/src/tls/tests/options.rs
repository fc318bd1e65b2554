//! What TLS options do to a handshake.

use super::*;

#[tokio::test]
async fn versions_are_kept_to() {
    use rustls::version::{TLS12, TLS13};
    let limits = |min: &str, max: &str| OptionsSpec {
        min_version: Some(min.to_owned()),
        max_version: Some(max.to_owned()),
        ..OptionsSpec::default()
    };
    for (options_spec, client, expected) in [
        (
            OptionsSpec::default(),
            Client::version(&TLS12),
            Some(ProtocolVersion::TLSv1_2),
        ),
        (
            OptionsSpec::default(),
            Client::new(),
            Some(ProtocolVersion::TLSv1_3),
        ),
        (limits("VersionTLS13", ""), Client::version(&TLS12), None),
        (
            limits("VersionTLS13", ""),
            Client::new(),
            Some(ProtocolVersion::TLSv1_3),
        ),
        (
            limits("", "VersionTLS12"),
            Client::new(),
            Some(ProtocolVersion::TLSv1_2),
        ),
        (limits("", "VersionTLS12"), Client::version(&TLS13), None),
    ] {
        let spec = TlsSpec {
            options: options(&[("default", options_spec.clone())]),
            ..TlsSpec::default()
        };
        let meeting = Server::new(&spec).meet(&client, "a.test").await;
        match expected {
            Some(version) => assert_eq!(meeting.seen().version, version, "{options_spec:?}"),
            None => assert_eq!(
                meeting.refused().0,
                HandshakeOutcome::NoOverlap,
                "{options_spec:?}"
            ),
        }
    }
}

#[tokio::test]
async fn application_protocols_are_agreed_on() {
    let with = |protocols: Option<&[&str]>| OptionsSpec {
        alpn_protocols: protocols.map(|list| list.iter().map(|p| (*p).to_owned()).collect()),
        ..OptionsSpec::default()
    };
    for (offered, configured, expected) in [
        (&["http/1.1", "h2"][..], None, Some(&b"h2"[..])),
        (&["http/1.1"], None, Some(b"http/1.1")),
        (&[], None, None),
        (&["h2", "http/1.1"], Some(&["http/1.1"][..]), Some(b"http/1.1")),
        (&["h2"], Some(&[]), None),
    ] {
        let spec = TlsSpec {
            options: options(&[("default", with(configured))]),
            ..TlsSpec::default()
        };
        let seen = Server::new(&spec)
            .meet(&Client::new().alpn(offered), "a.test")
            .await
            .seen();
        assert_eq!(seen.alpn.as_deref(), expected, "{offered:?} {configured:?}");
    }
    let server = Server::new(&TlsSpec::default());
    let (outcome, _) = server
        .meet(&Client::new().alpn(&["spdy/3"]), "a.test")
        .await
        .refused();
    assert_eq!(outcome, HandshakeOutcome::NoOverlap);
}

#[tokio::test]
async fn client_certificates_follow_the_five_policies() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (good, foreign) = (ours.issue("client"), theirs.issue("stranger"));
    // Per policy: accepted without a certificate, with a foreign one, with a good one.
    for (kind, authority, accepted) in [
        ("NoClientCert", None, [true, true, true]),
        ("RequestClientCert", None, [true, true, true]),
        ("RequestClientCert", Some(&ours), [true, true, true]),
        ("RequireAnyClientCert", None, [false, true, true]),
        ("VerifyClientCertIfGiven", Some(&ours), [true, false, true]),
        ("RequireAndVerifyClientCert", Some(&ours), [false, false, true]),
        ("", Some(&ours), [false, false, true]),
        ("", None, [true, true, true]),
    ] {
        let spec = TlsSpec {
            options: options(&[("default", client_auth(kind, authority))]),
            ..TlsSpec::default()
        };
        let server = Server::new(&spec);
        let clients = [
            Client::new(),
            Client::with_certificate(&foreign),
            Client::with_certificate(&good),
        ];
        for (client, accepted) in clients.iter().zip(accepted) {
            let meeting = server.meet(client, "a.test").await;
            if accepted {
                let subject = meeting.server.unwrap().details.client_subject;
                // A client sends none when the server names other authorities: that is the client's choice.
                let shown = kind != "NoClientCert" && subject.is_some();
                assert!(shown || subject.is_none(), "{kind}");
                assert!(meeting.client.is_ok(), "{kind}");
            } else {
                assert_eq!(meeting.refused().0, HandshakeOutcome::ClientCertificate, "{kind}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_certificate_is_told_to_the_access_log() {
    let spec = TlsSpec {
        options: options(&[("default", client_auth("RequireAnyClientCert", None))]),
        ..TlsSpec::default()
    };
    let client = Client::with_certificate(&Authority::new().issue("client"));
    let accepted = Server::new(&spec).meet(&client, "a.test").await.server.unwrap();
    let expected = crate::access_log::TlsDetails {
        version: "1.3",
        cipher: "TLS_AES_256_GCM_SHA384",
        client_subject: Some("CN=rcgen self signed cert".into()),
    };
    assert_eq!(accepted.details, expected);
}

#[tokio::test]
async fn options_belong_to_the_hosts_of_an_entry_point() {
    let authority = Authority::new();
    let spec = TlsSpec {
        options: options(&[("mtls@file", client_auth("", Some(&authority)))]),
        routers: vec![
            router_of("secure.test", "mtls@file"),
            router_of("*.secure.test", "mtls@file"),
        ],
        ..TlsSpec::default()
    };
    let server = Server::new(&spec);
    let view = server.view();
    for (entry_point, name, expected) in [
        (WEB, "secure.test", "mtls@file"),
        (WEB, "SECURE.test.", "mtls@file"),
        (WEB, "a.secure.test", "mtls@file"),
        (WEB, "b.a.secure.test", "default"),
        (WEB, "open.test", "default"),
        (OTHER, "secure.test", "default"),
    ] {
        assert_eq!(view.options_name_for(entry_point, name), expected, "{name}");
    }
    assert!(server.meet(&Client::new(), "open.test").await.client.is_ok());
    let (outcome, _) = server.meet(&Client::new(), "secure.test").await.refused();
    assert_eq!(outcome, HandshakeOutcome::ClientCertificate);
    let accepted = server
        .meet(&Client::with_certificate(&authority.issue("c")), "secure.test")
        .await
        .server
        .unwrap();
    assert_eq!(&*accepted.options, "mtls@file");
}

#[tokio::test]
async fn cipher_suites_and_curves_are_kept_to() {
    let narrow = OptionsSpec {
        max_version: Some("VersionTLS12".into()),
        cipher_suites: vec!["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305".into()],
        curve_preferences: vec!["CurveP384".into(), "secp384r1".into()],
        ..OptionsSpec::default()
    };
    let server = Server::new(&TlsSpec {
        options: options(&[("default", narrow)]),
        ..TlsSpec::default()
    });
    let accepted = server.meet(&Client::new(), "a.test").await.server.unwrap();
    assert_eq!(
        accepted.details.cipher,
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
    );
    let group = accepted
        .stream
        .get_ref()
        .1
        .negotiated_key_exchange_group()
        .unwrap()
        .name();
    assert_eq!(group, rustls::NamedGroup::secp384r1);
}
