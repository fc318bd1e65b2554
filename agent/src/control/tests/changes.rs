//! What changes something: who may, and what it does.

use super::*;
use crate::drains::Drained;

async fn post(node: &Node, path: &str, token: Option<&str>) -> (StatusCode, Value) {
    let mut request = Request::post(path).header(HOST, "localhost");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let mut request = request.body(Body::empty()).unwrap();
    // From this machine: reads need no token then.
    request.extensions_mut().insert(Caller(address(50_000)));
    let response = node.call(request).await;
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

const DRAIN: &str = "/api/v1/services/down/endpoints/down-1/drain";
const UNDRAIN: &str = "/api/v1/services/down/endpoints/down-1/undrain";

#[tokio::test]
async fn a_change_needs_a_token_from_this_machine_too() {
    let mut node = Node::new();
    for (configured, made, sent, expected) in [
        (None, Some("made"), None, StatusCode::UNAUTHORIZED),
        (None, Some("made"), Some("guess"), StatusCode::UNAUTHORIZED),
        (None, Some("made"), Some(""), StatusCode::UNAUTHORIZED),
        (None, Some("made"), Some("made"), StatusCode::OK),
        (Some("configured"), None, Some("made"), StatusCode::UNAUTHORIZED),
        (Some("configured"), None, Some("configured"), StatusCode::OK),
        (None, None, Some("made"), StatusCode::UNAUTHORIZED),
    ] {
        node.state.token = configured.map(Secret::new);
        node.state.change_token = made.map(Secret::new);
        node.state.drains = Drains::default();
        let (status, body) = post(&node, DRAIN, sent).await;
        assert_eq!(status, expected, "{configured:?} {made:?} {sent:?} {body}");
        let drained = !node.state.drains.now().is_empty();
        assert_eq!(drained, expected == StatusCode::OK);
    }
}

#[tokio::test]
async fn an_endpoint_is_drained_and_taken_back() {
    let node = Node::new();
    let (status, endpoint) = post(&node, DRAIN, Some("made")).await;
    assert_eq!(
        (status, &endpoint["drained"]),
        (StatusCode::OK, &json!(true)),
        "{endpoint}"
    );
    let drained = Drained {
        service: "down@docker".into(),
        endpoint: "down-1".into(),
    };
    assert!(node.state.drains.now().contains(&drained));
    let (_, service) = node.get("/api/v1/services/down").await;
    assert_eq!(service["endpoints"][0]["drained"], true);
    let (status, endpoint) = post(&node, UNDRAIN, Some("made")).await;
    assert_eq!((status, &endpoint["drained"]), (StatusCode::OK, &json!(false)));
    assert!(node.state.drains.now().is_empty());
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let node = Node::new();
    for (path, expected) in [
        (
            "/api/v1/services/app/endpoints/app-9/drain",
            "the service app@docker has no endpoint \"app-9\"; it has: app-1, app-2",
        ),
        (
            "/api/v1/services/none/endpoints/a/undrain",
            "there is no service \"none\"; /api/v1/services lists all of them",
        ),
    ] {
        let (status, problem) = post(&node, path, Some("made")).await;
        assert_eq!(
            (status, &problem["detail"]),
            (StatusCode::NOT_FOUND, &json!(expected))
        );
    }
    let (status, _) = node.get(DRAIN).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn the_lists_of_the_guard_change_with_a_token_and_where_there_is_a_guard() {
    let node = Node::new();
    for verb in ["deny", "undeny", "allow", "disallow", "attack"] {
        let path = format!("/api/v1/guard/{verb}");
        let (status, _) = post(&node, &path, None).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{verb}");
        let (status, problem) = post(&node, &path, Some("made")).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{verb}: {problem}");
        assert!(
            problem["detail"].as_str().unwrap().contains("prefixes"),
            "{problem}"
        );
        let body = if verb == "attack" {
            r#"{"xdp":"on"}"#
        } else {
            r#"{"prefixes":["192.0.2.1"]}"#
        };
        let mut request = Request::post(&path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, "Bearer made")
            .body(Body::from(body))
            .unwrap();
        request.extensions_mut().insert(Caller(address(50_000)));
        let response = node.call(request).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY, "{verb}");
    }
    let (_, guard) = node.get("/api/v1/guard").await;
    assert_eq!(
        (&guard["state"], &guard["denied"]),
        (&json!("disabled"), &json!(0))
    );
    let (_, lists) = node.get("/api/v1/guard/lists").await;
    assert_eq!(lists, json!({"denied": [], "allowed": []}));
}
