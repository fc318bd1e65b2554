//! TCP streams are carried exactly: every byte in its place, every end as it was meant.

use constellation_tests::proof::streams::{self, Front, Proxy};
use constellation_tests::stream::JobServer;

async fn start() -> (JobServer, Front) {
    let server = JobServer::start().await;
    let front = Proxy::Constellation.start(server.address()).await;
    (server, front)
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_data_arrives_exactly_both_ways_at_once() {
    let (server, front) = start().await;
    for streams in [1, 64] {
        streams::bulk(&front, &server, streams, 64 << 20)
            .await
            .assert_holds();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_close_leaves_the_other_direction_alone() {
    let (server, front) = start().await;
    streams::half_closes(&front, &server, 200).await.assert_holds();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_of_either_side_is_a_reset_for_the_other() {
    let (server, front) = start().await;
    streams::resets(&front, &server, 100).await.assert_holds();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_connections_loses_none_and_leaves_no_descriptor() {
    let (server, front) = start().await;
    streams::storm(&front, &server, 1000).await.assert_holds();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_hello_may_come_in_any_pieces() {
    streams::cut().await.assert_holds();
}

#[tokio::test(flavor = "multi_thread")]
async fn client_hellos_that_never_end_hurt_nobody_else() {
    streams::slow(200, 40).await.assert_holds();
}
