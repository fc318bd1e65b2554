//! The example file and the schema say the truth.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::path::Path;

use constellation_config::{Config, LoadOptions, example};

fn load(text: &str) -> Config {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("c.yaml");
    std::fs::write(&file, text).unwrap();
    let options = LoadOptions {
        file: Some(file),
        host_name: Some("localhost".to_owned()),
        ..LoadOptions::default()
    };
    Config::load(options)
        .unwrap_or_else(|errors| panic!("{errors}"))
        .config
}

#[test]
fn the_example_is_the_default() {
    assert_eq!(load(&example()), Config::default());
    assert_eq!(load(""), Config::default());
}

#[test]
fn the_file_in_the_repository_is_the_example() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("example.yaml");
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == example(),
        "{} is not what `constellation config example` prints; write it anew",
        path.display()
    );
}
