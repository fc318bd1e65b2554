//! Protocols in which the server speaks first: SMTP through an entry point without TLS routers, STARTTLS included.

use constellation_tests::certificates::Authority;
use constellation_tests::node::Node;
use constellation_tests::require;
use constellation_tests::server::smtp::{Smtp, greeting, python};
use serde_json::json;

async fn node(server: &Smtp) -> Node {
    let document = json!({ "tcp": {
        "routers": { "mail": { "entryPoints": ["mail"], "rule": "HostSNI(`*`)", "service": "mail" } },
        "services": { "mail": { "loadBalancer": { "servers": [{ "address": server.address().to_string() }] } } },
    } });
    Node::builder()
        .config(json!({ "entryPoints": { "mail": { "address": "127.0.0.1:0" } } }))
        .dynamic("routes.json", &document.to_string())
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_greeting_comes_before_the_client_says_anything() {
    let python = require!(python());
    let server = Smtp::start(&python, None).await;
    let node = node(&server).await;
    for (subject, address) in [
        ("direct", server.address()),
        ("through the edge", node.entry_point("mail")),
    ] {
        greeting(address).await.unwrap();
        assert_eq!(server.send(address, subject, None).await.ok(), "sent");
        assert!(server.received(subject), "{subject}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn starttls_passes_through_to_the_servers_certificate() {
    let python = require!(python());
    let authority = Authority::new("test CA");
    let server = Smtp::start(&python, Some(&authority.sign(&["mail.test"]))).await;
    let node = node(&server).await;
    for (subject, address) in [
        ("direct", server.address()),
        ("through the edge", node.entry_point("mail")),
    ] {
        let plain = server.send(address, subject, None).await;
        assert!(plain.stderr.contains("STARTTLS"), "{plain:?}");
        let sent = server
            .send(address, subject, Some(("mail.test", &authority)))
            .await;
        assert_eq!(sent.ok(), "sent");
        assert!(server.received(subject), "{subject}");
    }
}
