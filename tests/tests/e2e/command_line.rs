//! The commands that ask a running node, and those that need none.

use constellation_tests::backend::Backend;
use constellation_tests::node::{Node, constellation, route};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn status_routes_and_explain_tell_people_and_scripts() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let node = Node::routing("app.test", &[one.url(), two.url()]).await;

    let status = node.cli(&["status", "--json"]).await.json();
    assert_eq!(
        (&status["node"], &status["status"]),
        (&json!("test-node"), &json!("healthy")),
        "{status:#}"
    );
    assert_eq!(
        status["entry_points"],
        json!([{ "name": "web", "protocol": "tcp", "address": node.web().to_string() }])
    );
    let text = node.cli(&["status"]).await;
    assert!(
        text.code == 0 && text.stdout.contains("test-node") && text.stdout.contains("healthy"),
        "{text:#?}"
    );

    let routes = node.cli(&["routes", "--json"]).await.json();
    let routes = routes["routes"].as_array().unwrap();
    assert_eq!(routes.len(), 1, "{routes:#?}");
    assert_eq!(routes[0]["rule"], "Host(`app.test`)");
    assert_eq!(
        (&routes[0]["endpoints"], &routes[0]["ready_endpoints"]),
        (&json!(2), &json!(2))
    );
    let text = node.cli(&["routes"]).await;
    assert!(
        text.stdout.contains("main@file") && text.stdout.contains("Host(`app.test`)"),
        "{text:#?}"
    );

    let text = node.cli(&["explain", "http://app.test/x"]).await;
    assert_eq!(text.code, 0, "{text:#?}");
    for word in [
        "main@file",
        "Host(`app.test`)",
        &one.address().to_string(),
        &two.address().to_string(),
    ] {
        assert!(text.stdout.contains(word), "{word}: {}", text.stdout);
    }
    let text = node.cli(&["explain", "http://nobody.test/"]).await;
    assert!(text.stdout.contains("404"), "{text:#?}");
    let explained = node.cli(&["explain", "--json", "http://app.test/x"]).await.json();
    assert!(explained.to_string().contains("main@file"), "{explained:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_agrees_with_what_the_proxy_does() {
    let backends = [
        Backend::start("a").await,
        Backend::start("b").await,
        Backend::start("c").await,
    ];
    let [a, b, c] = backends.each_ref().map(Backend::url);
    let service = |url: &str| json!({ "loadBalancer": { "servers": [{ "url": url }] } });
    let document = json!({ "http": {
        "routers": {
            "a": { "rule": "Host(`app.test`)", "service": "a" },
            "b": { "rule": "Host(`app.test`) && PathPrefix(`/b`)", "service": "b" },
            "c": { "rule": "Host(`app.test`) && Header(`X-Tenant`, `c`) && Method(`GET`)", "service": "c", "priority": 1000 },
            "d": { "rule": "Host(`app.test`) && ClientIP(`192.0.2.0/24`)", "service": "b", "priority": 2000 },
        },
        "services": { "a": service(&a), "b": service(&b), "c": service(&c) },
    } });
    let node = Node::builder()
        .dynamic("routes.json", &document.to_string())
        .start()
        .await;
    for (path, header, router, backend) in [
        ("/", "X-None: 1", "a@file", "a"),
        ("/b/x", "X-None: 1", "b@file", "b"),
        ("/b/x", "X-Tenant: c", "c@file", "c"),
        ("/x/../b", "X-None: 1", "b@file", "b"),
    ] {
        let url = format!("http://app.test{path}");
        let explained = node
            .cli(&["explain", &url, "--header", header, "--json"])
            .await
            .json();
        assert_eq!(winner(&explained), router, "{explained:#}");
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: app.test\r\n{header}\r\nConnection: close\r\n\r\n");
        let answer = constellation_tests::client::wire::exchange(node.web(), request).await;
        assert!(
            answer.text().contains(&format!("x-backend: {backend}\r\n")),
            "{}",
            answer.text()
        );
    }
    let explained = node
        .cli(&[
            "explain",
            "http://app.test/",
            "--client-ip",
            "192.0.2.7",
            "--json",
        ])
        .await
        .json();
    assert_eq!(winner(&explained), "d@file");
    let explained = node
        .cli(&[
            "explain",
            "http://app.test/",
            "--header",
            "X-Tenant: c",
            "--method",
            "POST",
            "--json",
        ])
        .await
        .json();
    assert_eq!(winner(&explained), "a@file");
}

/// The router that an explanation says wins.
fn winner(explained: &Value) -> &str {
    explained["router"]
        .as_str()
        .or(explained["router"]["name"].as_str())
        .unwrap_or_else(|| panic!("{explained:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_needs_no_node_when_it_has_a_file() {
    let node = Node::routing("app.test", &["http://127.0.0.1:1".to_owned()]).await;
    let file = node.config_file().display().to_string();
    let text = constellation(&["explain", "--config", &file, "http://app.test/"], &[]).await;
    assert!(text.code == 0 && text.stdout.contains("main@file"), "{text:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn config_prints_a_schema_an_example_and_what_is_in_force() {
    let schema = constellation(&["config", "schema"], &[]).await.json();
    assert!(schema["properties"]["entryPoints"].is_object(), "{schema:#}");
    let example = constellation(&["config", "example"], &[]).await;
    assert_eq!(example.code, 0, "{example:#?}");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("example.yaml");
    std::fs::write(&file, &example.stdout).unwrap();
    let file = file.display().to_string();
    let check = constellation(&["check", &file], &[]).await;
    assert_eq!(check.code, 0, "{check:#?}");
    // The example says the defaults, and variables win over it.
    let defaults = constellation(&["config", "print"], &[]).await.json();
    let from_example = constellation(&["config", "print", "--config", &file], &[])
        .await
        .json();
    assert_eq!(from_example, defaults);
    let changed = constellation(
        &["config", "print", "--config", &file],
        &[("CONSTELLATION__LOG__LEVEL", "debug")],
    )
    .await;
    assert!(changed.stdout.contains("debug"), "{changed:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_never_printed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("node.yaml");
    std::fs::write(&file, "control:\n  token: s3cret-value\n").unwrap();
    let file = file.display().to_string();
    for arguments in [
        &["config", "print", "--config", &file][..],
        &["check", &file, "--json"],
    ] {
        let printed = constellation(arguments, &[]).await;
        assert_eq!(printed.code, 0, "{printed:#?}");
        assert!(
            !printed.stdout.contains("s3cret") && !printed.stderr.contains("s3cret"),
            "{printed:#?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let printed = constellation(&["completions", shell], &[]).await;
        assert!(
            printed.code == 0 && printed.stdout.contains("constellation"),
            "{shell}: {printed:#?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_and_flags_win_over_the_file() {
    let backend = Backend::start("app").await;
    let node = Node::builder()
        .env("CONSTELLATION__NODE__NAME", "from-variable")
        .env("CONSTELLATION__ENTRYPOINTS__EXTRA__ADDRESS__0", "127.0.0.1:0")
        .env("CONSTELLATION__ENTRYPOINTS__EXTRA__ASDEFAULT", "true")
        .arguments(&["--set", "node.region=from-flag"])
        .dynamic("routes.json", &route("app.test", &[backend.url()]).to_string())
        .start()
        .await;
    assert_eq!(node.status().await["node"], "from-variable");
    let answer = constellation_tests::client::get(node.entry_point("extra"), "app.test", "/").await;
    assert_eq!(answer.status, 200);
}
