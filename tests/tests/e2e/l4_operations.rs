//! What an operator sees: `routes` of all kinds, `explain tcp://`.

use constellation_tests::backend::Backend;
use constellation_tests::certificates::Authority;
use constellation_tests::client::tls::Tls;
use constellation_tests::node::{Node, constellation};
use constellation_tests::stream::Echo;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::net::TcpStream;

/// A node with a router of each kind.
async fn node(http: &Backend, tcp: &[&Echo]) -> Node {
    let servers: Vec<Value> = tcp
        .iter()
        .map(|echo| json!({ "address": echo.address().to_string() }))
        .collect();
    let document = json!({
        "http": {
            "routers": { "app": { "rule": "Host(`app.test`)", "service": "app", "entryPoints": ["web"] } },
            "services": { "app": { "loadBalancer": { "servers": [{ "url": http.url() }] } } },
        },
        "tcp": {
            "routers": {
                "app": { "rule": "HostSNI(`*`)", "service": "app", "entryPoints": ["tcp"] },
                "named": {
                    "rule": "HostSNI(`db.test`)", "service": "app", "entryPoints": ["tls"],
                    "tls": { "passthrough": true },
                },
            },
            "services": { "app": { "loadBalancer": { "servers": servers } } },
        },
        "udp": {
            "routers": { "app": { "service": "app", "entryPoints": ["udp"] } },
            "services": { "app": { "loadBalancer": { "servers": [{ "address": "127.0.0.1:9" }] } } },
        },
    });
    Node::builder()
        .config(json!({ "entryPoints": {
            "tcp": { "address": "127.0.0.1:0" },
            "tls": { "address": "127.0.0.1:0" },
            "udp": { "address": "127.0.0.1:0/udp" },
        } }))
        .dynamic("routes.json", &document.to_string())
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_lists_all_three_kinds() {
    let http = Backend::start("app").await;
    let echo = Echo::plain("one").await;
    let node = node(&http, &[&echo]).await;
    let routes = node.cli(&["routes"]).await;
    assert_eq!(routes.code, 0, "{routes:#?}");
    for name in ["app@file", "tcp/app@file", "tcp/named@file", "udp/app@file"] {
        let named = |line: &str| line.split_whitespace().any(|word| word == name);
        assert!(routes.stdout.lines().any(named), "{name} in {}", routes.stdout);
    }
}

/// What the client of a connection hears first.
async fn banner(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.unwrap();
    line.trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_agrees_with_where_streams_go() {
    let authority = Authority::new("test CA");
    let http = Backend::start("app").await;
    let plain = Echo::plain("plain").await;
    let named = Echo::tls("named", authority.sign(&["db.test"]).server_config(&[])).await;
    let alpn = Echo::tls("alpn", authority.sign(&["db.test"]).server_config(&["special"])).await;
    let service =
        |echo: &Echo| json!({ "loadBalancer": { "servers": [{ "address": echo.address().to_string() }] } });
    let router = |rule: &str, service: &str| json!({ "rule": rule, "service": service, "entryPoints": ["web"], "tls": { "passthrough": true } });
    let document = json!({
        "http": {
            "routers": { "app": { "rule": "Host(`app.test`)", "service": "app", "entryPoints": ["web"], "tls": {} } },
            "services": { "app": { "loadBalancer": { "servers": [{ "url": http.url() }] } } },
        },
        "tcp": {
            "routers": {
                "plain": { "rule": "HostSNI(`*`)", "service": "plain", "entryPoints": ["tcp"] },
                "named": router("HostSNI(`db.test`)", "named"),
                "alpn": router("HostSNI(`db.test`) && ALPN(`special`)", "alpn"),
                "inner": router("HostSNI(`db.test`) && ALPN(`special`) && ClientIP(`192.0.2.0/24`)", "alpn"),
            },
            "services": { "plain": service(&plain), "named": service(&named), "alpn": service(&alpn) },
        },
        "udp": {
            "routers": { "app": { "service": "app", "entryPoints": ["udp"] } },
            "services": { "app": { "loadBalancer": { "servers": [{ "address": "127.0.0.1:9" }] } } },
        },
    });
    let node = Node::builder()
        .config(json!({ "entryPoints": {
            "tcp": { "address": "127.0.0.1:0" },
            "udp": { "address": "127.0.0.1:0/udp" },
        } }))
        .dynamic("routes.json", &document.to_string())
        .start()
        .await;
    let (web, tcp, udp) = (node.web(), node.entry_point("tcp"), node.entry_point("udp"));

    // What is said is what happens.
    let client = Tls::trusting(&authority);
    for (url, protocols, router) in [
        (format!("tls://db.test:{}", web.port()), &[][..], "tcp/named@file"),
        (format!("tcp://{web}?sni=DB.test."), &[], "tcp/named@file"),
        (
            format!("tcp://{web}?sni=db.test&alpn=x,special"),
            &["x", "special"],
            "tcp/alpn@file",
        ),
    ] {
        let explained = node.cli(&["explain", "--json", &url]).await.json();
        assert_eq!(explained["router"]["name"], router, "{url} {explained:#}");
        let connecting = client.clone().alpn(protocols);
        let mut connection = connecting.connect(web, "db.test").await.unwrap().stream;
        let heard = banner(&mut connection).await;
        assert_eq!(format!("tcp/{heard}@file"), router, "{url}");
    }
    let url = format!("tcp://{tcp}");
    let explained = node.cli(&["explain", "--json", &url]).await.json();
    assert_eq!(explained["router"]["name"], "tcp/plain@file", "{explained:#}");
    assert_eq!(explained["unheard"], true, "{explained:#}");
    let mut connection = TcpStream::connect(tcp).await.unwrap();
    assert_eq!(banner(&mut connection).await, "plain");

    // For people.
    let text = node.cli(&["explain", &url]).await;
    assert_eq!(text.code, 0, "{text:#?}");
    let endpoint = plain.address().to_string();
    for words in ["TCP without TLS", "tcp/plain@file", "HostSNI(`*`)", &endpoint] {
        assert!(text.stdout.contains(words), "{words}: {}", text.stdout);
    }
    let from = format!("tcp://{web}?sni=db.test&alpn=special");
    let text = node
        .cli(&["explain", &from, "--client-ip", "192.0.2.7"])
        .await
        .stdout;
    assert!(text.contains("router tcp/inner@file"), "{text}");
    let text = node.cli(&["explain", &format!("udp://{udp}")]).await.stdout;
    assert!(
        text.contains("udp/app@file") && text.contains("127.0.0.1:9"),
        "{text}"
    );
    let text = node
        .cli(&["explain", "tls://app.test", "--entrypoint", "web"])
        .await
        .stdout;
    assert!(text.contains("-> HTTPS: no TCP router matches"), "{text}");

    // Without the node there are its files.
    let file = node.config_file().display().to_string();
    let arguments = ["explain", "--config", &file, "--entrypoint", "tcp", "tcp://any"];
    let text = constellation(&arguments, &[]).await;
    assert!(text.stdout.contains("router tcp/plain@file"), "{text:#?}");

    // What can't be asked.
    let (other, with_name) = (
        format!("udp://127.0.0.1:{}", tcp.port()),
        format!("udp://{udp}?sni=db.test"),
    );
    let refusals: [(&[&str], &str); 5] = [
        (
            &["tcp://127.0.0.1:1"],
            "no entry point takes tcp at 127.0.0.1:1; there are: ",
        ),
        (&[&other], "no entry point takes udp at"),
        (
            &["sctp://127.0.0.1:1"],
            "is not an absolute URL of http, https, tcp, tls or udp",
        ),
        (&[&with_name], "datagrams have none"),
        (&[&url, "--header", "X-A: b"], "a stream has no header"),
    ];
    for (arguments, words) in refusals {
        let refused = node.cli(&[&["explain"], arguments].concat()).await;
        assert_eq!(refused.code, 2, "{refused:#?}");
        assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }
}
