//! Floods and slow clients, small: `cargo xtask flood` and `cargo xtask slow` are the long versions.

use constellation_tests::flood::Flood;
use constellation_tests::proof::attack::{Plan, Slow, flood, slow};
use constellation_tests::require;
use constellation_tests::require::program;

#[tokio::test(flavor = "multi_thread")]
async fn floods_cost_normal_clients_nothing() {
    for kind in Flood::ALL {
        let report = flood(kind, &Plan::SMALL).await;
        println!("{kind:?}: {report}");
        assert!(report.holds(), "{kind:?}: {report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_cost_normal_ones_nothing() {
    let program = require!(program("slowhttptest"));
    let plan = Plan {
        attackers: 500,
        ..Plan::SMALL
    };
    for mode in Slow::ALL {
        let report = slow(mode, &program, &plan).await;
        println!("{mode:?}: {report}");
        assert!(report.holds(), "{mode:?}: {report}");
    }
}
