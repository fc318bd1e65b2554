//! What is told, and what is not.

use super::*;
use crate::peers::{ExportError, MAX_BYTES};

fn secretive() -> Arc<Contribution> {
    reading(
        "file",
        json!({
            "http": {
                "routers": {"r": {"rule": "Host(`a`)", "service": "s", "middlewares": ["auth"], "priority": 7,
                    "tls": {"options": "strict", "certResolver": "le"}}},
                "services": {
                    "s": {"loadBalancer": {
                        "servers": [{"url": "http://SECRET-ADDRESS:1"}],
                        "healthCheck": {"path": "/", "headers": {"Authorization": "SECRET-HEADER"}},
                        "serversTransport": "t",
                        "strategy": "p2c",
                    }},
                    "w": {"weighted": {"services": [{"name": "s", "weight": 3}]}},
                },
                "middlewares": {"auth": {"basicAuth": {"users": ["u:HASH"]}}},
                "serversTransports": {"t": {"rootCAs": ["SECRET-CA"],
                    "certificates": [{"certFile": "SECRET-CERT", "keyFile": "SECRET-KEY"}]}},
            },
            "tcp": {
                "routers": {"d": {"rule": "HostSNI(`*`)", "service": "d", "middlewares": ["only"]}},
                "services": {"d": {"loadBalancer": {"servers": [{"address": "SECRET-DB:5432"}],
                    "healthCheck": {"send": "SECRET-SEND"}}}},
                "middlewares": {"only": {"ipAllowList": {"sourceRange": ["10.0.0.0/8"]}}},
            },
            "udp": {
                "routers": {"u": {"service": "u"}},
                "services": {"u": {"loadBalancer": {"servers": [{"address": "SECRET-DNS:53"}]}}},
            },
            "tls": {"certificates": [{"certFile": "SECRET-CERT", "keyFile": "SECRET-KEY"}],
                "options": {"strict": {"sniStrict": true}}},
            "constellation": {"http": {"services": {"s": {
                "retry": {"attempts": 3},
                "healthCheck": {"headers": {"Authorization": "SECRET-OPTION"}},
            }}}},
        }),
    )
}

#[test]
fn what_only_this_node_needs_is_not_told() {
    let exported = Export::of(&[secretive()]).encode().unwrap();
    let text = String::from_utf8(exported.bytes.to_vec()).unwrap();
    assert!(!text.contains("SECRET"), "{text}");
    let export = Export::decode(&exported.bytes).unwrap();
    assert_eq!(export.unread, [""; 0]);
    let told = &export.providers["file"];
    let Dynamic {
        http,
        tcp,
        udp,
        tls,
        constellation,
    } = &told.dynamic;
    assert_eq!(http.routers, secretive().dynamic.http.routers);
    assert_eq!(tcp.routers, secretive().dynamic.tcp.routers);
    assert_eq!(tcp.middlewares, secretive().dynamic.tcp.middlewares);
    assert_eq!(udp.routers, secretive().dynamic.udp.routers);
    assert_eq!(http.services["w"], secretive().dynamic.http.services["w"]);
    let balancer = http.services["s"].load_balancer.as_ref().unwrap();
    assert_eq!(balancer.strategy.as_deref(), Some("p2c"));
    assert_eq!(http.middlewares, secretive().dynamic.http.middlewares);
    assert_eq!(*tls, Default::default());
    let options = &constellation.http.services["s"];
    assert!(options.retry.is_some() && options.health_check.is_none());
    let counted: Vec<_> = told
        .instances
        .iter()
        .map(|(key, found)| (&**key, found.fit))
        .collect();
    assert_eq!(counted, [("s", 1), ("tcp/d", 1), ("udp/u", 1)]);
}

#[test]
fn the_same_readings_give_the_same_bytes() {
    let (one, other) = (
        Export::of(&[secretive(), containers("web", &[("http://10.0.0.1", true)])]),
        Export::of(&[containers("web", &[("http://10.0.0.1", true)]), secretive()]),
    );
    assert_eq!(one.encode().unwrap(), other.encode().unwrap());
    let stopped = Export::of(&[containers("web", &[("http://10.0.0.1", false)]), secretive()]);
    assert_ne!(stopped.encode().unwrap().digest, one.encode().unwrap().digest);
    let again = Export::decode(&one.encode().unwrap().bytes).unwrap();
    assert_eq!(again.encode().unwrap(), one.encode().unwrap());
}

/// Cookies are made of URLs as written: without these a client could not go on at its server from another node.
#[test]
fn urls_are_told_for_the_sake_of_cookies_alone() {
    let sticky = reading(
        "docker",
        json!({"http": {"services": {"s": {"loadBalancer": {
            "servers": [{"url": "http://10.0.0.1:80"}], "sticky": {"cookie": {}},
        }}}}}),
    );
    let urls = |reading| Export::of(&[reading]).providers["docker"].instances.clone();
    assert_eq!(urls(sticky)["s"].urls, [Box::from("http://10.0.0.1:80")]);
    assert!(
        urls(containers("s", &[("http://10.0.0.1:80", true)]))["s"]
            .urls
            .is_empty()
    );
}

#[test]
fn an_object_that_cannot_be_read_costs_that_object_alone() {
    let bytes = json!({"version": 1, "providers": {
        "docker": {"http": {"routers": {
            "good": {"rule": "Host(`a`)", "service": "s"},
            "newer": {"rule": "Host(`b`)", "service": "s", "unheardOf": 1},
        }}, "instances": {"s": {"defined": 1, "fit": 9}}},
        "unheard-of": {"http": {"routers": {"x": {}}}},
    }});
    let export = Export::decode(bytes.to_string().as_bytes()).unwrap();
    let docker = &export.providers["docker"];
    assert_eq!(docker.dynamic.http.routers.keys().collect::<Vec<_>>(), ["good"]);
    assert_eq!(docker.instances["s"].fit, 1, "no more than there are");
    assert_eq!(export.providers.len(), 1);
    assert!(export.unread[0].starts_with("router newer@docker: unknown field `unheardOf`"));
}

#[test]
fn what_is_no_export_is_refused() {
    let error = |bytes: &[u8]| Export::decode(bytes).unwrap_err();
    assert!(matches!(error(b"{"), ExportError::Json(_)));
    assert!(matches!(error(b"[]"), ExportError::Version(_)));
    assert!(matches!(error(br#"{"version": 2}"#), ExportError::Version(_)));
    assert!(matches!(
        error(&vec![b' '; MAX_BYTES + 1]),
        ExportError::TooLong(_)
    ));
    let many: serde_json::Map<String, Value> = (0..100_001).map(|n| (n.to_string(), json!({}))).collect();
    let bytes = json!({"version": 1, "providers": {"file": {"udp": {"services": many}}}});
    assert!(matches!(
        error(bytes.to_string().as_bytes()),
        ExportError::TooMany(_)
    ));
}

proptest::proptest! {
    /// Bytes of another node with an accident in them: read or refused, and what is read is told alike.
    #[test]
    fn broken_bytes_are_read_alike_or_refused(
        at in proptest::prelude::any::<proptest::sample::Index>(),
        by in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..4),
        out in 0usize..40,
    ) {
        let mut bytes = Export::of(&[secretive()]).encode().unwrap().bytes.to_vec();
        let at = at.index(bytes.len());
        let end = (at + out).min(bytes.len());
        bytes.splice(at..end, by);
        if let Ok(read) = Export::decode(&bytes) {
            let told = read.encode().unwrap();
            let again = Export::decode(&told.bytes).unwrap();
            proptest::prop_assert_eq!(&again.providers, &read.providers);
            proptest::prop_assert_eq!(again.encode().unwrap(), told);
        }
    }
}
