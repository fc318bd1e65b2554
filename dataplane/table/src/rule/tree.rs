//! The boolean expression of a rule, whatever its matchers are.

use std::borrow::Cow;

use smallvec::SmallVec;

/// The shape of an expression; a leaf is a place in [`Expression::matchers`]. `All` and `Any` have at least two
/// branches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tree {
    Leaf(u16),
    Not(Box<Tree>),
    All(Box<[Tree]>),
    Any(Box<[Tree]>),
}

/// Matchers and how they are joined.
///
/// Nearly every rule is one matcher or a conjunction of a few. Those need no tree: everything that a decision reads
/// of them lies in one place.
#[derive(Debug)]
pub(crate) struct Expression<M> {
    /// As written, left to right.
    matchers: SmallVec<[M; 2]>,
    /// `None`: all must match.
    shape: Option<Box<Tree>>,
}

impl<M> Expression<M> {
    /// `matchers` are the leaves of `tree`, in order.
    pub(super) fn new(matchers: SmallVec<[M; 2]>, tree: Tree) -> Self {
        let shape = Some(Box::new(tree)).filter(|tree| **tree != conjunction(matchers.len()));
        Self { matchers, shape }
    }

    /// The expression's value, where `test` says the value of a matcher. Branches are tried as written, up to the
    /// first that settles the matter.
    pub(crate) fn eval(&self, test: &impl Fn(&M) -> bool) -> bool {
        match &self.shape {
            None => self.matchers.iter().all(test),
            Some(tree) => self.value(tree, test),
        }
    }

    fn value(&self, tree: &Tree, test: &impl Fn(&M) -> bool) -> bool {
        match tree {
            Tree::Leaf(place) => self.matcher(*place).is_some_and(test),
            Tree::Not(inner) => !self.value(inner, test),
            Tree::All(branches) => branches.iter().all(|branch| self.value(branch, test)),
            Tree::Any(branches) => branches.iter().any(|branch| self.value(branch, test)),
        }
    }

    /// Reports the matchers because of which the expression is false, which it must be: the first failing branch of
    /// a conjunction, every branch of a failing disjunction. With each comes the verdict that was wanted of it.
    pub(crate) fn blame(&self, test: &impl Fn(&M) -> bool, report: &mut impl FnMut(&M, bool)) {
        self.blame_for(&self.tree(), false, test, report);
    }

    fn blame_for(
        &self,
        tree: &Tree,
        value: bool,
        test: &impl Fn(&M) -> bool,
        report: &mut impl FnMut(&M, bool),
    ) {
        match (tree, value) {
            (Tree::Leaf(place), value) => {
                if let Some(matcher) = self.matcher(*place).filter(|matcher| test(matcher) == value) {
                    report(matcher, !value);
                }
            }
            (Tree::Not(inner), value) => self.blame_for(inner, !value, test, report),
            (Tree::All(branches), false) | (Tree::Any(branches), true) => {
                if let Some(branch) = branches.iter().find(|branch| self.value(branch, test) == value) {
                    self.blame_for(branch, value, test, report);
                }
            }
            (Tree::All(branches), true) | (Tree::Any(branches), false) => {
                if self.value(tree, test) == value {
                    for branch in branches {
                        self.blame_for(branch, value, test, report);
                    }
                }
            }
        }
    }

    /// Visits all matchers, left to right.
    pub(super) fn each(&self, visit: &mut impl FnMut(&M)) {
        self.matchers.iter().for_each(visit);
    }

    /// Visits the matchers that are not under an odd number of negations, left to right.
    pub(crate) fn each_positive<'e>(&'e self, visit: &mut impl FnMut(&'e M)) {
        self.any_signed(&mut |matcher, positive| {
            if positive {
                visit(matcher);
            }
            false
        });
    }

    /// Whether `test` accepts one of the matchers, each given with whether it is under an even number of negations;
    /// left to right, up to the first. Allocates nothing.
    pub(super) fn any_signed<'e>(&'e self, test: &mut impl FnMut(&'e M, bool) -> bool) -> bool {
        match &self.shape {
            None => self.matchers.iter().any(|matcher| test(matcher, true)),
            Some(tree) => self.any_signed_in(tree, true, test),
        }
    }

    fn any_signed_in<'e>(
        &'e self,
        tree: &Tree,
        positive: bool,
        test: &mut impl FnMut(&'e M, bool) -> bool,
    ) -> bool {
        match tree {
            Tree::Leaf(place) => self
                .matcher(*place)
                .is_some_and(|matcher| test(matcher, positive)),
            Tree::Not(inner) => self.any_signed_in(inner, !positive, test),
            Tree::All(branches) | Tree::Any(branches) => branches
                .iter()
                .any(|branch| self.any_signed_in(branch, positive, test)),
        }
    }

    /// The shape, also where it is not stored.
    pub(super) fn tree(&self) -> Cow<'_, Tree> {
        match &self.shape {
            Some(tree) => Cow::Borrowed(tree),
            None => Cow::Owned(conjunction(self.matchers.len())),
        }
    }

    /// The matcher of a leaf.
    pub(super) fn matcher(&self, place: u16) -> Option<&M> {
        self.matchers.get(usize::from(place))
    }
}

/// All of the first `count` leaves.
fn conjunction(count: usize) -> Tree {
    let mut leaves: Vec<_> = (0u16..).take(count).map(Tree::Leaf).collect();
    match leaves.pop() {
        Some(only) if leaves.is_empty() => only,
        last => Tree::All(leaves.into_iter().chain(last).collect()),
    }
}
