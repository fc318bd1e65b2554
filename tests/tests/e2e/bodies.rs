//! An upload through a back end that fails is replayed whole or fails cleanly; no back end ever takes a part of it for
//! the whole.

use constellation_tests::proof::bodies::{Stage, run};

/// The last one is too large to be replayed.
const SIZES: [usize; 4] = [1 << 10, 64 << 10, 1 << 20, 3 << 20];

macro_rules! stages {
    ($($name:ident: $stage:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let report = run(Stage::$stage, &SIZES).await;
            assert!(report.wrong.is_empty() && report.whole > 0, "{report}");
        }
    )*};
}

stages! {
    connect_refused: ConnectRefused,
    reset_on_accept: ResetOnAccept,
    reset_before_the_body_is_read: ResetUnread,
    reset_within_the_body: ResetMidBody,
    reset_after_the_body: ResetAfterRead,
    answered_503_before_the_body_is_read: EarlyUnavailable,
    answered_503_after_the_body: Unavailable,
    left_unanswered: Hang,
}
