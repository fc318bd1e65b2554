//! Under random faults no two kernels let connections in at a time: a short run of what `cargo xtask cluster-faults` does at
//! length.

use std::time::Duration;

use constellation_tests::lab::{self, check, clock};
use constellation_tests::{node, require};
use serde_json::json;

#[test]
fn one_node_at_a_time_is_let_in_whatever_happens() {
    require!(lab::possible());
    require!(clock::library());
    let settings = check::Settings {
        binary: node::binary(),
        nodes: 3,
        during: Duration::from_secs(8),
        max_stop: Duration::from_secs(3),
        config: json!({ "edge": { "standby": "closed" } }),
        environment: Vec::new(),
    };
    let report = check::run(&settings, 1).unwrap();
    assert!(report.holds(), "{report}");
    // Something was put to the proof: the lease by the kernels, the log by what was written and read over the API.
    let counts = report.judgement.counts;
    assert!(counts.writes > 0 && counts.reads > 0, "{report}");
}

#[test]
fn who_stands_by_carries_connections_and_is_not_taken_for_the_holder() {
    require!(lab::possible());
    require!(clock::library());
    let settings = check::Settings {
        binary: node::binary(),
        nodes: 3,
        during: Duration::from_secs(5),
        max_stop: Duration::from_secs(2),
        config: json!({ "edge": { "standby": "relay" } }),
        environment: Vec::new(),
    };
    let report = check::run(&settings, 2).unwrap();
    assert!(report.holds(), "{report}");
}
