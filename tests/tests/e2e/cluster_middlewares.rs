//! A route that only another node defines runs its middlewares where the client is, and the service's instance elsewhere.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use constellation_tests::client::Client;
use constellation_tests::client::http::request;
use constellation_tests::lab::{self, Lab, LabNode, Plan, until};
use constellation_tests::require;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method};
use serde_json::json;

const GUARDED: &str = "guarded.test";
/// `test:test`, as `htpasswd -nbm` writes it and Traefik's documentation shows it.
const USER: &str = "test:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/";
const CREDENTIALS: &str = "Basic dGVzdDp0ZXN0";

struct Said {
    status: u16,
    marked: String,
    text: String,
}

/// What a client of the node gets, who may bring credentials.
fn ask(lab: &Lab, node: LabNode<'_>, credentials: Option<&str>) -> Result<Said> {
    let at = SocketAddr::new(lab::address(node.number()), 80);
    let asked = lab.client()?.within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut request = request(Method::GET, GUARDED, "/deep/path");
            if let Some(credentials) = credentials {
                request
                    .headers_mut()
                    .insert(AUTHORIZATION, HeaderValue::from_str(credentials)?);
            }
            let answer = Client::h1(at).await?.send(request).await?;
            anyhow::Ok(Said {
                status: answer.status.as_u16(),
                marked: answer.header("x-marked").to_owned(),
                text: answer.text(),
            })
        })
    });
    asked?
}

#[test]
fn a_route_of_another_node_runs_its_middlewares_where_the_client_is() {
    require!(lab::possible());
    let log = |node: LabNode<'_>| node.folder().join("access.log");
    let plan = Plan::test(3).config(json!({ "edge": { "serve": "every-node" } }));
    let lab = Lab::prepare(&plan).unwrap();
    for node in lab.nodes() {
        node.reconfigure(json!({ "accessLog": { "filePath": log(node), "format": "json" } }))
            .unwrap();
    }
    lab.form().unwrap();
    let guarded = json!({ "http": {
        "routers": { "guarded": {
            "rule": format!("Host(`{GUARDED}`)"), "service": "guarded", "middlewares": ["guard", "path", "mark"],
        } },
        "middlewares": {
            "guard": { "basicAuth": { "users": [USER], "removeHeader": true } },
            "path": { "replacePathRegex": { "regex": "^/deep/(.*)", "replacement": "/$1" } },
            "mark": { "headers": { "customResponseHeaders": { "X-Marked": "yes" } } },
        },
        "services": { "guarded": { "loadBalancer": { "servers": [{ "url": "http://127.0.0.1:9000" }] } } },
    } });
    lab.node(3).write_dynamic("guarded.json", &guarded).unwrap();
    for node in lab.nodes() {
        until("the route is there, and closed", || {
            let said = ask(&lab, node, None)?;
            ensure!(said.status == 401, "{}: {}", said.status, said.text);
            Ok(())
        })
        .unwrap();
        let said = ask(&lab, node, Some(CREDENTIALS)).unwrap();
        assert_eq!((said.status, said.marked.as_str()), (200, "yes"), "{}", said.text);
        assert!(said.text.contains("GET /path"), "{}", said.text);
        assert!(said.text.contains("n3"), "{}", said.text);
        until("the access log has the user's name", || {
            let text = fs::read_to_string(log(node)).context("no access log")?;
            let named = |line: &str| line.contains(r#""ClientUsername":"test""#) && line.contains(GUARDED);
            ensure!(text.lines().any(named), "{text}");
            Ok(())
        })
        .unwrap();
    }
}
