//! Keys that Traefik has, or a later version will have, and this version doesn't serve.
//!
//! They are refused like every unknown key, because an option without effect is worse than an error; but the error says
//! what stands in.

use crate::document::{Entry, Node, Value};
use crate::schema::Unknown;

/// Key paths (`*` for any name) and the next step.
const KEYS: [(&str, &str); 38] = [
    (
        "accessLog.addInternals",
        "remove it: internal requests are not logged",
    ),
    ("accessLog.dualOutput", "remove it: the log has one output"),
    (
        "accessLog.otlp",
        "write to a file or standard output and collect from there",
    ),
    ("api", "remove it: the API is always served at control.address"),
    ("core", "remove it: rules are read in the v3 syntax"),
    ("dns", "remove it: this version writes no DNS records"),
    (
        "entryPoints.*.allowACMEByPass",
        "remove it: this version answers no ACME challenges",
    ),
    ("entryPoints.*.forwardedHeaders.connection", "remove it"),
    (
        "entryPoints.*.forwardedHeaders.notAppendXForwardedFor",
        "remove it: the client's address is always appended",
    ),
    (
        "entryPoints.*.http.encodeQuerySemicolons",
        "remove it: queries reach the server as they came",
    ),
    (
        "entryPoints.*.http.encodedCharacters",
        "remove it: encoded characters are allowed in paths, as in Traefik 3.7",
    ),
    (
        "entryPoints.*.http.sanitizePath",
        "remove it: paths are always normalised before they are matched",
    ),
    ("entryPoints.*.http3", "remove it: clients use HTTP/2 instead"),
    (
        "entryPoints.*.observability",
        "set `observability` on the routers",
    ),
    (
        "entryPoints.*.transport.keepAliveMaxTime",
        "use keepAliveMaxRequests",
    ),
    ("experimental", "remove it: there are no plugins"),
    (
        "global",
        "remove it: there is no version check and no usage report",
    ),
    (
        "hostResolver",
        "remove it: names are matched as the client sends them",
    ),
    ("log.compress", "let journald or logrotate do it"),
    (
        "log.filePath",
        "the log goes to standard error: let the service manager store it",
    ),
    ("log.maxAge", "let journald or logrotate do it"),
    ("log.maxBackups", "let journald or logrotate do it"),
    ("log.maxSize", "let journald or logrotate do it"),
    ("log.noColor", "remove it: colours are used on terminals only"),
    ("log.otlp", "collect from standard error"),
    (
        "metrics",
        "remove it: metrics are always served at control.address, path /metrics",
    ),
    ("ocsp", "remove it: OCSP responses are not stapled"),
    (
        "ping",
        "remove it: health is always served at control.address, path /health",
    ),
    ("providers.docker.password", "protect the endpoint with `tls`"),
    ("providers.docker.username", "protect the endpoint with `tls`"),
    (
        "providers.docker.watch",
        "remove it: containers are always watched",
    ),
    (
        "providers.file.debugLogGeneratedTemplate",
        "remove it: Go templates are not evaluated",
    ),
    ("providers.precedence", "give routers a `priority`"),
    (
        "providers.providersThrottleDuration",
        "remove it: changes apply at once",
    ),
    ("providers.swarm", "use providers.docker on each node"),
    ("spiffe", "give certificates in a dynamic file"),
    ("tcpServersTransport.tls.spiffe", "use tls.rootCAs"),
    ("tracing", "remove it: traces are not exported"),
];

/// Sections that change nothing here and do no harm: a node serves its own entry points with the certificates it is
/// given whether they are there or not, so one file can serve nodes of this version and of later ones. That they have no
/// effect is said at every start and by `check`.
const WITHOUT_EFFECT: [(&str, &str); 1] = [(
    "certificatesResolvers",
    "this version orders no certificates; give them in a dynamic file (tls.certificates)",
)];

/// One warning for each such key that the configuration has, in its order.
pub(crate) fn without_effect(root: &Node) -> Vec<String> {
    let mut warnings = Vec::new();
    collect("", root, &mut warnings);
    warnings
}

fn collect(above: &str, node: &Node, warnings: &mut Vec<String>) {
    let Value::Map(entries) = &node.value else {
        return;
    };
    for Entry {
        key, origin, node, ..
    } in entries
    {
        let path = match above {
            "" => key.clone(),
            above => format!("{above}.{key}"),
        };
        let known = WITHOUT_EFFECT.iter().find(|(known, _)| same(known, &path));
        if let Some((known, why)) = known {
            let kind = if above.is_empty() { "section" } else { "key" };
            warnings.push(format!("{origin}: the {kind} {known} has no effect: {why}"));
        } else if above.is_empty() {
            collect(&path, node, warnings);
        }
    }
}

/// Providers of Traefik that only need a name.
const PROVIDERS: [&str; 13] = [
    "consul",
    "consulCatalog",
    "ecs",
    "etcd",
    "http",
    "knative",
    "kubernetesCRD",
    "kubernetesGateway",
    "kubernetesIngress",
    "kubernetesIngressNGINX",
    "nomad",
    "redis",
    "rest",
];

/// Sections of the dynamic configuration, which people put into the static file.
const DYNAMIC: [&str; 5] = ["http", "tcp", "udp", "tls", "constellation"];

/// The next step for a key that is known and not served.
pub(crate) fn hint(path: &str) -> Option<&'static str> {
    KEYS.iter()
        .find(|(key, _)| same(key, path))
        .map(|(_, hint)| *hint)
}

/// What to say of an unknown key of the static configuration.
pub(crate) fn explain(path: &str) -> Option<Unknown> {
    let refuse = |message: &str, hint: &str| Some(Unknown::Refuse(message.to_owned(), hint.to_owned()));
    if let Some((_, hint)) = KEYS.iter().find(|(key, _)| same(key, path)) {
        return refuse("is not supported by this version", hint);
    }
    if WITHOUT_EFFECT.iter().any(|(section, _)| same(section, path)) {
        return Some(Unknown::Ignore);
    }
    let provider = path.strip_prefix("providers.");
    if provider.is_some_and(|name| PROVIDERS.iter().any(|known| known.eq_ignore_ascii_case(name))) {
        let hint = "use providers.docker, or providers.file with files that you generate";
        return refuse("is not supported by this version", hint);
    }
    if DYNAMIC.iter().any(|section| section.eq_ignore_ascii_case(path)) {
        let hint = "put it into a file that providers.file names";
        return refuse("belongs to the dynamic configuration", hint);
    }
    None
}

pub(crate) fn same(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('.'), path.split('.'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(a), Some(b)) if a.eq_ignore_ascii_case(b) => {}
            _ => return false,
        }
    }
}
