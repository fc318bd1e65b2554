//! Nobody takes a slow answer or a silent stream for a failure, while the same back ends answer others at once.

use constellation_tests::proof::silence::{Plan, run};

#[tokio::test(flavor = "multi_thread")]
async fn slow_answers_and_silent_streams_are_left_alone() {
    let wrong = run(&Plan::SMALL).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}
