//! Replies come from the address that was asked, in both families; a taken port is told with its owner.

use std::net::SocketAddr;

use crate::support::{Client, Echo, Plan, endpoint, nobody, until};
use constellation_dataplane::StartError;
use constellation_dataplane::table::Condition;

#[test]
fn a_host_of_many_addresses_answers_from_the_one_that_was_asked() {
    let echo = Echo::start("");
    for wildcard in ["0.0.0.0:0", "[::]:0"] {
        let mut plan = Plan::to(&[echo.address]);
        plan.addresses = vec![wildcard];
        plan.workers = 2;
        let node = plan.start();
        let port = node.address.port();
        for asked in ["127.0.0.1", "127.0.0.2", "127.9.8.7"] {
            let client = Client::from_to("127.0.0.1", SocketAddr::new(asked.parse().unwrap(), port));
            for _ in 0..30 {
                assert_eq!(client.ask(asked), asked, "{wildcard}");
            }
            // Several at once leave as a train, which has to come from there as well.
            (0..10).for_each(|_| client.send(asked));
            (0..10).for_each(|_| assert_eq!(client.receive_text(), asked));
        }
        assert_eq!(node.open(), 3);
    }
}

#[test]
fn the_same_client_has_a_session_for_each_address_it_asks() {
    let echo = Echo::start("");
    let mut plan = Plan::to(&[echo.address]);
    plan.addresses = vec!["0.0.0.0:0"];
    let node = plan.start();
    let client = Client::of(&node);
    let port = node.address.port();
    for (number, asked) in ["127.0.0.2", "127.0.0.3", "127.0.0.2"].into_iter().enumerate() {
        client.0.connect((asked, port)).unwrap();
        assert_eq!(client.ask("x"), "x", "{asked}");
        assert_eq!(node.open(), [1, 2, 2][number]);
    }
}

#[test]
fn ipv6_clients_and_back_ends() {
    let echo = Echo::start_at("", "[::1]:0".parse().unwrap());
    let mut plan = Plan::to(&[echo.address]);
    plan.addresses = vec!["[::]:0"];
    let node = plan.start();
    let port = node.address.port();
    let v6 = Client::from_to("::1", SocketAddr::new("::1".parse().unwrap(), port));
    let v4 = Client::from_to("127.0.0.1", SocketAddr::new("127.0.0.5".parse().unwrap(), port));
    for text in ["one", "two"] {
        assert_eq!(v6.ask(text), text);
        assert_eq!(v4.ask(text), text);
    }
}

#[test]
fn a_back_end_may_have_a_name() {
    let echo = Echo::start("");
    let mut plan = Plan::to(&[]);
    let by_name = vec![endpoint("localhost", echo.address.port(), Condition::Ready)];
    let unnamed = plan.service.take().unwrap();
    plan.service = Some(constellation_dataplane::table::Service::new(
        constellation_dataplane::table::ServiceSpec {
            name: unnamed.name.clone(),
            endpoints: by_name,
            pass_host_header: true,
            transport: unnamed.transport.clone(),
            retry_after: 7,
            policy: unnamed.policy.clone(),
        },
        None,
    ));
    let node = plan.start();
    let clients: Vec<Client> = (0..3).map(|_| Client::of(&node)).collect();
    for client in &clients {
        // What comes while the name is looked up is kept, in order.
        (0..5).for_each(|n| client.send(n.to_string()));
    }
    for client in &clients {
        (0..5).for_each(|n| assert_eq!(client.receive_text(), n.to_string()));
    }
}

#[test]
fn a_taken_port_is_told_with_its_owner() {
    let taken = Echo::start("");
    let mut plan = Plan::to(&[nobody()]);
    plan.addresses = vec![Box::leak(taken.address.to_string().into_boxed_str())];
    let Err(error @ StartError::Bind { .. }) = plan.try_start() else {
        panic!("the port is taken");
    };
    let text = error.to_string();
    let me = format!("(pid {})", std::process::id());
    assert!(
        text.contains("the port is held by") && text.contains(&me),
        "{text}"
    );
    assert!(text.contains("entryPoints.dns.address"), "{text}");
}

#[test]
fn an_entry_point_without_a_router_drops_and_counts() {
    let mut plan = Plan::to(&[]);
    plan.service = None;
    let node = plan.start();
    let client = Client::of(&node);
    client.send("anybody?");
    until("the drop", || node.dropped("no_route") == 1);
    assert_eq!(node.open(), 0);
    let echo = Echo::start("");
    node.publish(2, Some(crate::support::service(&[echo.address], None)));
    assert_eq!(client.ask("now"), "now");
}
