//! Compiled rules by text, so that neither a second router with the same rule nor the next generation parses again.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use constellation_table::Rule;
use constellation_table::rule::RuleError;

/// The cache. Rules that nobody uses any more are dropped once they outnumber the used ones.
#[derive(Debug, Default)]
pub(super) struct RuleCache {
    rules: HashSet<ByText>,
    sweep_at: usize,
}

#[derive(Debug)]
struct ByText(Arc<Rule>);

impl Borrow<str> for ByText {
    fn borrow(&self) -> &str {
        self.0.text()
    }
}

impl Hash for ByText {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.text().hash(state);
    }
}

impl PartialEq for ByText {
    fn eq(&self, other: &Self) -> bool {
        self.0.text() == other.0.text()
    }
}

impl Eq for ByText {}

impl RuleCache {
    const SMALLEST_SWEEP: usize = 1024;

    /// The compiled rule of `text`.
    pub(super) fn get(&mut self, text: &str) -> Result<Arc<Rule>, RuleError> {
        if let Some(ByText(rule)) = self.rules.get(text) {
            return Ok(rule.clone());
        }
        let rule = Arc::new(Rule::parse_http(text)?);
        self.rules.insert(ByText(rule.clone()));
        Ok(rule)
    }

    /// Drops unused rules when the cache has doubled since the last sweep. Called after a compile, while the routers
    /// of that compile hold theirs.
    pub(super) fn sweep(&mut self) {
        if self.rules.len() > self.sweep_at.max(Self::SMALLEST_SWEEP) {
            self.rules.retain(|ByText(rule)| Arc::strong_count(rule) > 1);
            self.sweep_at = self.rules.len() * 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_is_parsed_once() {
        let mut cache = RuleCache::default();
        let first = cache.get("Host(`a.test`)").unwrap();
        assert!(Arc::ptr_eq(&first, &cache.get("Host(`a.test`)").unwrap()));
    }

    #[test]
    fn unused_rules_leave_once_the_cache_has_grown() {
        let mut cache = RuleCache::default();
        let kept = cache.get("Host(`kept.test`)").unwrap();
        for n in 0..RuleCache::SMALLEST_SWEEP {
            cache.get(&format!("Host(`h{n}.test`)")).unwrap();
        }
        cache.sweep();
        assert_eq!(cache.rules.len(), 1);
        assert!(Arc::ptr_eq(&kept, &cache.get("Host(`kept.test`)").unwrap()));
    }
}
