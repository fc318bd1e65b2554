//! The TLS part of a generation: which certificates, which options, and what the routers ask for.
//!
//! The result only names things; the data plane's TLS context reads the files and keeps what did not change.

use std::collections::BTreeSet;
use std::sync::Arc;

use constellation_config::TraefikProvider;
use constellation_config::dynamic::{CertificatePair, TlsOptions};
use constellation_dataplane::named;
use constellation_dataplane::tls::{
    CertificateSpec, ClientAuthSpec, OptionsSpec, PemSource, TlsRouter, TlsSpec,
};

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
    spec.routers = routers(served, streams);
    if let Some(entry_point) = statics.entrance {
        // What users ask of their clients is not asked of a Traefik that hands over a connection.
        let options: Arc<str> = names::qualify(TraefikProvider::ENTRANCE, INTERNAL);
        spec.options.insert(options.clone(), OptionsSpec::default());
        spec.routers.push(TlsRouter {
            name: options.clone(),
            entry_points: vec![entry_point],
            hosts: vec![named::WILDCARD.into()],
            options: Some(options),
            of_requests: false,
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

/// The routers behind which TLS ends, where any of them asks for options.
fn routers(served: &[&Served], streams: &[TlsHosts]) -> Vec<TlsRouter> {
    let of_requests = served.iter().map(|served| &served.options);
    let mut all = of_requests.chain(streams.iter().map(|stream| &stream.options));
    if !all.any(Option::is_some) {
        return Vec::new();
    }
    let of_requests = served.iter().map(|served| {
        let spec = &served.router.spec;
        TlsRouter {
            name: spec.name.as_ref().into(),
            entry_points: spec.entry_points.clone(),
            hosts: spec
                .rule
                .tls_names()
                .iter()
                .map(|host| host.as_ref().into())
                .collect(),
            options: served.options.clone(),
            of_requests: true,
        }
    });
    let of_streams = streams.iter().map(|stream| TlsRouter {
        name: stream.router.clone(),
        entry_points: stream.entry_points.clone(),
        hosts: stream.hosts.iter().map(|host| host.as_str().into()).collect(),
        options: stream.options.clone(),
        of_requests: false,
    });
    let all = of_requests.chain(of_streams);
    // Without a host its options matter only where they can't be used.
    all.filter(|router| !router.hosts.is_empty() || router.options.is_some())
        .collect()
}
