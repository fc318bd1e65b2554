//! A service with servers: this node's instances that can serve, and this node itself for what others have.
//!
//! | instances | what Traefik gets |
//! |---|---|
//! | here alone | their URLs |
//! | here and elsewhere | their URLs, and this node as one more server |
//! | the same, with `healthCheck` | `failover` from their URLs to this node: a check has no meaning for a node |
//! | the same, with `sticky` | their URLs: a client stays with an instance |
//! | elsewhere alone, or none that can serve | this node, which sends them on or answers 503 with `Retry-After` |
//!
//! What this node gets as a server goes to the instances of the service that the URL names, here or at another node, which
//! in turn serves it itself or refuses; so nothing comes back to a Traefik, whatever any of them believes.

use constellation_config::dynamic::{HealthCheck, LoadBalancer, Server, Sticky};
use constellation_dataplane::named;
use constellation_table::Scheme;
use serde_json::Value;

use super::object::Object;
use super::transports::Transports;
use super::{Terms, Whereabouts};
use crate::compile;

/// A service with servers as the document has it.
pub(super) enum Written {
    /// One object.
    One(Object),
    /// One that Traefik checks.
    Checked(Object),
    /// A `failover` between two, which need names.
    Both {
        /// This node's instances.
        here: Object,
        /// This node, for the others.
        elsewhere: Object,
    },
}

/// What a service with servers is written from.
pub(super) struct Balancer<'s> {
    pub(super) provider: &'s str,
    pub(super) name: &'s str,
    pub(super) definition: &'s LoadBalancer,
    pub(super) whereabouts: Whereabouts<'s>,
    pub(super) terms: &'s Terms,
    pub(super) transports: &'s Transports,
}

/// What of the servers is in order.
struct Servers<'s> {
    fit: Vec<&'s Server>,
    /// Whether all that are in order speak HTTP/2 in the clear.
    h2c: bool,
}

impl<'s> Balancer<'s> {
    pub(super) fn write(&self) -> Result<Written, String> {
        let servers = self.servers();
        let reachable = self.transport();
        let node = self.terms.failover.as_deref();
        let Servers { fit, h2c } = match (&reachable, node) {
            // This node has the transport, and Traefik has not.
            (Err(_), Some(_)) => Servers {
                fit: Vec::new(),
                ..servers
            },
            (Err(reason), None) => return Err(reason.clone()),
            (Ok(_), _) => servers,
        };
        let balancer = self.definition;
        let url = node.map(|node| self.url(node, h2c));
        let alone = |url: Option<&str>| {
            let servers = url.map(node_as_server).into_iter();
            self.plain(servers.map(Value::from).collect())
        };
        if fit.is_empty() {
            return Ok(Written::One(of_kind(alone(url.as_deref()))));
        }
        let transport = reachable.unwrap_or_default();
        let own: Vec<Value> = fit.iter().map(|server| self.server(server).into()).collect();
        let checked = balancer
            .health_check
            .as_ref()
            .map(check)
            .transpose()?
            .filter(|check| !check.is_empty());
        let sticky = balancer
            .sticky
            .as_ref()
            .is_some_and(|sticky| sticky.cookie.is_some());
        let url = url.filter(|_| self.whereabouts.elsewhere);
        let here = |servers| {
            let options = self.options(self.plain(servers), transport)?;
            Ok::<Object, String>(options.object("healthCheck", checked.clone()))
        };
        Ok(match url {
            Some(url) if checked.is_some() => Written::Both {
                here: of_kind(here(own)?),
                elsewhere: of_kind(alone(Some(&url))),
            },
            Some(url) if !sticky => {
                let weight = fit.iter().filter_map(|server| server.weight).max();
                let node = node_as_server(&url).number("weight", weight.filter(|weight| *weight > 1));
                let servers = own.into_iter().chain([node.into()]).collect();
                Written::One(of_kind(here(servers)?))
            }
            _ if checked.is_some() => Written::Checked(of_kind(here(own)?)),
            _ => Written::One(of_kind(here(own)?)),
        })
    }

    /// The servers that can serve, in a fixed order.
    fn servers(&self) -> Servers<'s> {
        let (mut fit, mut h2c) = (Vec::new(), None);
        for server in &self.definition.servers {
            let Ok(endpoint) = compile::endpoint(server, None) else {
                continue;
            };
            h2c = Some(h2c.unwrap_or(true) && endpoint.scheme == Scheme::H2c);
            if self.whereabouts.is_ready(&server.url) {
                fit.push(server);
            }
        }
        fit.sort_by(|a, b| a.url.cmp(&b.url));
        fit.dedup_by(|a, b| a.url == b.url);
        Servers {
            fit,
            h2c: h2c.unwrap_or_default(),
        }
    }

    fn server(&self, server: &Server) -> Object {
        Object::default()
            .text("url", Some(&server.url))
            .number("weight", server.weight)
            .on("preservePath", server.preserve_path)
    }

    /// Where this node takes requests for this service and no other.
    fn url(&self, node: &str, h2c: bool) -> String {
        let scheme = if h2c { "h2c" } else { "http" };
        format!(
            "{scheme}://{node}{}",
            named::path(&format!("{}@{}", self.name, self.provider))
        )
    }

    /// The bare name of the transport; `None`: the default one.
    fn transport(&self) -> Result<Option<&'s str>, String> {
        let named = self.definition.servers_transport.as_deref().unwrap_or_default();
        if named.is_empty() || named == "default@internal" {
            return Ok(None);
        }
        let resolved = self.transports.resolve(named, self.provider);
        resolved
            .map(Some)
            .ok_or_else(|| format!("its serversTransport {named:?} is not in the document either"))
    }

    fn plain(&self, servers: Vec<Value>) -> Object {
        Object::default()
            .list("servers", servers)
            .flag("passHostHeader", self.definition.pass_host_header)
    }

    fn options(&self, object: Object, transport: Option<&str>) -> Result<Object, String> {
        let balancer = self.definition;
        let strategy = balancer
            .strategy
            .as_deref()
            .filter(|strategy| !strategy.is_empty());
        if let Some(strategy) = strategy.filter(|s| !["wrr", "p2c", "hrw", "leasttime"].contains(s)) {
            return Err(format!(
                "its strategy {strategy:?} is none of wrr, p2c, hrw and leasttime"
            ));
        }
        let passive = match &balancer.passive_health_check {
            None => None,
            Some(passive) => Some(
                Object::default()
                    .duration("failureWindow", passive.failure_window.as_deref())?
                    .number("maxFailedAttempts", passive.max_failed_attempts),
            ),
        };
        let forwarding = match &balancer.response_forwarding {
            None => None,
            Some(forwarding) => {
                Some(Object::default().duration("flushInterval", forwarding.flush_interval.as_deref())?)
            }
        };
        let qualified = format!("{}@{}", self.name, self.provider);
        Ok(object
            .text("strategy", strategy)
            .object("sticky", sticky(balancer.sticky.as_ref(), &qualified))
            .object("passiveHealthCheck", passive)
            .object("responseForwarding", forwarding)
            .text("serversTransport", transport))
    }
}

fn of_kind(balancer: Object) -> Object {
    Object::default().object("loadBalancer", Some(balancer))
}

fn node_as_server(url: &str) -> Object {
    Object::default().text("url", Some(url)).on("preservePath", true)
}

/// The cookie, with the name that it has where nobody gives it one: Traefik would make another one of the bare name of the
/// service, and clients would lose their instance when they come to it through this document.
pub(super) fn sticky(sticky: Option<&Sticky>, qualified: &str) -> Option<Object> {
    let cookie = sticky?.cookie.as_ref()?;
    let known = compile::cookie(sticky, qualified)?;
    let cookie = Object::default()
        .text("name", Some(&known))
        .on("secure", cookie.secure)
        .on("httpOnly", cookie.http_only)
        .text("sameSite", cookie.same_site.as_deref())
        .number("maxAge", Some(cookie.max_age).filter(|age| *age != 0))
        .text("path", cookie.path.as_deref())
        .text("domain", cookie.domain.as_deref());
    Some(Object::default().object("cookie", Some(cookie)))
}

fn check(check: &HealthCheck) -> Result<Object, String> {
    Object::default()
        .text("scheme", check.scheme.as_deref())
        .text("mode", check.mode.as_deref())
        .text("path", check.path.as_deref())
        .text("method", check.method.as_deref())
        .number("status", check.status)
        .number("port", check.port)
        .duration("interval", check.interval.as_deref())?
        .duration("unhealthyInterval", check.unhealthy_interval.as_deref())?
        .duration("timeout", check.timeout.as_deref())?
        .text("hostname", check.hostname.as_deref())
        .flag("followRedirects", check.follow_redirects)
        .named("headers", &check.headers)
}
