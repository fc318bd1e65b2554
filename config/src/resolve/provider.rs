//! `providers` resolved.

use std::path::PathBuf;

use super::{Judge, given};
use crate::raw::{RawCertificates, RawDocker, RawDockerTls, RawFile, RawProviders};
use crate::resolved::{CertificatesProvider, DockerProvider, DockerTls, FileProvider, FileSource, Providers};

pub(super) fn all(raw: &RawProviders, judge: &mut Judge<'_>) -> Providers {
    let docker = raw.docker.as_ref().filter(|docker| docker.enabled);
    Providers {
        docker: docker.map(|docker| self::docker(docker, judge)),
        file: raw.file.as_ref().and_then(|file| self::file(file, judge)),
        certificates: raw
            .certificates
            .as_ref()
            .and_then(|certificates| self::certificates(certificates, judge)),
    }
}

fn docker(raw: &RawDocker, judge: &mut Judge<'_>) -> DockerProvider {
    let key = "providers.docker";
    let endpoint = raw.endpoint.trim();
    let known = [
        ("unix://", true),
        ("tcp://", false),
        ("http://", false),
        ("https://", false),
    ];
    let scheme = known
        .iter()
        .find_map(|(scheme, path)| Some((endpoint.strip_prefix(scheme)?, *path)));
    match scheme {
        Some((path, true)) if path.starts_with('/') => {}
        Some((host, false)) if !host.trim_end_matches('/').is_empty() => {}
        _ => {
            let error = judge.refuse(
                &format!("{key}.endpoint"),
                "is not where a Docker engine can listen",
            );
            error.expects(
                "unix:///path/to/docker.sock, tcp://HOST:PORT, http://HOST:PORT or https://HOST:PORT",
            );
            if endpoint.starts_with("ssh://") {
                error.advises("forward the socket with `ssh -L` and name the local end");
            } else if endpoint.starts_with('/') {
                error.advises(format!("write `unix://{endpoint}`"));
            }
        }
    }
    if !raw.allow_empty_services {
        judge.warn(format!(
            "{key}.allowEmptyServices: false has no effect: a route never vanishes because its container stopped, it \
             answers 503"
        ));
    }
    if raw.default_rule.trim().is_empty() {
        judge
            .refuse(&format!("{key}.defaultRule"), "is empty")
            .advises("leave the key out for Traefik's default");
    }
    DockerProvider {
        endpoint: endpoint.to_owned(),
        tls: raw.tls.as_ref().map(|tls| self::tls(tls, judge)),
        exposed_by_default: raw.exposed_by_default,
        network: raw.network.clone(),
        default_rule: raw.default_rule.clone(),
        constraints: given(raw.constraints.as_deref()),
        use_bind_port_ip: raw.use_bind_port_ip,
        http_client_timeout: raw.http_client_timeout.limit(),
        removed_grace_period: raw.removed_grace_period.0,
        stopped_grace_period: raw.stopped_grace_period.limit(),
    }
}

fn tls(raw: &RawDockerTls, judge: &mut Judge<'_>) -> DockerTls {
    let key = "providers.docker.tls";
    let (cert, client_key) = (given(raw.cert.as_deref()), given(raw.key.as_deref()));
    let missing = match (&cert, &client_key) {
        (Some(_), None) => Some(("cert", "key")),
        (None, Some(_)) => Some(("key", "cert")),
        _ => None,
    };
    if let Some((given, missing)) = missing {
        judge
            .refuse(
                &format!("{key}.{given}"),
                format!("is given without {key}.{missing}"),
            )
            .advises("give both, or neither");
    }
    DockerTls {
        ca: given(raw.ca.as_deref()),
        cert,
        key: client_key,
        insecure_skip_verify: raw.insecure_skip_verify,
    }
}

fn file(raw: &RawFile, judge: &mut Judge<'_>) -> Option<FileProvider> {
    let key = "providers.file";
    let source = match (given(raw.filename.as_deref()), given(raw.directory.as_deref())) {
        (Some(file), None) => FileSource::File(file),
        (None, Some(directory)) => FileSource::Directory(directory),
        (Some(_), Some(_)) => {
            judge
                .refuse(
                    &format!("{key}.filename"),
                    format!("and {key}.directory are both given"),
                )
                .advises("keep one of them");
            return None;
        }
        (None, None) => {
            judge
                .refuse(key, "names nothing to read")
                .expects("the key `filename` or the key `directory`");
            return None;
        }
    };
    Some(FileProvider {
        source,
        watch: raw.watch,
    })
}

fn certificates(raw: &RawCertificates, judge: &mut Judge<'_>) -> Option<CertificatesProvider> {
    let key = "providers.certificates";
    if raw.directory.is_empty() {
        judge
            .refuse(key, "names nothing to read")
            .expects("the key `directory`: a path or a list of paths");
        return None;
    }
    let mut directories: Vec<PathBuf> = Vec::with_capacity(raw.directory.len());
    for (index, directory) in raw.directory.iter().enumerate() {
        let at = format!("{key}.directory[{index}]");
        match given::<PathBuf>(Some(directory)) {
            None => {
                judge.refuse(&at, "is empty").expects("a path");
            }
            Some(directory) if directories.contains(&directory) => {
                judge
                    .refuse(&at, "is in the list twice")
                    .advises("keep one of them");
            }
            Some(directory) => directories.push(directory),
        }
    }
    Some(CertificatesProvider {
        directories,
        watch: raw.watch,
    })
}
