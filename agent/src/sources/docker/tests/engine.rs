//! The provider against a scripted engine: reading, following, losing and finding it again.

use std::time::Duration;

use constellation_config::DockerProvider;
use constellation_tests::docker::fake::FakeEngine;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{exited, inspection, problems, provider, routers, servers};
use crate::sources::{Contribution, SourceHandle, SourceState, docker};

/// Longer than any back-off; only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(30);

struct Running {
    handle: SourceHandle,
    cancel: CancellationToken,
}

impl Running {
    fn start(endpoint: String) -> Self {
        let cancel = CancellationToken::new();
        let options = DockerProvider {
            endpoint,
            http_client_timeout: Some(Duration::from_secs(1)),
            ..provider()
        };
        let handle = docker::spawn(options, cancel.clone()).unwrap();
        Self { handle, cancel }
    }

    /// The first state that satisfies `wanted`.
    async fn until(&mut self, wanted: impl FnMut(&SourceState) -> bool) -> SourceState {
        let seen = self.handle.state.clone();
        match timeout(PATIENCE, self.handle.state.wait_for(wanted)).await {
            Ok(state) => state.unwrap().clone(),
            Err(_) => panic!("never came; last: {:#?}", seen.borrow()),
        }
    }

    /// Waits for a contribution whose servers are these.
    async fn until_servers(&mut self, expected: &[&str]) -> SourceState {
        let wanted = |contribution: &Contribution| servers(contribution) == expected;
        self.until(|state| state.contribution.as_deref().is_some_and(wanted))
            .await
    }

    async fn until_error(&mut self) -> SourceState {
        self.until(|state| state.status.error.is_some()).await
    }

    async fn stop(self) {
        self.cancel.cancel();
        timeout(PATIENCE, self.handle.task).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn follows_events_and_inspects_only_what_changed() {
    let mut engine = FakeEngine::new();
    engine.listen();
    let web = inspection("web", "10.0.0.1", &[]);
    engine.put(&web);
    engine.put(&inspection("other", "10.0.0.2", &[]));
    let mut source = Running::start(engine.endpoint());
    let state = source
        .until_servers(&["other http://10.0.0.2:80", "web http://10.0.0.1:80"])
        .await;
    assert!(state.status.connected && state.status.error.is_none() && state.status.last_read.is_some());
    let filters = engine.script().subscriptions[0]["filters"].clone();
    assert!(filters.contains("health_status") && filters.contains("container") && !filters.contains("exec"));

    engine.happen("die", &exited(web.clone(), 137));
    let down = "web http://10.0.0.1:80 (container web exited (137) at 2026-01-01T10:00:00.5Z)";
    source.until_servers(&["other http://10.0.0.2:80", down]).await;
    engine.happen("start", &inspection("web", "10.0.0.3", &[]));
    source
        .until_servers(&["other http://10.0.0.2:80", "web http://10.0.0.3:80"])
        .await;

    // Another network: the event is the network's and names the container.
    engine.put(&inspection("web", "10.0.0.4", &[]));
    engine.say(&json!({
        "Type": "network", "Action": "connect",
        "Actor": {"ID": "net", "Attributes": {"container": "id-web", "name": "front"}},
    }));
    source
        .until_servers(&["other http://10.0.0.2:80", "web http://10.0.0.4:80"])
        .await;

    // Events of other kinds are none of our business.
    engine.say(&json!({"Type": "image", "Action": "pull", "Actor": {"ID": "id-other"}}));
    engine.say(&json!({"Type": "container", "Action": "start"}));
    engine.script().containers.remove("id-web");
    engine.say(&json!({"Type": "container", "Action": "destroy", "Actor": {"ID": "id-web"}}));
    let gone = |contribution: &Contribution| servers(contribution)[1].contains("was removed at");
    source
        .until(|state| state.contribution.as_deref().is_some_and(gone))
        .await;
    let others = engine
        .script()
        .inspected
        .iter()
        .filter(|id| *id == "id-other")
        .count();
    assert_eq!(others, 1, "only the first reading looks at it");
    source.stop().await;
}

#[tokio::test]
async fn what_leaves_waits_for_no_inspection() {
    let mut engine = FakeEngine::new();
    engine.listen();
    engine.put(&inspection("web", "10.0.0.1", &[]));
    let mut source = Running::start(engine.endpoint());
    source.until_servers(&["web http://10.0.0.1:80"]).await;
    // As the real one: from here on it doesn't answer for this container.
    engine.script().stuck.insert("id-web".to_owned());
    let say = |action: &str, attributes: serde_json::Value| {
        engine.say(&json!({
            "Type": "container", "Action": action, "Actor": {"ID": "id-web", "Attributes": attributes},
        }));
    };
    say("kill", json!({"signal": "15"}));
    let state = source
        .until_servers(&["web http://10.0.0.1:80 (container web is stopping)"])
        .await;
    assert_eq!(state.departures, 1);
    say("die", json!({"exitCode": "0"}));
    source
        .until_servers(&["web http://10.0.0.1:80 (container web exited (0))"])
        .await;
    engine.script().stuck.clear();
    engine.happen("start", &inspection("web", "10.0.0.2", &[]));
    source.until_servers(&["web http://10.0.0.2:80"]).await;
    source.stop().await;
}

#[tokio::test]
async fn reconnects_and_reads_everything_when_the_events_end() {
    let mut engine = FakeEngine::new();
    engine.listen();
    engine.put(&inspection("web", "10.0.0.1", &[]));
    let mut source = Running::start(engine.endpoint());
    source.until_servers(&["web http://10.0.0.1:80"]).await;
    engine.put(&inspection("web", "10.0.0.2", &[]));
    engine.end_events();
    source.until_servers(&["web http://10.0.0.2:80"]).await;
    source.until(|state| state.status.connected).await;
    assert_eq!(engine.script().subscriptions.len(), 2);
    source.stop().await;
}

#[tokio::test]
async fn what_was_known_stands_while_the_engine_is_away() {
    let mut engine = FakeEngine::new();
    let mut source = Running::start(engine.endpoint());
    let state = source.until_error().await;
    let step = "Start Docker, set DOCKER_HOST, or remove providers.docker";
    let missing = format!(
        "Docker is not reachable at {}: no such file. {step}",
        engine.endpoint()
    );
    assert_eq!(state.status.error, Some(missing.clone()));
    assert!(state.contribution.is_none() && !state.status.connected);

    engine.put(&inspection("web", "10.0.0.1", &[]));
    engine.listen();
    let state = source.until_servers(&["web http://10.0.0.1:80"]).await;
    assert!(state.status.connected && state.status.error.is_none());

    engine.crash();
    let state = source
        .until(|state| state.status.error.as_ref() == Some(&missing))
        .await;
    assert_eq!(
        servers(state.contribution.as_deref().unwrap()),
        ["web http://10.0.0.1:80"]
    );
    engine.put(&inspection("web", "10.0.0.2", &[]));
    engine.listen();
    // Asked to, it doesn't wait for the back-off to end.
    source.handle.reload.request();
    source.until_servers(&["web http://10.0.0.2:80"]).await;
    source.stop().await;
}

#[tokio::test]
async fn one_bad_container_hurts_no_other() {
    let mut engine = FakeEngine::new();
    engine.listen();
    engine.put(&inspection("good", "10.0.0.1", &[]));
    engine.put(&inspection("bad", "10.0.0.2", &[("traefik.enable", "maybe")]));
    engine.put(&inspection("stuck", "10.0.0.3", &[]));
    engine.put(&inspection("garbled", "10.0.0.4", &[]));
    engine.script().stuck.insert("id-stuck".to_owned());
    engine.script().garbled.insert("id-garbled".to_owned());
    let mut source = Running::start(engine.endpoint());
    let state = source.until_servers(&["good http://10.0.0.1:80"]).await;
    assert!(state.status.connected);
    let contribution = state.contribution.unwrap();
    assert_eq!(routers(&contribution), ["good Host(`good`) -> good"]);
    let problems = problems(&contribution);
    assert_eq!(problems.len(), 3, "{problems:#?}");
    assert!(problems[0].starts_with("container bad: label `traefik.enable`: `maybe` is not a boolean"));
    assert!(
        problems[1].starts_with("container id-garbled: it can't be read: "),
        "{}",
        problems[1]
    );
    assert!(
        problems[2].starts_with("container id-stuck: it can't be read: "),
        "{}",
        problems[2]
    );

    // While the engine is stuck on one, the others are followed.
    engine.happen("start", &inspection("stuck", "10.0.0.3", &[]));
    engine.happen("start", &inspection("good", "10.0.0.9", &[]));
    source.until_servers(&["good http://10.0.0.9:80"]).await;
    source.stop().await;
}

#[tokio::test]
async fn a_reload_reads_everything() {
    let mut engine = FakeEngine::new();
    engine.listen();
    let mut source = Running::start(engine.endpoint());
    source.until(|state| state.status.connected).await;
    engine.put(&inspection("web", "10.0.0.1", &[]));
    source.handle.reload.request();
    source.until_servers(&["web http://10.0.0.1:80"]).await;
    source.stop().await;
}

#[tokio::test]
async fn says_when_something_else_answers() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("x.sock");
    for (answer, expected) in [
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nnope\n",
            "it answers 404 nope",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
            "its answer is not Docker's",
        ),
        ("SSH-2.0-OpenSSH_9.2\r\n", "it doesn't speak HTTP"),
    ] {
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let stop = CancellationToken::new();
        let serve = async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // The client's first look at the socket asks nothing.
                if stream.read(&mut [0; 4096]).await.unwrap() > 0 {
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        };
        let server = tokio::spawn(stop.clone().run_until_cancelled_owned(serve));
        let mut source = Running::start(format!("unix://{}", socket.display()));
        let error = source.until_error().await.status.error.unwrap();
        let start = format!(
            "what answers at unix://{} is not a Docker engine: {expected}",
            socket.display()
        );
        assert!(error.starts_with(&start), "{error}");
        assert!(
            error.ends_with("Correct providers.docker.endpoint or DOCKER_HOST"),
            "{error}"
        );
        source.stop().await;
        stop.cancel();
        server.await.unwrap();
        std::fs::remove_file(&socket).unwrap();
    }
}

#[tokio::test]
async fn says_when_nothing_listens_or_the_endpoint_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("x.sock");
    drop(tokio::net::UnixListener::bind(&socket).unwrap());
    let step = "Start Docker, set DOCKER_HOST, or remove providers.docker";
    let endpoint = format!("unix://{}", socket.display());
    let refused = format!("Docker is not reachable at {endpoint}: connection refused. {step}");
    let unusable = "`ssh://host` is not an endpoint of a Docker engine; expected unix:///path, tcp://host:port, \
                    http://host:port or https://host:port. Correct providers.docker.endpoint or DOCKER_HOST";
    for (endpoint, expected) in [
        (endpoint, refused),
        ("ssh://host".to_owned(), unusable.to_owned()),
    ] {
        let mut source = Running::start(endpoint);
        assert_eq!(source.until_error().await.status.error, Some(expected));
        source.stop().await;
    }
}

#[test]
fn bad_options_are_found_at_start() {
    let check = |rule: &str, constraints: &str| {
        let options = DockerProvider {
            default_rule: rule.to_owned(),
            constraints: Some(constraints.to_owned()),
            ..provider()
        };
        docker::check(&options).map_err(|error| error.to_string())
    };
    assert_eq!(check("Host(`{{ .Name }}`)", " "), Ok(()));
    assert_eq!(
        check("{{ define \"x\" }}{{ end }}", ""),
        Err("providers.docker.defaultRule: `{{ define \"x\" }}{{ end }}`: at character 4: `define` is not supported \
             in rules; there are pipelines, variables, `if`, `with` and `range`"
            .to_owned())
    );
    assert_eq!(
        check("", "Tag(`a`)"),
        Err("providers.docker.constraints: `Tag(`a`)`: at character 1: there is no function `Tag`; there are Label \
             and LabelRegex"
            .to_owned())
    );
}
