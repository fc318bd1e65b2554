//! The list of middlewares that one router runs.

use std::any::Any;
use std::sync::Arc;

use constellation_table::Steps;

use crate::Middleware;

/// The middlewares of one router, first to last for requests.
#[derive(Clone, Debug)]
pub struct Chain(Box<[Arc<Middleware>]>);

impl Chain {
    /// The chain of these, in this order; the same may stand in it twice.
    pub fn new(middlewares: Vec<Arc<Middleware>>) -> Self {
        Self(middlewares.into())
    }

    /// The chain that a router carries, if it has one.
    pub fn of(steps: Option<&Arc<dyn Steps>>) -> Option<&Self> {
        let steps: &dyn Any = &**steps?;
        steps.downcast_ref()
    }

    /// Its middlewares, in order.
    pub fn middlewares(&self) -> &[Arc<Middleware>] {
        &self.0
    }
}

impl Steps for Chain {
    fn names(&self) -> Vec<Arc<str>> {
        self.0.iter().map(|middleware| middleware.name.clone()).collect()
    }

    fn is_same(&self, other: &dyn Steps) -> bool {
        let other: &dyn Any = other;
        let same = |other: &Self| {
            self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| Arc::ptr_eq(a, b))
        };
        other.downcast_ref().is_some_and(same)
    }
}
