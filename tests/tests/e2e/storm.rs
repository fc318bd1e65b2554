//! When every back end fails, retries do not multiply the load, and when they are back, the next request succeeds.

use constellation_tests::proof::storm::{Plan, Storm, run};

macro_rules! storms {
    ($($name:ident: $storm:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let report = run(Storm::$storm, &Plan::SMALL).await;
            assert!(report.holds(), "{report}");
        }
    )*};
}

storms! {
    all_answer_503: Unavailable,
    all_reset: Reset,
    each_fails_in_another_way: Mixed,
}
