//! A WebSocket through a node.

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket<S = TcpStream>(WebSocketStream<S>);

impl WebSocket {
    /// Opens `ws://HOST/ws` over a connection of its own.
    pub async fn open(address: SocketAddr, host: &str) -> Result<Self, Error> {
        WebSocket::over(TcpStream::connect(address).await?, &format!("ws://{host}/ws")).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Opens `url` over a stream that is connected already.
    pub async fn over(stream: S, url: &str) -> Result<Self, Error> {
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await?;
        Ok(Self(socket))
    }

    /// Sends a text and waits for its echo.
    ///
    /// # Panics
    /// When the socket ends or something else comes back.
    pub async fn echo(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
        let answer = self.0.next().await.expect("the WebSocket stays open").unwrap();
        assert_eq!(answer, Message::text(text));
    }

    /// Closes in good order.
    pub async fn close(mut self) {
        self.0.close(None).await.unwrap();
        while let Some(Ok(_)) = self.0.next().await {}
    }

    /// Waits for the other side to end the socket.
    pub async fn ended(mut self) {
        while let Some(Ok(_)) = self.0.next().await {}
    }
}
