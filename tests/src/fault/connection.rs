//! One connection of a fault back end.

use std::io;
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;

use super::Behaviour;
use super::inbound::{Body, Framing, Head, Inbound};
use super::journal::{Entry, Seen, now};
use super::server::Shared;

/// Whether the connection may take another request.
enum Next {
    Request,
    Close,
    Reset,
}

pub(super) async fn serve(stream: TcpStream, shared: &Shared, number: u64) {
    let mut inbound = Inbound::new(stream);
    if shared.behaviour() == Behaviour::ResetOnAccept {
        return inbound.reset();
    }
    loop {
        let next = tokio::select! {
            () = shared.until(|shared| shared.closes_idle()) => Ok(Next::Close),
            first = inbound.waits() => match first {
                Ok(true) => request(&mut inbound, shared, number).await,
                Ok(false) => Ok(Next::Close),
                Err(error) => Err(error),
            },
        };
        match next {
            Ok(Next::Request) => {}
            Ok(Next::Close) => return inbound.finish().await,
            // An error: the other side is gone, or speaks no HTTP. It is in the journal as far as it came.
            Ok(Next::Reset) | Err(_) => return inbound.reset(),
        }
    }
}

async fn request(inbound: &mut Inbound, shared: &Shared, number: u64) -> io::Result<Next> {
    if shared.behaviour() == Behaviour::ResetOnAccept {
        return Ok(Next::Reset);
    }
    let head = inbound.head().await?;
    let write = |seen| {
        shared.write(&Entry {
            at: now(),
            seen,
            id: head.id.clone(),
            method: head.method.clone(),
            connection: number,
        });
    };
    write(Seen::Head);
    let behaviour = shared.behaviour();
    match behaviour {
        Behaviour::ResetUnread => return Ok(Next::Reset),
        Behaviour::HangUnread => shared.until(|shared| shared.behaviour() != behaviour).await,
        Behaviour::StatusEarly { status } => {
            answer(inbound, shared, status, "early\n", true).await?;
            return Ok(Next::Close);
        }
        _ => {}
    }
    if head.expects_continue {
        inbound.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let limit = match (behaviour, head.framing) {
        (Behaviour::ResetMidBody, Framing::Length(length)) => length / 2,
        (Behaviour::ResetMidBody, Framing::Chunked) => 512,
        _ => u64::MAX,
    };
    let body = inbound.body(head.framing, limit).await;
    if head.framing != Framing::None {
        write(Seen::Body {
            complete: body.complete,
            length: body.length,
            sha256: body.sha256.clone(),
        });
    }
    if !body.complete {
        return Ok(Next::Reset);
    }
    respond(inbound, shared, behaviour, &head, &body).await
}

async fn respond(
    inbound: &mut Inbound,
    shared: &Shared,
    behaviour: Behaviour,
    head: &Head,
    body: &Body,
) -> io::Result<Next> {
    match behaviour {
        Behaviour::ResetAfterRead | Behaviour::ResetMidBody => return Ok(Next::Reset),
        Behaviour::ResetAfterHead => {
            inbound
                .write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789")
                .await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
            return Ok(Next::Reset);
        }
        Behaviour::Truncate => {
            inbound
                .write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789")
                .await?;
            return Ok(Next::Close);
        }
        Behaviour::Garbage => {
            inbound
                .write(b"\x16\x03\x01 this is not HTTP\x00\xff\r\n\r\n\r\n")
                .await?;
            return Ok(Next::Close);
        }
        Behaviour::Status { status } => {
            answer(inbound, shared, status, "failed on purpose\n", false).await?;
            return Ok(Next::Request);
        }
        Behaviour::Hang => shared.until(|shared| shared.behaviour() != behaviour).await,
        Behaviour::Ok { latency } if latency > 0 => {
            tokio::time::sleep(Duration::from_millis(latency)).await;
        }
        Behaviour::Informational { count } => {
            for _ in 0..count {
                inbound
                    .write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n")
                    .await?;
            }
        }
        _ => {}
    }
    if let Some(argument) = head.target.strip_prefix("/slow?ms=") {
        tokio::time::sleep(Duration::from_millis(argument.parse().map_err(io::Error::other)?)).await;
    }
    if let Some(argument) = head.target.strip_prefix("/sse?silence=") {
        return events(inbound, argument).await;
    }
    let text = json!({
        "backend": shared.name(),
        "id": head.id,
        "length": body.length,
        "sha256": body.sha256,
    })
    .to_string();
    let close = head.close || shared.closes_idle();
    if let Behaviour::HugeHeaders { bytes } = behaviour {
        let filler = "x".repeat(bytes);
        inbound
            .write(
                format!(
                    "HTTP/1.1 200 OK\r\nX-Filler: {filler}\r\nContent-Length: {}\r\n\r\n{text}",
                    text.len()
                )
                .as_bytes(),
            )
            .await?;
        return Ok(Next::Request);
    }
    answer(inbound, shared, 200, &text, close).await?;
    let close = close || behaviour == Behaviour::CloseAtRandom && shared.draw().is_multiple_of(3);
    Ok(if close { Next::Close } else { Next::Request })
}

async fn answer(
    inbound: &mut Inbound,
    shared: &Shared,
    status: u16,
    text: &str,
    close: bool,
) -> io::Result<()> {
    let connection = if close { "Connection: close\r\n" } else { "" };
    let answer = format!(
        "HTTP/1.1 {status} {status}\r\nX-Backend: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         {connection}\r\n{text}",
        shared.name(),
        text.len(),
    );
    inbound.write(answer.as_bytes()).await
}

/// Two events with this many milliseconds of silence between them.
async fn events(inbound: &mut Inbound, silence: &str) -> io::Result<Next> {
    let silence = Duration::from_millis(silence.parse().map_err(io::Error::other)?);
    inbound
        .write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: first\n\n",
        )
        .await?;
    tokio::time::sleep(silence).await;
    inbound.write(b"data: last\n\n").await?;
    Ok(Next::Close)
}
