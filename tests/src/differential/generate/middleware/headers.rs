//! Middlewares that look at or change headers.

use serde_json::{Value, json};

use super::{Kind, add, maybe, options, several};
use crate::differential::generate::vocabulary::{chance, pick};

pub(super) const CUSTOM: Kind = Kind {
    name: "headers",
    options: |rng, _| {
        let table = |rng: &mut fastrand::Rng, names: &[&str]| {
            let mut all = json!({});
            for _ in 0..rng.usize(1..4) {
                let value = pick(rng, &["one", "", "a, b", "ü", "two words", "close", "text/plain"]);
                let name = pick(rng, names);
                // What is no host Traefik sends as an empty one.
                all[name] = json!(if name == "Host" { "other.test" } else { value });
            }
            all
        };
        let request = [
            "X-A",
            "x-b",
            "Host",
            "User-Agent",
            "Accept",
            "Cookie",
            "X-Forwarded-Proto",
            "X-Forwarded-For",
            "X-Real-Ip",
            "Authorization",
            "Accept-Encoding",
            "Te",
        ];
        let response = [
            "X-A",
            "x-b",
            "Server",
            "Content-Type",
            "Set-Cookie",
            "Vary",
            "Location",
            "ETag",
            "Cache-Control",
            "X-New",
        ];
        let request = if chance(rng, 60) {
            table(rng, &request)
        } else {
            Value::Null
        };
        let response = if request.is_null() || chance(rng, 50) {
            table(rng, &response)
        } else {
            Value::Null
        };
        options(
            "headers",
            json!({ "customRequestHeaders": request, "customResponseHeaders": response }),
        )
    },
    ask: |rng, request| {
        for _ in 0..rng.usize(..3) {
            let name = pick(
                rng,
                &[
                    "X-A",
                    "X-B",
                    "User-Agent",
                    "Accept",
                    "Cookie",
                    "Authorization",
                    "Te",
                ],
            );
            add(rng, request, name, &["1", "one", "a, b", "trailers"]);
        }
    },
};

pub(super) const CORS: Kind = Kind {
    name: "cors",
    options: |rng, _| {
        let origins = [
            "https://one.test",
            "https://two.test",
            "*",
            "HTTPS://ONE.TEST",
            "null",
            "https://one.test:8443",
        ];
        let patterns = ["https://[a-z]+\\.test", "^https://(one|two)\\.test$", ".*", "one"];
        let (list, regex) = match rng.u8(..4) {
            0 => (Value::Null, several(rng, 2, &patterns)),
            1 => (several(rng, 2, &origins), several(rng, 1, &patterns)),
            _ => (several(rng, 2, &origins), Value::Null),
        };
        let headers = if chance(rng, 60) {
            several(rng, 2, &["X-A", "Content-Type", "*"])
        } else {
            Value::Null
        };
        let methods = if chance(rng, 60) {
            several(rng, 3, &["GET", "PUT", "DELETE", "*"])
        } else {
            Value::Null
        };
        let exposed = if chance(rng, 30) {
            several(rng, 2, &["X-A", "X-B"])
        } else {
            Value::Null
        };
        options(
            "headers",
            json!({
                "accessControlAllowOriginList": list,
                "accessControlAllowOriginListRegex": regex,
                "accessControlAllowCredentials": maybe(rng, 40, &[true, false]),
                "accessControlAllowHeaders": headers,
                "accessControlAllowMethods": methods,
                "accessControlExposeHeaders": exposed,
                "accessControlMaxAge": maybe(rng, 40, &[0, 100, -1]),
                "addVaryHeader": maybe(rng, 50, &[true, false]),
            }),
        )
    },
    ask: |rng, request| {
        if chance(rng, 85) {
            let origins = [
                "https://one.test",
                "https://two.test",
                "https://else.test",
                "null",
                "https://one.test:8443",
                "",
            ];
            add(rng, request, "Origin", &origins);
        }
        if chance(rng, 50) {
            request.method = "OPTIONS".into();
            request.body = Default::default();
        }
        if chance(rng, 60) {
            add(
                rng,
                request,
                "Access-Control-Request-Method",
                &["GET", "PUT", "patch", ""],
            );
        }
        if chance(rng, 40) {
            add(
                rng,
                request,
                "Access-Control-Request-Headers",
                &["X-A", "x-a, content-type"],
            );
        }
    },
};

pub(super) const SECURITY: Kind = Kind {
    name: "security",
    options: |rng, _| {
        let words = |rng: &mut fastrand::Rng, percent, values: &[&str]| {
            if chance(rng, percent) {
                several(rng, 2, values)
            } else {
                Value::Null
            }
        };
        options(
            "headers",
            json!({
                "stsSeconds": maybe(rng, 40, &[0, 100, 31_536_000]),
                "stsIncludeSubdomains": maybe(rng, 30, &[true, false]),
                "stsPreload": maybe(rng, 30, &[true, false]),
                "forceSTSHeader": maybe(rng, 40, &[true, false]),
                "frameDeny": maybe(rng, 30, &[true, false]),
                "customFrameOptionsValue": maybe(rng, 20, &["SAMEORIGIN", ""]),
                "contentTypeNosniff": maybe(rng, 30, &[true, false]),
                "browserXssFilter": maybe(rng, 30, &[true, false]),
                "customBrowserXSSValue": maybe(rng, 20, &["1; report=x"]),
                "contentSecurityPolicy": maybe(rng, 30, &["default-src 'self'"]),
                "contentSecurityPolicyReportOnly": maybe(rng, 20, &["default-src 'none'"]),
                "publicKey": maybe(rng, 10, &["pin-sha256=\"x\""]),
                "referrerPolicy": maybe(rng, 30, &["no-referrer"]),
                "permissionsPolicy": maybe(rng, 30, &["geolocation=()"]),
                "isDevelopment": maybe(rng, 20, &[true, false]),
                "allowedHosts": words(rng, 25, &["a.test", "b.test", "A.TEST"]),
                "hostsProxyHeaders": words(rng, 15, &["X-Forwarded-Host", "X-Host"]),
                "sslProxyHeaders": maybe(rng, 15, &[json!({ "X-Forwarded-Proto": "https" })]),
                "contentTypeNoSniff2": Value::Null,
            }),
        )
    },
    ask: |rng, request| {
        if chance(rng, 15) {
            add(rng, request, "X-Host", &["a.test", "c.test"]);
        }
        if chance(rng, 20) {
            request.headers[0].1 = pick(rng, &["A.test", "a.test:80", "a.test."]).to_owned();
        }
    },
};

pub(super) const PASS_CERTIFICATE: Kind = Kind {
    name: "passTLSClientCert",
    options: |rng, _| {
        options(
            "passTLSClientCert",
            json!({
                "pem": maybe(rng, 60, &[true, false]),
                "info": maybe(rng, 60, &[json!({ "notAfter": true, "sans": true, "subject": { "commonName": true } })]),
            }),
        )
    },
    ask: |rng, request| {
        if chance(rng, 40) {
            let name = pick(
                rng,
                &["X-Forwarded-Tls-Client-Cert", "X-Forwarded-Tls-Client-Cert-Info"],
            );
            add(rng, request, name, &["forged"]);
        }
    },
};

pub(super) const GRPC_WEB: Kind = Kind {
    name: "grpcWeb",
    options: |rng, _| json!({ "grpcWeb": { "allowOrigins": several(rng, 2, &["*", "https://one.test", "https://two.test"]) } }),
    ask: |rng, request| {
        if chance(rng, 60) {
            add(rng, request, "Origin", &["https://one.test", "https://else.test"]);
        }
        if chance(rng, 40) {
            request.method = "OPTIONS".into();
            request.body = Default::default();
            if chance(rng, 80) {
                add(rng, request, "Access-Control-Request-Method", &["POST", "GET"]);
            }
            add(
                rng,
                request,
                "Access-Control-Request-Headers",
                &[
                    "x-grpc-web",
                    "X-User-Agent, X-Grpc-Web",
                    "content-type",
                    "ax-grpc-web b/c",
                ],
            );
        }
    },
};
