use serde_json::{Value, json};

use super::*;

#[test]
fn the_kinds_are_named_as_documents_spell_them() {
    let Value::Object(properties) = schemars::schema_for!(Middleware).to_value()["properties"].take() else {
        panic!("a middleware is an object");
    };
    assert_eq!(properties.len(), 26);
    for kind in properties.keys() {
        let middleware: Middleware = serde_json::from_value(json!({ kind: {} })).unwrap();
        assert_eq!(middleware.kinds(), [kind.as_str()]);
        assert_eq!(
            serde_json::to_value(&middleware)
                .unwrap()
                .as_object()
                .unwrap()
                .len(),
            1
        );
    }
    assert!(Middleware::default().kinds().is_empty());
}

#[test]
fn secrets_are_carried_and_not_shown() {
    let given = json!({
        "basicAuth": {"users": ["u:SECRET"]},
        "digestAuth": {"users": ["u:r:SECRET"]},
        "forwardAuth": {"address": "http://u:SECRET@a/", "tls": {"key": "SECRET"}},
        "headers": {"customRequestHeaders": {"Authorization": "SECRET"}},
        "plugin": {"named": {"token": "SECRET"}},
        "rateLimit": {"redis": {"password": "SECRET"}},
    });
    let middleware: Middleware = serde_json::from_value(given).unwrap();
    let shown = format!("{middleware:?} {middleware:#?}");
    assert!(!shown.contains("SECRET") && shown.contains("named"), "{shown}");
    let carried = serde_json::to_string(&middleware).unwrap();
    assert_eq!(carried.matches("SECRET").count(), 7, "{carried}");
    let again: Middleware = serde_json::from_str(&carried).unwrap();
    assert_eq!(again, middleware);
}
