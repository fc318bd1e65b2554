//! Balancing: the order in which the endpoints of a service are tried.

/// The smooth weighted round-robin sequence of a service: at position `n` the endpoint `schedule[n % len]` goes first.
///
/// Precomputed, so that a turn costs one index. Empty when no endpoint has a weight above zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule(Box<[u16]>);

impl Schedule {
    /// Spreads the endpoints evenly by weight.
    pub fn smooth(weights: impl IntoIterator<Item = u32>) -> Self {
        Self(
            weights
                .into_iter()
                .enumerate()
                .filter(|(_, w)| *w > 0)
                .map(|(i, _)| i as _)
                .collect(),
        )
    }

    /// The index of the endpoint whose turn `position` is.
    pub fn at(&self, position: u64) -> Option<usize> {
        let len = u64::try_from(self.0.len()).ok().filter(|l| *l > 0)?;
        usize::try_from(position % len)
            .ok()
            .and_then(|i| self.0.get(i))
            .map(|i| usize::from(*i))
    }
}
