//! What a checker says when a property does not hold.

use std::fmt;

/// A property that does not hold, and the facts in conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its id in SIMULATION.md §6, or `panic`.
    pub id: &'static str,
    /// The seats of the nodes concerned.
    pub nodes: Vec<usize>,
    /// The facts in conflict.
    pub what: String,
}

impl Violation {
    /// `id` does not hold.
    #[must_use]
    pub fn new(id: &'static str, nodes: &[usize], what: String) -> Self {
        Self {
            id,
            nodes: nodes.to_vec(),
            what,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id, self.what)
    }
}

/// Whether a property holds.
pub type Verdict = Result<(), Violation>;

/// Fails with `id` unless `holds`.
///
/// # Errors
/// The violation.
pub fn ensure(
    holds: bool,
    id: &'static str,
    nodes: &[usize],
    what: impl FnOnce() -> String,
) -> Verdict {
    if holds {
        Ok(())
    } else {
        Err(Violation::new(id, nodes, what()))
    }
}

#[cfg(test)]
pub(crate) fn id_of(verdict: &Verdict) -> &'static str {
    verdict
        .as_ref()
        .err()
        .map_or("holds", |violation| violation.id)
}
