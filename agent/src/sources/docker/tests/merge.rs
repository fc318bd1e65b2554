//! What several containers define together, and how names and rules come about.

use constellation_config::DockerProvider;

use super::{contribution, exited, inspection, problems, provider, routers, servers};

const RULE: (&str, &str) = ("traefik.http.routers.web.rule", "Host(`a.test`)");

/// Labels, the routers and the servers that come of them.
type Case<'a> = (Vec<(&'a str, &'a str)>, Vec<&'a str>, Vec<&'a str>);

#[test]
fn routers_and_services_find_each_other() {
    let port = |service: &str, port: &'static str| {
        let key: &'static str = format!("traefik.http.services.{service}.loadbalancer.server.port").leak();
        (key, port)
    };
    let cases: Vec<Case<'_>> = vec![
        (
            vec![],
            vec!["web Host(`web`) -> web"],
            vec!["web http://10.0.0.1:80"],
        ),
        (
            vec![
                ("com.docker.compose.service", "api"),
                ("com.docker.compose.project", "my_shop"),
            ],
            vec!["api-my-shop Host(`api-my-shop`) -> api-my-shop"],
            vec!["api-my-shop http://10.0.0.1:80"],
        ),
        (
            vec![("traefik.http.routers.r.rule", "Path(`/x`)")],
            vec!["r Path(`/x`) -> web"],
            vec!["web http://10.0.0.1:80"],
        ),
        (
            vec![("traefik.http.routers.r.entrypoints", "web")],
            vec!["r Host(`web`) -> web"],
            vec!["web http://10.0.0.1:80"],
        ),
        (
            vec![port("s", "81")],
            vec!["web Host(`web`) -> s"],
            vec!["s http://10.0.0.1:81"],
        ),
        (
            vec![port("s", "81"), port("t", "82")],
            vec![],
            vec!["s http://10.0.0.1:81", "t http://10.0.0.1:82"],
        ),
        (
            vec![
                port("s", "81"),
                port("t", "82"),
                ("traefik.http.routers.r.service", "t"),
                ("traefik.http.routers.lost.rule", "Path(`/`)"),
            ],
            vec!["r Host(`web`) -> t"],
            vec!["s http://10.0.0.1:81", "t http://10.0.0.1:82"],
        ),
        (
            vec![("traefik.http.routers.r.service", "api@file")],
            vec!["r Host(`web`) -> api@file"],
            vec!["web http://10.0.0.1:80"],
        ),
        (
            vec![("traefik.tcp.routers.r.rule", "HostSNI(`*`)")],
            vec![],
            vec![],
        ),
    ];
    for (labels, expected_routers, expected_servers) in cases {
        let contribution = contribution(&provider(), vec![inspection("web", "10.0.0.1", &labels)]);
        assert_eq!(routers(&contribution), expected_routers, "{labels:?}");
        assert_eq!(servers(&contribution), expected_servers, "{labels:?}");
    }
}

#[test]
fn default_rules() {
    let with = |rule: &str| DockerProvider {
        default_rule: rule.to_owned(),
        ..provider()
    };
    let web = || inspection("web", "10.0.0.1", &[("host", "h.test")]);
    let rendered = contribution(&with("Host(`{{ .Labels.host }}`)"), vec![web()]);
    assert_eq!(routers(&rendered), ["web Host(`h.test`) -> web"]);
    for (rule, expected) in [
        (
            "",
            "it has no rule, and providers.docker.defaultRule gives an empty one",
        ),
        (
            "{{ lower .Labels.none }}",
            "providers.docker.defaultRule: lower: expected a string, got nil",
        ),
    ] {
        let dropped = contribution(&with(rule), vec![web()]);
        assert!(routers(&dropped).is_empty());
        assert_eq!(servers(&dropped), ["web http://10.0.0.1:80"], "the service stays");
        assert_eq!(
            problems(&dropped),
            [format!("container web: router `web` is dropped: {expected}")]
        );
    }
}

#[test]
fn replicas_share_one_service() {
    let labels = [
        RULE,
        ("traefik.http.middlewares.m.compress", "true"),
        ("com.docker.compose.service", "web"),
        ("com.docker.compose.project", "shop"),
    ];
    let replicas = (1..=3).map(|n| inspection(&format!("shop-web-{n}"), &format!("10.0.0.{n}"), &labels));
    let contribution = contribution(&provider(), replicas.collect());
    assert_eq!(routers(&contribution), ["web Host(`a.test`) -> web-shop"]);
    let expected = [
        "web-shop http://10.0.0.1:80",
        "web-shop http://10.0.0.2:80",
        "web-shop http://10.0.0.3:80",
    ];
    assert_eq!(servers(&contribution), expected);
    assert_eq!(contribution.dynamic.http.middlewares.len(), 1);
    assert!(problems(&contribution).is_empty());
}

#[test]
fn different_definitions_cancel_each_other_everywhere() {
    let web =
        |name: &str, labels: &[(&str, &str)]| inspection(name, &format!("10.0.0.{}", name.len()), labels);
    let service = "traefik.http.services.s.loadbalancer";
    let pass: &str = format!("{service}.passhostheader").leak();
    let prefix = "traefik.http.middlewares.m.addprefix.prefix";
    let cases = [
        (
            "router web@docker",
            vec![RULE],
            vec![("traefik.http.routers.web.rule", "Host(`b.test`)")],
        ),
        // Two replicas with one router, and services named after each.
        ("router web@docker", vec![RULE], vec![RULE]),
        ("service s@docker", vec![(pass, "true")], vec![(pass, "false")]),
        ("middleware m@docker", vec![(prefix, "/a")], vec![(prefix, "/b")]),
    ];
    for (subject, one, two) in cases {
        let contribution = contribution(&provider(), vec![web("a", &one), web("bb", &two)]);
        let expected = format!(
            "{subject}: defined multiple times with different configurations, so it is dropped: by containers a, bb; \
             make their labels the same, or give each its own name"
        );
        assert_eq!(problems(&contribution), [expected], "{one:?} {two:?}");
        let http = &contribution.dynamic.http;
        assert!(
            !http.routers.contains_key("web")
                && !http.services.contains_key("s")
                && http.middlewares.is_empty()
        );
        assert!(!contribution.origins.contains_key("s"));
    }
    // The default, written out or not, is the same.
    let same = vec![
        web("a", &[(pass, "true")]),
        web(
            "bb",
            &[("traefik.http.services.s.loadbalancer.server.port", "80")],
        ),
    ];
    assert_eq!(problems(&contribution(&provider(), same)), [""; 0]);
}

#[test]
fn what_is_down_only_fills_gaps() {
    let old = |labels: &[(&str, &str)]| exited(inspection("old", "", labels), 0);
    let new = |labels: &[(&str, &str)]| inspection("new", "10.0.0.2", labels);
    let reason = "container old exited (0) at 2026-01-01T10:00:00.5Z";

    // Another rule under the same name: the one that serves counts, without conflict.
    let contribution_of = |old, new| contribution(&provider(), vec![old, new]);
    let changed = contribution_of(
        old(&[RULE]),
        new(&[("traefik.http.routers.web.rule", "Host(`b.test`)")]),
    );
    assert_eq!(routers(&changed), ["web Host(`b.test`) -> new"]);
    assert!(problems(&changed).is_empty());

    // The same requests under another name: they belong to the one that serves.
    let renamed = contribution_of(
        old(&[("traefik.http.routers.before.rule", "Host(`a.test`)")]),
        new(&[RULE]),
    );
    assert_eq!(routers(&renamed), ["web Host(`a.test`) -> new"]);

    // A service of another shape doesn't get the stopped server.
    let pass = "traefik.http.services.s.loadbalancer.passhostheader";
    let shaped = contribution_of(old(&[(pass, "false")]), new(&[(pass, "true")]));
    assert_eq!(servers(&shaped), ["s http://10.0.0.2:80"]);

    // The same service does, and what nobody else defines stays.
    let port = "traefik.http.services.s.loadbalancer.server.port";
    let both = contribution_of(
        old(&[
            (port, "80"),
            ("traefik.http.routers.old.rule", "Host(`old.test`)"),
        ]),
        new(&[(port, "80")]),
    );
    assert_eq!(
        servers(&both),
        [
            "s http://10.0.0.2:80".to_owned(),
            format!("s http://old.invalid:80 ({reason})")
        ]
    );
    assert_eq!(
        routers(&both),
        ["new Host(`new`) -> s", "old Host(`old.test`) -> s"]
    );
}
