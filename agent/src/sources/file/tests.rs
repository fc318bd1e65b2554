//! Files and what becomes of them: reading, breaking, vanishing, and every way of changing under watch.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::sources::SourceState;
use crate::sources::watched::SETTLE_LIMIT;
use crate::sources::watched::testing::Running;

fn router(name: &str, rule: &str) -> String {
    format!("http:\n  routers:\n    {name}:\n      rule: \"{rule}\"\n      service: s\n")
}

/// `ROUTER RULE` of every router.
fn routers(contribution: &Contribution) -> Vec<String> {
    let routers = contribution.dynamic.http.routers.iter();
    routers
        .map(|(name, router)| format!("{name} {}", router.rule))
        .collect()
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn reads_all_formats_of_a_tree_in_order() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    write(&at("b.yaml"), &router("yaml", "A"));
    write(&at("c/deep/d.yml"), &router("yml", "B"));
    write(
        &at("e.toml"),
        "[http.routers.toml]\nrule = \"C\"\nservice = \"s\"\n",
    );
    write(
        &at("f.json"),
        "{\"http\": {\"routers\": {\"json\": {\"rule\": \"D\", \"service\": \"s\"}}}}",
    );
    write(&at("upper.YAML"), &router("upper", "E"));
    for skipped in [
        "g.yaml~",
        ".hidden.yaml",
        ".#b.yaml",
        "notes.txt",
        "..data/h.yaml",
        "b.yaml.swp",
    ] {
        write(&at(skipped), &router("skipped", "X"));
    }
    write(&at("empty.yaml"), "");
    // A circle of links ends.
    symlink(directory.path(), at("c/loop")).unwrap();
    let contribution = read_once(&FileSource::Directory(directory.path().to_owned()));
    assert_eq!(
        routers(&contribution),
        ["json D", "toml C", "upper E", "yaml A", "yml B"]
    );
    assert!(contribution.problems.is_empty(), "{:?}", contribution.problems);
    assert_eq!(contribution.provider, "file");
    let one = read_once(&FileSource::File(at("b.yaml")));
    assert_eq!(routers(&one), ["yaml A"]);
}

#[test]
fn the_first_definition_counts_and_the_second_is_reported() {
    let directory = TempDir::new().unwrap();
    let (first, second) = (directory.path().join("1.yaml"), directory.path().join("2.yaml"));
    write(&first, &router("r", "A"));
    write(
        &second,
        &(router("r", "B") + "    other:\n      rule: \"C\"\n      service: s\n"),
    );
    let contribution = read_once(&FileSource::Directory(directory.path().to_owned()));
    assert_eq!(routers(&contribution), ["other C", "r A"]);
    assert_eq!(contribution.problems.len(), 1);
    assert_eq!(contribution.problems[0].subject, "router r@file");
    assert_eq!(
        contribution.problems[0].message,
        format!(
            "defined in {} and again in {}; the first counts. Rename or remove one of them",
            first.display(),
            second.display()
        )
    );
}

#[test]
fn what_is_missing_says_so() {
    let directory = TempDir::new().unwrap();
    let missing = directory.path().join("none");
    let mut reader = Reader::new(FileSource::Directory(missing.clone()));
    let error = format!(
        "{}: no such directory; create it, or correct providers.file",
        missing.display()
    );
    assert_eq!(reader.read().error, Some(error));
    let mut reader = Reader::new(FileSource::File(directory.path().join("x.txt")));
    assert!(
        reader
            .read()
            .error
            .unwrap()
            .ends_with("expected .yaml, .yml, .toml or .json")
    );
    let mut reader = Reader::new(FileSource::File(directory.path().join("x.yaml")));
    assert!(reader.read().error.unwrap().contains("cannot be read"));
}

#[test]
fn a_broken_file_keeps_its_last_good_content() {
    let directory = TempDir::new().unwrap();
    let (a, b) = (directory.path().join("a.yaml"), directory.path().join("b.yaml"));
    write(&a, &router("a", "A"));
    write(&b, &router("b", "B"));
    let mut reader = Reader::new(FileSource::Directory(directory.path().to_owned()));
    assert_eq!(reader.read().error, None);
    write(&a, "http:\n  routers:\n    a:\n      bogus: 1\n");
    write(&b, &router("b", "C"));
    assert!(reader.changed());
    let reading = reader.read();
    assert_eq!(routers(&reading.contribution), ["a A", "b C"]);
    let error = reading.error.unwrap();
    assert!(error.contains("a.yaml:4:7") && error.contains("bogus"), "{error}");
    assert!(error.contains("its last good content, read at 20"), "{error}");
    assert_eq!(reading.contribution.problems.len(), 1);
    assert!(!reader.changed());
    assert_eq!(reader.read().contribution, reading.contribution, "nothing ticks");
    // Removed, it takes its routes along; corrected, it counts again.
    fs::remove_file(&b).unwrap();
    write(&a, &router("a", "D"));
    let reading = reader.read();
    assert_eq!(routers(&reading.contribution), ["a D"]);
    assert_eq!(reading.error, None);
}

#[test]
fn an_emptied_file_counts_only_when_it_stays_empty() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.yaml");
    write(&file, &router("a", "A"));
    let mut reader = Reader::new(FileSource::File(file.clone()));
    reader.read();
    write(&file, "");
    let reading = reader.read();
    assert!(reading.unsettled);
    assert_eq!(routers(&reading.contribution), ["a A"]);
    let reading = reader.read();
    assert!(!reading.unsettled);
    assert!(routers(&reading.contribution).is_empty());
}

#[test]
fn a_directory_that_vanishes_takes_nothing_along() {
    let around = TempDir::new().unwrap();
    let directory = around.path().join("dynamic");
    write(&directory.join("a.yaml"), &router("a", "A"));
    let mut reader = Reader::new(FileSource::Directory(directory.clone()));
    reader.read();
    fs::rename(&directory, around.path().join("aside")).unwrap();
    assert!(reader.changed());
    let reading = reader.read();
    assert_eq!(routers(&reading.contribution), ["a A"]);
    assert!(
        reading
            .error
            .unwrap()
            .ends_with("; what was read from it before stands")
    );
}

fn start(source: FileSource, watch: bool) -> Running {
    Running::start(|cancel| spawn(FileProvider { source, watch }, cancel))
}

async fn until_routers(running: &mut Running, expected: &[&str]) -> SourceState {
    running
        .until_contribution(|contribution| routers(contribution) == expected)
        .await
}

#[tokio::test]
async fn sees_every_way_of_changing_a_file() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    write(&at("a.yaml"), &router("a", "A"));
    let mut source = start(FileSource::File(at("a.yaml")), true);
    let state = until_routers(&mut source, &["a A"]).await;
    assert!(state.status.connected);
    // In place.
    write(&at("a.yaml"), &router("a", "B"));
    until_routers(&mut source, &["a B"]).await;
    // By renaming, as editors and configuration tools do.
    write(&at("new"), &router("a", "C"));
    fs::rename(at("new"), at("a.yaml")).unwrap();
    until_routers(&mut source, &["a C"]).await;
    // Broken, and corrected.
    write(&at("a.yaml"), "http: [");
    let state = source.until(|state| state.status.error.is_some()).await;
    assert!(!state.status.connected);
    assert_eq!(routers(&state.contribution.unwrap()), ["a C"]);
    write(&at("a.yaml"), &router("a", "D"));
    let state = until_routers(&mut source, &["a D"]).await;
    assert!(state.status.error.is_none());
    // Removed and made anew.
    fs::remove_file(at("a.yaml")).unwrap();
    source.until(|state| state.status.error.is_some()).await;
    write(&at("a.yaml"), &router("a", "E"));
    until_routers(&mut source, &["a E"]).await;
    source.stop().await;
}

#[tokio::test]
async fn sees_a_directory_appear_grow_and_be_swapped() {
    let around = TempDir::new().unwrap();
    let at = |name: &str| around.path().join(name);
    let mut source = start(FileSource::Directory(at("x/dynamic")), true);
    source.until(|state| state.status.error.is_some()).await;
    write(&at("x/dynamic/a.yaml"), &router("a", "A"));
    let state = until_routers(&mut source, &["a A"]).await;
    assert!(state.status.error.is_none());
    write(&at("x/dynamic/sub/b.yaml"), &router("b", "B"));
    until_routers(&mut source, &["a A", "b B"]).await;
    write(&at("x/dynamic/sub/b.yaml"), &router("b", "C"));
    until_routers(&mut source, &["a A", "b C"]).await;
    write(&at("next/a.yaml"), &router("a", "Z"));
    fs::rename(at("x/dynamic"), at("x/before")).unwrap();
    fs::rename(at("next"), at("x/dynamic")).unwrap();
    until_routers(&mut source, &["a Z"]).await;
    write(&at("x/dynamic/a.yaml"), &router("a", "Y"));
    until_routers(&mut source, &["a Y"]).await;
    source.stop().await;
}

#[tokio::test]
async fn sees_kubernetes_swap_its_links() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    write(&at("..1/a.yaml"), &router("a", "A"));
    symlink("..1", at("..data")).unwrap();
    symlink("..data/a.yaml", at("a.yaml")).unwrap();
    let mut source = start(FileSource::Directory(directory.path().to_owned()), true);
    until_routers(&mut source, &["a A"]).await;
    write(&at("..2/a.yaml"), &router("a", "B"));
    symlink("..2", at("..next")).unwrap();
    fs::rename(at("..next"), at("..data")).unwrap();
    until_routers(&mut source, &["a B"]).await;
    source.stop().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_a_new_revision() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    let document = |directory: PathBuf| {
        let certificate = directory.join("tls/live.crt");
        let key = directory.join("tls/live.key");
        format!("tls:\n  certificates:\n    - certFile: {certificate:?}\n      keyFile: {key:?}\n")
    };
    write(&at("tls/live.crt"), "one");
    write(&at("tls/live.key"), "key");
    write(&at("dynamic/a.yaml"), &document(directory.path().to_owned()));
    let mut source = start(FileSource::Directory(at("dynamic")), true);
    let state = source.until(|state| state.contribution.is_some()).await;
    let before = state.contribution.unwrap();
    write(&at("tls/new"), "two");
    fs::rename(at("tls/new"), at("tls/live.crt")).unwrap();
    let renewed = |contribution: &Contribution| contribution.revision != before.revision;
    let state = source
        .until(|state| state.contribution.as_deref().is_some_and(renewed))
        .await;
    assert_eq!(state.contribution.unwrap().dynamic, before.dynamic);
    source.stop().await;
}

#[tokio::test]
async fn without_watching_only_a_reload_reads_again() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.yaml");
    write(&file, &router("a", "A"));
    let mut source = start(FileSource::File(file.clone()), false);
    until_routers(&mut source, &["a A"]).await;
    source.handle.state.mark_unchanged();
    write(&file, &router("a", "B"));
    let told = timeout(SETTLE_LIMIT, source.handle.state.changed()).await;
    assert!(told.is_err(), "nothing is read unasked");
    source.handle.reload.request();
    until_routers(&mut source, &["a B"]).await;
    source.stop().await;
}
