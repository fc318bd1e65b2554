//! The quick start: every command that it prints works as printed.

use constellation_tests::node::Node;
use constellation_tests::{eventually, require};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn every_printed_command_works_as_printed() {
    require!(require::curl());
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    // What `./dev run` runs, but for the ports, which may be taken on a developer's machine.
    let config = format!("{root}/config/quickstart.yaml");
    let directory = format!("providers.file.directory={root}/config/quickstart.d");
    let mut node = Node::builder()
        .start_with(&[
            "--config",
            &config,
            "--demo",
            "--set",
            "entryPoints.web.address=127.0.0.1:0",
            "--set",
            "entryPoints.websecure.address=127.0.0.1:0",
            "--set",
            "control.address=127.0.0.1:0",
            "--set",
            &directory,
        ])
        .await;
    let printed = eventually("the commands are printed", async || {
        let printed = node.output();
        if printed.contains("Ctrl-C") {
            Ok(printed)
        } else {
            Err(printed)
        }
    })
    .await;
    // A comment, then its command, each indented.
    let lines: Vec<&str> = printed
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .collect();
    let commands: Vec<(&str, &str)> = lines.chunks(2).map(|pair| (pair[0], pair[1])).collect();
    assert!(commands.len() >= 5, "{printed}");
    for (comment, command) in &commands {
        assert!(comment.starts_with("# "), "{comment}");
        let output = Command::new("sh")
            .args(["-c", command])
            .env("RUNTIME_DIRECTORY", node.directory().join("run"))
            .current_dir(root)
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        let said = format!("{command}\n{stdout}{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{comment}: {:?}\n{said}", output.status);
        let expected = match *comment {
            comment if comment.contains("WebSocket") => "101 Switching Protocols",
            comment if comment.contains("metrics") => "# EOF",
            comment if comment.contains("health") => "\"status\":",
            comment if comment.contains("events") => "data:",
            _ => "",
        };
        assert!(
            !stdout.is_empty() && stdout.contains(expected),
            "{comment}: {said}"
        );
        assert!(
            !stdout.contains("404 page not found") && !stdout.contains("Bad Gateway"),
            "{comment}: {said}"
        );
    }
    for topic in ["HTTP,", "HTTPS", "WebSocket", "metrics", "why"] {
        assert!(
            commands.iter().any(|(comment, _)| comment.contains(topic)),
            "{topic}: {printed}"
        );
    }
    // The demo back ends end with the node.
    node.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(node.exit().await.code(), Some(0), "{}", node.log());
}
