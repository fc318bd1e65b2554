//! Maps from host names: exact, then one wildcard label.

use std::borrow::Cow;

use ahash::AHashMap;

/// A host name as maps have it: lower case, no trailing dot. Borrows when it is so already.
pub(super) fn canonical(name: &str) -> Cow<'_, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// Values by host name, `*.` standing for exactly one label.
#[derive(Clone, Debug)]
pub(super) struct NameMap<T> {
    exact: AHashMap<Box<str>, T>,
    /// By what follows the first dot.
    wildcard: AHashMap<Box<str>, T>,
}

impl<T> Default for NameMap<T> {
    fn default() -> Self {
        Self {
            exact: AHashMap::new(),
            wildcard: AHashMap::new(),
        }
    }
}

impl<T> NameMap<T> {
    /// The place of a name (any case, `*.` for a wildcard).
    pub(super) fn entry(&mut self, name: &str) -> std::collections::hash_map::Entry<'_, Box<str>, T> {
        let name = canonical(name);
        match name.strip_prefix("*.") {
            Some(parent) => self.wildcard.entry(parent.into()),
            None => self.exact.entry(name.as_ref().into()),
        }
    }

    /// What stands for `name` itself, then what stands for its wildcard.
    pub(super) fn matches(&self, name: &str) -> impl Iterator<Item = &T> {
        let name = canonical(name);
        let wildcard = name.split_once('.').filter(|(label, _)| !label.is_empty());
        let wildcard = wildcard.and_then(|(_, parent)| self.wildcard.get(parent));
        [self.exact.get(name.as_ref()), wildcard].into_iter().flatten()
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.exact.values_mut().chain(self.wildcard.values_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_names_go_before_one_wildcard_label() {
        let mut map = NameMap::default();
        for (name, value) in [
            ("a.Example.test", 1),
            ("*.example.test", 2),
            ("*.sub.example.test", 3),
        ] {
            map.entry(name).or_insert(value);
        }
        let cases: [(&str, &[i32]); 8] = [
            ("a.example.test", &[1, 2]),
            ("A.EXAMPLE.TEST.", &[1, 2]),
            ("b.example.test", &[2]),
            ("x.sub.example.test", &[3]),
            ("x.y.example.test", &[]),
            ("example.test", &[]),
            (".example.test", &[]),
            ("", &[]),
        ];
        for (name, expected) in cases {
            assert_eq!(map.matches(name).copied().collect::<Vec<_>>(), expected, "{name}");
        }
    }
}
