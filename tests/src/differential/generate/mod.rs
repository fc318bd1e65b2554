//! Cases from a seed: the same seed and number give the same case, whatever else is run.

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

/// The case of this number.
pub(super) fn case(seed: u64, number: u64, site: u8) -> Case {
    // Neighbouring numbers must not give neighbouring sequences.
    let mut rng = Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number.wrapping_mul(0xD1B5_4A32_D192_ED03));
    routing::case(&mut rng, number, site)
}
