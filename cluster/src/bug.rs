//! Rules left out on purpose, to see that the checker of real nodes notices (`cargo xtask cluster-faults --bug`).
//!
//! Only with the feature `deliberate-bugs`, and then only the one that the environment names. No release has it: the build
//! fails, unless `deliberate-bugs-in-release` says that this is meant.

#[cfg(all(
    feature = "deliberate-bugs",
    not(debug_assertions),
    not(feature = "deliberate-bugs-in-release")
))]
compile_error!(
    "the feature deliberate-bugs breaks what leases promise, and is for the checker alone: a release must not have it"
);

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Expiry compares the token only.
    ExpiryIgnoresRenewal,
    /// The leader waits for half of a lease's life.
    ExpiresEarly,
    /// The holder takes a lease for five times as long as it is.
    LongDeadline,
    /// A read that has to be current does not ask whether the leader still is one, nor wait.
    StaleReads,
}

/// Whether this rule is left out: never, without the feature.
#[cfg(not(feature = "deliberate-bugs"))]
pub(crate) const fn is(_: Bug) -> bool {
    false
}

/// Whether this rule is left out.
#[cfg(feature = "deliberate-bugs")]
pub(crate) fn is(bug: Bug) -> bool {
    use std::sync::LazyLock;
    static NAMED: LazyLock<Option<String>> =
        LazyLock::new(|| std::env::var("CONSTELLATION_DELIBERATE_BUG").ok());
    let name = match bug {
        Bug::ExpiryIgnoresRenewal => "expiry-ignores-renewal",
        Bug::ExpiresEarly => "expires-early",
        Bug::LongDeadline => "long-deadline",
        Bug::StaleReads => "stale-reads",
    };
    NAMED.as_deref() == Some(name)
}
