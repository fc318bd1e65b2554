//! Serving cases: hands their configuration to both proxies, waits until both have it, and sends the requests.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::backend::{Backends, Journal, PROBE};
use super::case::{Case, Container, Expect, Request, Setting};
use super::client::{Client, Message, Route};
use super::compare::Outcome;
use super::engine::Engine;
use super::pki::Pki;
use super::side::{MARKER, Providers, Second, Side};
use super::site::{PORTS, Site};
use crate::certificates::replace;
use crate::eventually;

/// Cases whose requests are sent at the same time.
const AT_ONCE: usize = 6;

/// How long copies of a request are waited for. Those that don't come are a difference, or come at neither.
const COPIES_TAKE: Duration = Duration::from_secs(5);

/// A label of the container by which the harness sees that a configuration has arrived; every constraint lets it pass.
pub(super) const MARKING: &str = "harness.marker";

/// Both proxies, their back ends, and where their configuration comes from.
#[derive(Debug)]
pub(super) struct Bench {
    /// Traefik, then ours.
    sides: Arc<[Side; 2]>,
    pub(super) site: Site,
    /// What they were started with.
    pub(super) setting: Setting,
    backends: Backends,
    engine: Engine,
    pki: Arc<Pki>,
    directory: tempfile::TempDir,
    round: AtomicU64,
}

/// What a request came to at both.
pub(super) type Outcomes = [Outcome; 2];

impl Bench {
    /// Starts everything.
    pub(super) async fn start(traefik: &std::path::Path, with: Second, setting: &Setting) -> Self {
        let site = Site::claim();
        let directory = tempfile::Builder::new()
            .prefix("constellation-differential-")
            .tempdir()
            .unwrap();
        let files = directory.path().join("dynamic");
        std::fs::create_dir(&files).unwrap();
        let certificates = directory.path().join("certificates");
        std::fs::create_dir(&certificates).unwrap();
        let pki = Arc::new(Pki::new(&certificates));
        let socket = directory.path().join("docker.sock");
        let engine = Engine::start(&socket).unwrap();
        let backends = Backends::start(&site).await.unwrap();
        let providers = Providers {
            files: &files,
            docker: &socket,
            setting,
        };
        let first = Side::traefik(traefik, &site, 0, providers, directory.path()).await;
        let second = match with {
            Second::Constellation => Side::constellation(&site, providers).await,
            Second::Traefik => Side::traefik(traefik, &site, 1, providers, directory.path()).await,
            Second::Provider => Side::provided(traefik, &site, providers, directory.path()).await,
        };
        let sides = [first, second];
        Self {
            sides: Arc::new(sides),
            site,
            backends,
            engine,
            pki,
            directory,
            setting: setting.clone(),
            round: AtomicU64::new(0),
        }
    }

    /// This one, or another one in its place when it was started with another setting.
    pub(super) async fn with(self, traefik: &std::path::Path, with: Second, setting: &Setting) -> Self {
        if self.setting == *setting {
            return self;
        }
        let sides = Arc::into_inner(self.sides).expect("nothing is sent any more");
        for side in sides {
            side.end().await;
        }
        self.backends.end().await;
        drop(self.site);
        Self::start(traefik, with, setting).await
    }

    /// Serves these cases instead of those before, and sends their requests: the outcomes, in the order of the cases.
    pub(super) async fn run(&self, cases: &[Case]) -> Vec<Vec<Outcomes>> {
        self.serve(cases).await;
        let round = self.round.load(Ordering::Relaxed);
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        let mut tasks = JoinSet::new();
        for (index, case) in cases.iter().enumerate() {
            let sender = Sender {
                sides: self.sides.clone(),
                journal: self.backends.journal.clone(),
                pki: self.pki.clone(),
                sources: [self.site.client(0).into(), self.site.client(1).into()],
                place: case.place(),
                expect: case.expect,
                prefix: format!("{round}-{index}"),
            };
            let (requests, permits) = (case.requests.clone(), permits.clone());
            tasks.spawn(async move {
                let _permit = permits.acquire_owned().await.unwrap();
                (index, sender.send_all(&requests).await)
            });
        }
        let mut all = tasks.join_all().await;
        all.sort_unstable_by_key(|(index, _)| *index);
        all.into_iter().map(|(_, outcomes)| outcomes).collect()
    }

    async fn serve(&self, cases: &[Case]) {
        let round = self.round.fetch_add(1, Ordering::Relaxed) + 1;
        let markers = ["file", "docker"].map(|provider| format!("{provider}-{round}.marker.test"));
        let mut containers: Vec<Value> = cases
            .iter()
            .flat_map(|case| &case.containers)
            .map(Container::inspection)
            .collect();
        containers.push(self.marking_container(&markers[1]).inspection());
        self.engine.set(containers);
        let file = self.directory.path().join("dynamic/batch.yaml");
        replace(&file, self.document(cases, &markers[0]).to_string().as_bytes());
        for side in &*self.sides {
            side.reload();
        }
        for side in &*self.sides {
            for marker in &markers {
                let what = format!("{} serves {marker}", side.name);
                eventually(&what, async || self.is_marked(side, marker).await).await;
            }
        }
    }

    async fn is_marked(&self, side: &Side, marker: &str) -> Result<(), String> {
        let route = Route {
            to: side.marker(),
            from: self.site.client(0).into(),
            tls: None,
            prior: false,
        };
        let request = Message {
            one: format!("GET / HTTP/1.1\r\nHost: {marker}\r\nConnection: close\r\n\r\n").into_bytes(),
            two: None,
        };
        let answer = Client::new(self.pki.clone()).send(&route, &request).await?;
        // Such a request has no name in the journal.
        self.backends.journal.take("");
        if answer.status == 200 {
            Ok(())
        } else {
            Err(format!("{}; {}", answer.status, side.complaint()))
        }
    }

    fn document(&self, cases: &[Case], marker: &str) -> Value {
        let mut http: Map<String, Value> = Map::new();
        for case in cases {
            for (section, objects) in &case.http {
                let Value::Object(objects) = objects else { continue };
                if objects.is_empty() {
                    continue;
                }
                let all = http.entry(section.clone()).or_insert_with(|| json!({}));
                for (name, object) in objects {
                    all[name] = object.clone();
                }
            }
        }
        let mut document = json!({ "http": http });
        let certificates: Vec<&Value> = cases.iter().flat_map(|case| &case.certificates).collect();
        if !certificates.is_empty() {
            document["tls"]["certificates"] = json!(certificates);
        }
        let default = self
            .setting
            .options
            .iter()
            .map(|options| ("default".to_owned(), options.clone()));
        let options = cases.iter().flat_map(|case| case.options.clone()).chain(default);
        let options: Map<String, Value> = options.collect();
        if !options.is_empty() {
            document["tls"]["options"] = json!(options);
        }
        if let Some(certificate) = &self.setting.certificate {
            document["tls"]["stores"]["default"]["defaultCertificate"] = certificate.clone();
        }
        self.pki.resolve(&mut document);
        let url = format!("http://{}:{}", self.site.backend(0), PORTS[0]);
        document["http"]["routers"]["marker-file"] =
            json!({ "rule": format!("Host(`{marker}`)"), "entryPoints": [MARKER], "service": "marker-file" });
        document["http"]["services"]["marker-file"] =
            json!({ "loadBalancer": { "servers": [{ "url": url }] } });
        document
    }

    fn marking_container(&self, marker: &str) -> Container {
        let label = |name: &str, value: String| (format!("traefik.{name}"), value);
        Container {
            name: "marker-docker".into(),
            labels: vec![
                label("enable", "true".into()),
                (MARKING.into(), "true".into()),
                label("http.routers.marker-docker.rule", format!("Host(`{marker}`)")),
                label("http.routers.marker-docker.entrypoints", MARKER.into()),
            ],
            exposed: vec![format!("{}/tcp", PORTS[0])],
            address: self.site.backend(0),
            ..Container::default()
        }
    }

    /// Keeps logs and the last configuration where somebody can look at them.
    pub(super) fn keep(self) -> PathBuf {
        let kept = self.directory.keep();
        for side in &*self.sides {
            std::fs::write(kept.join(format!("{}.log", side.name)), side.log()).unwrap();
        }
        kept
    }
}

/// Sends the requests of one case.
struct Sender {
    sides: Arc<[Side; 2]>,
    journal: Journal,
    pki: Arc<Pki>,
    sources: [std::net::IpAddr; 2],
    place: u64,
    expect: Expect,
    prefix: String,
}

impl Sender {
    async fn send_all(&self, requests: &[Request]) -> Vec<Outcomes> {
        let mut clients = [0, 1].map(|_| Client::new(self.pki.clone()));
        let mut all = Vec::with_capacity(requests.len());
        for (number, request) in requests.iter().enumerate() {
            let [first, second] = &mut clients;
            all.push([
                self.send(first, 0, number, request).await,
                self.send(second, 1, number, request).await,
            ]);
        }
        all
    }

    async fn send(&self, client: &mut Client, side: usize, number: usize, request: &Request) -> Outcome {
        let to: SocketAddr = self.sides[side].entry_point(self.place, request.entry);
        let route = Route {
            to,
            from: self.sources[usize::from(request.client)],
            tls: request.tls.clone(),
            prior: request.prior,
        };
        let probe = format!("{side}-{}-{number}", self.prefix);
        let added = [(PROBE, probe.as_str())];
        let message = Message {
            one: request.bytes(&added),
            two: request.in_two(&added),
        };
        let answer = client.send(&route, &message).await;
        let received = match self.expect {
            Expect::Copies(copies) => self.journal.take_all(&probe, copies + 1, COPIES_TAKE).await,
            _ => self.journal.take(&probe),
        };
        Outcome { answer, received }
    }
}
