//! Finds the running node and asks its control API.

use std::fs;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Exit, Failure, Settings};
use crate::runtime_file::{self, RunningNode};

/// Which node is asked.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct NodeChoice {
    /// Control address of the node, for instance http://127.0.0.1:8080. Default: the node that runs on this machine.
    #[arg(long, value_name = "URL", env = "CONSTELLATION_CONTROL_URL")]
    control: Option<String>,
}

/// What every command takes that asks a node and shows the answer.
#[derive(Debug, Args)]
pub(super) struct Ask {
    #[command(flatten)]
    pub(super) node: NodeChoice,
    #[command(flatten)]
    pub(super) settings: Settings,
    /// Print the node's answer as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// A node that can be asked.
pub(super) struct Node {
    base: String,
    token: Option<String>,
    agent: ureq::Agent,
}

impl NodeChoice {
    /// The node asked for, else the one that runs with the configuration file of `settings`, else the only one that
    /// runs on this machine, else the one at the configured control address.
    pub(super) fn find(&self, settings: &Settings) -> Result<Node, Failure> {
        let configured = settings.load();
        if settings.config.is_some()
            && let Err(failure) = configured
        {
            return Err(failure);
        }
        let configured = configured.ok().map(|loaded| loaded.config.control);
        let token = configured
            .as_ref()
            .and_then(|control| control.token.as_ref())
            .map(|token| token.expose().to_owned());
        let running = runtime_file::running();
        let base = match &self.control {
            Some(url) => base_of(url)?,
            None => match choose(&running, settings.config.as_deref())? {
                Some(node) => format!("http://{}", node.control),
                None => format!("http://{}", configured.unwrap_or_default().address),
            },
        };
        let token = token.or_else(|| token_of(&running, &base));
        let agent = ureq::Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(3)))
            .timeout_global(Some(Duration::from_secs(30)))
            .http_status_as_error(false)
            .build()
            .new_agent();
        Ok(Node { base, token, agent })
    }
}

/// The token that the node at `base` has made, if it runs on this machine and lets this user read it.
fn token_of(running: &[RunningNode], base: &str) -> Option<String> {
    let node = running
        .iter()
        .find(|node| base == format!("http://{}", node.control))?;
    let token = fs::read_to_string(node.token_file.as_ref()?).ok()?;
    Some(token.trim().to_owned())
}

/// The one node that `config` or the lack of others singles out.
fn choose<'a>(nodes: &'a [RunningNode], config: Option<&Path>) -> Result<Option<&'a RunningNode>, Failure> {
    let canonical = config.map(|file| fs::canonicalize(file).unwrap_or_else(|_| file.to_owned()));
    let matching: Vec<&RunningNode> = nodes
        .iter()
        .filter(|node| canonical.is_none() || node.config_file == canonical)
        .collect();
    match matching.as_slice() {
        [] => Ok(None),
        [node] => Ok(Some(node)),
        several => {
            let list: Vec<String> = several
                .iter()
                .map(|node| {
                    format!(
                        "  --control http://{}   {} (pid {})",
                        node.control, node.node, node.pid
                    )
                })
                .collect();
            Err(Failure::new(
                Exit::Usage,
                format!(
                    "{} nodes run on this machine; say which one is meant:\n{}",
                    several.len(),
                    list.join("\n")
                ),
            ))
        }
    }
}

fn base_of(url: &str) -> Result<String, Failure> {
    let with_scheme = if url.contains("://") {
        url.to_owned()
    } else {
        format!("http://{url}")
    };
    let uri: http::Uri = with_scheme.parse().map_err(|error| {
        Failure::new(
            Exit::Usage,
            format!("--control {url:?} is no URL ({error}): write one such as http://127.0.0.1:8080"),
        )
    })?;
    if uri.scheme_str() != Some("http") || uri.authority().is_none() {
        return Err(Failure::new(
            Exit::Usage,
            format!("--control {url:?}: expected http://HOST:PORT; the control address speaks plain HTTP"),
        ));
    }
    Ok(with_scheme.trim_end_matches('/').to_owned())
}

impl Node {
    /// The control address as a URL.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// The JSON answer to `GET path?query`.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, Failure> {
        let url = format!("{}{path}", self.base);
        let mut request = self.agent.get(&url).query_pairs(query.iter().copied());
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let response = request.call().map_err(|error| self.no_answer(&error))?;
        self.read(&url, response)
    }

    /// The JSON answer to `POST path`, which changes something.
    pub(super) fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let (url, request) = self.post_to(path);
        let response = request.send_empty().map_err(|error| self.no_answer(&error))?;
        self.read(&url, response)
    }

    /// The same with a body.
    pub(super) fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body)
            .map_err(|error| Failure::new(Exit::Failure, format!("cannot write JSON: {error}")))?;
        let (url, request) = self.post_to(path);
        let request = request.header("Content-Type", "application/json");
        let response = request.send(&body).map_err(|error| self.no_answer(&error))?;
        self.read(&url, response)
    }

    fn post_to(&self, path: &str) -> (String, ureq::RequestBuilder<ureq::typestate::WithBody>) {
        let url = format!("{}{path}", self.base);
        let mut request = self.agent.post(&url);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        (url, request)
    }

    fn read<T: DeserializeOwned>(
        &self,
        url: &str,
        mut response: http::Response<ureq::Body>,
    ) -> Result<T, Failure> {
        let status = response.status();
        let body = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_string();
        let body = body.map_err(|error| self.no_answer(&error))?;
        if status.is_success() {
            return serde_json::from_str(&body).map_err(|error| {
                Failure::new(
                    Exit::Unavailable,
                    format!(
                        "{url} answered with something else than was asked for ({error}): is it the control address \
                         of a Constellation node of this version?"
                    ),
                )
            });
        }
        let value: Value = serde_json::from_str(&body).unwrap_or_default();
        let detail = value
            .get("detail")
            .or_else(|| value.get("title"))
            .and_then(Value::as_str);
        let exit = match status.as_u16() {
            401 | 403 => Exit::Permission,
            400 | 422 => Exit::Usage,
            _ => Exit::Unavailable,
        };
        Err(Failure::new(
            exit,
            format!("{url} answered {status}: {}", detail.unwrap_or("no details")),
        ))
    }

    fn no_answer(&self, error: &ureq::Error) -> Failure {
        Failure::new(
            Exit::Unavailable,
            format!(
                "no node answers at {}: {error}; start one with `constellation run`, or name another with \
                 --control URL",
                self.base
            ),
        )
    }
}

/// 100,000 routes fit.
const MAX_ANSWER: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn node(pid: i32, port: u16, config_file: Option<&str>) -> RunningNode {
        RunningNode {
            pid,
            node: format!("node-{pid}"),
            control: ([127, 0, 0, 1], port).into(),
            config_file: config_file.map(Into::into),
            entry_points: Vec::new(),
            token_file: None,
        }
    }

    #[test]
    fn the_only_node_is_meant_and_of_several_one_must_be_named() {
        let nodes = [
            node(1, 1001, Some("/does/not/exist/a.yaml")),
            node(2, 1002, Some("/does/not/exist/b.yaml")),
        ];
        assert_eq!(choose(&nodes[..0], None).unwrap(), None);
        assert_eq!(choose(&nodes[..1], None).unwrap(), Some(&nodes[0]));
        let b = Path::new("/does/not/exist/b.yaml");
        assert_eq!(choose(&nodes, Some(b)).unwrap(), Some(&nodes[1]));
        assert_eq!(choose(&nodes[..1], Some(b)).unwrap(), None);
        let failure = choose(&nodes, None).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(
            failure.message.contains("--control http://127.0.0.1:1002"),
            "{failure}"
        );
    }

    #[test]
    fn the_token_is_that_of_the_node_that_is_asked() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("node-2.token");
        fs::write(&file, "secret\n").unwrap();
        let mut nodes = [node(1, 1001, None), node(2, 1002, None)];
        nodes[1].token_file = Some(file);
        assert_eq!(token_of(&nodes, "http://127.0.0.1:1001"), None);
        assert_eq!(
            token_of(&nodes, "http://127.0.0.1:1002").as_deref(),
            Some("secret")
        );
        assert_eq!(token_of(&nodes, "http://192.0.2.1:1002"), None);
    }

    #[test]
    fn a_control_url_may_leave_out_its_scheme() {
        assert_eq!(base_of("127.0.0.1:8080").unwrap(), "http://127.0.0.1:8080");
        assert_eq!(base_of("http://[::1]:8080/").unwrap(), "http://[::1]:8080");
        for refused in ["https://a:1", "http://", "::"] {
            assert_eq!(base_of(refused).unwrap_err().exit, Exit::Usage, "{refused}");
        }
    }
}
