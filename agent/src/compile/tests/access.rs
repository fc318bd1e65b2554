//! Middlewares that decide who may pass and how often, from their options.

use constellation_middleware::Chain;

use super::*;

/// What becomes of a router that runs this: the reason for which it is disabled, and what is said of the middleware.
fn outcome(middleware: &Value) -> (Option<String>, Vec<String>) {
    let mut document = document(&[(
        "r",
        json!({"rule": "Host(`a`)", "service": "s", "middlewares": ["m"]}),
    )]);
    document["http"]["middlewares"] = json!({"m": middleware});
    let compiled = compiler().compile(&[reading("file", document)], 1);
    let said = compiled
        .problems
        .iter()
        .filter(|problem| problem.subject == "middleware m@file");
    let said = said.map(|problem| problem.message.clone()).collect();
    match compiled.disabled.as_slice() {
        [] => {
            let routers = compiled.snapshot.routers();
            let router = routers.iter().find(|router| router.name() == "r@file").unwrap();
            let chain = Chain::of(router.spec.middlewares.as_ref()).unwrap();
            assert_eq!(chain.middlewares().len(), 1);
            (None, said)
        }
        [disabled] => (Some(disabled.reason.clone()), said),
        several => panic!("{several:?}"),
    }
}

const SHA: &str = "u:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=";
const MD5: &str = "u:traefik:0123456789abcdef0123456789abcdef";

#[test]
fn what_is_right_is_served_without_a_word() {
    for middleware in [
        json!({"basicAuth": {"users": [SHA], "realm": "x", "removeHeader": true, "headerField": "X-User"}}),
        json!({"circuitBreaker": {"expression": "NetworkErrorRatio() > 0.5", "checkPeriod": "1s", "responseCode": 418}}),
        json!({"digestAuth": {"users": [MD5]}}),
        json!({"encodedCharacters": {"allowEncodedSlash": true}}),
        json!({"forwardAuth": {"address": "https://u:p@auth/x", "tls": {"insecureSkipVerify": true}, "authResponseHeaders": ["X-User"]}}),
        json!({"inFlightReq": {"amount": 0, "sourceCriterion": {"requestHeaderName": "X-A"}}}),
        json!({"ipAllowList": {"sourceRange": ["10.0.0.0/8", "::1"], "ipStrategy": {"depth": 1}, "rejectStatusCode": 404}}),
        json!({"passTLSClientCert": {"pem": true, "info": {"subject": {"commonName": true}, "issuer": {"country": true}}}}),
        json!({"rateLimit": {"average": 100, "period": "1m", "burst": 50, "sourceCriterion": {"requestHost": true}}}),
    ] {
        assert_eq!(outcome(&middleware), (None, Vec::new()), "{middleware}");
    }
}

#[test]
fn what_deserves_a_look_is_said() {
    for (middleware, expected) in [
        (
            json!({"ipWhiteList": {"sourceRange": ["10.0.0.0/8"]}}),
            "write ipAllowList",
        ),
        (
            json!({"basicAuth": {"users": [SHA, "a:SECRET"]}}),
            "nobody can pass as \"a\"",
        ),
        (json!({"digestAuth": {"users": []}}), "no users"),
    ] {
        let (disabled, said) = outcome(&middleware);
        assert_eq!(disabled, None, "{middleware}");
        assert!(
            said.len() == 1 && said[0].contains(expected) && !said[0].contains("SECRET"),
            "{said:?}"
        );
    }
    let many: Vec<String> = (0..100).map(|number| format!("u{number}:plain")).collect();
    let (_, said) = outcome(&json!({"basicAuth": {"users": many}}));
    assert_eq!(said.len(), 21);
    assert!(said.iter().any(|text| text.contains("80 more users")), "{said:?}");
}

#[test]
fn what_is_wrong_disables_the_router_and_names_the_option() {
    let strategy = |strategy: Value| json!({"ipAllowList": {"sourceRange": ["::1"], "ipStrategy": strategy}});
    let rate = |criterion: Value| json!({"rateLimit": {"average": 1, "sourceCriterion": criterion}});
    let asks = |options: Value| {
        let mut all = json!({"address": "http://auth/"});
        all.as_object_mut()
            .unwrap()
            .extend(options.as_object().unwrap().clone());
        json!({"forwardAuth": all})
    };
    for (middleware, expected) in [
        (json!({"basicAuth": {}}), "it has no users"),
        (json!({"basicAuth": {"users": ["SECRET"]}}), "users[0]"),
        (
            json!({"basicAuth": {"usersFile": "/nonexistent/users"}}),
            "usersFile \"/nonexistent/users\"",
        ),
        (
            json!({"basicAuth": {"users": [SHA], "headerField": "a b"}}),
            "headerField",
        ),
        (json!({"circuitBreaker": {}}), "expression is \"\""),
        (
            json!({"circuitBreaker": {"expression": "x"}}),
            "expression is \"x\"",
        ),
        (
            json!({"circuitBreaker": {"expression": "NetworkErrorRatio() > 0.5", "checkPeriod": "-1s"}}),
            "checkPeriod is \"-1s\"",
        ),
        (
            json!({"circuitBreaker": {"expression": "NetworkErrorRatio() > 0.5", "responseCode": 99}}),
            "responseCode is 99",
        ),
        (json!({"digestAuth": {"users": ["a:SECRET"]}}), "users[0]"),
        (
            json!({"digestAuth": {"users": [MD5], "usersFile": "/nonexistent/users"}}),
            "usersFile",
        ),
        (json!({"forwardAuth": {}}), "address is missing"),
        (
            json!({"forwardAuth": {"address": "ftp://u:SECRET@x/"}}),
            "address is no URL of http or https",
        ),
        (
            asks(json!({"authResponseHeadersRegex": "("})),
            "authResponseHeadersRegex",
        ),
        (
            asks(json!({"tls": {"ca": "/nonexistent/ca.pem"}})),
            "tls.ca \"/nonexistent/ca.pem\"",
        ),
        (
            asks(json!({"tls": {"cert": "-----BEGIN X-----"}})),
            "one of cert and key",
        ),
        (json!({"ipAllowList": {}}), "sourceRange is empty"),
        (
            json!({"ipAllowList": {"sourceRange": ["10.0.0.0/33"]}}),
            "\"10.0.0.0/33\"",
        ),
        (
            json!({"ipAllowList": {"sourceRange": ["::1"], "rejectStatusCode": 99}}),
            "rejectStatusCode is 99",
        ),
        (strategy(json!({"excludedIPs": ["x"]})), "excludedIPs"),
        (strategy(json!({"ipv6Subnet": 129})), "ipv6Subnet is 129"),
        (
            json!({"plugin": {"bouncer": {"key": "SECRET"}}}),
            "plugins (bouncer) are not supported",
        ),
        (
            json!({"rateLimit": {"average": 1, "period": "-1s"}}),
            "period is \"-1s\"",
        ),
        (
            json!({"rateLimit": {"average": 1, "redis": {"password": "SECRET"}}}),
            "redis",
        ),
        (
            rate(json!({"requestHost": true, "requestHeaderName": "X"})),
            "several criteria",
        ),
        (
            rate(json!({"requestHeaderName": "a b"})),
            "requestHeaderName is \"a b\"",
        ),
        (
            json!({"basicAuth": {"users": [SHA]}, "ipAllowList": {"sourceRange": ["::1"]}}),
            "several kinds",
        ),
    ] {
        let (disabled, said) = outcome(&middleware);
        let disabled = disabled.unwrap_or_else(|| panic!("{middleware} is served"));
        assert!(
            disabled.contains("m@file") && disabled.contains(expected),
            "{middleware}: {disabled}"
        );
        assert!(
            !disabled.contains("SECRET") && said.len() == 1,
            "{disabled} {said:?}"
        );
    }
}

/// What is counted goes on while the definition is the same, whatever else changes.
#[test]
fn a_limit_goes_on_counting() {
    let with = |average: u32, rule: &str| {
        let mut document = document(&[("r", json!({"rule": rule, "service": "s", "middlewares": ["m"]}))]);
        document["http"]["middlewares"] = json!({"m": {"rateLimit": {"average": average}}});
        reading("file", document)
    };
    let limit = |compiled: &Compiled| {
        let routers = compiled.snapshot.routers();
        let router = routers.iter().find(|router| router.name() == "r@file").unwrap();
        Chain::of(router.spec.middlewares.as_ref()).unwrap().middlewares()[0].clone()
    };
    let mut compiler = compiler();
    let first = limit(&compiler.compile(&[with(1, "Host(`a`)")], 1));
    let second = limit(&compiler.compile(&[with(1, "Host(`b`)")], 2));
    let third = limit(&compiler.compile(&[with(2, "Host(`b`)")], 3));
    assert!(Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&second, &third));
}
