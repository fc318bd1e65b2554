//! The same labels, files and requests give the same behaviour in the real Traefik and in the real binary.

use constellation_tests::differential::{About, Plan, Second, run};
use constellation_tests::require;
use constellation_tests::server::traefik::program;

/// 20,000 pairs in CI; elsewhere enough to notice what is plainly wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traefik_and_this_binary_do_the_same() {
    compare(Second::Constellation, [20_000, 2_000]).await;
}

/// A Traefik that has all routes from a node does the same as one that has read the labels and files itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_traefik_that_polls_a_node_does_the_same() {
    compare(Second::Provider, [5_000, 500]).await;
}

/// Compares so many pairs, in CI and elsewhere.
async fn compare(with: Second, pairs: [usize; 2]) {
    let traefik = require!(program());
    let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false");
    let [all, some] = pairs;
    let plan = Plan {
        pairs: if in_ci { all } else { some },
        seed: 1,
        about: About::All,
        with,
        case: None,
        shown: 5,
        whole: false,
    };
    let report = run(&traefik, &plan).await;
    assert!(report.holds(), "{report}");
}
