//! TLS options by host, certificates and stores.

use super::*;

#[test]
fn tls_options_apply_to_the_hosts_of_their_routers() {
    let tls = |options: &str| json!({"options": options});
    let on = |host: &str, tls: Value| json!({"rule": format!("Host(`{host}`)"), "service": "s", "tls": tls, "entryPoints": ["websecure"]});
    let mut document = document(&[
        ("strict", on("strict.test", tls("strict"))),
        ("default", on("default.test", tls("default"))),
        ("conflict-a", on("conflict.test", tls("strict"))),
        ("conflict-b", on("conflict.test", json!({}))),
        (
            "hostless",
            json!({"rule": "PathPrefix(`/x`)", "service": "s", "tls": tls("strict")}),
        ),
    ]);
    document["tls"] = json!({
        "options": {"strict": {"sniStrict": true}, "default": {"minVersion": "VersionTLS13"}},
        "certificates": [{"certFile": "/c.pem", "keyFile": "/k.pem"}],
        "stores": {"default": {"defaultCertificate": {"certFile": "/d.pem", "keyFile": "/e.pem"}}, "other": {}},
    });
    let compiled = compiler().compile(&[reading("file", document)], 1);
    let expected = [
        ("conflict-a@file", "conflict.test", Some("strict@file")),
        ("conflict-b@file", "conflict.test", None),
        ("default@file", "default.test", None),
        ("hostless@file", "", Some("strict@file")),
        ("strict@file", "strict.test", Some("strict@file")),
    ];
    assert_eq!(asked(&compiled), expected);
    let options: Vec<&str> = compiled.tls.options.keys().map(AsRef::as_ref).collect();
    assert_eq!(options, ["default", "strict@file"]);
    assert_eq!(compiled.tls.certificates.len(), 1);
    assert!(compiled.tls.default_certificate.is_some());
    for (subject, words) in [
        ("router hostless@file", "the rule has no Host(...)"),
        ("tls.stores other@file", "only the store \"default\""),
    ] {
        let found = compiled
            .problems
            .iter()
            .any(|p| p.subject == subject && p.message.contains(words));
        assert!(found, "{subject}: {:?}", compiled.problems);
    }
    assert_eq!(compiled.problems.len(), 2, "{:?}", compiled.problems);
}

/// Routers that ask for TLS options, and those beside them: name, first host, options.
fn asked(compiled: &Compiled) -> Vec<(&str, &str, Option<&str>)> {
    let routers = compiled.tls.routers.iter();
    let mut all: Vec<_> = routers
        .map(|router| {
            (
                &*router.name,
                router.hosts.first().map_or("", AsRef::as_ref),
                router.options.as_deref(),
            )
        })
        .collect();
    all.sort();
    all
}

#[test]
fn an_empty_list_of_protocols_is_none() {
    let document = json!({"tls": {"options": {"open": {"alpnProtocols": []}}}});
    let compiled = compiler().compile(&[reading("file", document)], 1);
    assert_eq!(compiled.tls.options["open@file"].alpn_protocols, None);
}

#[test]
fn default_tls_options_of_two_providers_are_nobodys() {
    let document = json!({"tls": {"options": {"default": {"sniStrict": true}}}});
    let compiled = compiler().compile(
        &[reading("docker", document.clone()), reading("file", document)],
        1,
    );
    assert!(compiled.tls.options.is_empty());
    assert!(
        compiled.problems[0].message.contains("docker, file"),
        "{:?}",
        compiled.problems
    );
}
