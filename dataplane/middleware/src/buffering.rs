//! `buffering`: bodies go on when they are whole, and only up to a size.

use std::sync::Arc;

use crate::Answer;
use crate::predicate::Predicate;

/// What is buffered at most where the options set no limit. A longer request is refused, a longer response streams from
/// there on.
const MAX_UNLIMITED: u64 = 16 << 20;

/// Takes whole bodies before they go on.
#[derive(Debug)]
pub struct Buffering(pub(crate) Arc<Buffers>);

/// What the options say about bodies.
#[derive(Debug)]
pub struct Buffers {
    max_request: Option<u64>,
    max_response: Option<u64>,
    /// When a request is sent again.
    pub retry: Option<Predicate>,
}

impl Buffering {
    /// Limits in bytes, 0 for none; an empty expression for no further attempts.
    pub fn new(max_request: i64, max_response: i64, retry_expression: &str) -> Result<Self, String> {
        let limit = |option: &str, bytes: i64| match u64::try_from(bytes) {
            Ok(0) => Ok(None),
            Ok(bytes) => Ok(Some(bytes)),
            Err(_) => Err(format!(
                "{option} is {bytes}: write a number of bytes, 0 for no limit"
            )),
        };
        let retry = match retry_expression.trim() {
            "" => None,
            text => {
                Some(Predicate::parse(text).map_err(|error| format!("retryExpression {text:?}: {error}"))?)
            }
        };
        Ok(Self(Arc::new(Buffers {
            max_request: limit("maxRequestBodyBytes", max_request)?,
            max_response: limit("maxResponseBodyBytes", max_response)?,
            retry,
        })))
    }
}

impl Buffers {
    /// What holds for bodies that go through this one and, inside, through another: the tighter limits. The inner one decides
    /// about further attempts, unless it says nothing of them.
    pub fn and(&self, inner: &Self) -> Self {
        let tighter = |outer: Option<u64>, inner: Option<u64>| match (outer, inner) {
            (Some(outer), Some(inner)) => Some(outer.min(inner)),
            (outer, inner) => outer.or(inner),
        };
        Self {
            max_request: tighter(self.max_request, inner.max_request),
            max_response: tighter(self.max_response, inner.max_response),
            retry: inner.retry.clone().or_else(|| self.retry.clone()),
        }
    }

    /// The longest request body that is taken.
    pub fn most_of_request(&self) -> u64 {
        self.max_request.unwrap_or(MAX_UNLIMITED)
    }

    /// The longest response body that is kept, and whether a longer one is refused.
    pub fn most_of_response(&self) -> (u64, bool) {
        (
            self.max_response.unwrap_or(MAX_UNLIMITED),
            self.max_response.is_some(),
        )
    }

    /// What clients get whose request is too long.
    pub fn too_long_request() -> Answer {
        Answer::plain(413, "Request Entity Too Large")
    }

    /// What clients get in the place of a response that is too long.
    pub fn too_long_response() -> Answer {
        Answer::plain(500, "Internal Server Error")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_what_stands_in_for_none() {
        let Buffering(some) = Buffering::new(10, 20, "Attempts() < 3").unwrap();
        assert_eq!(
            (some.most_of_request(), some.most_of_response()),
            (10, (20, true))
        );
        assert!(some.retry.is_some());
        let Buffering(none) = Buffering::new(0, 0, " ").unwrap();
        assert_eq!(
            (none.most_of_request(), none.most_of_response()),
            (MAX_UNLIMITED, (MAX_UNLIMITED, false))
        );
        assert!(none.retry.is_none());
        for both in [some.and(&none), none.and(&some)] {
            assert_eq!(
                (both.most_of_request(), both.most_of_response()),
                (10, (20, true))
            );
            assert!(both.retry.is_some());
        }
        let Buffering(other) = Buffering::new(5, 30, "").unwrap();
        let both = some.and(&other);
        assert_eq!((both.most_of_request(), both.most_of_response()), (5, (20, true)));
        for (request, response, expression, word) in [
            (-5, 0, "", "maxRequestBodyBytes"),
            (0, -1, "", "maxResponseBodyBytes"),
            (0, 0, "bogus(", "retryExpression"),
        ] {
            let error = Buffering::new(request, response, expression).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
