//! What happened in a run.

/// What must not happen, in words.
pub(crate) type Violation = String;

macro_rules! counts {
    ($($name:ident),*) => {
        /// What happened, to see that it did.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub(crate) struct Counts { $(pub(crate) $name: u64),* }

        impl Counts {
            pub(crate) fn add(&mut self, other: &Self) { $(self.$name += other.$name;)* }

            pub(crate) fn named(&self) -> Vec<(&'static str, u64)> { vec![$((stringify!($name), self.$name)),*] }
        }
    };
}

counts!(
    grants,
    renewals,
    releases,
    transfers,
    expiries,
    void_expiries,
    refusals,
    stale,
    repetitions,
    elections,
    pauses,
    crashes,
    isolations,
    kernel_writes,
    late_kernel_writes,
    histories
);
