//! Routers of the sections `tcp` and `udp`.

use std::collections::HashMap;
use std::sync::Arc;

use constellation_config::dynamic;
use constellation_table::{
    EntryPointId, Target, TcpMiddleware, TcpRouter, TcpRouterSpec, TcpRule, TcpTls, UdpRouter, UdpRouterSpec,
};

use super::{Around, Compiled, Input, Section, resolve};
use crate::compile::names;
use crate::compile::routers::HIGHEST_PRIORITY;
use crate::report::DisabledRouter;
use crate::sources::Problem;

type Targets = HashMap<Arc<str>, Result<Target, String>>;
type Guards = HashMap<Arc<str>, Result<TcpMiddleware, String>>;

/// The names under which a router ends TLS, and its options.
#[derive(Clone, Debug)]
pub(in crate::compile) struct TlsHosts {
    pub(in crate::compile) router: Arc<str>,
    pub(in crate::compile) entry_points: Vec<EntryPointId>,
    pub(in crate::compile) hosts: Vec<String>,
    /// Qualified name; `None` for the default ones.
    pub(in crate::compile) options: Option<Arc<str>>,
}

/// All routers, into `compiled`; equal ones of `old` stay the same object.
pub(super) fn compile(
    around: &Around<'_>,
    targets: &Targets,
    guards: &Guards,
    rules: &mut HashMap<String, Arc<TcpRule>>,
    old: &Compiled,
    compiled: &mut Compiled,
) {
    let old_tcp: HashMap<&str, &Arc<TcpRouter>> = old.tcp.iter().map(|old| (&*old.spec.name, old)).collect();
    let old_udp: HashMap<&str, &Arc<UdpRouter>> = old.udp.iter().map(|old| (&*old.spec.name, old)).collect();
    for input in around.inputs {
        for (name, definition) in &input.tcp.routers {
            let qualified = Section::Tcp.qualify(name, input.provider);
            let mut building = Building {
                around,
                input,
                warnings: Vec::new(),
            };
            let spec = building.tcp(name, definition, qualified.clone(), targets, guards, rules);
            report(building.warnings, &qualified, compiled);
            match spec {
                Ok((spec, hosts)) => {
                    let known = old_tcp.get(&*qualified).filter(|old| same_tcp(&old.spec, &spec));
                    let router = known.map(|known| Arc::clone(known));
                    compiled
                        .tcp
                        .push(router.unwrap_or_else(|| Arc::new(TcpRouter::new(spec))));
                    compiled.tls.extend(hosts);
                }
                Err(reason) => disable(qualified, definition.rule.clone(), reason, compiled),
            }
        }
        for (name, definition) in &input.udp.routers {
            let qualified = Section::Udp.qualify(name, input.provider);
            let mut building = Building {
                around,
                input,
                warnings: Vec::new(),
            };
            let spec = building.udp(name, definition, qualified.clone(), targets);
            report(building.warnings, &qualified, compiled);
            match spec {
                Ok(spec) => {
                    let known = old_udp.get(&*qualified).filter(|old| same_udp(&old.spec, &spec));
                    let router = known.map(|known| Arc::clone(known));
                    compiled
                        .udp
                        .push(router.unwrap_or_else(|| Arc::new(UdpRouter::new(spec))));
                }
                Err(reason) => disable(qualified, String::new(), reason, compiled),
            }
        }
    }
    one_udp_router_each(around, compiled);
}

fn report(warnings: Vec<String>, router: &Arc<str>, compiled: &mut Compiled) {
    compiled
        .problems
        .extend(warnings.into_iter().map(|message| Problem {
            subject: format!("router {router}"),
            message,
        }));
}

fn disable(router: Arc<str>, rule: String, reason: String, compiled: &mut Compiled) {
    report(vec![reason.clone()], &router, compiled);
    compiled.disabled.push(DisabledRouter {
        name: router.to_string(),
        rule,
        reason,
    });
}

/// A datagram names nobody, so of several routers on an entry point one gets all: the first by name.
fn one_udp_router_each(around: &Around<'_>, compiled: &mut Compiled) {
    let mut problems = Vec::new();
    let mut routers: Vec<&Arc<UdpRouter>> = compiled.udp.iter().collect();
    routers.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    let mut taken: HashMap<EntryPointId, &Arc<UdpRouter>> = HashMap::new();
    for router in routers {
        for id in &router.spec.entry_points {
            let first = *taken.entry(*id).or_insert(router);
            if !Arc::ptr_eq(first, router) {
                let entry_point = around
                    .statics
                    .entry_point(*id)
                    .map_or("", |entry_point| &*entry_point.name);
                problems.push(Problem {
                    subject: format!("router {}", router.spec.name),
                    message: format!(
                        "the entry point {entry_point:?} has the router {} already, which gets all its datagrams: give \
                         each its own entry point, or one router a weighted service",
                        first.spec.name
                    ),
                });
            }
        }
    }
    compiled.problems.extend(problems);
}

struct Building<'a> {
    around: &'a Around<'a>,
    input: &'a Input,
    warnings: Vec<String>,
}

impl Building<'_> {
    fn tcp(
        &mut self,
        name: &str,
        definition: &dynamic::TcpRouter,
        qualified: Arc<str>,
        targets: &Targets,
        guards: &Guards,
        rules: &mut HashMap<String, Arc<TcpRule>>,
    ) -> Result<(TcpRouterSpec, Option<TlsHosts>), String> {
        if let Some(refusal) = names::refusal(name) {
            return Err(refusal);
        }
        let entry_points = self.entry_points(&definition.entry_points, Section::Tcp)?;
        let rule = rule(definition, rules)?;
        if rule.needs_tls() && definition.tls.is_none() {
            return Err(format!(
                "the rule {:?} looks at what only TLS has: add tls (with passthrough: true where the server speaks TLS \
                 itself), or write HostSNI(`*`)",
                definition.rule
            ));
        }
        let priority = match definition.priority {
            0 => rule.default_priority(),
            priority if priority > HIGHEST_PRIORITY => {
                return Err(format!(
                    "priority {priority} is out of range: write at most {HIGHEST_PRIORITY}"
                ));
            }
            priority => priority,
        };
        let remarks = rule.remarks(definition.tls.is_some()).into_iter();
        self.warnings
            .extend(remarks.map(|remark| format!("rule: {remark}")));
        let target = self.target(&definition.service, Section::Tcp, targets)?;
        let middlewares = definition.middlewares.iter();
        let (provider, inputs) = (self.input.provider, self.around.inputs);
        let middlewares = middlewares
            .map(|reference| resolve(Section::Tcp, "middleware", reference, provider, guards, inputs))
            .collect::<Result<_, _>>()?;
        let tls = definition.tls.as_ref().map(|tls| {
            if tls.passthrough {
                TcpTls::Passthrough
            } else {
                TcpTls::Terminate
            }
        });
        let hosts = match &definition.tls {
            Some(tls) if !tls.passthrough => Some(TlsHosts {
                router: qualified.clone(),
                entry_points: entry_points.clone(),
                hosts: rule.hosts().into_iter().map(str::to_owned).collect(),
                options: self.tls_options(tls, &rule)?,
            }),
            Some(tls) => {
                self.without_termination(tls);
                None
            }
            None => None,
        };
        let spec = TcpRouterSpec {
            name: qualified,
            entry_points,
            tls,
            rule,
            priority,
            target,
            middlewares,
        };
        Ok((spec, hosts))
    }

    fn without_termination(&mut self, tls: &dynamic::TcpRouterTls) {
        for (key, given) in [
            (
                "options",
                tls.options.as_deref().is_some_and(|name| !name.is_empty()),
            ),
            (
                "certResolver",
                tls.cert_resolver.as_deref().is_some_and(|name| !name.is_empty()),
            ),
            ("domains", !tls.domains.is_empty()),
        ] {
            if given {
                self.warnings.push(format!(
                    "tls.{key} has no effect beside passthrough: the server shows its own certificate"
                ));
            }
        }
    }

    fn tls_options(
        &mut self,
        tls: &dynamic::TcpRouterTls,
        rule: &TcpRule,
    ) -> Result<Option<Arc<str>>, String> {
        if let Some(resolver) = tls.cert_resolver.as_deref().filter(|name| !name.is_empty()) {
            self.warnings.push(format!(
                "tls.certResolver {resolver:?}: this version does not obtain certificates; name one under \
                 tls.certificates, else clients get the default certificate"
            ));
        }
        let Some(reference) = tls.options.as_deref().filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let (name, owner) = names::split_reference(reference, self.input.provider);
        if name == "default" {
            return Ok(None);
        }
        let mut owners = self.around.inputs.iter().filter(|input| input.provider == owner);
        if !owners.any(|input| input.tls_options.iter().any(|known| known == name)) {
            return Err(format!(
                "there are no TLS options \"{name}@{owner}\": define them under tls.options of the provider {owner:?}, or \
                 write NAME@PROVIDER for another provider's"
            ));
        }
        if rule.hosts().is_empty() {
            self.warnings.push(format!(
                "tls.options {reference:?} applies to server names, and the rule has no HostSNI(`name`): the default options \
                 are used; add one to the rule"
            ));
            return Ok(None);
        }
        Ok(Some(names::qualify(name, owner)))
    }

    fn udp(
        &mut self,
        name: &str,
        definition: &dynamic::UdpRouter,
        qualified: Arc<str>,
        targets: &Targets,
    ) -> Result<UdpRouterSpec, String> {
        if let Some(refusal) = names::refusal(name) {
            return Err(refusal);
        }
        Ok(UdpRouterSpec {
            name: qualified,
            entry_points: self.entry_points(&definition.entry_points, Section::Udp)?,
            target: self.target(&definition.service, Section::Udp, targets)?,
        })
    }

    fn target(&self, reference: &str, section: Section, targets: &Targets) -> Result<Target, String> {
        if reference.is_empty() {
            return Err(
                "it names no service: write service: NAME, or NAME@PROVIDER for another provider's"
                    .to_owned(),
            );
        }
        let (provider, inputs) = (self.input.provider, self.around.inputs);
        resolve(section, "service", reference, provider, targets, inputs)
    }

    /// The entry points of that kind that a router names; without names the default ones.
    fn entry_points(&mut self, names: &[String], section: Section) -> Result<Vec<EntryPointId>, String> {
        let statics = self.around.statics;
        let is_udp = section == Section::Udp;
        if names.is_empty() {
            let ids: Vec<EntryPointId> = if is_udp {
                statics.udp_entry_points()
            } else {
                statics.default_entry_points()
            };
            if ids.is_empty() {
                let address = if is_udp { "\":53/udp\"" } else { "\":443\"" };
                return Err(format!(
                    "there is no entry point for {}: define one under entryPoints, such as address: {address}",
                    section.key()
                ));
            }
            return Ok(ids);
        }
        let mut known = Vec::with_capacity(names.len());
        let mut wrong = Vec::new();
        for name in names {
            match statics.id_of(name) {
                Some(id) if statics.is_udp(id) == is_udp => {
                    if !known.contains(&id) {
                        known.push(id);
                    }
                }
                Some(_) => wrong.push(format!(
                    "the entry point {name:?} is for {}",
                    if is_udp { "TCP" } else { "UDP" }
                )),
                None => wrong.push(format!("there is no entry point {name:?}")),
            }
        }
        if wrong.is_empty() {
            return Ok(known);
        }
        let fitting: Vec<&str> = statics
            .ids()
            .filter(|(id, _)| statics.is_udp(*id) == is_udp)
            .map(|(_, entry_point)| &*entry_point.name)
            .collect();
        let advice = match fitting.len() {
            0 => "define one under entryPoints".to_owned(),
            _ => format!(
                "write one of {}, or define it under entryPoints",
                fitting.join(", ")
            ),
        };
        let message = format!("{}: {advice}", wrong.join(", "));
        if known.is_empty() {
            return Err(message);
        }
        self.warnings.push(message);
        Ok(known)
    }
}

fn rule(
    definition: &dynamic::TcpRouter,
    rules: &mut HashMap<String, Arc<TcpRule>>,
) -> Result<Arc<TcpRule>, String> {
    match definition.rule_syntax.as_deref() {
        None | Some("" | "v3") => {}
        Some(other) => {
            return Err(format!(
                "ruleSyntax {other:?} is not served: rewrite the rule in v3 syntax (one value per matcher, joined by && and \
                 ||) and remove ruleSyntax"
            ));
        }
    }
    if definition.rule.trim().is_empty() {
        return Err(
            "it has no rule: write one such as HostSNI(`example.test`) with tls, or HostSNI(`*`)".to_owned(),
        );
    }
    if let Some(known) = rules.get(&definition.rule) {
        return Ok(known.clone());
    }
    let parsed =
        TcpRule::parse(&definition.rule).map_err(|error| format!("rule {:?}: {error}", definition.rule))?;
    let rule = Arc::new(parsed);
    rules.insert(definition.rule.clone(), rule.clone());
    Ok(rule)
}

fn same_tcp(a: &TcpRouterSpec, b: &TcpRouterSpec) -> bool {
    let same_guard = |(a, b): (&TcpMiddleware, &TcpMiddleware)| match (a, b) {
        (TcpMiddleware::IpAllowList(a), TcpMiddleware::IpAllowList(b)) => Arc::ptr_eq(a, b),
        (TcpMiddleware::InFlightConn(a), TcpMiddleware::InFlightConn(b)) => Arc::ptr_eq(a, b),
        _ => false,
    };
    a.name == b.name
        && a.entry_points == b.entry_points
        && a.tls == b.tls
        && Arc::ptr_eq(&a.rule, &b.rule)
        && a.priority == b.priority
        && a.target == b.target
        && a.middlewares.len() == b.middlewares.len()
        && a.middlewares.iter().zip(&b.middlewares).all(same_guard)
}

fn same_udp(a: &UdpRouterSpec, b: &UdpRouterSpec) -> bool {
    a.name == b.name && a.entry_points == b.entry_points && a.target == b.target
}
