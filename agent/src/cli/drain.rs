//! `constellation drain SERVICE ENDPOINT` and `undrain`: an endpoint leaves, and comes back; `drain NODE`: a whole node.

use std::fmt::Write as _;

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::client::Ask;
use super::{Failure, nodes, print, print_json};

/// `drain` and `undrain`.
#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    /// A node of the cluster; or, with an endpoint behind it, a service, NAME@PROVIDER or NAME where only one provider has it.
    #[arg(value_name = "NODE|SERVICE")]
    subject: String,
    /// The endpoint as `constellation services` names it: a container, or the URL of a server.
    #[arg(value_name = "ENDPOINT")]
    endpoint: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

/// Which way an endpoint goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Direction {
    Out,
    Back,
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    name: String,
    state: String,
    reason: Option<String>,
    in_flight: u32,
}

pub(super) fn run(args: &DrainArgs, direction: Direction) -> Result<(), Failure> {
    let verb = match direction {
        Direction::Out => "drain",
        Direction::Back => "undrain",
    };
    let Some(endpoint) = &args.endpoint else {
        let verb = match direction {
            Direction::Out => "drain",
            Direction::Back => "uncordon",
        };
        return nodes::wish(&args.ask, &args.subject, verb);
    };
    let path = format!(
        "/api/v1/services/{}/endpoints/{}/{verb}",
        segment(&args.subject),
        segment(endpoint)
    );
    let node = args.ask.node.find(&args.ask.settings)?;
    if args.ask.json {
        return print_json(&node.post::<Value>(&path)?);
    }
    let endpoint: Endpoint = node.post(&path)?;
    let reason = endpoint
        .reason
        .map(|reason| format!(": {reason}"))
        .unwrap_or_default();
    print(&format!(
        "{} is {}{reason}; {} requests in flight\n",
        endpoint.name, endpoint.state, endpoint.in_flight
    ))
}

/// One segment of a path: an endpoint may be called `http://10.0.0.1:80/x`.
pub(super) fn segment(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            write!(out, "%{byte:02X}").unwrap_or_default();
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_one_segment_of_a_path() {
        assert_eq!(segment("app-1"), "app-1");
        assert_eq!(segment("s@file"), "s@file");
        assert_eq!(
            segment("http://[::1]:80/a b?"),
            "http%3A%2F%2F%5B%3A%3A1%5D%3A80%2Fa%20b%3F"
        );
    }
}
