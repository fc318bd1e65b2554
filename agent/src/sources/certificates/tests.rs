//! Directories and what becomes of them: added, renewed, broken, halved, removed, and swapped under watch.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use constellation_config::Config;
use constellation_dataplane::tls::TlsContext;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;

use super::*;
use crate::compile::{Compiler, Statics};
use crate::sources::Contribution;
use crate::sources::watched::Read as _;
use crate::sources::watched::testing::Running;

/// PEM of a chain and its key.
fn pem(name: &str) -> (String, String) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).unwrap();
    (cert.pem(), signing_key.serialize_pem())
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn write_pair(directory: &Path, stem: &str, name: &str) {
    let (chain, key) = pem(name);
    write(&directory.join(format!("{stem}.crt")), &chain);
    write(&directory.join(format!("{stem}.key")), &key);
}

/// `CHAIN+KEY` of every pair, relative to `root`.
fn pairs(contribution: &Contribution, root: &Path) -> Vec<String> {
    let relative = |path: &str| Path::new(path).strip_prefix(root).unwrap().display().to_string();
    let certificates = contribution.dynamic.tls.certificates.iter();
    certificates
        .map(|pair| format!("{}+{}", relative(&pair.cert_file), relative(&pair.key_file)))
        .collect()
}

#[test]
fn pairs_folders_and_bundles_are_found_in_every_directory() {
    let root = TempDir::new().unwrap();
    let at = |name: &str| root.path().join(name);
    write_pair(&at("a"), "one", "one.test");
    let (chain, key) = pem("two.test");
    write(&at("a/two.pem"), &format!("{chain}{key}"));
    write(&at("archive/three/fullchain1.pem"), &chain);
    write(&at("archive/three/privkey1.pem"), &key);
    for part in ["fullchain", "privkey"] {
        fs::create_dir_all(at("a/three")).unwrap();
        let target = format!("../../archive/three/{part}1.pem");
        symlink(target, at(&format!("a/three/{part}.pem"))).unwrap();
    }
    write(&at("a/three/cert.pem"), &chain);
    write(&at("a/README"), "not ours");
    write(&at("a/.hidden.crt"), &chain);
    write(&at("a/..data/four.crt"), &chain);
    write_pair(&at("b"), "five", "five.test");
    let mut reader = Reader::new(vec![at("a"), at("b")]);
    let reading = reader.read();
    assert_eq!(reading.error, None);
    assert_eq!(reading.contribution.problems, []);
    assert_eq!(reading.contribution.provider, "certificates");
    assert_eq!(
        pairs(&reading.contribution, root.path()),
        [
            "a/one.crt+a/one.key",
            "a/three/fullchain.pem+a/three/privkey.pem",
            "a/two.pem+a/two.pem",
            "b/five.crt+b/five.key"
        ]
    );
    assert!(!reader.changed());
    assert_eq!(reader.read().contribution, reading.contribution, "nothing ticks");
}

#[test]
fn what_is_not_used_says_what_is_missing() {
    let root = TempDir::new().unwrap();
    let (chain, key) = pem("a.test");
    let at = |name: &str| root.path().join(name);
    write(&at("alone.crt"), &chain);
    write(&at("keyed.key"), &key);
    write(&at("x/fullchain.pem"), &chain);
    write(&at("y/privkey.pem"), &key);
    write(&at("empty.pem"), "");
    let shown: Vec<String> = Reader::new(vec![root.path().to_owned()])
        .read()
        .contribution
        .problems
        .iter()
        .map(|problem| format!("{}: {}", problem.subject, problem.message))
        .map(|text| text.replace(&format!("{}/", root.path().display()), ""))
        .collect();
    assert_eq!(
        shown,
        [
            "certificate alone.crt: its key is missing: put it beside the certificate as alone.key, or into the same file",
            "certificate empty.pem: holds no PEM block (\"-----BEGIN ...\"); copy the file again",
            "key keyed.key: its certificate is missing: put it beside the key as keyed.crt, or remove the key",
            "certificate x/fullchain.pem: its key is missing: put it beside the certificate as privkey.pem, or into the \
             same file",
            "key y/privkey.pem: its certificate is missing: put it beside the key as fullchain.pem, or remove the key",
        ]
    );
}

/// A node that has this provider alone.
struct Served {
    compiler: Compiler,
    tls: TlsContext,
}

impl Served {
    fn new() -> Self {
        let statics = Statics::new(&Config::default(), &[]).unwrap();
        Self {
            compiler: Compiler::new(statics),
            tls: TlsContext::new(&[]).unwrap(),
        }
    }

    /// `NAMES FINGERPRINT` of the certificates that are served, without the self-signed one, and the problems.
    fn serve(&mut self, contribution: Contribution) -> (Vec<(String, String)>, Vec<String>) {
        let compiled = self.compiler.compile(&[contribution.into()], 1);
        let (view, problems) = self.tls.build(&compiled.tls);
        let certificates = view
            .certificates()
            .filter(|info| &*info.origin != "self-signed default");
        let certificates = certificates.map(|info| (info.subject.to_string(), info.fingerprint.to_string()));
        let problems = problems.into_iter().map(|problem| problem.message);
        (certificates.collect(), problems.collect())
    }
}

#[test]
fn a_broken_pair_hurts_no_other_and_keeps_its_last_good_state() {
    let root = TempDir::new().unwrap();
    let at = |name: &str| root.path().join(name);
    write_pair(root.path(), "a", "a.test");
    write_pair(root.path(), "b", "b.test");
    let mut reader = Reader::new(vec![root.path().to_owned()]);
    let mut node = Served::new();
    let (before, problems) = node.serve(reader.read().contribution);
    assert_eq!((before.len(), problems.len()), (2, 0), "{problems:?}");
    // Being written, garbage, a foreign key, gone: the last good one stays, and the other is renewed all the same.
    let steps: [&dyn Fn(); 4] = [
        &|| write(&at("a.crt"), ""),
        &|| write(&at("a.crt"), "garbage"),
        &|| write(&at("a.key"), &pem("other.test").1),
        &|| fs::remove_file(at("a.key")).unwrap(),
    ];
    for (position, step) in steps.iter().enumerate() {
        step();
        write_pair(root.path(), "b", "b.test");
        assert!(reader.changed());
        let contribution = reader.read().contribution;
        assert_eq!(contribution.problems, [], "step {position}");
        let (after, problems) = node.serve(contribution);
        assert_eq!(
            after.iter().find(|c| c.0 == "a.test"),
            before.iter().find(|c| c.0 == "a.test")
        );
        assert!(
            after.iter().any(|c| c.0 == "b.test" && !before.contains(c)),
            "step {position}"
        );
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].ends_with("; the last good one stays"), "{problems:?}");
    }
    write_pair(root.path(), "a", "a.test");
    let (after, problems) = node.serve(reader.read().contribution);
    assert_eq!((after.len(), problems.len()), (2, 0), "{problems:?}");
    assert!(!after.iter().any(|c| before.contains(c)));
    fs::remove_file(at("a.crt")).unwrap();
    fs::remove_file(at("a.key")).unwrap();
    let (after, problems) = node.serve(reader.read().contribution);
    assert_eq!((after.len(), problems.len()), (1, 0), "{problems:?}");
}

#[test]
fn a_directory_that_vanishes_takes_nothing_along() {
    let root = TempDir::new().unwrap();
    let at = |name: &str| root.path().join(name);
    let mut reader = Reader::new(vec![at("certs")]);
    let missing = format!(
        "{}: no such directory; create it, or correct providers.certificates.directory",
        at("certs").display()
    );
    assert_eq!(reader.read().error.as_ref(), Some(&missing));
    write_pair(&at("certs"), "a", "a.test");
    assert!(reader.changed());
    assert_eq!(reader.read().error, None);
    fs::rename(at("certs"), at("aside")).unwrap();
    assert!(reader.changed());
    let reading = reader.read();
    assert_eq!(reading.error, Some(missing));
    assert_eq!(
        pairs(&reading.contribution, root.path()),
        ["certs/a.crt+certs/a.key"]
    );
}

async fn until_pairs(running: &mut Running, root: &Path, expected: &[&str]) -> Contribution {
    let state = running
        .until_contribution(|contribution| pairs(contribution, root) == expected)
        .await;
    state.contribution.unwrap().as_ref().clone()
}

async fn until_renewed(running: &mut Running, before: &Contribution) -> Contribution {
    let state = running
        .until_contribution(|contribution| contribution.revision != before.revision)
        .await;
    let renewed = state.contribution.unwrap().as_ref().clone();
    assert_eq!(renewed.dynamic, before.dynamic);
    renewed
}

#[tokio::test]
async fn certificates_are_added_renewed_and_removed_under_watch() {
    let root = TempDir::new().unwrap();
    let at = |name: &str| root.path().join(name);
    let directories: Vec<PathBuf> = vec![at("live")];
    fs::create_dir(at("live")).unwrap();
    let provider = CertificatesProvider {
        directories,
        watch: true,
    };
    let mut source = Running::start(|cancel| spawn(provider, cancel));
    source.until(|state| state.status.connected).await;
    write_pair(&at("live"), "a", "a.test");
    let a = "live/a.crt+live/a.key";
    let before = until_pairs(&mut source, root.path(), &[a]).await;
    // In place, and by renaming.
    write(&at("live/a.crt"), "-----BEGIN CERTIFICATE-----\ntwo\n");
    let before = until_renewed(&mut source, &before).await;
    write(&at("live/new"), "-----BEGIN CERTIFICATE-----\nthree\n");
    fs::rename(at("live/new"), at("live/a.crt")).unwrap();
    until_renewed(&mut source, &before).await;
    // certbot adds a folder of links, renews by pointing them elsewhere, and removes it.
    let link = |generation: u32| {
        for part in ["fullchain", "privkey"] {
            symlink(
                format!("../../archive/b/{part}{generation}.pem"),
                at("live/b/next"),
            )
            .unwrap();
            fs::rename(at("live/b/next"), at(&format!("live/b/{part}.pem"))).unwrap();
        }
    };
    for generation in [1, 2] {
        let (chain, key) = pem("b.test");
        write(&at(&format!("archive/b/fullchain{generation}.pem")), &chain);
        write(&at(&format!("archive/b/privkey{generation}.pem")), &key);
    }
    fs::create_dir(at("live/b")).unwrap();
    link(1);
    let b = "live/b/fullchain.pem+live/b/privkey.pem";
    let before = until_pairs(&mut source, root.path(), &[a, b]).await;
    link(2);
    until_renewed(&mut source, &before).await;
    fs::remove_dir_all(at("live/b")).unwrap();
    until_pairs(&mut source, root.path(), &[a]).await;
    fs::remove_file(at("live/a.key")).unwrap();
    fs::remove_file(at("live/a.crt")).unwrap();
    until_pairs(&mut source, root.path(), &[]).await;
    source.stop().await;
}

#[tokio::test]
async fn without_watching_a_reload_reads_again() {
    let root = TempDir::new().unwrap();
    let provider = CertificatesProvider {
        directories: vec![root.path().to_owned()],
        watch: false,
    };
    let mut source = Running::start(|cancel| spawn(provider, cancel));
    source.until(|state| state.contribution.is_some()).await;
    write_pair(root.path(), "a", "a.test");
    source.handle.reload.request();
    until_pairs(&mut source, root.path(), &["a.crt+a.key"]).await;
    source.stop().await;
}
