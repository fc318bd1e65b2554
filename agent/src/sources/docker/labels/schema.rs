//! What may stand in labels: the sections of Traefik 3.7 that have a label form, with the type of every option.
//!
//! The names are spelled as in the document, so that a decoded label and a file give the same object. A `Field` whose
//! kind is [`Kind::Ignored`] exists in the document but has no label form: Traefik accepts the label and forgets it.

use super::middleware_schema::MIDDLEWARE;

/// The type of an option.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A string, not trimmed.
    Text,
    /// One of Go's spellings of a boolean.
    Flag,
    /// A whole number.
    Integer,
    /// `10s`, `1m30s`, or seconds as a bare number.
    Duration,
    /// Strings between commas, trimmed.
    Words,
    /// Options by name.
    Object(&'static Object),
    /// Objects by index: `domains[0].main`.
    Indexed(&'static Object),
    /// A list of which labels can give one element, without an index: `server.port`.
    Single(&'static Object),
    /// Names chosen by the user, kept as spelled; each with a value of this kind.
    Named(&'static Kind),
    /// A tree of strings that is not looked into.
    Raw,
    /// Accepted and forgotten.
    Ignored,
}

/// A named option.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// A group of options.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) fields: &'static [Field],
    /// Whether it may stand alone (`tls=true`); then any other value than `true` or nothing switches it off.
    pub(super) standalone: bool,
}

pub(super) const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind }
}

/// A group that needs at least one option.
pub(super) const fn group(fields: &'static [Field]) -> Object {
    Object {
        fields,
        standalone: false,
    }
}

/// A group that may stand alone.
pub(super) const fn switch(fields: &'static [Field]) -> Object {
    Object {
        fields,
        standalone: true,
    }
}

use Kind::{Duration, Flag, Ignored, Indexed, Integer, Named, Object as Group, Single, Text, Words};

/// `traefik.enable` and `traefik.docker`: how the container itself is treated.
pub(super) static CONTAINER: Object = group(&[
    field("enable", Flag),
    field(
        "docker",
        Group(&group(&[
            field("network", Text),
            field("lbSwarm", Flag),
            field("allowNonRunning", Flag),
        ])),
    ),
]);

/// `traefik.http`, `traefik.tcp`, `traefik.udp` and `traefik.tls.stores.default`.
pub(super) static ROUTES: Object = group(&[
    field("http", Group(&HTTP)),
    field("tcp", Group(&TCP)),
    field("udp", Group(&UDP)),
    field("tls", Group(&TLS)),
]);

static HTTP: Object = group(&[
    field("routers", Named(&Group(&ROUTER))),
    field("services", Named(&Group(&SERVICE))),
    field("middlewares", Named(&Group(&MIDDLEWARE))),
    field("models", Ignored),
    field("serversTransports", Ignored),
]);

static DOMAIN: Object = group(&[field("main", Text), field("sans", Words)]);

static ROUTER: Object = group(&[
    field("entryPoints", Words),
    field("middlewares", Words),
    field("service", Text),
    field("rule", Text),
    field("parentRefs", Ignored),
    field("ruleSyntax", Text),
    field("priority", Integer),
    field(
        "tls",
        Group(&switch(&[
            field("options", Text),
            field("certResolver", Text),
            field("domains", Indexed(&DOMAIN)),
        ])),
    ),
    field(
        "observability",
        Group(&group(&[
            field("accessLogs", Flag),
            field("metrics", Flag),
            field("tracing", Flag),
            field("traceVerbosity", Text),
        ])),
    ),
]);

static SERVICE: Object = group(&[
    field("loadBalancer", Group(&LOAD_BALANCER)),
    field("middlewares", Words),
    field("weighted", Ignored),
    field("highestRandomWeight", Ignored),
    field("mirroring", Ignored),
    field("failover", Ignored),
]);

static LOAD_BALANCER: Object = group(&[
    field(
        "server",
        Single(&group(&[
            field("url", Text),
            field("weight", Integer),
            field("preservePath", Flag),
            field("scheme", Text),
            field("port", Text),
        ])),
    ),
    field("strategy", Text),
    field("sticky", Group(&switch(&[field("cookie", Group(&COOKIE))]))),
    field("healthCheck", Group(&HEALTH_CHECK)),
    field(
        "passiveHealthCheck",
        Group(&group(&[
            field("failureWindow", Duration),
            field("maxFailedAttempts", Integer),
        ])),
    ),
    field("passHostHeader", Flag),
    field(
        "responseForwarding",
        Group(&group(&[field("flushInterval", Duration)])),
    ),
    field("serversTransport", Text),
]);

static COOKIE: Object = switch(&[
    field("name", Text),
    field("secure", Flag),
    field("httpOnly", Flag),
    field("sameSite", Text),
    field("maxAge", Integer),
    field("path", Text),
    field("domain", Text),
]);

static HEALTH_CHECK: Object = group(&[
    field("scheme", Text),
    field("mode", Text),
    field("path", Text),
    field("method", Text),
    field("status", Integer),
    field("port", Integer),
    field("interval", Duration),
    field("unhealthyInterval", Duration),
    field("timeout", Duration),
    field("hostname", Text),
    field("followRedirects", Flag),
    field("headers", Named(&Text)),
]);

static TCP: Object = group(&[
    field(
        "routers",
        Named(&Group(&group(&[
            field("entryPoints", Words),
            field("middlewares", Words),
            field("service", Text),
            field("rule", Text),
            field("ruleSyntax", Text),
            field("priority", Integer),
            field(
                "tls",
                Group(&switch(&[
                    field("passthrough", Flag),
                    field("options", Text),
                    field("certResolver", Text),
                    field("domains", Indexed(&DOMAIN)),
                ])),
            ),
        ]))),
    ),
    field(
        "services",
        Named(&Group(&group(&[
            field("loadBalancer", Group(&TCP_LOAD_BALANCER)),
            field("weighted", Ignored),
        ]))),
    ),
    field(
        "middlewares",
        Named(&Group(&group(&[
            field("inFlightConn", Group(&group(&[field("amount", Integer)]))),
            field("ipWhiteList", Group(&group(&[field("sourceRange", Words)]))),
            field("ipAllowList", Group(&group(&[field("sourceRange", Words)]))),
        ]))),
    ),
    field("models", Ignored),
    field("serversTransports", Ignored),
]);

static TCP_LOAD_BALANCER: Object = group(&[
    field(
        "server",
        Single(&group(&[
            // The container's own address replaces it.
            field("address", Ignored),
            field("port", Text),
            field("tls", Flag),
        ])),
    ),
    field("serversTransport", Text),
    field("proxyProtocol", Group(&switch(&[field("version", Integer)]))),
    field("terminationDelay", Integer),
    field(
        "healthCheck",
        Group(&group(&[
            field("port", Integer),
            field("send", Text),
            field("expect", Text),
            field("interval", Duration),
            field("unhealthyInterval", Duration),
            field("timeout", Duration),
        ])),
    ),
]);

static UDP: Object = group(&[
    field(
        "routers",
        Named(&Group(&group(&[
            field("entryPoints", Words),
            field("service", Text),
        ]))),
    ),
    field(
        "services",
        Named(&Group(&group(&[
            field(
                "loadBalancer",
                Group(&group(&[field(
                    "server",
                    Single(&group(&[field("address", Ignored), field("port", Text)])),
                )])),
            ),
            field("weighted", Ignored),
        ]))),
    ),
]);

static TLS: Object = group(&[field(
    "stores",
    Named(&Group(&group(&[
        field("defaultCertificate", Ignored),
        field(
            "defaultGeneratedCert",
            Group(&group(&[
                field("resolver", Text),
                field("domain", Group(&DOMAIN)),
            ])),
        ),
    ]))),
)]);
