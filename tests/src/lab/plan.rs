//! What a lab is made of.

use std::path::PathBuf;

use serde_json::{Value, json};

/// What a lab is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many nodes.
    pub nodes: usize,
    /// What they run.
    pub binary: PathBuf,
    /// Where its files go; the lab outlives the process then. `None`: a folder that goes with the lab.
    pub base: Option<PathBuf>,
    /// Merged into the configuration of each node.
    pub config: Value,
}

impl Plan {
    /// A lab of a test, with the binary under test.
    #[must_use]
    pub fn test(nodes: usize) -> Self {
        Self {
            nodes,
            binary: crate::node::binary(),
            base: None,
            config: json!({}),
        }
    }

    /// With this in the configuration of each node.
    #[must_use]
    pub fn config(mut self, config: Value) -> Self {
        self.config = config;
        self
    }
}
