//! `passTLSClientCert`: what the service gets to know of the client's certificate.

use constellation_dataplane::table::Scheme;
use constellation_dataplane::tls::{
    CertificateSpec, ClientAuthSpec, OptionsSpec, PemSource, TlsContext, TlsSpec,
};
use constellation_middleware::{CertificateInfo, Kind, PassClientCertificate};

use crate::support::{Backend, Plan, generation_running, service};
use crate::tls::{ask, identity, tls_as};

#[tokio::test]
async fn the_service_gets_what_the_handshake_has_shown() {
    let backend = Backend::fixed("ok").await;
    let (server, person) = (identity(&["a.test"]), identity(&["person.test"]));
    let context = TlsContext::new(&[]).unwrap();
    let (view, problems) = context.build(&TlsSpec {
        certificates: vec![CertificateSpec {
            chain: PemSource::from_value(server.chain_pem()),
            key: PemSource::from_value(server.key_pem()),
        }],
        options: [(
            "default".into(),
            OptionsSpec {
                client_auth: ClientAuthSpec {
                    authorities: vec![PemSource::from_value(person.chain_pem())],
                    kind: Some("VerifyClientCertIfGiven".into()),
                },
                ..OptionsSpec::default()
            },
        )]
        .into(),
        ..TlsSpec::default()
    });
    assert!(problems.is_empty(), "{problems:?}");
    let kind = Kind::PassTlsClientCert(PassClientCertificate {
        pem: true,
        info: Some(CertificateInfo {
            sans: true,
            ..CertificateInfo::default()
        }),
    });
    let routes = vec![(
        "Host(`a.test`)",
        service("a", &[(Scheme::Http, backend.address)]),
        true,
    )];
    let node = Plan::default().start();
    node.published
        .publish(generation_running(2, routes, view, vec![kind]));
    for (shown, told) in [(Some(&person), true), (None, false)] {
        let mut stream = tls_as(&node, &server, shown).await;
        assert!(ask(&mut stream, "a.test").await.starts_with("HTTP/1.1 200 "));
        let seen = backend.seen().pop().unwrap();
        let pem = person
            .chain_pem()
            .lines()
            .filter(|line| !line.starts_with('-'))
            .collect::<String>();
        let expected: &[&str] = if told { &[&pem] } else { &[] };
        assert_eq!(seen.header("x-forwarded-tls-client-cert"), expected);
        let expected: &[&str] = if told { &["SAN%3D%22person.test%22"] } else { &[] };
        assert_eq!(seen.header("x-forwarded-tls-client-cert-info"), expected);
    }
}
