//! Qualified names: `NAME@PROVIDER` is how every object is known outside of the document that defines it.

use std::sync::Arc;

use crate::sources::Section;

/// The qualified name of an object that `provider` defines.
pub(super) fn qualify(name: &str, provider: &str) -> Arc<str> {
    let mut qualified = String::with_capacity(name.len() + 1 + provider.len());
    qualified.push_str(name);
    qualified.push('@');
    qualified.push_str(provider);
    qualified.into()
}

/// The name in the document of `provider` that [`qualify`] made `qualified` of.
pub(super) fn local<'a>(qualified: &'a str, provider: &str) -> &'a str {
    let suffix = qualified.strip_suffix(provider);
    suffix
        .and_then(|name| name.strip_suffix('@'))
        .unwrap_or(qualified)
}

/// A reference as a document of `provider` writes it: with its own provider behind the last `@`, else `provider`'s.
pub(super) fn split_reference<'a>(reference: &'a str, provider: &'a str) -> (&'a str, &'a str) {
    match reference.rsplit_once('@') {
        Some((name, other)) => (name, other),
        None => (reference, provider),
    }
}

/// Why `name` can't name an object in a document, if so.
pub(super) fn refusal(name: &str) -> Option<String> {
    if name.is_empty() {
        Some("the name is empty: give it one".to_owned())
    } else if name.contains('@') {
        Some(format!(
            "the name {name:?} contains \"@\", which separates a name from its provider in references: remove it"
        ))
    } else {
        None
    }
}

/// The same for an object of the section `http`: what begins like the names of another section would be taken for one.
pub(super) fn http_refusal(name: &str) -> Option<String> {
    let mut others = [Section::Tcp, Section::Udp].into_iter();
    match others.find(|section| name.starts_with(section.prefix())) {
        Some(section) => Some(format!(
            "the name {name:?} begins with {:?}, as those of {} objects do in lists: choose another one",
            section.prefix(),
            section.name()
        )),
        None => refusal(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_name_their_provider_behind_the_last_at_sign() {
        for (reference, expected) in [
            ("a", ("a", "docker")),
            ("a@file", ("a", "file")),
            ("a@b@file", ("a@b", "file")),
            ("a@", ("a", "")),
        ] {
            assert_eq!(split_reference(reference, "docker"), expected, "{reference}");
        }
        for name in ["a", "a@docker", ""] {
            assert_eq!(local(&qualify(name, "docker"), "docker"), name);
        }
    }

    #[test]
    fn a_defined_name_has_no_at_sign() {
        assert!(refusal("a").is_none());
        assert!(refusal("").is_some());
        assert!(refusal("a@docker").is_some_and(|m| m.contains("a@docker")));
    }

    #[test]
    fn names_of_http_objects_are_not_those_of_others() {
        for (name, refused) in [
            ("a", false),
            ("tcp", false),
            ("a/tcp/b", false),
            ("tcp/a", true),
            ("udp/", true),
            ("a@b", true),
        ] {
            assert_eq!(http_refusal(name).is_some(), refused, "{name}");
        }
    }
}
