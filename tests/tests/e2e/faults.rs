//! A back end that fails costs no request that can be saved, and none is repeated that must not be.

use constellation_tests::proof::faults::{Fault, Plan, run};
use constellation_tests::proof::peer::Proxy;

macro_rules! faults {
    ($($name:ident: $fault:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let report = run(Proxy::Constellation, Fault::$fault, &Plan::SMALL).await;
            report.verdict.assert_holds("lost or repeated");
        }
    )*};
}

faults! {
    a_killed_back_end_costs_nothing: Kill,
    a_back_end_that_hangs_costs_nothing: Hang,
    a_back_end_that_resets_what_it_has_read_costs_nothing: Reset,
    a_back_end_that_answers_503_costs_nothing: Unavailable,
    a_full_listen_queue_costs_nothing: FullQueue,
    a_stopped_process_costs_nothing: Stop,
    a_restart_costs_nothing: Restart,
    a_crash_costs_nothing: Crash,
}
