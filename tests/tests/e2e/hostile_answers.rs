//! A back end that speaks nonsense costs no request that can be saved, and no client takes nonsense for an answer.

use std::time::Duration;

use constellation_tests::fault::Behaviour;
use constellation_tests::fleet::Mix;
use constellation_tests::proof::hostile::run;

const MIX: Mix = Mix {
    get: 16,
    post: 2,
    keyed: 2,
    pause: Duration::from_millis(4),
};

macro_rules! behaviours {
    ($($name:ident: $behaviour:expr,)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            run($behaviour, MIX).await.assert_holds("nonsense");
        }
    )*};
}

behaviours! {
    bytes_that_are_no_http: Behaviour::Garbage,
    a_body_that_breaks_off: Behaviour::Truncate,
    a_reset_within_the_body: Behaviour::ResetAfterHead,
    a_head_of_400_kilobytes: Behaviour::HugeHeaders { bytes: 400_000 },
    a_flood_of_interim_answers: Behaviour::Informational { count: 200 },
    connections_closed_at_random: Behaviour::CloseAtRandom,
}
