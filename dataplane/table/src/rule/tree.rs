//! The boolean tree of a rule, whatever its matchers are.

/// A rule as a tree. `All` and `Any` have at least two branches.
#[derive(Debug)]
pub(crate) enum Tree<M> {
    Leaf(M),
    Not(Box<Tree<M>>),
    All(Box<[Tree<M>]>),
    Any(Box<[Tree<M>]>),
}

impl<M> Tree<M> {
    /// The rule's value, where `test` says the value of a matcher. Branches are tried as written, up to the first
    /// that settles the matter.
    pub(crate) fn eval(&self, test: &impl Fn(&M) -> bool) -> bool {
        match self {
            Self::Leaf(matcher) => test(matcher),
            Self::Not(inner) => !inner.eval(test),
            Self::All(branches) => branches.iter().all(|branch| branch.eval(test)),
            Self::Any(branches) => branches.iter().any(|branch| branch.eval(test)),
        }
    }

    /// Reports the matchers because of which the tree has `value`, which it must have: the first failing branch of a
    /// conjunction, every branch of a failing disjunction. With each comes the verdict that was wanted of it.
    pub(crate) fn blame(&self, value: bool, test: &impl Fn(&M) -> bool, report: &mut impl FnMut(&M, bool)) {
        match (self, value) {
            (Self::Leaf(matcher), value) => {
                if test(matcher) == value {
                    report(matcher, !value);
                }
            }
            (Self::Not(inner), value) => inner.blame(!value, test, report),
            (Self::All(branches), false) | (Self::Any(branches), true) => {
                if let Some(branch) = branches.iter().find(|branch| branch.eval(test) == value) {
                    branch.blame(value, test, report);
                }
            }
            (Self::All(branches), true) | (Self::Any(branches), false) => {
                if self.eval(test) == value {
                    for branch in branches {
                        branch.blame(value, test, report);
                    }
                }
            }
        }
    }

    /// Visits the matchers that are not under an odd number of negations, left to right.
    pub(crate) fn each_positive<'t>(&'t self, visit: &mut impl FnMut(&'t M)) {
        self.each_with_sign(true, visit);
    }

    fn each_with_sign<'t>(&'t self, positive: bool, visit: &mut impl FnMut(&'t M)) {
        match self {
            Self::Leaf(matcher) if positive => visit(matcher),
            Self::Leaf(_) => {}
            Self::Not(inner) => inner.each_with_sign(!positive, visit),
            Self::All(branches) | Self::Any(branches) => {
                for branch in branches {
                    branch.each_with_sign(positive, visit);
                }
            }
        }
    }
}
