//! `edge.mode` and `traefikProvider`.

use constellation_config::{Config, EdgeMode, Serve, SteeringMode};

use super::load;

fn config(text: &str, env: &[(&str, &str)]) -> Config {
    match load("yaml", text, env, &[]) {
        Ok(loaded) => loaded.config,
        Err((errors, _)) => panic!("{text} {env:?}: {errors}"),
    }
}

#[test]
fn the_mode_says_what_listens() {
    let direct = config("", &[]);
    assert_eq!(direct.edge.mode, EdgeMode::Direct);
    assert_eq!(direct.traefik_provider, None);
    for (mode, expected) in [
        ("behind-traefik", EdgeMode::BehindTraefik),
        ("provider-only", EdgeMode::ProviderOnly),
    ] {
        let config = config(&format!("edge: {{mode: {mode}}}"), &[]);
        assert_eq!(config.edge.mode, expected);
        assert_eq!(config.edge.serve, Serve::EveryNode);
        assert_eq!(config.edge.steering, SteeringMode::Off);
        // The names stay, as routers use them.
        let names: Vec<&str> = config.entry_points.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["web", "websecure"]);
        assert!(config.entry_points.iter().all(|e| e.addresses.is_empty()));
        let provider = config.traefik_provider.unwrap();
        assert_eq!(provider.address.to_string(), "127.0.0.1:8081");
        assert_eq!(provider.failover.address.to_string(), "127.0.0.1:8082");
    }
}

#[test]
fn the_section_and_the_variables_switch_the_document_on() {
    let port = |config: Config| {
        config
            .traefik_provider
            .map(|provider| provider.address.to_string())
    };
    let on = "traefikProvider: true";
    assert_eq!(port(config(on, &[])).as_deref(), Some("127.0.0.1:8081"));
    let variable = [("TRAEFIK_HTTP_PROVIDER_PORT", "9081")];
    assert_eq!(port(config("", &variable)).as_deref(), Some("127.0.0.1:9081"));
    let file = "traefikProvider: {address: '10.0.0.1:1', token: x}";
    assert_eq!(port(config(file, &variable)).as_deref(), Some("10.0.0.1:9081"));
    let resolver = [("TRAEFIK_CERT_RESOLVER", "letsencrypt")];
    assert_eq!(config("", &resolver).traefik_provider, None);
    let of = |text: &str| config(text, &resolver).traefik_provider.unwrap().cert_resolver;
    assert_eq!(of(on).as_deref(), Some("letsencrypt"));
    assert_eq!(of("edge: {mode: behind-traefik}").as_deref(), Some("letsencrypt"));
}

#[test]
fn what_contradicts_itself_is_refused() {
    for (text, expected) in [
        (
            "{edge: {mode: behind-traefik, serve: holder}}",
            "edge.serve: has no meaning with edge.mode behind-traefik",
        ),
        (
            "{edge: {mode: provider-only, steering: ebpf}}",
            "edge.steering: has no meaning with edge.mode provider-only",
        ),
        (
            "{traefikProvider: {address: '127.0.0.1:8080'}}",
            "traefikProvider.address: is taken by control.address",
        ),
        (
            "{traefikProvider: {failover: {address: '127.0.0.1:8081'}}}",
            "traefikProvider.failover.address: is taken by traefikProvider.address",
        ),
        (
            "{traefikProvider: {failover: {address: ':8082'}}}",
            "traefikProvider.failover.address: can be reached at every address",
        ),
        (
            "{traefikProvider: {failover: {advertise: 'http://a'}}}",
            "traefikProvider.failover.advertise: is not HOST:PORT",
        ),
        (
            "{traefikProvider: {address: ':8081', certificates: true}}",
            "traefikProvider.certificates: would hand private keys",
        ),
        (
            "{traefikProvider: {tls: {certFile: a.pem}}}",
            "traefikProvider.tls.keyFile: is missing",
        ),
        (
            "{traefikProvider: true, entryPoints: {from-traefik: {address: ':1'}}}",
            "entryPoints.from-traefik: has the name of traefikProvider.failover",
        ),
    ] {
        let (errors, _) = load("yaml", text, &[], &[]).expect_err(text);
        assert!(errors.contains(expected), "{text}: {errors}");
    }
}
