//! Names in the document: bare, and each once.
//!
//! A Traefik that polls knows one provider, so `web@docker` and `web@file` can't both be `web`. The first of `docker`, `file`
//! and the others keeps its name; a later one is called `web-file`.

use std::collections::{BTreeMap, BTreeSet};

/// The names of one kind of object.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// By provider and name.
    bare: BTreeMap<&'static str, BTreeMap<String, String>>,
    taken: BTreeSet<String>,
}

impl Names {
    /// Names for objects of all providers. The same objects get the same names, in whatever order they come.
    pub(super) fn of<'n>(objects: impl IntoIterator<Item = (&'static str, &'n str)>) -> Self {
        let mut objects: Vec<(&'static str, &str)> = objects.into_iter().collect();
        let rank = |provider: &str| {
            ["docker", "file"]
                .iter()
                .position(|p| *p == provider)
                .unwrap_or(2)
        };
        objects.sort_by_key(|(provider, name)| (rank(provider), *provider, *name));
        objects.dedup();
        let mut names = Self::default();
        let (first, clashing): (Vec<_>, Vec<_>) = {
            let mut seen = BTreeSet::new();
            objects.into_iter().partition(|(_, name)| seen.insert(*name))
        };
        for (provider, name) in first {
            names.taken.insert(name.to_owned());
            names.set(provider, name, name.to_owned());
        }
        for (provider, name) in clashing {
            let bare = names.free(&format!("{name}-{provider}"));
            names.set(provider, name, bare);
        }
        names
    }

    fn set(&mut self, provider: &'static str, name: &str, bare: String) {
        let of_provider = self.bare.entry(provider).or_default();
        of_provider.insert(name.to_owned(), bare);
    }

    /// A name that nobody has, as near to this one as can be.
    pub(super) fn free(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut number = 1_u32;
        while !self.taken.insert(name.clone()) {
            number = number.saturating_add(1);
            name = format!("{wanted}-{number}");
        }
        name
    }

    /// The name of an object.
    pub(super) fn bare(&self, provider: &str, name: &str) -> Option<&str> {
        self.bare.get(provider)?.get(name).map(String::as_str)
    }

    /// What a reference in a document of `provider` stands for.
    pub(super) fn resolve(&self, reference: &str, provider: &str) -> Option<&str> {
        match reference.rsplit_once('@') {
            Some((name, owner)) => self.bare(owner, name),
            None => self.bare(provider, reference),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_two_providers_have_is_told_apart() {
        let names = Names::of([
            ("file", "web"),
            ("docker", "web"),
            ("file", "only"),
            ("docker", "web-file"),
        ]);
        assert_eq!(names.bare("docker", "web"), Some("web"));
        assert_eq!(names.bare("docker", "web-file"), Some("web-file"));
        assert_eq!(names.bare("file", "web"), Some("web-file-2"));
        assert_eq!(names.resolve("only", "file"), Some("only"));
        assert_eq!(names.resolve("only@file", "docker"), Some("only"));
        assert_eq!(names.resolve("only", "docker"), None);
        assert_eq!(names.resolve("web@docker", "file"), Some("web"));
        assert_eq!(names.resolve("api@internal", "docker"), None);
    }
}
