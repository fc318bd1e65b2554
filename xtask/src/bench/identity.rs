//! The certificate that every proxy serves: self-signed, P-256.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::workspace;

/// Files of one certificate.
#[derive(Debug)]
pub(super) struct Identity {
    /// PEM certificate; being self-signed, the trust anchor as well.
    pub(super) certificate: PathBuf,
    /// PEM private key.
    pub(super) key: PathBuf,
    /// Both in one file, as HAProxy wants them.
    pub(super) both: PathBuf,
}

impl Identity {
    /// Makes a certificate for `host` in `directory`. By the `openssl` program, since a crate that can would make
    /// every verb wait for a cryptographic library to be compiled.
    pub(super) fn make(directory: &Path, host: &str) -> Result<Self> {
        let openssl =
            workspace::program("openssl").context("`openssl` (package openssl) is not installed")?;
        let identity = Self {
            certificate: directory.join("certificate.pem"),
            key: directory.join("key.pem"),
            both: directory.join("both.pem"),
        };
        let output = Command::new(openssl)
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "30",
            ])
            .args([
                "-subj",
                &format!("/CN={host}"),
                "-addext",
                &format!("subjectAltName=DNS:{host}"),
            ])
            .arg("-keyout")
            .arg(&identity.key)
            .arg("-out")
            .arg(&identity.certificate)
            .output()
            .context("cannot run openssl")?;
        ensure!(
            output.status.success(),
            "openssl req failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let both = fs::read_to_string(&identity.certificate)? + &fs::read_to_string(&identity.key)?;
        fs::write(&identity.both, both)?;
        Ok(identity)
    }
}
