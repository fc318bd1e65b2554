//! The labels `osvc.l4`: `enable`, `port` and `check` of the earlier system. They ask for an active check of the
//! container's TCP service; what `constellation.tcp.services` says of the same service counts more.

use std::collections::BTreeMap;
use std::sync::Arc;

use constellation_config::dynamic::{CheckMode, HealthCheckOptions, Layered as _, ServiceOptions};

use super::streams::TcpDefinition;
use crate::sources::Section;
use crate::sources::docker::container::Container;

const ENABLE: &str = "osvc.l4.enable";
const PORT: &str = "osvc.l4.port";
const CHECK: &str = "osvc.l4.check";

/// Adds the check to the options of the service that the labels mean; why they mean none goes to the remarks.
pub(super) fn check(
    container: &Container,
    tcp: &TcpDefinition,
    options: &mut BTreeMap<(Section, String), Arc<ServiceOptions>>,
    remarks: &mut Vec<String>,
) {
    let label = |key: &str| container.labels.get(key).map_or("", |value| value.trim());
    let (mode, service) = match (enabled(label(ENABLE)), mode(label(CHECK))) {
        (Ok(false), _) => return,
        (Ok(true), Ok(mode)) => match service(label(PORT), tcp) {
            Ok(service) => (mode, service),
            Err(problem) => return remarks.push(problem),
        },
        (Err(problem), _) | (_, Err(problem)) => return remarks.push(problem),
    };
    let check = ServiceOptions {
        health_check: Some(HealthCheckOptions {
            enabled: Some(true),
            mode: Some(mode),
            ..HealthCheckOptions::default()
        }),
        ..ServiceOptions::default()
    };
    let said = options.entry((Section::Tcp, service.to_owned())).or_default();
    *said = Arc::new(said.over(&check));
}

fn enabled(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "" | "false" | "0" => Ok(false),
        "true" | "1" => Ok(true),
        _ => Err(format!(
            "label `{ENABLE}`: `{text}` is not a boolean, so there is no check; write `true` or `false`"
        )),
    }
}

fn mode(text: &str) -> Result<CheckMode, String> {
    match text.to_ascii_lowercase().as_str() {
        "" | "tcp" => Ok(CheckMode::Tcp),
        "redis" => Ok(CheckMode::Redis),
        _ => Err(format!(
            "label `{CHECK}`: `{text}` is not a check that there is, so there is none; write `tcp` or `redis`"
        )),
    }
}

/// The service at the port; without a port the only one there is.
fn service<'a>(port: &str, tcp: &'a TcpDefinition) -> Result<&'a str, String> {
    let named = || tcp.ports.keys().map(String::as_str);
    let mut at_port = tcp.ports.iter().filter(|(_, at)| port.is_empty() || *at == port);
    match (at_port.next(), at_port.next()) {
        (Some((service, _)), None) => Ok(service),
        (Some(_), Some(_)) => Err(format!(
            "label `{ENABLE}` has no effect: it may mean each of the TCP services {}; set `{PORT}` to the port of one, or \
             `constellation.tcp.services.NAME.healthCheck`",
            named().collect::<Vec<_>>().join(", ")
        )),
        (None, _) if tcp.ports.is_empty() => Err(format!(
            "label `{ENABLE}` has no effect: the container has no TCP service to check; add `traefik.tcp` labels"
        )),
        (None, _) => Err(format!(
            "label `{ENABLE}` has no effect: none of the TCP services {} is at port `{port}`; correct `{PORT}`",
            named().collect::<Vec<_>>().join(", ")
        )),
    }
}
