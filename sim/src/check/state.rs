//! Equal stores at equal indexes: E1, E3, E4, E5.

use std::collections::BTreeMap;

use quorate_core::store::Tree;
use quorate_core::{ClusterTime, Index, LogId, Revision};

use super::{Verdict, Violation, ensure};
use crate::model::Model;

/// A store at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The last entry applied.
    pub applied: LogId,
    /// Its set hash: keys, order of TTLs, clock, sessions, history.
    pub hash: u128,
    /// Its counter.
    pub revision: Revision,
    /// Its clock.
    pub clock: ClusterTime,
    /// The oldest event it keeps.
    pub oldest: Revision,
}

/// What the first store seen at each index looked like.
#[derive(Clone, Debug, Default)]
pub struct States {
    first: BTreeMap<Index, (usize, Shown)>,
}

impl States {
    /// `seat` shows its store; `restarted` when it was just loaded from its own disk.
    ///
    /// # Errors
    /// E1: another store was different at this index; E4, if this one was just loaded. E5: the
    /// model has another counter or clock.
    pub fn shows(&mut self, seat: usize, shown: Shown, restarted: bool, model: &Model) -> Verdict {
        let index = shown.applied.index;
        let &mut (other, first) = self.first.entry(index).or_insert((seat, shown));
        let id = if restarted { "E4" } else { "E1" };
        ensure(first == shown, id, &[other, seat], || {
            format!("at index {index}, n{other} has {first:?}, and n{seat} has {shown:?}")
        })?;
        let revision = model.revision_at(index);
        ensure(revision == Some(shown.revision.0), "E5", &[seat], || {
            format!(
                "at index {index}, n{seat} counts {}, the model {revision:?}",
                shown.revision
            )
        })
    }

    /// `seat` shows all it holds at `path` and below, at `applied`.
    ///
    /// # Errors
    /// E5: the model holds something else.
    pub fn holds(
        seat: usize,
        applied: Index,
        tree: Option<&Tree>,
        path: &quorate_core::store::Path,
        model: &Model,
    ) -> Verdict {
        let expected = model.get(applied, path, true);
        let agree = match (tree, &expected) {
            (Some(tree), Ok(found)) => found.agrees(tree),
            (None, Err(_)) => true,
            (Some(_), Err(_)) | (None, Ok(_)) => false,
        };
        if agree {
            return Ok(());
        }
        Err(Violation::new(
            "E5",
            &[seat],
            format!("at index {applied}, n{seat} holds {tree:?} at {path}; the model {expected:?}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::raft::Payload;
    use quorate_core::store::{NodeState, Path};
    use quorate_core::{ChangeId, Term};

    use super::super::id_of;
    use super::*;

    fn shown(hash: u128, revision: u64) -> Shown {
        Shown {
            applied: LogId {
                term: Term(1),
                index: Index(1),
            },
            hash,
            revision: Revision(revision),
            clock: ClusterTime::ZERO,
            oldest: Revision::ZERO,
        }
    }

    fn model() -> Model {
        let mut model = Model::new();
        model.apply(ClusterTime::ZERO, &Payload::Empty);
        model
    }

    #[test]
    fn e1_e4_two_states_at_one_index() {
        let mut states = States::default();
        assert_eq!(states.shows(0, shown(7, 0), false, &model()), Ok(()));
        assert_eq!(states.shows(1, shown(7, 0), true, &model()), Ok(()));
        assert_eq!(id_of(&states.shows(1, shown(8, 0), false, &model())), "E1");
        assert_eq!(id_of(&states.shows(0, shown(8, 0), true, &model())), "E4");
    }

    #[test]
    fn e5_a_store_unlike_the_model() {
        let mut states = States::default();
        assert_eq!(id_of(&states.shows(0, shown(7, 1), false, &model())), "E5");
        let mut tree = Tree {
            path: Path::root(),
            node: NodeState {
                value: None,
                created: ChangeId::ZERO,
                modified: ChangeId::ZERO,
                lease: None,
            },
            children: Vec::new(),
        };
        let root = Path::root();
        assert_eq!(
            States::holds(0, Index(1), Some(&tree), &root, &model()),
            Ok(())
        );
        tree.children.push(tree.clone());
        assert_eq!(
            id_of(&States::holds(0, Index(1), Some(&tree), &root, &model())),
            "E5"
        );
    }
}
