//! Which address and port a container is reached at, and which containers can't be used.

use constellation_config::DockerProvider;
use serde_json::{Value, json};

use super::{contribution, inspection, problems, provider, routers, servers};

const PORT: &str = "traefik.http.services.web.loadbalancer.server.port";

fn networks(mut inspection: Value, networks: Value) -> Value {
    inspection["NetworkSettings"]["Networks"] = networks;
    inspection
}

fn ports(mut inspection: Value, ports: Value) -> Value {
    inspection["NetworkSettings"]["Ports"] = ports;
    inspection
}

fn host_mode(mut inspection: Value, mode: &str) -> Value {
    inspection["HostConfig"]["NetworkMode"] = json!(mode);
    inspection["NetworkSettings"]["Networks"] = json!({mode: {"IPAddress": ""}});
    inspection
}

#[test]
fn labelled_and_exposed_ports() {
    let web = |labels: &[(&str, &str)]| inspection("web", "10.0.0.1", labels);
    let cases = [
        (web(&[]), "web http://10.0.0.1:80"),
        (web(&[(PORT, "8080")]), "web http://10.0.0.1:8080"),
        // The lowest by number, not by text, whatever the protocol.
        (
            ports(web(&[]), json!({"8080/tcp": null, "443/tcp": null})),
            "web http://10.0.0.1:443",
        ),
        (
            ports(web(&[]), json!({"8080/tcp": null, "53/udp": null})),
            "web http://10.0.0.1:53",
        ),
        (ports(web(&[(PORT, "9")]), json!({})), "web http://10.0.0.1:9"),
        (
            web(&[("traefik.http.services.web.loadbalancer.server.scheme", "h2c")]),
            "web h2c://10.0.0.1:80",
        ),
        (
            web(&[(
                "traefik.http.services.web.loadbalancer.server.url",
                "https://other.test:8443/x",
            )]),
            "web https://other.test:8443/x",
        ),
    ];
    for (inspection, expected) in cases {
        let said = format!("{inspection}");
        assert_eq!(
            servers(&contribution(&provider(), vec![inspection])),
            [expected],
            "{said}"
        );
    }
}

#[test]
fn host_bindings() {
    let bound = |address: &str| {
        let web = inspection("web", "10.0.0.1", &[]);
        ports(web, json!({"80/tcp": [{"HostIp": address, "HostPort": "32768"}]}))
    };
    let options = DockerProvider {
        use_bind_port_ip: true,
        ..provider()
    };
    for (address, expected) in [
        ("192.168.1.9", "web http://192.168.1.9:32768"),
        ("2001:db8::9", "web http://[2001:db8::9]:32768"),
        ("0.0.0.0", "web http://10.0.0.1:80"),
        ("::", "web http://10.0.0.1:80"),
        ("", "web http://10.0.0.1:80"),
    ] {
        assert_eq!(
            servers(&contribution(&options, vec![bound(address)])),
            [expected],
            "{address}"
        );
    }
    assert_eq!(
        servers(&contribution(&provider(), vec![bound("192.168.1.9")])),
        ["web http://10.0.0.1:80"]
    );
}

#[test]
fn networks_named_and_chosen() {
    let two = json!({"zeta": {"IPAddress": "10.0.0.1"}, "alpha": {"IPAddress": "10.0.1.1"}});
    let label = [("traefik.docker.network", "zeta")];
    let options = |network: &str| DockerProvider {
        network: network.to_owned(),
        ..provider()
    };
    let several = "container web: it has several networks and names none, so `alpha` is used, the first by name; set \
                   the label `traefik.docker.network`";
    let missing = "container web: network `beta` is not one of its networks (alpha, zeta), so `alpha` is used; names \
                   are exact, with the Compose project in front";
    let cases = [
        (&label[..], "", two.clone(), "web http://10.0.0.1:80", vec![]),
        (&[], "zeta", two.clone(), "web http://10.0.0.1:80", vec![]),
        (&label, "alpha", two.clone(), "web http://10.0.0.1:80", vec![]),
        (&[], "", two.clone(), "web http://10.0.1.1:80", vec![several]),
        (&[], "beta", two, "web http://10.0.1.1:80", vec![missing]),
        (
            &[],
            "",
            json!({"ingress": {"IPAddress": "10.9.0.1"}, "own": {"IPAddress": "10.0.2.1"}}),
            "web http://10.0.2.1:80",
            vec![],
        ),
        (
            &[],
            "",
            json!({"a": {"IPAddress": "10.0.0.1", "GlobalIPv6Address": "2001:db8::1"}}),
            "web http://10.0.0.1:80",
            vec![],
        ),
        (
            &[],
            "",
            json!({"a": {"GlobalIPv6Address": "2001:db8::1"}}),
            "web http://[2001:db8::1]:80",
            vec![],
        ),
    ];
    for (labels, network, attached, expected, remarks) in cases {
        let said = format!("{labels:?} {network} {attached}");
        let web = networks(inspection("web", "", labels), attached);
        let contribution = contribution(&options(network), vec![web]);
        assert_eq!(servers(&contribution), [expected], "{said}");
        assert_eq!(problems(&contribution), remarks, "{said}");
    }
}

#[test]
fn borrowed_networks() {
    let port = [(PORT, "8080")];
    let host = host_mode(inspection("web", "", &port), "host");
    assert_eq!(
        servers(&contribution(&provider(), vec![host])),
        ["web http://127.0.0.1:8080"]
    );

    let vpn = || inspection("vpn", "10.0.0.7", &[("traefik.enable", "false")]);
    for by in ["container:vpn", "container:id-vpn"] {
        let web = host_mode(inspection("web", "", &port), by);
        assert_eq!(
            servers(&contribution(&provider(), vec![vpn(), web])),
            ["web http://10.0.0.7:8080"],
            "{by}"
        );
    }
    // The label of the container that owns the network counts before the borrower's.
    let owner = networks(
        inspection(
            "vpn",
            "",
            &[("traefik.enable", "false"), ("traefik.docker.network", "b")],
        ),
        json!({"a": {"IPAddress": "10.0.0.1"}, "b": {"IPAddress": "10.0.1.1"}}),
    );
    let web = host_mode(inspection("web", "", &port), "container:vpn");
    assert_eq!(
        servers(&contribution(&provider(), vec![owner, web.clone()])),
        ["web http://10.0.1.1:8080"]
    );

    let lost = contribution(&provider(), vec![web]);
    assert_eq!(
        problems(&lost),
        [
            "container web: service `web`: it has no IP address: it uses the network of container vpn, which doesn't \
          exist; the container is not used"
        ]
    );
    let circle = vec![
        host_mode(
            inspection(
                "a",
                "",
                &[("traefik.http.services.a.loadbalancer.server.port", "1")],
            ),
            "container:b",
        ),
        host_mode(inspection("b", "", &[("traefik.enable", "false")]), "container:a"),
    ];
    assert!(problems(&contribution(&provider(), circle))[0].contains("more than 4 deep"));
}

#[test]
fn what_cannot_be_used_says_why_and_hurts_nobody() {
    let web = |labels: &[(&str, &str)]| inspection("web", "10.0.0.1", labels);
    let cases = [
        (
            ports(web(&[]), json!({})),
            "service `web`: port is missing: the container exposes none; set the label \
             `traefik.http.services.web.loadbalancer.server.port`",
        ),
        (
            networks(web(&[]), json!({"none": {"IPAddress": ""}})),
            "service `web`: it has no IP address: no network gave it one; connect it to a network that this node \
             reaches",
        ),
        (
            web(&[("traefik.http.routers.r.bogus", "x")]),
            "label `traefik.http.routers.r.bogus`: there is no option `bogus` here; known are entryPoints, \
             middlewares, service, rule, parentRefs, ruleSyntax, priority, tls, observability",
        ),
        (
            web(&[("traefik.enable", "yes")]),
            "label `traefik.enable`: `yes` is not a boolean; write `true` or `false`",
        ),
        (
            web(&[("traefik.http.services.s.weighted.services[0].name", "x")]),
            "service `s`: load-balancer is not defined: labels can only define `loadbalancer` services",
        ),
        (
            web(&[
                ("traefik.http.services.s.loadbalancer.server.url", "http://x"),
                ("traefik.http.services.s.loadbalancer.server.port", "1"),
            ]),
            "service `s`: defining scheme or port is not allowed when url is defined; remove one of them",
        ),
    ];
    for (bad, expected) in cases {
        let good = inspection("good", "10.0.0.2", &[]);
        let contribution = contribution(&provider(), vec![bad, good]);
        assert_eq!(
            problems(&contribution),
            [format!("container web: {expected}; the container is not used")]
        );
        assert_eq!(routers(&contribution), ["good Host(`good`) -> good"]);
    }
}

#[test]
fn who_is_exposed() {
    let closed = DockerProvider::default();
    let constrained = DockerProvider {
        constraints: Some("Label(`stage`, `live`)".to_owned()),
        ..provider()
    };
    for (options, labels, exposed) in [
        (provider(), &[][..], true),
        (provider(), &[("traefik.enable", "false")], false),
        (closed.clone(), &[], false),
        (closed, &[("traefik.enable", "true")], true),
        (constrained.clone(), &[("stage", "live")], true),
        (constrained.clone(), &[("stage", "test")], false),
        (constrained, &[], false),
    ] {
        let contribution = contribution(&options, vec![inspection("web", "10.0.0.1", labels)]);
        assert_eq!(routers(&contribution).len(), usize::from(exposed), "{labels:?}");
        assert!(problems(&contribution).is_empty(), "{labels:?}");
    }
}
