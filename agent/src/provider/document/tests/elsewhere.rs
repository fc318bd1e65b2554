//! Services that other nodes have as well, or alone.

use constellation_table::Condition;
use serde_json::json;

use super::super::{Terms, document};
use super::{at, at_peer, is_left_out, made, reading, stopped};

const NODE: &str = "http://127.0.0.1:8082/.constellation/web@docker";

fn web(options: &str) -> String {
    format!(
        "
http:
  routers: {{web: {{rule: 'Host(`web.d.test`)', service: web}}}}
  services: {{web: {{loadBalancer: {{servers: [{{url: 'http://10.0.0.1:80'}}]{options}}}}}}}
"
    )
}

fn here_and_there(options: &str) -> crate::sources::Contribution {
    at_peer(reading("docker", &web(options)), "web", Condition::Ready)
}

#[test]
fn a_service_of_two_nodes_has_this_one_as_one_more_server() {
    let document = made([here_and_there("")]);
    assert_eq!(
        at(&document, "/http/services/web/loadBalancer/servers"),
        &json!([{"url": "http://10.0.0.1:80"}, {"url": NODE, "preservePath": true}])
    );
}

#[test]
fn a_service_of_another_node_alone_is_reached_through_this_one() {
    let text = web("").replace("{url: 'http://10.0.0.1:80'}", "");
    for reading in [
        at_peer(reading("docker", &text), "web", Condition::Ready),
        // Nobody can serve it now: this node answers 503 with Retry-After.
        at_peer(
            reading("docker", &text),
            "web",
            Condition::Unavailable("gone".into()),
        ),
        stopped(reading("docker", &web("")), "web", "http://10.0.0.1:80"),
    ] {
        assert_eq!(
            at(&made([reading]), "/http/services/web"),
            &json!({"loadBalancer": {"servers": [{"url": NODE, "preservePath": true}]}})
        );
    }
}

#[test]
fn a_node_that_can_not_serve_it_is_no_server() {
    let reading = at_peer(
        reading("docker", &web("")),
        "web",
        Condition::Unavailable("cordoned".into()),
    );
    assert_eq!(
        at(&made([reading]), "/http/services/web/loadBalancer/servers"),
        &json!([{"url": "http://10.0.0.1:80"}])
    );
}

#[test]
fn a_checked_service_falls_back_to_this_node() {
    let document = made([here_and_there(
        ", healthCheck: {path: /h}, sticky: {cookie: {name: c}}",
    )]);
    assert_eq!(
        at(&document, "/http/services"),
        &json!({
            "web": {"failover": {"service": "web-here", "fallback": "web-elsewhere"}},
            "web-here": {"loadBalancer": {
                "servers": [{"url": "http://10.0.0.1:80"}],
                "healthCheck": {"path": "/h"},
                "sticky": {"cookie": {"name": "c"}},
            }},
            "web-elsewhere": {"loadBalancer": {"servers": [{"url": NODE, "preservePath": true}]}},
        })
    );
}

#[test]
fn who_stays_with_an_instance_is_not_sent_to_a_node() {
    let document = made([here_and_there(", sticky: {cookie: {name: c}}")]);
    assert_eq!(
        at(&document, "/http/services/web/loadBalancer/servers"),
        &json!([{"url": "http://10.0.0.1:80"}])
    );
}

#[test]
fn a_service_of_http2_in_the_clear_is_asked_for_so_at_this_node_as_well() {
    let text = web("").replace("http://10", "h2c://10");
    let document = made([at_peer(reading("docker", &text), "web", Condition::Ready)]);
    assert_eq!(
        at(&document, "/http/services/web/loadBalancer/servers/1/url"),
        "h2c://127.0.0.1:8082/.constellation/web@docker"
    );
}

#[test]
fn what_traefik_may_not_know_is_done_by_this_node() {
    // The transport holds a private key.
    let text = format!(
        "{}  serversTransports: {{t: {{certificates: [{{certFile: c, keyFile: '-----BEGIN X'}}]}}}}\n",
        web(", serversTransport: t")
    );
    let document = made([reading("docker", &text)]);
    assert_eq!(
        at(&document, "/http/services/web/loadBalancer/servers"),
        &json!([{"url": NODE, "preservePath": true}])
    );
}

#[test]
fn without_a_way_through_this_node_there_are_its_own_instances() {
    let alone = Terms::default();
    let made = |reading: crate::sources::Contribution| document(&[reading.into()], &alone);
    assert_eq!(
        at(
            &made(here_and_there("")),
            "/http/services/web/loadBalancer/servers"
        ),
        &json!([{"url": "http://10.0.0.1:80"}])
    );
    // A route never vanishes: Traefik answers 503.
    let gone = made(stopped(reading("docker", &web("")), "web", "http://10.0.0.1:80"));
    assert_eq!(
        at(&gone, "/http/services/web"),
        &json!({"loadBalancer": {"servers": []}})
    );
    assert_eq!(at(&gone, "/http/routers/web-with-failover/service"), "web");
}

#[test]
fn options_that_another_node_kept_to_itself_do_not_open_a_route() {
    // What a node is told of middlewares of others is their kind.
    let text = "
http:
  routers: {web: {rule: 'Host(`web.d.test`)', service: web, middlewares: [auth]}}
  services: {web: {loadBalancer: {servers: []}}}
  middlewares: {auth: {basicAuth: {}}}
";
    let document = made([at_peer(reading("docker", text), "web", Condition::Ready)]);
    assert_eq!(document.value.pointer("/http/routers"), None);
    assert!(is_left_out(&document, "router web@docker", "open to anybody"));
}
