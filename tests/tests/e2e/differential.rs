//! The same labels, files and requests give the same behaviour in the real Traefik and in the real binary.

use constellation_tests::differential::{About, Plan, Second, run};
use constellation_tests::require;
use constellation_tests::server::traefik::program;

/// 20,000 pairs in CI; elsewhere enough to notice what is plainly wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traefik_and_this_binary_do_the_same() {
    let traefik = require!(program());
    let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false");
    let plan = Plan {
        pairs: if in_ci { 20_000 } else { 2_000 },
        seed: 1,
        about: About::All,
        with: Second::Constellation,
        case: None,
        shown: 5,
        whole: false,
    };
    let report = run(&traefik, &plan).await;
    assert!(report.holds(), "{report}");
}
