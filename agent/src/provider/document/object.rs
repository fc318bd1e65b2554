//! Objects of the document: what says nothing is left out, and what Traefik would refuse never gets in.
//!
//! Traefik reads the document as YAML and refuses the whole of it for one key that its parser can't take, one duration that
//! is none, or one object without anything in it. So values are put in by kind, and an error costs the object that has it.

use std::collections::BTreeMap;

use constellation_config::duration;
use serde_json::{Map, Value};

/// Longest key, bytes, as a reader of YAML takes keys of up to 1,024 bytes, quotes and escapes included.
const MAX_KEY: usize = 250;

/// An object in the making.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Object(Map<String, Value>);

impl Object {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A text, unless there is none or it is empty.
    #[must_use]
    pub(super) fn text(self, key: &str, text: Option<&str>) -> Self {
        match text.filter(|text| !text.is_empty()) {
            Some(text) => self.value(key, text.into()),
            None => self,
        }
    }

    /// Texts, unless there are none.
    #[must_use]
    pub(super) fn texts<'t>(self, key: &str, texts: impl IntoIterator<Item = &'t str>) -> Self {
        let texts: Vec<Value> = texts.into_iter().map(Value::from).collect();
        match texts.is_empty() {
            true => self,
            false => self.value(key, texts.into()),
        }
    }

    /// A list, empty or not.
    #[must_use]
    pub(super) fn list(self, key: &str, items: Vec<Value>) -> Self {
        self.value(key, items.into())
    }

    /// A switch whose default is on, or that has none.
    #[must_use]
    pub(super) fn flag(self, key: &str, flag: Option<bool>) -> Self {
        match flag {
            Some(flag) => self.value(key, flag.into()),
            None => self,
        }
    }

    /// A switch whose default is off.
    #[must_use]
    pub(super) fn on(self, key: &str, on: bool) -> Self {
        self.flag(key, on.then_some(true))
    }

    #[must_use]
    pub(super) fn number<N: Into<i64>>(self, key: &str, number: Option<N>) -> Self {
        match number {
            Some(number) => self.value(key, number.into().into()),
            None => self,
        }
    }

    /// A duration in a form that Traefik takes; those below zero as well.
    pub(super) fn duration(self, key: &str, text: Option<&str>) -> Result<Self, String> {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Ok(self);
        };
        let (sign, rest) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
        let length = duration::parse(rest).filter(|_| !rest.starts_with('+') || sign.is_empty());
        match length {
            Some(length) => Ok(self.value(key, format!("{sign}{}", duration::format(length)).into())),
            None => Err(format!("{key} {text:?} is not {}", duration::EXPECTED)),
        }
    }

    /// Texts by key, unless there are none.
    pub(super) fn named(self, key: &str, texts: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut named = Self::default();
        for (name, text) in texts {
            check_key(name)?;
            named = named.value(name, text.as_str().into());
        }
        Ok(self.object(key, Some(named)))
    }

    /// An object, unless there is nothing in it.
    #[must_use]
    pub(super) fn object(self, key: &str, object: Option<Self>) -> Self {
        match object.filter(|object| !object.is_empty()) {
            Some(object) => self.value(key, object.into()),
            None => self,
        }
    }

    /// An object that says something by being there.
    #[must_use]
    pub(super) fn presence(self, key: &str, object: Option<Self>) -> Self {
        match object {
            Some(object) => self.value(key, object.into()),
            None => self,
        }
    }

    #[must_use]
    pub(super) fn value(mut self, key: &str, value: Value) -> Self {
        self.0.insert(key.to_owned(), value);
        self
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object.0)
    }
}

/// Whether a text may be a key that somebody has chosen.
pub(super) fn check_key(key: &str) -> Result<(), String> {
    let refused = |c: char| c.is_control() || "@[]\"\\".contains(c);
    if key.is_empty() || key.len() > MAX_KEY || key.contains(refused) || key == "<<" {
        return Err(format!(
            "the name {:?} can't stand in a document of Traefik: choose one of up to {MAX_KEY} bytes without control \
             characters, @, brackets, quotes and backslashes",
            key.chars().take(80).collect::<String>()
        ));
    }
    Ok(())
}

/// The text of a document: JSON that a reader of YAML takes as it is meant, the same for the same value.
pub(super) fn to_text(value: &Value) -> String {
    let json = value.to_string();
    if !json.contains(is_taken_otherwise) {
        return json;
    }
    let mut text = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_taken_otherwise(c) {
            // Outside of strings there are none of these.
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text
}

/// What YAML allows in no text, or takes for the end of a line.
fn is_taken_otherwise(c: char) -> bool {
    matches!(
        c,
        '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_says_nothing_is_left_out() {
        let object = Object::default()
            .text("a", None)
            .text("b", Some(""))
            .texts("c", [])
            .flag("d", None)
            .on("e", false)
            .number("f", None::<i64>)
            .object("g", Some(Object::default()));
        assert!(object.is_empty());
        let object = object
            .flag("d", Some(false))
            .presence("g", Some(Object::default()))
            .list("h", Vec::new());
        assert_eq!(Value::from(object), json!({"d": false, "g": {}, "h": []}));
    }

    #[test]
    fn durations_are_written_as_go_reads_them() {
        for (text, expected) in [
            ("10", Some("10s")),
            ("1.5s", Some("1s500ms")),
            ("1h0m", Some("1h")),
            ("+3s", Some("3s")),
            ("-2s", Some("-2s")),
            ("-+2s", None),
            ("10 parsecs", None),
            ("", None),
        ] {
            let written = Object::default().duration("d", Some(text));
            let written = written.ok().and_then(|object| object.0.get("d").cloned());
            assert_eq!(written, expected.map(Value::from), "{text}");
        }
    }

    #[test]
    fn characters_that_yaml_does_not_take_are_escaped() {
        let text = to_text(&json!({"a": "x\u{7f}\u{85}\u{2028}\u{feff}\u{1f600}é\n"}));
        assert_eq!(text, "{\"a\":\"x\\u007f\\u0085\\u2028\\ufeff\u{1f600}é\\n\"}");
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap(),
            json!({"a": "x\u{7f}\u{85}\u{2028}\u{feff}\u{1f600}é\n"})
        );
    }

    #[test]
    fn keys_are_such_as_traefik_takes() {
        for (key, fits) in [
            ("web-1.a_b", true),
            ("X-Custom", true),
            ("größe", true),
            ("", false),
            ("a@docker", false),
            ("a[0]", false),
            ("<<", false),
            ("a\u{7f}", false),
            (&"a".repeat(251), false),
        ] {
            assert_eq!(check_key(key).is_ok(), fits, "{key}");
        }
    }
}
