//! `decide_tcp` against a router that does everything the slow way: no index, no parser, no shared code. That ties are
//! deterministic follows: the routers are given in an order of their own.

use std::cmp::Reverse;

use constellation_table::{TcpDecision, TcpTls, Verdict, decide_tcp, explain_tcp};
use proptest::prelude::*;

use crate::built::{Row, service};
use crate::stream_built::{Opened, Stream, streams};

/// A rule as a value. The reference evaluates this; the router under test gets its text.
#[derive(Clone, Debug)]
enum Model {
    Any,
    Name(&'static str),
    Wildcard(&'static str),
    EndsInTest,
    Alpn(&'static str),
    Loopback,
    Not(Box<Model>),
    All(Vec<Model>),
    Either(Vec<Model>),
}

/// The rule of an HTTPS router, as far as it matters before there is a request.
#[derive(Clone, Debug)]
enum Https {
    Name(&'static str),
    Wildcard(&'static str),
    NameOrPath(&'static str),
    NotName(&'static str),
    AnyHost,
    Path,
}

/// A connection as values.
#[derive(Clone, Debug)]
struct Sample {
    tls: bool,
    name: &'static str,
    alpn: Vec<&'static str>,
    loopback: bool,
    entry_point: u16,
}

#[derive(Clone, Debug)]
struct Routed {
    model: Model,
    priority: i64,
    entry_points: Vec<u16>,
    tls: bool,
}

impl Model {
    fn text(&self) -> String {
        let join = |branches: &[Model], operator: &str| {
            let branches: Vec<_> = branches.iter().map(Model::text).collect();
            format!("({})", branches.join(operator))
        };
        match self {
            Self::Any => "HostSNI(`*`)".into(),
            Self::Name(name) => format!("HostSNI(`{name}`)"),
            Self::Wildcard(parent) => format!("HostSNI(`*.{parent}`)"),
            Self::EndsInTest => "HostSNIRegexp(`[.]test$`)".into(),
            Self::Alpn(protocol) => format!("ALPN(`{protocol}`)"),
            Self::Loopback => "ClientIP(`127.0.0.0/8`)".into(),
            Self::Not(inner) => format!("!{}", inner.text()),
            Self::All(branches) => join(branches, " && "),
            Self::Either(branches) => join(branches, " || "),
        }
    }

    fn matches(&self, name: &str, alpn: &[&str], loopback: bool) -> bool {
        let all = |branch: &Model| branch.matches(name, alpn, loopback);
        match self {
            Self::Any => true,
            Self::Name(own) => name == *own,
            Self::Wildcard(parent) => is_below(parent, name),
            Self::EndsInTest => name.ends_with(".test"),
            Self::Alpn(protocol) => alpn.contains(protocol),
            Self::Loopback => loopback,
            Self::Not(inner) => !all(inner),
            Self::All(branches) => branches.iter().all(all),
            Self::Either(branches) => branches.iter().any(all),
        }
    }

    /// Whether it is `HostSNI("*")` and nothing else; two negations are none.
    fn is_catch_all(&self) -> bool {
        match self {
            Self::Any => true,
            Self::Not(inner) => matches!(&**inner, Self::Not(inner) if inner.is_catch_all()),
            _ => false,
        }
    }

    fn names_its_hosts(&self) -> bool {
        match self {
            Self::Name(_) => true,
            Self::All(branches) => branches.iter().any(Self::names_its_hosts),
            Self::Either(branches) => branches.iter().all(Self::names_its_hosts),
            _ => false,
        }
    }
}

impl Https {
    fn text(&self) -> String {
        match self {
            Self::Name(name) => format!("Host(`{name}`)"),
            Self::Wildcard(parent) => format!("Host(`*.{parent}`)"),
            Self::NameOrPath(name) => format!("Host(`{name}`) || Path(`/`)"),
            Self::NotName(name) => format!("!Host(`{name}`)"),
            Self::AnyHost => "Host(`*`)".into(),
            Self::Path => "PathPrefix(`/`)".into(),
        }
    }

    fn claims(&self, name: &str) -> bool {
        match self {
            Self::Name(own) | Self::NameOrPath(own) => name == *own,
            Self::Wildcard(parent) => is_below(parent, name),
            _ => false,
        }
    }

    fn is_for_any(&self) -> bool {
        matches!(self, Self::NotName(_) | Self::AnyHost | Self::Path)
    }
}

fn is_below(parent: &str, name: &str) -> bool {
    let labels: Vec<_> = name.split('.').collect();
    labels.len() > 1 && labels[1..].join(".") == parent
}

const NAMES: [&str; 6] = ["a.test", "b.test", "a.b.test", "x.org", "a.x.org", "test"];
const PARENTS: [&str; 4] = ["test", "b.test", "x.org", "org"];
const PROTOCOLS: [&str; 3] = ["h2", "http/1.1", "db"];

fn model() -> impl Strategy<Value = Model> {
    let leaf = prop_oneof![
        6 => prop::sample::select(&NAMES[..]).prop_map(Model::Name),
        3 => prop::sample::select(&PARENTS[..]).prop_map(Model::Wildcard),
        3 => Just(Model::Any),
        1 => Just(Model::EndsInTest),
        1 => prop::sample::select(&PROTOCOLS[..]).prop_map(Model::Alpn),
        1 => Just(Model::Loopback),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            1 => inner.clone().prop_map(|inner| Model::Not(Box::new(inner))),
            2 => prop::collection::vec(inner.clone(), 2..4).prop_map(Model::All),
            2 => prop::collection::vec(inner, 2..4).prop_map(Model::Either),
        ]
    })
}

fn routed() -> impl Strategy<Value = Routed> {
    let priority = prop_oneof![3 => Just(0i64), 2 => -2i64..3, 1 => Just(20i64)];
    let entry_points = prop::sample::select(vec![vec![0], vec![1], vec![0, 1], vec![1, 0, 1]]);
    (model(), priority, entry_points, prop::bool::weighted(0.6)).prop_map(
        |(model, priority, entry_points, tls)| Routed {
            model,
            priority,
            entry_points,
            tls,
        },
    )
}

fn https() -> impl Strategy<Value = (Https, Vec<u16>)> {
    let rule = prop_oneof![
        prop::sample::select(&NAMES[..]).prop_map(Https::Name),
        prop::sample::select(&PARENTS[..]).prop_map(Https::Wildcard),
        prop::sample::select(&NAMES[..]).prop_map(Https::NameOrPath),
        prop::sample::select(&NAMES[..]).prop_map(Https::NotName),
        Just(Https::AnyHost),
        Just(Https::Path),
    ];
    (rule, prop::sample::select(vec![vec![0], vec![1], vec![0, 1]]))
}

fn sample() -> impl Strategy<Value = Sample> {
    let name = prop_oneof![1 => Just(""), 5 => prop::sample::select(&NAMES[..])];
    let alpn = prop::sample::subsequence(&PROTOCOLS[..], 0..=3);
    let tls = prop::bool::weighted(0.7);
    (tls, name, alpn, any::<bool>(), 0u16..2).prop_map(|(tls, name, alpn, loopback, entry_point)| Sample {
        tls,
        name: if tls { name } else { "" },
        alpn: if tls { alpn } else { Vec::new() },
        loopback,
        entry_point,
    })
}

impl Sample {
    fn line(&self) -> String {
        let client = if self.loopback { "127.0.0.1" } else { "10.0.0.1" };
        let hello = match (self.tls, self.name) {
            (false, _) => "plain".to_owned(),
            (true, "") => "tls -".to_owned(),
            (true, name) => format!("tls {name}"),
        };
        let alpn: String = self.alpn.iter().map(|protocol| format!(" {protocol}")).collect();
        format!("{hello}{alpn} @{client} #{}", self.entry_point)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn decide_tcp_agrees_with_the_reference(
        table in prop::collection::vec(routed(), 0..16),
        https in prop::collection::vec(https(), 0..3),
        samples in prop::collection::vec(sample(), 1..20),
    ) {
        let service = service("s", vec![]);
        let names: Vec<_> = (0..table.len()).map(|number| format!("r{number:02}")).collect();
        let texts: Vec<_> = table.iter().map(|routed| routed.model.text()).collect();
        let tcp = table.iter().zip(&names).zip(&texts).map(|((routed, name), rule)| {
            let router = Stream {
                name,
                rule,
                priority: routed.priority,
                entry_points: &routed.entry_points,
                tls: routed.tls.then_some(TcpTls::Passthrough),
                middlewares: Vec::new(),
            };
            router.to(service.clone())
        });
        let http = https.iter().enumerate().map(|(number, (rule, entry_points))| {
            Row {
                name: &format!("h{number}"),
                rule: &rule.text(),
                priority: 0,
                entry_points,
                tls: true,
            }
            .forward(&service)
        });
        // The order in which routers come must not matter.
        let snapshot = streams(http.collect(), tcp.rev().collect(), vec![]);

        for sample in &samples {
            let here = |entry_points: &[u16]| entry_points.contains(&sample.entry_point);
            let on_this = || table.iter().filter(|routed| here(&routed.entry_points));
            let https: Vec<_> = https.iter().filter(|(_, at)| here(at)).map(|(rule, _)| rule).collect();
            let unheard = https.is_empty() && on_this().all(|routed| !routed.tls) && on_this().next().is_some();
            let (tls, name, alpn) = if unheard {
                (false, "", &[][..])
            } else {
                (sample.tls, sample.name, &sample.alpn[..])
            };
            let best = table
                .iter()
                .enumerate()
                .filter(|(_, routed)| {
                    routed.tls == tls
                        && here(&routed.entry_points)
                        && routed.model.matches(name, alpn, sample.loopback)
                })
                .max_by_key(|(number, routed)| {
                    let length = texts[*number].len();
                    let default = if routed.model.is_catch_all() { -1 } else { i64::try_from(length).unwrap() };
                    let priority = if routed.priority == 0 { default } else { routed.priority };
                    (priority, length, routed.model.names_its_hosts(), Reverse(*number))
                });
            let expected = best
                .filter(|(_, routed)| {
                    let named = https.iter().any(|rule| rule.claims(name));
                    let rest = routed.model.is_catch_all() && https.iter().any(|rule| rule.is_for_any());
                    !(tls && (named || rest))
                })
                .map(|(number, _)| names[number].as_str());

            let (decided, explained) = Opened::parse(&sample.line()).with(|connection| {
                let decided = match decide_tcp(&snapshot, connection) {
                    TcpDecision::Http => None,
                    TcpDecision::Forward { router, .. } | TcpDecision::Refused { router, .. } => {
                        Some(router.spec.name.to_string())
                    }
                };
                (decided, explain_tcp(&snapshot, connection))
            });
            prop_assert_eq!(decided.as_deref(), expected, "{:?} {:?}", sample, texts);
            prop_assert_eq!(explained.unheard, unheard);
            prop_assert_eq!(explained.router.as_ref().map(|router| router.name.as_str()), expected);
            let won = explained.considered.iter().filter(|considered| considered.verdict == Verdict::Won).count();
            prop_assert_eq!(won, usize::from(expected.is_some()));
            for considered in &explained.considered {
                if let Verdict::Refused { because } = &considered.verdict {
                    prop_assert!(!because.is_empty(), "{} lost without a reason", considered.router.name);
                }
            }
            let listed = explained.considered.len() + explained.considered_more + explained.other_names;
            let in_table = table.iter().filter(|routed| routed.tls == tls && here(&routed.entry_points));
            prop_assert_eq!(listed, in_table.count(), "every router of the table is accounted for");
        }
    }
}
