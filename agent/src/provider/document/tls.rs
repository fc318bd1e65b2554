//! The section `tls`: options, and certificates where that is asked for.

use constellation_config::dynamic::{TlsOptions, TlsStore};

use super::names::Names;
use super::object::{Object, check_key};
use super::transports::pair;
use super::{Draft, Objects, names_of};

/// The options that are in the document.
pub(super) struct Options {
    names: Names,
    objects: Objects,
}

impl Options {
    /// The bare name of options that a document of `provider` names; `None`: they are not in the document.
    pub(super) fn resolve<'o>(&'o self, reference: &'o str, provider: &str) -> Option<&'o str> {
        if reference == "default" {
            // Traefik has them, whether anybody defines them or not.
            return Some(reference);
        }
        let bare = self.names.resolve(reference, provider)?;
        self.objects.contains_key(bare).then_some(bare)
    }
}

pub(super) fn options(draft: &mut Draft<'_>) -> Options {
    let all = draft.each(|reading| &reading.dynamic.tls.options);
    let names = names_of(&all);
    let mut objects = Objects::new();
    for (provider, name, options) in all {
        let Some(bare) = names.bare(provider, name) else {
            continue;
        };
        if name == "default" && bare != "default" {
            draft.leave_out(
                "tls options",
                provider,
                name,
                "another provider's are the default",
            );
            continue;
        }
        match check_key(bare).and_then(|()| one(options)) {
            Ok(object) => {
                objects.insert(bare.to_owned(), object);
            }
            Err(reason) => draft.leave_out("tls options", provider, name, reason),
        }
    }
    Options { names, objects }
}

fn one(options: &TlsOptions) -> Result<Object, String> {
    let client_auth = options.client_auth.as_ref().map(|auth| {
        Object::default()
            .texts("caFiles", auth.ca_files.iter().map(String::as_str))
            .text("clientAuthType", auth.client_auth_type.as_deref())
    });
    let version = |key: &str, version: &Option<String>| match version.as_deref() {
        None | Some("" | "VersionTLS12" | "VersionTLS13") => Ok(()),
        Some(other) => Err(format!(
            "{key} {other:?} is neither VersionTLS12 nor VersionTLS13"
        )),
    };
    // As a node itself does with these.
    let least = match options.min_version.as_deref() {
        None | Some("" | "VersionTLS10" | "VersionTLS11") => "VersionTLS12",
        Some(version) => version,
    };
    version("minVersion", &Some(least.to_owned()))?;
    version("maxVersion", &options.max_version)?;
    let object = Object::default()
        // The default, written out: an object with nothing in it would be refused.
        .text("minVersion", Some(least))
        .text("maxVersion", options.max_version.as_deref())
        .texts("cipherSuites", options.cipher_suites.iter().map(String::as_str))
        .texts(
            "curvePreferences",
            options.curve_preferences.iter().map(String::as_str),
        )
        .object("clientAuth", client_auth)
        .on("sniStrict", options.sni_strict)
        .texts(
            "alpnProtocols",
            options.alpn_protocols.iter().flatten().map(String::as_str),
        )
        .on("disableSessionTickets", options.disable_session_tickets);
    Ok(object)
}

/// The section.
pub(super) fn section(draft: &mut Draft<'_>, options: Options) -> Object {
    let section = Object::default().object("options", Some(super::section(options.objects)));
    if !draft.terms.certificates {
        return section;
    }
    let mut certificates = Vec::new();
    let mut refused = Vec::new();
    let mut default: Option<Object> = None;
    for reading in draft.readings {
        let tls = &reading.dynamic.tls;
        for one in &tls.certificates {
            match pair(one, true) {
                Ok(object) => certificates.push(object.into()),
                Err(reason) => refused.push((reading.provider, reason)),
            }
        }
        let store: Option<&TlsStore> = tls.stores.get("default");
        let first = store.and_then(|store| store.default_certificate.as_ref());
        if let Some(first) = first.filter(|_| default.is_none()) {
            match pair(first, true) {
                Ok(object) => default = Some(object),
                Err(reason) => refused.push((reading.provider, reason)),
            }
        }
    }
    for (provider, reason) in refused {
        draft.leave_out("certificate", provider, "", reason);
    }
    let section = match certificates.is_empty() {
        true => section,
        false => section.list("certificates", certificates),
    };
    let store = default.map(|pair| Object::default().object("defaultCertificate", Some(pair)));
    section.object("stores", Some(Object::default().object("default", store)))
}
