//! From a record to a line. Runs on the writer thread only.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::Write as _;

use http::{HeaderName, Version};

use super::escape;
use super::record::{AttemptLine, AttemptOutcome, Headers, Record, StreamRecord, TlsDetails};
use super::settings::{FieldMode, Format, Modes};
use super::time::Moment;

/// What stands for a value that is not to be seen.
const REDACTED: &str = "REDACTED";
/// What stands for a value that does not exist.
const NONE: &str = "-";

/// Formats records.
#[derive(Debug)]
pub(super) struct Formatter {
    pub(super) format: Format,
    pub(super) fields: Modes,
}

impl Formatter {
    /// Appends one line with its end. `count` is the number of the request since start.
    pub(super) fn line(&self, line: &mut Vec<u8>, record: &Record, count: u64) {
        match self.format {
            Format::Json => self.json(line, record, count),
            Format::Common => self.common(line, record, Some(count)),
            Format::GenericClf => self.common(line, record, None),
        }
    }

    fn json(&self, line: &mut Vec<u8>, record: &Record, count: u64) {
        let start = Moment::new(record.start);
        let (host, port) = host_and_port(&record.host);
        let mut object = Object {
            line,
            fields: &self.fields,
            first: true,
        };
        object.attempts(&record.attempts);
        object.text("ClientAddr", &record.client.to_string());
        object.text("ClientHost", &record.client.ip().to_string());
        object.text("ClientPort", &record.client.port().to_string());
        object.text("ClientUsername", record.username.as_deref().unwrap_or(NONE));
        object.number("DownstreamContentSize", record.response_bytes);
        object.number("DownstreamStatus", record.status);
        object.number("Duration", record.duration.as_nanos());
        if let Some(endpoint) = &record.endpoint {
            object.text("EndpointName", endpoint);
        }
        object.number("OriginContentSize", record.origin_bytes);
        object.number("OriginDuration", record.origin_duration.as_nanos());
        object.number("OriginStatus", record.origin_status.unwrap_or(0));
        object.number(
            "Overhead",
            record.duration.saturating_sub(record.origin_duration).as_nanos(),
        );
        object.text("RequestAddr", &record.host);
        object.number("RequestContentSize", record.request_bytes);
        object.number("RequestCount", count);
        object.text("RequestHost", host);
        object.text("RequestMethod", record.method.as_str());
        object.text("RequestPath", &self.path(record));
        object.text("RequestPort", port.unwrap_or(NONE));
        object.text("RequestProtocol", protocol(record.version));
        object.text(
            "RequestScheme",
            if record.tls.is_some() { "https" } else { "http" },
        );
        object.number("RetryAttempts", record.retries);
        if let Some(router) = &record.router {
            object.text("RouterName", router);
        }
        if let Some(url) = &record.endpoint_url {
            object.text(
                "ServiceAddr",
                url.split_once("://").map_or(&**url, |(_, authority)| authority),
            );
        }
        if let Some(service) = &record.service {
            object.text("ServiceName", service);
        }
        if let Some(url) = &record.endpoint_url {
            object.text("ServiceURL", url);
        }
        object.text("StartUTC", &start.rfc3339_nanos().to_string());
        object.tls(record.tls.as_ref());
        object.headers("downstream_", &record.response_headers);
        object.text("entryPointName", &record.entry_point);
        object.always("level", "info");
        object.always("msg", "");
        object.headers("request_", &record.request_headers);
        object.always("time", &start.rfc3339().to_string());
        // `level`, `msg` and `time` are always there, so the object was opened.
        line.extend_from_slice(b"}\n");
    }

    fn common(&self, line: &mut Vec<u8>, record: &Record, count: Option<u64>) {
        let field = |name: &str, value: &str| self.field(name, value);
        escape::bare(line, &field("ClientHost", &record.client.ip().to_string()));
        line.extend_from_slice(b" - ");
        escape::bare(
            line,
            &field("ClientUsername", record.username.as_deref().unwrap_or_default()),
        );
        put(line, format_args!(" [{}] \"", Moment::new(record.start).common()));
        escape::bare(line, &field("RequestMethod", record.method.as_str()));
        line.push(b' ');
        escape::bare(line, &field("RequestPath", &self.path(record)));
        line.push(b' ');
        escape::bare(line, &field("RequestProtocol", protocol(record.version)));
        line.extend_from_slice(b"\" ");
        line.extend_from_slice(field("DownstreamStatus", &record.status.to_string()).as_bytes());
        line.push(b' ');
        line.extend_from_slice(field("DownstreamContentSize", &record.response_bytes.to_string()).as_bytes());
        for header in [http::header::REFERER, http::header::USER_AGENT] {
            let value = record.request_headers.get(&header);
            put_quoted(line, value.as_deref().unwrap_or(NONE));
        }
        if let Some(count) = count {
            put(
                line,
                format_args!(" {}", field("RequestCount", &count.to_string())),
            );
            put_quoted(
                line,
                &field("RouterName", record.router.as_deref().unwrap_or_default()),
            );
            put_quoted(
                line,
                &field("ServiceURL", record.endpoint_url.as_deref().unwrap_or_default()),
            );
            put(
                line,
                format_args!(
                    " {}ms",
                    field("Duration", &record.duration.as_millis().to_string())
                ),
            );
            self.attempts(line, &record.attempts);
        }
        line.push(b'\n');
    }

    /// Appends the line of a connection.
    pub(super) fn stream(&self, line: &mut Vec<u8>, record: &StreamRecord, count: u64) {
        match self.format {
            Format::Json => self.stream_json(line, record, count),
            Format::Common => self.stream_common(line, record, Some(count)),
            Format::GenericClf => self.stream_common(line, record, None),
        }
    }

    fn stream_json(&self, line: &mut Vec<u8>, record: &StreamRecord, count: u64) {
        let start = Moment::new(record.start);
        let mut object = Object {
            line,
            fields: &self.fields,
            first: true,
        };
        object.attempts(&record.attempts);
        object.number("BytesReceived", record.received);
        object.number("BytesSent", record.sent);
        object.text("ClientAddr", &record.client.to_string());
        object.text("ClientHost", &record.client.ip().to_string());
        object.text("ClientPort", &record.client.port().to_string());
        if let Some(duration) = record.connect_duration {
            object.number("ConnectDuration", duration.as_nanos());
        }
        object.number("Duration", record.duration.as_nanos());
        object.text("End", record.end);
        if let Some(endpoint) = &record.endpoint {
            object.text("EndpointName", endpoint);
        }
        object.number("RequestCount", count);
        object.number("RetryAttempts", record.retries);
        object.text("RouterName", &record.router);
        if let Some(name) = &record.server_name {
            object.text("ServerName", name);
        }
        if let Some(url) = &record.endpoint_url {
            object.text(
                "ServiceAddr",
                url.split_once("://").map_or(&**url, |(_, address)| address),
            );
        }
        object.text("ServiceName", &record.service);
        if let Some(url) = &record.endpoint_url {
            object.text("ServiceURL", url);
        }
        object.text("StartUTC", &start.rfc3339_nanos().to_string());
        object.tls(record.tls.as_ref());
        object.text("entryPointName", &record.entry_point);
        object.always("kind", record.kind);
        object.always("level", "info");
        object.always("msg", "");
        object.always("time", &start.rfc3339().to_string());
        // `level`, `msg` and `time` are always there, so the object was opened.
        line.extend_from_slice(b"}\n");
    }

    /// The kind stands for the method, the server name for the path, and how it ended for the status.
    fn stream_common(&self, line: &mut Vec<u8>, record: &StreamRecord, count: Option<u64>) {
        let field = |name: &str, value: &str| self.field(name, value);
        escape::bare(line, &field("ClientHost", &record.client.ip().to_string()));
        put(
            line,
            format_args!(" - - [{}] \"", Moment::new(record.start).common()),
        );
        put(line, format_args!("{} ", record.kind));
        escape::bare(
            line,
            &field("ServerName", record.server_name.as_deref().unwrap_or_default()),
        );
        line.push(b' ');
        escape::bare(line, &field("entryPointName", &record.entry_point));
        line.extend_from_slice(b"\" ");
        line.extend_from_slice(field("End", record.end).as_bytes());
        line.push(b' ');
        line.extend_from_slice(field("BytesSent", &record.sent.to_string()).as_bytes());
        line.extend_from_slice(b" \"-\" \"-\"");
        if let Some(count) = count {
            put(
                line,
                format_args!(" {}", field("RequestCount", &count.to_string())),
            );
            put_quoted(line, &field("RouterName", &record.router));
            put_quoted(
                line,
                &field("ServiceURL", record.endpoint_url.as_deref().unwrap_or_default()),
            );
            put(
                line,
                format_args!(
                    " {}ms received={}",
                    field("Duration", &record.duration.as_millis().to_string()),
                    field("BytesReceived", &record.received.to_string())
                ),
            );
            self.attempts(line, &record.attempts);
        }
        line.push(b'\n');
    }

    /// A value as the settings want it.
    fn field(&self, name: &str, value: &str) -> String {
        match self.fields.of(name) {
            FieldMode::Keep if !value.is_empty() => value.to_owned(),
            FieldMode::Redact => REDACTED.to_owned(),
            _ => NONE.to_owned(),
        }
    }

    /// How many attempts there were and how the last one that failed did, after what Traefik writes; a request with
    /// one attempt has nothing here.
    fn attempts(&self, line: &mut Vec<u8>, attempts: &[AttemptLine]) {
        let [_, _, ..] = attempts else {
            return;
        };
        match self.fields.of("Attempts") {
            FieldMode::Keep => put(line, format_args!(" attempts={}", attempts.len())),
            FieldMode::Redact => return put(line, format_args!(" attempts={REDACTED}")),
            FieldMode::Drop => return,
        }
        let failed = attempts.iter().rev().find_map(|attempt| match attempt.outcome {
            AttemptOutcome::Failed(reason) => Some(reason.as_str()),
            _ => None,
        });
        if let Some(reason) = failed {
            put(line, format_args!(" failed={reason}"));
        }
    }

    /// The request target, with its query as the settings want it.
    fn path<'r>(&self, record: &'r Record) -> Cow<'r, str> {
        match (record.target.split_once('?'), self.fields.of("RequestQuery")) {
            (None, _) | (_, FieldMode::Keep) => Cow::Borrowed(&record.target),
            (Some((path, _)), FieldMode::Drop) => Cow::Borrowed(path),
            (Some((path, _)), FieldMode::Redact) => Cow::Owned(format!("{path}?{REDACTED}")),
        }
    }
}

fn put(line: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing into memory can't fail.
    line.write_fmt(text).unwrap_or_default();
}

fn put_quoted(line: &mut Vec<u8>, text: &str) {
    line.extend_from_slice(b" \"");
    escape::quoted(line, text);
    line.push(b'"');
}

/// A JSON object under way.
struct Object<'l> {
    line: &'l mut Vec<u8>,
    fields: &'l Modes,
    first: bool,
}

impl Object<'_> {
    fn key(&mut self, name: &str) {
        self.line.push(if self.first { b'{' } else { b',' });
        self.first = false;
        escape::json(self.line, name);
        self.line.push(b':');
    }

    fn always(&mut self, name: &str, value: &str) {
        self.key(name);
        escape::json(self.line, value);
    }

    fn text(&mut self, name: &str, value: &str) {
        match self.fields.of(name) {
            FieldMode::Keep => self.always(name, value),
            FieldMode::Redact => self.always(name, REDACTED),
            FieldMode::Drop => {}
        }
    }

    fn number(&mut self, name: &str, value: impl Display) {
        match self.fields.of(name) {
            FieldMode::Keep => {
                self.key(name);
                put(self.line, format_args!("{value}"));
            }
            FieldMode::Redact => self.always(name, REDACTED),
            FieldMode::Drop => {}
        }
    }

    fn tls(&mut self, tls: Option<&TlsDetails>) {
        let Some(tls) = tls else { return };
        self.text("TLSCipher", tls.cipher);
        if let Some(subject) = &tls.client_subject {
            self.text("TLSClientSubject", subject);
        }
        self.text("TLSVersion", tls.version);
    }

    /// A list; nothing when there was only one attempt.
    fn attempts(&mut self, attempts: &[AttemptLine]) {
        match (attempts, self.fields.of("Attempts")) {
            ([] | [_], _) | (_, FieldMode::Drop) => return,
            (_, FieldMode::Redact) => return self.always("Attempts", REDACTED),
            (_, FieldMode::Keep) => self.key("Attempts"),
        }
        for (position, attempt) in attempts.iter().enumerate() {
            self.line.push(if position == 0 { b'[' } else { b',' });
            self.line.extend_from_slice(b"{\"EndpointName\":");
            escape::json(self.line, &attempt.endpoint);
            let duration = attempt.duration.as_nanos();
            match attempt.outcome {
                AttemptOutcome::Status(status) => put(self.line, format_args!(",\"Status\":{status}")),
                AttemptOutcome::Connected => self.line.extend_from_slice(b",\"Connected\":true"),
                AttemptOutcome::Failed(reason) => {
                    put(self.line, format_args!(",\"Failure\":\"{}\"", reason.as_str()));
                }
                AttemptOutcome::Abandoned => self.line.extend_from_slice(b",\"Failure\":\"abandoned\""),
            }
            put(self.line, format_args!(",\"Duration\":{duration}}}"));
        }
        self.line.push(b']');
    }

    fn headers(&mut self, prefix: &str, headers: &Headers) {
        for (name, value) in headers.joined() {
            self.always(&format!("{prefix}{}", capitalised(name)), &value);
        }
    }
}

impl Headers {
    /// Each name once, its values joined by commas, redacted where they are to be.
    fn joined(&self) -> impl Iterator<Item = (&HeaderName, Cow<'_, str>)> {
        let repeated = |at: usize, name: &HeaderName| self.0.iter().take(at).any(|(known, _)| known == name);
        self.0
            .iter()
            .enumerate()
            .filter(move |(at, (name, _))| !repeated(*at, name))
            .filter_map(|(_, (name, _))| Some((name, self.get(name)?)))
    }

    fn get(&self, name: &HeaderName) -> Option<Cow<'_, str>> {
        let mut values = self
            .0
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, value)| match value {
                Some(value) => String::from_utf8_lossy(value.as_bytes()),
                None => Cow::Borrowed(REDACTED),
            });
        let first = values.next()?;
        Some(values.fold(first, |joined, value| Cow::Owned(format!("{joined}, {value}"))))
    }
}

/// `user-agent` as `User-Agent`, as Go writes header names.
fn capitalised(name: &HeaderName) -> String {
    let mut start = true;
    let capital = |c: char| {
        let out = if start { c.to_ascii_uppercase() } else { c };
        start = c == '-';
        out
    };
    name.as_str().chars().map(capital).collect()
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// `[::1]:80` gives `::1` and `80`.
fn host_and_port(authority: &str) -> (&str, Option<&str>) {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') && (host.starts_with('[') || !host.contains(':')) => {
            (host, Some(port))
        }
        _ => (authority, None),
    };
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}
