//! `inFlightReq`: so many requests of a source at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pingora_http::RequestHeader;

use crate::source::{Group, Grouping, Source};
use crate::{Answer, Flow, Later, Seen};

/// So many requests of a source at once.
#[derive(Debug)]
pub struct InFlightReq {
    amount: i64,
    source: Source,
    grouping: Grouping,
    counts: Arc<Counts>,
}

/// The requests of each source. A source without one is not there, so that there are never more than there are requests.
#[derive(Debug, Default)]
struct Counts(Mutex<HashMap<Group, i64>>);

impl Counts {
    fn lock(&self) -> MutexGuard<'_, HashMap<Group, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a request; it is given back when this is dropped.
#[derive(Debug)]
pub struct Place {
    counts: Arc<Counts>,
    group: Group,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(&self.group) {
            *count -= 1;
            if *count <= 0 {
                counts.remove(&self.group);
            }
        }
    }
}

impl InFlightReq {
    /// At most `amount` requests at once; none at all where it is not above 0.
    pub fn new(amount: i64, source: Source) -> Self {
        Self {
            amount,
            source,
            grouping: Grouping::default(),
            counts: Arc::default(),
        }
    }

    pub(crate) fn enter(&self, request: &RequestHeader, seen: &Seen<'_>) -> Flow<'static> {
        let group = self.grouping.of(&self.source, request, seen);
        let mut counts = self.counts.lock();
        let count = counts.get(&group).copied().unwrap_or(0);
        if count >= self.amount {
            let text = format!("max connections reached: {}", self.amount);
            return Flow::Answer(Box::new(Answer::plain(429, text)));
        }
        counts.insert(group, count + 1);
        drop(counts);
        Flow::Later(Later::Place(Place {
            counts: self.counts.clone(),
            group,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::ClientAddress;
    use crate::seen::seen_from;

    fn enter(limit: &InFlightReq, client: &str) -> Result<Later, String> {
        let request = RequestHeader::build("GET", b"/", None).unwrap();
        match limit.enter(&request, &seen_from(client)) {
            Flow::Later(later) => Ok(later),
            Flow::Answer(answer) => Err(format!(
                "{} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            )),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn places_are_given_back() {
        let limit = InFlightReq::new(2, Source::Address(ClientAddress::default()));
        let first = enter(&limit, "1.1.1.1:1").unwrap();
        let second = enter(&limit, "1.1.1.1:2").unwrap();
        let refused = "429 max connections reached: 2".to_owned();
        assert_eq!(enter(&limit, "1.1.1.1:3").unwrap_err(), refused);
        let other = enter(&limit, "1.1.1.2:1").unwrap();
        drop(first);
        let third = enter(&limit, "1.1.1.1:4").unwrap();
        assert_eq!(enter(&limit, "1.1.1.1:5").unwrap_err(), refused);
        drop((second, third, other));
        assert!(limit.counts.lock().is_empty());
    }

    #[test]
    fn nobody_enters_where_there_is_no_place() {
        for amount in [0, -1] {
            let limit = InFlightReq::new(amount, Source::Host);
            let text = format!("429 max connections reached: {amount}");
            assert_eq!(enter(&limit, "1.1.1.1:1").unwrap_err(), text);
        }
    }
}
