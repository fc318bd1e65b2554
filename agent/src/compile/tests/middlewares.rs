//! Middlewares of routers, entry points and services.

use constellation_middleware::Chain;

use super::*;

/// The names of what each router runs.
fn chains(compiled: &Compiled) -> BTreeMap<String, Vec<String>> {
    let names = |router: &Arc<Router>| {
        let steps = router.spec.middlewares.as_ref();
        let names = steps.map(|steps| steps.names()).unwrap_or_default();
        names.iter().map(ToString::to_string).collect()
    };
    let routers = compiled.snapshot.routers().iter();
    routers
        .map(|router| (router.name().to_owned(), names(router)))
        .collect()
}

fn running(middlewares: &Value, lists: &[(&str, &[&str])]) -> Value {
    let routers: Vec<(&str, Value)> = lists
        .iter()
        .map(|(name, list)| {
            let rule = format!("Host(`{name}.test`)");
            (*name, json!({"rule": rule, "service": "s", "middlewares": list}))
        })
        .collect();
    let mut document = document(&routers);
    document["http"]["middlewares"] = middlewares.clone();
    document
}

fn prefix(path: &str) -> Value {
    json!({"addPrefix": {"prefix": path}})
}

fn chain(of: &[&str]) -> Value {
    json!({"chain": {"middlewares": of}})
}

#[test]
fn chains_are_replaced_by_their_members_in_order() {
    let file = running(
        &json!({"a": prefix("/a"), "b": prefix("/b"), "both": chain(&["b", "a"]), "nested": chain(&["both", "a"])}),
        &[
            ("one", &["a"]),
            ("two", &["both"]),
            ("three", &["a", "nested@file", "a"]),
        ],
    );
    let docker = running(&json!({"b": prefix("/x")}), &[("four", &["b", "a@file"])]);
    let compiled = compiler().compile(&[reading("file", file), reading("docker", docker)], 1);
    assert_eq!(compiled.problems, []);
    let chains = chains(&compiled);
    assert_eq!(chains["one@file"], ["a@file"]);
    assert_eq!(chains["two@file"], ["b@file", "a@file"]);
    assert_eq!(
        chains["three@file"],
        ["a@file", "b@file", "a@file", "a@file", "a@file"]
    );
    assert_eq!(chains["four@docker"], ["b@docker", "a@file"]);
    let headers = http::HeaderMap::new();
    let asked = constellation_table::explain(
        &compiled.snapshot,
        &RequestMeta {
            entry_point: WEB,
            tls: false,
            method: "GET",
            host: "two.test",
            path: "/",
            query: "",
            headers: &headers,
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            repeatable: true,
            now: std::time::Instant::now(),
            turn: Turn::Look,
        },
    );
    assert_eq!(asked.middlewares, ["b@file", "a@file"]);
    assert!(asked.to_string().contains("runs b@file, a@file"), "{asked}");
}

#[test]
fn a_router_is_never_served_without_its_middlewares() {
    let file = running(
        &json!({
            "empty": {},
            "several": {"addPrefix": {"prefix": "/a"}, "replacePath": {"path": "/"}},
            "wrong": prefix(""),
            "round": chain(&["about"]),
            "about": chain(&["round"]),
            "of-wrong": chain(&["wrong"]),
            "good": prefix("/good"),
        }),
        &[
            ("a", &["empty"]),
            ("b", &["several"]),
            ("c", &["wrong"]),
            ("d", &["round"]),
            ("e", &["of-wrong"]),
            ("f", &["missing"]),
            ("g", &["good", "missing@docker"]),
            ("h", &["good"]),
        ],
    );
    let compiled = compiler().compile(&[reading("file", file)], 1);
    let served: Vec<_> = chains(&compiled).into_keys().collect();
    assert_eq!(served, ["h@file", "websecure-h@file"]);
    let reasons: BTreeMap<&str, &str> = compiled
        .disabled
        .iter()
        .map(|disabled| (&*disabled.name, &*disabled.reason))
        .collect();
    for (router, expected) in [
        ("a@file", "no kind"),
        ("b@file", "several kinds (addPrefix, replacePath)"),
        ("c@file", "prefix is empty"),
        ("d@file", "goes round in circles"),
        ("e@file", "\"wrong@file\" can't be used"),
        ("f@file", "no middleware \"missing@file\""),
        ("g@file", "no middleware \"missing@docker\""),
    ] {
        assert!(
            reasons[router].contains(expected),
            "{router}: {}",
            reasons[router]
        );
    }
}

#[test]
fn entry_points_and_services_add_theirs() {
    let mut config = config();
    config.entry_points[0].middlewares = vec!["first@file".to_owned()];
    let mut compiler = Compiler::new(Statics::new(&config, &[]).unwrap());
    let mut file = running(
        &json!({"first": prefix("/1"), "own": prefix("/2"), "last": prefix("/3")}),
        &[("r", &["own"])],
    );
    file["http"]["services"]["s"]["middlewares"] = json!(["last"]);
    let compiled = compiler.compile(&[reading("file", file.clone())], 1);
    let chains = chains(&compiled);
    assert_eq!(chains["web-r@file"], ["first@file", "own@file", "last@file"]);
    assert_eq!(chains["websecure-r@file"], ["own@file", "last@file"]);
    // Such a service is no part of another one.
    file["http"]["services"]["w"] = json!({"weighted": {"services": [{"name": "s"}]}});
    file["http"]["routers"]["r"]["service"] = json!("w");
    let compiled = compiler.compile(&[reading("file", file)], 2);
    assert!(compiled.disabled[0].reason.contains("move them to the router"));
}

#[test]
fn what_did_not_change_stays_the_same_object() {
    let two = |a: &str, b: &str| {
        let middlewares = json!({"a": prefix(a), "b": prefix(b), "both": chain(&["a", "b"])});
        reading(
            "file",
            running(&middlewares, &[("x", &["a"]), ("y", &["both"]), ("z", &[])]),
        )
    };
    let mut compiler = compiler();
    let first = compiler.compile(&[two("/a", "/b")], 1);
    let same = compiler.compile(&[two("/a", "/b")], 2);
    assert!(same.changes.is_empty(), "{:?}", same.changes);
    let changed = compiler.compile(&[two("/a", "/c")], 3);
    assert_eq!(changed.changes.changed, ["y@file".into()]);
    let members = |compiled: &Compiled, name: &str| {
        let routers = compiled.snapshot.routers();
        let router = routers.iter().find(|router| router.name() == name).unwrap();
        Chain::of(router.spec.middlewares.as_ref())
            .unwrap()
            .middlewares()
            .to_vec()
    };
    let (before, after) = (members(&first, "y@file"), members(&changed, "y@file"));
    assert!(Arc::ptr_eq(&before[0], &after[0]));
    assert!(!Arc::ptr_eq(&before[1], &after[1]));
    // A middleware that comes back makes its routers served again.
    let gone = compiler.compile(&[reading("file", running(&json!({}), &[("x", &["a"])]))], 4);
    assert_eq!(gone.disabled.len(), 1);
    let back = compiler.compile(&[two("/a", "/b")], 5);
    assert_eq!(chains(&back)["x@file"], ["a@file"]);
}
