//! What `explain` says, word for word, and that it stays short.

use constellation_table::{EntryPointLine, Explanation, Outcome, Precedence, Verdict, explain};

use crate::asked::Asked;
use crate::built::{Row, endpoint, service, snapshot};

fn names(explanation: &mut Explanation) -> String {
    explanation.name_entry_points(&["web", "websecure"]);
    explanation.to_string()
}

#[test]
fn a_request_that_is_forwarded() {
    let api = service(
        "api@docker",
        vec![
            endpoint("api-1", 1, None),
            endpoint("api-2", 1, Some("container exited (137) 12 s ago")),
            endpoint("api-3", 0, None),
            endpoint("api-4", 1, None),
        ],
    );
    let snapshot = snapshot(vec![
        Row::plain("all@file", "PathPrefix(`/`)").forward(&api),
        Row::plain("api@docker", "Host(`a.test`) && PathPrefix(`/api`)").forward(&api),
        Row::plain(
            "post@docker",
            "Host(`a.test`) && PathPrefix(`/api`) && Method(`POST`)",
        )
        .forward(&api),
        Row::plain(
            "intern@docker",
            "Host(`a.test`) && !ClientIP(`127.0.0.0/8`) && PathPrefix(`/api`)",
        )
        .forward(&api),
        Row {
            entry_points: &[1],
            tls: true,
            ..Row::plain("secure@docker", "Host(`a.test`)")
        }
        .forward(&api),
        Row {
            tls: true,
            ..Row::plain("tls@docker", "Host(`a.test`) || Path(`/`)")
        }
        .forward(&api),
        Row {
            entry_points: &[1],
            ..Row::plain("other@docker", "Host(`a.test`) && Path(`/api/x`)")
        }
        .forward(&api),
        Row::plain("b@docker", "Host(`b.test`)").forward(&api),
    ]);
    let asked = Asked::parse("GET a.test /api/x?q=1").unwrap();
    let mut explanation = explain(&snapshot, &asked.meta());
    assert_eq!(
        names(&mut explanation),
        "\
GET http://a.test/api/x?q=1 from 127.0.0.1 on entry point web
-> service api@docker
   1. api-1 at http://api-1:80
   2. api-4 at http://api-4:80
   balanced by round robin

router api@docker (priority 36): Host(`a.test`) && PathPrefix(`/api`)

left out
  api-2 at http://api-2:80: container exited (137) 12 s ago
  api-3 at http://api-3:80: its weight is 0

not taken
  intern@docker (priority 64): Host(`a.test`) && !ClientIP(`127.0.0.0/8`) && PathPrefix(`/api`)
    !ClientIP(`127.0.0.0/8`) said no: client 127.0.0.1
  post@docker (priority 54): Host(`a.test`) && PathPrefix(`/api`) && Method(`POST`)
    Method(`POST`) said no: method \"GET\"
  all@file (priority 15): PathPrefix(`/`)
    matches too, but the winner has a higher priority

1 more on this entry point are for other hosts

would match elsewhere
  tls@docker (priority 27): Host(`a.test`) || Path(`/`)
    answers TLS only (the router has `tls`)
  other@docker (priority 32): Host(`a.test`) && Path(`/api/x`)
    answers on entry point websecure
  secure@docker (priority 14): Host(`a.test`)
    answers on entry point websecure, and answers TLS only (the router has `tls`)
"
    );
    assert_eq!(
        explanation.request.entry_point,
        EntryPointLine {
            id: 0,
            name: Some("web".into())
        }
    );
}

#[test]
fn every_matcher_says_what_it_saw() {
    let service = service("s", vec![]);
    let cases = [
        ("PathPrefix(`/b`)", "PathPrefix(`/b`) said no: path \"/a\""),
        (
            "Path(`/b`) || PathRegexp(`^/c`)",
            "Path(`/b`) said no: path \"/a\"\n    PathRegexp(`^/c`) said no: path \"/a\"",
        ),
        ("HostRegexp(`^b`)", "HostRegexp(`^b`) said no: host \"h\""),
        ("!Host(`h`)", "!Host(`h`) said no: host \"h\""),
        (
            "!(Path(`/a`) && Method(`GET`))",
            "!Path(`/a`) said no: path \"/a\"\n    !Method(`GET`) said no: method \"GET\"",
        ),
        (
            "Header(`X-A`, `b`)",
            "Header(`X-A`, `b`) said no: header X-A [\"c\", \"d\"]",
        ),
        (
            "HeaderRegexp(`X-B`, `b`)",
            "HeaderRegexp(`X-B`, `b`) said no: no header X-B",
        ),
        ("Query(`q`)", "Query(`q`) said no: query parameter \"q\" [\"1\"]"),
        (
            "QueryRegexp(`p`, `.`)",
            "QueryRegexp(`p`, `.`) said no: no query parameter \"p\"",
        ),
        (
            "ClientIP(`10.0.0.0/8`)",
            "ClientIP(`10.0.0.0/8`) said no: client 127.0.0.1",
        ),
    ];
    for (rule, want) in cases {
        let snapshot = snapshot(vec![Row::plain("r", rule).forward(&service)]);
        let asked = Asked::parse("GET h /a?q=1 | X-A: c | X-A: d").unwrap();
        let text = explain(&snapshot, &asked.meta()).to_string();
        assert!(text.contains(want), "{rule}: {text}");
    }
}

#[test]
fn outcomes() {
    let down = service("down", vec![endpoint("a", 1, Some("health check: starting"))]);
    let snapshot = snapshot(vec![
        Row::plain("down", "Host(`down`)").forward(&down),
        Row::plain("redirect", "Host(`redirect`)").redirect(),
    ]);
    for (line, outcome, part) in [
        (
            "GET down /",
            Outcome::Unavailable { retry_after: 5 },
            "-> 503, Retry-After: 5: no endpoint of service down",
        ),
        (
            "GET redirect /",
            Outcome::Redirect {
                scheme: "https".into(),
                port: None,
                permanent: true,
            },
            "-> permanent redirect to https",
        ),
        ("GET nobody /", Outcome::NoRoute, "-> 404: no router matches"),
    ] {
        let asked = Asked::parse(line).unwrap();
        let explanation = explain(&snapshot, &asked.meta());
        assert_eq!(explanation.outcome, outcome, "{line}");
        assert!(explanation.to_string().contains(part), "{explanation}");
    }
}

#[test]
fn what_puts_the_winner_first() {
    let service = service("s", vec![]);
    let cases = [
        (
            ("a", "Host(`h`)", 5),
            ("b", "Host(`h`)", 9),
            "b",
            Precedence::Priority,
        ),
        (
            ("a", "Host(`h`)", 9),
            ("b", "Host(`h`) ", 9),
            "b",
            Precedence::RuleLength,
        ),
        (
            ("a", "Host(`*`)", 0),
            ("b", "Host(`h`)", 0),
            "b",
            Precedence::ExactHost,
        ),
        (
            ("b", "Host(`h`)", 0),
            ("a", "Host(`h`)", 0),
            "a",
            Precedence::Name,
        ),
    ];
    for (one, two, wins, by) in cases {
        let row = |(name, rule, priority)| {
            Row {
                priority,
                ..Row::plain(name, rule)
            }
            .forward(&service)
        };
        let snapshot = snapshot(vec![row(one), row(two)]);
        let asked = Asked::parse("GET h /").unwrap();
        let explanation = explain(&snapshot, &asked.meta());
        assert_eq!(explanation.router.as_ref().unwrap().name, wins);
        assert_eq!(
            explanation.considered[1].verdict,
            Verdict::Outranked { by },
            "{explanation}"
        );
    }
}

#[test]
fn ten_thousand_routes_give_a_short_report() {
    let service = service("s", vec![]);
    let mut routers: Vec<_> = (0..10_000)
        .map(|n| Row::plain(&format!("h{n}"), &format!("Host(`h{n}.test`)")).forward(&service))
        .collect();
    routers.extend((0..200).map(|n| {
        Row {
            priority: 1000,
            ..Row::plain(&format!("p{n:03}"), &format!("PathPrefix(`/p{n}`)"))
        }
        .forward(&service)
    }));
    let snapshot = snapshot(routers);
    let path = "/".to_owned() + &"x".repeat(5000);
    let asked = Asked::parse(&format!("GET h77.test {path}")).unwrap();
    let explanation = explain(&snapshot, &asked.meta());
    assert_eq!(explanation.router.as_ref().unwrap().name, "h77");
    assert_eq!(explanation.considered.len(), 50);
    assert_eq!(
        explanation.considered[49].verdict,
        Verdict::Won,
        "the winner is listed though 200 were asked first"
    );
    assert_eq!(explanation.considered_more, 151);
    assert_eq!(explanation.other_hosts, 9_999);
    assert!(explanation.to_string().len() < 30_000);
}

#[test]
fn the_report_survives_json() {
    let service = service("s", vec![endpoint("a", 1, None), endpoint("b", 1, Some("gone"))]);
    let snapshot = snapshot(vec![
        Row::plain("a", "Host(`h`)").forward(&service),
        Row::plain("b", "PathPrefix(`/`)").forward(&service),
        Row {
            tls: true,
            ..Row::plain("c", "Host(`h`)")
        }
        .forward(&service),
    ]);
    let asked = Asked::parse("GET h /").unwrap();
    let explanation = explain(&snapshot, &asked.meta());
    let json = serde_json::to_string(&explanation).unwrap();
    assert_eq!(serde_json::from_str::<Explanation>(&json).unwrap(), explanation);
    for part in [
        r#""outcome":{"kind":"forward"}"#,
        r#""verdict":{"kind":"won"}"#,
        r#""reason":"gone""#,
    ] {
        assert!(json.contains(part), "{json}");
    }
}
