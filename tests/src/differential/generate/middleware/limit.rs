//! Middlewares that hold back: limits, buffers, retries, breakers. Times are such that none of them passes in a run.

use serde_json::{Value, json};

use super::{Kind, add, anything, maybe, one_of, options, several};
use crate::differential::generate::vocabulary::{chance, pick};

fn source(rng: &mut fastrand::Rng) -> Value {
    match rng.u8(..8) {
        0 => json!({ "requestHeaderName": "X-Source" }),
        1 => json!({ "requestHost": true }),
        2 => json!({ "ipStrategy": { "depth": 1 } }),
        3 => json!({ "ipStrategy": { "excludedIPs": ["10.0.0.0/8"] } }),
        4 if chance(rng, 20) => json!({ "requestHost": true, "requestHeaderName": "X-Source" }),
        _ => Value::Null,
    }
}

fn from(rng: &mut fastrand::Rng, request: &mut crate::differential::case::Request) {
    if chance(rng, 60) {
        add(rng, request, "X-Source", &["one", "two", "One", ""]);
    }
    if chance(rng, 30) {
        request.headers[0].1 = pick(rng, &["A.test", "a.test:80"]).to_owned();
    }
}

pub(super) const RATE: Kind = Kind {
    name: "rateLimit",
    options: |rng, _| {
        options(
            "rateLimit",
            json!({
                "average": one_of(rng, &[1, 1, 1, 1, 0, -1]),
                "period": pick(rng, &["1h", "24h", "10h"]),
                "burst": maybe(rng, 70, &[1, 3, 10, 0]),
                "sourceCriterion": source(rng),
            }),
        )
    },
    ask: from,
};

pub(super) const IN_FLIGHT: Kind = Kind {
    name: "inFlightReq",
    options: |rng, _| {
        options(
            "inFlightReq",
            json!({ "amount": one_of(rng, &[0, 1, 10, -1]), "sourceCriterion": source(rng) }),
        )
    },
    ask: from,
};

pub(super) const BUFFERING: Kind = Kind {
    name: "buffering",
    options: |rng, _| {
        options(
            "buffering",
            json!({
                "maxRequestBodyBytes": maybe(rng, 60, &[5, 14, 1000, 0, -1]),
                "memRequestBodyBytes": maybe(rng, 30, &[1, 1000]),
                "maxResponseBodyBytes": maybe(rng, 60, &[4, 1000, 0]),
                "memResponseBodyBytes": maybe(rng, 30, &[1, 1000]),
                "retryExpression": maybe(rng, 20, &[
                    "IsNetworkError() && Attempts() < 2",
                    "ResponseCode() == 503 && Attempts() <= 2",
                    "Attempts(",
                ]),
            }),
        )
    },
    ask: anything,
};

pub(super) const RETRY: Kind = Kind {
    name: "retry",
    options: |rng, _| {
        let status = if chance(rng, 50) {
            several(rng, 2, &["503", "500-599", "429", "x"])
        } else {
            Value::Null
        };
        options(
            "retry",
            json!({
                "attempts": one_of(rng, &[1, 2, 3, 0, -1]),
                "initialInterval": pick(rng, &["1ms", "2ms"]),
                "status": status,
                "disableRetryOnNetworkError": maybe(rng, 20, &[true, false]),
                "retryNonIdempotentMethod": maybe(rng, 30, &[true, false]),
            }),
        )
    },
    ask: anything,
};

pub(super) const CIRCUIT_BREAKER: Kind = Kind {
    name: "circuitBreaker",
    options: |rng, _| {
        let expressions = [
            "NetworkErrorRatio() > 0.5",
            "ResponseCodeRatio(500, 600, 0, 600) > 0.5",
            "LatencyAtQuantileMS(50.0) > 100000",
            "NetworkErrorRatio() >",
            "NetworkErrorRatio() > 0.5 || ResponseCodeRatio(500, 600, 0, 600) > 0.25",
            "",
            "Foo() > 1",
            "NetworkErrorRatio()",
            "NetworkErrorRatio() > 0.5 && !true",
        ];
        options(
            "circuitBreaker",
            json!({ "expression": pick(rng, &expressions), "checkPeriod": "1h", "responseCode": maybe(rng, 20, &[503, 418]) }),
        )
    },
    ask: anything,
};
