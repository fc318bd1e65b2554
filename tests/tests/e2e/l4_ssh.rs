//! OpenSSH through the edge: a command, and eight megabytes there and back.

use std::net::SocketAddr;

use constellation_tests::node::Node;
use constellation_tests::require;
use constellation_tests::server::ssh::{Programs, Ssh};
use serde_json::json;

const SIZE: usize = 8 << 20;

async fn carries(server: &Ssh, address: SocketAddr) {
    let said = server
        .run(address, "printf '%s' \"$((40 + 2))\"; printf problem >&2; exit 3")
        .await;
    assert_eq!((said.code, said.stdout.as_str()), (3, "42"), "{said:?}");
    assert!(said.stderr.contains("problem"), "{said:?}");

    let path = |name: &str| server.directory().join(format!("{name}-{}", address.port()));
    // No period that a buffer could have.
    let content: Vec<u8> = (0..SIZE).map(|at| u8::try_from(at * at % 251).unwrap()).collect();
    std::fs::write(path("from"), &content).unwrap();
    server.upload(address, &path("from"), &path("there")).await.ok();
    assert!(
        std::fs::read(path("there")).unwrap() == content,
        "the upload differs"
    );
    server.download(address, &path("there"), &path("back")).await.ok();
    assert!(
        std::fs::read(path("back")).unwrap() == content,
        "the download differs"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_and_copies_go_through_a_plain_router() {
    let programs = require!(Programs::find());
    let server = Ssh::start(&programs).await;
    let document = json!({ "tcp": {
        "routers": { "ssh": { "entryPoints": ["ssh"], "rule": "HostSNI(`*`)", "service": "ssh" } },
        "services": { "ssh": { "loadBalancer": { "servers": [{ "address": server.address().to_string() }] } } },
    } });
    let node = Node::builder()
        .config(json!({ "entryPoints": { "ssh": { "address": "127.0.0.1:0" } } }))
        .dynamic("routes.json", &document.to_string())
        .start()
        .await;
    carries(&server, server.address()).await;
    carries(&server, node.entry_point("ssh")).await;
}
