//! `tcp.middlewares`: what a connection has to pass.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use constellation_config::dynamic::{TcpIpAllowList, TcpMiddleware as Definition};
use constellation_table::{InFlightConn, IpAllowList, TcpMiddleware};
use ipnet::IpNet;

use super::{Around, Section, usable};
use crate::compile::names;
use crate::sources::Problem;

/// What the last compile made of the middlewares: who is counted by one is counted on while it says the same.
#[derive(Debug, Default)]
pub(super) struct Middlewares(HashMap<Arc<str>, TcpMiddleware>);

impl Middlewares {
    /// All middlewares by qualified name.
    pub(super) fn compile(
        &mut self,
        around: &Around<'_>,
        problems: &mut Vec<Problem>,
    ) -> HashMap<Arc<str>, Result<TcpMiddleware, String>> {
        let mut all = HashMap::new();
        for input in around.inputs {
            for (name, definition) in &input.tcp.middlewares {
                let qualified = Section::Tcp.qualify(name, input.provider);
                let mut report = |message: String| {
                    problems.push(Problem {
                        subject: format!("middleware {qualified}"),
                        message,
                    });
                };
                let outcome = match names::refusal(name) {
                    Some(refusal) => Err(refusal),
                    None => build(&qualified, definition, self.0.get(&qualified), &mut report),
                };
                if let Err(error) = &outcome {
                    report(error.clone());
                }
                all.insert(qualified, outcome);
            }
        }
        self.0 = usable(&all);
        all
    }
}

fn build(
    name: &Arc<str>,
    definition: &Definition,
    previous: Option<&TcpMiddleware>,
    warn: &mut impl FnMut(String),
) -> Result<TcpMiddleware, String> {
    if definition.ip_white_list.is_some() {
        warn("ipWhiteList is the old name of ipAllowList: write that one".to_owned());
    }
    match (
        &definition.ip_allow_list,
        &definition.ip_white_list,
        &definition.in_flight_conn,
    ) {
        (Some(list), None, None) | (None, Some(list), None) => {
            let source_range = networks(list)?;
            Ok(TcpMiddleware::IpAllowList(match previous {
                Some(TcpMiddleware::IpAllowList(old)) if old.source_range == source_range => old.clone(),
                _ => Arc::new(IpAllowList {
                    name: name.clone(),
                    source_range,
                }),
            }))
        }
        (None, None, Some(limit)) => {
            let amount = usize::try_from(limit.amount)
                .map_err(|_| format!("inFlightConn.amount {} is below 0: write 0 or more", limit.amount))?;
            Ok(TcpMiddleware::InFlightConn(match previous {
                Some(TcpMiddleware::InFlightConn(old)) if old.amount == amount => old.clone(),
                _ => Arc::new(InFlightConn {
                    name: name.clone(),
                    amount,
                    slot: Default::default(),
                }),
            }))
        }
        (None, None, None) => Err("it has no kind: write ipAllowList or inFlightConn".to_owned()),
        _ => Err("it has several kinds: keep one".to_owned()),
    }
}

fn networks(list: &TcpIpAllowList) -> Result<Vec<IpNet>, String> {
    if list.source_range.is_empty() {
        return Err(
            "ipAllowList.sourceRange is empty: write the addresses or networks that may pass".to_owned(),
        );
    }
    let network = |text: &String| {
        let text = text.trim();
        let address = text
            .parse::<IpAddr>()
            .map(|address| IpNet::from(address.to_canonical()));
        address.or_else(|_| text.parse::<IpNet>()).map_err(|_| {
            format!(
                "ipAllowList.sourceRange: {text:?} is neither an IP address nor a network such as 10.0.0.0/8"
            )
        })
    };
    list.source_range.iter().map(network).collect()
}
