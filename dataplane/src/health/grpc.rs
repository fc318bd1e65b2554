//! gRPC checks: `grpc.health.v1.Health/Check` (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>).
//!
//! The two messages have one field each, so they are written and read here by hand.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::time::timeout_at;

use super::answer::MAX_BODY;
use super::connection::{Connection, Deadline, Net};
use super::failure::{Failure, shown};
use super::target::{Ask, Target};
use crate::metrics::CheckOutcome;

const METHOD: &str = "/grpc.health.v1.Health/Check";
const UNIMPLEMENTED: &str = "12";

/// Asks once.
pub(super) async fn ask(
    target: &Target,
    kept: &mut Option<Connection>,
    net: &Net,
    deadline: Deadline,
) -> Result<(), Failure> {
    let answer = target.send(&request(target), kept, net, deadline).await?;
    if answer.status() != StatusCode::OK {
        return Err(Failure::status(
            &Method::POST,
            METHOD,
            answer.status(),
            Some(StatusCode::OK),
        ));
    }
    let (head, body) = answer.into_parts();
    // Without a message the head is the end, and says what trailers would.
    if head.headers.contains_key("grpc-status") {
        return judge(&head.headers, &[]);
    }
    let read = timeout_at(deadline.at, read(body)).await;
    match read.map_err(|_| Failure::no_answer(deadline.limit)).flatten() {
        Ok((message, trailers)) => judge(&trailers, &message),
        Err(failure) => {
            *kept = None;
            Err(failure)
        }
    }
}

fn request(target: &Target) -> Ask {
    let check = &target.check;
    let mut headers = HeaderMap::new();
    for (name, value) in &check.headers {
        headers.append(name, value.clone());
    }
    headers
        .entry(header::USER_AGENT)
        .or_insert(HeaderValue::from_static("constellation-health-check"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    Ask {
        place: target.origin.clone(),
        authority: target.authority(),
        path: METHOD.to_owned(),
        method: Method::POST,
        headers,
        body: message(service(&check.path)),
    }
}

/// The service asked for; empty: the whole server. No service's name begins with `/`, and Traefik asks for the whole
/// server whatever the path is, so a path that was meant for it does no harm.
fn service(path: &str) -> &str {
    if path.starts_with('/') { "" } else { path }
}

/// `HealthCheckRequest { service }` with gRPC's prefix: no compression, length.
fn message(service: &str) -> Bytes {
    let mut field = BytesMut::new();
    if !service.is_empty() {
        // Field 1, length-delimited.
        field.put_u8(0x0a);
        put_varint(&mut field, service.len() as u64);
        field.put_slice(service.as_bytes());
    }
    let mut message = BytesMut::with_capacity(5 + field.len());
    message.put_u8(0);
    message.put_u32(u32::try_from(field.len()).unwrap_or(u32::MAX));
    message.put(field);
    message.freeze()
}

fn put_varint(to: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        to.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    to.put_u8(value as u8);
}

/// The message and the trailers.
async fn read(body: Incoming) -> Result<(Bytes, HeaderMap), Failure> {
    let collected = Limited::new(body, MAX_BODY).collect().await;
    let collected = collected.map_err(|error| match error.downcast_ref::<hyper::Error>() {
        Some(error) => Failure::exchange(error),
        None => Failure::new(CheckOutcome::Protocol, "the gRPC health answer is too large"),
    })?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Ok((collected.to_bytes(), trailers))
}

fn judge(trailers: &HeaderMap, body: &[u8]) -> Result<(), Failure> {
    let text = |name| {
        trailers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    match text("grpc-status") {
        Some("0") => {}
        Some(UNIMPLEMENTED) => {
            let reason = "gRPC status 12: the back end does not offer grpc.health.v1.Health";
            return Err(Failure::new(CheckOutcome::Status, reason));
        }
        Some(status) => {
            let mut reason = format!("gRPC status {}", shown(status));
            if let Some(words) = text("grpc-message").filter(|words| !words.is_empty()) {
                reason = format!("{reason}: {}", shown(words));
            }
            return Err(Failure::new(CheckOutcome::Status, reason));
        }
        None => {
            let reason = "the answer to the gRPC health check carries no grpc-status";
            return Err(Failure::new(CheckOutcome::Protocol, reason));
        }
    }
    match serving(body) {
        Some(1) => Ok(()),
        Some(status) => {
            let name = match status {
                0 => "UNKNOWN",
                2 => "NOT_SERVING",
                3 => "SERVICE_UNKNOWN",
                _ => "a status that is not known",
            };
            Err(Failure::new(
                CheckOutcome::Status,
                format!("gRPC health gave {name}"),
            ))
        }
        None => Err(Failure::new(
            CheckOutcome::Protocol,
            "the gRPC health answer can't be read",
        )),
    }
}

/// `HealthCheckResponse.status` of a body; `None`: no such message.
fn serving(body: &[u8]) -> Option<u64> {
    // Compression was not offered.
    let message = body.strip_prefix(&[0])?;
    let (length, mut message) = message.split_first_chunk::<4>()?;
    if usize::try_from(u32::from_be_bytes(*length)).ok()? != message.len() {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = varint(&mut message)?,
            (_, 0) => {
                varint(&mut message)?;
            }
            (_, 1) => message = message.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            (_, 5) => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trailers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (name.parse().unwrap(), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn the_request_names_the_service() {
        assert_eq!(&*message(""), [0, 0, 0, 0, 0]);
        assert_eq!(&*message("a.B"), b"\0\0\0\0\x05\x0a\x03a.B");
        let long = message(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    }

    #[test]
    fn only_serving_is_healthy() {
        let ok = trailers(&[("grpc-status", "0")]);
        for (body, reason) in [
            (&b"\0\0\0\0\x02\x08\x01"[..], None),
            // With a field that is not known.
            (b"\0\0\0\0\x06\x12\x02ab\x08\x01", None),
            (b"\0\0\0\0\x02\x08\x02", Some("gRPC health gave NOT_SERVING")),
            (b"\0\0\0\0\0", Some("gRPC health gave UNKNOWN")),
            (b"\0\0\0\0\x02\x08\x03", Some("gRPC health gave SERVICE_UNKNOWN")),
            (b"", Some("the gRPC health answer can't be read")),
            (
                b"\0\0\0\0\x09\x08\x01",
                Some("the gRPC health answer can't be read"),
            ),
            (
                b"\x01\0\0\0\x02\x08\x01",
                Some("the gRPC health answer can't be read"),
            ),
            (
                b"\0\0\0\0\x02\x12\x7f",
                Some("the gRPC health answer can't be read"),
            ),
            (
                b"\0\0\0\0\x0b\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                Some("the gRPC health answer can't be read"),
            ),
        ] {
            let reason = reason.map(str::to_owned);
            assert_eq!(judge(&ok, body).err().map(|f| f.to_string()), reason, "{body:?}");
        }
    }

    #[test]
    fn a_status_of_the_call_is_told() {
        for (trailers, reason) in [
            (
                trailers(&[("grpc-status", "12")]),
                "gRPC status 12: the back end does not offer grpc.health.v1.Health",
            ),
            (
                trailers(&[("grpc-status", "5"), ("grpc-message", "unknown service")]),
                "gRPC status 5: unknown service",
            ),
            (
                trailers(&[]),
                "the answer to the gRPC health check carries no grpc-status",
            ),
        ] {
            assert_eq!(judge(&trailers, b"").unwrap_err().to_string(), reason);
        }
    }
}
