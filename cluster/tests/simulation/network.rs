//! How long a message takes, and whether it arrives, once or twice.

use fastrand::Rng;

pub(crate) const MS: u64 = 1_000;

/// When a message sent now arrives, in microseconds from now: nobody, once, or twice.
pub(crate) fn arrivals(rng: &mut Rng, calm: bool) -> Vec<u64> {
    let quick = |rng: &mut Rng| rng.u64(100..=5 * MS);
    if calm {
        return vec![quick(rng)];
    }
    let delay = |rng: &mut Rng| match rng.u32(0..100) {
        0..80 => rng.u64(100..=5 * MS),
        80..95 => rng.u64(5 * MS..=150 * MS),
        _ => rng.u64(150 * MS..=3_000 * MS),
    };
    match rng.u32(0..100) {
        0..6 => vec![],
        6..14 => vec![delay(rng), delay(rng)],
        _ => vec![delay(rng)],
    }
}
