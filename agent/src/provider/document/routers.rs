//! HTTP routers.

use constellation_config::dynamic::{Observability, Router, RouterTls};
use constellation_table::Rule;

use super::middlewares::{Middlewares, RETRY};
use super::names::Names;
use super::object::{Object, check_key};
use super::priority::{self, Contender, HIGHEST};
use super::services::Services;
use super::tls::Options;
use super::{Draft, Objects, names_of};

/// Behind the name of a router that has its service's: it serves wherever there is an instance, as opposed to those of
/// single nodes.
const EVERYWHERE: &str = "-with-failover";

/// What a router is written from.
struct Context<'d> {
    services: &'d Services,
    middlewares: &'d Middlewares,
    options: &'d Options,
    entry_points: &'d [String],
    cert_resolver: Option<&'d str>,
}

pub(super) fn all(
    draft: &mut Draft<'_>,
    services: &Services,
    middlewares: &Middlewares,
    options: &Options,
) -> Objects {
    let all = draft.each(|reading| &reading.dynamic.http.routers);
    let mut names = names_of(&all);
    let context = Context {
        services,
        middlewares,
        options,
        entry_points: &draft.terms.entry_points,
        cert_resolver: draft.terms.cert_resolver.as_deref(),
    };
    let mut written = Vec::new();
    for (provider, name, router) in all {
        match context.router(provider, name, router) {
            Ok(found) => written.push((name_of(&mut names, provider, name, router), found)),
            Err(reason) => draft.leave_out("router", provider, name, reason),
        }
    }
    let priorities = priority::settle(
        written
            .iter()
            .map(|(name, (_, contender))| Contender {
                name: name.clone(),
                ..contender.clone()
            })
            .collect(),
    );
    let with_priority = written.into_iter().map(|(name, (object, contender))| {
        let priority = priorities.get(&name).copied().unwrap_or(contender.priority);
        let object = object.number("priority", Some(priority));
        (name, object)
    });
    with_priority.collect()
}

/// What a router is called in the document.
fn name_of(names: &mut Names, provider: &str, name: &str, router: &Router) -> String {
    let bare = names.bare(provider, name).unwrap_or(name).to_owned();
    let service = router
        .service
        .rsplit_once('@')
        .map_or(&*router.service, |(service, _)| service);
    match service == name {
        true => names.free(&format!("{bare}{EVERYWHERE}")),
        false => bare,
    }
}

impl Context<'_> {
    fn router(&self, provider: &str, name: &str, router: &Router) -> Result<(Object, Contender), String> {
        check_key(name)?;
        if let Some(other) = router
            .rule_syntax
            .as_deref()
            .filter(|syntax| !["", "v3"].contains(syntax))
        {
            return Err(format!("ruleSyntax {other:?}: rewrite the rule in v3 syntax"));
        }
        if router.rule.trim().is_empty() {
            return Err("it has no rule".to_owned());
        }
        let rule =
            Rule::parse_http(&router.rule).map_err(|error| format!("rule {:?}: {error}", router.rule))?;
        let service = self
            .services
            .resolve(&router.service, provider)
            .ok_or_else(|| format!("its service {:?} is not in the document either", router.service))?;
        let middlewares = router.middlewares.iter().map(|reference| {
            let resolved = self.middlewares.resolve(reference, provider);
            resolved.ok_or_else(|| {
                format!("its middleware {reference:?} is not in the document, and without it it could be open to anybody")
            })
        });
        let mut middlewares = middlewares.collect::<Result<Vec<&str>, String>>()?;
        // Last: what it repeats is the connection, and not what the others do.
        middlewares.push(RETRY);
        let given = &router.entry_points;
        let entry_points = if given.is_empty() {
            self.entry_points
        } else {
            given
        };
        let tls = router
            .tls
            .as_ref()
            .map(|tls| self.tls(provider, tls))
            .transpose()?;
        let length = rule.text().len();
        let priority = match router.priority {
            0 => i64::try_from(length).unwrap_or(HIGHEST),
            priority if priority > HIGHEST => {
                return Err(format!(
                    "priority {priority} is out of range: write at most {HIGHEST}"
                ));
            }
            priority => priority,
        };
        let object = Object::default()
            .texts("entryPoints", entry_points.iter().map(String::as_str))
            .texts("middlewares", middlewares)
            .text("service", Some(service))
            .text("rule", Some(&router.rule))
            .presence("tls", tls)
            .object("observability", router.observability.as_ref().map(observability));
        let hosts = match rule.names_its_hosts() {
            true => rule.hosts().into_iter().map(str::to_owned).collect(),
            false => Vec::new(),
        };
        let contender = Contender {
            name: String::new(),
            priority,
            rule_length: length,
            hosts,
        };
        Ok((object, contender))
    }

    fn tls(&self, provider: &str, tls: &RouterTls) -> Result<Object, String> {
        let options = match tls.options.as_deref().filter(|name| !name.is_empty()) {
            None => None,
            Some(name) => {
                let resolved = self.options.resolve(name, provider);
                Some(
                    resolved
                        .ok_or_else(|| format!("its tls.options {name:?} are not in the document either"))?,
                )
            }
        };
        let resolver = tls
            .cert_resolver
            .as_deref()
            .filter(|resolver| !resolver.is_empty());
        let object = Object::default()
            .text("options", options)
            .text("certResolver", resolver.or(self.cert_resolver));
        Ok(match domains(&tls.domains) {
            domains if domains.is_empty() => object,
            domains => object.list("domains", domains),
        })
    }
}

/// Domains to ask certificates for.
pub(super) fn domains(domains: &[constellation_config::dynamic::Domain]) -> Vec<serde_json::Value> {
    domains
        .iter()
        .map(|domain| {
            Object::default()
                .text("main", Some(&domain.main))
                .texts("sans", domain.sans.iter().map(String::as_str))
        })
        .filter(|domain| !domain.is_empty())
        .map(Into::into)
        .collect()
}

fn observability(switches: &Observability) -> Object {
    Object::default()
        .flag("accessLogs", switches.access_logs)
        .flag("metrics", switches.metrics)
        .flag("tracing", switches.tracing)
        .text("traceVerbosity", switches.trace_verbosity.as_deref())
}
