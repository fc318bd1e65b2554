//! Traefik dynamic documents: what is read, and the exact text of every refusal.

#![expect(clippy::panic, reason = "a test fails by panicking, in its helpers too")]

use std::path::Path;

use constellation_config::dynamic::{Dynamic, from_labels, parse};
use constellation_config::{ConfigErrors, Format};
use serde_json::json;

fn yaml(text: &str) -> Result<Dynamic, ConfigErrors> {
    parse(text, Format::Yaml, Path::new("dyn.yaml"))
}

/// A router with one extra line, and the part of it that the line is about.
fn router(line: &str) -> Dynamic {
    yaml(&format!("http: {{routers: {{r: {{rule: x, {line}}}}}}}")).unwrap_or_else(|e| panic!("{line}: {e}"))
}

#[test]
fn a_whole_document_reads_in_every_format() {
    let yaml_text = r#"
http:
  routers:
    app:
      rule: Host(`a.test`)
      entryPoints: [web, websecure]
      service: app
      priority: 10
      tls: {}
  services:
    app:
      loadBalancer:
        servers:
          - url: http://127.0.0.1:8000
            weight: 2
        passHostHeader: false
tls:
  certificates:
    - certFile: /c.pem
      keyFile: /k.pem
"#;
    let toml_text = r#"
[http.routers.app]
rule = "Host(`a.test`)"
entryPoints = ["web", "websecure"]
service = "app"
priority = 10
[http.routers.app.tls]
[http.services.app.loadBalancer]
passHostHeader = false
[[http.services.app.loadBalancer.servers]]
url = "http://127.0.0.1:8000"
weight = 2
[[tls.certificates]]
certFile = "/c.pem"
keyFile = "/k.pem"
"#;
    let json_text = r#"{"http": {"routers": {"app": {"rule": "Host(`a.test`)", "entryPoints": ["web", "websecure"],
        "service": "app", "priority": 10, "tls": {}}}, "services": {"app": {"loadBalancer": {"servers": [
        {"url": "http:\/\/127.0.0.1:8000", "weight": 2}], "passHostHeader": false}}}},
        "tls": {"certificates": [{"certFile": "/c.pem", "keyFile": "/k.pem"}]}}"#;

    let read = yaml(yaml_text).unwrap();
    assert_eq!(read.http.routers["app"].entry_points, ["web", "websecure"]);
    assert_eq!(read.http.routers["app"].priority, 10);
    assert!(read.http.routers["app"].tls.is_some());
    let balancer = read.http.services["app"].load_balancer.as_ref().unwrap();
    assert_eq!(balancer.servers[0].weight, Some(2));
    assert_eq!(balancer.pass_host_header, Some(false));
    assert_eq!(read.tls.certificates[0].key_file, "/k.pem");
    assert_eq!(parse(toml_text, Format::Toml, Path::new("d.toml")).unwrap(), read);
    assert_eq!(parse(json_text, Format::Json, Path::new("d.json")).unwrap(), read);
}

#[test]
fn traefiks_leniencies() {
    for line in ["priority: 10", "priority: '10'", "priority: 10.0", "PRIORITY: 10"] {
        assert_eq!(router(line).http.routers["r"].priority, 10, "{line}");
    }
    for line in ["entryPoints: web", "entrypoints: [web]", "ENTRYPOINTS: ' web '"] {
        assert_eq!(router(line).http.routers["r"].entry_points, ["web"], "{line}");
    }
    assert_eq!(
        router("entryPoints: 'a, b'").http.routers["r"].entry_points,
        ["a", "b"]
    );
    for (line, tls) in [
        ("tls: true", true),
        ("tls: {}", true),
        ("tls: false", false),
        ("tls: null", false),
    ] {
        assert_eq!(router(line).http.routers["r"].tls.is_some(), tls, "{line}");
    }
    for (written, expected) in [
        ("'true'", Some(true)),
        ("null", None),
        ("0", Some(false)),
        ("T", Some(true)),
    ] {
        let text = format!("http: {{services: {{s: {{loadBalancer: {{passHostHeader: {written}}}}}}}}}");
        let read = yaml(&text).unwrap();
        let balancer = read.http.services["s"].load_balancer.clone().unwrap();
        assert_eq!(balancer.pass_host_header, expected, "{written}");
    }
    for (written, expected) in [
        ("10s", "10s"),
        ("10", "10s"),
        ("'10'", "10s"),
        ("1.5s", "1s500ms"),
        ("0", "0s"),
    ] {
        let text =
            format!("http: {{serversTransports: {{t: {{forwardingTimeouts: {{dialTimeout: {written}}}}}}}}}");
        let read = yaml(&text).unwrap();
        let timeouts = read.http.servers_transports["t"]
            .forwarding_timeouts
            .clone()
            .unwrap();
        assert_eq!(timeouts.dial_timeout.as_deref(), Some(expected), "{written}");
    }
    // Empty sections do no harm, names keep their case, a text may look like a number.
    for text in [
        "",
        "{}",
        "http:",
        "http: {}",
        "http: {routers: {}}",
        "# nothing",
        "---\n",
        "static: {a: 1}",
    ] {
        assert_eq!(yaml(text).unwrap(), Dynamic::default(), "{text:?}");
    }
    let read = yaml("http: {routers: {A-b: {rule: 007, service: 1.10}}}").unwrap();
    assert_eq!(read.http.routers["A-b"].rule, "007");
    assert_eq!(read.http.routers["A-b"].service, "1.10");
}

#[test]
fn anchors_and_merge_keys() {
    let read = yaml(
        "x-base: &base {entryPoints: [web], priority: 5}\nhttp:\n  routers:\n    a: {<<: *base, rule: x}\n    b:\n      <<: [*base]\n      priority: 6\n",
    )
    .unwrap();
    assert_eq!(read.http.routers["a"].entry_points, ["web"]);
    assert_eq!(read.http.routers["a"].priority, 5);
    assert_eq!(read.http.routers["b"].priority, 6);
}

#[test]
fn refusals_of_yaml_documents() {
    let table = [
        (
            "http:\n  routers:\n    a:\n      rul: x\n      bogus: 1\n",
            "dyn.yaml:4:7: http.routers.a.rul: unknown key\n    expected: one of entryPoints, middlewares, observability, priority, rule, ruleSyntax, service, tls\n    hint: did you mean `rule`?\ndyn.yaml:5:7: http.routers.a.bogus: unknown key\n    expected: one of entryPoints, middlewares, observability, priority, rule, ruleSyntax, service, tls",
        ),
        (
            "http: {routers: {a: {priority: 10.5}}}",
            "dyn.yaml:1:32: http.routers.a.priority: is not a whole number\n    value: 10.5\n    expected: a whole number",
        ),
        (
            "http: {routers: {a: {priority: abc}}}",
            "dyn.yaml:1:32: http.routers.a.priority: is not a whole number\n    value: \"abc\"\n    expected: a whole number",
        ),
        (
            "http: {serversTransports: {t: {forwardingTimeouts: {dialTimeout: 10 parsecs}}}}",
            "dyn.yaml:1:66: http.serversTransports.t.forwardingTimeouts.dialTimeout: is not a duration\n    value: \"10 parsecs\"\n    expected: a duration such as 500ms, 10s, 1m30s or 2h, or a whole number of seconds",
        ),
        (
            "http: {services: {s: {loadBalancer: {passHostHeader: yes}}}}",
            "dyn.yaml:1:54: http.services.s.loadBalancer.passHostHeader: is neither true nor false\n    value: \"yes\"\n    expected: true or false\n    hint: write `true`",
        ),
        (
            "http: {routers: {a: {rule: x, status: enabled}}}",
            "dyn.yaml:1:31: http.routers.a.status: is a field of Traefik's API, not of its configuration\n    hint: remove it",
        ),
        (
            "routers: {a: {rule: x}}",
            "dyn.yaml:1:1: routers: has no effect at the top of a document\n    hint: put it below `http`",
        ),
        (
            "htttp: {}",
            "dyn.yaml:1:1: htttp: unknown key\n    expected: one of constellation, http, tcp, tls, udp\n    hint: did you mean `http`?",
        ),
        (
            "http:\n  routers: {}\n  routers: {}\n",
            "dyn.yaml:3:3: http.routers: the key stands here again; it is first on line 2\n    hint: keep one of them; keys are the same in any case",
        ),
        (
            "http: {}\nHTTP: {}\n",
            "dyn.yaml:2:1: http: the key stands here again; it is first on line 1\n    hint: keep one of them; keys are the same in any case",
        ),
        (
            "- a\n",
            "dyn.yaml:1:1: the document is not a map\n    value: a list of 1\n    expected: a map with keys of http, tcp, udp, tls, constellation",
        ),
        (
            "http: {services: {s: {loadBalancer: {servers: [{url: {{ env }} }]}}}}",
            "dyn.yaml:1:55: a key must be a plain value\n    expected: a name followed by a colon\n    hint: Go templates (`{{ … }}`) are not evaluated in files; write the value, or render the file first",
        ),
        (
            "a: 1\n---\nb: 2\n",
            "dyn.yaml:3:1: a second YAML document starts here; only one is read\n    hint: put it into a file of its own",
        ),
        (
            "tls: {certificates: [{certFile: a, keyFile: [x]}]}",
            "dyn.yaml:1:45: tls.certificates[0].keyFile: has the wrong shape\n    value: [redacted]\n    expected: a text",
        ),
        (
            "http: {routers: {a: {entryPoints: [web, ~]}}}",
            "dyn.yaml:1:41: http.routers.a.entryPoints[1]: is empty\n    value: ~\n    expected: a text",
        ),
        (
            "http: {services: {s: {loadBalancer: {servers: [x]}}}}",
            "dyn.yaml:1:48: http.services.s.loadBalancer.servers[0]: has the wrong shape\n    value: \"x\"\n    expected: a map, or `true` for its defaults",
        ),
        (
            "a: &x [*x]",
            "dyn.yaml:1:8: the alias stands inside the value it names",
        ),
    ];
    for (text, expected) in table {
        let errors = yaml(text).expect_err(text);
        assert_eq!(errors.to_string(), expected, "of {text:?}");
    }
}

#[test]
fn labels_read_like_documents() {
    let tree = json!({"http": {"ROUTERS": {"Web": {"rule": "Host(`a`)", "entrypoints": "web, websecure", "tls": "",
        "priority": "7"}}, "services": {"s": {"loadbalancer": {"servers": [{"url": "http://x", "weight": "3"}],
        "passhostheader": "false"}}}}});
    let read = from_labels(tree).unwrap();
    let router = &read.http.routers["Web"];
    assert_eq!(router.entry_points, ["web", "websecure"]);
    assert_eq!(router.priority, 7);
    assert!(router.tls.is_some());
    let balancer = read.http.services["s"].load_balancer.as_ref().unwrap();
    assert_eq!(
        (balancer.servers[0].weight, balancer.pass_host_header),
        (Some(3), Some(false))
    );

    let refused =
        from_labels(json!({"http": {"routers": {"a": {"priorty": "x", "priority": "x"}}}})).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "label traefik.http.routers.a.priority: is not a whole number\n    value: \"x\"\n    expected: a whole number\nlabel traefik.http.routers.a.priorty: unknown key\n    expected: one of entryPoints, middlewares, observability, priority, rule, ruleSyntax, service, tls\n    hint: did you mean `priority`?"
    );
}

#[test]
fn tcp_and_udp_sections_read_in_every_format() {
    let yaml_text = r#"
tcp:
  routers:
    db: {entryPoints: pg, rule: "HostSNI(`db.test`)", service: db, priority: '3', middlewares: [lan], tls: {passthrough: "true"}}
    ssh: {rule: "HostSNI(`*`)", service: ssh, tls: false}
  services:
    db:
      loadBalancer:
        servers: [{address: "10.0.0.1:5432"}, {address: "[::1]:5432", tls: true}]
        proxyProtocol: {version: "1"}
        terminationDelay: "-1"
        serversTransport: t
        healthCheck: {port: 5433, send: "PING", expect: "+PONG", interval: 10, unhealthyInterval: 1s, timeout: 3s}
    ssh: {weighted: {services: [{name: db, weight: 2}, {name: db}], healthCheck: {}}}
  middlewares:
    lan: {ipAllowList: {sourceRange: "10.0.0.0/8, ::1"}}
    old: {ipWhiteList: {sourceRange: [10.0.0.1]}}
    few: {inFlightConn: {amount: "10"}}
  serversTransports:
    t: {dialTimeout: 3, dialKeepAlive: 15s, terminationDelay: "-1ms", proxyProtocol: true,
        tls: {serverName: x, insecureSkipVerify: true, rootCAs: /a.pem, certificates: [{certFile: /c.pem, keyFile: /k.pem}]}}
udp:
  routers:
    dns: {entryPoints: [dns], service: dns}
  services:
    dns: {loadBalancer: {servers: [{address: "10.0.0.1:53"}]}}
    both: {weighted: {services: {name: dns}}}
"#;
    let read = yaml(yaml_text).unwrap();
    let tcp = &read.tcp;
    let db = &tcp.routers["db"];
    assert_eq!(
        (db.priority, db.middlewares.as_slice()),
        (3, ["lan".to_owned()].as_slice())
    );
    assert!(db.tls.as_ref().is_some_and(|tls| tls.passthrough) && tcp.routers["ssh"].tls.is_none());
    let balancer = tcp.services["db"].load_balancer.as_ref().unwrap();
    assert_eq!(balancer.servers[1].address, "[::1]:5432");
    assert!(balancer.servers[1].tls && !balancer.servers[0].tls);
    assert_eq!(balancer.proxy_protocol.as_ref().unwrap().version, Some(1));
    assert_eq!(balancer.termination_delay, Some(-1));
    let check = balancer.health_check.as_ref().unwrap();
    assert_eq!((check.port, check.expect.as_deref()), (Some(5433), Some("+PONG")));
    let weighted = tcp.services["ssh"].weighted.as_ref().unwrap();
    assert_eq!(weighted.services[0].weight, Some(2));
    let list = tcp.middlewares["lan"].ip_allow_list.as_ref().unwrap();
    assert_eq!(list.source_range, ["10.0.0.0/8", "::1"]);
    assert_eq!(tcp.middlewares["few"].in_flight_conn.as_ref().unwrap().amount, 10);
    let transport = &tcp.servers_transports["t"];
    assert_eq!(transport.dial_timeout.as_deref(), Some("3s"));
    assert!(transport.proxy_protocol.is_some());
    assert_eq!(transport.tls.as_ref().unwrap().root_cas, ["/a.pem"]);
    assert_eq!(read.udp.routers["dns"].entry_points, ["dns"]);
    assert_eq!(
        read.udp.services["both"].weighted.as_ref().unwrap().services[0].name,
        "dns"
    );

    let json_text = serde_json::to_string(&read).unwrap().replace(":null", ":null ");
    assert_eq!(
        parse(&json_text, Format::Json, Path::new("d.json")).unwrap(),
        read
    );
    let toml_text = r#"
[tcp.routers.ssh]
rule = "HostSNI(`*`)"
service = "ssh"
[[tcp.services.ssh.loadBalancer.servers]]
address = "10.0.0.1:22"
[udp.routers.dns]
service = "dns"
"#;
    let toml = parse(toml_text, Format::Toml, Path::new("d.toml")).unwrap();
    let servers = &toml.tcp.services["ssh"].load_balancer.as_ref().unwrap().servers;
    assert_eq!(servers[0].address, "10.0.0.1:22");
    assert_eq!(toml.udp.routers["dns"].service, "dns");
}

#[test]
fn refusals_of_tcp_and_udp_sections() {
    let table = [
        (
            "tcp: {routers: {a: {rul: x}}}",
            "dyn.yaml:1:21: tcp.routers.a.rul: unknown key\n    expected: one of entryPoints, middlewares, priority, rule, ruleSyntax, service, tls\n    hint: did you mean `rule`?",
        ),
        (
            "tcp: {routers: {a: {rule: x, status: enabled}}}",
            "dyn.yaml:1:30: tcp.routers.a.status: is a field of Traefik's API, not of its configuration\n    hint: remove it",
        ),
        (
            "tcp: {services: {a: {mirroring: {}}}}",
            "dyn.yaml:1:22: tcp.services.a.mirroring: unknown key\n    expected: one of loadBalancer, weighted",
        ),
        (
            "tcp: {services: {a: {loadBalancer: {servers: [{url: x}]}}}}",
            "dyn.yaml:1:48: tcp.services.a.loadBalancer.servers[0].url: unknown key\n    expected: one of address, tls",
        ),
        (
            "tcp: {middlewares: {a: {inFlightConn: {amount: many}}}}",
            "dyn.yaml:1:48: tcp.middlewares.a.inFlightConn.amount: is not a whole number\n    value: \"many\"\n    expected: a whole number",
        ),
        (
            "udp: {routers: {a: {rule: x}}}",
            "dyn.yaml:1:21: udp.routers.a.rule: unknown key\n    expected: one of entryPoints, service",
        ),
    ];
    for (text, expected) in table {
        let errors = yaml(text).expect_err(text);
        assert_eq!(errors.to_string(), expected, "of {text:?}");
    }
}

#[test]
fn inline_keys_are_never_printed() {
    let read =
        yaml("tls: {certificates: [{certFile: a, keyFile: '-----BEGIN PRIVATE KEY-----secret'}]}").unwrap();
    assert!(read.tls.certificates[0].key_file.contains("secret"));
    let prints = [format!("{read:?}"), serde_json::to_string(&read).unwrap()];
    for print in prints {
        assert!(
            print.contains("[redacted]") && !print.contains("secret"),
            "{print}"
        );
    }
}
