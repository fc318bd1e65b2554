//! Directories of certificates: found, renewed, broken and taken away while the node serves.

use std::fs;
use std::os::unix::fs::symlink;

use constellation_tests::certificates::{Authority, Identity, replace};
use constellation_tests::client::tls::Tls;
use constellation_tests::eventually;
use constellation_tests::node::Node;
use serde_json::json;

async fn until_served(node: &Node, authority: &Authority, name: &str, expected: &Identity) {
    eventually("the certificate is served", async || {
        let session = Tls::trusting(authority).connect(node.websecure(), name).await;
        match session {
            Ok(session) if session.certificate == expected.der() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_a_directory_are_followed() {
    let authority = Authority::new("test CA");
    let sign = |name: &str| authority.sign(&[name]);
    let builder = Node::builder();
    let (live, archive) = (
        builder.directory().join("live"),
        builder.directory().join("archive"),
    );
    fs::create_dir_all(live.join("linked.test")).unwrap();
    fs::create_dir(&archive).unwrap();
    let (plain, bundle, linked) = (sign("plain.test"), sign("bundle.test"), sign("linked.test"));
    plain.write(&live, "plain");
    let text = format!("{}{}", bundle.certificate, bundle.key);
    replace(&live.join("bundle.pem"), text.as_bytes());
    let renewed = sign("linked.test");
    for (generation, identity) in [(1, &linked), (2, &renewed)] {
        identity.write(&archive, &generation.to_string());
    }
    let link = |generation: u32| {
        for (target, name) in [("key", "privkey.pem"), ("crt", "fullchain.pem")] {
            let folder = live.join("linked.test");
            symlink(
                format!("../../archive/{generation}.{target}"),
                folder.join("next"),
            )
            .unwrap();
            fs::rename(folder.join("next"), folder.join(name)).unwrap();
        }
    };
    link(1);
    // Without the file provider, which is the builder's: certificates alone make a node, too.
    let providers = json!({ "file": null, "certificates": { "directory": &live } });
    let node = builder
        .config(json!({ "providers": providers }))
        .websecure()
        .start()
        .await;
    for (name, identity) in [
        ("plain.test", &plain),
        ("bundle.test", &bundle),
        ("linked.test", &linked),
    ] {
        until_served(&node, &authority, name, identity).await;
    }
    link(2);
    until_served(&node, &authority, "linked.test", &renewed).await;
    // One that breaks holds nobody up, and stays.
    replace(&live.join("plain.crt"), b"garbage");
    let late = sign("late.test");
    late.write(&live, "late");
    until_served(&node, &authority, "late.test", &late).await;
    until_served(&node, &authority, "plain.test", &plain).await;
    fs::remove_file(live.join("bundle.pem")).unwrap();
    eventually("the removed one is gone", async || {
        let session = Tls::trusting(&authority)
            .connect(node.websecure(), "bundle.test")
            .await;
        match session {
            Ok(session) => Err(format!("{session:?}")),
            Err(_) => Ok(()),
        }
    })
    .await;
}
