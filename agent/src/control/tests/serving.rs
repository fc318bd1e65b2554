//! The server as a whole: its thread, its limits, its end.

use super::*;

#[tokio::test]
async fn the_server_answers_on_its_own_thread_and_stops() {
    let node = Node::new();
    let listener = TcpListener::bind(address(0)).await.unwrap();
    let server = ControlServer::start(listener, node.state.clone()).unwrap();
    let address = server.address();
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The test's runtime has one thread, and it is kept busy: the answer does not need it.
    let answer = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream
            .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    })
    .join()
    .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    // A second connection that never says anything does not hold up the end.
    stream.write_all(b"GET").await.unwrap();
    server.stop().await;
    let mut rest = Vec::new();
    assert!(matches!(stream.read_to_end(&mut rest).await, Ok(0) | Err(_)));
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn who_was_accepted_before_the_end_is_answered() {
    let node = Node::new();
    let listener = TcpListener::bind(address(0)).await.unwrap();
    // As long as a busy machine needs.
    let ending = Ending {
        last_call: Duration::from_secs(30),
        limit: Duration::from_secs(30),
    };
    let server = ControlServer::start_with(listener, node.state.clone(), ending).unwrap();
    let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut early = TcpStream::connect(server.address()).await.unwrap();
    // Accepted in turn: with the answer to this one the other is, too.
    let mut later = TcpStream::connect(server.address()).await.unwrap();
    let mut text = String::new();
    later.write_all(request).await.unwrap();
    later.read_to_string(&mut text).await.unwrap();
    text.clear();
    let address = server.address();
    let asking = async {
        // The server stops: it listens no more.
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        early.write_all(request).await.unwrap();
        early.read_to_string(&mut text).await.unwrap();
    };
    tokio::join!(biased; server.stop(), asking);
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
}

#[tokio::test]
async fn headers_without_end_are_refused() {
    let node = Node::new();
    let server =
        ControlServer::start(TcpListener::bind(address(0)).await.unwrap(), node.state.clone()).unwrap();
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream
        .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ")
        .await
        .unwrap();
    let filler = vec![b'a'; 128 * 1024];
    // The server may close while this is being written.
    let written = stream.write_all(&filler).await;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.starts_with("HTTP/1.1 431 ") || written.is_err() || read.is_err(),
        "{answer}"
    );
    server.stop().await;
}
