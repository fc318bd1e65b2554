//! Our own labels: they shape services and never cost a container its routes.

use super::{contribution, exited, inspection, problems, provider, routers};

const ATTEMPTS: &str = "constellation.http.services.web.retry.attempts";

fn attempts(contribution: &crate::sources::Contribution) -> Option<u8> {
    let options = contribution.dynamic.constellation.http.services.get("web")?;
    options.retry.as_ref()?.attempts
}

#[test]
fn a_wrong_option_is_said_and_costs_nothing_but_itself() {
    let labels = [
        (ATTEMPTS, "2"),
        ("constellation.http.services.web.retry.statuses[0]", "500"),
        ("constellation.http.services.web.retry.statuses[1]", "404"),
        ("constellation.http.services.web.retry.backoff", "soon"),
        ("constellation.http.services.web.retry.attemts", "2"),
        ("constellation.http.services.web..x", "2"),
        ("constellation.other", "x"),
    ];
    let contribution = contribution(&provider(), vec![inspection("web", "10.0.0.1", &labels)]);
    assert_eq!(routers(&contribution), ["web Host(`web`) -> web"]);
    assert_eq!(attempts(&contribution), Some(2));
    let options = &contribution.dynamic.constellation.http.services["web"];
    let retry = options.retry.as_ref().unwrap();
    assert_eq!(
        (retry.statuses.as_deref(), retry.backoff),
        (Some(&[500][..]), None)
    );
    let said = problems(&contribution);
    let expected = [
        "container web: label `constellation.http.services.web..x`: it has an empty element",
        "container web: label constellation.http.services.web.retry.attemts: unknown key",
        "container web: label constellation.http.services.web.retry.backoff: is not a duration",
        "container web: label constellation.http.services.web.retry.statuses[1]: is not a status that can be tried again",
        "container web: label constellation.other: unknown key",
    ];
    for start in expected {
        let found = said.iter().find(|problem| problem.starts_with(start));
        assert!(
            found.is_some_and(|problem| problem.ends_with("the option is not used, its default counts")),
            "{start}: {said:#?}"
        );
    }
    assert_eq!(said.len(), expected.len(), "{said:#?}");
}

#[test]
fn containers_of_one_service_that_differ_keep_their_routes() {
    let one = |name, address, number| {
        let labels = [
            ("traefik.http.services.web.loadbalancer.server.port", "80"),
            ("traefik.http.routers.web.rule", "Host(`a.test`)"),
            (ATTEMPTS, number),
        ];
        inspection(name, address, &labels)
    };
    let both = contribution(
        &provider(),
        vec![one("b", "10.0.0.2", "3"), one("a", "10.0.0.1", "2")],
    );
    assert_eq!(routers(&both), ["web Host(`a.test`) -> web"]);
    assert_eq!(attempts(&both), Some(2));
    assert_eq!(
        problems(&both),
        [
            "options of service web@docker: the labels constellation.http.services.web of the containers a and b differ: \
             those of a count; make them the same"
        ]
    );
    // One that doesn't serve never overrides one that does, and fills the gap when it is alone.
    let stopped = contribution(
        &provider(),
        vec![one("b", "10.0.0.2", "3"), exited(one("a", "10.0.0.1", "2"), 0)],
    );
    assert_eq!((attempts(&stopped), problems(&stopped).len()), (Some(3), 0));
    let alone = contribution(&provider(), vec![exited(one("a", "10.0.0.1", "2"), 0)]);
    assert!(alone.dynamic.http.routers.is_empty() || attempts(&alone) == Some(2));
}

#[test]
fn a_hidden_container_says_nothing() {
    let labels = [("traefik.enable", "false"), ("constellation.nonsense", "x")];
    let contribution = contribution(&provider(), vec![inspection("web", "10.0.0.1", &labels)]);
    assert_eq!(problems(&contribution), Vec::<String>::new());
}
