//! Routes outlive their containers: stops, removals, replacements and grace periods.

use std::collections::BTreeSet;
use std::time::Duration;

use constellation_config::DockerProvider;
use serde_json::{Value, json};

use super::{container, exited, inspection, problems, provider, routers, servers};
use crate::sources::docker::container::Health;
use crate::sources::docker::event::{Event, News};
use crate::sources::docker::inventory::{Grace, Inventory, Now};
use crate::sources::docker::policy::Policy;

const EXITED: &str = "container web exited (137) at 2026-01-01T10:00:00.5Z";

/// An inventory with a clock that is moved by hand. It starts ten seconds after the containers of these tests exit.
struct World {
    inventory: Inventory,
    policy: Policy,
    now: Now,
}

impl World {
    fn new(provider: &DockerProvider) -> Self {
        Self {
            inventory: Inventory::new(Grace::from(provider)),
            policy: Policy::new(provider).unwrap(),
            now: Now {
                // Far enough from zero that the past can be spoken of.
                instant: std::time::Instant::now() + Duration::from_secs(1_000_000),
                wall: humantime::parse_rfc3339("2026-01-01T10:00:10Z").unwrap(),
            },
        }
    }

    fn observe(&mut self, inspection: Value) {
        self.inventory.observe(container(inspection), self.now);
    }

    fn remove(&mut self, id: &str) {
        self.inventory.remove(id, &self.policy, self.now);
    }

    fn pass(&mut self, seconds: u64) {
        self.now.instant += Duration::from_secs(seconds);
        self.now.wall += Duration::from_secs(seconds);
        self.inventory.expire(self.now);
    }

    fn servers(&self) -> Vec<String> {
        servers(&self.inventory.contribution(&self.policy, self.now))
    }

    fn routers(&self) -> Vec<String> {
        routers(&self.inventory.contribution(&self.policy, self.now))
    }
}

fn web(address: &str) -> Value {
    inspection("web", address, &[])
}

fn named(mut inspection: Value, id: &str) -> Value {
    inspection["Id"] = json!(id);
    inspection
}

#[test]
fn every_state_keeps_the_route() {
    let state = |state: Value| {
        let mut web = web("10.0.0.1");
        web["State"] = state;
        web
    };
    let cases = [
        (json!({"Status": "running"}), ""),
        (json!({"Status": "running", "Health": {"Status": "none"}}), ""),
        (json!({"Status": "running", "Health": {"Status": "healthy"}}), ""),
        (
            json!({"Status": "running", "Health": {"Status": "starting"}}),
            " (container web: health check: starting)",
        ),
        (
            json!({"Status": "running", "Health": {"Status": "unhealthy", "FailingStreak": 7}}),
            " (container web: health check: unhealthy)",
        ),
        (
            json!({"Status": "paused", "Running": true}),
            " (container web is paused)",
        ),
        (
            json!({"Status": "restarting", "Running": true}),
            " (container web is restarting)",
        ),
        (json!({"Status": "created"}), " (container web was never started)"),
        (json!({"Status": "dead"}), " (container web is being removed)"),
        (json!({"Status": "exited"}), " (container web exited)"),
        (
            json!({"Status": "exited", "ExitCode": 1, "FinishedAt": "0001-01-01T00:00:00Z"}),
            " (container web exited (1))",
        ),
        // An engine that doesn't know the word still says whether it runs.
        (json!({"Running": true}), ""),
        (json!({}), " (container web was never started)"),
    ];
    for (said, reason) in cases {
        let mut world = World::new(&provider());
        world.observe(state(said.clone()));
        assert_eq!(
            world.servers(),
            [format!("web http://10.0.0.1:80{reason}")],
            "{said}"
        );
        assert_eq!(world.routers(), ["web Host(`web`) -> web"], "{said}");
    }
}

#[test]
fn a_stop_keeps_the_address_and_a_start_brings_the_new_one() {
    let mut world = World::new(&provider());
    world.observe(web("10.0.0.1"));
    assert_eq!(world.servers(), ["web http://10.0.0.1:80"]);
    world.observe(exited(web(""), 137));
    assert_eq!(world.servers(), [format!("web http://10.0.0.1:80 ({EXITED})")]);
    world.observe(web("10.0.0.9"));
    assert_eq!(world.servers(), ["web http://10.0.0.9:80"]);
}

#[test]
fn a_reading_that_brings_nothing_new_changes_nothing() {
    let mut world = World::new(&provider());
    world.observe(exited(web(""), 137));
    let before = world.inventory.contribution(&world.policy, world.now);
    world.pass(3600);
    world.observe(exited(web(""), 137));
    assert_eq!(world.inventory.contribution(&world.policy, world.now), before);
}

fn event(news: News) -> Event {
    Event { news, at: None }
}

/// `web` as the engine lists it, in the run that began then.
fn run(address: &str, started: &str) -> Value {
    let mut web = web(address);
    web["State"]["StartedAt"] = json!(started);
    web["Config"]["StopSignal"] = json!("SIGQUIT");
    web
}

const FIRST: &str = "2026-01-01T09:00:00Z";
const SECOND: &str = "2026-01-01T10:00:09Z";
const READY: [&str; 1] = ["web http://10.0.0.1:80"];
const STOPPING: [&str; 1] = ["web http://10.0.0.1:80 (container web is stopping)"];

#[test]
fn a_container_that_is_told_to_end_takes_no_new_requests() {
    let mut world = World::new(&provider());
    let hear = |world: &mut World, news: News| world.inventory.hear("id-web", &event(news), world.now);
    assert!(!hear(&mut world, News::Signal(15)), "nothing is known of it");
    world.observe(run("10.0.0.1", FIRST));
    // Signals that end nothing.
    for signal in [1, 10, 12, 28] {
        assert!(!hear(&mut world, News::Signal(signal)));
        assert_eq!(world.servers(), READY);
    }
    for signal in [15, 9, 3] {
        let mut world = World::new(&provider());
        world.observe(run("10.0.0.1", FIRST));
        assert!(hear(&mut world, News::Signal(signal)));
        assert_eq!(world.servers(), STOPPING);
    }
    assert!(hear(&mut world, News::Signal(15)));
    assert!(!hear(&mut world, News::Signal(9)), "it leaves only once");
    // An inspection that began before the signal still says that it runs.
    world.observe(run("10.0.0.1", FIRST));
    assert_eq!(world.servers(), STOPPING);
    assert!(!hear(&mut world, News::Ended { code: Some(137) }));
    assert_eq!(
        world.servers(),
        ["web http://10.0.0.1:80 (container web exited (137))"]
    );
    hear(&mut world, News::Signal(15));
    assert!(
        world.servers()[0].ends_with("exited (137))"),
        "the end stays known"
    );
    world.observe(exited(run("", FIRST), 137));
    assert_eq!(world.servers(), [format!("web http://10.0.0.1:80 ({EXITED})")]);
    // The next run has nothing to do with it, and takes no notice of what happened to the first.
    world.observe(run("10.0.0.1", SECOND));
    assert_eq!(world.servers(), READY);
    let old = Event {
        news: News::Ended { code: None },
        at: humantime::parse_rfc3339("2026-01-01T10:00:08.9Z").ok(),
    };
    assert!(!world.inventory.hear("id-web", &old, world.now));
    assert_eq!(world.servers(), READY);
}

#[test]
fn a_container_that_survives_its_signal_is_ready_again() {
    let mut world = World::new(&provider());
    world.observe(run("10.0.0.1", FIRST));
    assert!(
        world
            .inventory
            .hear("id-web", &event(News::Signal(15)), world.now)
    );
    let end = world.now.instant + Duration::from_secs(15);
    assert_eq!(world.inventory.next_change(world.now), Some(end));
    assert!(world.inventory.overdue(world.now).is_empty());
    world.pass(15);
    assert_eq!(world.inventory.overdue(world.now), ["id-web"]);
    assert_eq!(world.servers(), STOPPING, "not before the engine was asked");
    assert_eq!(world.inventory.next_change(world.now), None);
    world.observe(run("10.0.0.1", FIRST));
    assert_eq!(world.servers(), READY);
}

#[test]
fn a_restart_is_told_from_a_reading_that_is_late() {
    let mut world = World::new(&provider());
    world.observe(run("10.0.0.1", FIRST));
    assert!(
        world
            .inventory
            .hear("id-web", &event(News::Ended { code: Some(0) }), world.now)
    );
    world.inventory.hear("id-web", &event(News::Started), world.now);
    assert!(
        world.servers()[0].ends_with("exited (0))"),
        "its address is not known yet"
    );
    world.observe(run("10.0.0.7", SECOND));
    assert_eq!(world.servers(), ["web http://10.0.0.7:80"]);
}

#[test]
fn a_pause_and_a_bad_health_check_count_before_the_inspection() {
    let mut world = World::new(&provider());
    world.observe(run("10.0.0.1", FIRST));
    let hear = |world: &mut World, news: News| world.inventory.hear("id-web", &event(news), world.now);
    assert!(hear(&mut world, News::Paused));
    assert_eq!(
        world.servers(),
        ["web http://10.0.0.1:80 (container web is paused)"]
    );
    hear(&mut world, News::Resumed);
    assert_eq!(world.servers(), READY);
    assert!(hear(&mut world, News::Health(Health::Unhealthy)));
    assert_eq!(
        world.servers(),
        ["web http://10.0.0.1:80 (container web: health check: unhealthy)"]
    );
    assert!(!hear(&mut world, News::Health(Health::Healthy)));
    assert_eq!(world.servers(), READY);
}

#[test]
fn a_container_that_was_never_seen_running_has_a_name_that_never_resolves() {
    let mut world = World::new(&provider());
    world.observe(exited(inspection("my_web.1", "", &[]), 0));
    let reason = "container my_web.1 exited (0) at 2026-01-01T10:00:00.5Z";
    assert_eq!(
        world.servers(),
        [format!("my-web-1 http://my-web-1.invalid:80 ({reason})")]
    );
}

#[test]
fn a_removed_container_keeps_its_route_for_the_grace_period() {
    let mut world = World::new(&DockerProvider {
        removed_grace_period: Duration::from_secs(60),
        ..provider()
    });
    world.observe(web("10.0.0.1"));
    world.remove("id-web");
    let gone = "web http://10.0.0.1:80 (container web was removed at 2026-01-01T10:00:10Z)";
    assert_eq!(world.servers(), [gone]);
    assert_eq!(
        world.inventory.next_change(world.now),
        Some(world.now.instant + Duration::from_secs(60))
    );
    world.pass(59);
    assert_eq!(world.servers(), [gone]);
    world.remove("id-web");
    world.pass(1);
    assert!(
        world.routers().is_empty(),
        "a second notice doesn't start the period anew"
    );
    assert_eq!(world.inventory.next_change(world.now), None);
}

#[test]
fn a_replacement_supersedes_the_removed_one_at_once() {
    let compose = [
        ("com.docker.compose.project", "shop"),
        ("com.docker.compose.service", "web"),
        ("com.docker.compose.container-number", "1"),
    ];
    let place = |id: &str, name: &str, address: &str| named(inspection(name, address, &compose), id);
    // The same name.
    let mut world = World::new(&provider());
    world.observe(web("10.0.0.1"));
    world.remove("id-web");
    world.observe(named(web("10.0.0.2"), "id-web-2"));
    assert_eq!(world.servers(), ["web http://10.0.0.2:80"]);
    // The same place in Compose, made before the old one is gone, under a name for the time being.
    let mut world = World::new(&provider());
    world.observe(place("old", "shop-web-1", "10.0.0.1"));
    world.observe(place("new", "0a1b2c_shop-web-1", "10.0.0.2"));
    assert_eq!(
        world.servers(),
        ["web-shop http://10.0.0.2:80", "web-shop http://10.0.0.1:80"]
    );
    world.remove("old");
    world.observe(place("new", "shop-web-1", "10.0.0.2"));
    assert_eq!(world.servers(), ["web-shop http://10.0.0.2:80"]);
}

#[test]
fn an_address_that_went_to_another_replica_is_ready() {
    let labels = [("traefik.http.services.s.loadbalancer.server.port", "80")];
    let mut world = World::new(&provider());
    world.observe(inspection("a", "10.0.0.1", &labels));
    world.remove("id-a");
    world.observe(inspection("b", "10.0.0.1", &labels));
    assert_eq!(world.servers(), ["s http://10.0.0.1:80"]);
}

#[test]
fn stopped_containers_may_have_a_grace_period() {
    let limited = DockerProvider {
        stopped_grace_period: Some(Duration::from_secs(60)),
        ..provider()
    };
    let mut world = World::new(&limited);
    world.observe(exited(web(""), 137));
    // The period counts from the exit, nine and a half seconds ago.
    world.pass(50);
    assert_eq!(world.routers().len(), 1);
    world.pass(1);
    assert!(world.routers().is_empty());
    // Removal doesn't bring it back, a start does.
    world.remove("id-web");
    assert!(world.routers().is_empty());
    world.observe(web("10.0.0.1"));
    assert_eq!(world.routers().len(), 1);

    let unlimited = DockerProvider {
        stopped_grace_period: Some(Duration::ZERO),
        ..provider()
    };
    let mut world = World::new(&unlimited);
    world.observe(exited(web(""), 137));
    world.pass(10 * 365 * 86_400);
    assert_eq!(world.routers().len(), 1, "zero is for ever");
}

#[test]
fn what_the_list_lacks_is_removed() {
    let mut world = World::new(&provider());
    world.observe(web("10.0.0.1"));
    world.observe(inspection("other", "10.0.0.2", &[]));
    world
        .inventory
        .observe_unreadable("id-gone", "timeout".to_owned());
    world
        .inventory
        .reconcile(&BTreeSet::from(["id-other".to_owned()]), &world.policy, world.now);
    let contribution = world.inventory.contribution(&world.policy, world.now);
    assert!(servers(&contribution)[1].contains("was removed"));
    assert!(problems(&contribution).is_empty());
}

#[test]
fn a_container_that_cannot_be_read_keeps_its_last_reading() {
    let mut world = World::new(&provider());
    world.observe(web("10.0.0.1"));
    world
        .inventory
        .observe_unreadable("id-web", "it takes too long".to_owned());
    let contribution = world.inventory.contribution(&world.policy, world.now);
    assert_eq!(servers(&contribution), ["web http://10.0.0.1:80"]);
    assert_eq!(
        problems(&contribution),
        ["container web: it can't be read: it takes too long; what was known of it stands"]
    );
    world.observe(web("10.0.0.1"));
    assert!(problems(&world.inventory.contribution(&world.policy, world.now)).is_empty());
}

#[test]
fn jobs_that_come_and_go_do_not_fill_the_memory() {
    let mut world = World::new(&provider());
    for n in 0..1100 {
        world.observe(inspection(&format!("job{n}"), "10.0.0.1", &[]));
        world.remove(&format!("id-job{n}"));
        world.now.instant += Duration::from_millis(1);
    }
    assert_eq!(world.routers().len(), 1000);
    assert!(
        !world.routers().iter().any(|router| router.starts_with("job0 ")),
        "the oldest go first"
    );
}
