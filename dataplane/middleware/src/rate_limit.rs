//! `rateLimit`: so many requests in a time for each source, with a bucket of tokens.

use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue};
use pingora_http::RequestHeader;

use crate::source::{Grouping, Groups, Source};
use crate::{Answer, Ask, Flow, Seen, go};

/// So many requests in a time for each source.
///
/// A bucket holds up to `burst` tokens and gets `average` in a `period`. A request takes one; where there is none but one
/// is about to come, within half the time between two of them and half a second, the request waits for it.
#[derive(Debug)]
pub struct RateLimit {
    source: Source,
    /// `None`: no limit.
    rate: Option<Rate>,
    grouping: Grouping,
    buckets: Groups<Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    /// Tokens a second.
    per_second: f64,
    burst: f64,
    longest_wait: Duration,
}

/// The tokens of one source.
#[derive(Debug)]
struct Bucket {
    /// Below zero: so many are taken by requests that wait.
    tokens: f64,
    at: Instant,
}

impl RateLimit {
    /// `average` requests in a `period`, and `burst` at once; no limit where `average` is not above 0. A `period` of zero
    /// is one second, a `burst` below 1 is 1.
    pub fn new(average: i64, period: Duration, burst: i64, source: Source) -> Self {
        let period = if period.is_zero() {
            Duration::from_secs(1)
        } else {
            period
        };
        let rate = u32::try_from(average).unwrap_or(if average > 0 { u32::MAX } else { 0 });
        let rate = (rate > 0).then(|| {
            let per_second = f64::from(rate) / period.as_secs_f64();
            let half = Duration::from_millis(500);
            Rate {
                per_second,
                burst: f64::from(u32::try_from(burst.max(1)).unwrap_or(u32::MAX)),
                // What divides is the whole number of tokens in a second.
                longest_wait: if per_second < 1.0 {
                    half
                } else {
                    half.div_f64(per_second.floor())
                },
            }
        });
        Self {
            source,
            rate,
            grouping: Grouping::default(),
            buckets: Groups::default(),
        }
    }

    pub(crate) fn enter(&self, request: &RequestHeader, seen: &Seen<'_>) -> Flow<'static> {
        let Some(rate) = self.rate else {
            return Flow::Next;
        };
        let group = self.grouping.of(&self.source, request, seen);
        let full = || Bucket {
            tokens: rate.burst,
            at: seen.now,
        };
        match self
            .buckets
            .with(group, full, |bucket| bucket.take(rate, seen.now))
        {
            Ok(Duration::ZERO) => Flow::Next,
            Ok(wait) => Flow::Ask(Ask::Wait(wait)),
            Err(wait) => Flow::Answer(Box::new(too_many(wait))),
        }
    }
}

impl Bucket {
    /// Takes a token, and says for how long to wait for it. The error says how long that would be; nothing is taken.
    fn take(&mut self, rate: Rate, now: Instant) -> Result<Duration, Duration> {
        // Requests of several workers come out of order by a little.
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * rate.per_second;
        let tokens = (self.tokens + gained).min(rate.burst);
        self.tokens = tokens;
        self.at = self.at.max(now);
        let missing = 1.0 - tokens;
        let wait = if missing <= 0.0 {
            Duration::ZERO
        } else {
            // Longer than a century is long enough to say.
            Duration::try_from_secs_f64(missing / rate.per_second)
                .unwrap_or(Duration::from_secs(u64::from(u32::MAX)))
        };
        if wait > rate.longest_wait {
            return Err(wait);
        }
        self.tokens -= 1.0;
        Ok(wait)
    }
}

fn too_many(wait: Duration) -> Answer {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let answer =
        Answer::plain(429, "Too Many Requests").with(http::header::RETRY_AFTER, HeaderValue::from(seconds));
    match HeaderValue::from_str(&go::duration(wait)) {
        Ok(value) => answer.with(HeaderName::from_static("x-retry-in"), value),
        Err(_) => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::ClientAddress;
    use crate::seen::seen_from;

    fn limit(average: i64, period: u64, burst: i64) -> RateLimit {
        let source = Source::Address(ClientAddress::default());
        RateLimit::new(average, Duration::from_millis(period), burst, source)
    }

    /// What becomes of a request at this time from this address.
    fn ask(limit: &RateLimit, begun: Instant, millis: u64, client: &str) -> String {
        let request = RequestHeader::build("GET", b"/", None).unwrap();
        let seen = Seen {
            now: begun + Duration::from_millis(millis),
            ..seen_from(client)
        };
        match limit.enter(&request, &seen) {
            Flow::Next => "next".to_owned(),
            Flow::Ask(Ask::Wait(wait)) => format!("wait {}", go::duration(wait)),
            Flow::Answer(answer) => {
                let header = |name: &str| answer.headers[name].to_str().unwrap().to_owned();
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                assert_eq!((answer.status, body.as_str()), (429, "Too Many Requests"));
                format!("429 {} {}", header("retry-after"), header("x-retry-in"))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tokens_come_and_go() {
        // average, period in ms, burst; at ms: what becomes of a request
        type Course = &'static [(u64, &'static str)];
        let cases: [(i64, u64, i64, Course); 7] = [
            (
                1,
                1000,
                1,
                &[
                    (0, "next"),
                    (0, "429 1 1s"),
                    (499, "429 1 501ms"),
                    (500, "wait 500ms"),
                    (1000, "429 1 1s"),
                ],
            ),
            (
                5,
                1000,
                2,
                &[
                    (0, "next"),
                    (0, "next"),
                    (0, "429 1 200ms"),
                    (100, "wait 100ms"),
                    (100, "429 1 300ms"),
                ],
            ),
            (
                1,
                3_600_000,
                2,
                &[
                    (0, "next"),
                    (0, "next"),
                    (0, "429 3600 1h0m0s"),
                    (3_600_000, "next"),
                ],
            ),
            // A burst below 1 is 1, a period of zero is one second.
            (1, 0, 0, &[(0, "next"), (0, "429 1 1s"), (1000, "next")]),
            (1, 0, -5, &[(0, "next"), (0, "429 1 1s")]),
            // No limit.
            (0, 1000, 1, &[(0, "next"), (0, "next"), (0, "next")]),
            (-1, 1000, 1, &[(0, "next"), (0, "next"), (0, "next")]),
        ];
        for (average, period, burst, course) in cases {
            let (limit, begun) = (limit(average, period, burst), Instant::now());
            for (at, expected) in course {
                assert_eq!(
                    ask(&limit, begun, *at, "1.1.1.1:1"),
                    *expected,
                    "{average} {burst} at {at}"
                );
            }
        }
    }

    #[test]
    fn each_source_has_its_own() {
        let (limit, begun) = (limit(1, 60_000, 1), Instant::now());
        assert_eq!(ask(&limit, begun, 0, "1.1.1.1:1"), "next");
        assert_eq!(ask(&limit, begun, 0, "1.1.1.1:2"), "429 60 1m0s");
        assert_eq!(ask(&limit, begun, 0, "1.1.1.2:1"), "next");
    }

    #[test]
    fn a_clock_that_steps_back_gives_no_token() {
        let limit = limit(1, 1000, 1);
        let begun = Instant::now() + Duration::from_secs(10);
        assert_eq!(ask(&limit, begun, 0, "1.1.1.1:1"), "next");
        assert!(ask(&limit, begun - Duration::from_secs(5), 0, "1.1.1.1:1").starts_with("429"));
        assert!(ask(&limit, begun, 0, "1.1.1.1:1").starts_with("429"));
    }

    proptest::proptest! {
        /// However requests come, no more pass in a time than the burst and what the rate gives, those that wait included.
        #[test]
        fn no_more_pass_than_the_rate_gives(
            average in 1i64..200,
            burst in 1i64..50,
            gaps in proptest::collection::vec(0u64..300, 1..200),
        ) {
            let (limit, begun) = (limit(average, 1000, burst), Instant::now());
            let (mut at, mut passed) = (0, 0u64);
            for gap in gaps {
                at += gap;
                passed += u64::from(!ask(&limit, begun, at, "1.1.1.1:1").starts_with("429"));
                let average = u64::try_from(average).unwrap();
                let most = u64::try_from(burst).unwrap() + at * average / 1000 + 1;
                proptest::prop_assert!(passed <= most, "{passed} of {most} by {at} ms");
            }
        }
    }
}
