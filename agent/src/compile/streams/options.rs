//! What is said of a TCP or UDP service beside its servers, as a policy: the same options as for HTTP, without those that
//! are about requests.

use std::sync::Arc;

use constellation_config::dynamic::{
    Algorithm, CheckMode, HealthCheckOptions, Layered as _, OutlierOptions, RetryOptions, ServiceOptions,
    TcpHealthCheck,
};
use constellation_table::{Policy, Service};

use super::services::Of;
use super::{Compiled, Input, Section};
use crate::compile::{balancer, names, policy};
use crate::sources::Problem;

/// Traefik's options of checks as ours; those that are wrong keep their defaults, as in Traefik.
pub(super) fn health_check(of: &Of<'_>, check: &TcpHealthCheck, compiled: &mut Compiled) -> ServiceOptions {
    let mut warnings = Vec::new();
    let options = HealthCheckOptions {
        enabled: Some(true),
        mode: Some(CheckMode::Tcp),
        send: check.send.clone(),
        expect: check.expect.clone(),
        port: balancer::check_port(check.port, &mut warnings),
        ..balancer::check_times(
            check.interval.as_deref(),
            check.unhealthy_interval.as_deref(),
            check.timeout.as_deref(),
            &mut warnings,
        )
    };
    for warning in warnings {
        of.warn(compiled, warning);
    }
    ServiceOptions {
        health_check: Some(options),
        ..ServiceOptions::default()
    }
}

/// What the service itself says over what Traefik's options say over the defaults; the same object while it is equal.
pub(super) fn policy(
    of: &Of<'_>,
    traefik: &ServiceOptions,
    old: Option<&Arc<Service>>,
    compiled: &mut Compiled,
) -> Arc<Policy> {
    let mut ours = said(of);
    for message in without_meaning(&ours) {
        of.warn(compiled, message);
    }
    streams_only(&mut ours);
    if let Some(check) = &mut ours.health_check
        && (check.mode.is_some() || check.path.is_some())
    {
        check.enabled.get_or_insert(true);
    }
    let mut complete = ours
        .over(traefik)
        .over(&defaults(&of.around.statics.service_defaults));
    let other_port = |check: &HealthCheckOptions| check.port.is_some_and(|port| port > 0);
    if of.section == Section::Udp
        && let Some(check) = &mut complete.health_check
        && check.enabled == Some(true)
        && !other_port(check)
    {
        check.enabled = Some(false);
        of.warn(
            compiled,
            "healthCheck: datagrams can't be checked, so its servers are not; name a TCP port that tells of the server with \
             healthCheck.port",
        );
    }
    let mut warnings = Vec::new();
    let policy = policy::policy(&complete, &mut warnings);
    for warning in warnings {
        of.warn(compiled, warning);
    }
    match old {
        Some(old) if *old.policy == policy => old.policy.clone(),
        _ => Arc::new(policy),
    }
}

/// What `serviceDefaults` say of streams. How to ask HTTP servers says nothing to others; how often does.
fn defaults(of_all: &ServiceOptions) -> ServiceOptions {
    let mut defaults = of_all.clone();
    let times = of_all.health_check.clone().unwrap_or_default();
    let times = HealthCheckOptions {
        interval: times.interval,
        unhealthy_interval: times.unhealthy_interval,
        timeout: times.timeout,
        healthy_threshold: times.healthy_threshold,
        unhealthy_threshold: times.unhealthy_threshold,
        mode: Some(CheckMode::Tcp),
        ..HealthCheckOptions::default()
    };
    let built_in = ServiceOptions::built_in().health_check.unwrap_or_default();
    defaults.health_check = Some(times.over(&built_in));
    streams_only(&mut defaults);
    defaults
}

/// Replaces what needs requests by what comes nearest to it for streams.
fn streams_only(options: &mut ServiceOptions) {
    if let Some(balance) = &mut options.balance {
        if balance.algorithm == Some(Algorithm::LeastTime) {
            balance.algorithm = Some(Algorithm::LeastRequests);
        }
        if balance.hash.as_deref().is_some_and(|key| key != "client") {
            balance.hash = Some("client".to_owned());
        }
    }
}

/// One text for each option that says nothing of streams.
fn without_meaning(options: &ServiceOptions) -> Vec<String> {
    let ServiceOptions {
        balance,
        drain,
        hedge,
        limits,
        outlier,
        retry,
        ..
    } = options;
    let mut messages = Vec::new();
    let balance = balance.clone().unwrap_or_default();
    if balance.algorithm == Some(Algorithm::LeastTime) {
        messages.push(
            "balance.algorithm leastTime goes by the times of responses, and streams have none: leastRequests is used, by \
             connections; write that"
                .to_owned(),
        );
    }
    if let Some(key) = balance.hash.filter(|key| key != "client") {
        messages.push(format!(
            "balance.hash {key:?} looks into requests: the client's address is hashed; write client"
        ));
    }
    let (drain, limits) = (
        drain.clone().unwrap_or_default(),
        limits.clone().unwrap_or_default(),
    );
    let OutlierOptions { unanswered, .. } = outlier.clone().unwrap_or_default();
    let RetryOptions {
        attempts: _,
        enabled: _,
        backoff: _,
        max_backoff: _,
        budget_min,
        budget_percent,
        idempotency_key,
        per_try_timeout,
        replay_bytes,
        statuses,
        timeout,
    } = retry.clone().unwrap_or_default();
    let given = [
        ("drain.requests", drain.requests.is_some()),
        ("hedge", hedge.is_some()),
        ("limits.maxBodyBytes", limits.max_body_bytes.is_some()),
        ("limits.queue", limits.queue.is_some()),
        ("limits.queueTimeout", limits.queue_timeout.is_some()),
        ("outlier.unanswered", unanswered.is_some()),
        ("retry.budgetMin", budget_min.is_some()),
        ("retry.budgetPercent", budget_percent.is_some()),
        ("retry.idempotencyKey", idempotency_key.is_some()),
        ("retry.perTryTimeout", per_try_timeout.is_some()),
        ("retry.replayBytes", replay_bytes.is_some()),
        ("retry.statuses", statuses.is_some()),
        ("retry.timeout", timeout.is_some()),
    ];
    let given = given.into_iter().filter(|(_, given)| *given);
    messages.extend(given.map(|(key, _)| {
        format!("the option {key} is about requests and has no effect on a service of streams: remove it")
    }));
    messages
}

/// What providers say of the service beside its definition; its own provider first.
fn said(of: &Of<'_>) -> ServiceOptions {
    let mut layers: Vec<(bool, &Arc<ServiceOptions>)> = Vec::new();
    for input in of.around.inputs {
        let services = &input.options(of.section).services;
        let own = input.provider == of.input.provider;
        let local = services.get(of.name).filter(|_| own);
        let qualified = services.get(&*names::qualify(of.name, of.input.provider));
        layers.extend(local.into_iter().chain(qualified).map(|options| (!own, options)));
    }
    layers.sort_by_key(|(foreign, _)| *foreign);
    layers
        .into_iter()
        .fold(ServiceOptions::default(), |below, (_, above)| above.over(&below))
}

/// Options of services that don't exist, or that have no servers of their own to apply them to.
pub(super) fn without_effect(input: &Input, inputs: &[Input], compiled: &mut Compiled) {
    for section in [Section::Tcp, Section::Udp] {
        for reference in input.options(section).services.keys() {
            let (name, owner) = names::split_reference(reference, input.provider);
            let mut owners = inputs.iter().filter(|other| other.provider == owner);
            let has_servers = owners.find_map(|other| match section {
                Section::Tcp => Some(other.tcp.services.get(name)?.load_balancer.is_some()),
                Section::Udp => Some(other.udp.services.get(name)?.load_balancer.is_some()),
            });
            let message = match has_servers {
                Some(true) => continue,
                Some(false) => format!(
                    "the {} service {name}@{owner} has no servers of its own, so these options have no effect: give them to \
                     the services it is built of",
                    section.key()
                ),
                None => format!(
                    "there is no {} service {name}@{owner}, so these options have no effect: write the name as the service \
                     has it, or NAME@PROVIDER for another provider's",
                    section.key()
                ),
            };
            compiled.problems.push(Problem {
                subject: format!("options of service {}", section.qualify(name, owner)),
                message,
            });
        }
    }
}
