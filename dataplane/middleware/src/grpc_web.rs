//! `grpcWeb`: gRPC-Web of browsers to gRPC of back ends. Frames go through as they are; the trailers, which browsers can't
//! read, become the last frame of the body. In the text form the whole body is base64.

use bytes::Bytes;
use data_encoding::BASE64;
use http::Method;
use http::header::{self, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};

use crate::field::FieldName;
use crate::{After, Answer, Flow, Later, Transform, Unfit};

const GRPC: &str = "application/grpc";
const GRPC_WEB: &str = "application/grpc-web";
const GRPC_WEB_TEXT: &str = "application/grpc-web-text";
/// The methods that preflights get; calls are POST.
const METHODS: [&str; 3] = ["GET", "POST", "HEAD"];
/// The first byte of a frame that holds trailers.
const TRAILERS: u8 = 0x80;

/// Speaks gRPC-Web with clients.
#[derive(Debug)]
pub struct GrpcWeb {
    origins: Box<[Box<str>]>,
}

impl GrpcWeb {
    /// The origins that may; `*`: any.
    pub fn new(origins: &[String]) -> Self {
        Self {
            origins: origins.iter().map(|origin| origin.as_str().into()).collect(),
        }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        !origin.is_empty()
            && self
                .origins
                .iter()
                .any(|known| &**known == "*" || &**known == origin)
    }

    pub(crate) fn enter(&self, request: &mut RequestHeader) -> Result<Flow<'static>, Unfit> {
        let preflight = asked_headers(request);
        if let Some(method) = asked_method(request)
            && let Some(names) = preflight
        {
            let answer = self.answer_preflight(request, method, names)?;
            return Ok(Flow::Answer(Box::new(answer)));
        }
        // What asks for gRPC-Web and no method is a call, whatever it is a call of.
        let any = request.method == Method::OPTIONS && preflight.is_some();
        let kind = request
            .headers
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .unwrap_or_default();
        let of_web = kind.starts_with(GRPC_WEB) && request.method == Method::POST;
        if !of_web && !any {
            return Ok(Flow::Next);
        }
        let text = kind.starts_with(GRPC_WEB_TEXT);
        let kind = kind.replacen(if text { GRPC_WEB_TEXT } else { GRPC_WEB }, GRPC, 1);
        request.insert_header("Content-Type", kind)?;
        request.remove_header(&CONTENT_LENGTH);
        if of_web {
            // Back ends refuse clients that take no trailers, and this one does as far as they can see.
            request.insert_header("Te", "trailers")?;
        }
        let origin = request
            .headers
            .get(header::ORIGIN)
            .filter(|origin| self.allows(origin));
        Ok(Flow::Later(Later::GrpcWeb(GrpcWebResponse {
            text,
            origin: origin.cloned(),
        })))
    }

    fn answer_preflight(
        &self,
        request: &RequestHeader,
        method: &HeaderValue,
        names: &str,
    ) -> Result<Answer, Unfit> {
        let mut answer = Answer::empty(200);
        for name in [
            "Origin",
            "Access-Control-Request-Method",
            "Access-Control-Request-Headers",
        ] {
            answer = answer.with(header::VARY, HeaderValue::from_static(name));
        }
        // Without an origin it is answered as well, and allows nothing.
        let origin = request.headers.get(header::ORIGIN);
        let Some(origin) = origin.filter(|origin| self.allows(origin)) else {
            return Ok(answer);
        };
        if !METHODS.iter().any(|known| known == method) {
            return Ok(answer);
        }
        let names: Vec<Bytes> = names
            .split([',', ' '])
            .filter_map(|name| FieldName::parse(&plain(name)).map(|field| field.written))
            .collect();
        let names = names.join(b", ".as_slice());
        let names = HeaderValue::from_bytes(&names).map_err(|_| Unfit::new("names that no headers have"))?;
        Ok(answer
            .with(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone())
            .with(header::ACCESS_CONTROL_ALLOW_METHODS, method.clone())
            .with(header::ACCESS_CONTROL_ALLOW_HEADERS, names)
            .with(
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            )
            .with(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600")))
    }
}

/// The method that a preflight asks for.
fn asked_method(request: &RequestHeader) -> Option<&HeaderValue> {
    let asked = request.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    (request.method == Method::OPTIONS && !asked.is_empty()).then_some(asked)
}

/// The headers that a request of another origin asks for, where that of gRPC-Web is among them, as a part of a name as well.
fn asked_headers(request: &RequestHeader) -> Option<&str> {
    let asked = request
        .headers
        .get(header::ACCESS_CONTROL_REQUEST_HEADERS)?
        .to_str()
        .ok()?;
    asked.to_ascii_lowercase().contains("x-grpc-web").then_some(asked)
}

/// A name without what is in no name that is asked for.
fn plain(name: &str) -> String {
    name.chars()
        .filter(|char| char.is_ascii_alphanumeric() || ['-', '_', '.'].contains(char))
        .collect()
}

/// Makes gRPC-Web of one response.
#[derive(Debug)]
pub struct GrpcWebResponse {
    text: bool,
    /// Of the client, where it may.
    origin: Option<HeaderValue>,
}

impl GrpcWebResponse {
    /// What the body of the request goes through.
    pub(crate) fn incoming(&self) -> Option<Box<dyn Transform>> {
        self.text
            .then(|| Box::new(Decode::default()) as Box<dyn Transform>)
    }

    pub(crate) fn leave(&self, response: &mut ResponseHeader, bodiless: bool) -> Result<After, Unfit> {
        // What the service says of these stands.
        let mut said = vec![("Vary", HeaderValue::from_static("Origin"))];
        if let Some(origin) = &self.origin {
            let credentials = HeaderValue::from_static("true");
            said.push(("Access-Control-Allow-Origin", origin.clone()));
            said.push(("Access-Control-Allow-Credentials", credentials));
        }
        for (name, value) in said {
            if !response.headers.contains_key(name) {
                response.insert_header(name, value)?;
            }
        }
        response.remove_header("trailer");
        let kind = response
            .headers
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        let rest = kind.and_then(|kind| kind.strip_prefix(GRPC)).map(str::to_owned);
        if let Some(rest) = &rest {
            let of_web = if self.text { GRPC_WEB_TEXT } else { GRPC_WEB };
            response.insert_header("Content-Type", format!("{of_web}{rest}"))?;
        }
        let transformed = rest.is_some() && !bodiless;
        if transformed {
            response.remove_header(&CONTENT_LENGTH);
        }
        // The type is named also where there is none.
        let mut exposed = vec![Bytes::from_static(b"Content-Type")];
        for name in response.headers.keys() {
            let hidden = matches!(
                name.as_str(),
                "transfer-encoding" | "connection" | "date" | "content-type"
            );
            if !hidden && let Some(field) = FieldName::parse(name.as_str()) {
                exposed.push(field.written);
            }
        }
        exposed.sort();
        exposed.extend([
            Bytes::from_static(b"grpc-status"),
            Bytes::from_static(b"grpc-message"),
        ]);
        let exposed = exposed
            .iter()
            .map(|name| &**name)
            .collect::<Vec<_>>()
            .join(b", ".as_slice());
        response.insert_header("Access-Control-Expose-Headers", exposed)?;
        if transformed {
            return Ok(After::Transform(Box::new(Encode { text: self.text })));
        }
        Ok(After::Next)
    }
}

/// The body of a response: frames, and the trailers as the last one.
#[derive(Debug)]
struct Encode {
    text: bool,
}

impl Encode {
    fn written(&self, data: Bytes) -> Bytes {
        match self.text {
            true if !data.is_empty() => BASE64.encode(&data).into(),
            _ => data,
        }
    }
}

impl Transform for Encode {
    fn push(&mut self, data: Bytes) -> Result<Bytes, Unfit> {
        Ok(self.written(data))
    }

    fn flush(&mut self) -> Result<Bytes, Unfit> {
        Ok(Bytes::new())
    }

    fn holds_back(&self) -> bool {
        false
    }

    fn finish(&mut self, trailers: &mut Option<HeaderMap>) -> Result<Bytes, Unfit> {
        let trailers = trailers.take().unwrap_or_default();
        let mut lines: Vec<Vec<u8>> = trailers
            .iter()
            .map(|(name, value)| [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat())
            .collect();
        lines.sort();
        let lines = lines.concat();
        let length = u32::try_from(lines.len()).map_err(|_| Unfit::new("trailers without an end"))?;
        let frame = [&[TRAILERS], &length.to_be_bytes()[..], &lines].concat();
        Ok(self.written(frame.into()))
    }
}

/// The body of a request in text form. Several padded texts one after the other are one body.
#[derive(Debug, Default)]
struct Decode {
    /// Less than a group of four.
    rest: Vec<u8>,
}

impl Transform for Decode {
    fn push(&mut self, data: Bytes) -> Result<Bytes, Unfit> {
        self.rest
            .extend(data.iter().filter(|byte| !matches!(byte, b'\r' | b'\n')));
        let whole = self.rest.len() / 4 * 4;
        let text: Vec<u8> = self.rest.drain(..whole).collect();
        let data = BASE64
            .decode(&text)
            .map_err(|error| Unfit::new(format!("the body is no base64: {error}")))?;
        Ok(data.into())
    }

    fn flush(&mut self) -> Result<Bytes, Unfit> {
        Ok(Bytes::new())
    }

    fn holds_back(&self) -> bool {
        false
    }

    fn finish(&mut self, _trailers: &mut Option<HeaderMap>) -> Result<Bytes, Unfit> {
        if self.rest.is_empty() {
            return Ok(Bytes::new());
        }
        Err(Unfit::new("the body is base64 that breaks off"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, headers: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build(method, b"/s/m", None).unwrap();
        for (name, value) in headers {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    fn lines(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines
    }

    fn middleware(origins: &[&str]) -> GrpcWeb {
        GrpcWeb::new(
            &origins
                .iter()
                .map(|origin| (*origin).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn requests_become_grpc() {
        // method, type, type after; `None`: it is not ours
        let cases = [
            ("POST", "application/grpc-web", Some("application/grpc")),
            (
                "POST",
                "application/grpc-web+proto",
                Some("application/grpc+proto"),
            ),
            ("POST", "application/grpc-web-text", Some("application/grpc")),
            (
                "POST",
                "application/grpc-web-text+proto",
                Some("application/grpc+proto"),
            ),
            (
                "POST",
                "application/grpc-web+proto; charset=x",
                Some("application/grpc+proto; charset=x"),
            ),
            ("POST", "application/grpc", None),
            ("POST", "text/plain", None),
            ("GET", "application/grpc-web", None),
        ];
        for (method, kind, expected) in cases {
            let mut request = asked(method, &[("Content-Type", kind), ("Content-Length", "7")]);
            let flow = middleware(&["*"]).enter(&mut request).unwrap();
            let later = match flow {
                Flow::Next => None,
                Flow::Later(Later::GrpcWeb(later)) => Some(later),
                other => panic!("{other:?}"),
            };
            assert_eq!(later.is_some(), expected.is_some(), "{method} {kind}");
            assert_eq!(
                request.headers.get(CONTENT_TYPE).unwrap(),
                expected.unwrap_or(kind)
            );
            assert_eq!(request.headers.contains_key(CONTENT_LENGTH), expected.is_none());
            if let Some(later) = later {
                assert_eq!(later.incoming().is_some(), kind.contains("text"), "{kind}");
            }
        }
    }

    #[test]
    fn responses_become_grpc_web() {
        // text, type of the response, type after, body
        let cases = [
            (
                false,
                "application/grpc",
                "application/grpc-web",
                &b"\0\0\0\0\x02hi\x80\0\0\0\"grpc-message: ok\r\ngrpc-status: 0\r\n"[..],
            ),
            (
                true,
                "application/grpc+proto",
                "application/grpc-web-text+proto",
                b"AAAAAAJoaQ==gAAAACJncnBjLW1lc3NhZ2U6IG9rDQpncnBjLXN0YXR1czogMA0K",
            ),
        ];
        for (text, kind, expected, body) in cases {
            let later = GrpcWebResponse {
                text,
                origin: Some(HeaderValue::from_static("https://a.test")),
            };
            let mut response = ResponseHeader::build(200, None).unwrap();
            response.insert_header("Content-Type", kind).unwrap();
            response.insert_header("Content-Length", "7").unwrap();
            response.insert_header("Trailer", "Grpc-Status").unwrap();
            let After::Transform(mut transform) = later.leave(&mut response, false).unwrap() else {
                panic!("a body goes through");
            };
            let got = lines(&response.headers);
            assert_eq!(
                got,
                [
                    "access-control-allow-credentials: true",
                    "access-control-allow-origin: https://a.test",
                    "access-control-expose-headers: Access-Control-Allow-Credentials, \
                     Access-Control-Allow-Origin, Content-Type, Vary, grpc-status, grpc-message",
                    &format!("content-type: {expected}"),
                    "vary: Origin",
                ]
            );
            let mut sent = Vec::from(transform.push(Bytes::from_static(b"\0\0\0\0\x02hi")).unwrap());
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            trailers.insert("grpc-message", HeaderValue::from_static("ok"));
            let mut trailers = Some(trailers);
            sent.extend(transform.finish(&mut trailers).unwrap());
            assert_eq!(sent, body);
            assert!(trailers.is_none());
        }
    }

    #[test]
    fn what_is_no_grpc_stays_as_it_is() {
        let later = GrpcWebResponse {
            text: true,
            origin: None,
        };
        let mut response = ResponseHeader::build(502, None).unwrap();
        response.insert_header("Content-Length", "3").unwrap();
        assert!(matches!(later.leave(&mut response, false).unwrap(), After::Next));
        assert_eq!(
            lines(&response.headers),
            [
                "access-control-expose-headers: Content-Length, Content-Type, Vary, grpc-status, \
                 grpc-message",
                "content-length: 3",
                "vary: Origin",
            ]
        );
    }

    #[test]
    fn what_a_service_says_of_origins_stands() {
        let later = GrpcWebResponse {
            text: false,
            origin: Some(HeaderValue::from_static("https://a.test")),
        };
        let mut response = ResponseHeader::build(200, None).unwrap();
        response.insert_header("Vary", "Accept").unwrap();
        response
            .insert_header("Access-Control-Allow-Origin", "*")
            .unwrap();
        later.leave(&mut response, true).unwrap();
        assert_eq!(
            lines(&response.headers),
            [
                "access-control-allow-credentials: true",
                "access-control-allow-origin: *",
                "access-control-expose-headers: Access-Control-Allow-Credentials, \
                 Access-Control-Allow-Origin, Content-Type, Vary, grpc-status, grpc-message",
                "vary: Accept",
            ]
        );
    }

    #[test]
    fn a_text_is_decoded_wherever_it_is_cut() {
        let mut decode = Decode::default();
        let mut got = Vec::new();
        for piece in ["AAA", "AAAJh", "Yg==AA", "AAAAJhYg=", "="] {
            got.extend(decode.push(Bytes::from_static(piece.as_bytes())).unwrap());
        }
        decode.finish(&mut None).unwrap();
        assert_eq!(got, b"\0\0\0\0\x02ab\0\0\0\0\x02ab");
        assert!(
            Decode::default()
                .push(Bytes::from_static(b"!!!notbase64"))
                .is_err()
        );
        let mut decode = Decode::default();
        decode.push(Bytes::from_static(b"AAAAA")).unwrap();
        assert!(decode.finish(&mut None).is_err());
    }

    #[test]
    fn preflights_are_those_that_ask_for_grpc_web() {
        let asks = |origin: &'static str, method: &'static str, headers: &'static str| {
            let headers = [
                ("Origin", origin),
                ("Access-Control-Request-Method", method),
                ("Access-Control-Request-Headers", headers),
            ];
            match middleware(&["https://a.test"])
                .enter(&mut asked("OPTIONS", &headers))
                .unwrap()
            {
                Flow::Answer(answer) => Some((answer.status, lines(&answer.headers))),
                _ => None,
            }
        };
        let vary = [
            "vary: Access-Control-Request-Headers",
            "vary: Access-Control-Request-Method",
            "vary: Origin",
        ];
        let (status, got) = asks("https://a.test", "POST", "x-grpc-web,content-type").unwrap();
        let mut expected = vec![
            "access-control-allow-credentials: true",
            "access-control-allow-headers: X-Grpc-Web, Content-Type",
            "access-control-allow-methods: POST",
            "access-control-allow-origin: https://a.test",
            "access-control-max-age: 600",
        ];
        expected.extend(vary);
        assert_eq!(
            (status, got),
            (200, expected.into_iter().map(str::to_owned).collect())
        );
        let get = asks("https://a.test", "GET", "x-grpc-web").unwrap().1;
        assert!(
            get.contains(&"access-control-allow-methods: GET".to_owned()),
            "{get:?}"
        );
        for (origin, method) in [
            ("https://z.test", "POST"),
            ("https://a.test", "PUT"),
            ("", "POST"),
        ] {
            assert_eq!(
                asks(origin, method, "x-grpc-web").unwrap().1,
                vary,
                "{origin} {method}"
            );
        }
        for (asked, allowed) in [
            ("x-grpc-web b/c,,d_e", "X-Grpc-Web, Bc, D_e"),
            ("a, xx-grpc-webx", "A, Xx-Grpc-Webx"),
        ] {
            let got = asks("https://a.test", "POST", asked).unwrap().1;
            let line = format!("access-control-allow-headers: {allowed}");
            assert!(got.contains(&line), "{asked}: {got:?}");
        }
        assert!(asks("https://a.test", "POST", "x-a").is_none());
    }

    #[test]
    fn who_asks_for_grpc_web_and_no_method_calls() {
        // type, type after
        let cases = [
            ("", ""),
            ("text/plain", "text/plain"),
            ("application/grpc-web-text+x", "application/grpc+x"),
            ("xapplication/grpc-web", "xapplication/grpc"),
            ("x/application/grpc-web-text", "x/application/grpc-text"),
        ];
        for (kind, after) in cases {
            let mut headers = vec![("Access-Control-Request-Headers", "A, X-Grpc-Web")];
            headers.extend((!kind.is_empty()).then_some(("Content-Type", kind)));
            let mut request = asked("OPTIONS", &headers);
            let flow = middleware(&["*"]).enter(&mut request).unwrap();
            let Flow::Later(Later::GrpcWeb(later)) = flow else {
                panic!("{kind}: {flow:?}");
            };
            assert_eq!(request.headers[CONTENT_TYPE], after);
            assert!(!request.headers.contains_key("te"), "{kind}");
            assert_eq!(later.text, kind.starts_with(GRPC_WEB_TEXT), "{kind}");
            let mut get = asked("GET", &headers);
            assert!(matches!(middleware(&["*"]).enter(&mut get).unwrap(), Flow::Next));
        }
    }
}
