//! Dotted label keys to a tree: `traefik.http.routers.a.tls.domains[0].main=x` is six nodes deep.
//!
//! Keys are compared without case and the first spelling in byte order is kept, as Traefik does; only the root must be
//! written `traefik`. What the nodes mean is the business of [`super::decode`].

use std::collections::BTreeMap;

use super::LabelError;

/// The root of all labels that are read.
pub(super) const ROOT: &str = "traefik";

/// Elements of a key. The deepest option lies 8 below the root; plugins may have some more.
const MAX_DEPTH: usize = 32;

/// Labels of one container that are read, so that a container with a hundred thousand of them delays no other.
const MAX_LABELS: usize = 5_000;

/// A name, the value of the label that ends here (empty when none does), and what is below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) children: Vec<Node>,
}

impl Node {
    fn insert(&mut self, path: &[String], value: &str) {
        let Some((name, rest)) = path.split_first() else {
            value.clone_into(&mut self.value);
            return;
        };
        let position = self.children.iter().position(|child| same(&child.name, name));
        let child = match position {
            Some(position) => &mut self.children[position],
            None => {
                self.children.push(Node {
                    name: name.clone(),
                    ..Node::default()
                });
                let last = self.children.len() - 1;
                &mut self.children[last]
            }
        };
        child.insert(rest, value);
    }
}

/// The tree of all labels below `root` as far as their keys can be read, and what is wrong with the others.
pub(super) fn grow_leniently(labels: &BTreeMap<String, String>, root: &str) -> (Node, Vec<LabelError>) {
    let mut tree = Node {
        name: root.to_owned(),
        ..Node::default()
    };
    let mut errors = Vec::new();
    let below = |key: &&String| key.strip_prefix(root).is_some_and(|rest| rest.starts_with('.'));
    let relevant = labels.iter().filter(|(key, _)| below(key));
    for (key, value) in relevant.take(MAX_LABELS) {
        match split(key, root) {
            Ok(path) => tree.insert(&path, value),
            Err(error) => errors.push(error),
        }
    }
    (tree, errors)
}

/// The tree of all labels whose key starts, in any case, with one of `prefixes`; the others are not looked at.
pub(super) fn grow(labels: &BTreeMap<String, String>, prefixes: &[&str]) -> Result<Node, LabelError> {
    let mut root = Node {
        name: ROOT.to_owned(),
        ..Node::default()
    };
    let relevant = |key: &str| prefixes.iter().any(|prefix| starts_with(key, prefix));
    for (count, (key, value)) in labels.iter().filter(|(key, _)| relevant(key)).enumerate() {
        if count == MAX_LABELS {
            let message = format!("more than {MAX_LABELS} labels define routes; use a file for so many");
            return Err(LabelError::new(key, message));
        }
        root.insert(&split(key, ROOT)?, value);
    }
    Ok(root)
}

/// The path below the root, with `name[n]` as two steps.
fn split(key: &str, root: &str) -> Result<Vec<String>, LabelError> {
    let mut steps = Vec::new();
    let mut elements = key.split('.');
    if elements.next() != Some(root) {
        return Err(LabelError::new(
            key,
            format!("the first element must be written `{root}`, in lower case"),
        ));
    }
    for element in elements {
        if steps.len() >= MAX_DEPTH {
            let start: String = key.chars().take(64).collect();
            return Err(LabelError::new(
                &start,
                format!("it has more than {MAX_DEPTH} elements"),
            ));
        }
        if element.is_empty() {
            return Err(LabelError::new(
                key,
                "it has an empty element; remove the extra dot",
            ));
        }
        match element.find('[') {
            Some(0) => {
                return Err(LabelError::new(
                    key,
                    format!("`{element}` has an index without a name; write `name[0]`"),
                ));
            }
            Some(position) if element.ends_with(']') => {
                steps.push(element[..position].to_owned());
                steps.push(element[position..].to_owned());
            }
            None if element.ends_with(']') => {
                return Err(LabelError::new(
                    key,
                    format!("`{element}` closes an index that it doesn't open; write `name[0]`"),
                ));
            }
            _ => steps.push(element.to_owned()),
        }
    }
    Ok(steps)
}

fn starts_with(key: &str, prefix: &str) -> bool {
    key.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Equal without case, for all scripts: names of routers may hold any letter.
pub(super) fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b) || (!(a.is_ascii() && b.is_ascii()) && a.to_lowercase() == b.to_lowercase())
}
