//! One node of the lab, asked: its control API, and its entry point.

use std::net::SocketAddr;

use anyhow::Result;
use serde_json::Value;

use super::api::{self, CONTROL};
use super::{HOST, LabNode, Reply, address};

impl LabNode<'_> {
    /// `GET PATH` of its control API.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn get(&self, path: &str) -> Result<Reply> {
        api::ask(&self.place()?, CONTROL, "GET", "127.0.0.1", path, "")
    }

    /// `POST PATH` of its control API.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn post(&self, path: &str, body: &Value) -> Result<Reply> {
        api::ask(
            &self.place()?,
            CONTROL,
            "POST",
            "127.0.0.1",
            path,
            &body.to_string(),
        )
    }

    /// The cluster as it sees it.
    ///
    /// # Errors
    /// When it is in none, or does not answer.
    pub fn cluster(&self) -> Result<Value> {
        self.get("/api/v1/cluster")?.json()
    }

    /// A lease as it sees it; nothing where it has not heard of it.
    ///
    /// # Errors
    /// When it is in no cluster, or does not answer.
    pub fn lease(&self, key: &str) -> Result<Value> {
        let leases = self.get("/api/v1/leases")?.json()?;
        let found = leases
            .as_array()
            .into_iter()
            .flatten()
            .find(|lease| lease["key"] == key);
        Ok(found.cloned().unwrap_or(Value::Null))
    }

    /// `GET /` of the demo back ends' host on its entry point, asked from the clients' host.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn serves(&self) -> Result<Reply> {
        let to = SocketAddr::new(address(self.number), 80);
        api::ask(&self.lab.client()?, to, "GET", HOST, "/", "")
    }
}
