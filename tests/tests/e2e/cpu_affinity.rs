//! Workers that stay on their CPU.

use std::collections::BTreeMap;
use std::fs;

use constellation_tests::backend::Backend;
use constellation_tests::node::{Node, route};
use serde_json::json;

/// `Cpus_allowed_list` of the worker threads of a node.
fn places(node: &Node) -> BTreeMap<String, String> {
    let threads = fs::read_dir(format!("/proc/{}/task", node.pid())).unwrap();
    let place = |path: std::path::PathBuf| {
        let name = fs::read_to_string(path.join("comm")).ok()?;
        let status = fs::read_to_string(path.join("status")).ok()?;
        let list = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        name.starts_with("worker-")
            .then(|| (name.trim().to_owned(), list.trim().to_owned()))
    };
    threads
        .filter_map(|thread| place(thread.unwrap().path()))
        .collect()
}

#[tokio::test]
async fn each_worker_stays_on_a_cpu_and_everybody_is_served() {
    let backend = Backend::start("one").await;
    let start = async |affinity: bool| {
        Node::builder()
            .config(json!({ "proxy": { "workers": 2, "cpuAffinity": affinity } }))
            .dynamic("routes.json", &route("app.test", &[backend.url()]).to_string())
            .start()
            .await
    };
    let free = start(false).await;
    let kept = start(true).await;
    let anywhere = &places(&free)["worker-0"];
    let places = places(&kept);
    assert_eq!(places.len(), 2, "{places:?}");
    for place in places.values() {
        assert!(place.parse::<usize>().is_ok(), "one CPU each: {places:?}");
    }
    // A machine with one CPU has one place for both.
    if anywhere.parse::<usize>().is_err() {
        assert_ne!(places["worker-0"], places["worker-1"]);
    }
    for _ in 0..20 {
        assert_eq!(kept.get("app.test", "/").await.status, 200);
    }
}
