//! What a user reads when something is wrong, word for word.

use constellation_tests::backend::Backend;
use constellation_tests::eventually;
use constellation_tests::node::{Node, constellation, route};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_file_is_told_with_every_error_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bad.yaml");
    std::fs::write(
        &file,
        "entryPoints:\n  web:\n    adress: \":80\"\n    address: 127.0.0.1:99999\n    limits:\n      headerTimeout: soon\n\
         providers:\n  file:\n    directory: /srv\n    watch: maybe\nproxy:\n  workers: -1\n",
    )
    .unwrap();
    let path = file.display().to_string();
    let errors = format!(
        "{path}:3:5: entryPoints.web.adress: unknown key\n    \
             expected: one of address, asDefault, forwardedHeaders, http, http2, limits, proxyProtocol, reusePort, transport, udp\n    \
             hint: did you mean `address`?\n\
         {path}:4:14: entryPoints.web.address: has no valid port\n    \
             value: \"127.0.0.1:99999\"\n    \
             expected: `:PORT` or `IP:PORT`, such as `:80`, `127.0.0.1:0` or `[::1]:443`, port 0 for any free one\n    \
             hint: ports are numbers from 0 to 65535\n\
         {path}:6:22: entryPoints.web.limits.headerTimeout: is not a duration\n    \
             value: \"soon\"\n    \
             expected: a duration such as 500ms, 10s, 1m30s or 2h, or a whole number of seconds\n\
         {path}:10:12: providers.file.watch: is neither true nor false\n    \
             value: \"maybe\"\n    \
             expected: true or false\n\
         {path}:12:12: proxy.workers: is out of range\n    \
             value: -1\n    \
             expected: a whole number from 0 to 1024\n"
    );
    let check = constellation(&["check", &path], &[]).await;
    assert_eq!((check.code, &*check.stdout), (78, ""), "{check:#?}");
    assert_eq!(check.stderr, format!("constellation: {path}: 5 errors\n{errors}"));
    let run = constellation(&["run", "--config", &path], &[]).await;
    assert_eq!((run.code, &*run.stdout), (78, ""), "{run:#?}");
    assert_eq!(run.stderr, format!("constellation: {errors}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_a_bad_variable_and_a_bad_flag_are_told_apart() {
    let missing = constellation(&["check", "/nonexistent/node.yaml"], &[]).await;
    assert_eq!(missing.code, 78);
    assert_eq!(
        missing.stderr,
        "constellation: /nonexistent/node.yaml: 1 error\n\
         /nonexistent/node.yaml: cannot be read: No such file or directory (os error 2)\n    \
         hint: check the path, or leave the option out\n"
    );
    let variable = constellation(&["run"], &[("CONSTELLATION__PROXY__WORKERS", "zero")]).await;
    assert_eq!(variable.code, 78);
    assert_eq!(
        variable.stderr,
        "constellation: environment variable CONSTELLATION__PROXY__WORKERS: proxy.workers: is not a whole number\n    \
         value: \"zero\"\n    expected: a whole number from 0 to 1024\n"
    );
    let flag = constellation(&["run", "--set", "a.b=c"], &[]).await;
    assert_eq!(flag.code, 78);
    assert_eq!(
        flag.stderr,
        "constellation: flag for a.b: a: unknown key\n    \
         expected: one of accessLog, cluster, control, edge, entryPoints, log, node, providers, proxy, serversTransport, \
         serviceDefaults, tcpServersTransport, traefikProvider\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_names_its_owner_and_the_key_to_change() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("node.json");
    let config = json!({
        "entryPoints": { "web": { "address": "127.0.0.1:0" } },
        "control": { "address": "127.0.0.1:0" },
        "providers": { "file": { "directory": directory.path() } },
    });
    std::fs::write(&file, config.to_string()).unwrap();
    let owner = std::fs::read_to_string("/proc/self/comm").unwrap();
    let (owner, pid) = (owner.trim(), std::process::id());
    for (who, key) in [
        ("entry point web", "entryPoints.web.address"),
        ("control", "control.address"),
    ] {
        let set = format!("{key}={address}");
        let run = constellation(
            &["run", "--config", &file.display().to_string(), "--set", &set],
            &[],
        )
        .await;
        assert_eq!(run.code, 69, "{run:#?}");
        let said = run.stderr.lines().last().unwrap();
        assert_eq!(
            said,
            format!(
                "constellation: {who}: cannot listen on {address}: Address already in use (os error 98); the port is \
                 held by {owner} (pid {pid}). Free the address or change {key}"
            )
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_node_the_commands_say_so() {
    let nowhere = ["--control", "http://127.0.0.1:1"];
    for command in [&["status"][..], &["routes"], &["explain", "http://app.test/"]] {
        let all: Vec<&str> = command.iter().chain(&nowhere).copied().collect();
        let asked = constellation(&all, &[]).await;
        assert_eq!(asked.code, 69, "{asked:#?}");
        assert_eq!(
            asked.stderr,
            "constellation: no node answers at http://127.0.0.1:1: io: Connection refused (os error 111); start one \
             with `constellation run`, or name another with --control URL\n"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_docker_socket_is_said_and_the_rest_serves() {
    let backend = Backend::start("app").await;
    let builder = Node::builder();
    let socket = builder.directory().join("absent.sock").display().to_string();
    let node = builder
        .config(json!({ "providers": { "docker": { "endpoint": format!("unix://{socket}") } } }))
        .dynamic("routes.json", &route("app.test", &[backend.url()]).to_string())
        .start()
        .await;
    let said = format!(
        "Docker is not reachable at unix://{socket}: no such file. Start Docker, set DOCKER_HOST, or remove \
         providers.docker"
    );
    assert!(node.log().contains(&said), "{}", node.log());
    let status = node.status().await;
    let docker = status["sources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|source| source["name"] == "docker")
        .unwrap();
    assert_eq!(
        (&docker["connected"], &docker["error"]),
        (&json!(false), &json!(said))
    );
    let health = node.ask("/health").await;
    assert_eq!(
        (health.status.as_u16(), &health.json()["status"]),
        (200, &json!("degraded"))
    );
    assert_eq!(node.get("app.test", "/").await.status, 200);
}

/// All problems that `status` shows, once there are any.
async fn problems(node: &Node) -> Value {
    eventually("problems are shown", async || {
        let problems = node.status().await["problems"].clone();
        if problems.as_array().unwrap().is_empty() {
            Err("none")
        } else {
            Ok(problems)
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_certificate_names_its_file() {
    let builder = Node::builder().websecure();
    let path = builder.directory().join("absent.crt").display().to_string();
    let document = json!({ "tls": { "certificates": [{ "certFile": path, "keyFile": "absent.key" }] } });
    let node = builder.dynamic("tls.json", &document.to_string()).start().await;
    let said = json!([{
        "subject": format!("certificate {path}"),
        "message": format!(
            "certificate file {path}: cannot be read: No such file or directory (os error 2); correct the path or the \
             file's permissions"
        ),
    }]);
    assert_eq!(problems(&node).await, said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_rule_is_told_with_its_place() {
    let document = json!({ "http": {
        "routers": {
            "open": { "rule": "Host(`a.test`", "service": "s" },
            "unknown": { "rule": "Hots(`a.test`)", "service": "s" },
            "v2": { "rule": "Host(`a.test`)", "ruleSyntax": "v2", "service": "s" },
        },
        "services": { "s": { "loadBalancer": { "servers": [{ "url": "http://127.0.0.1:1" }] } } },
    } });
    let node = Node::builder()
        .dynamic("routes.json", &document.to_string())
        .start()
        .await;
    let routes = node.ask("/api/v1/routes").await.json();
    for (router, said) in [
        (
            "open@file",
            "rule \"Host(`a.test`\": expected `,` or `)` after an argument of `Host`, found the end of the rule (at \
             byte 13 of the rule)",
        ),
        (
            "unknown@file",
            "rule \"Hots(`a.test`)\": unknown matcher `Hots`; known are ClientIP, Header, HeaderRegexp, Host, \
             HostRegexp, Method, Path, PathPrefix, PathRegexp, Query, QueryRegexp (at byte 0 of the rule)",
        ),
        (
            "v2@file",
            "ruleSyntax \"v2\" is not served: rewrite the rule in v3 syntax (one value per matcher, HostRegexp and \
             PathRegexp with plain regular expressions, joined by && and ||) and remove ruleSyntax",
        ),
    ] {
        let route = routes["routes"]
            .as_array()
            .unwrap()
            .iter()
            .find(|route| route["name"] == router)
            .unwrap();
        assert_eq!(
            (&route["status"], &route["reason"]),
            (&json!("disabled"), &json!(said))
        );
    }
}
