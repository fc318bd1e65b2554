//! What a session ticket is good for, and what not.

use super::*;

#[tokio::test]
async fn sessions_are_resumed_across_reloads() {
    use rustls::version::{TLS12, TLS13};
    for version in [&TLS12, &TLS13] {
        let pair = Pair::self_signed(&["a.test"]);
        let server = Server::new(&certificates(&[&pair]));
        let client = Client::version(version);
        assert!(!server.meet(&client, "a.test").await.seen().resumed);
        assert!(server.meet(&client, "a.test").await.seen().resumed);
        let other = Pair::self_signed(&["b.test"]);
        assert_eq!(server.publish(&certificates(&[&pair, &other])), []);
        assert!(server.meet(&client, "a.test").await.seen().resumed, "{version:?}");
    }
}

#[tokio::test]
async fn no_tickets_where_they_are_switched_off() {
    use rustls::version::{TLS12, TLS13};
    let without = OptionsSpec {
        disable_session_tickets: true,
        ..OptionsSpec::default()
    };
    let server = Server::new(&TlsSpec {
        options: options(&[("default", without)]),
        ..TlsSpec::default()
    });
    for version in [&TLS12, &TLS13] {
        let client = Client::version(version);
        for _ in 0..2 {
            assert!(!server.meet(&client, "a.test").await.seen().resumed);
        }
    }
}

/// A client without a certificate gets a ticket while the name is open; the name then asks for certificates.
#[tokio::test]
async fn a_ticket_does_not_open_other_options() {
    let authority = Authority::new();
    let open = TlsSpec {
        options: options(&[("open@file", OptionsSpec::default())]),
        routers: vec![router_of("a.test", "open@file")],
        ..TlsSpec::default()
    };
    let server = Server::new(&open);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        assert_eq!(server.publish(&open), []);
        let client = Client::version(version);
        server.meet(&client, "a.test").await.seen();
        let closed = TlsSpec {
            options: options(&[("mtls@file", client_auth("", Some(&authority)))]),
            routers: vec![router_of("a.test", "mtls@file")],
            ..TlsSpec::default()
        };
        assert_eq!(server.publish(&closed), []);
        let (outcome, _) = server.meet(&client, "a.test").await.refused();
        assert_eq!(outcome, HandshakeOutcome::ClientCertificate);
    }
}

/// The same with the same name, and with another authority instead of none.
#[tokio::test]
async fn a_ticket_does_not_outlive_the_authority_that_vouched() {
    let (first, second) = (Authority::new(), Authority::new());
    let trusting = |authority| TlsSpec {
        options: options(&[("default", client_auth("", Some(authority)))]),
        ..TlsSpec::default()
    };
    let server = Server::new(&trusting(&first));
    let client = Client::with_certificate(&first.issue("c"));
    server.meet(&client, "a.test").await.seen();
    assert!(server.meet(&client, "a.test").await.seen().resumed);
    assert_eq!(server.publish(&trusting(&second)), []);
    assert_eq!(
        server.meet(&client, "a.test").await.refused().0,
        HandshakeOutcome::ClientCertificate
    );
}
