//! Dynamic configuration from files: three formats, changes picked up, a bad file keeps the last good one.

use constellation_tests::backend::Backend;
use constellation_tests::node::{Node, route};
use constellation_tests::{eventually, metrics::Metrics};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn yaml_toml_and_json_say_the_same() {
    let backend = Backend::start("app").await;
    let url = backend.url();
    let yaml = format!(
        "http:\n  routers:\n    y:\n      rule: Host(`yaml.test`)\n      service: y\n  services:\n    y:\n      loadBalancer:\n        servers:\n          - url: {url}\n"
    );
    let toml = format!(
        "[http.routers.t]\nrule = \"Host(`toml.test`)\"\nservice = \"t\"\n\n[[http.services.t.loadBalancer.servers]]\nurl = \"{url}\"\n"
    );
    let json = route("json.test", &[url]).to_string();
    let node = Node::builder()
        .dynamic("a.yaml", &yaml)
        .dynamic("b.toml", &toml)
        .dynamic("c.json", &json)
        .dynamic("d.txt", "not configuration at all")
        .start()
        .await;
    for host in ["yaml.test", "toml.test", "json.test"] {
        assert_eq!(node.get(host, "/").await.echo().backend(), "app", "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_added_changed_and_removed_are_followed() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let node = Node::builder().start().await;
    assert_eq!(node.get("app.test", "/").await.status, 404);
    node.write_dynamic("routes.json", &route("app.test", &[one.url()]).to_string());
    assert_eq!(node.answers("app.test", "/", 200).await.echo().backend(), "one");
    node.write_dynamic("routes.json", &route("app.test", &[two.url()]).to_string());
    eventually("the change is served", async || {
        let answer = node.get("app.test", "/").await.echo();
        if answer.backend() == "two" {
            Ok(())
        } else {
            Err(answer.backend().to_owned())
        }
    })
    .await;
    node.remove_dynamic("routes.json");
    node.answers("app.test", "/", 404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_written_in_place_is_followed_as_well() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let node = Node::routing("app.test", &[one.url()]).await;
    let path = node.directory().join("dynamic/routes.json");
    std::fs::write(path, route("app.test", &[two.url()]).to_string()).unwrap();
    eventually("the change is served", async || {
        let answer = node.get("app.test", "/").await.echo();
        if answer.backend() == "two" {
            Ok(())
        } else {
            Err(answer.backend().to_owned())
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_file_is_a_source_too() {
    let backend = Backend::start("app").await;
    let builder = Node::builder();
    let file = builder.directory().join("dynamic/only.yaml");
    let node = builder
        .config(json!({ "providers": { "file": null } }))
        .config(json!({ "providers": { "file": { "filename": file } } }))
        .dynamic("only.yaml", &route("app.test", &[backend.url()]).to_string())
        .dynamic("other.yaml", &route("other.test", &[backend.url()]).to_string())
        .start()
        .await;
    assert_eq!(node.get("app.test", "/").await.status, 200);
    assert_eq!(node.get("other.test", "/").await.status, 404);
}

/// The problems that `status` shows.
async fn problems(node: &Node) -> Vec<Value> {
    node.status().await["problems"].as_array().unwrap().clone()
}

fn problem_count(metrics: &Metrics) -> f64 {
    metrics.sum("constellation_configuration_problems", &[])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_keeps_the_last_good_content_visibly_and_recovers() {
    let (backend, other) = (Backend::start("app").await, Backend::start("other").await);
    let node = Node::builder()
        .dynamic("routes.yaml", &route("app.test", &[backend.url()]).to_string())
        .dynamic(
            "other.yaml",
            &route("other.test", &[other.url()])
                .to_string()
                .replace("main", "other"),
        )
        .start()
        .await;
    assert_eq!(problem_count(&node.metrics().await), 0.0);
    for (name, bad, expected) in [
        ("no YAML", "http: [unclosed", "routes.yaml"),
        ("unknown key", "http:\n  rooters: {}\n", "rooters"),
        (
            "wrong type",
            "http:\n  routers:\n    a:\n      rule: [1, 2]\n",
            "rule",
        ),
    ] {
        node.write_dynamic("routes.yaml", bad);
        let text = eventually("the problem is shown", async || {
            let problems = problems(&node).await;
            let text = serde_json::to_string(&problems).unwrap();
            if text.contains("routes.yaml") && text.contains(expected) {
                Ok(text)
            } else {
                Err(text)
            }
        })
        .await;
        assert!(problem_count(&node.metrics().await) >= 1.0, "{name}: {text}");
        // Both the broken file's routes and the others' are served on.
        assert_eq!(node.get("app.test", "/").await.echo().backend(), "app", "{name}");
        assert_eq!(
            node.get("other.test", "/").await.echo().backend(),
            "other",
            "{name}"
        );
        let health = node.ask("/health").await;
        assert_eq!(
            health.status,
            200,
            "a node that serves is ready: {}",
            health.text()
        );
        assert_eq!(health.json()["status"], "degraded", "{name}");
    }
    node.write_dynamic("routes.yaml", &route("new.test", &[backend.url()]).to_string());
    assert_eq!(node.answers("new.test", "/", 200).await.echo().backend(), "app");
    node.answers("app.test", "/", 404).await;
    assert_eq!(problems(&node).await, Vec::<Value>::new());
    assert_eq!(problem_count(&node.metrics().await), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_router_does_not_hurt_the_others() {
    let backend = Backend::start("app").await;
    let document = json!({ "http": {
        "routers": {
            "good": { "rule": "Host(`good.test`)", "service": "s" },
            "bad-rule": { "rule": "Host(`bad.test`", "service": "s" },
            "no-service": { "rule": "Host(`lost.test`)", "service": "missing" },
        },
        "services": { "s": { "loadBalancer": { "servers": [{ "url": backend.url() }] } } },
    } });
    let node = Node::builder()
        .dynamic("routes.json", &document.to_string())
        .start()
        .await;
    assert_eq!(node.get("good.test", "/").await.status, 200);
    for host in ["bad.test", "lost.test"] {
        assert_eq!(node.get(host, "/").await.status, 404);
    }
    let routes = node.cli(&["routes", "--json"]).await.json();
    let disabled: Vec<&Value> = routes["routes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|route| route["status"] == "disabled")
        .collect();
    assert_eq!(disabled.len(), 2, "{routes:#}");
    assert!(
        disabled
            .iter()
            .all(|route| !route["reason"].as_str().unwrap().is_empty())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reads_what_is_not_watched() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let node = Node::builder()
        .config(json!({ "providers": { "file": { "watch": false } } }))
        .dynamic("routes.json", &route("app.test", &[one.url()]).to_string())
        .start()
        .await;
    node.write_dynamic("routes.json", &route("app.test", &[two.url()]).to_string());
    assert_eq!(node.get("app.test", "/").await.echo().backend(), "one");
    node.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("the reload is served", async || {
        let answer = node.get("app.test", "/").await.echo();
        if answer.backend() == "two" {
            Ok(())
        } else {
            Err(answer.backend().to_owned())
        }
    })
    .await;
}
