//! Options of services in layers: defaults of the static file, Traefik's, our own of any provider.

use constellation_table::Policy;
use constellation_table::policy::{Balance, CheckMode};

use super::*;

fn policy(compiled: &Compiled, name: &str) -> Arc<Policy> {
    let mut services = compiled.snapshot.services().iter();
    services.find(|s| &*s.name == name).unwrap().policy.clone()
}

fn options(services: &Value, balancer: &Value) -> Value {
    let mut document = document(&[("r", router("Host(`a.test`)"))]);
    let own = balancer.as_object().unwrap().clone();
    document["http"]["services"]["s"]["loadBalancer"]
        .as_object_mut()
        .unwrap()
        .extend(own);
    document["constellation"] = json!({"http": {"services": services}});
    document
}

#[test]
fn what_is_nearer_to_the_service_wins_key_by_key() {
    let mut config = config();
    let defaults =
        json!({"retry": {"attempts": 5, "budgetMin": 9}, "healthCheck": {"interval": "7s", "timeout": "2s"}});
    let defaults: constellation_config::dynamic::ServiceOptions = serde_json::from_value(defaults).unwrap();
    config.service_defaults =
        constellation_config::dynamic::Layered::over(&defaults, &config.service_defaults);
    let mut compiler = Compiler::new(Statics::new(&config, &[]).unwrap());
    let docker = options(
        &json!({"s": {"retry": {"attempts": 2}, "healthCheck": {"unhealthyThreshold": 4, "timeout": "3s"}}}),
        &json!({"healthCheck": {"path": "/h", "timeout": "9s", "unhealthyInterval": "1s"}, "strategy": "p2c"}),
    );
    let file =
        json!({"constellation": {"http": {"services": {"s@docker": {"retry": {"budgetPercent": 50}}}}}});
    let compiled = compiler.compile(&[reading("docker", docker), reading("file", file)], 1);
    assert_eq!(compiled.problems, []);
    let policy = policy(&compiled, "s@docker");
    assert_eq!(policy.retry.attempts, Some(2));
    assert_eq!((policy.retry.budget_min, policy.retry.budget_percent), (9, 50));
    assert_eq!(policy.balance, Balance::LeastRequests);
    let check = policy.health_check.as_ref().unwrap();
    assert_eq!(
        (&*check.path, check.interval.as_secs(), check.timeout.as_secs()),
        ("/h", 7, 3)
    );
    assert_eq!(
        (check.unhealthy_interval.as_secs(), check.unhealthy_threshold),
        (1, 4)
    );
}

#[test]
fn checks_are_on_where_something_says_so() {
    let table = [
        (json!({}), json!({}), None),
        (
            json!({}),
            json!({"healthCheck": {"interval": "5s"}}),
            Some(CheckMode::Http),
        ),
        (
            json!({"healthCheck": {"mode": "tcp"}}),
            json!({}),
            Some(CheckMode::Tcp),
        ),
        (
            json!({"healthCheck": {"path": "/h"}}),
            json!({}),
            Some(CheckMode::Http),
        ),
        (
            json!({"healthCheck": {"enabled": true}}),
            json!({}),
            Some(CheckMode::Http),
        ),
        (json!({"healthCheck": {"unhealthyThreshold": 3}}), json!({}), None),
        (
            json!({"healthCheck": {"enabled": false}}),
            json!({"healthCheck": {"path": "/h"}}),
            None,
        ),
        (
            json!({"healthCheck": {"mode": "tcp"}}),
            json!({"healthCheck": {"path": "/h"}}),
            Some(CheckMode::Tcp),
        ),
    ];
    for (ours, balancer, expected) in table {
        let document = options(&json!({"s": ours}), &balancer);
        let compiled = compiler().compile(&[reading("file", document)], 1);
        let check = policy(&compiled, "s@file").health_check.clone();
        assert_eq!(check.map(|check| check.mode), expected, "{ours} {balancer}");
    }
}

#[test]
fn a_change_of_options_is_a_change_of_that_service_alone() {
    let document = |attempts: u8| {
        let mut document = options(&json!({"s": {"retry": {"attempts": attempts}}}), &json!({}));
        document["http"]["services"]["t"] =
            json!({"loadBalancer": {"servers": [{"url": "http://10.0.0.2"}]}});
        document["http"]["routers"]["t"] = json!({"rule": "Host(`t.test`)", "service": "t"});
        document
    };
    let mut compiler = compiler();
    let first = compiler.compile(&[reading("file", document(2))], 1);
    let same = compiler.compile(&[reading("file", document(2))], 2);
    assert!(same.changes.is_empty(), "{:?}", same.changes);
    let changed = compiler.compile(&[reading("file", document(3))], 3);
    assert_eq!(names(&changed.changes.changed), ["r@file"]);
    assert_eq!(policy(&changed, "s@file").retry.attempts, Some(3));
    let endpoint = |compiled: &Compiled| compiled.snapshot.services()[0].endpoints[0].clone();
    assert!(Arc::ptr_eq(&endpoint(&first), &endpoint(&changed)));
}

#[test]
fn options_without_a_service_are_said() {
    let mut document = options(&json!({"S": {}, "w": {}, "s": {}, "s@docker": {}}), &json!({}));
    document["http"]["services"]["w"] = json!({"weighted": {"services": [{"name": "s"}]}});
    let compiled = compiler().compile(&[reading("file", document)], 1);
    let said: Vec<(&str, bool)> = compiled
        .problems
        .iter()
        .map(|problem| (problem.subject.as_str(), problem.message.contains("no effect")))
        .collect();
    assert_eq!(
        said,
        [
            ("options of service S@file", true),
            ("options of service s@docker", true),
            ("options of service w@file", true),
        ]
    );
}

#[test]
fn options_of_traefik_that_cannot_be_used_leave_the_service() {
    let document = options(
        &json!({}),
        &json!({"healthCheck": {"path": "http://elsewhere/h"}, "sticky": {}}),
    );
    let compiled = compiler().compile(&[reading("file", document)], 1);
    assert_eq!(compiled.disabled, []);
    assert_eq!(policy(&compiled, "s@file").health_check, None);
    assert_eq!(compiled.problems.len(), 2, "{:?}", compiled.problems);
}
