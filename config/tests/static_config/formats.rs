//! The three formats say the same, and no text of any format stops the process.

use std::path::Path;

use constellation_config::dynamic::{self, Dynamic};
use constellation_config::{Format, LoadOptions};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::load;

/// Names and texts that every format must quote or escape somehow.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z0-9-]{0,8}",
        "[ -~]{0,12}",
        any::<String>().prop_map(|text| text.chars().filter(|c| !c.is_control()).take(12).collect()),
        prop::sample::select(vec![
            "true", "null", "~", "10", "1e3", "yes", "-", "#x", "a: b", "'", "\"", "\\", "\n\t", "é🦀"
        ])
        .prop_map(str::to_owned),
    ]
}

/// Texts without commas: a comma in one text for a list divides it.
fn item() -> impl Strategy<Value = String> {
    text().prop_map(|text| text.replace(',', ";"))
}

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z][A-Za-z0-9_-]{0,8}"
}

/// A router, service and certificate as a document writes them.
fn document() -> impl Strategy<Value = Value> {
    let router = (
        text(),
        prop::collection::vec(item(), 0..3),
        any::<i64>(),
        prop::option::of(text()),
    )
        .prop_map(|(rule, entry_points, priority, options)| {
            let mut router = json!({"rule": rule, "entryPoints": entry_points, "priority": priority});
            if let Some(options) = options {
                router["tls"] = json!({"options": options});
            }
            router
        });
    let service = prop::collection::vec((text(), 0..1000_u32, any::<bool>()), 0..3).prop_map(|servers| {
        let servers: Vec<Value> = servers
            .into_iter()
            .map(|(url, weight, preserve)| json!({"url": url, "weight": weight, "preservePath": preserve}))
            .collect();
        json!({"loadBalancer": {"servers": servers}})
    });
    let middleware = (name(), text()).prop_map(|(kind, value)| {
        let mut map = Map::new();
        map.insert(kind, json!({"value": value, "list": [1, 2.5, true]}));
        json!({"plugin": map})
    });
    let certificate = (text(), text()).prop_map(|(cert, key)| json!({"certFile": cert, "keyFile": key}));
    (
        prop::collection::btree_map(name(), router, 0..4),
        prop::collection::btree_map(name(), service, 0..4),
        prop::collection::btree_map(name(), middleware, 0..3),
        prop::collection::vec(certificate, 0..3),
    )
        .prop_map(|(routers, services, middlewares, certificates)| {
            json!({
                "http": {"routers": routers, "services": services, "middlewares": middlewares},
                "tls": {"certificates": certificates},
            })
        })
}

/// Block style YAML, scalars as JSON, which YAML reads the same.
fn yaml(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                out.push_str(&format!("\n{indent}{}:", Value::from(key.as_str())));
                yaml(value, depth + 1, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                out.push_str(&format!("\n{indent}-"));
                yaml(item, depth + 1, out);
            }
        }
        scalar => out.push_str(&format!(" {scalar}")),
    }
}

fn read(text: &str, format: Format) -> Dynamic {
    dynamic::parse(text, format, Path::new("d")).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

proptest! {
    #[test]
    fn a_document_reads_the_same_in_every_format(value in document()) {
        let as_json = read(&value.to_string(), Format::Json);
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        let mut block = String::new();
        yaml(&value, 0, &mut block);
        prop_assert_eq!(&read(&pretty, Format::Json), &as_json);
        prop_assert_eq!(&read(&pretty, Format::Yaml), &as_json);
        prop_assert_eq!(&read(&block, Format::Yaml), &as_json);
        prop_assert_eq!(&read(&toml::to_string(&value).unwrap(), Format::Toml), &as_json);
        // What is read is what was written.
        let direct: Dynamic = serde_json::from_value(value).unwrap();
        prop_assert_eq!(&as_json, &direct);
    }

    #[test]
    fn a_configuration_reads_the_same_in_every_format(
        names in prop::collection::btree_set("[a-z]{1,6}", 1..4),
        level in prop::sample::select(vec!["trace", "debug", "info", "warn", "error"]),
        seconds in 1..100_000_u32,
        sampling in 0.0..=1.0_f64,
        region in text(),
        networks in prop::collection::vec("10\\.[0-9]\\.[0-9]\\.0/24", 0..3),
    ) {
        let entry_points: Map<String, Value> = names
            .iter()
            .map(|name| {
                let limits = json!({"headerTimeout": seconds});
                let forwarded = json!({"trustedIPs": networks});
                let entry_point = json!({"address": ["127.0.0.1:0"], "limits": limits, "forwardedHeaders": forwarded});
                (name.clone(), entry_point)
            })
            .collect();
        let value = json!({
            "node": {"region": region},
            "entryPoints": entry_points,
            "log": {"level": level},
            "accessLog": {"sampling": sampling},
        });
        let mut block = String::new();
        yaml(&value, 0, &mut block);
        let expected = load("json", &value.to_string(), &[], &[]).map_err(|(errors, _)| errors).unwrap().config;
        prop_assert_eq!(expected.entry_points.len(), names.len());
        prop_assert_eq!(&expected.node.region, &region);
        for (extension, text) in [("yaml", block), ("toml", toml::to_string(&value).unwrap())] {
            let read = load(extension, &text, &[], &[]).map_err(|(errors, _)| errors).unwrap().config;
            prop_assert_eq!(&read, &expected, "{}", text);
        }
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        never_panics(&text);
    }

    #[test]
    fn no_text_of_the_languages_own_signs_panics(text in "[\\[\\]{}:,\\-?&*!|>'\"#%@`~=.\\\\ \t\n\ra0é<u]{0,60}") {
        never_panics(&text);
    }

    /// Half-right documents reach deeper than noise.
    #[test]
    fn no_damaged_document_panics(value in document(), at in any::<prop::sample::Index>(), with in "[\\[\\]{}:,*&\"' \n]{0,3}") {
        let mut block = String::new();
        yaml(&value, 0, &mut block);
        for text in [value.to_string(), block, toml::to_string(&value).unwrap()] {
            let mut chars: Vec<char> = text.chars().collect();
            let at = at.index(chars.len().max(1));
            chars.splice(at.min(chars.len())..(at + 1).min(chars.len()), with.chars());
            never_panics(&chars.into_iter().collect::<String>());
        }
    }

    #[test]
    fn no_variable_panics(
        name in "CONSTELLATION__[A-Z0-9_]{0,30}|CONSTELLATION__ENTRYPOINTS__WEB__(ADDRESS|HTTP|LIMITS)(__[0-9A-Z]{1,8}){0,3}|API_PORT|BIND_ADDR|TRAEFIK_WEB_PORT|DOCKER_HOST|TS_HOSTNAME",
        value in any::<String>(),
    ) {
        let options = LoadOptions {
            file: None,
            env: vec![(name, value)],
            flags: Vec::new(),
            host_name: Some("h".to_owned()),
        };
        // Either answer is fine; an error says something.
        if let Err(errors) = constellation_config::Config::load(options) {
            prop_assert!(!errors.0.is_empty());
        }
    }
}

fn never_panics(text: &str) {
    for format in [Format::Yaml, Format::Toml, Format::Json] {
        if let Err(errors) = dynamic::parse(text, format, Path::new("d")) {
            assert!(!errors.0.is_empty(), "an error says something");
            assert!(errors.0.iter().all(|error| !error.message.is_empty()));
        }
    }
}

#[test]
fn hostile_documents_cost_no_more_than_their_size() {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    // Nine levels of nine aliases each: 387,420,489 values from 300 bytes.
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let table = [
        (
            Format::Yaml,
            bomb,
            "holds more than 4000000 values, uses of aliases counted",
        ),
        (Format::Yaml, deep("[", "]"), "is nested more than 64 levels deep"),
        (Format::Yaml, deep("- ", ""), "is nested more than 64 levels deep"),
        (
            Format::Yaml,
            deep("{a: ", "}"),
            "is nested more than 64 levels deep",
        ),
        (Format::Json, deep("[", "]"), "is nested more than 64 levels deep"),
        (
            Format::Json,
            deep("{\"a\":", "}"),
            "is nested more than 64 levels deep",
        ),
        (Format::Toml, format!("a = {}", deep("[", "]")), "recurs"),
        (
            Format::Toml,
            format!("{} = 1", vec!["a"; 100_000].join(".")),
            "recurs",
        ),
    ];
    for (format, text, expected) in table {
        let errors = dynamic::parse(&text, format, Path::new("d"))
            .unwrap_err()
            .to_string();
        let head: String = text.chars().take(20).collect();
        assert!(
            errors.contains(expected),
            "{head}: {}",
            errors.chars().take(300).collect::<String>()
        );
    }
}

#[test]
fn brackets_that_are_never_closed_are_reported_once() {
    let text = format!("a = {}", "[".repeat(1_000));
    let errors = dynamic::parse(&text, Format::Toml, Path::new("d")).unwrap_err();
    assert_eq!(errors.0.len(), 2, "{errors}");
}

#[test]
fn a_named_pipe_is_refused_rather_than_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.yaml");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let errors = constellation_config::read_text(&path).unwrap_err().to_string();
    let expected = format!(
        "{}: cannot be read: it is a named pipe\n    hint: give the path of a regular file",
        path.display()
    );
    assert_eq!(errors.trim_end(), expected);
}
