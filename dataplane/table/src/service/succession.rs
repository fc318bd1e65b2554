//! From one generation to the next: which endpoint is which, and which ones leave.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use crate::{Condition, Endpoint, Scheme, Service, Snapshot};

/// What makes an endpoint the same one in another generation of its service, whatever its condition and weight.
type Identity<'e> = (&'e str, Scheme, &'e str, u16);

fn identity(endpoint: &Endpoint) -> Identity<'_> {
    (&endpoint.name, endpoint.scheme, &endpoint.host, endpoint.port)
}

/// Gives new endpoints the live side of the old ones that they follow. One that was unavailable and is no more was
/// started anew: what was inferred of it is forgotten, and it is eased in. One that was drained and is not any more is
/// what it was before.
pub(super) fn adopt(new: Vec<Arc<Endpoint>>, old: &[Arc<Endpoint>]) -> Vec<Arc<Endpoint>> {
    if same(&new, old) {
        return new;
    }
    let followed = matches(&new, old);
    let follow = |(endpoint, old): (Arc<Endpoint>, Option<&Arc<Endpoint>>)| match old {
        Some(old) => succeed(endpoint, old),
        None => endpoint,
    };
    new.into_iter().zip(followed).map(follow).collect()
}

/// The old endpoint that each new one follows. Of several equal ones the first follows the first.
fn matches<'o>(new: &[Arc<Endpoint>], old: &'o [Arc<Endpoint>]) -> Vec<Option<&'o Arc<Endpoint>>> {
    let mut waiting: HashMap<Identity<'_>, Vec<&'o Arc<Endpoint>>> = HashMap::new();
    for endpoint in old.iter().rev() {
        waiting.entry(identity(endpoint)).or_default().push(endpoint);
    }
    new.iter()
        .map(|endpoint| waiting.get_mut(&identity(endpoint))?.pop())
        .collect()
}

fn succeed(endpoint: Arc<Endpoint>, old: &Arc<Endpoint>) -> Arc<Endpoint> {
    if Arc::ptr_eq(&endpoint, old) {
        return endpoint;
    }
    let is_out = |endpoint: &Endpoint| matches!(endpoint.condition, Condition::Unavailable(_));
    if is_out(old) && !is_out(&endpoint) {
        old.live.restart();
    }
    if endpoint.condition == Condition::Ready {
        old.live.arrive();
    }
    if Arc::ptr_eq(&endpoint.live, &old.live) {
        endpoint
    } else {
        Arc::new(endpoint.with_live(old.live.clone()))
    }
}

fn same(a: &[Arc<Endpoint>], b: &[Arc<Endpoint>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// An endpoint that served in one generation and does not in the next.
#[derive(Clone, Debug)]
pub struct Departure {
    /// Its service, as it was.
    pub service: Arc<Service>,
    /// The endpoint, as it was.
    pub endpoint: Arc<Endpoint>,
    /// What the next generation says of it; `None`: it has it no more.
    pub condition: Option<Condition>,
}

impl Snapshot {
    /// The endpoints that served in `old` and do not in `new`: gone, stopped, or draining. Whoever publishes tells the
    /// data plane. What did not change costs a comparison of pointers per service.
    pub fn departures(old: &Snapshot, new: &Snapshot) -> Vec<Departure> {
        let mut left = Vec::new();
        let mut successors = new.services().iter().peekable();
        for service in old.services() {
            let mut successor = None;
            while let Some(candidate) = successors.peek() {
                match order(candidate, service) {
                    Ordering::Less => {
                        successors.next();
                    }
                    Ordering::Equal => {
                        successor = successors.next();
                        break;
                    }
                    Ordering::Greater => break,
                }
            }
            leave(service, successor, &mut left);
        }
        left
    }
}

/// By name; the same object needs no look at its name.
fn order(a: &Arc<Service>, b: &Arc<Service>) -> Ordering {
    if Arc::ptr_eq(a, b) {
        Ordering::Equal
    } else {
        a.name.cmp(&b.name)
    }
}

fn leave(old: &Arc<Service>, new: Option<&Arc<Service>>, left: &mut Vec<Departure>) {
    let new = match new {
        Some(new) if Arc::ptr_eq(old, new) || same(&old.endpoints, &new.endpoints) => return,
        Some(new) => new.endpoints.as_slice(),
        None => &[],
    };
    let conditions: HashMap<_, _> = new
        .iter()
        .map(|endpoint| (Arc::as_ptr(&endpoint.live), &endpoint.condition))
        .collect();
    for endpoint in old.endpoints.iter().filter(|e| e.condition == Condition::Ready) {
        let condition = conditions.get(&Arc::as_ptr(&endpoint.live)).copied();
        if condition != Some(&Condition::Ready) {
            left.push(Departure {
                service: old.clone(),
                endpoint: endpoint.clone(),
                condition: condition.cloned(),
            });
        }
    }
}
