//! How the endpoints of a service take turns, in words.

use crate::policy::{Balance, HashKey};
use crate::{Candidates, Service};

/// `least requests`, and what the sticky cookie says.
pub(super) fn by(service: &Service, candidates: &Candidates<'_>) -> String {
    let algorithm = match &service.policy.balance {
        Balance::RoundRobin => "round robin".to_owned(),
        Balance::LeastRequests => "least requests".to_owned(),
        Balance::LeastTime => "least time".to_owned(),
        Balance::Hash { key, bound } => {
            let key = match key {
                HashKey::ClientAddress => "the client's address".to_owned(),
                HashKey::Header(name) => format!("the header {name}"),
                HashKey::Cookie(name) => format!("the cookie {name}"),
            };
            let bound = bound.map(|bound| format!(", at most {bound} % of the mean load each"));
            format!("hash of {key}{}", bound.unwrap_or_default())
        }
    };
    let Some(cookie) = &service.policy.sticky else {
        return algorithm;
    };
    let named = candidates
        .carried
        .0
        .and_then(|held| service.endpoints.get(held.place));
    let sticky = match (candidates.held, named) {
        (Some(held), _) => format!("the sticky cookie {} names {}", cookie.name, held.name),
        (None, Some(named)) => {
            format!(
                "the sticky cookie {} names {}, which can't serve",
                cookie.name, named.name
            )
        }
        (None, None) => format!("no sticky cookie {} that names an endpoint", cookie.name),
    };
    format!("{algorithm}; {sticky}")
}
