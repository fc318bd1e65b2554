//! What is slow or silent and honest is left alone: a `GET` that takes long, an event stream that says nothing for
//! long, while others are answered at once by the same back ends.

use std::time::Duration;

use http::Method;
use tokio::task::JoinSet;

use super::verdict::Journals;
use super::{HOST, node};
use crate::client::Client;
use crate::client::http::request;
use crate::fault::FaultBackend;
use crate::fault::journal::heads_by_id;
use crate::fleet::{Fleet, Mix, judge};

/// How long they are silent.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The clients that are answered at once meanwhile.
    pub mix: Mix,
    /// The slow answer.
    pub slow: Duration,
    /// Between two events of the stream.
    pub silence: Duration,
    /// Of each, so that both back ends get some.
    pub each: usize,
}

impl Plan {
    /// For a test.
    pub const SMALL: Self = Self {
        mix: Mix {
            get: 12,
            post: 1,
            keyed: 1,
            pause: Duration::from_millis(4),
        },
        slow: Duration::from_secs(4),
        silence: Duration::from_secs(5),
        each: 4,
    };
}

/// Runs it; what went wrong.
///
/// # Panics
/// When the set-up fails.
pub async fn run(plan: &Plan) -> Vec<String> {
    let backends = [FaultBackend::start("one").await, FaultBackend::start("two").await];
    let all: Vec<&FaultBackend> = backends.iter().collect();
    let node = node(&all).await;
    let web = node.web();
    let fleet = Fleet::start(web, HOST, plan.mix);
    fleet.more(200).await;
    let mut silent = JoinSet::new();
    for number in 0..plan.each {
        let path = format!("/slow?ms={}", plan.slow.as_millis());
        silent.spawn(async move {
            let id = format!("slow-{number}");
            let mut client = Client::h1(web).await.unwrap();
            let mut get = request(Method::GET, HOST, &path);
            get.headers_mut().insert("x-request-id", id.parse().unwrap());
            let answer = client
                .send(get)
                .await
                .map_err(|error| format!("{id}: {error:?}"))?;
            judge(&answer, &id)
                .map(drop)
                .map_err(|error| format!("{id}: {error}"))
        });
        let path = format!("/sse?silence={}", plan.silence.as_millis());
        silent.spawn(async move {
            let mut client = Client::h1(web).await.unwrap();
            let mut get = request(Method::GET, HOST, &path);
            get.headers_mut()
                .insert("x-request-id", format!("sse-{number}").parse().unwrap());
            let answer = client
                .send(get)
                .await
                .map_err(|error| format!("sse-{number}: {error:?}"))?;
            if answer.status == 200 && answer.text() == "data: first\n\ndata: last\n\n" {
                Ok(())
            } else {
                Err(format!("sse-{number}: {}: {}", answer.status, answer.text()))
            }
        });
    }
    let results: Vec<Result<(), String>> = silent.join_all().await;
    let stories = fleet.stop().await;
    let mut wrong: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    wrong.extend(stories.iter().filter_map(|story| story.outcome.clone().err()));
    let journals = Journals::of(&all);
    let heads = heads_by_id(journals.entries());
    for number in 0..plan.each {
        for id in [format!("slow-{number}"), format!("sse-{number}")] {
            let times = heads.get(id.as_str()).copied().unwrap_or(0);
            if times != 1 {
                wrong.push(format!("{id} was sent {times} times"));
            }
        }
    }
    wrong
}
