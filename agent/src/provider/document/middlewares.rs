//! HTTP middlewares. What their options may be is asked of one function, [`options`]; all else here is references.

use constellation_config::dynamic::Middleware;
use serde_json::{Map, Value};

use super::names::Names;
use super::object::{Object, check_key};
use super::services::Services;
use super::{Draft, Objects, names_of};
use crate::sources::docker::labels;

/// The middleware that routers get behind their own. Traefik repeats a request only when no connection came about, so that
/// nothing is done twice: a container that has just gone costs no request, and neither does a restart of this node.
pub const RETRY: &str = "constellation-retry";

/// The middlewares that are in the document.
pub(super) struct Middlewares {
    names: Names,
    pub(super) objects: Objects,
}

impl Middlewares {
    /// The bare name of a middleware that a document of `provider` names; `None`: it is not in the document.
    pub(super) fn resolve(&self, reference: &str, provider: &str) -> Option<&str> {
        let bare = self.names.resolve(reference, provider)?;
        self.objects.contains_key(bare).then_some(bare)
    }
}

/// The options of a middleware, checked: what comes out is taken by Traefik.
fn options(definition: &Middleware) -> Result<Map<String, Value>, String> {
    let mut written = serde_json::to_value(definition).map_err(|error| error.to_string())?;
    if definition.kinds() == ["chain"]
        && definition
            .chain
            .as_ref()
            .is_some_and(|c| c.middlewares.is_empty())
    {
        // A chain of nothing does nothing, as a limit of nothing does.
        written = serde_json::json!({"rateLimit": {"average": 0}});
    }
    for (kind, option, default) in SAYING_NOTHING {
        // An object without options refuses the whole document; one with a default means the same.
        if let Some(Value::Object(options)) = written.get_mut(kind)
            && options.is_empty()
        {
            options.insert(option.to_owned(), default());
        }
    }
    labels::middleware(&written)
}

/// What a default of an option is.
type Default = fn() -> Value;

/// Kinds that mean something without options, and an option of each with its default.
const SAYING_NOTHING: [(&str, &str, Default); 6] = [
    ("buffering", "maxRequestBodyBytes", || 0.into()),
    ("inFlightReq", "amount", || 0.into()),
    ("passTLSClientCert", "pem", || false.into()),
    ("rateLimit", "average", || 0.into()),
    ("redirectRegex", "permanent", || false.into()),
    ("replacePathRegex", "replacement", || "".into()),
];

/// Attempts at a connection, and the pause after the first that failed; it grows by half each time, to less than 4 s in all.
fn retry() -> Object {
    let retry = Object::default()
        .number("attempts", Some(10))
        .text("initialInterval", Some("50ms"));
    Object::default().object("retry", Some(retry))
}

pub(super) fn all(draft: &mut Draft<'_>, services: &Services) -> Middlewares {
    let all = draft.each(|reading| &reading.dynamic.http.middlewares);
    let mut middlewares = Middlewares {
        names: names_of(&all),
        objects: Objects::new(),
    };
    let mut left: Vec<(&'static str, &String, Map<String, Value>)> = Vec::new();
    for (provider, name, definition) in all {
        let checked = check_key(name)
            .and_then(|()| options(definition))
            .and_then(|options| check_keys(&options).map(|()| options));
        match checked {
            Ok(_) if name == RETRY => {
                draft.leave_out(
                    "middleware",
                    provider,
                    name,
                    "its name is the node's own: choose another",
                );
            }
            Ok(options) => left.push((provider, name, options)),
            Err(reason) => draft.leave_out("middleware", provider, name, reason),
        }
    }
    // Those that others refer to come first: as long as there is one to take, take it.
    loop {
        let before = left.len();
        left.retain(|(provider, name, options)| {
            let Some(bare) = middlewares.names.bare(provider, name).map(str::to_owned) else {
                return false;
            };
            let Some(written) = referring(provider, options.clone(), &middlewares, services) else {
                return true;
            };
            middlewares.objects.insert(bare, written);
            false
        });
        if left.len() == before {
            break;
        }
    }
    for (provider, name, _) in left {
        draft.leave_out(
            "middleware",
            provider,
            name,
            "it names a middleware or a service that is not in the document either",
        );
    }
    middlewares.objects.insert(RETRY.to_owned(), retry());
    middlewares
}

/// The definition with bare names; `None`: something that it names is not in the document.
fn referring(
    provider: &str,
    mut options: Map<String, Value>,
    middlewares: &Middlewares,
    services: &Services,
) -> Option<Object> {
    if let Some(members) = options
        .get_mut("chain")
        .and_then(|chain| chain.get_mut("middlewares"))
    {
        for member in members.as_array_mut()? {
            *member = middlewares.resolve(member.as_str()?, provider)?.into();
        }
    }
    if let Some(service) = options
        .get_mut("errors")
        .and_then(|errors| errors.get_mut("service"))
    {
        *service = services.resolve(service.as_str()?, provider)?.into();
    }
    let object = options
        .into_iter()
        .fold(Object::default(), |object, (key, value)| {
            object.value(&key, value)
        });
    Some(object)
}

/// Keys that users choose stand at any depth, as names of headers.
fn check_keys(options: &Map<String, Value>) -> Result<(), String> {
    for (key, value) in options {
        check_key(key)?;
        if let Value::Object(inner) = value {
            check_keys(inner)?;
        }
    }
    Ok(())
}
