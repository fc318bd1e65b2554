//! `constellation services [NAME]`: services and endpoints of the running node.

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::client::Ask;
use super::drain::segment;
use super::{Failure, print, print_json, table};

/// `services`.
#[derive(Debug, Args)]
pub(super) struct ServicesArgs {
    /// Only this service: NAME@PROVIDER, or NAME where only one provider has it. Default: all.
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

/// What the table shows of `/api/v1/services`.
#[derive(Debug, Deserialize)]
struct Service {
    service_name: String,
    panic: bool,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    name: String,
    url: String,
    weight: u32,
    state: String,
    reason: Option<String>,
    in_flight: u32,
    latency_seconds: Option<f64>,
    evidence: String,
    standing: Standing,
}

#[derive(Debug, Deserialize)]
struct Standing {
    check: Fact,
    breaker: Fact,
}

#[derive(Debug, Deserialize)]
struct Fact {
    state: String,
}

pub(super) fn run(args: &ServicesArgs) -> Result<(), Failure> {
    let node = args.ask.node.find(&args.ask.settings)?;
    let answer: Value = match &args.name {
        None => node.get("/api/v1/services", &[])?,
        Some(name) => node.get(&format!("/api/v1/services/{}", segment(name)), &[])?,
    };
    if args.ask.json {
        return print_json(&answer);
    }
    let services = match answer {
        Value::Array(services) => services,
        one => vec![one],
    };
    let services: Result<Vec<Service>, _> = services.into_iter().map(serde_json::from_value).collect();
    let services = services.map_err(|error| {
        let message = format!("the node's answer has another form ({error}); is it of this version?");
        Failure::new(super::Exit::Unavailable, message)
    })?;
    if services.is_empty() {
        return print("no services: add a file to the file provider, or labels to a container\n");
    }
    print(&render(&services))
}

fn render(services: &[Service]) -> String {
    let header = [
        "SERVICE",
        "ENDPOINT",
        "URL",
        "WEIGHT",
        "STATE",
        "CHECK",
        "BREAKER",
        "IN FLIGHT",
        "LATENCY",
        "WHY",
    ];
    let rows: Vec<_> = services.iter().flat_map(rows).collect();
    let mut text = if rows.is_empty() {
        String::new()
    } else {
        table::render(header, &rows)
    };
    for service in services {
        if service.endpoints.is_empty() {
            text.push_str(&format!("no endpoints: {}\n", service.service_name));
        }
        if service.panic {
            text.push_str(&format!(
                "too few healthy endpoints: {}: all that are there are used, whatever is known of them\n",
                service.service_name
            ));
        }
    }
    text
}

fn rows(service: &Service) -> impl Iterator<Item = [String; 10]> + '_ {
    service.endpoints.iter().map(|endpoint| {
        let why = endpoint.reason.as_ref().unwrap_or(&endpoint.evidence);
        [
            service.service_name.clone(),
            endpoint.name.clone(),
            endpoint.url.clone(),
            endpoint.weight.to_string(),
            endpoint.state.clone(),
            endpoint.standing.check.state.clone(),
            endpoint.standing.breaker.state.clone(),
            endpoint.in_flight.to_string(),
            endpoint
                .latency_seconds
                .map_or_else(|| "-".to_owned(), milliseconds),
            why.clone(),
        ]
    })
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1000.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_endpoint_has_a_line_that_says_why() {
        let endpoint = |name: &str, state: &str, reason: Option<&str>, latency: Option<f64>| {
            json!({
                "name": name, "url": "http://10.0.0.1:80", "weight": 1, "ready": reason.is_none(), "state": state,
                "reason": reason, "drained": false, "in_flight": 3, "latency_seconds": latency, "evidence": "7 answers",
                "standing": {"check": {"state": "off"}, "breaker": {"state": "closed", "failures": 0}},
            })
        };
        let services: Vec<Service> = serde_json::from_value(json!([
            {"service_name": "app@docker", "panic": true, "endpoints": [
                endpoint("app-1", "ready", None, Some(0.00125)),
                endpoint("app-2", "draining", Some("container app-2 is stopping"), None),
            ]},
            {"service_name": "none@file", "panic": false, "endpoints": []},
        ]))
        .unwrap();
        assert_eq!(
            render(&services),
            "\
SERVICE     ENDPOINT  URL                 WEIGHT  STATE     CHECK  BREAKER  IN FLIGHT  LATENCY  WHY
app@docker  app-1     http://10.0.0.1:80  1       ready     off    closed   3          1.2 ms   7 answers
app@docker  app-2     http://10.0.0.1:80  1       draining  off    closed   3          -        container app-2 is stopping
too few healthy endpoints: app@docker: all that are there are used, whatever is known of them
no endpoints: none@file
"
        );
    }
}
