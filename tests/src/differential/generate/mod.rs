//! Cases from a seed: the same seed and number give the same case, whatever else is run.

mod balance;
mod docker;
mod labels;
mod middleware;
mod pattern;
mod requests;
mod routing;
mod rule;
mod services;
mod template;
mod tls;
mod vocabulary;

use fastrand::Rng;

use self::template::Template;
use super::case::{Case, PLACES, Setting};

/// A case that is being written.
#[derive(Debug)]
struct Draft {
    case: Case,
    /// Third byte of the addresses of this run.
    site: u8,
}

impl Draft {
    fn new(number: u64, site: u8) -> Self {
        Self {
            case: Case {
                number,
                ..Case::default()
            },
            site,
        }
    }

    /// A name that no other case has.
    fn name(&self, name: &str) -> String {
        format!("c{}-{name}", self.case.number)
    }
}

/// What cases are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// Rules, priorities, entry points, TLS, services.
    Routing,
    /// Which servers get requests: shares, cookies, services made of services.
    Balance,
    /// What the Docker provider makes of containers.
    Docker,
    /// TLS and HTTP/2.
    Tls,
    /// Middlewares of all kinds.
    Middlewares,
    /// This kind of middleware.
    Middleware(String),
    /// Each in turn.
    All,
}

impl std::str::FromStr for About {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "routing" => Ok(Self::Routing),
            "balance" => Ok(Self::Balance),
            "docker" => Ok(Self::Docker),
            "tls" => Ok(Self::Tls),
            "middlewares" => Ok(Self::Middlewares),
            "all" => Ok(Self::All),
            kind if middleware::kinds().contains(&kind) => Ok(Self::Middleware(kind.to_owned())),
            _ => Err(format!(
                "write routing, balance, docker, tls, middlewares, all, or one of {}",
                middleware::kinds().join(", ")
            )),
        }
    }
}

impl std::fmt::Display for About {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Routing => "routing",
            Self::Balance => "balance",
            Self::Docker => "docker",
            Self::Tls => "tls",
            Self::Middlewares => "middlewares",
            Self::Middleware(kind) => kind,
            Self::All => "all",
        })
    }
}

/// Neighbouring numbers must not give neighbouring sequences.
fn sequence(seed: u64, number: u64) -> Rng {
    Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number.wrapping_mul(0xD1B5_4A32_D192_ED03))
}

/// Of so many batches with all kinds of cases one has a setting of its own, as starting anew takes its time.
const VARIED: u64 = 4;

/// What both proxies are started with for a batch, and what its cases have to know of it.
fn surroundings(about: &About, seed: u64, batch: u64) -> (Setting, Template) {
    let mut rng = sequence(!seed, batch);
    match about {
        About::Docker => docker::surroundings(&mut rng),
        About::Tls => (tls::setting(&mut rng), Template::default()),
        About::All if batch % VARIED == VARIED - 1 => docker::surroundings(&mut rng),
        _ => (Setting::default(), Template::default()),
    }
}

/// What both proxies are started with for a batch.
pub(super) fn setting(about: &About, seed: u64, batch: u64) -> Setting {
    surroundings(about, seed, batch).0
}

/// The case of this number.
pub(super) fn case(about: &About, seed: u64, number: u64, site: u8) -> Case {
    let mut rng = sequence(seed, number);
    let docker = |rng: &mut Rng| {
        let (setting, template) = surroundings(about, seed, number / PLACES);
        docker::case(rng, number, site, &setting, &template)
    };
    match about {
        About::Routing => routing::case(&mut rng, number, site),
        About::Balance => balance::case(&mut rng, number, site),
        About::Docker => docker(&mut rng),
        About::Tls => tls::case(&mut rng, number, site),
        About::Middlewares => middleware::case(&mut rng, number, site, None),
        About::Middleware(kind) => middleware::case(&mut rng, number, site, Some(kind)),
        About::All => match number % 8 {
            0 => balance::case(&mut rng, number, site),
            5 => tls::case(&mut rng, number, site),
            6 => docker(&mut rng),
            even if even % 2 == 0 => routing::case(&mut rng, number, site),
            _ => middleware::case(&mut rng, number, site, None),
        },
    }
}
