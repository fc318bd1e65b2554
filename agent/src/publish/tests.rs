//! The test holds the sending ends, and is the sources.

use constellation_config::Config;
use constellation_config::dynamic::Dynamic;
use constellation_table::{Condition, Snapshot};
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::task::JoinHandle;

use super::*;
use crate::drains::Drained;
use crate::peers::{Export, Own, Peer, Standing};
use crate::sources::{ServerOrigin, SourceStatus};

/// A publisher at work with two sources that have said nothing yet.
struct Fixture {
    docker: watch::Sender<SourceState>,
    file: watch::Sender<SourceState>,
    drains: Drains,
    recompile: Recompile,
    report: watch::Receiver<Arc<Report>>,
    published: Published,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Fixture {
    fn start() -> Self {
        Self::start_with(None)
    }

    fn start_with(exchange: Option<Exchange>) -> Self {
        let (docker, docker_state) = watch::channel(SourceState::default());
        let (file, file_state) = watch::channel(SourceState::default());
        let config = Config::default();
        let statics = Statics::new(&config, &[]).unwrap();
        let tls = TlsContext::new(&["localhost".to_owned()]).unwrap();
        let published = Published::new(Generation {
            table: Snapshot::default(),
            tls: tls.build(&Default::default()).0,
            published: SystemTime::UNIX_EPOCH,
        });
        let metrics = Metrics::register(&mut Registry::default(), &["web".into(), "websecure".into()]);
        let sources = vec![("docker", docker_state), ("file", file_state)];
        let drains = Drains::default();
        let (publisher, report) = Publisher::new(
            sources,
            statics,
            tls,
            published.clone(),
            Arc::new(metrics),
            &drains,
        );
        let publisher = match exchange {
            Some(exchange) => publisher.with_exchange(exchange),
            None => publisher,
        };
        let stop = CancellationToken::new();
        Self {
            docker,
            file,
            drains,
            recompile: publisher.recompile(),
            report,
            published,
            task: tokio::spawn(publisher.run(stop.clone())),
            stop,
        }
    }

    /// Waits for a report that satisfies `condition`.
    async fn report(&mut self, condition: impl FnMut(&Arc<Report>) -> bool) -> Arc<Report> {
        let report = tokio::time::timeout(Duration::from_secs(30), self.report.wait_for(condition));
        report.await.expect("the report comes").unwrap().clone()
    }

    fn routers(&self) -> Vec<String> {
        let generation = self.published.load();
        let names = generation.table.routers().iter().map(|r| r.spec.name.to_string());
        let mut names: Vec<String> = names.filter(|name| !name.starts_with("websecure-")).collect();
        names.sort();
        names
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn reading(provider: &'static str, hosts: &[&str]) -> SourceState {
    let router = |host: &&str| {
        (
            (*host).to_owned(),
            json!({"rule": format!("Host(`{host}`)"), "service": "s"}),
        )
    };
    let routers: serde_json::Map<_, _> = hosts.iter().map(router).collect();
    let dynamic: Dynamic = serde_json::from_value(json!({
        "http": {"routers": routers, "services": {"s": {"loadBalancer": {"servers": []}}}},
    }))
    .unwrap();
    SourceState {
        contribution: Some(Arc::new(Contribution {
            provider,
            dynamic,
            ..Contribution::default()
        })),
        status: SourceStatus {
            connected: true,
            ..SourceStatus::default()
        },
        ..SourceState::default()
    }
}

fn failing(error: &str) -> SourceState {
    SourceState {
        status: SourceStatus {
            error: Some(error.to_owned()),
            ..SourceStatus::default()
        },
        ..SourceState::default()
    }
}

#[tokio::test]
async fn the_first_generation_waits_for_every_source() {
    let mut node = Fixture::start();
    node.file.send_replace(reading("file", &["a"]));
    let report = node
        .report(|r| {
            r.sources
                .iter()
                .any(|(name, status)| *name == "file" && status.connected)
        })
        .await;
    assert!(!report.ready);
    assert_eq!((report.generation, node.routers().len()), (0, 0));
    node.docker.send_replace(reading("docker", &["b"]));
    let report = node.report(|r| r.ready).await;
    assert_eq!(report.generation, 1);
    assert_eq!(node.routers(), ["a@file", "b@docker"]);
    node.stop().await;
}

#[tokio::test]
async fn a_source_that_cannot_read_its_world_does_not_hold_up_the_others() {
    let mut node = Fixture::start();
    node.docker.send_replace(failing("no socket"));
    node.file.send_replace(reading("file", &["a"]));
    let report = node.report(|r| r.ready).await;
    assert_eq!(report.generation, 1);
    assert_eq!(report.sources[0].1.error.as_deref(), Some("no socket"));
    assert_eq!(node.routers(), ["a@file"]);
    node.stop().await;
}

#[tokio::test]
async fn only_real_changes_make_a_generation() {
    let mut node = Fixture::start();
    node.docker.send_replace(failing("no socket"));
    node.file.send_replace(reading("file", &["a"]));
    node.report(|r| r.generation == 1).await;
    let first = node.published.load_full();
    // The same content read again, and a status that changed.
    node.file.send_replace(reading("file", &["a"]));
    node.docker.send_replace(failing("still no socket"));
    let report = node
        .report(|r| r.sources[0].1.error.as_deref() == Some("still no socket"))
        .await;
    assert_eq!(report.generation, 1);
    assert!(Arc::ptr_eq(&first, &node.published.load_full()));
    node.file.send_replace(reading("file", &["a", "b"]));
    node.report(|r| r.generation == 2).await;
    assert_eq!(node.routers(), ["a@file", "b@file"]);
    assert_eq!(node.published.load().table.generation(), 2);
    node.stop().await;
}

#[tokio::test]
async fn problems_are_reported_and_leave_with_their_cause() {
    let mut node = Fixture::start();
    node.docker.send_replace(failing("no socket"));
    let mut bad = reading("file", &["a"]);
    let contribution = bad.contribution.as_mut().map(Arc::make_mut).unwrap();
    Arc::make_mut(contribution.dynamic.http.routers.get_mut("a").unwrap()).rule = "Host(".to_owned();
    node.file.send_replace(bad);
    let report = node.report(|r| r.generation == 1).await;
    assert_eq!(report.disabled.len(), 1);
    assert_eq!(report.problems.len(), 1);
    node.file.send_replace(reading("file", &["a"]));
    let report = node.report(|r| r.generation == 2).await;
    assert_eq!((report.disabled.len(), report.problems.len()), (0, 0));
    node.stop().await;
}

#[tokio::test]
async fn a_recompile_publishes_what_files_say_now() {
    let mut node = Fixture::start();
    node.docker.send_replace(failing("no socket"));
    node.file.send_replace(reading("file", &["a"]));
    node.report(|r| r.generation == 1).await;
    node.recompile.request();
    node.report(|r| r.generation == 2).await;
    assert_eq!(node.routers(), ["a@file"]);
    node.stop().await;
}

#[tokio::test]
async fn a_source_that_ended_keeps_its_last_reading() {
    let mut node = Fixture::start();
    node.docker.send_replace(reading("docker", &["b"]));
    node.file.send_replace(reading("file", &["a"]));
    node.report(|r| r.generation == 1).await;
    let (closed, _) = watch::channel(SourceState::default());
    drop(std::mem::replace(&mut node.docker, closed));
    node.file.send_replace(reading("file", &["a", "c"]));
    node.report(|r| r.generation == 2).await;
    assert_eq!(node.routers(), ["a@file", "b@docker", "c@file"]);
    node.stop().await;
}

/// `reading` with two servers, the first in this condition.
fn two_servers(condition: Condition, departures: u64) -> SourceState {
    let mut state = reading("docker", &["a"]);
    let contribution = state.contribution.as_mut().map(Arc::make_mut).unwrap();
    contribution.dynamic.http.services = serde_json::from_value(json!({"s": {"loadBalancer": {"servers": [
        {"url": "http://10.0.0.1"}, {"url": "http://10.0.0.2"},
    ]}}}))
    .unwrap();
    let name = "one".into();
    let origins = [("http://10.0.0.1".to_owned(), ServerOrigin { name, condition })];
    contribution.origins = [("s".to_owned(), origins.into())].into();
    state.departures = departures;
    state
}

fn endpoint(published: &Published, position: usize) -> Arc<constellation_table::Endpoint> {
    published.load().table.service("s@docker").unwrap().endpoints[position].clone()
}

#[tokio::test(start_paused = true)]
async fn a_departure_waits_for_nothing_and_is_told() {
    let mut node = Fixture::start();
    node.file.send_replace(failing("no file"));
    node.docker.send_replace(two_servers(Condition::Ready, 0));
    node.report(|r| r.generation == 1).await;
    let (leaves, stays) = (endpoint(&node.published, 0), endpoint(&node.published, 1));
    let published = Instant::now();
    node.docker.send_replace(two_servers(
        Condition::Draining("container one is stopping".into()),
        1,
    ));
    node.report(|r| r.generation == 2).await;
    assert!(published.elapsed() < THROTTLE, "it did not wait for the throttle");
    assert!(leaves.live.departed() && !stays.live.departed());
    let same = endpoint(&node.published, 1);
    assert!(Arc::ptr_eq(&same, &stays));
    node.stop().await;
}

#[tokio::test]
async fn an_operator_drains_an_endpoint_and_takes_it_back() {
    let mut node = Fixture::start();
    node.file.send_replace(failing("no file"));
    node.docker.send_replace(two_servers(Condition::Ready, 0));
    node.report(|r| r.generation == 1).await;
    let drained = Drained {
        service: "s@docker".into(),
        endpoint: "http://10.0.0.2".into(),
    };
    assert!(node.drains.drain(drained.clone()));
    node.report(|r| r.generation == 2).await;
    let by_operator = Condition::Draining("drained by an operator".into());
    assert_eq!(endpoint(&node.published, 1).condition, by_operator);
    // It stays so whatever the source says next.
    node.docker.send_replace(two_servers(
        Condition::Unavailable("container one exited".into()),
        0,
    ));
    node.report(|r| r.generation == 3).await;
    assert_eq!(endpoint(&node.published, 1).condition, by_operator);
    assert!(node.drains.undrain(&drained));
    node.report(|r| r.generation == 4).await;
    assert_eq!(endpoint(&node.published, 1).condition, Condition::Ready);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn other_nodes_routes_are_served_and_this_nodes_are_told() {
    let (listed, peers) = watch::channel(None);
    let (export, mut told) = watch::channel(None);
    let grace = Duration::from_secs(20);
    let own = Own {
        node: "a".into(),
        region: "".into(),
        domain: "".into(),
    };
    let mut fixture = Fixture::start_with(Some(Exchange {
        own,
        peers,
        export,
        grace,
    }));
    fixture.docker.send_replace(reading("docker", &["here.test"]));
    fixture.file.send_replace(reading("file", &[]));
    let connected = |report: &Arc<Report>| report.sources.iter().all(|(_, status)| status.connected);
    fixture.report(connected).await;
    let theirs = reading("docker", &["there.test"]).contribution.unwrap();
    let peer = Peer {
        node: "b".into(),
        region: "".into(),
        priority: 100,
        addresses: Vec::new(),
        standing: Standing::Ready,
        export: Arc::new(Export::of(&[theirs])),
        fit: Default::default(),
    };
    listed.send_replace(Some(Arc::new(vec![peer])));
    // The first generation has waited for them.
    fixture.report(|report| report.generation == 1).await;
    assert_eq!(fixture.routers(), ["here.test@docker", "there.test@docker"]);
    let exported = told.wait_for(Option::is_some).await.unwrap().clone().unwrap();
    let export = Export::decode(&exported.bytes).unwrap();
    let routers = &export.providers["docker"].dynamic.http.routers;
    assert_eq!(routers.keys().collect::<Vec<_>>(), ["here.test"], "its own alone");

    let gone = tokio::time::Instant::now();
    listed.send_replace(Some(Arc::default()));
    fixture.report(|report| report.generation == 2).await;
    assert_eq!(fixture.routers(), ["here.test@docker", "there.test@docker"]);
    fixture.report(|report| report.generation == 3).await;
    assert!(gone.elapsed() >= grace);
    assert_eq!(fixture.routers(), ["here.test@docker"]);
    assert!(!told.has_changed().unwrap());
    fixture.stop().await;
}
