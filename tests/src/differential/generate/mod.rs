//! Cases from a seed: the same seed and number give the same case, whatever else is run.

mod balance;
mod labels;
mod middleware;
mod pattern;
mod requests;
mod routing;
mod rule;
mod services;
mod vocabulary;

use fastrand::Rng;

use super::case::Case;

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
            "middlewares" => Ok(Self::Middlewares),
            "all" => Ok(Self::All),
            kind if middleware::kinds().contains(&kind) => Ok(Self::Middleware(kind.to_owned())),
            _ => Err(format!(
                "write routing, balance, middlewares, all, or one of {}",
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
            Self::Middlewares => "middlewares",
            Self::Middleware(kind) => kind,
            Self::All => "all",
        })
    }
}

/// The case of this number.
pub(super) fn case(about: &About, seed: u64, number: u64, site: u8) -> Case {
    // Neighbouring numbers must not give neighbouring sequences.
    let mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number.wrapping_mul(0xD1B5_4A32_D192_ED03);
    let mut rng = Rng::with_seed(mixed);
    match about {
        About::Routing => routing::case(&mut rng, number, site),
        About::Balance => balance::case(&mut rng, number, site),
        About::Middlewares => middleware::case(&mut rng, number, site, None),
        About::Middleware(kind) => middleware::case(&mut rng, number, site, Some(kind)),
        About::All => match number % 8 {
            0 => balance::case(&mut rng, number, site),
            even if even % 2 == 0 => routing::case(&mut rng, number, site),
            _ => middleware::case(&mut rng, number, site, None),
        },
    }
}
