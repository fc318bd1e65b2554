//! What a request came to at each proxy, and in what the two differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::backend::{PROBE, Received};
use super::client::{Answered, Session};

/// What a request came to at one proxy.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// The answer, or why there is none.
    pub(super) answer: Result<Answered, String>,
    /// What back ends received.
    pub(super) received: Vec<Received>,
}

impl Outcome {
    /// The status of the answer.
    pub(super) fn status(&self) -> Option<u16> {
        self.answer.as_ref().ok().map(|answer| answer.status)
    }

    /// The first line of a header of the answer.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.lines(name).first().map(String::as_str)
    }

    /// The lines of a header of the answer.
    pub(super) fn lines(&self, name: &str) -> &[String] {
        let answer = self.answer.as_ref().ok();
        answer
            .and_then(|answer| answer.headers.get(name))
            .map_or(&[], Vec::as_slice)
    }
}

/// One thing in which two outcomes differ.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// There is an answer, or none.
    Answer,
    /// The certificate that was shown, by its names.
    Certificate,
    /// The application protocol that was agreed on.
    Protocol,
    /// The version of TLS.
    Version,
    /// The status.
    Status,
    /// The lines of this header of the answer.
    Header(String),
    /// The body of the answer.
    Body,
    /// Which back ends got the request, and how often.
    Backends,
    /// Method, target or version as the back end got it.
    Line,
    /// The lines of this header as the back end got it.
    ReceivedHeader(String),
    /// The body as the back end got it.
    ReceivedBody,
}

/// Headers of answers that are not compared: the time, and what is between two hops.
const OF_THE_HOP: [&str; 3] = ["date", "connection", "keep-alive"];
/// Headers of requests that are not compared: each proxy names itself and the request, and `Connection` is between hops.
const OWN: [&str; 2] = ["x-forwarded-server", "connection"];

/// Everything in which they differ.
pub(super) fn compare(theirs: &Outcome, ours: &Outcome) -> Vec<Part> {
    let mut parts = BTreeSet::new();
    match (&theirs.answer, &ours.answer) {
        (Ok(theirs), Ok(ours)) => {
            parts.extend(secured(theirs.session.as_ref(), ours.session.as_ref()));
            let [theirs, ours] = [comparable(theirs), comparable(ours)];
            if theirs.status != ours.status {
                parts.insert(Part::Status);
            }
            let names = differing(&theirs.headers, &ours.headers, &OF_THE_HOP);
            parts.extend(names.into_iter().map(Part::Header));
            if theirs.body != ours.body {
                parts.insert(Part::Body);
            }
        }
        (Err(_), Err(_)) => {}
        _ => drop(parts.insert(Part::Answer)),
    }
    // Copies come in any order.
    let sorted = |outcome: &Outcome| {
        let mut all = outcome.received.clone();
        all.sort_by_key(|one| one.backend);
        all
    };
    let [theirs, ours] = [sorted(theirs), sorted(ours)];
    let backends = |received: &[Received]| -> Vec<_> { received.iter().map(|one| one.backend).collect() };
    if backends(&theirs) != backends(&ours) {
        parts.insert(Part::Backends);
        return parts.into_iter().collect();
    }
    for (theirs, ours) in theirs.iter().zip(&ours) {
        if theirs.line != ours.line || theirs.version != ours.version {
            parts.insert(Part::Line);
        }
        let probe = PROBE.to_ascii_lowercase();
        let ignored = [OWN[0], OWN[1], &probe];
        let names = differing(&theirs.headers, &ours.headers, &ignored);
        parts.extend(names.into_iter().map(Part::ReceivedHeader));
        if theirs.body != ours.body {
            parts.insert(Part::ReceivedBody);
        }
    }
    parts.into_iter().collect()
}

/// Which of several suites is taken is each proxy's own matter; clients that have a single one show which are allowed.
fn secured(theirs: Option<&Session>, ours: Option<&Session>) -> Vec<Part> {
    let (Some(theirs), Some(ours)) = (theirs, ours) else {
        return Vec::new();
    };
    let same = [
        (Part::Certificate, theirs.certificate == ours.certificate),
        (Part::Protocol, theirs.protocol == ours.protocol),
        (Part::Version, theirs.version == ours.version),
    ];
    let differing = same.into_iter().filter(|(_, same)| !same);
    differing.map(|(part, _)| part).collect()
}

/// An answer without what depends on chance or time.
fn comparable(answer: &Answered) -> Answered {
    let mut answer = answer.clone();
    // Two compressors make different bytes of the same.
    if answer.compressed {
        answer.headers.remove("content-length");
    }
    // How long one has to wait gets less meanwhile.
    for name in ["retry-after", "x-retry-in"] {
        if answer.status == 429
            && let Some(lines) = answer.headers.get_mut(name)
        {
            *lines = vec!["some time".to_owned(); lines.len()];
        }
    }
    for line in answer.headers.get_mut("www-authenticate").into_iter().flatten() {
        *line = without_chance(line);
    }
    answer
}

/// `Digest realm="x", nonce="..."` without its random values.
fn without_chance(challenge: &str) -> String {
    let mut parts = challenge.split(", ").map(|part| match part.split_once('=') {
        Some((name @ ("nonce" | "opaque"), _)) => format!("{name}=random"),
        _ => part.to_owned(),
    });
    let first = parts.next().unwrap_or_default();
    parts.fold(first, |all, part| format!("{all}, {part}"))
}

type Headers = BTreeMap<String, Vec<String>>;

fn differing(theirs: &Headers, ours: &Headers, ignored: &[&str]) -> Vec<String> {
    let names: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
    let differs = |name: &&String| !ignored.contains(&name.as_str()) && theirs.get(*name) != ours.get(*name);
    names.into_iter().filter(differs).cloned().collect()
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer => f.write_str("answered or not"),
            Self::Certificate => f.write_str("certificate"),
            Self::Protocol => f.write_str("application protocol"),
            Self::Version => f.write_str("version of TLS"),
            Self::Status => f.write_str("status"),
            Self::Header(name) => write!(f, "answer's {name}"),
            Self::Body => f.write_str("answer's body"),
            Self::Backends => f.write_str("back ends"),
            Self::Line => f.write_str("request line at the back end"),
            Self::ReceivedHeader(name) => write!(f, "{name} at the back end"),
            Self::ReceivedBody => f.write_str("body at the back end"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.answer {
            Err(error) => writeln!(f, "    no answer: {error}")?,
            Ok(answer) => {
                if let Some(session) = &answer.session {
                    writeln!(f, "    {session:?}")?;
                }
                writeln!(f, "    {}", answer.status)?;
                lines(f, &answer.headers)?;
                let body: String = answer.body.chars().take(300).collect();
                writeln!(f, "    body {} bytes: {body:?}", answer.body.len())?;
            }
        }
        for received in &self.received {
            writeln!(
                f,
                "  back end {} in HTTP/{}: {:?}",
                received.backend, received.version, received.line
            )?;
            lines(f, &received.headers)?;
            writeln!(f, "    body {:?}", received.body)?;
        }
        Ok(())
    }
}

fn lines(f: &mut fmt::Formatter<'_>, headers: &Headers) -> fmt::Result {
    for (name, values) in headers {
        for value in values {
            writeln!(f, "    {name}: {}", value.escape_debug())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: u16, header: &str, backend: Option<u16>) -> Outcome {
        let headers = BTreeMap::from([
            ("x-a".to_owned(), vec![header.to_owned()]),
            ("date".to_owned(), vec![status.to_string()]),
        ]);
        Outcome {
            answer: Ok(Answered {
                session: None,
                status,
                headers: headers.clone(),
                body: String::new(),
                compressed: false,
            }),
            received: backend
                .into_iter()
                .map(|port| Received {
                    backend: ([127, 0, 0, 1], port).into(),
                    line: "GET /".into(),
                    version: 1,
                    headers: headers.clone(),
                    body: String::new(),
                })
                .collect(),
        }
    }

    #[test]
    fn every_difference_has_a_part() {
        let first = outcome(200, "1", Some(1));
        assert_eq!(compare(&first, &first), []);
        assert_eq!(
            compare(&first, &outcome(404, "2", None)),
            [Part::Status, Part::Header("x-a".into()), Part::Backends]
        );
        // What different back ends got is not compared.
        assert_eq!(
            compare(&first, &outcome(200, "2", Some(2))),
            [Part::Header("x-a".into()), Part::Backends]
        );
        assert_eq!(
            compare(&first, &outcome(200, "2", Some(1))),
            [Part::Header("x-a".into()), Part::ReceivedHeader("x-a".into())]
        );
        let silent = Outcome {
            answer: Err("closed".into()),
            received: Vec::new(),
        };
        assert_eq!(compare(&first, &silent), [Part::Answer, Part::Backends]);
        assert_eq!(compare(&silent, &silent), []);
    }
}
