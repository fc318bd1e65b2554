//! `decide` against a router that does everything the slow way: no index, no parser, no shared code.

use crate::asked::Asked;
use crate::built::{Row, service, snapshot};
use constellation_table::{Verdict, decide, explain};
use proptest::prelude::*;

/// A rule as a value. The reference evaluates this; the router under test gets its text.
#[derive(Clone, Debug)]
enum Model {
    Host(&'static str),
    Wildcard(&'static str),
    AnyHost,
    HostEndsInTest,
    Path(&'static str),
    PathPrefix(&'static str),
    PathHasDigit,
    Method(&'static str),
    Header(&'static str, &'static str),
    Query(&'static str, &'static str),
    Loopback,
    Not(Box<Model>),
    All(Vec<Model>),
    Any(Vec<Model>),
}

/// A request as values.
#[derive(Clone, Debug)]
struct Sample {
    method: &'static str,
    host: &'static str,
    path: &'static str,
    header: Option<(&'static str, &'static str)>,
    query: Option<(&'static str, &'static str)>,
    loopback: bool,
    entry_point: u16,
    tls: bool,
}

#[derive(Clone, Debug)]
struct Routed {
    model: Model,
    priority: i64,
    entry_points: Vec<u16>,
    tls: bool,
}

impl Model {
    /// The text; `style` varies blanks, quotes and spelling without changing the meaning.
    fn text(&self, style: usize) -> String {
        let call = |name: &str, args: &[&str]| {
            let quote = if style.is_multiple_of(2) { '`' } else { '"' };
            let name = if style.is_multiple_of(3) {
                name.to_lowercase()
            } else {
                name.to_owned()
            };
            let args: Vec<_> = args.iter().map(|arg| format!("{quote}{arg}{quote}")).collect();
            format!(
                "{name}({})",
                args.join(if style.is_multiple_of(5) { " , " } else { "," })
            )
        };
        let join = |branches: &[Model], operator: &str| {
            let branches: Vec<_> = branches.iter().map(|branch| branch.text(style / 2)).collect();
            format!(
                "({})",
                branches.join(if style.is_multiple_of(2) {
                    operator.trim()
                } else {
                    operator
                })
            )
        };
        match self {
            Self::Host(name) => call("Host", &[name]),
            Self::Wildcard(parent) => call("Host", &[&format!("*.{parent}")]),
            Self::AnyHost => call("Host", &["*"]),
            Self::HostEndsInTest => call("HostRegexp", &["[.]test$"]),
            Self::Path(path) => call("Path", &[path]),
            Self::PathPrefix(prefix) => call("PathPrefix", &[prefix]),
            Self::PathHasDigit => call("PathRegexp", &["[0-9]"]),
            Self::Method(method) => call("Method", &[method]),
            Self::Header(name, value) => call("Header", &[name, value]),
            Self::Query(key, value) => call("Query", &[key, value]),
            Self::Loopback => call("ClientIP", &["127.0.0.0/8"]),
            Self::Not(inner) => format!("!{}", inner.text(style / 3)),
            Self::All(branches) => join(branches, " && "),
            Self::Any(branches) => join(branches, "\n|| "),
        }
    }

    fn matches(&self, sample: &Sample) -> bool {
        match self {
            Self::Host(name) => sample.host == *name,
            Self::Wildcard(parent) => {
                let labels: Vec<_> = sample.host.split('.').collect();
                labels[1..].join(".") == *parent
            }
            Self::AnyHost => true,
            Self::HostEndsInTest => sample.host.ends_with(".test"),
            Self::Path(path) => sample.path == *path,
            Self::PathPrefix(prefix) => sample.path.starts_with(prefix),
            Self::PathHasDigit => sample.path.chars().any(|c| c.is_ascii_digit()),
            Self::Method(method) => sample.method == *method,
            Self::Header(name, value) => sample.header == Some((name, value)),
            Self::Query(key, value) => sample.query == Some((key, value)),
            Self::Loopback => sample.loopback,
            Self::Not(inner) => !inner.matches(sample),
            Self::All(branches) => branches.iter().all(|branch| branch.matches(sample)),
            Self::Any(branches) => branches.iter().any(|branch| branch.matches(sample)),
        }
    }

    fn names_its_hosts(&self) -> bool {
        match self {
            Self::Host(_) => true,
            Self::All(branches) => branches.iter().any(Self::names_its_hosts),
            Self::Any(branches) => branches.iter().all(Self::names_its_hosts),
            _ => false,
        }
    }
}

impl Sample {
    fn line(&self) -> String {
        let query = self
            .query
            .map(|(key, value)| format!("?{key}={value}"))
            .unwrap_or_default();
        let header = self
            .header
            .map(|(name, value)| format!(" | {name}: {value}"))
            .unwrap_or_default();
        let client = if self.loopback { "127.0.0.1" } else { "10.0.0.1" };
        format!(
            "{} {} {}{query}{header} | @{client}",
            self.method, self.host, self.path
        )
    }
}

const HOSTS: [&str; 6] = ["a.test", "b.test", "a.b.test", "x.org", "a.x.org", "test"];
const PARENTS: [&str; 4] = ["test", "b.test", "x.org", "org"];
const PATHS: [&str; 6] = ["/", "/a", "/a/b", "/ab", "/1", "/a/2"];
const METHODS: [&str; 3] = ["GET", "POST", "HEAD"];
const PAIRS: [(&str, &str); 3] = [("k", "v"), ("k", "w"), ("j", "v")];

fn model() -> impl Strategy<Value = Model> {
    let leaf = prop_oneof![
        6 => prop::sample::select(&HOSTS[..]).prop_map(Model::Host),
        3 => prop::sample::select(&PARENTS[..]).prop_map(Model::Wildcard),
        1 => Just(Model::AnyHost),
        1 => Just(Model::HostEndsInTest),
        3 => prop::sample::select(&PATHS[..]).prop_map(Model::Path),
        3 => prop::sample::select(&PATHS[..]).prop_map(Model::PathPrefix),
        1 => Just(Model::PathHasDigit),
        1 => prop::sample::select(&METHODS[..]).prop_map(Model::Method),
        1 => prop::sample::select(&PAIRS[..]).prop_map(|(name, value)| Model::Header(name, value)),
        1 => prop::sample::select(&PAIRS[..]).prop_map(|(key, value)| Model::Query(key, value)),
        1 => Just(Model::Loopback),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            1 => inner.clone().prop_map(|inner| Model::Not(Box::new(inner))),
            2 => prop::collection::vec(inner.clone(), 2..4).prop_map(Model::All),
            2 => prop::collection::vec(inner, 2..4).prop_map(Model::Any),
        ]
    })
}

fn sample() -> impl Strategy<Value = Sample> {
    (
        prop::sample::select(&METHODS[..]),
        prop::sample::select(&HOSTS[..]),
        prop::sample::select(&PATHS[..]),
        prop::option::of(prop::sample::select(&PAIRS[..])),
        prop::option::of(prop::sample::select(&PAIRS[..])),
        any::<bool>(),
        0u16..2,
        any::<bool>(),
    )
        .prop_map(
            |(method, host, path, header, query, loopback, entry_point, tls)| Sample {
                method,
                host,
                path,
                header,
                query,
                loopback,
                entry_point,
                tls,
            },
        )
}

fn routed() -> impl Strategy<Value = Routed> {
    let priority = prop_oneof![3 => Just(0i64), 2 => -2i64..3, 1 => Just(20i64)];
    let entry_points = prop::sample::select(vec![vec![0], vec![1], vec![0, 1], vec![1, 0, 1]]);
    (model(), priority, entry_points, prop::bool::weighted(0.3)).prop_map(
        |(model, priority, entry_points, tls)| Routed {
            model,
            priority,
            entry_points,
            tls,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn decide_agrees_with_the_reference(
        table in prop::collection::vec((routed(), 0usize..60), 0..20),
        samples in prop::collection::vec(sample(), 1..20),
    ) {
        let service = service("s", vec![]);
        let names: Vec<_> = (0..table.len()).map(|number| format!("r{number:02}")).collect();
        let texts: Vec<_> = table.iter().map(|(routed, style)| routed.model.text(*style)).collect();
        let rows = table.iter().zip(&names).zip(&texts).map(|(((routed, _), name), rule)| Row {
            name,
            rule,
            priority: routed.priority,
            entry_points: &routed.entry_points,
            tls: routed.tls,
        });
        // The order in which routers come must not matter.
        let snapshot = snapshot(rows.map(|row| row.forward(&service)).rev().collect());

        for sample in &samples {
            let expected = table
                .iter()
                .enumerate()
                .filter(|(_, (routed, _))| {
                    routed.tls == sample.tls
                        && routed.entry_points.contains(&sample.entry_point)
                        && routed.model.matches(sample)
                })
                .max_by_key(|(number, (routed, _))| {
                    let length = texts[*number].len();
                    let priority = if routed.priority == 0 { i64::try_from(length).unwrap() } else { routed.priority };
                    (priority, length, routed.model.names_its_hosts(), std::cmp::Reverse(*number))
                })
                .map(|(number, _)| names[number].as_str());
            let asked = Asked::parse(&sample.line()).unwrap().on(sample.entry_point, sample.tls);
            let decided = decide(&snapshot, &asked.meta());
            prop_assert_eq!(decided.router().map(|router| router.name()), expected, "{:?} {:?}", sample, texts);

            let explained = explain(&snapshot, &asked.meta());
            prop_assert_eq!(explained.router.as_ref().map(|router| router.name.as_str()), expected);
            let won = explained.considered.iter().filter(|considered| considered.verdict == Verdict::Won).count();
            prop_assert_eq!(won, usize::from(expected.is_some()));
            for considered in &explained.considered {
                if let Verdict::Refused { because } = &considered.verdict {
                    prop_assert!(!because.is_empty(), "{} lost without a reason", considered.router.name);
                }
            }
            let listed = explained.considered.len() + explained.considered_more + explained.other_hosts;
            let in_table = table
                .iter()
                .filter(|(routed, _)| routed.tls == sample.tls && routed.entry_points.contains(&sample.entry_point));
            prop_assert_eq!(listed, in_table.count(), "every router of the table is accounted for");
        }
    }
}
