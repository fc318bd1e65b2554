//! gRPC health checks against a scripted HTTP/2 server.

use bytes::Bytes;
use constellation_table::policy::CheckMode;
use http::{HeaderMap, HeaderValue, Response};

use super::*;

/// What a gRPC server answers.
#[derive(Clone)]
enum Answer {
    /// A message and a status in the trailers.
    Message(&'static [u8], &'static str),
    /// A status in the head.
    Status(&'static str, &'static str),
    /// An HTTP status alone.
    Http(u16),
    /// A message without end.
    Endless,
    /// A head and nothing more.
    Silent,
}

type Asked = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A gRPC server that remembers paths with authorities, and messages.
struct Server {
    address: SocketAddr,
    asked: Asked,
    connections: Arc<AtomicUsize>,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

async fn server(answer: Answer) -> Server {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Asked::default();
    let connections: Arc<AtomicUsize> = Arc::default();
    let (seen, opened) = (asked.clone(), connections.clone());
    let task = tokio::spawn(async move {
        let mut serving = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            opened.fetch_add(1, Ordering::SeqCst);
            let (seen, answer) = (seen.clone(), answer.clone());
            serving.spawn(async move {
                let mut connection = h2::server::handshake(socket).await.unwrap();
                let mut streams = JoinSet::new();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    let (seen, answer) = (seen.clone(), answer.clone());
                    streams.spawn(call(request, respond, seen, answer));
                }
            });
        }
    });
    Server {
        address,
        asked,
        connections,
        _task: tokio_util::task::AbortOnDropHandle::new(task),
    }
}

async fn call(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    seen: Asked,
    answer: Answer,
) {
    let uri = request.uri().to_string();
    assert_eq!(request.headers()["content-type"], "application/grpc");
    assert_eq!(request.headers()["te"], "trailers");
    let mut body = request.into_body();
    let mut message = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        message.extend_from_slice(&data);
    }
    seen.lock().unwrap().push((uri, message));
    let head = |status: u16| {
        let head = Response::builder()
            .status(status)
            .header("content-type", "application/grpc");
        head.body(()).unwrap()
    };
    match answer {
        Answer::Http(status) => drop(respond.send_response(head(status), true).unwrap()),
        Answer::Status(status, message) => {
            let mut head = head(200);
            head.headers_mut()
                .insert("grpc-status", HeaderValue::from_static(status));
            head.headers_mut()
                .insert("grpc-message", HeaderValue::from_static(message));
            respond.send_response(head, true).unwrap();
        }
        Answer::Message(message, status) => {
            let mut stream = respond.send_response(head(200), false).unwrap();
            stream.send_data(Bytes::from_static(message), false).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static(status));
            stream.send_trailers(trailers).unwrap();
        }
        Answer::Endless => {
            let mut stream = respond.send_response(head(200), false).unwrap();
            while stream.send_data(Bytes::from_static(&[0; 16_000]), false).is_ok() {
                tokio::task::yield_now().await;
            }
        }
        Answer::Silent => {
            let _stream = respond.send_response(head(200), false).unwrap();
            std::future::pending::<()>().await;
        }
    }
}

fn grpc() -> HealthCheck {
    HealthCheck {
        mode: CheckMode::Grpc,
        ..once()
    }
}

const SERVING: &[u8] = b"\0\0\0\0\x02\x08\x01";

#[tokio::test]
async fn the_answer_tells() {
    for (answer, reason) in [
        (Answer::Message(SERVING, "0"), ""),
        (
            Answer::Message(b"\0\0\0\0\x02\x08\x02", "0"),
            "gRPC health gave NOT_SERVING",
        ),
        (Answer::Message(b"\0\0\0\0\0", "0"), "gRPC health gave UNKNOWN"),
        (Answer::Message(SERVING, "14"), "gRPC status 14"),
        (Answer::Message(b"", "0"), "the gRPC health answer can't be read"),
        (
            Answer::Status("5", "unknown service"),
            "gRPC status 5: unknown service",
        ),
        (
            Answer::Status("12", ""),
            "gRPC status 12: the back end does not offer grpc.health.v1.Health",
        ),
        (
            Answer::Http(503),
            "POST /grpc.health.v1.Health/Check gave 503, not 200",
        ),
        (Answer::Endless, "the gRPC health answer is too large"),
    ] {
        let server = server(answer).await;
        assert_eq!(reason_of(grpc(), server.address).await, reason);
    }
}

#[tokio::test]
async fn a_call_without_end_is_given_up() {
    let server = server(Answer::Silent).await;
    let check = HealthCheck {
        timeout: Duration::from_millis(200),
        ..grpc()
    };
    assert_eq!(reason_of(check, server.address).await, "no answer within 200ms");
}

#[tokio::test]
async fn the_path_names_the_service_and_the_connection_stays() {
    let server = server(Answer::Message(SERVING, "0")).await;
    let check = HealthCheck {
        path: "app.v1.Orders".into(),
        hostname: Some("orders.test".into()),
        ..HealthCheck {
            mode: CheckMode::Grpc,
            ..quick()
        }
    };
    let mut watched = Watched::one(check, endpoint(Scheme::Http, server.address));
    for _ in 0..3 {
        assert_eq!(watched.reason().await, "");
    }
    let asked = server.asked.lock().unwrap().clone();
    assert_eq!(asked[0].0, "http://orders.test/grpc.health.v1.Health/Check");
    assert_eq!(asked[0].1, b"\0\0\0\0\x0f\x0a\x0dapp.v1.Orders");
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

/// As Traefik does it.
#[tokio::test]
async fn a_path_that_names_no_service_asks_for_the_whole_server() {
    let server = server(Answer::Message(SERVING, "0")).await;
    let check = HealthCheck {
        path: "/health".into(),
        ..grpc()
    };
    assert_eq!(reason_of(check, server.address).await, "");
    assert_eq!(server.asked.lock().unwrap()[0].1, b"\0\0\0\0\0");
}

#[tokio::test]
async fn what_speaks_no_http2_is_told() {
    let backend = Backend::start(|_, _| status(200)).await;
    let reason = reason_of(grpc(), backend.address).await;
    assert!(
        reason.starts_with("the answer is not HTTP/2") || reason.starts_with("HTTP/2 ended"),
        "{reason}"
    );
}

/// An h2c endpoint is asked in HTTP/2 by plain HTTP checks as well.
#[tokio::test]
async fn an_h2c_endpoint_is_asked_in_its_protocol() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        let head = Response::builder().status(500).body(()).unwrap();
        respond.send_response(head, true).unwrap();
        let uri = request.uri().to_string();
        while connection.accept().await.is_some() {}
        uri
    });
    let mut watched = Watched::one(
        HealthCheck {
            path: "/up".into(),
            ..once()
        },
        endpoint(Scheme::H2c, address),
    );
    assert_eq!(watched.reason().await, "GET /up gave 500");
    watched.checker.stop().await;
    assert_eq!(
        soon("the server", serving).await.unwrap(),
        format!("http://{address}/up")
    );
}
