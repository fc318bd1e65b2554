//! What Traefik's `loadBalancer` says about health and balancing, as a layer of options and a cookie.
//!
//! Values that Traefik takes and replaces by its defaults are replaced here as well, with a warning; nothing but a
//! strategy that doesn't exist costs the service.

use std::time::Duration;

use constellation_config::duration;
use constellation_config::dynamic::{
    Algorithm, BalanceOptions, CheckMode, CheckScheme, Cookie, HealthCheck, HealthCheckOptions, LoadBalancer,
    OutlierOptions, PassiveHealthCheck, ServiceOptions, Sticky, Time,
};
use constellation_table::balance::{derived_name, sanitized_name};
use constellation_table::policy::{SameSite, StickyCookie};

/// The bounds of the time between two checks.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3600));
/// The bounds of the time for one check.
const TIMEOUTS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(600));

/// The layer of options; an error where Traefik would not serve the service either.
pub(super) fn options(balancer: &LoadBalancer, warnings: &mut Vec<String>) -> Result<ServiceOptions, String> {
    let health_check = balancer.health_check.as_ref();
    let passive = balancer.passive_health_check.as_ref();
    Ok(ServiceOptions {
        balance: strategy(balancer.strategy.as_deref())?,
        health_check: health_check.map(|check| health(check, warnings)),
        outlier: passive.map(|passive| outlier(passive, warnings)),
        ..ServiceOptions::default()
    })
}

fn strategy(name: Option<&str>) -> Result<Option<BalanceOptions>, String> {
    let algorithm = match name {
        None | Some("") => return Ok(None),
        Some("wrr") => Algorithm::RoundRobin,
        Some("p2c") => Algorithm::LeastRequests,
        Some("leasttime") => Algorithm::LeastTime,
        Some("hrw") => Algorithm::Hash,
        Some(other) => {
            return Err(format!(
                "unsupported load-balancer strategy {other:?}: write wrr, p2c, hrw or leasttime"
            ));
        }
    };
    Ok(Some(BalanceOptions {
        hash: (algorithm == Algorithm::Hash).then(|| "client".to_owned()),
        algorithm: Some(algorithm),
        bound: None,
    }))
}

fn health(check: &HealthCheck, warnings: &mut Vec<String>) -> HealthCheckOptions {
    let mode = match check.mode.as_deref() {
        Some("grpc") => CheckMode::Grpc,
        None | Some("" | "http") => CheckMode::Http,
        Some(other) => {
            warnings.push(format!(
                "loadBalancer.healthCheck.mode {other:?} is taken as http: write http or grpc; for connects alone set \
                 constellation.http.services.NAME.healthCheck.mode to tcp"
            ));
            CheckMode::Http
        }
    };
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    HealthCheckOptions {
        enabled: Some(true),
        follow_redirects: Some(check.follow_redirects.unwrap_or(true)),
        headers: Some(check.headers.clone()),
        hostname: given(&check.hostname),
        method: given(&check.method),
        mode: Some(mode),
        // Traefik asks for the health of the whole server, whatever the path.
        path: given(&check.path).filter(|_| mode == CheckMode::Http),
        port: check_port(check.port, warnings),
        status: number("status", check.status, 100, 599, "200 to 399", warnings),
        scheme: scheme(check.scheme.as_deref(), warnings),
        ..check_times(
            check.interval.as_deref(),
            check.unhealthy_interval.as_deref(),
            check.timeout.as_deref(),
            warnings,
        )
    }
}

/// The times of a check, and nothing else of it.
pub(super) fn check_times(
    interval: Option<&str>,
    unhealthy_interval: Option<&str>,
    timeout: Option<&str>,
    warnings: &mut Vec<String>,
) -> HealthCheckOptions {
    HealthCheckOptions {
        interval: time("interval", interval, INTERVALS, warnings),
        unhealthy_interval: time("unhealthyInterval", unhealthy_interval, INTERVALS, warnings),
        timeout: time("timeout", timeout, TIMEOUTS, warnings),
        ..HealthCheckOptions::default()
    }
}

/// The port of a check, where it is not the server's.
pub(super) fn check_port(port: Option<i64>, warnings: &mut Vec<String>) -> Option<u16> {
    number("port", port, 1, 65_535, "the server's port", warnings)
}

fn scheme(text: Option<&str>, warnings: &mut Vec<String>) -> Option<CheckScheme> {
    match text? {
        "" => None,
        "http" => Some(CheckScheme::Http),
        "https" => Some(CheckScheme::Https),
        other => {
            warnings.push(format!(
                "loadBalancer.healthCheck.scheme {other:?} is none of http and https: the server's is used"
            ));
            None
        }
    }
}

/// A number within bounds; 0 counts as absent, as in Traefik.
fn number(
    key: &str,
    number: Option<i64>,
    least: u16,
    most: u16,
    instead: &str,
    warnings: &mut Vec<String>,
) -> Option<u16> {
    let number = number.filter(|number| *number != 0)?;
    let fitting = u16::try_from(number).ok();
    let fitting = fitting.filter(|number| (least..=most).contains(number));
    if fitting.is_none() {
        warnings.push(format!(
            "loadBalancer.healthCheck.{key} {number} is out of range: write {least} to {most}; {instead} is used"
        ));
    }
    fitting
}

/// A duration within bounds; nothing and less is the default, as in Traefik.
fn time(
    key: &str,
    text: Option<&str>,
    (least, most): (Duration, Duration),
    warnings: &mut Vec<String>,
) -> Option<Time> {
    let text = text?;
    let Some(time) = duration::parse(text).filter(|time| !time.is_zero()) else {
        warnings.push(format!(
            "loadBalancer.healthCheck.{key} {text:?} is not more than zero: the default is used"
        ));
        return None;
    };
    let bounded = time.clamp(least, most);
    if bounded != time {
        warnings.push(format!(
            "loadBalancer.healthCheck.{key} {text:?} is out of range: {} is used",
            duration::format(bounded)
        ));
    }
    Some(Time(bounded))
}

/// Traefik leaves a server alone for as long as the window is.
fn outlier(passive: &PassiveHealthCheck, warnings: &mut Vec<String>) -> OutlierOptions {
    const DEFAULT_WINDOW: Duration = Duration::from_secs(10);
    const MOST_ATTEMPTS: u32 = 1000;
    let text = passive.failure_window.as_deref();
    let window = text.map_or(Some(DEFAULT_WINDOW), duration::parse);
    let window = window.filter(|window| !window.is_zero()).unwrap_or_else(|| {
        warnings.push(format!(
            "loadBalancer.passiveHealthCheck.failureWindow {:?} is not more than zero: the default 10s is used",
            text.unwrap_or_default()
        ));
        DEFAULT_WINDOW
    });
    let attempts = passive.max_failed_attempts.unwrap_or(1);
    let fitting = u32::try_from(attempts).ok();
    let fitting = fitting.filter(|attempts| (1..=MOST_ATTEMPTS).contains(attempts));
    let attempts = fitting.unwrap_or_else(|| {
        let bounded = if attempts < 1 { 1 } else { MOST_ATTEMPTS };
        warnings.push(format!(
            "loadBalancer.passiveHealthCheck.maxFailedAttempts {attempts} is out of range: {bounded} is used"
        ));
        bounded
    });
    OutlierOptions {
        consecutive_failures: Some(attempts),
        failure_window: Some(Time(window.min(INTERVALS.1))),
        ejection: Some(Time(window.clamp(INTERVALS.0, INTERVALS.1))),
        ..OutlierOptions::default()
    }
}

/// The cookie of a sticky service; `service` is its qualified name.
pub(super) fn cookie(
    sticky: Option<&Sticky>,
    service: &str,
    warnings: &mut Vec<String>,
) -> Option<StickyCookie> {
    let sticky = sticky?;
    let Some(cookie) = &sticky.cookie else {
        warnings
            .push("sticky has no cookie and so no effect: write sticky.cookie with its options".to_owned());
        return None;
    };
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    Some(StickyCookie {
        name: given(&cookie.name).map_or_else(|| derived_name(service), |name| sanitized_name(&name)),
        secure: cookie.secure,
        http_only: cookie.http_only,
        same_site: same_site(cookie, warnings),
        max_age: cookie.max_age,
        path: given(&cookie.path).map_or_else(|| "/".into(), Into::into),
        domain: given(&cookie.domain).map(Into::into),
    })
}

/// The name of the cookie that clients of a service have; `None`: they have none.
pub(crate) fn cookie_name(sticky: Option<&Sticky>, service: &str) -> Option<String> {
    let cookie = cookie(sticky, service, &mut Vec::new())?;
    Some(cookie.name.to_string())
}

fn same_site(cookie: &Cookie, warnings: &mut Vec<String>) -> Option<SameSite> {
    let text = cookie.same_site.as_deref().unwrap_or_default();
    match text.to_ascii_lowercase().as_str() {
        "none" => Some(SameSite::None),
        "lax" => Some(SameSite::Lax),
        "strict" => Some(SameSite::Strict),
        "" => None,
        _ => {
            warnings.push(format!(
                "sticky.cookie.sameSite {text:?} is none of none, lax and strict: it is left out"
            ));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(balancer: Value) -> (Result<ServiceOptions, String>, Vec<String>) {
        let balancer: LoadBalancer = serde_json::from_value(balancer).unwrap();
        let mut warnings = Vec::new();
        (options(&balancer, &mut warnings), warnings)
    }

    #[test]
    fn strategies_have_traefiks_names() {
        for (name, expected) in [
            ("wrr", Some(Algorithm::RoundRobin)),
            ("p2c", Some(Algorithm::LeastRequests)),
            ("leasttime", Some(Algorithm::LeastTime)),
            ("hrw", Some(Algorithm::Hash)),
            ("", None),
        ] {
            let (options, warnings) = read(json!({"strategy": name}));
            let algorithm = options.unwrap().balance.and_then(|balance| balance.algorithm);
            assert_eq!((algorithm, warnings.len()), (expected, 0), "{name}");
        }
        for name in ["foo", "WRR"] {
            let error = read(json!({"strategy": name})).0.unwrap_err();
            assert!(error.starts_with(&format!("unsupported load-balancer strategy {name:?}")));
        }
    }

    #[test]
    fn what_traefik_replaces_by_its_defaults_is_replaced() {
        let table = [
            (json!({"interval": "0s"}), "interval \"0s\" is not more than zero"),
            (json!({"timeout": "-1s"}), "timeout \"-1s\" is not more than zero"),
            (json!({"interval": "1ms"}), "out of range: 100ms is used"),
            (json!({"mode": "tcp"}), "mode \"tcp\" is taken as http"),
            (json!({"scheme": "ftp"}), "scheme \"ftp\""),
            (json!({"status": 999}), "status 999 is out of range"),
            (json!({"port": 99_999}), "port 99999 is out of range"),
        ];
        for (check, expected) in table {
            let (options, warnings) = read(json!({"healthCheck": check}));
            assert!(options.is_ok());
            assert!(
                matches!(warnings.as_slice(), [only] if only.contains(expected)),
                "{check}: {warnings:?}"
            );
        }
    }

    #[test]
    fn the_path_of_a_grpc_check_names_no_service() {
        let (options, _) = read(json!({"healthCheck": {"mode": "grpc", "path": "/health"}}));
        assert_eq!(options.unwrap().health_check.unwrap().path, None);
    }

    #[test]
    fn passive_checks_have_traefiks_defaults() {
        for (passive, attempts, window, said) in [
            (json!({}), 1, 10, 0),
            (json!({"maxFailedAttempts": 3}), 3, 10, 0),
            (json!({"failureWindow": "3s"}), 1, 3, 0),
            (json!({"failureWindow": "-3s", "maxFailedAttempts": -2}), 1, 10, 2),
        ] {
            let (options, warnings) = read(json!({"passiveHealthCheck": passive}));
            let outlier = options.unwrap().outlier.unwrap();
            assert_eq!(outlier.consecutive_failures, Some(attempts), "{passive}");
            assert_eq!(
                outlier.failure_window,
                Some(Time(Duration::from_secs(window))),
                "{passive}"
            );
            assert_eq!(outlier.ejection, outlier.failure_window);
            assert_eq!(warnings.len(), said, "{passive}: {warnings:?}");
        }
    }

    #[test]
    fn cookies_are_named_as_traefik_names_them() {
        let cookie = |sticky: Value| {
            let sticky: Sticky = serde_json::from_value(sticky).unwrap();
            let mut warnings = Vec::new();
            (
                super::cookie(Some(&sticky), "s@file", &mut warnings),
                warnings.len(),
            )
        };
        let (derived, said) = cookie(json!({"cookie": {}}));
        let derived = derived.unwrap();
        assert_eq!(
            (&*derived.name, &*derived.path, derived.same_site, said),
            ("_23300", "/", None, 0)
        );
        let (given, _) =
            cookie(json!({"cookie": {"name": "a b;c", "sameSite": "Strict", "maxAge": -1, "domain": "a.b"}}));
        let given = given.unwrap();
        assert_eq!((&*given.name, given.max_age), ("a_b_c", -1));
        assert_eq!(
            (given.same_site, given.domain.as_deref()),
            (Some(SameSite::Strict), Some("a.b"))
        );
        assert_eq!(cookie(json!({})), (None, 1));
        assert_eq!(cookie(json!({"cookie": {"sameSite": "foo"}})).1, 1);
    }
}
