//! From text or labels to [`Dynamic`].

use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value as Json;

use super::{Dynamic, Extensions};
use crate::document::{self, Document, Entry, Node, ScalarKind, Value};
use crate::schema::{Reading, Shape, Unknown, nearest, read};
use crate::{ConfigError, ConfigErrors, Format, Origin};

/// The sections of a document.
const SECTIONS: [&str; 5] = ["http", "tcp", "udp", "tls", "constellation"];
/// What stands below a section, and is without effect where Traefik finds it at the top.
const BELOW_SECTIONS: [&str; 6] = [
    "routers",
    "services",
    "middlewares",
    "serversTransports",
    "certificates",
    "stores",
];

/// Reads a document with Traefik's leniencies. An unknown field or a value of a wrong type refuses the whole document;
/// all of them are reported. `path` is only named in the errors.
///
/// Keys at the top that are no section of ours are ignored as Traefik ignores them (a file may hold anchors or static
/// options there), unless they look like a section misspelt or misplaced, which Traefik ignores as well and its users
/// regret.
pub fn parse(text: &str, format: Format, path: &Path) -> Result<Dynamic, ConfigErrors> {
    let Document { root, errors } =
        document::parse(text, format, path).map_err(|errors| about_templates(text, errors))?;
    if !root.is_null() && !matches!(root.value, Value::Map(_)) {
        let error = ConfigError::new(root.origin.clone(), "", "the document is not a map")
            .value(root.shown())
            .expected("a map with keys of http, tcp, udp, tls, constellation");
        return Err(about_templates(text, ConfigErrors(vec![error])));
    }
    from_node(root, errors).map_err(|errors| about_templates(text, errors))
}

/// Reads a tree made from labels: maps, lists and scalars, rooted above `http`. The same leniencies apply, and a text
/// that is empty switches an object on (`tls=`). The errors name the key; their origin is [`Origin::Label`].
pub fn from_labels(tree: Json) -> Result<Dynamic, ConfigErrors> {
    from_node(label_node(tree), Vec::new())
}

/// Options of services that labels give, as far as they can be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// Those that are right; the others are left out, so that what stands below them counts.
    pub options: Extensions,
    /// What is wrong.
    pub errors: Vec<ConfigError>,
}

/// Reads a tree made from labels, rooted below `constellation`. A wrong option costs nothing but itself.
pub fn options_from_labels(tree: Json) -> Salvaged {
    let root = label_node(serde_json::json!({"constellation": tree}));
    let Reading { value, errors } = read(&root, shape(), &explain);
    let mut salvaged = Salvaged {
        options: Extensions::default(),
        errors,
    };
    match serde_json::from_value::<Dynamic>(value) {
        Ok(dynamic) => salvaged.options = dynamic.constellation,
        // The value fits the schema of the type, so this fails only where the two disagree.
        Err(error) => salvaged.errors.push(ConfigError::new(
            Origin::Label,
            "constellation",
            error.to_string(),
        )),
    }
    salvaged
}

fn shape() -> &'static Shape {
    static SHAPE: OnceLock<Shape> = OnceLock::new();
    SHAPE.get_or_init(|| Shape::compile(schemars::schema_for!(Dynamic).as_value()))
}

fn from_node(root: Node, mut errors: Vec<ConfigError>) -> Result<Dynamic, ConfigErrors> {
    if root.is_null() && errors.is_empty() {
        return Ok(Dynamic::default());
    }
    let Reading { value, errors: found } = read(&root, shape(), &explain);
    errors.extend(found);
    if !errors.is_empty() {
        errors.sort_by(|a, b| a.origin.cmp(&b.origin));
        return Err(ConfigErrors(errors));
    }
    // A tree with places takes much more memory than what it says: it goes before the next form of it comes.
    let origin = root.origin.clone();
    drop(root);
    // The value fits the schema of the type, so this fails only where the two disagree.
    serde_json::from_value(value).map_err(|error| {
        let error = ConfigError::new(origin, "", error.to_string());
        ConfigErrors(vec![error])
    })
}

fn explain(path: &str) -> Option<Unknown> {
    if path.contains('.') {
        return api_only(path);
    }
    if let Some(meant) = BELOW_SECTIONS.iter().find(|key| key.eq_ignore_ascii_case(path)) {
        let section = if ["certificates", "stores"].contains(meant) {
            "tls"
        } else {
            "http"
        };
        let message = "has no effect at the top of a document".to_owned();
        return Some(Unknown::Refuse(message, format!("put it below `{section}`")));
    }
    match nearest(path, SECTIONS) {
        Some(_) => None,
        None => Some(Unknown::Ignore),
    }
}

/// Fields that Traefik's API shows and its documents don't have: people paste them.
fn api_only(path: &str) -> Option<Unknown> {
    let (parent, key) = path.rsplit_once('.')?;
    let sections = || {
        let kinds = ["routers", "services"];
        ["http", "tcp", "udp"]
            .into_iter()
            .flat_map(move |section| kinds.map(|kind| format!("{section}.{kind}")))
    };
    let of_router_or_service = parent
        .rsplit_once('.')
        .is_some_and(|(section, _)| sections().any(|known| known == section));
    let shown_by_api = [
        "status",
        "using",
        "name",
        "provider",
        "serverStatus",
        "usedBy",
        "type",
    ];
    (of_router_or_service && shown_by_api.contains(&key)).then(|| {
        let message = "is a field of Traefik's API, not of its configuration".to_owned();
        Unknown::Refuse(message, "remove it".to_owned())
    })
}

/// Traefik's file provider evaluates Go templates; a document that is refused because of one deserves the reason.
fn about_templates(text: &str, mut errors: ConfigErrors) -> ConfigErrors {
    if let (true, Some(first)) = (text.contains("{{"), errors.0.first_mut()) {
        let hint =
            "Go templates (`{{ … }}`) are not evaluated in files; write the value, or render the file first";
        first.hint = Some(hint.to_owned());
    }
    errors
}

fn label_node(tree: Json) -> Node {
    let origin = Origin::Label;
    let value = match tree {
        Json::Null => return Node::null(origin),
        Json::Bool(flag) => return Node::scalar(origin, ScalarKind::Bool, flag.to_string()),
        Json::Number(number) => return Node::scalar(origin, ScalarKind::Float, number.to_string()),
        Json::String(text) => return Node::text(origin, text),
        Json::Array(items) => Value::List(items.into_iter().map(label_node).collect()),
        Json::Object(map) => Value::Map(
            map.into_iter()
                .map(|(key, value)| Entry {
                    key,
                    origin: Origin::Label,
                    node: label_node(value),
                })
                .collect(),
        ),
    };
    Node { origin, value }
}
