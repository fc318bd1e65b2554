//! The TLS part of a generation: which certificates, which options, and which host gets which options.
//!
//! The result only names things; the data plane's TLS context reads the files and keeps what did not change.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use constellation_config::TraefikProvider;
use constellation_config::dynamic::{CertificatePair, TlsOptions};
use constellation_dataplane::named;
use constellation_dataplane::tls::{
    CertificateSpec, ClientAuthSpec, HostOptions, OptionsSpec, PemSource, RouterOptions, TlsSpec,
};
use constellation_table::EntryPointId;

use super::names;
use super::routers::Served;
use super::statics::{INTERNAL, Statics};
use super::streams::TlsHosts;
use crate::sources::{Contribution, Problem};

/// Name of the options and of the store that apply where none is named.
const DEFAULT: &str = "default";

/// The names of TLS options that routers may refer to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct OptionNames(BTreeSet<Arc<str>>);

impl OptionNames {
    pub(super) fn of(contributions: &[Arc<Contribution>]) -> Self {
        let qualified = contributions.iter().flat_map(|contribution| {
            let names = contribution.dynamic.tls.options.keys();
            names.map(|name| names::qualify(name, contribution.provider))
        });
        Self(qualified.collect())
    }

    /// The qualified name of options; `None` for the default ones.
    pub(super) fn resolve(&self, name: &str, provider: &str) -> Result<Option<Arc<str>>, String> {
        if name == DEFAULT {
            return Ok(None);
        }
        let qualified = names::qualify(name, provider);
        match self.0.get(&qualified) {
            Some(known) => Ok(Some(known.clone())),
            None => Err(format!(
                "there are no TLS options \"{qualified}\": define them under tls.options of the provider \
                 {provider:?}, or write NAME@PROVIDER for another provider's"
            )),
        }
    }
}

/// Gathers the TLS sections of all readings and the hosts of the TLS routers that are served.
pub(super) fn gather(
    contributions: &[Arc<Contribution>],
    served: &[&Served],
    streams: &[TlsHosts],
    statics: &Statics,
    problems: &mut Vec<Problem>,
) -> TlsSpec {
    let mut spec = TlsSpec::default();
    let mut default_options = Vec::new();
    for contribution in contributions {
        let tls = &contribution.dynamic.tls;
        spec.certificates.extend(tls.certificates.iter().map(certificate));
        for (name, options) in &tls.options {
            if name == DEFAULT {
                default_options.push((contribution.provider, options));
            } else {
                let qualified = names::qualify(name, contribution.provider);
                spec.options.insert(qualified, options_spec(options));
            }
        }
        stores(contribution, &mut spec, problems);
    }
    match default_options.as_slice() {
        [] => {}
        [(_, options)] => {
            spec.options.insert(DEFAULT.into(), options_spec(options));
        }
        several => {
            let providers: Vec<&str> = several.iter().map(|(provider, _)| *provider).collect();
            problems.push(Problem {
                subject: "tls.options default".to_owned(),
                message: format!(
                    "they are defined by several providers ({}), and the built-in ones are used: keep one definition",
                    providers.join(", ")
                ),
            });
        }
    }
    let routers = served.iter().map(|served| Ending::of(served));
    let routers: Vec<Ending<'_>> = routers.chain(streams.iter().map(Ending::of_stream)).collect();
    spec.hosts = hosts(&routers, statics, problems);
    let (http, _) = routers.split_at(served.len());
    spec.routers = router_options(http, &spec.hosts);
    if let Some(entry_point) = statics.entrance {
        // What users ask of their clients is not asked of a Traefik that hands over a connection.
        let options: Arc<str> = names::qualify(TraefikProvider::ENTRANCE, INTERNAL);
        spec.options.insert(options.clone(), OptionsSpec::default());
        spec.hosts.push(HostOptions {
            entry_point,
            host: named::WILDCARD.into(),
            options,
        });
    }
    spec
}

fn certificate(pair: &CertificatePair) -> CertificateSpec {
    CertificateSpec {
        chain: PemSource::from_value(&pair.cert_file),
        key: PemSource::from_value(&pair.key_file),
    }
}

fn options_spec(options: &TlsOptions) -> OptionsSpec {
    let client_auth = options.client_auth.as_ref();
    OptionsSpec {
        min_version: options.min_version.clone(),
        max_version: options.max_version.clone(),
        cipher_suites: options.cipher_suites.clone(),
        curve_preferences: options.curve_preferences.clone(),
        client_auth: client_auth.map_or_else(ClientAuthSpec::default, |auth| ClientAuthSpec {
            authorities: auth
                .ca_files
                .iter()
                .map(|value| PemSource::from_value(value))
                .collect(),
            kind: auth.client_auth_type.clone(),
        }),
        sni_strict: options.sni_strict,
        // An empty list is none, as in Traefik.
        alpn_protocols: options
            .alpn_protocols
            .clone()
            .filter(|protocols| !protocols.is_empty()),
        disable_session_tickets: options.disable_session_tickets,
    }
}

fn stores(contribution: &Contribution, spec: &mut TlsSpec, problems: &mut Vec<Problem>) {
    for (name, store) in &contribution.dynamic.tls.stores {
        let mut problem = |message: String| {
            problems.push(Problem {
                subject: format!("tls.stores {name}@{}", contribution.provider),
                message,
            });
        };
        if name != DEFAULT {
            problem("only the store \"default\" is used: put the certificate there".to_owned());
            continue;
        }
        if store.default_generated_cert.is_some() {
            problem(
                "defaultGeneratedCert: this version does not obtain certificates; name one under \
                 defaultCertificate, else the self-signed one is used"
                    .to_owned(),
            );
        }
        match (&store.default_certificate, &spec.default_certificate) {
            (Some(_), Some(_)) => problem(
                "another provider gives a default certificate as well, and that one is used: keep one"
                    .to_owned(),
            ),
            (Some(pair), None) => spec.default_certificate = Some(certificate(pair)),
            (None, _) => {}
        }
    }
}

/// The options of the routers that have others than the default ones, on each of their entry points. Where a host was left
/// with the default options its routers are as well.
fn router_options(routers: &[Ending<'_>], hosts: &[HostOptions]) -> Vec<RouterOptions> {
    let decided: HashMap<(EntryPointId, &str), &Arc<str>> = hosts
        .iter()
        .map(|host| ((host.entry_point, &*host.host), &host.options))
        .collect();
    let mut all = Vec::new();
    for router in routers {
        let Some(options) = router.options else { continue };
        for entry_point in router.entry_points {
            let heard = |host: &Cow<'_, str>| {
                let decided = decided.get(&(*entry_point, &**host));
                decided.is_some_and(|decided| *decided == options)
            };
            if router.hosts.iter().all(heard) {
                all.push(RouterOptions {
                    entry_point: *entry_point,
                    router: router.name.into(),
                    options: options.clone(),
                });
            }
        }
    }
    all
}

/// The options of each host that routers with options name. Routers that disagree about a host leave it with the
/// default options, and their other hosts with it, as in Traefik: which of them a connection wants is not known before its
/// request is.
fn hosts(served: &[Ending<'_>], statics: &Statics, problems: &mut Vec<Problem>) -> Vec<HostOptions> {
    let mut chosen: Choices<'_> = HashMap::new();
    let mut hosts = Vec::new();
    for router in served.iter().filter(|served| served.options.is_some()) {
        router.for_each_host(|entry_point, host| {
            chosen
                .entry((entry_point, host))
                .or_insert_with(|| Choice {
                    options: router.options,
                    routers: Vec::new(),
                    conflict: false,
                })
                .add(router);
        });
    }
    if chosen.is_empty() {
        return Vec::new();
    }
    for router in served.iter().filter(|served| served.options.is_none()) {
        router.for_each_host(|entry_point, host| {
            let above = host.split_once('.').map(|(_, parent)| format!("*.{parent}"));
            let is_below = above.is_some_and(|above| chosen.contains_key(&(entry_point, above.into())));
            if is_below && !chosen.contains_key(&(entry_point, host.clone())) {
                // Its own name is nearer than the one that has options.
                hosts.push(HostOptions {
                    entry_point,
                    host: host.as_ref().into(),
                    options: DEFAULT.into(),
                });
            }
            if let Some(choice) = chosen.get_mut(&(entry_point, host)) {
                choice.add(router);
            }
        });
    }
    let defaulted = defaulted(&chosen);
    for ((entry_point, host), choice) in chosen {
        let of_defaulted = |router: &&Ending<'_>| defaulted.contains(&(entry_point, router.name));
        match choice.options {
            Some(_) if !choice.conflict && choice.routers.iter().any(of_defaulted) => {}
            Some(options) if !choice.conflict => hosts.push(HostOptions {
                entry_point,
                host: host.as_ref().into(),
                options: options.clone(),
            }),
            _ => {
                let on = statics.entry_point(entry_point).map_or("", |e| &*e.name);
                problems.push(Problem {
                    subject: format!("host {host}"),
                    message: format!(
                        "its routers on entry point {on:?} name different TLS options ({}), and the default options \
                         are used: give all of them the same tls.options",
                        choice.describe()
                    ),
                });
            }
        }
    }
    hosts.sort_by(|a, b| (a.entry_point, &a.host).cmp(&(b.entry_point, &b.host)));
    hosts.dedup();
    hosts
}

/// Routers that have the default options on an entry point, as they share a host with a router of other options or with
/// one of these: what holds for one of a router's hosts holds for all.
fn defaulted<'a>(chosen: &Choices<'a>) -> HashSet<(EntryPointId, &'a str)> {
    let mut found = HashSet::new();
    loop {
        let before = found.len();
        for ((entry_point, _), choice) in chosen {
            let routers = || choice.routers.iter().map(|router| (*entry_point, router.name));
            if choice.conflict || routers().any(|router| found.contains(&router)) {
                found.extend(routers());
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

type Choices<'a> = HashMap<(EntryPointId, Cow<'a, str>), Choice<'a>>;

struct Choice<'a> {
    options: Option<&'a Arc<str>>,
    routers: Vec<&'a Ending<'a>>,
    conflict: bool,
}

impl<'a> Choice<'a> {
    fn add(&mut self, router: &'a Ending<'a>) {
        self.conflict |= router.options != self.options;
        self.routers.push(router);
    }

    fn describe(&self) -> String {
        /// Enough to find the culprits; a host may have thousands of routers.
        const SHOWN: usize = 5;
        let mut parts: Vec<String> = self
            .routers
            .iter()
            .map(|router| {
                let options = router.options.map_or(DEFAULT, AsRef::as_ref);
                format!("{}: {options}", router.name)
            })
            .collect();
        parts.sort();
        let more = parts.len().saturating_sub(SHOWN);
        parts.truncate(SHOWN);
        if more > 0 {
            parts.push(format!("{more} more"));
        }
        parts.join(", ")
    }
}

/// A router behind which TLS ends here.
struct Ending<'a> {
    name: &'a str,
    entry_points: &'a [EntryPointId],
    hosts: Vec<Cow<'a, str>>,
    options: Option<&'a Arc<str>>,
}

impl<'a> Ending<'a> {
    fn of(served: &'a Served) -> Self {
        let spec = &served.router.spec;
        Self {
            name: &spec.name,
            entry_points: &spec.entry_points,
            hosts: spec.rule.tls_names(),
            options: served.options.as_ref(),
        }
    }

    fn of_stream(hosts: &'a TlsHosts) -> Self {
        Self {
            name: &hosts.router,
            entry_points: &hosts.entry_points,
            hosts: hosts
                .hosts
                .iter()
                .map(|host| Cow::Borrowed(host.as_str()))
                .collect(),
            options: hosts.options.as_ref(),
        }
    }

    fn for_each_host(&self, mut each: impl FnMut(EntryPointId, Cow<'a, str>)) {
        for host in &self.hosts {
            for entry_point in self.entry_points {
                each(*entry_point, host.clone());
            }
        }
    }
}
