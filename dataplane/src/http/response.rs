//! The head of a response as the back end sent it: what no client may see, and what it may see in one form only.

use http::{HeaderValue, StatusCode, header};
use pingora_error::Result;
use pingora_http::ResponseHeader;

use super::forwarded::Upgrade;

/// Why a response is not handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsound {
    /// 101 to a client that asked for no other protocol: what followed would be taken for responses.
    Switched,
    /// A transfer coding that the client did not ask for, or whose end is unclear (RFC 9112 section 6.1).
    TransferEncoding,
    /// Several lengths that differ.
    ContentLength,
}

impl Unsound {
    /// The reason in words, for the log.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Switched => "the back end changed the protocol unasked",
            Self::TransferEncoding => "the back end used a transfer coding other than chunked",
            Self::ContentLength => "the back end gave several lengths",
        }
    }
}

/// Refuses what is unsound, and leaves one statement of the length.
pub(super) fn check(response: &mut ResponseHeader, upgrade: Upgrade) -> Result<Result<(), Unsound>> {
    if response.status == StatusCode::SWITCHING_PROTOCOLS && upgrade == Upgrade::None {
        return Ok(Err(Unsound::Switched));
    }
    let mut codings = response.headers.get_all(header::TRANSFER_ENCODING).iter();
    if codings
        .next()
        .is_some_and(|c| !c.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"))
        || codings.next().is_some()
    {
        return Ok(Err(Unsound::TransferEncoding));
    }
    if response.status == StatusCode::NO_CONTENT || response.status.is_informational() {
        // Neither may frame a body (RFC 9112 section 6.1, RFC 9110 section 8.6).
        response.remove_header(&header::CONTENT_LENGTH);
        response.remove_header(&header::TRANSFER_ENCODING);
        return Ok(Ok(()));
    }
    let one = match single_length(response) {
        Ok(one) => one,
        Err(unsound) => return Ok(Err(unsound)),
    };
    if let Some(one) = one {
        response.insert_header(header::CONTENT_LENGTH, one)?;
    }
    Ok(Ok(()))
}

/// The length to state instead of a repeated one; `None` when it is stated at most once.
fn single_length(response: &ResponseHeader) -> Result<Option<HeaderValue>, Unsound> {
    let lengths = response.headers.get_all(header::CONTENT_LENGTH);
    let mut all = lengths
        .iter()
        .flat_map(|v| v.as_bytes().split(|b| *b == b','))
        .map(<[u8]>::trim_ascii);
    let Some(first) = all.next() else {
        return Ok(None);
    };
    let mut repeated = false;
    for other in all {
        repeated = true;
        if other != first {
            return Err(Unsound::ContentLength);
        }
    }
    if !repeated {
        return Ok(None);
    }
    HeaderValue::from_bytes(first)
        .map(Some)
        .map_err(|_| Unsound::ContentLength)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_back_ends() {
        // status, headers, asked for another protocol, verdict, lengths left
        type Case = (
            u16,
            &'static [(&'static str, &'static str)],
            bool,
            Result<(), Unsound>,
            &'static [&'static str],
        );
        let cases: &[Case] = &[
            (200, &[("Content-Length", "3")], false, Ok(()), &["3"]),
            (
                200,
                &[("Content-Length", "3"), ("Content-Length", "3")],
                false,
                Ok(()),
                &["3"],
            ),
            (200, &[("Content-Length", "3, 3")], false, Ok(()), &["3"]),
            (
                200,
                &[("Content-Length", "3, 4")],
                false,
                Err(Unsound::ContentLength),
                &["3, 4"],
            ),
            (200, &[("Transfer-Encoding", "Chunked")], false, Ok(()), &[]),
            (
                200,
                &[("Transfer-Encoding", "gzip, chunked")],
                false,
                Err(Unsound::TransferEncoding),
                &[],
            ),
            (
                200,
                &[("Transfer-Encoding", "identity")],
                false,
                Err(Unsound::TransferEncoding),
                &[],
            ),
            (
                200,
                &[("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")],
                false,
                Err(Unsound::TransferEncoding),
                &[],
            ),
            (204, &[("Content-Length", "3")], false, Ok(()), &[]),
            (304, &[("Content-Length", "3")], false, Ok(()), &["3"]),
            (
                101,
                &[("Upgrade", "websocket")],
                false,
                Err(Unsound::Switched),
                &[],
            ),
            (101, &[("Upgrade", "websocket")], true, Ok(()), &[]),
        ];
        for (status, headers, asked, verdict, lengths) in cases {
            let mut response = ResponseHeader::build(*status, None).unwrap();
            for (name, value) in *headers {
                response.append_header(*name, *value).unwrap();
            }
            let upgrade = if *asked { Upgrade::Other } else { Upgrade::None };
            assert_eq!(
                check(&mut response, upgrade).unwrap(),
                *verdict,
                "{status} {headers:?}"
            );
            let left: Vec<_> = response.headers.get_all(header::CONTENT_LENGTH).iter().collect();
            assert_eq!(left, *lengths, "{status} {headers:?}");
        }
    }
}
