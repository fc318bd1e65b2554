//! Loops live as long as what they check stays as it is.

use super::*;

/// Checks that were made by now.
async fn settle() {
    // What must not happen can only be waited for.
    tokio::time::sleep(Duration::from_millis(300)).await;
}

#[tokio::test]
async fn a_new_generation_leaves_running_checks_alone() {
    let backend = Backend::start(|_, _| status(200)).await;
    let stays = endpoint(Scheme::Http, backend.address);
    let leaves = endpoint(Scheme::Http, backend.address);
    let first = service(once(), vec![stays.clone(), leaves], Transport::default());
    let mut watched = Watched::start(vec![first.clone()]);
    assert_eq!(watched.reason().await, "");
    assert_eq!(watched.reason().await, "");

    let comes = named(
        "new",
        Scheme::Http,
        "127.0.0.1",
        backend.address.port(),
        Condition::Ready,
    );
    let second = service(once(), vec![stays.clone(), comes.clone()], Transport::default());
    watched.published.publish(generation(2, vec![second.clone()]));
    let (subject, _) = watched.next().await;
    assert!(Arc::ptr_eq(&subject.endpoint, &comes));
    for number in 3..20 {
        watched
            .published
            .publish(generation(number, vec![second.clone()]));
    }
    settle().await;
    assert_eq!((watched.waiting(), backend.heads().len()), (0, 3));
}

#[tokio::test]
async fn a_loop_reports_to_the_newest_generation() {
    let backend = Backend::start(|_, _| status(200)).await;
    let endpoint = endpoint(Scheme::Http, backend.address);
    let services: Vec<_> = (0..2)
        .map(|_| service(quick(), vec![endpoint.clone()], Transport::default()))
        .collect();
    let mut watched = Watched::start(vec![services[0].clone()]);
    let (subject, _) = watched.next().await;
    assert!(Arc::ptr_eq(&subject.service, &services[0]));
    watched
        .published
        .publish(generation(2, vec![services[1].clone()]));
    while !Arc::ptr_eq(&watched.next().await.0.service, &services[1]) {}
    assert_eq!(backend.connections(), 1, "it is the same loop");
}

#[tokio::test]
async fn other_settings_ask_at_once() {
    let backend = Backend::start(|_, _| status(200)).await;
    let endpoint = endpoint(Scheme::Http, backend.address);
    let mut watched = Watched::one(once(), endpoint.clone());
    assert_eq!(watched.reason().await, "");
    let other = HealthCheck {
        path: "/other".into(),
        ..once()
    };
    watched.published.publish(generation(
        2,
        vec![service(other, vec![endpoint.clone()], Transport::default())],
    ));
    assert_eq!(watched.reason().await, "");
    assert_eq!(backend.line(1), "GET /other HTTP/1.1");
    watched.published.publish(generation(3, Vec::new()));
    settle().await;
    assert_eq!(watched.waiting(), 0);
}

#[tokio::test]
async fn a_removed_endpoint_is_not_asked_again() {
    let backend = Backend::start(|_, _| status(200)).await;
    let mut watched = Watched::one(quick(), endpoint(Scheme::Http, backend.address));
    assert_eq!(watched.reason().await, "");
    watched.published.publish(generation(2, Vec::new()));
    soon("the connection to close", async {
        while backend.open.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let asked = backend.heads().len();
    settle().await;
    assert_eq!(backend.heads().len(), asked);
}

#[tokio::test]
async fn only_endpoints_that_are_there_are_asked() {
    let backend = Backend::start(|_, _| status(200)).await;
    let at = |name, condition| named(name, Scheme::Http, "127.0.0.1", backend.address.port(), condition);
    let stopped = at("stopped", Condition::Unavailable("container exited".into()));
    let mut watched = Watched::start(vec![service(
        once(),
        vec![stopped, at("there", Condition::Ready)],
        Transport::default(),
    )]);
    assert_eq!(&*watched.next().await.0.endpoint.name, "there");
    settle().await;
    assert_eq!(watched.waiting(), 0);
}

#[tokio::test]
async fn stopping_does_not_wait_for_checks() {
    let backend = Backend::start(|_, _| Act::Hang).await;
    let check = HealthCheck {
        timeout: Duration::from_secs(3600),
        ..once()
    };
    let endpoints = (0..50).map(|_| endpoint(Scheme::Http, backend.address)).collect();
    let watched = Watched::start(vec![service(check, endpoints, Transport::default())]);
    soon("the checks to begin", async {
        while backend.heads().len() < 50 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    soon("the end of the checker", watched.checker.stop()).await;
    soon("the connections to close", async {
        while backend.open.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
