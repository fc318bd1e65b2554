//! Nodes that don't take what is sent to them: another one does, whatever the request is.

use super::cluster::{At, Cluster};
use super::support::{Act, Backend, ok, soon};

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";

/// An address that nobody listens at.
fn nowhere() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn a_node_without_an_instance_is_passed_over_for_a_post_too() {
    let backend = Backend::fixed("served").await;
    let gone = nowhere();
    // At b: no instance; only other nodes' instances; one that can't be reached.
    for at_b in [vec![], vec![At::Node("c"), At::Node("a")], vec![At::Here(gone)]] {
        let mut cluster = Cluster::new(&["a", "b", "c"]);
        let near = cluster.start("a", &[At::Node("b"), At::Node("c")], &[], &[]);
        let passed = cluster.start("b", &at_b, &[], &[]);
        let _far = cluster.start("c", &[At::Here(backend.address)], &[], &[]);
        let mut client = near.connect().await;
        client.send(POST).await;
        let response = client.response().await;
        assert_eq!((response.status, response.text()), (200, "served"));
        assert_eq!(response.header("x-constellation-node"), Some("c"));
        assert_eq!(response.header("x-constellation-attempts"), Some("2"));
        assert_eq!(backend.seen().last().unwrap().body, b"body");
        // It sent nothing on.
        assert_eq!(
            passed.metric("constellation_mesh_streams_total", &["direction=\"out\""]),
            0
        );
    }
}

#[tokio::test]
async fn nodes_that_point_at_each_other_answer_at_once() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let near = cluster.start("a", &[At::Node("b")], &[], &[]);
    let far = cluster.start("b", &[At::Node("a")], &[], &[]);
    for node in [&near, &far] {
        let response = node.connect().await.get("/").await;
        assert_eq!(
            (response.status, response.header("retry-after")),
            (503, Some("7"))
        );
        assert_eq!(response.header("constellation-refusal"), None, "it is for nodes");
    }
    for node in [&near, &far] {
        let taken = node.metric("constellation_mesh_streams_total", &["direction=\"in\"", "taken"]);
        let refused = node.metric(
            "constellation_mesh_streams_total",
            &["direction=\"in\"", "no-local-instance"],
        );
        assert_eq!((taken, refused), (0, 1));
    }
}

#[tokio::test]
async fn a_request_that_was_sent_is_not_repeated() {
    let broken = Backend::start(|_, _| Act::Close).await;
    let good = Backend::fixed("good").await;
    let mut cluster = Cluster::new(&["a", "b", "c"]);
    let near = cluster.start("a", &[At::Node("b"), At::Node("c")], &[], &[]);
    let _far = cluster.start("b", &[At::Here(broken.address)], &[], &[]);
    let _other = cluster.start("c", &[At::Here(good.address)], &[], &[]);
    let mut client = near.connect().await;
    client.send(POST).await;
    assert_eq!(client.response().await.status, 502);
    assert_eq!((broken.seen().len(), good.seen().len()), (1, 0));
    // One that may be repeated is.
    let response = near.connect().await.get("/").await;
    assert_eq!((response.status, response.text()), (200, "good"));
}

#[tokio::test]
async fn a_node_that_is_gone_is_passed_over() {
    let backend = Backend::fixed("served").await;
    let mut cluster = Cluster::new(&["a", "b", "c"]);
    let near = cluster.start("a", &[At::Node("b"), At::Node("c")], &[], &[]);
    let far = cluster.start("b", &[At::Here(backend.address)], &[], &[]);
    let _other = cluster.start("c", &[At::Here(backend.address)], &[], &[]);
    let response = near.connect().await.get("/").await;
    assert_eq!(response.header("x-constellation-node"), Some("b"));
    drop(far);
    // What is sent before the end of the connection is known may have been done, and is not repeated.
    let known = async {
        while near.metric("constellation_mesh_open_connections", &["direction=\"out\""]) > 0 {
            tokio::task::yield_now().await;
        }
    };
    soon("the end of the connection", known).await;
    let mut client = near.connect().await;
    client.send(POST).await;
    let response = client.response().await;
    assert_eq!(response.header("x-constellation-node"), Some("c"));
}

#[tokio::test]
async fn who_does_not_belong_here_is_not_served() {
    let backend = Backend::fixed("served").await;
    let mut cluster = Cluster::new(&["a", "b"]);
    let near = cluster.start("a", &[At::Node("b")], &[], &[]);
    let far = cluster.start("b", &[At::Here(backend.address)], &[], &[]);
    cluster.remove("a");
    assert_eq!(near.connect().await.get("/").await.status, 502);
    assert!(backend.seen().is_empty());
    assert!(far.metric("constellation_mesh_connections_total", &["stranger"]) > 0);
}

#[tokio::test]
async fn a_node_that_drains_finishes_and_takes_nothing_more() {
    let slow =
        Backend::start(|_, _| Act::SendLater(std::time::Duration::from_millis(300), ok(b"slow"))).await;
    let quick = Backend::fixed("quick").await;
    let mut cluster = Cluster::new(&["a", "b", "c"]);
    let near = cluster.start("a", &[At::Node("b"), At::Node("c")], &[], &[]);
    let mut far = cluster.start("b", &[At::Here(slow.address)], &[], &[]);
    let _other = cluster.start("c", &[At::Here(quick.address)], &[], &[]);
    let mut waiting = near.connect().await;
    waiting.send(POST).await;
    let begun = async {
        while slow.seen().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    soon("the request", begun).await;
    let draining = tokio::spawn(far.drain());
    let mut client = near.connect().await;
    // Until the other node's good-bye is here, it may take some more; none of them fails.
    let moved = async {
        loop {
            client.send(POST).await;
            let response = client.response().await;
            assert_eq!(response.status, 200);
            if response.text() == "quick" {
                return;
            }
        }
    };
    soon("the move to the other node", moved).await;
    assert_eq!(waiting.response().await.text(), "slow");
    assert_eq!(soon("the drain", draining).await.unwrap(), 0);
}
