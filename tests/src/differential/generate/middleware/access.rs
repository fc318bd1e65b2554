//! Middlewares that let some in.

use serde_json::{Value, json};

use super::{Kind, Place, add, maybe, one_of, options, say, several};
use crate::differential::backend::{AUTH_REPLY, PROBE, Reply};
use crate::differential::generate::vocabulary::{chance, pick};
use crate::differential::site;

fn ranges(rng: &mut fastrand::Rng, place: &Place) -> Value {
    let first = site::client(place.site, 0).to_string();
    let second = format!("{}/32", site::client(place.site, 1));
    several(
        rng,
        2,
        &[
            &first,
            &second,
            "127.0.0.0/8",
            "10.0.0.0/8",
            "::1",
            "0.0.0.0/0",
            "192.0.2.1",
            "foo",
            "10.0.0.1/33",
            "192.0.2.0/24",
        ],
    )
}

fn strategy(rng: &mut fastrand::Rng) -> Value {
    match rng.u8(..4) {
        0 => json!({ "depth": rng.u8(1..4) }),
        1 => json!({ "excludedIPs": ["192.0.2.1", "10.0.0.0/8"] }),
        _ => Value::Null,
    }
}

fn forwarded(rng: &mut fastrand::Rng, request: &mut crate::differential::case::Request) {
    if chance(rng, 50) {
        let lists = [
            "192.0.2.1",
            "10.0.0.1, 192.0.2.1",
            "192.0.2.1, 10.0.0.1",
            "x",
            "192.0.2.7,10.0.0.1,10.0.0.2",
            "",
            "::1",
        ];
        add(rng, request, "X-Forwarded-For", &lists);
    }
}

pub(super) const ALLOW_LIST: Kind = Kind {
    name: "ipAllowList",
    options: |rng, place| {
        options(
            "ipAllowList",
            json!({
                "sourceRange": ranges(rng, place),
                "ipStrategy": strategy(rng),
                "rejectStatusCode": maybe(rng, 30, &[403, 404, 401, 200, 503]),
            }),
        )
    },
    ask: forwarded,
};

pub(super) const WHITE_LIST: Kind = Kind {
    name: "ipWhiteList",
    options: |rng, place| {
        options(
            "ipWhiteList",
            json!({ "sourceRange": ranges(rng, place), "ipStrategy": strategy(rng) }),
        )
    },
    ask: forwarded,
};

/// Each with the password `test`, but for the third, a published test vector whose password is `U*U`.
const USERS: &[&str] = &[
    "test:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/",
    "sha:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=",
    "bcrypt:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
    "plain:test",
];

/// What clients say: right, wrong, and no sense.
const CREDENTIALS: &[&str] = &[
    "Basic dGVzdDp0ZXN0",     // test:test
    "Basic c2hhOnRlc3Q=",     // sha:test
    "Basic YmNyeXB0OlUqVQ==", // bcrypt:U*U
    "Basic cGxhaW46dGVzdA==", // plain:test
    "Basic dGVzdDp3cm9uZw==", // test:wrong
    "basic dGVzdDp0ZXN0",
    "Basic  dGVzdDp0ZXN0",
    "Basic dGVzdDp0ZXN0=",
    "Basic dGVzdA==",
    "Basic !!!",
    "Basic",
    "Bearer x",
    "Digest username=\"test\"",
    "",
];

pub(super) const BASIC: Kind = Kind {
    name: "basicAuth",
    options: |rng, _| {
        options(
            "basicAuth",
            json!({
                "users": several(rng, 3, USERS),
                "realm": maybe(rng, 40, &["private", "with \"quotes\"", ""]),
                "removeHeader": maybe(rng, 40, &[true, false]),
                "headerField": maybe(rng, 40, &["X-User", "X-A", ""]),
            }),
        )
    },
    ask: |rng, request| {
        if chance(rng, 85) {
            add(rng, request, "Authorization", CREDENTIALS);
        }
        if chance(rng, 20) {
            add(rng, request, "X-User", &["forged"]);
        }
    },
};

pub(super) const DIGEST: Kind = Kind {
    name: "digestAuth",
    options: |rng, _| {
        options(
            "digestAuth",
            json!({
                "users": ["test:traefik:a2688e031edb4be6a3797f3882655c05"],
                "realm": maybe(rng, 30, &["private"]),
                "removeHeader": maybe(rng, 40, &[true, false]),
                "headerField": maybe(rng, 40, &["X-User"]),
            }),
        )
    },
    ask: |rng, request| {
        if chance(rng, 60) {
            add(rng, request, "Authorization", CREDENTIALS);
        }
    },
};

pub(super) const FORWARD: Kind = Kind {
    name: "forwardAuth",
    options: |rng, place| {
        let address = format!(
            "{}{}",
            place.server(),
            pick(rng, &["/auth", "/auth?x=1", "/auth/"])
        );
        let dead = format!("http://{}:{}/auth", site::backend(place.site, 0), site::DEAD_PORT);
        let words = |rng: &mut fastrand::Rng, percent, values: &[&str]| {
            if chance(rng, percent) {
                several(rng, 2, values)
            } else {
                Value::Null
            }
        };
        // Without these two nothing would be known of what the authentication server was asked.
        let mut asked = words(rng, 30, &["X-A", "Authorization", "X-Forwarded-For"]);
        if let Value::Array(names) = &mut asked {
            names.extend([json!(PROBE), json!(AUTH_REPLY)]);
        }
        options(
            "forwardAuth",
            json!({
                "address": if chance(rng, 5) { dead } else { address },
                "trustForwardHeader": maybe(rng, 40, &[true, false]),
                "authResponseHeaders": words(rng, 50, &["X-User", "X-A", "X-Missing", "Set-Cookie"]),
                "authResponseHeadersRegex": maybe(rng, 20, &["^X-", "(", "User"]),
                "authRequestHeaders": asked,
                "addAuthCookiesToResponse": words(rng, 30, &["session", "other"]),
                "headerField": maybe(rng, 20, &["X-User"]),
                "forwardBody": maybe(rng, 30, &[true, false]),
                "maxBodySize": maybe(rng, 30, &[5, 100, -1]),
                "preserveLocationHeader": maybe(rng, 30, &[true, false]),
                "preserveRequestMethod": maybe(rng, 30, &[true, false]),
            }),
        )
    },
    ask: |rng, request| {
        let mut reply = Reply {
            status: one_of(rng, &[200, 200, 201, 204, 301, 302, 401, 403, 404, 500]),
            ..Reply::default()
        };
        for _ in 0..rng.usize(..4) {
            const ALL: &[(&str, &str)] = &[
                ("X-User", "somebody"),
                ("X-A", "auth"),
                ("Set-Cookie", "session=1; Path=/"),
                ("Set-Cookie", "other=2"),
                ("Location", "/login"),
                ("Location", "https://login.test/"),
                ("Content-Type", "text/html"),
                ("WWW-Authenticate", "Bearer"),
                ("Connection", "X-User"),
            ];
            let (name, value) = ALL[rng.usize(..ALL.len())];
            reply.headers.push((name.into(), value.into()));
        }
        if chance(rng, 50) && reply.status != 204 {
            reply.body = "who are you?".into();
        }
        say(request, AUTH_REPLY, &reply);
        if chance(rng, 30) {
            add(rng, request, "X-User", &["forged"]);
        }
        if chance(rng, 20) {
            add(rng, request, "X-Forwarded-For", &["192.0.2.1"]);
        }
        if chance(rng, 20) {
            add(rng, request, "Authorization", &["Bearer x"]);
        }
        if chance(rng, 20) {
            add(rng, request, "X-Forwarded-Method", &["DELETE"]);
        }
    },
};
