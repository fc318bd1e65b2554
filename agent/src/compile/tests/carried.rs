//! What one compile leaves to the next: the same objects, and exactly the changes.

use super::*;

#[test]
fn without_changes_everything_is_the_same_object() {
    let document = document(&[("a", router("Host(`a.test`)")), ("bad", router("Host("))]);
    let mut compiler = compiler();
    let first = compiler.compile(&[reading("file", document.clone())], 1);
    assert_eq!(names(&first.changes.added), ["a@file"]);
    // An equal document that was read again: other allocations, same content.
    let second = compiler.compile(&[reading("file", document)], 2);
    assert!(second.changes.is_empty(), "{:?}", second.changes);
    assert_eq!(second.problems, first.problems);
    assert_eq!(second.disabled, first.disabled);
    assert_eq!(first.snapshot.routers().len(), second.snapshot.routers().len());
    for (a, b) in first.snapshot.routers().iter().zip(second.snapshot.routers()) {
        assert!(Arc::ptr_eq(a, b));
    }
    for (a, b) in first.snapshot.services().iter().zip(second.snapshot.services()) {
        assert!(Arc::ptr_eq(a, b));
    }
}

#[test]
fn a_change_touches_only_what_depends_on_it() {
    let document = |port: u16| {
        json!({"http": {
            "routers": {
                "a": {"rule": "Host(`a.test`)", "service": "a"},
                "b": {"rule": "Host(`b.test`)", "service": "b"},
            },
            "services": {
                "a": {"loadBalancer": {"servers": [{"url": format!("http://10.0.0.1:{port}")}, {"url": "http://10.0.0.2"}]}},
                "b": {"loadBalancer": {"servers": [{"url": "http://10.0.0.3"}]}},
            },
        }})
    };
    let mut compiler = compiler();
    let first = compiler.compile(&[reading("file", document(80))], 1);
    let second = compiler.compile(&[reading("file", document(81))], 2);
    assert_eq!(names(&second.changes.changed), ["a@file"]);
    assert_eq!((second.changes.added.len(), second.changes.removed.len()), (0, 0));
    let pair = |name| (router_named(&first, name), router_named(&second, name));
    let (old, new) = pair("b@file");
    assert!(Arc::ptr_eq(old, new));
    let (old, new) = pair("a@file");
    assert!(!Arc::ptr_eq(old, new));
    assert!(
        Arc::ptr_eq(&old.spec.rule, &new.spec.rule),
        "the rule is not parsed again"
    );
    let (Some(old), Some(new)) = (old.service(), new.service()) else {
        panic!("they do not forward");
    };
    assert!(!Arc::ptr_eq(&old.endpoints[0], &new.endpoints[0]));
    assert!(Arc::ptr_eq(&old.endpoints[1], &new.endpoints[1]));
}

#[test]
fn a_service_that_comes_and_goes_takes_its_routers_of_other_providers_along() {
    let docker = reading(
        "docker",
        json!({"http": {"routers": {"a": {"rule": "Host(`a.test`)", "service": "s@file"}}}}),
    );
    let file = reading("file", document(&[]));
    let without = reading("file", json!({}));
    let mut compiler = compiler();
    let compiled = compiler.compile(&[docker.clone(), without.clone()], 1);
    assert!(reason(&compiled, "a@docker").contains("there is no service \"s@file\""));
    let compiled = compiler.compile(&[docker.clone(), file], 2);
    assert_eq!(names(&compiled.changes.added), ["a@docker"]);
    assert_eq!(compiled.problems, []);
    let compiled = compiler.compile(&[docker.clone(), without], 3);
    assert_eq!(names(&compiled.changes.removed), ["a@docker"]);
    let compiled = compiler.compile(&[docker], 4);
    assert!(compiled.changes.is_empty());
}

#[test]
fn a_provider_that_is_gone_takes_its_objects_along() {
    let mut compiler = compiler();
    compiler.compile(
        &[reading("file", document(&[("a", router("Host(`a.test`)"))]))],
        1,
    );
    let compiled = compiler.compile(&[], 2);
    assert_eq!(names(&compiled.changes.removed), ["a@file"]);
    assert!(compiled.changes.services);
    assert!(compiled.snapshot.routers().is_empty() && compiled.snapshot.services().is_empty());
}

#[test]
fn a_stopped_container_keeps_its_route() {
    let running = reading("docker", document(&[("a", router("Host(`a.test`)"))]));
    let mut stopped = Contribution::clone(&running);
    let origin = ServerOrigin {
        name: "web-1".into(),
        condition: Condition::Unavailable("container exited (137)".into()),
    };
    stopped.origins = BTreeMap::from([(
        "s".to_owned(),
        BTreeMap::from([("http://10.0.0.1:80".to_owned(), origin)]),
    )]);
    let mut compiler = compiler();
    compiler.compile(&[running], 1);
    let compiled = compiler.compile(&[Arc::new(stopped)], 2);
    assert_eq!(names(&compiled.changes.changed), ["a@docker"]);
    assert_eq!(
        routed(&compiled, WEB, false, "a.test").as_deref(),
        Some("a@docker")
    );
}

#[test]
fn a_new_revision_is_a_change_of_tls() {
    let first = reading("file", document(&[("a", router("Host(`a.test`)"))]));
    let mut second = Contribution::clone(&first);
    second.revision += 1;
    let mut compiler = compiler();
    compiler.compile(&[first], 1);
    let second = Arc::new(second);
    assert!(compiler.compile(std::slice::from_ref(&second), 2).changes.tls);
    assert!(
        compiler
            .compile(std::slice::from_ref(&second), 3)
            .changes
            .is_empty()
    );
    compiler.reread_files();
    assert!(compiler.compile(&[second], 4).changes.tls);
}

#[test]
fn many_routes_share_what_they_can() {
    let routers: BTreeMap<String, Value> = (0..2000)
        .map(|n| (format!("r{n:05}"), router(&format!("Host(`h{}.test`)", n / 2))))
        .collect();
    let document = |extra: bool| {
        let mut routers = routers.clone();
        if extra {
            routers.insert("r00000-extra".to_owned(), router("Host(`extra.test`)"));
        }
        json!({"http": {"routers": routers, "services": {"s": {"loadBalancer": {"servers": []}}}}})
    };
    let mut compiler = compiler();
    let first = compiler.compile(&[reading("file", document(false))], 1);
    assert_eq!(first.snapshot.generation(), 1);
    // Two routers a host, and each stands in the plain and in the TLS table.
    assert_eq!(first.snapshot.routers().len(), 4000);
    let rules: HashSet<*const constellation_table::Rule> = first
        .snapshot
        .routers()
        .iter()
        .map(|r| Arc::as_ptr(&r.spec.rule))
        .collect();
    assert_eq!(rules.len(), 1000);
    let second = compiler.compile(&[reading("file", document(true))], 2);
    assert_eq!(names(&second.changes.added), ["r00000-extra@file"]);
    let kept: HashSet<*const Router> = first.snapshot.routers().iter().map(Arc::as_ptr).collect();
    let carried = second
        .snapshot
        .routers()
        .iter()
        .filter(|r| kept.contains(&Arc::as_ptr(r)))
        .count();
    assert_eq!(carried, 4000);
}
