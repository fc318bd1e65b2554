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
    let hosts: Vec<(&str, &str)> = compiled
        .tls
        .hosts
        .iter()
        .map(|h| (&*h.host, &*h.options))
        .collect();
    assert_eq!(hosts, [("strict.test", "strict@file")]);
    let options: Vec<&str> = compiled.tls.options.keys().map(AsRef::as_ref).collect();
    assert_eq!(options, ["default", "strict@file"]);
    assert_eq!(compiled.tls.certificates.len(), 1);
    assert!(compiled.tls.default_certificate.is_some());
    for (subject, words) in [
        (
            "host conflict.test",
            "conflict-a@file: strict@file, conflict-b@file: default",
        ),
        ("router hostless@file", "the rule has no Host(...)"),
        ("tls.stores other@file", "only the store \"default\""),
    ] {
        let found = compiled
            .problems
            .iter()
            .any(|p| p.subject == subject && p.message.contains(words));
        assert!(found, "{subject}: {:?}", compiled.problems);
    }
    assert_eq!(compiled.problems.len(), 3, "{:?}", compiled.problems);
}

/// A connection's options follow from its server name; what a router asks for holds for whatever it takes.
#[test]
fn tls_options_apply_to_wildcard_hosts_and_to_their_routers() {
    let on = |rule: &str, tls: Value, entry: &str| json!({"rule": rule, "service": "s", "tls": tls, "entryPoints": [entry]});
    let strict = json!({"options": "strict"});
    let mut document = document(&[
        ("all", on("Host(`*.a.test`)", strict.clone(), "websecure")),
        ("one", on("Host(`b.a.test`)", json!({}), "websecure")),
        (
            "half",
            on("Host(`c.test`) || Host(`d.test`)", strict, "websecure"),
        ),
        ("other", on("Host(`d.test`)", json!({}), "websecure")),
    ]);
    document["tls"] = json!({"options": {"strict": {"sniStrict": true}, "open": {"alpnProtocols": []}}});
    let compiled = compiler().compile(&[reading("file", document)], 1);
    let hosts = compiled.tls.hosts.iter();
    let hosts: Vec<(&str, &str)> = hosts.map(|h| (&*h.host, &*h.options)).collect();
    let expected = [("*.a.test", "strict@file"), ("b.a.test", "default")];
    assert_eq!(hosts, expected);
    let routers = compiled.tls.routers.iter();
    let routers: Vec<(&str, &str)> = routers.map(|r| (&*r.router, &*r.options)).collect();
    assert_eq!(routers, [("all@file", "strict@file")]);
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
