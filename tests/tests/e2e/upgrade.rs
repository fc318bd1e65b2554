//! A new process takes over from the one that runs, or from one that has gone.

use constellation_tests::backend::Backend;
use constellation_tests::client::Client;
use constellation_tests::client::http::request;
use constellation_tests::eventually;
use constellation_tests::node::{Node, route};
use constellation_tests::proof::upgrades::{Plan, run};
use constellation_tests::service_manager::ServiceManager;
use http::Method;
use nix::sys::signal::Signal;

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_refused_while_processes_replace_one_another() {
    let report = run(&Plan::SMALL).await;
    assert!(report.holds(), "{report}");
    assert!(report.connections >= Plan::SMALL.connections, "{report}");
}

#[tokio::test]
async fn a_process_that_does_not_come_up_changes_nothing() {
    let node = Node::builder().start().await;
    // The new process reads the file again and does not accept it.
    std::fs::write(
        node.config_file(),
        r#"{ "entryPoints": { "web": { "adress": ":1" } } }"#,
    )
    .unwrap();
    let failed = node.upgrade().await.unwrap_err();
    assert!(failed.contains("ended before it served"), "{failed}");
    assert!(failed.contains("this process serves on"), "{failed}");
    node.answers("nobody.test", "/", 404).await;
    assert_eq!(node.processes(), [node.pid().as_raw()]);
    assert!(node.log().contains("entryPoints.web"), "{}", node.log());
}

#[tokio::test]
async fn the_new_process_goes_by_the_new_configuration() {
    let mut node = Node::builder().start().await;
    let text = std::fs::read_to_string(node.config_file()).unwrap();
    std::fs::write(node.config_file(), text.replace("test-node", "other-node")).unwrap();
    let pid = node.upgrade().await.unwrap();
    assert_eq!(node.status().await["node"], "other-node");
    // The first one has nothing to finish.
    assert!(node.exit().await.success());
    eventually("one process is left", async || match node.processes() {
        left if left == [pid] => Ok(()),
        left => Err(format!("{left:?}")),
    })
    .await;
}

#[tokio::test]
async fn who_comes_between_a_crash_and_the_restart_is_served() {
    let backend = Backend::start("one").await;
    let directory = tempfile::tempdir().unwrap();
    let mut manager = ServiceManager::listen(directory.path());
    let mut node = Node::builder()
        .dynamic("routes.json", &route("app.test", &[backend.url()]).to_string())
        .env("NOTIFY_SOCKET", manager.address())
        .start()
        .await;
    let web = node.web();
    // The control listener, and one for each of two workers.
    let sockets = manager.take(3).await;
    node.signal(Signal::SIGKILL);
    node.exit().await;
    let mut waiting = Vec::new();
    for _ in 0..20 {
        // The kernel answers for a process that isn't there.
        let mut client = Client::h1(web).await.unwrap();
        waiting.push(tokio::spawn(async move {
            client.send(request(Method::GET, "app.test", "/")).await
        }));
    }
    let node = Node::builder()
        .in_place_of(node)
        .env("NOTIFY_SOCKET", manager.address())
        .passing(sockets)
        .start()
        .await;
    assert_eq!(node.web(), web);
    for client in waiting {
        assert_eq!(client.await.unwrap().unwrap().status, 200);
    }
    eventually("they are kept again", async || match manager.kept().len() {
        3 => Ok(()),
        other => Err(format!("{other}")),
    })
    .await;
    assert!(manager.lines().iter().any(|line| line == "READY=1"));
}
