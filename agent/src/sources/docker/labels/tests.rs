//! Tables of labels: what they define, what is refused and in which words.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// `key=value` pairs to what they define, as JSON without defaults.
fn read(pairs: &[(&str, &str)]) -> Result<Value, String> {
    let routes = LabelledRoutes::read(&labels(pairs)).map_err(|error| error.to_string())?;
    let mut value = json!({
        "routers": routes.routers, "middlewares": routes.middlewares, "stores": routes.stores,
        "services": {}, "tcp": routes.tcp.defines(), "udp": routes.udp.defines(),
    });
    for (name, service) in routes.services {
        value["services"][&name] = json!({
            "loadBalancer": service.load_balancer,
            "middlewares": service.middlewares,
            "server": {
                "url": service.server.url, "scheme": service.server.scheme, "port": service.server.port,
                "weight": service.server.weight, "preservePath": service.server.preserve_path,
            },
        });
    }
    Ok(bare(value))
}

/// Without nulls, false, zeros and empty texts and lists: what the labels did set.
fn bare(value: Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(
            object
                .into_iter()
                .map(|(key, value)| (key, bare(value)))
                .filter(|(_, value)| {
                    ![json!(null), json!(false), json!(""), json!([]), json!(0)].contains(value)
                })
                .collect(),
        ),
        Value::Array(array) => Value::Array(array.into_iter().map(bare).collect()),
        value => value,
    }
}

fn expected(section: &str, value: Value) -> Value {
    let mut all = json!({"routers": {}, "services": {}, "middlewares": {}, "stores": {}});
    all[section] = value;
    all
}

#[test]
fn reads_what_traefik_reads() {
    let router = |value: Value| expected("routers", json!({"r": value}));
    let service = |value: Value| expected("services", json!({"s": value}));
    let middleware = |value: Value| expected("middlewares", json!({"m": value}));
    let nothing = || expected("routers", json!({}));
    let cases: Vec<(&[(&str, &str)], Value)> = vec![
        (
            &[("traefik.http.routers.r.rule", "Host(`a`)")],
            router(json!({"rule": "Host(`a`)"})),
        ),
        (
            &[("traefik.http.routers.r.rule", " Host(`a`) ")],
            router(json!({"rule": " Host(`a`) "})),
        ),
        (
            &[("traefik.HTTP.Routers.r.RULE", "x")],
            router(json!({"rule": "x"})),
        ),
        (&[("traefik.http.routers.r", "")], router(json!({}))),
        (&[("traefik.http.routers.r", "anything")], router(json!({}))),
        (
            &[("traefik.http.routers.r.entrypoints", "web, websecure ,x")],
            router(json!({"entryPoints": ["web", "websecure", "x"]})),
        ),
        (&[("traefik.http.routers.r.entrypoints", "")], router(json!({}))),
        (
            &[
                ("traefik.http.routers.r.entrypoints[0]", "web"),
                ("traefik.http.routers.r.entrypoints[1]", "x"),
            ],
            router(json!({"entryPoints": ["web", "x"]})),
        ),
        (
            &[("traefik.http.routers.r.middlewares", "a@file,b")],
            router(json!({"middlewares": ["a@file", "b"]})),
        ),
        (
            &[("traefik.http.routers.r.service", " s ")],
            router(json!({"service": " s "})),
        ),
        (
            &[("traefik.http.routers.r.priority", "-7")],
            router(json!({"priority": -7})),
        ),
        (
            &[("traefik.http.routers.r.priority", "+7")],
            router(json!({"priority": 7})),
        ),
        (
            &[("traefik.http.routers.r.rulesyntax", "v3")],
            router(json!({"ruleSyntax": "v3"})),
        ),
        (
            &[("traefik.http.routers.r.tls", "true")],
            router(json!({"tls": {}})),
        ),
        (
            &[("traefik.http.routers.r.tls", "TRUE")],
            router(json!({"tls": {}})),
        ),
        (&[("traefik.http.routers.r.tls", "")], router(json!({"tls": {}}))),
        (&[("traefik.http.routers.r.tls", "false")], router(json!({}))),
        (&[("traefik.http.routers.r.tls", "1")], router(json!({}))),
        (
            &[
                ("traefik.http.routers.r.tls", "false"),
                ("traefik.http.routers.r.tls.certresolver", "le"),
            ],
            router(json!({})),
        ),
        (
            &[
                ("traefik.http.routers.r.tls.certresolver", "le"),
                ("traefik.http.routers.r.tls.options", "o@file"),
            ],
            router(json!({"tls": {"certResolver": "le", "options": "o@file"}})),
        ),
        (
            &[
                ("traefik.http.routers.r.tls.domains[0].main", "a.test"),
                ("traefik.http.routers.r.tls.domains[0].sans", "b.test,c.test"),
                ("traefik.http.routers.r.tls.domains[1].main", "d.test"),
            ],
            router(json!({"tls": {"domains": [
                {"main": "a.test", "sans": ["b.test", "c.test"]}, {"main": "d.test"}]}})),
        ),
        (
            &[("traefik.http.routers.r.observability.accesslogs", "1")],
            router(json!({"observability": {"accessLogs": true}})),
        ),
        (&[("traefik.http.routers.r.parentrefs", "x")], router(json!({}))),
        // Names keep their case, and two spellings are one name: the first in byte order.
        (
            &[
                ("traefik.http.routers.MyApp.rule", "x"),
                ("traefik.http.routers.myapp.service", "s"),
            ],
            expected("routers", json!({"MyApp": {"rule": "x", "service": "s"}})),
        ),
        (
            &[("traefik.http.services.s.loadbalancer.server.port", "8080")],
            service(json!({"loadBalancer": {}, "server": {"port": "8080"}})),
        ),
        (
            &[("traefik.http.services.s.loadbalancer.server.port", " 80 ")],
            service(json!({"loadBalancer": {}, "server": {"port": " 80 "}})),
        ),
        (
            &[
                ("traefik.http.services.s.loadbalancer.server.scheme", "h2c"),
                ("traefik.http.services.s.loadbalancer.server.weight", "3"),
                ("traefik.http.services.s.loadbalancer.server.preservepath", "T"),
            ],
            service(
                json!({"loadBalancer": {}, "server": {"scheme": "h2c", "weight": 3, "preservePath": true}}),
            ),
        ),
        (
            &[("traefik.http.services.s.loadbalancer.server.url", "http://x:1")],
            service(json!({"loadBalancer": {}, "server": {"url": "http://x:1"}})),
        ),
        (
            &[
                ("traefik.http.services.s.loadbalancer.passhostheader", "true"),
                ("traefik.http.services.s.loadbalancer.serverstransport", "t@file"),
                ("traefik.http.services.s.loadbalancer.strategy", "p2c"),
            ],
            service(json!({
                "loadBalancer": {"passHostHeader": true, "serversTransport": "t@file", "strategy": "p2c"},
                "server": {},
            })),
        ),
        (
            &[
                ("traefik.http.services.s.loadbalancer.sticky.cookie.name", "c"),
                ("traefik.http.services.s.loadbalancer.sticky.cookie.maxage", "60"),
            ],
            service(
                json!({"loadBalancer": {"sticky": {"cookie": {"name": "c", "maxAge": 60}}}, "server": {}}),
            ),
        ),
        (
            &[("traefik.http.services.s.loadbalancer.sticky", "true")],
            service(json!({"loadBalancer": {"sticky": {}}, "server": {}})),
        ),
        (
            &[
                (
                    "traefik.http.services.s.loadbalancer.healthcheck.interval",
                    "1m30s",
                ),
                ("traefik.http.services.s.loadbalancer.healthcheck.timeout", "5"),
                (
                    "traefik.http.services.s.loadbalancer.healthcheck.headers.X-Probe",
                    "Yes",
                ),
            ],
            service(json!({
                "loadBalancer": {"healthCheck": {
                    "interval": "1m30s", "timeout": "5", "headers": {"X-Probe": "Yes"}}},
                "server": {},
            })),
        ),
        // No label form: accepted and forgotten.
        (
            &[("traefik.http.services.s.weighted.services[0].name", "x")],
            service(json!({"server": {}})),
        ),
        (&[("traefik.http.serverstransports.t.servername", "x")], nothing()),
        (
            &[("traefik.http.middlewares.m.stripprefix.prefixes", "/a,/b")],
            middleware(json!({"stripPrefix": {"prefixes": ["/a", "/b"]}})),
        ),
        (
            &[("traefik.http.middlewares.m.compress", "true")],
            middleware(json!({"compress": {}})),
        ),
        (
            &[("traefik.http.middlewares.m.compress", "false")],
            middleware(json!({})),
        ),
        (
            &[(
                "traefik.http.middlewares.m.headers.customrequestheaders.X-Script-Name",
                "test",
            )],
            middleware(json!({"headers": {"customRequestHeaders": {"X-Script-Name": "test"}}})),
        ),
        (
            &[(
                "traefik.http.middlewares.m.ratelimit.sourcecriterion.ipstrategy.depth",
                "2",
            )],
            middleware(json!({"rateLimit": {"sourceCriterion": {"ipStrategy": {"depth": 2}}}})),
        ),
        (
            &[("traefik.http.middlewares.m.plugin.P.Any.Thing[0]", "v")],
            middleware(json!({"plugin": {"P": {"Any": {"Thing": ["v"]}}}})),
        ),
        (
            &[("traefik.tls.stores.default.defaultgeneratedcert.resolver", "le")],
            expected(
                "stores",
                json!({"default": {"defaultGeneratedCert": {"resolver": "le"}}}),
            ),
        ),
        // Not looked at: other sections, Traefik 1, other labels, another root.
        (&[("traefik.foo.bar", "x")], nothing()),
        (
            &[
                ("traefik.frontend.rule", "Host:a"),
                ("traefik.port", "80"),
                ("traefik.backend", "b"),
            ],
            nothing(),
        ),
        (&[("traefik.tls.options.o.minversion", "VersionTLS12")], nothing()),
        (&[("com.example.traefik.http.routers.r.rule", "x")], nothing()),
        (
            &[("traefik", "x"), ("", "y"), ("tr", "z"), ("träfik.http", "z")],
            nothing(),
        ),
    ];
    for (pairs, expected) in cases {
        assert_eq!(read(pairs), Ok(expected), "{pairs:?}");
    }
}

#[test]
fn sees_that_there_are_tcp_and_udp_routes() {
    let read = |key: &str, value: &str| LabelledRoutes::read(&labels(&[(key, value)])).unwrap();
    let tcp = read("traefik.tcp.routers.r.rule", "HostSNI(`*`)");
    assert!(tcp.tcp.defines() && !tcp.udp.defines());
    let udp = read("traefik.udp.services.s.loadbalancer.server.port", "53");
    assert!(udp.udp.defines() && !udp.tcp.defines());
    let none = read("traefik.tcp.middlewares.m.inflightconn.amount", "3");
    assert!(!none.tcp.defines() && !none.udp.defines());
}

#[test]
fn refuses_what_traefik_refuses_and_says_what_to_do() {
    for (key, value, expected) in [
        (
            "traefik.http.routers.r.bogus",
            "x",
            "there is no option `bogus` here; known are entryPoints, middlewares,",
        ),
        (
            "traefik.http.bogus.r",
            "x",
            "there is no option `bogus` here; known are routers, services,",
        ),
        (
            "traefik.httpx.routers",
            "x",
            "there is no option `httpx` here; known are http, tcp, udp, tls",
        ),
        (
            "traefik.tcp.routers.r.bogus",
            "x",
            "there is no option `bogus` here",
        ),
        ("traefik.http.routers", "x", "it needs an option below it"),
        ("traefik.http", "x", "it needs an option below it"),
        (
            "traefik.http.services.s.loadbalancer",
            "true",
            "it needs an option below it",
        ),
        (
            "traefik.http.services.s.loadbalancer.server",
            "x",
            "it needs an option below it",
        ),
        (
            "traefik.http.services.s.loadbalancer.servers[0].url",
            "http://a",
            "there is no option `servers` here",
        ),
        (
            "traefik.http.services.s.loadbalancer.server[0].port",
            "80",
            "there is no option `[0]` here",
        ),
        (
            "traefik.http.services.s.loadbalancer.passhostheader",
            "yes",
            "`yes` is not a boolean; write `true` or",
        ),
        (
            "traefik.http.services.s.loadbalancer.passhostheader",
            "tRue",
            "`tRue` is not a boolean",
        ),
        (
            "traefik.http.services.s.loadbalancer.passhostheader",
            "",
            "`` is not a boolean",
        ),
        (
            "traefik.http.routers.r.priority",
            "high",
            "`high` is not a whole number",
        ),
        (
            "traefik.http.routers.r.priority",
            "1.5",
            "`1.5` is not a whole number",
        ),
        (
            "traefik.http.routers.r.priority",
            "99999999999999999999",
            "is not a whole number",
        ),
        (
            "traefik.http.routers.r.rule.x",
            "y",
            "`rule` is a single value and has no options",
        ),
        (
            "traefik.http.services.s.loadbalancer.server.weight",
            "-1",
            "label `traefik.http.services.s.loadBalancer.server`",
        ),
        (
            "traefik.http.services.s.loadbalancer.healthcheck.interval",
            "10 parsecs",
            "`10 parsecs` is not a duration",
        ),
        (
            "traefik.http.services.s.loadbalancer.healthcheck.interval",
            "ten",
            "`ten` is not a duration",
        ),
        (
            "traefik.http.services.s.loadbalancer.healthcheck.interval",
            "1.5.s",
            "is not a duration",
        ),
        (
            "traefik.http.services.s.loadbalancer.healthcheck.interval",
            "",
            "`` is not a duration",
        ),
        (
            "traefik.http.middlewares.m.compres",
            "true",
            "there is no option `compres` here",
        ),
        (
            "traefik.http.middlewares.m.headers",
            "true",
            "it needs an option below it",
        ),
        (
            "traefik.http.middlewares.m.headers.framedeny",
            "on",
            "`on` is not a boolean",
        ),
        (
            "traefik.http..rule",
            "x",
            "it has an empty element; remove the extra dot",
        ),
        ("traefik.http.routers.r.", "x", "it has an empty element"),
        (
            "traefik.http.routers.[0].rule",
            "x",
            "`[0]` has an index without a name",
        ),
        (
            "traefik.http.routers.r].rule",
            "x",
            "`r]` closes an index that it doesn't open",
        ),
        (
            "Traefik.http.routers.r.rule",
            "x",
            "the first element must be written `traefik`, in lower case",
        ),
        (
            "TRAEFIK.HTTP.routers.r.rule",
            "x",
            "the first element must be written `traefik`, in lower case",
        ),
    ] {
        let error = read(&[(key, value)]).unwrap_err();
        assert!(error.contains(expected), "{key}={value}: {error}");
    }
    let error = read(&[("traefik.http.routers.r.tls.domains[0].bogus", "x")]).unwrap_err();
    assert_eq!(
        error,
        "label `traefik.http.routers.r.tls.domains[0].bogus`: there is no option `bogus` here; known are main, sans"
    );
}

#[test]
fn options_of_a_group_that_is_off_are_still_checked() {
    let pairs = [
        ("traefik.http.routers.r.tls", "false"),
        ("traefik.http.routers.r.tls.bogus", "x"),
    ];
    assert!(read(&pairs).is_err());
}

#[test]
fn durations_are_gos() {
    let key = "traefik.http.middlewares.m.ratelimit.period";
    for good in [
        "1s", "500ms", "1h2m3s", "1.5h", ".5s", "-1s", "10", "1us", "1µs", "2ns", "+3s",
    ] {
        assert!(read(&[(key, good)]).is_ok(), "{good}");
    }
    for bad in ["s", "1d", "1 s", "1s ", "--1s", "1m30", "s1", "."] {
        assert!(read(&[(key, bad)]).is_err(), "{bad}");
    }
}

#[test]
fn reads_how_the_container_is_treated() {
    let read = |key: &str, value: &str| ContainerOptions::read(&labels(&[(key, value)]));
    for (text, flag) in [
        ("1", true),
        ("t", true),
        ("T", true),
        ("true", true),
        ("TRUE", true),
        ("True", true),
        ("0", false),
        ("f", false),
        ("F", false),
        ("false", false),
        ("FALSE", false),
        ("False", false),
    ] {
        assert_eq!(read("traefik.enable", text).unwrap().enable, Some(flag), "{text}");
    }
    for bad in ["yes", "", "on", "tRUE", " true"] {
        assert!(read("traefik.enable", bad).is_err(), "{bad:?}");
    }
    assert_eq!(read("traefik.ENABLE", "true").unwrap().enable, Some(true));
    assert!(read("Traefik.Enable", "true").is_err());
    assert_eq!(
        read("traefik.docker.network", "front")
            .unwrap()
            .network
            .as_deref(),
        Some("front")
    );
    assert_eq!(read("traefik.docker.network", "").unwrap().network, None);
    assert!(read("traefik.docker.lbswarm", "true").is_ok());
    assert!(read("traefik.docker.allownonrunning", "true").is_ok());
    assert!(read("traefik.docker.allownonrunning", "maybe").is_err());
    assert!(read("traefik.docker.bogus", "x").is_err());
    assert!(read("traefik.other", "x").is_ok());
}

#[test]
fn hostile_labels_are_bounded() {
    let deep = format!("traefik.http.middlewares.m.plugin{}", ".a".repeat(100_000));
    assert!(
        read(&[(&deep, "x")])
            .unwrap_err()
            .contains("it has more than 32 elements")
    );
    let keys = (0..6000).map(|n| (format!("traefik.http.routers.r{n}.rule"), String::new()));
    let error = LabelledRoutes::read(&keys.collect()).unwrap_err();
    assert!(
        error.message.contains("more than 5000 labels define routes"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn no_label_panics(
        key in "(traefik|Traefik)(\\.(http|tcp|tls|docker|enable|routers|services|[a-z\\[\\]0.é]{0,4})){0,6}",
        value in ".{0,12}",
    ) {
        let labels = BTreeMap::from([(key, value)]);
        // Either answer is fine; what was read must be what the document's types can hold.
        prop_assert!(LabelledRoutes::read(&labels).is_ok_and(|routes| routes.routers.len() <= 1)
            || LabelledRoutes::read(&labels).is_err());
        prop_assert_eq!(ContainerOptions::read(&labels), ContainerOptions::read(&labels));
    }
}
