//! Defaults < file < environment < flags.

use std::path::PathBuf;
use std::time::Duration;

use constellation_config::{
    CertificatesProvider, Config, DockerTls, EntryPoint, FileSource, LoadOptions, RedirectionTarget,
};

use super::load;

/// Variables or flags.
type Pairs = &'static [(&'static str, &'static str)];

fn config(text: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Config {
    match load("yaml", text, env, flags) {
        Ok(loaded) => loaded.config,
        Err((errors, _)) => panic!("{text} {env:?} {flags:?}: {errors}"),
    }
}

fn refused(text: &str, env: &[(&str, &str)]) -> String {
    load("yaml", text, env, &[]).expect_err(text).0
}

fn addresses(entry_points: &[EntryPoint]) -> Vec<String> {
    let shown = |entry_point: &EntryPoint| {
        let addresses: Vec<String> = entry_point.addresses.iter().map(ToString::to_string).collect();
        format!("{}={}", entry_point.name, addresses.join("+"))
    };
    entry_points.iter().map(shown).collect()
}

#[test]
fn each_layer_wins_over_the_one_before() {
    let file = "control: {address: ':1'}";
    let env = [("CONSTELLATION__CONTROL__ADDRESS", ":2")];
    let flags = [("control.address", ":3")];
    let port = |config: Config| config.control.address.port();
    assert_eq!(port(config("", &[], &[])), 8080);
    assert_eq!(port(config(file, &[], &[])), 1);
    assert_eq!(port(config(file, &env, &[])), 2);
    assert_eq!(port(config(file, &env, &flags)), 3);
    // The general form of a variable wins over the one of the earlier system.
    let both = [("API_PORT", "4"), env[0]];
    assert_eq!(port(config(file, &both, &[])), 2);
}

#[test]
fn sections_of_the_file_replace_default_ones_and_variables_change_them() {
    let table: [(&str, Pairs, &[&str]); 8] = [
        ("", &[], &["web=[::]:80", "websecure=[::]:443"]),
        ("entryPoints: {}", &[], &["web=[::]:80", "websecure=[::]:443"]),
        ("entryPoints: {x: {address: ':1'}}", &[], &["x=[::]:1"]),
        (
            "",
            &[("CONSTELLATION__ENTRYPOINTS__WEB__ADDRESS", "127.0.0.1:8000")],
            &["web=127.0.0.1:8000", "websecure=[::]:443"],
        ),
        (
            "",
            &[("CONSTELLATION__ENTRYPOINTS__NEW__ADDRESS", ":9")],
            &["new=[::]:9", "web=[::]:80", "websecure=[::]:443"],
        ),
        (
            "entryPoints: {web-in: {address: ['127.0.0.1:1', '127.0.0.1:2']}}",
            &[("constellation__entrypoints__WEB_IN__address__1", "127.0.0.1:3")],
            &["web-in=127.0.0.1:1+127.0.0.1:3"],
        ),
        (
            "entryPoints: {web: {address: '127.0.0.1:1, [::1]:1'}}",
            &[("TRAEFIK_WEB_PORT", "8000"), ("TRAEFIK_WEBSECURE_PORT", "8443")],
            &["web=127.0.0.1:8000+[::1]:8000"],
        ),
        (
            "",
            &[("TRAEFIK_WEB_PORT", "8000"), ("TRAEFIK_WEBSECURE_PORT", "8443")],
            &["web=[::]:8000", "websecure=[::]:8443"],
        ),
    ];
    for (text, env, expected) in table {
        assert_eq!(
            addresses(&config(text, env, &[]).entry_points),
            expected,
            "{text} {env:?}"
        );
    }
}

#[test]
fn docker_is_on_unless_the_file_lists_other_providers() {
    let table: [(&str, Pairs, bool); 9] = [
        ("", &[], true),
        ("providers:", &[], true),
        ("providers: {docker: {}}", &[], true),
        ("providers: {docker: true}", &[], true),
        ("providers: {docker: false, file: {filename: a}}", &[], false),
        ("providers: {docker: {enabled: false}}", &[], false),
        ("providers: {file: {filename: a}}", &[], false),
        (
            "",
            &[("CONSTELLATION__PROVIDERS__DOCKER__ENABLED", "false")],
            false,
        ),
        ("", &[("CONSTELLATION__PROVIDERS__FILE__DIRECTORY", "/d")], true),
    ];
    for (text, env, on) in table {
        assert_eq!(
            config(text, env, &[]).providers.docker.is_some(),
            on,
            "{text} {env:?}"
        );
    }
    let env = [("CONSTELLATION__PROVIDERS__FILE__DIRECTORY", "/d")];
    let file = config("", &env, &[]).providers.file.unwrap();
    assert_eq!(
        (file.source, file.watch),
        (FileSource::Directory("/d".into()), true)
    );
}

#[test]
fn certificates_come_from_one_directory_or_several() {
    let table: [(&str, Pairs, &[&str], bool); 4] = [
        ("providers: {certificates: {directory: /a}}", &[], &["/a"], true),
        (
            "providers: {certificates: {directory: [/a, /b], watch: false}}",
            &[],
            &["/a", "/b"],
            false,
        ),
        (
            "",
            &[("CONSTELLATION__PROVIDERS__CERTIFICATES__DIRECTORY", "/a")],
            &["/a"],
            true,
        ),
        (
            "",
            &[("CONSTELLATION__PROVIDERS__CERTIFICATES__DIRECTORY__0", "/a")],
            &["/a"],
            true,
        ),
    ];
    for (text, env, directories, watch) in table {
        let expected = CertificatesProvider {
            directories: directories.iter().map(PathBuf::from).collect(),
            watch,
        };
        assert_eq!(
            config(text, env, &[]).providers.certificates,
            Some(expected),
            "{text} {env:?}"
        );
    }
}

#[test]
fn docker_variables_count_where_docker_is_on() {
    let env = [
        ("DOCKER_HOST", "tcp://10.0.0.1:2376"),
        ("DOCKER_CERT_PATH", "/certs/"),
        ("DOCKER_TLS_VERIFY", "1"),
    ];
    let docker = config("", &env, &[]).providers.docker.unwrap();
    assert_eq!(docker.endpoint, "tcp://10.0.0.1:2376");
    let tls = DockerTls {
        ca: Some("/certs/ca.pem".into()),
        cert: Some("/certs/cert.pem".into()),
        key: Some("/certs/key.pem".into()),
        insecure_skip_verify: false,
    };
    assert_eq!(docker.tls, Some(tls));
    assert_eq!(
        config("providers: {file: {filename: a}}", &env, &[])
            .providers
            .docker,
        None
    );
    assert_eq!(config("", &env[..2], &[]).providers.docker.unwrap().tls, None);
}

#[test]
fn variables_of_the_earlier_system() {
    let text = "node: {name: from-file}\ncontrol: {address: '127.0.0.2:1'}";
    let env = [
        ("NODE_NAME", "second"),
        ("TS_HOSTNAME", "first"),
        ("DOMAIN", "Example.ORG."),
        ("NODE_PRIORITY", "7"),
        ("API_PORT", "9000"),
        ("SMARTPROXY_TIMEOUT", "12s"),
        ("SMARTPROXY_IDLE_TIMEOUT", "34s"),
        ("SMARTPROXY_MAX_IDLE_CONNS_PER_HOST", "56"),
        ("BIND_PORT", "7950"),
        ("RAFT_PORT", "8301"),
        ("TAILSCALE_IP", "100.64.0.7"),
        ("PUBLIC_IP", "not read"),
    ];
    let read = config(text, &env, &[]);
    assert_eq!(
        (read.node.name.as_str(), read.node.domain.as_str()),
        ("first", "example.org")
    );
    assert_eq!(read.node.priority, 7);
    assert_eq!(read.control.address.to_string(), "127.0.0.2:9000");
    assert_eq!(read.servers_transport.dial_timeout, Duration::from_secs(12));
    assert_eq!(
        read.servers_transport.idle_conn_timeout,
        Some(Duration::from_secs(34))
    );
    assert_eq!(read.servers_transport.max_idle_conns_per_host, 56);
    let cluster = &read.cluster;
    assert_eq!((cluster.gossip.port, cluster.gossip.ip), (7950, None));
    assert_eq!((cluster.raft.port, cluster.raft.ip), (8301, None));
    assert_eq!(cluster.advertise, Some("100.64.0.7".parse().unwrap()));
    // Empty ones are not set.
    let empty = [("TS_HOSTNAME", ""), ("NODE_NAME", "second"), ("API_PORT", "")];
    let read = config(text, &empty, &[]);
    assert_eq!(
        (read.node.name.as_str(), read.control.address.port()),
        ("second", 1)
    );
    assert_eq!(config("", &[], &[]).node.name, "edge-1");

    for (host, expected) in [
        ("10.1.1.1", "10.1.1.1:8080"),
        ("::1", "[::1]:8080"),
        ("[::1]", "[::1]:8080"),
    ] {
        let read = config("", &[("BIND_ADDR", host)], &[]);
        assert_eq!(read.control.address.to_string(), expected);
    }
}

#[test]
fn errors_name_the_variable() {
    let table: [(&str, Pairs, &str); 6] = [
        (
            "log: {level: info}",
            &[
                ("CONSTELLATION__LOG__LEVEL", "loud"),
                ("CONSTELLATION__LOG__LEVLE", "info"),
            ],
            "environment variable CONSTELLATION__LOG__LEVEL: log.level: is not one of the allowed words\n    value: \"loud\"\n    expected: one of trace, debug, info, warn, error\nenvironment variable CONSTELLATION__LOG__LEVLE: log.LEVLE: unknown key\n    expected: one of filter, format, level\n    hint: did you mean `level`?",
        ),
        (
            "",
            &[("CONSTELLATION__ENTRYPOINTS__WEB__ADDRESS__5", ":80")],
            "environment variable CONSTELLATION__ENTRYPOINTS__WEB__ADDRESS__5: ENTRYPOINTS.WEB.ADDRESS.5: position 5 leaves a gap: the next free one is 1\n    expected: a position from 0 to 1",
        ),
        (
            "",
            &[("CONSTELLATION__ENTRYPOINTS____ADDRESS", ":80")],
            "environment variable CONSTELLATION__ENTRYPOINTS____ADDRESS: a part of the key is empty\n    expected: parts of a key with `__` between them, such as CONSTELLATION__CONTROL__ADDRESS",
        ),
        (
            "",
            &[("API_PORT", "eighty")],
            "environment variable API_PORT: is not a port number\n    value: \"eighty\"\n    expected: a number from 0 to 65535",
        ),
        (
            "",
            &[("DOCKER_HOST", "ssh://host")],
            "environment variable DOCKER_HOST: providers.docker.endpoint: is not where a Docker engine can listen\n    value: \"ssh://host\"\n    expected: unix:///path/to/docker.sock, tcp://HOST:PORT, http://HOST:PORT or https://HOST:PORT\n    hint: forward the socket with `ssh -L` and name the local end",
        ),
        (
            "entryPoints: {web: {address: ':80'}}",
            &[(
                "CONSTELLATION__ENTRYPOINTS__WEB__HTTP__REDIRECTIONS__ENTRYPOINT__TO",
                "wbe",
            )],
            "environment variable CONSTELLATION__ENTRYPOINTS__WEB__HTTP__REDIRECTIONS__ENTRYPOINT__TO: entryPoints.web.http.redirections.entryPoint.to: is not the name of an entry point\n    value: \"wbe\"\n    expected: a port such as `:8443`, because there is no other entry point",
        ),
    ];
    for (text, env, expected) in table {
        assert_eq!(refused(text, env), expected, "{text} {env:?}");
    }
    let (flag, _) = load("yaml", "", &[], &[("control.address", "x")]).unwrap_err();
    assert!(
        flag.starts_with("flag for control.address: control.address: is not an address with a port"),
        "{flag}"
    );
}

#[test]
fn what_a_file_says_is_resolved() {
    let text = "
entryPoints:
  web:
    address: 127.0.0.1:0
    asDefault: true
    forwardedHeaders: {trustedIPs: [10.1.2.3/8, 192.168.1.1]}
    http: {redirections: {entryPoint: {to: secure, permanent: false}}}
    transport: {keepAliveMaxRequests: 9, respondingTimeouts: {readTimeout: 0, idleTimeout: 5}, lifeCycle: {graceTimeOut: 20}}
    limits: {maxBodyBytes: 1000}
  secure: {address: '127.0.0.1:0', http: {tls: true, maxHeaderBytes: 2048}, http2: {maxConcurrentStreams: 7}}
accessLog: true
";
    let read = config(text, &[], &[]);
    let [secure, web] = &read.entry_points[..] else {
        panic!("two entry points")
    };
    assert_eq!((secure.as_default, web.as_default), (false, true));
    let networks: Vec<String> = web
        .forwarded_headers
        .trusted_ips
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(networks, ["10.0.0.0/8", "192.168.1.1/32"]);
    let redirection = web.redirection.as_ref().unwrap();
    assert_eq!(redirection.to, RedirectionTarget::EntryPoint("secure".to_owned()));
    assert_eq!(
        (redirection.scheme.as_str(), redirection.permanent),
        ("https", false)
    );
    assert_eq!(web.limits.max_requests_per_connection, Some(9));
    assert_eq!(web.limits.max_body_bytes, Some(1000));
    assert_eq!(
        (web.timeouts.read, web.timeouts.idle),
        (None, Some(Duration::from_secs(5)))
    );
    assert!(secure.tls.is_some() && web.tls.is_none());
    assert_eq!(
        (
            secure.limits.max_header_bytes,
            secure.limits.max_concurrent_streams
        ),
        (2048, 7)
    );
    assert_eq!(read.shutdown.drain, Duration::from_secs(20));
    assert!(read.access_log.is_some());
}

#[test]
fn what_deserves_a_look_is_said() {
    let warnings = |text: &str, env| load("yaml", text, env, &[]).unwrap().warnings;
    assert_eq!(warnings("", &[]), [""; 0]);
    let table: [(&str, Pairs, &str); 8] = [
        (
            "certificatesResolvers: {le: {}}",
            &[],
            "c.yaml:1:1: the section certificatesResolvers has no effect",
        ),
        (
            "TraefikProvider: {address: ':8081'}",
            &[],
            "traefikProvider.address [::]:8081 can be reached from other machines without a token",
        ),
        (
            "providers: {docker: {allowEmptyServices: false}}",
            &[],
            "providers.docker.allowEmptyServices: false has no effect",
        ),
        (
            "control: {address: ':1'}",
            &[],
            "can be reached from other machines without a token",
        ),
        (
            "serversTransport: {insecureSkipVerify: true}",
            &[],
            "are not verified",
        ),
        (
            "entryPoints: {a: {address: ':1', transport: {lifeCycle: {graceTimeOut: 1m}}}, b: {address: ':2'}}",
            &[],
            "graceTimeOut differs between entry points; 1m, the longest, counts for all",
        ),
        (
            "entryPoints: {a: {address: ':1', http: {tls: {certResolver: le}}}}",
            &[],
            "\"le\" has no effect",
        ),
        (
            "entryPoints: {a: {address: ':1'}}",
            &[("TRAEFIK_WEB_PORT", "1")],
            "no entry point named web",
        ),
    ];
    for (text, env, expected) in table {
        let said = warnings(text, env);
        assert!(said.len() == 1 && said[0].contains(expected), "{text}: {said:?}");
    }
}

#[test]
fn secrets_come_as_value_or_file_and_are_never_printed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    std::fs::write(&path, "s3cret\n").unwrap();
    let file = format!("control: {{tokenFile: {}}}", path.display());
    let variable = [("CONSTELLATION__CONTROL__TOKENFILE", path.to_str().unwrap())];
    let value = [("CONSTELLATION__CONTROL__TOKEN", "s3cret")];
    for (text, env) in [
        (file.as_str(), &[][..]),
        ("", &variable[..]),
        ("", &value[..]),
        ("control: {token: s3cret}", &[]),
    ] {
        let loaded = load("yaml", text, env, &[]).unwrap();
        assert_eq!(loaded.config.control.token.as_ref().unwrap().expose(), "s3cret");
        let prints = [format!("{loaded:?}"), loaded.effective.to_string()];
        assert!(prints.iter().all(|print| !print.contains("s3cret")), "{prints:?}");
    }
    std::fs::write(&path, " \n").unwrap();
    assert!(refused(&file, &[]).contains("control.tokenFile: the file is empty"));
}

#[test]
fn defaults_of_services_are_complete_whatever_is_given() {
    let text = "serviceDefaults: {retry: {attempts: 2}, breaker: false}";
    let env = [
        ("CONSTELLATION__SERVICEDEFAULTS__RETRY__BUDGETMIN", "9"),
        ("CONSTELLATION__SERVICEDEFAULTS__SLOWSTART", "0"),
    ];
    let defaults = config(text, &env, &[]).service_defaults;
    let mut expected = constellation_config::dynamic::ServiceOptions::built_in();
    let retry = expected.retry.as_mut().unwrap();
    (retry.attempts, retry.budget_min) = (Some(2), Some(9));
    expected.breaker.as_mut().unwrap().enabled = Some(false);
    expected.slow_start = Some(constellation_config::dynamic::Time(std::time::Duration::ZERO));
    assert_eq!(defaults, expected);
}

#[test]
fn the_effective_configuration_reads_as_the_same() {
    let first = load(
        "yaml",
        "log: {level: debug}\naccessLog: {sampling: 0.5}",
        &[("API_PORT", "9")],
        &[],
    )
    .unwrap();
    let second = load("json", &first.effective.to_string(), &[], &[]).unwrap();
    assert_eq!(first.config, second.config);
}

#[test]
fn the_file_is_named_by_a_variable_or_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("named.toml");
    std::fs::write(&path, "[log]\nlevel = 'warn'\n").unwrap();
    let options = |path: &std::path::Path| LoadOptions {
        env: vec![("CONFIG_FILE".to_owned(), path.display().to_string())],
        ..LoadOptions::default()
    };
    let loaded = Config::load(options(&path)).unwrap();
    assert_eq!(
        (loaded.file.as_deref(), loaded.config.log.level.as_str()),
        (Some(path.as_path()), "warn")
    );

    let missing = directory.path().join("missing.yaml");
    let refused = Config::load(options(&missing)).unwrap_err().to_string();
    assert_eq!(
        refused,
        format!(
            "{}: cannot be read: No such file or directory (os error 2)\n    hint: check the path, or leave the option out",
            missing.display()
        )
    );
    std::fs::write(directory.path().join("latin1.yaml"), b"log:\n  level: \xe4\n").unwrap();
    let refused = Config::load(options(&directory.path().join("latin1.yaml")))
        .unwrap_err()
        .to_string();
    assert!(
        refused.ends_with("latin1.yaml: is not UTF-8: line 2 holds other bytes\n    hint: save it as UTF-8"),
        "{refused}"
    );
}
