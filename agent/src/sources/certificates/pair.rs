//! Which certificate belongs to which key, by the names of the files in one folder. Pure.
//!
//! | certificate | key | written by |
//! |---|---|---|
//! | `NAME.crt`, `NAME.cer`, `NAME.pem`, `NAME-cert.pem` | `NAME.key`, `NAME-key.pem`, `NAME.crt.key` | lego, mkcert, people |
//! | `fullchain.pem` | `privkey.pem` | certbot |
//! | `fullchain.cer` | the only key beside it | acme.sh |
//! | any file with chain and key | the same file | HAProxy |

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::scan::Content;

/// A chain and its key; the same file twice when it holds both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pair {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
}

/// A file that is not used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unused {
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    pub(super) message: String,
}

/// What a file is used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Chain,
    Key,
}

/// The pairs of a folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Paired {
    pub(super) pairs: Vec<Pair>,
    pub(super) unused: Vec<Unused>,
}

/// The files of one name.
#[derive(Debug, Default)]
struct Group {
    chains: Vec<PathBuf>,
    keys: Vec<PathBuf>,
    both: Vec<PathBuf>,
}

/// The name of the group in which `fullchain.pem` and `privkey.pem` meet.
const NAMELESS: &str = "";

/// Pairs the files of one folder, given in order; a file of unknown content is taken for what its name says.
pub(super) fn pair(files: &[(PathBuf, Option<Content>)]) -> Paired {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for (path, content) in files {
        let name = name_of(path);
        match content {
            Some(Content::Other) => {}
            Some(Content::Both) => groups.entry(name).or_default().both.push(path.clone()),
            Some(Content::Chain) => {
                let group = groups.entry(chain_name(&name).to_owned()).or_default();
                group.chains.push(path.clone());
            }
            Some(Content::Key) => {
                let group = groups.entry(key_name(&name).to_owned()).or_default();
                group.keys.push(path.clone());
            }
            None if is_named_like_a_key(path, &name) => {
                let group = groups.entry(key_name(&name).to_owned()).or_default();
                group.keys.push(path.clone());
            }
            None => {
                let group = groups.entry(chain_name(&name).to_owned()).or_default();
                group.chains.push(path.clone());
            }
        }
    }
    let mut paired = Paired::default();
    full_chain(&mut groups, &mut paired);
    let issuers: Vec<String> = groups
        .keys()
        .filter(|name| {
            let of = name.strip_suffix(".issuer");
            of.is_some_and(|of| groups.contains_key(of))
        })
        .cloned()
        .collect();
    for (name, group) in groups {
        // lego puts the issuer's certificate beside the chain that has it already.
        if !issuers.contains(&name) {
            group.settle(&name, &mut paired);
        }
    }
    paired.pairs.sort();
    paired
}

/// A full chain goes with the private key that has no name of its own; acme.sh's goes with the only key there is. The
/// parts of the chain, which lie beside it, are then of no use.
fn full_chain(groups: &mut BTreeMap<String, Group>, paired: &mut Paired) {
    let nameless = groups.get(NAMELESS);
    let Some(chain) =
        nameless.and_then(|group| group.chains.iter().find(|chain| name_of(chain) == "fullchain"))
    else {
        return;
    };
    let mut keyed = groups.iter().filter(|(_, group)| !group.keys.is_empty());
    let owner = match (keyed.next(), keyed.next()) {
        // First of all in the order of names.
        (Some((name, group)), _) if name == NAMELESS => Some((name, group)),
        (Some(only), None) if has_extension(chain, "cer") => Some(only),
        _ => None,
    };
    let Some((owner, Some(key))) = owner.map(|(name, group)| (name.clone(), group.keys.first())) else {
        return;
    };
    paired.add(chain, key);
    for name in [NAMELESS, &owner] {
        groups.remove(name);
    }
    for part in ["chain", "ca"] {
        if groups.get(part).is_some_and(|group| group.keys.is_empty()) {
            groups.remove(part);
        }
    }
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
}

impl Paired {
    fn add(&mut self, chain: &Path, key: &Path) {
        self.pairs.push(Pair {
            chain: chain.to_owned(),
            key: key.to_owned(),
        });
    }

    fn unused(&mut self, path: &Path, kind: Kind, message: String) {
        self.unused.push(Unused {
            path: path.to_owned(),
            kind,
            message,
        });
    }
}

impl Group {
    /// Decides about the files of one name.
    fn settle(&self, name: &str, paired: &mut Paired) {
        match (self.chains.first(), self.keys.first()) {
            (Some(chain), Some(key)) => {
                paired.add(chain, key);
                let more = self.chains.iter().skip(1).map(|path| (path, Kind::Chain, chain));
                for (path, kind, used) in more.chain(self.keys.iter().skip(1).map(|p| (p, Kind::Key, key))) {
                    let used = used.file_name().unwrap_or_default().display().to_string();
                    paired.unused(
                        path,
                        kind,
                        format!("{used} has the same name and is used instead; remove one of them"),
                    );
                }
            }
            // Perhaps with its chain or its key in a file of its own beside it.
            _ if !self.both.is_empty() => {
                for both in &self.both {
                    paired.add(both, both);
                }
            }
            (None, None) => {}
            (Some(_), None) => {
                for chain in &self.chains {
                    let key = match name {
                        NAMELESS => "privkey.pem".to_owned(),
                        name => format!("{name}.key"),
                    };
                    let message = format!(
                        "its key is missing: put it beside the certificate as {key}, or into the same file"
                    );
                    paired.unused(chain, Kind::Chain, message);
                }
            }
            (None, Some(_)) => {
                for key in &self.keys {
                    let chain = match name {
                        NAMELESS => "fullchain.pem".to_owned(),
                        name => format!("{name}.crt"),
                    };
                    let message = format!(
                        "its certificate is missing: put it beside the key as {chain}, or remove the key"
                    );
                    paired.unused(key, Kind::Key, message);
                }
            }
        }
    }
}

/// The file's name without its extension, and without that of the certificate in `NAME.crt.key`.
fn name_of(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let inner = [".crt", ".cer", ".pem"]
        .iter()
        .find_map(|extension| stem.strip_suffix(extension))
        .filter(|_| has_extension(path, "key"));
    inner.unwrap_or(&stem).to_owned()
}

fn chain_name(name: &str) -> &str {
    match name {
        "fullchain" | "cert" => NAMELESS,
        name => strip_any(name, &["-cert", "_cert", ".cert"]),
    }
}

fn key_name(name: &str) -> &str {
    match name {
        "privkey" | "key" => NAMELESS,
        name => strip_any(name, &["-key", "_key", ".key"]),
    }
}

fn strip_any<'n>(name: &'n str, suffixes: &[&str]) -> &'n str {
    let stripped = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
    stripped.unwrap_or(name)
}

fn is_named_like_a_key(path: &Path, name: &str) -> bool {
    has_extension(path, "key") || key_name(name) != name
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `CHAIN+KEY` of every pair, then `unused FILE` of the others.
    fn paired(files: &[(&str, Option<Content>)]) -> Vec<String> {
        let files: Vec<_> = files
            .iter()
            .map(|(name, content)| (PathBuf::from(name), *content))
            .collect();
        let paired = pair(&files);
        let pairs = paired
            .pairs
            .iter()
            .map(|pair| format!("{}+{}", pair.chain.display(), pair.key.display()));
        let unused = paired
            .unused
            .iter()
            .map(|unused| format!("unused {}", unused.path.display()));
        pairs.chain(unused).collect()
    }

    #[test]
    fn every_layout_finds_its_pairs() {
        const C: Option<Content> = Some(Content::Chain);
        const K: Option<Content> = Some(Content::Key);
        const B: Option<Content> = Some(Content::Both);
        const O: Option<Content> = Some(Content::Other);
        type Files = &'static [(&'static str, Option<Content>)];
        let table: [(Files, &[&str]); 19] = [
            (&[("a.crt", C), ("a.key", K)], &["a.crt+a.key"]),
            (&[("a.pem", C), ("a.key", K)], &["a.pem+a.key"]),
            (&[("a.cer", C), ("a.key", K)], &["a.cer+a.key"]),
            (&[("a.CRT", C), ("a.KEY", K)], &["a.CRT+a.KEY"]),
            // mkcert.
            (&[("a-key.pem", K), ("a.pem", C)], &["a.pem+a-key.pem"]),
            (&[("cert.pem", C), ("key.pem", K)], &["cert.pem+key.pem"]),
            (&[("a.cert.pem", C), ("a.key.pem", K)], &["a.cert.pem+a.key.pem"]),
            // HAProxy.
            (
                &[("a.pem", B), ("b.crt", C), ("b.crt.key", K)],
                &["a.pem+a.pem", "b.crt+b.crt.key"],
            ),
            // certbot.
            (
                &[
                    ("cert.pem", C),
                    ("chain.pem", C),
                    ("fullchain.pem", C),
                    ("privkey.pem", K),
                ],
                &["fullchain.pem+privkey.pem"],
            ),
            // acme.sh.
            (
                &[
                    ("a.test.cer", C),
                    ("a.test.key", K),
                    ("ca.cer", C),
                    ("fullchain.cer", C),
                ],
                &["fullchain.cer+a.test.key"],
            ),
            // lego, with and without a file of everything.
            (
                &[("a.crt", C), ("a.issuer.crt", C), ("a.key", K)],
                &["a.crt+a.key"],
            ),
            (&[("a.crt", C), ("a.key", K), ("a.pem", B)], &["a.crt+a.key"]),
            (&[("a.crt", C), ("a.pem", B)], &["a.pem+a.pem"]),
            // Alone.
            (&[("a.crt", C), ("b.key", K)], &["unused a.crt", "unused b.key"]),
            (&[("fullchain.pem", C)], &["unused fullchain.pem"]),
            (
                &[("a.crt", C), ("a.key", K), ("fullchain.pem", C)],
                &["a.crt+a.key", "unused fullchain.pem"],
            ),
            (
                &[("a.crt", C), ("a.key", K), ("a.pem", C)],
                &["a.crt+a.key", "unused a.pem"],
            ),
            (&[("dhparam.pem", O)], &[]),
            // Nobody can tell what they hold.
            (
                &[
                    ("a-key.pem", None),
                    ("a.pem", None),
                    ("b.crt", None),
                    ("b.key", None),
                ],
                &["a.pem+a-key.pem", "b.crt+b.key"],
            ),
        ];
        for (files, expected) in table {
            assert_eq!(paired(files), expected, "{files:?}");
        }
    }
}
