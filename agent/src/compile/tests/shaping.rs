//! Middlewares that change requests and responses: which definitions are taken, and what is said of the others.

use super::*;

/// What compile says of a router that runs such a middleware: why it is disabled, and what deserves a look.
fn compiled(definition: &Value) -> (Option<String>, Vec<String>) {
    let mut file = document(&[(
        "r",
        json!({"rule": "Host(`r.test`)", "service": "s", "entryPoints": ["web"], "middlewares": ["m"]}),
    )]);
    file["http"]["middlewares"] = json!({"m": definition});
    let compiled = compiler().compile(&[reading("file", file)], 1);
    let reason = compiled.disabled.first().map(|disabled| disabled.reason.clone());
    let of_middleware = compiled
        .problems
        .iter()
        .filter(|problem| problem.subject == "middleware m@file");
    let warnings = of_middleware.map(|problem| problem.message.clone());
    (reason, warnings.collect())
}

#[test]
fn every_kind_is_served_with_all_its_options() {
    for definition in [
        json!({"addPrefix": {"prefix": "/a"}}),
        json!({"buffering": {"maxRequestBodyBytes": 1, "memRequestBodyBytes": 1, "maxResponseBodyBytes": 1,
            "memResponseBodyBytes": 1, "retryExpression": "IsNetworkError() && Attempts() < 3"}}),
        json!({"compress": {}}),
        json!({"compress": {"encodings": ["zstd", "br"], "defaultEncoding": "br", "minResponseBodyBytes": 1,
            "excludedContentTypes": ["text/css"]}}),
        json!({"compress": {"includedContentTypes": ["text/css"]}}),
        json!({"contentType": {}}),
        json!({"errors": {"status": ["404", "500-599"], "statusRewrites": {"500-503": 500}, "service": "s",
            "query": "/{status}", "errorRequestHeaders": ["X-A"]}}),
        json!({"grpcWeb": {"allowOrigins": ["*"]}}),
        json!({"headers": {"customRequestHeaders": {"Host": "a", "X-A": ""},
            "customResponseHeaders": {"Server": ""}, "accessControlAllowOriginListRegex": ["^a"],
            "accessControlMaxAge": 0, "addVaryHeader": true, "allowedHosts": ["a"],
            "hostsProxyHeaders": ["X-Host"], "sslProxyHeaders": {"X-Ssl": "on"}, "stsSeconds": 5,
            "stsIncludeSubdomains": true, "stsPreload": true, "forceSTSHeader": true, "frameDeny": true,
            "contentTypeNosniff": true, "browserXssFilter": true, "contentSecurityPolicy": "x",
            "publicKey": "x", "referrerPolicy": "x", "permissionsPolicy": "x", "isDevelopment": true}}),
        json!({"headers": {"stsSeconds": 0}}),
        json!({"redirectRegex": {"regex": "^http://(.*)", "replacement": "https://$1", "permanent": true}}),
        json!({"redirectScheme": {"scheme": "https", "port": "8443", "permanent": true,
            "forcePermanentRedirect": true}}),
        json!({"replacePath": {"path": "/a%20b"}}),
        json!({"replacePathRegex": {"regex": "^/(?P<x>.*)", "replacement": "/${x}"}}),
        json!({"retry": {"attempts": 3, "initialInterval": "100ms", "timeout": "5s", "maxRequestBodyBytes": -1,
            "status": ["500-599"], "disableRetryOnNetworkError": true, "retryNonIdempotentMethod": true}}),
        json!({"stripPrefix": {"prefixes": ["/a"], "forceSlash": true}}),
        json!({"stripPrefixRegex": {"regex": ["^/[a-z]+"]}}),
    ] {
        assert_eq!(compiled(&definition), (None, Vec::new()), "{definition}");
    }
}

#[test]
fn what_can_not_be_served_is_said_with_option_and_value() {
    for (definition, words) in [
        (
            json!({"buffering": {"maxRequestBodyBytes": -5}}),
            ["maxRequestBodyBytes", "-5"],
        ),
        (
            json!({"buffering": {"retryExpression": "Foo() < 3"}}),
            ["retryExpression", "Foo() < 3"],
        ),
        (json!({"compress": {"encodings": ["foo"]}}), ["encodings", "foo"]),
        (
            json!({"errors": {"status": ["abc"], "service": "s"}}),
            ["status", "abc"],
        ),
        (
            json!({"errors": {"status": ["500"], "service": "nope"}}),
            ["service", "nope"],
        ),
        (
            json!({"errors": {"status": ["500"], "statusRewrites": {"500": 99}, "service": "s"}}),
            ["statusRewrites.500", "200 to 599"],
        ),
        (
            json!({"headers": {"customRequestHeaders": {"X Y": "1"}}}),
            ["customRequestHeaders", "X Y"],
        ),
        (
            json!({"headers": {"customResponseHeaders": {"Content-Length": "1"}}}),
            ["customResponseHeaders.Content-Length", "remove it"],
        ),
        (
            json!({"headers": {"accessControlAllowOriginListRegex": ["("]}}),
            ["accessControlAllowOriginListRegex", "\"(\""],
        ),
        (
            json!({"headers": {"stsPreload": false, "sslRedirect": false, "publicKey": ""}}),
            ["changes nothing", "set one"],
        ),
        (
            json!({"redirectRegex": {"regex": "(", "replacement": ""}}),
            ["\"(\"", "regular expression"],
        ),
        (json!({"redirectScheme": {"scheme": ""}}), ["scheme", "https"]),
        (
            json!({"redirectScheme": {"scheme": "https", "port": "abc"}}),
            ["port", "abc"],
        ),
        (json!({"replacePath": {"path": "/a%"}}), ["path", "%25"]),
        (json!({"retry": {"attempts": 0}}), ["attempts", "0"]),
        (
            json!({"retry": {"attempts": 1, "initialInterval": "x"}}),
            ["initialInterval", "\"x\""],
        ),
        (
            json!({"retry": {"attempts": 1, "initialInterval": "2m"}}),
            ["initialInterval", "1m"],
        ),
        (
            json!({"stripPrefixRegex": {"regex": ["(?<!a)"]}}),
            ["(?<!a)", "regular expression"],
        ),
    ] {
        let (reason, _) = compiled(&definition);
        let reason = reason.unwrap_or_default();
        for word in words {
            assert!(reason.contains(word), "{definition}: {reason}");
        }
    }
}

#[test]
fn what_has_no_effect_is_said() {
    for (definition, words) in [
        (
            json!({"headers": {"sslRedirect": true, "frameDeny": true}}),
            "redirectScheme",
        ),
        (
            json!({"headers": {"featurePolicy": "x", "frameDeny": true}}),
            "permissionsPolicy",
        ),
        (
            json!({"headers": {"customRequestHeaders": {"Connection": "x"}}}),
            "Connection",
        ),
        (json!({"retry": {"attempts": 99}}), "at most 16"),
        (json!({"contentType": {"autoDetect": false}}), "autoDetect"),
    ] {
        let (reason, warnings) = compiled(&definition);
        assert_eq!(reason, None, "{definition}");
        assert!(
            warnings.len() == 1 && warnings[0].contains(words),
            "{definition}: {warnings:?}"
        );
    }
}

#[test]
fn secrets_in_headers_are_not_told() {
    let definition = json!({"headers": {"customRequestHeaders": {"Authorization": "SECRET\n1"}}});
    let (reason, warnings) = compiled(&definition);
    let reason = reason.unwrap_or_default();
    assert!(reason.contains("customRequestHeaders.Authorization"), "{reason}");
    assert!(!reason.contains("SECRET") && !format!("{warnings:?}").contains("SECRET"));
}
