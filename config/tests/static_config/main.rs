//! The static configuration through its only door, `Config::load`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod chase;
mod cluster;
mod formats;
mod guard;
mod layers;
mod refusals;
mod streams;
mod traefik_provider;
mod virtual_ips;

use constellation_config::{Config, ConfigErrors, LoadOptions, Loaded};

/// Loads a text as a file, with variables and flags. Paths in errors are the bare name `c.EXTENSION`.
fn load(
    extension: &str,
    text: &str,
    env: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Loaded, (String, ConfigErrors)> {
    let owned = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(format!("c.{extension}"));
    std::fs::write(&file, text).unwrap();
    let options = LoadOptions {
        file: Some(file),
        env: owned(env),
        flags: owned(flags),
        host_name: Some("edge-1.example.org".to_owned()),
    };
    Config::load(options).map_err(|errors| {
        let prefix = format!("{}/", directory.path().display());
        (errors.to_string().replace(&prefix, ""), errors)
    })
}
