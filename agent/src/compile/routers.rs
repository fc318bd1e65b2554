//! Routers: entry points, rule, priority and service of each definition; what did not change stays the same `Arc`.

use std::sync::Arc;

use constellation_config::dynamic;
use constellation_middleware::{Chain, Middleware};
use constellation_table::{Action, EntryPointId, Router, RouterSpec, Rule, Steps, Target};

use super::names;
use super::rules::RuleCache;
use super::statics::{EntryPointRules, INTERNAL, Statics};

/// Priorities above this are the node's own, as in Traefik.
pub(super) const HIGHEST_PRIORITY: i64 = i64::MAX - 1000;

/// What compile made of one router definition.
#[derive(Debug)]
pub(super) struct RouterEntry {
    /// The qualified name.
    pub(super) name: Arc<str>,
    /// What is served, or why nothing is.
    pub(super) outcome: Result<Vec<Served>, Disabled>,
    /// What deserves a look although the router works.
    pub(super) warnings: Vec<String>,
    /// Qualified names of the middlewares that it names, by itself or by its entry points or service.
    pub(super) middlewares: Vec<Arc<str>>,
}

/// One router in the table. A definition gives several when its entry points differ in TLS.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) router: Arc<Router>,
    /// Qualified name of the TLS options, `None` for the default ones.
    pub(super) options: Option<Arc<str>>,
}

impl Served {
    /// What it forwards to.
    pub(super) fn target(&self) -> Option<&Target> {
        self.router.target()
    }
}

/// Why a router is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Disabled {
    pub(super) reason: String,
    /// Whether another object may change that; otherwise only a new definition can.
    pub(super) depends_on_others: bool,
}

impl Disabled {
    fn by_definition(reason: String) -> Self {
        Self {
            reason,
            depends_on_others: false,
        }
    }

    fn by_reference(reason: String) -> Self {
        Self {
            reason,
            depends_on_others: true,
        }
    }
}

/// What a router may refer to.
pub(super) trait References {
    /// The service called `name` of `provider`; the error says why there is none.
    fn service(&self, name: &str, provider: &str) -> Result<Target, String>;
    /// What a router of `provider` runs that names these middlewares; the error says why it can't.
    fn middlewares(&self, references: &[String], provider: &str) -> Result<Vec<Arc<Middleware>>, String>;
    /// The middlewares that the definition of a service names.
    fn middlewares_of_service(&self, name: &str, provider: &str) -> &[String];
    /// The qualified name of TLS options; the error says that there are none of this name.
    fn tls_options(&self, name: &str, provider: &str) -> Result<Option<Arc<str>>, String>;
}

/// What compile finds out about a definition, served or not.
#[derive(Debug, Default)]
struct Notes {
    warnings: Vec<String>,
    /// Qualified names of the middlewares that it names.
    middlewares: Vec<Arc<str>>,
}

/// Compiles router definitions of all providers.
pub(super) struct RouterCompiler<'a> {
    statics: &'a Statics,
    default_entry_points: Vec<EntryPointId>,
    rules: &'a mut RuleCache,
}

impl<'a> RouterCompiler<'a> {
    pub(super) fn new(statics: &'a Statics, rules: &'a mut RuleCache) -> Self {
        Self {
            statics,
            default_entry_points: statics.default_entry_points(),
            rules,
        }
    }

    /// Builds the routers of one definition; equal ones of `previous` are kept.
    pub(super) fn compile(
        &mut self,
        provider: &str,
        name: &str,
        definition: &dynamic::Router,
        references: &impl References,
        previous: Option<&RouterEntry>,
    ) -> RouterEntry {
        let qualified = previous.map_or_else(|| names::qualify(name, provider), |entry| entry.name.clone());
        let mut notes = Notes::default();
        let old = previous.and_then(|entry| entry.outcome.as_ref().ok());
        let outcome = self.build(provider, name, definition, references, &qualified, &mut notes);
        let outcome = outcome.map(|served| carry(served, old));
        RouterEntry {
            name: qualified,
            outcome,
            warnings: notes.warnings,
            middlewares: notes.middlewares,
        }
    }

    fn build(
        &mut self,
        provider: &str,
        name: &str,
        definition: &dynamic::Router,
        references: &impl References,
        qualified: &Arc<str>,
        notes: &mut Notes,
    ) -> Result<Vec<Served>, Disabled> {
        let Notes {
            warnings,
            middlewares: named,
        } = notes;
        if let Some(refusal) = names::http_refusal(name) {
            return Err(Disabled::by_definition(refusal));
        }
        let entry_points = self.entry_points(definition, warnings)?;
        let rule = self.rule(definition)?;
        let priority = priority(definition, &rule)?;
        let service = service(provider, definition, references)?;
        warnings.extend(rule.remarks().into_iter().map(|remark| format!("rule: {remark}")));
        if definition.observability.is_some() {
            warnings.push(
                "the option observability is not served by this version: the router is logged and counted"
                    .to_owned(),
            );
        }
        let spec = RouterSpec {
            name: qualified.clone(),
            entry_points: Vec::new(),
            tls: false,
            rule,
            priority,
            action: Action::Forward(service),
            middlewares: None,
        };
        let mut served: Vec<Served> = Vec::with_capacity(1);
        for variant in self.variants(definition, &entry_points, qualified) {
            let Variant {
                name,
                ids,
                tls,
                first,
            } = variant;
            let chain = chain(provider, first, definition, references, named)?;
            let options = match &tls {
                Some(tls) => tls_options(provider, tls, &spec.rule, references, warnings)?,
                None => None,
            };
            served.push(Served {
                router: Arc::new(Router {
                    spec: RouterSpec {
                        name,
                        entry_points: ids,
                        tls: tls.is_some(),
                        middlewares: chain,
                        ..spec.clone()
                    },
                    slot: Default::default(),
                }),
                options,
            });
        }
        Ok(served)
    }

    fn entry_points(
        &self,
        definition: &dynamic::Router,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<EntryPointId>, Disabled> {
        if definition.entry_points.is_empty() {
            return Ok(self.default_entry_points.clone());
        }
        let mut known = Vec::with_capacity(definition.entry_points.len());
        let mut unknown = Vec::new();
        for name in &definition.entry_points {
            match self.statics.id_of(name) {
                Some(id) if self.statics.is_udp(id) => unknown.push(format!("{name:?} for TCP")),
                Some(id) if !known.contains(&id) => known.push(id),
                Some(_) => {}
                None => unknown.push(format!("{name:?}")),
            }
        }
        if unknown.is_empty() {
            return Ok(known);
        }
        let fitting = self.statics.entry_points.iter().filter(|e| !e.udp);
        let existing: Vec<&str> = fitting.map(|e| &*e.name).collect();
        let message = format!(
            "there is no entry point {}: write one of {}, or define it under entryPoints",
            unknown.join(", "),
            existing.join(", ")
        );
        if known.is_empty() {
            return Err(Disabled::by_definition(message));
        }
        warnings.push(message);
        Ok(known)
    }

    fn rule(&mut self, definition: &dynamic::Router) -> Result<Arc<Rule>, Disabled> {
        match definition.rule_syntax.as_deref() {
            None | Some("" | "v3") => {}
            Some(other) => {
                return Err(Disabled::by_definition(format!(
                    "ruleSyntax {other:?} is not served: rewrite the rule in v3 syntax (one value per matcher, \
                     HostRegexp and PathRegexp with plain regular expressions, joined by && and ||) and remove \
                     ruleSyntax"
                )));
            }
        }
        if definition.rule.trim().is_empty() {
            return Err(Disabled::by_definition(
                "it has no rule: write one such as Host(`example.test`)".to_owned(),
            ));
        }
        self.rules
            .get(&definition.rule)
            .map_err(|error| Disabled::by_definition(format!("rule {:?}: {error}", definition.rule)))
    }

    /// The routers that a definition gives: one for all entry points that treat it alike, and, as in Traefik, one
    /// called `ENTRYPOINT-NAME` for each entry point that changes it, by its TLS default or by its middlewares.
    fn variants<'d>(
        &'d self,
        definition: &'d dynamic::Router,
        entry_points: &[EntryPointId],
        qualified: &Arc<str>,
    ) -> Vec<Variant<'d>> {
        let own = definition.tls.as_ref().map(|tls| TlsChoice {
            options: tls.options.as_deref(),
            cert_resolver: tls.cert_resolver.as_deref(),
        });
        let mut plain = Vec::new();
        let mut variants = Vec::new();
        for &id in entry_points {
            let entry_point = self.statics.entry_point(id);
            let changes =
                |e: &&EntryPointRules| (own.is_none() && e.tls.is_some()) || !e.middlewares.is_empty();
            let Some(entry_point) = entry_point.filter(changes) else {
                plain.push(id);
                continue;
            };
            let name = if entry_points.len() == 1 {
                qualified.clone()
            } else {
                format!("{}-{qualified}", entry_point.name).into()
            };
            let given = entry_point.tls.as_ref().map(|tls| TlsChoice {
                options: tls.options.as_deref(),
                cert_resolver: tls.cert_resolver.as_deref(),
            });
            variants.push(Variant {
                name,
                ids: vec![id],
                tls: own.or(given),
                first: &entry_point.middlewares,
            });
        }
        if !plain.is_empty() {
            let unchanged = Variant {
                name: qualified.clone(),
                ids: plain,
                tls: own,
                first: &[],
            };
            variants.insert(0, unchanged);
        }
        variants
    }
}

/// A router as some entry points have it.
struct Variant<'a> {
    name: Arc<str>,
    ids: Vec<EntryPointId>,
    tls: Option<TlsChoice<'a>>,
    /// The middlewares of the entry point, which come first.
    first: &'a [String],
}

/// What a router runs: the middlewares of its entry point, its own, and those of its service.
fn chain(
    provider: &str,
    first: &[String],
    definition: &dynamic::Router,
    references: &impl References,
    named: &mut Vec<Arc<str>>,
) -> Result<Option<Arc<dyn Steps>>, Disabled> {
    let (service, owner) = names::split_reference(&definition.service, provider);
    let last = references.middlewares_of_service(service, owner);
    let mut middlewares = Vec::new();
    for (list, provider) in [
        (first, provider),
        (&definition.middlewares, provider),
        (last, owner),
    ] {
        named.extend(list.iter().map(|reference| {
            let (name, owner) = names::split_reference(reference, provider);
            names::qualify(name, owner)
        }));
        let found = references
            .middlewares(list, provider)
            .map_err(Disabled::by_reference)?;
        middlewares.extend(found);
    }
    if middlewares.is_empty() {
        return Ok(None);
    }
    Ok(Some(Arc::new(Chain::new(middlewares))))
}

/// `tls` of a router or of its entry point.
#[derive(Clone, Copy)]
struct TlsChoice<'a> {
    options: Option<&'a str>,
    cert_resolver: Option<&'a str>,
}

fn tls_options(
    provider: &str,
    tls: &TlsChoice<'_>,
    rule: &Rule,
    references: &impl References,
    warnings: &mut Vec<String>,
) -> Result<Option<Arc<str>>, Disabled> {
    if let Some(resolver) = tls.cert_resolver.filter(|name| !name.is_empty()) {
        warnings.push(format!(
            "tls.certResolver {resolver:?}: this version does not obtain certificates; name one under \
             tls.certificates, else clients get the default certificate"
        ));
    }
    let Some(name) = tls.options.filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let (local, owner) = names::split_reference(name, provider);
    let options = references
        .tls_options(local, owner)
        .map_err(Disabled::by_reference)?;
    if options.is_some() && rule.tls_names().is_empty() {
        warnings.push(format!(
            "tls.options {name:?} applies to host names, and the rule has no Host(...): the default options are \
             used; add Host(...) to the rule"
        ));
    }
    Ok(options)
}

fn priority(definition: &dynamic::Router, rule: &Rule) -> Result<i64, Disabled> {
    match definition.priority {
        0 => Ok(i64::try_from(rule.text().len()).unwrap_or(HIGHEST_PRIORITY)),
        priority if priority > HIGHEST_PRIORITY => Err(Disabled::by_definition(format!(
            "priority {priority} is out of range: write at most {HIGHEST_PRIORITY}; what is above belongs to the \
             node itself"
        ))),
        priority => Ok(priority),
    }
}

fn service(
    provider: &str,
    definition: &dynamic::Router,
    references: &impl References,
) -> Result<Target, Disabled> {
    if definition.service.is_empty() {
        return Err(Disabled::by_definition(
            "it names no service: write service: NAME, or NAME@PROVIDER for another provider's".to_owned(),
        ));
    }
    let (name, owner) = names::split_reference(&definition.service, provider);
    if owner == INTERNAL {
        return Err(Disabled::by_definition(format!(
            "the service {:?} is Traefik's own and is not served by this version: health, metrics and API are on \
             the control address",
            definition.service
        )));
    }
    references.service(name, owner).map_err(Disabled::by_reference)
}

/// Takes the routers of the last compile where they say the same.
fn carry(served: Vec<Served>, old: Option<&Vec<Served>>) -> Vec<Served> {
    let Some(old) = old else { return served };
    served
        .into_iter()
        .map(|new| match old.iter().find(|old| same(old, &new)) {
            Some(old) => old.clone(),
            None => new,
        })
        .collect()
}

/// Whether both are the very same routers.
pub(super) fn same_objects(a: &[Served], b: &[Served]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(&a.router, &b.router))
}

fn same(a: &Served, b: &Served) -> bool {
    let (left, right) = (&a.router.spec, &b.router.spec);
    a.options == b.options
        && left.name == right.name
        && left.entry_points == right.entry_points
        && left.tls == right.tls
        && left.priority == right.priority
        && Arc::ptr_eq(&left.rule, &right.rule)
        && match (&left.middlewares, &right.middlewares) {
            (Some(left), Some(right)) => left.is_same(&**right),
            (None, None) => true,
            _ => false,
        }
        && match (&left.action, &right.action) {
            (Action::Forward(left), Action::Forward(right)) => left == right,
            (Action::Redirect(left), Action::Redirect(right)) => left == right,
            _ => false,
        }
}

/// The routers of entry point redirections, called `web-to-websecure@internal`.
pub(super) fn redirections(statics: &Statics, rules: &mut RuleCache) -> Vec<Arc<Router>> {
    let redirecting = statics.ids().filter_map(|(id, entry_point)| {
        let redirection = entry_point.redirection.as_ref()?;
        Some((id, entry_point, redirection))
    });
    redirecting
        .filter_map(|(id, entry_point, redirection)| {
            let spec = RouterSpec {
                name: names::qualify(&format!("{}-to-{}", entry_point.name, redirection.to), INTERNAL),
                entry_points: vec![id],
                tls: entry_point.tls.is_some(),
                // Without a host there is nowhere to send a client to.
                rule: rules.get("HostRegexp(`^.+$`)").ok()?,
                priority: redirection.priority,
                action: Action::Redirect(redirection.redirect.clone()),
                middlewares: None,
            };
            Some(Arc::new(Router {
                spec,
                slot: Default::default(),
            }))
        })
        .collect()
}
