//! What is refused, and in which words.

use super::*;

#[tokio::test]
async fn options_that_cannot_be_used_refuse_their_hosts_instead_of_opening_them() {
    let context = TlsContext::new(&[]).unwrap();
    let broken = OptionsSpec {
        client_auth: ClientAuthSpec {
            authorities: vec![PemSource::File("/nonexistent/ca.pem".into())],
            kind: None,
        },
        ..OptionsSpec::default()
    };
    let spec = TlsSpec {
        options: options(&[("mtls@file", broken)]),
        routers: vec![
            router_of("a.test", "mtls@file"),
            router_of("b.test", "other@file"),
        ],
        ..TlsSpec::default()
    };
    let (view, problems) = context.build(&spec);
    for name in ["a.test", "b.test"] {
        assert!(
            matches!(
                view.server_config(WEB, Some(name)),
                Err(TlsRefusal::Options { .. })
            ),
            "{name}"
        );
    }
    assert!(view.server_config(WEB, Some("c.test")).is_ok());
    let texts: Vec<String> = problems
        .iter()
        .map(|p| format!("{}: {}", p.subject, p.message))
        .collect();
    assert_eq!(
        texts,
        [
            "tls options mtls@file: clientAuth: caFiles: CA file /nonexistent/ca.pem: cannot be read: No such file or \
         directory (os error 2); correct the path or the file's permissions; the routers that need them are not \
             served",
            "tls options other@file: not defined, but a router of b.test needs them; connections to it are refused",
        ]
    );
}

#[tokio::test]
async fn what_is_not_tls_is_refused() {
    let server = Server::new(&TlsSpec::default());
    for (bytes, expected) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], HandshakeOutcome::Malformed),
        (b"\x16\x03\x01\xff\xff", HandshakeOutcome::Malformed),
        (b"", HandshakeOutcome::Closed),
        (b"\x16\x03\x01\x00\x05\x01", HandshakeOutcome::Closed),
    ] {
        let (mut near, far) = tokio::io::duplex(1024);
        near.write_all(bytes).await.unwrap();
        near.shutdown().await.unwrap();
        let error = accept(far, WEB, &server.published).await.unwrap_err();
        assert_eq!(error.outcome(), expected, "{bytes:?}: {error}");
    }
}

#[test]
fn bad_pem_says_what_is_wrong_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (Pair::self_signed(&["a.test"]), Pair::self_signed(&["b.test"]));
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let cut = &a.chain[..a.chain.len() / 2];
    let not_x509 = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let weak = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (chain, key, expected) in [
        (
            &*a.key,
            &*a.chain,
            "certificate c.pem: holds no certificate but a private key (are the two files swapped?); expected PEM text with at least one -----BEGIN CERTIFICATE----- block",
        ),
        (
            "",
            &a.key,
            "certificate c.pem: holds no certificate; expected PEM text with at least one -----BEGIN CERTIFICATE----- block",
        ),
        (
            cut,
            &a.key,
            "certificate c.pem: is not valid PEM: a block has no -----END line; copy the file again",
        ),
        (
            not_x509,
            &a.key,
            "certificate c.pem: certificate 1 of the file is not an X.509 certificate:",
        ),
        (
            &a.chain,
            &a.chain,
            "key k.pem: holds no private key but a certificate (are the two files swapped?); expected PEM text with a -----BEGIN PRIVATE KEY-----, RSA PRIVATE KEY or EC PRIVATE KEY block",
        ),
        (
            &a.chain,
            encrypted,
            "key k.pem: is encrypted; store it without a passphrase (openssl pkey -in KEY -out KEY.plain)",
        ),
        (&a.chain, weak, "key k.pem: can't be used: "),
        (
            &a.chain,
            &b.key,
            "key k.pem: does not belong to the certificate c.pem; put the key that the certificate was issued for there",
        ),
    ] {
        let error = certificate::Certificate::load(
            &provider(),
            ("c.pem", chain.as_bytes()),
            ("k.pem", key.as_bytes()),
        )
        .unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}\n{expected}");
    }
    let missing = folder.path().join("missing.pem");
    let error = PemSource::File(missing.clone())
        .read(PemPart::Key)
        .unwrap_err()
        .to_string();
    let expected = format!(
        "key file {}: cannot be read: No such file or directory (os error 2); correct the path or the file's \
         permissions",
        missing.display()
    );
    assert_eq!(error, expected);
}

#[test]
fn keys_are_never_shown() {
    let pair = Pair::self_signed(&["a.test"]);
    let secret = pair.key.lines().nth(1).unwrap();
    let spec = TlsSpec {
        default_certificate: Some(pair.spec()),
        ..certificates(&[&pair])
    };
    let context = TlsContext::new(&[]).unwrap();
    let (view, _) = context.build(&spec);
    for shown in [format!("{spec:?}"), format!("{context:?}"), format!("{view:?}")] {
        assert!(!shown.contains(secret) && !shown.contains("PRIVATE KEY"));
    }
}

#[test]
fn words_that_mean_nothing_are_explained() {
    let context = TlsContext::new(&[]).unwrap();
    let options_spec = |change: fn(&mut OptionsSpec)| {
        let mut spec = OptionsSpec::default();
        change(&mut spec);
        spec
    };
    type Change = fn(&mut OptionsSpec);
    let cases: [(Change, bool, &str); 10] = [
        (
            |o| o.min_version = Some("TLS1.2".into()),
            false,
            "minVersion: \"TLS1.2\" is not a TLS version; expected VersionTLS12 or VersionTLS13",
        ),
        (
            |o| o.min_version = Some("VersionTLS10".into()),
            true,
            "minVersion: VersionTLS10 is not served because it is broken; TLS 1.2 is the minimum",
        ),
        (
            |o| o.max_version = Some("VersionTLS11".into()),
            false,
            "maxVersion: VersionTLS11 is too old",
        ),
        (
            |o| {
                o.min_version = Some("VersionTLS13".into());
                o.max_version = Some("VersionTLS12".into());
            },
            false,
            "minVersion VersionTLS13 is above maxVersion VersionTLS12",
        ),
        (
            |o| o.cipher_suites = vec!["TLS_RSA_WITH_AES_128_CBC_SHA".into()],
            true,
            "cipherSuites: TLS_RSA_WITH_AES_128_CBC_SHA is not served",
        ),
        (
            |o| {
                o.cipher_suites = vec!["TLS_RSA_WITH_AES_128_CBC_SHA".into()];
                o.max_version = Some("VersionTLS12".into());
            },
            false,
            "cipherSuites: none of TLS_RSA_WITH_AES_128_CBC_SHA can be served",
        ),
        (
            |o| o.curve_preferences = vec!["CurveP521".into()],
            false,
            "curvePreferences: none of CurveP521 can be served",
        ),
        (
            |o| o.client_auth.kind = Some("Maybe".into()),
            false,
            "clientAuth: clientAuthType: \"Maybe\" is not known",
        ),
        (
            |o| o.client_auth.kind = Some("VerifyClientCertIfGiven".into()),
            false,
            "clientAuth: clientAuthType: VerifyClientCertIfGiven needs caFiles",
        ),
        (
            |o| o.alpn_protocols = Some(vec![String::new()]),
            false,
            "alpnProtocols: \"\" is not an application protocol",
        ),
    ];
    for (change, usable, expected) in cases {
        let spec = TlsSpec {
            options: options(&[("x@file", options_spec(change))]),
            routers: vec![router_of("a.test", "x@file")],
            ..TlsSpec::default()
        };
        let (view, problems) = context.build(&spec);
        assert_eq!(
            view.server_config(WEB, Some("a.test")).is_ok(),
            usable,
            "{expected}"
        );
        assert!(
            problems[0].message.starts_with(expected),
            "{}\n{expected}",
            problems[0].message
        );
        assert_eq!(problems[0].subject, "tls options x@file");
        // What was good before must not stand in for the next case.
        context.build(&TlsSpec::default());
    }
}

#[test]
fn a_view_that_was_never_built_refuses() {
    assert!(TlsView::default().server_config(WEB, Some("a.test")).is_err());
}
