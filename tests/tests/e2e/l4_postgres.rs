//! A real PostgreSQL behind the edge, and `psql` in front of it: in the clear, with its own TLS, with the edge's.

use constellation_tests::certificates::Authority;
use constellation_tests::node::{Node, NodeBuilder};
use constellation_tests::require;
use constellation_tests::server::postgres::{Postgres, Programs};
use serde_json::{Value, json};

/// A node with the entry point `db` and this `tcp` section and more.
async fn node(builder: NodeBuilder, document: &Value) -> Node {
    builder
        .config(json!({ "entryPoints": { "db": { "address": "127.0.0.1:0" } } }))
        .dynamic("routes.json", &document.to_string())
        .start()
        .await
}

fn service(server: &Postgres) -> Value {
    json!({ "loadBalancer": { "servers": [{ "address": server.address().to_string() }] } })
}

/// Whether the connection that asks is encrypted as the server sees it, and the server's port, which tells servers
/// apart.
const SEEN: &str = "SELECT ssl, current_setting('port') FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

fn seen(ssl: &str, server: &Postgres) -> String {
    format!("{ssl}|{}", server.address().port())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_router_carries_psql_and_the_servers_own_tls() {
    let programs = require!(Programs::find());
    let authority = Authority::new("test CA");
    let identity = authority.sign(&["db.test"]);
    let server = Postgres::start(&programs, Some(&identity)).await;
    let builder = Node::builder();
    let ca = builder.directory().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let node = node(
        builder,
        &json!({ "tcp": {
            "routers": { "db": { "entryPoints": ["db"], "rule": "HostSNI(`*`)", "service": "db" } },
            "services": { "db": service(&server) },
        } }),
    )
    .await;
    let verified = format!("host=db.test sslmode=verify-full sslrootcert={}", ca.display());
    for address in [server.address(), node.entry_point("db")] {
        for (parameters, ssl) in [
            ("sslmode=disable", "f"),
            ("sslmode=require", "t"),
            (verified.as_str(), "t"),
        ] {
            let said = server.ask(address, parameters, SEEN).await;
            assert_eq!(said.ok(), seen(ssl, &server), "{address} {parameters}");
        }
    }
    // An answer of some megabytes, in order to its last byte.
    let sum = "SELECT sum(length(repeat(n::text, 100))) FROM generate_series(1, 100000) AS n";
    let rows = "SELECT repeat(n::text, 100) FROM generate_series(1, 100000) AS n";
    let expected: usize = server
        .ask(server.address(), "sslmode=disable", sum)
        .await
        .ok()
        .parse()
        .unwrap();
    let through = server.ask(node.entry_point("db"), &verified, rows).await;
    assert_eq!(through.ok().lines().map(str::len).sum::<usize>(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_passes_through_to_the_server_of_the_name_that_is_asked_for() {
    let programs = require!(Programs::find());
    let authority = Authority::new("test CA");
    let one = Postgres::start(&programs, Some(&authority.sign(&["one.test"]))).await;
    let two = Postgres::start(&programs, Some(&authority.sign(&["two.test"]))).await;
    let builder = Node::builder();
    let ca = builder.directory().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let router = |name: &str| {
        json!({
            "entryPoints": ["db"], "rule": format!("HostSNI(`{name}.test`)"), "service": name,
            "tls": { "passthrough": true },
        })
    };
    let node = node(
        builder,
        &json!({ "tcp": {
            "routers": { "one": router("one"), "two": router("two") },
            "services": { "one": service(&one), "two": service(&two) },
        } }),
    )
    .await;
    let mut negotiations = vec![""];
    if programs.client_version().await >= 17 {
        negotiations.push("sslnegotiation=direct");
    }
    for (name, server) in [("one.test", &one), ("two.test", &two), ("one.test", &one)] {
        for negotiation in &negotiations {
            let parameters = format!(
                "host={name} sslmode=verify-full sslrootcert={} {negotiation}",
                ca.display()
            );
            let said = server.ask(node.entry_point("db"), &parameters, SEEN).await;
            assert_eq!(said.ok(), seen("t", server), "{parameters}");
        }
    }
    // Nobody's name, and nobody's plain connection: refused, not left hanging.
    for parameters in ["host=three.test sslmode=require", "sslmode=disable"] {
        let said = one.ask(node.entry_point("db"), parameters, SEEN).await;
        assert_ne!(said.code, 0, "{parameters}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_ends_at_the_edge_for_a_server_that_speaks_none() {
    let programs = require!(Programs::find());
    let authority = Authority::new("test CA");
    let server = Postgres::start(&programs, None).await;
    let builder = Node::builder();
    let ca = builder.directory().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let (certificate, key) = authority.sign(&["db.test"]).write(builder.directory(), "db");
    let node = node(
        builder,
        &json!({
            "tcp": {
                "routers": { "db": {
                    "entryPoints": ["db"], "rule": "HostSNI(`db.test`)", "service": "db", "tls": {},
                } },
                "services": { "db": service(&server) },
            },
            "tls": { "certificates": [{ "certFile": certificate, "keyFile": key }] },
        }),
    )
    .await;
    let verified = format!("host=db.test sslmode=verify-full sslrootcert={}", ca.display());
    let without = server.ask(server.address(), &verified, SEEN).await;
    assert!(without.stderr.contains("does not support SSL"), "{without:?}");
    let said = server.ask(node.entry_point("db"), &verified, SEEN).await;
    assert_eq!(said.ok(), seen("f", &server));
}
