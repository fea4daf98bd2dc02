//! Equal stores at equal indexes: E1, E3, E4, E5; and how much they keep: W6.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_core::store::{Member, Settings, SliceInfo, Store, Tree};
use quorate_core::{ClusterTime, Index, LogId, NodeId, Revision};

use super::{Verdict, Violation, ensure};
use crate::ledger::Ledger;
use crate::model::Model;
use crate::tables::Rows;

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

/// Where what a store shows comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It applied entries.
    Log,
    /// It was just loaded from its own disk.
    Disk,
    /// It just came as a snapshot.
    Snapshot,
}

impl Shown {
    /// What `store` shows.
    #[must_use]
    pub fn of(store: &Store) -> Self {
        Self {
            applied: store.applied(),
            hash: store.hash(),
            revision: store.revision(),
            clock: store.clock(),
            oldest: store.oldest(),
        }
    }
}

/// The history of a store at one moment.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// The oldest event it answers for.
    pub oldest: Revision,
    /// Its counter.
    pub revision: Revision,
    /// Its clock.
    pub clock: ClusterTime,
    /// Bytes of all history.
    pub bytes: u64,
    /// The closed slices, oldest first.
    pub slices: Vec<Arc<SliceInfo>>,
}

impl Kept {
    /// The history of `store`.
    #[must_use]
    pub fn of(store: &Store) -> Self {
        Self {
            oldest: store.oldest(),
            revision: store.revision(),
            clock: store.clock(),
            bytes: store.history_bytes(),
            slices: store.slices().cloned().collect(),
        }
    }

    /// `seat` keeps as much history as `limits` say, and no more, when it kept `before` earlier,
    /// within the same limits. By their number, now and earlier, events from `by_count` on are
    /// kept.
    ///
    /// # Errors
    /// W6: something is kept beyond its time, or was dropped before it.
    pub fn is_due(&self, seat: usize, before: &Self, limits: &Settings, by_count: u64) -> Verdict {
        let too_old = |slice: &SliceInfo| self.clock.since(slice.at) > limits.history_age;
        let wrong = |what: &str| {
            let (oldest, first) = (self.oldest, self.slices.first());
            let at = format!("{} of {} bytes", self.revision, self.bytes);
            let what = format!("n{seat} at {at} keeps from {oldest}, {first:?}: {what}");
            Err(Violation::new("W6", &[seat], what))
        };
        let Some(first) = self.slices.first() else {
            return if self.oldest.0 < by_count {
                wrong("more events than are to be kept")
            } else {
                Ok(())
            };
        };
        if self.oldest.0 != by_count.max(first.id.revision.0) {
            return wrong("the oldest is not where count and slices put it");
        }
        if too_old(first) || self.bytes > limits.history_bytes {
            return wrong("its first slice was to be dropped");
        }
        let last_dropped = before
            .slices
            .iter()
            .find(|slice| slice.last_index.next() == first.id.revision);
        match last_dropped {
            Some(slice)
                if !too_old(slice)
                    && slice.last_index.0 >= by_count
                    && self.bytes + slice.bytes <= limits.history_bytes =>
            {
                wrong("the slice before was not to be dropped")
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// What the first store seen at each index looked like.
#[derive(Clone, Debug, Default)]
pub struct States {
    first: BTreeMap<Index, (usize, Shown)>,
}

impl States {
    /// `seat` shows its store.
    ///
    /// # Errors
    /// E1: another store was different at this index; E4, if this one was just loaded; R15, if it
    /// came as a snapshot. E5: the model has another counter or clock.
    pub fn shows(&mut self, seat: usize, shown: Shown, origin: Origin, model: &Model) -> Verdict {
        let index = shown.applied.index;
        let &mut (other, first) = self.first.entry(index).or_insert((seat, shown));
        let id = match origin {
            Origin::Log => "E1",
            Origin::Disk => "E4",
            Origin::Snapshot => "R15",
        };
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

    /// `seat` has received this as a snapshot.
    ///
    /// # Errors
    /// R15: it is not the state of the ledger at its index.
    pub fn receives(&mut self, seat: usize, shown: Shown, ledger: &Ledger) -> Verdict {
        let index = shown.applied.index;
        let entry = ledger.get(index).map(|entry| entry.id);
        ensure(entry == Some(shown.applied), "R15", &[seat], || {
            let last = shown.applied;
            format!("n{seat} is sent a snapshot of {last}, where the ledger has {entry:?}")
        })?;
        let (other, first) = *self.first.entry(index).or_insert((seat, shown));
        ensure(first == shown, "R15", &[other, seat], || {
            format!("at index {index}, n{other} had {first:?}, and n{seat} is sent {shown:?}")
        })
    }

    /// `seat` has loaded these rows, and `store` came of it.
    ///
    /// # Errors
    /// E2: it would be saved as other rows.
    pub fn restored(seat: usize, store: &Store, rows: &Rows) -> Verdict {
        let again: Rows = store.encode().collect();
        ensure(again == *rows, "E2", &[seat], || {
            let key = again.iter().find(|(key, row)| rows.get(*key) != Some(*row));
            let lost = rows.keys().find(|key| !again.contains_key(*key));
            let last = store.applied();
            format!("n{seat} would save the snapshot of {last} as other rows: {key:x?}, {lost:x?}")
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

    /// `seat` knows these members at `applied`.
    ///
    /// # Errors
    /// E5: the last that was made known of them is something else.
    pub fn knows(
        seat: usize,
        applied: Index,
        members: &BTreeMap<NodeId, Arc<Member>>,
        model: &Model,
    ) -> Verdict {
        let known = members.iter();
        let known = known.map(|(node, member)| (*node, &member.name, &member.client_urls));
        let expected = model.members(applied);
        let expected = expected.map(|said| (said.member, &said.name, &said.client_urls));
        ensure(known.eq(expected), "E5", &[seat], || {
            let expected: Vec<_> = model.members(applied).collect();
            format!("at index {applied}, n{seat} knows {members:?}; the model {expected:?}")
        })
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::raft::Payload;
    use quorate_core::store::{Append, Command, NodeState, Operation, Path, Publish};
    use quorate_core::{ChangeId, Term};

    use super::super::id_of;
    use super::*;
    use crate::clock::Time;
    use crate::ledger::Committed;

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
        assert_eq!(states.shows(0, shown(7, 0), Origin::Log, &model()), Ok(()));
        assert_eq!(states.shows(1, shown(7, 0), Origin::Disk, &model()), Ok(()));
        assert_eq!(
            id_of(&states.shows(1, shown(8, 0), Origin::Log, &model())),
            "E1"
        );
        assert_eq!(
            id_of(&states.shows(0, shown(8, 0), Origin::Disk, &model())),
            "E4"
        );
        let came = states.shows(0, shown(8, 0), Origin::Snapshot, &model());
        assert_eq!(id_of(&came), "R15");
    }

    #[test]
    fn r15_a_snapshot_of_another_state() {
        let mut ledger = Ledger::default();
        ledger.push(Committed {
            id: shown(7, 0).applied,
            chain: 0,
            stamp: ClusterTime::ZERO,
            payload: Payload::Empty,
            stamped: Time(0),
            committed_in: Term(1),
            committed: Time(0),
        });
        let mut states = States::default();
        assert_eq!(states.receives(0, shown(7, 0), &ledger), Ok(()));
        assert_eq!(states.receives(1, shown(7, 0), &ledger), Ok(()));
        assert_eq!(id_of(&states.receives(1, shown(8, 0), &ledger)), "R15");
        let other = Shown {
            applied: LogId {
                term: Term(2),
                index: Index(1),
            },
            ..shown(7, 0)
        };
        assert_eq!(id_of(&states.receives(1, other, &ledger)), "R15");
    }

    #[test]
    fn e2_rows_that_do_not_come_back() {
        let mut store = Store::new();
        let id = shown(7, 0).applied;
        store.skip(id, ClusterTime(5));
        let mut rows: Rows = store.encode().collect();
        let loaded = Store::load(rows.iter()).expect("whole");
        assert_eq!(States::restored(0, &loaded, &rows), Ok(()));
        rows.pop_last();
        assert_eq!(id_of(&States::restored(0, &loaded, &rows)), "E2");
    }

    #[test]
    fn w6_history_kept_too_long_or_dropped_too_early() {
        let slice = |first, last| {
            let id = |revision| ChangeId {
                revision: Revision(revision),
                sub: 0,
            };
            Arc::new(SliceInfo {
                id: id(first),
                last: id(last),
                last_index: Revision(last),
                rows: 5,
                bytes: 50,
                hash: 0,
                at: ClusterTime(last),
            })
        };
        let kept = |oldest, first| Kept {
            oldest: Revision(oldest),
            revision: Revision(20),
            clock: ClusterTime(20),
            bytes: if first == 1 { 150 } else { 100 },
            slices: if first == 1 {
                vec![slice(1, 5), slice(6, 15)]
            } else {
                vec![slice(6, 15)]
            },
        };
        let limits = |events: u64, bytes, age| {
            let limits = Settings {
                history_events: events,
                history_bytes: bytes,
                history_age: std::time::Duration::from_nanos(age),
                ..Settings::default()
            };
            (limits, if events == 0 { 0 } else { 21 - events })
        };
        let before = kept(1, 1);
        let due = |now: &Kept, (limits, by_count): (Settings, u64)| {
            now.is_due(0, &before, &limits, by_count)
        };
        assert_eq!(due(&kept(1, 1), limits(0, 150, 15)), Ok(()));
        assert_eq!(id_of(&due(&kept(1, 1), limits(0, 149, 15))), "W6");
        assert_eq!(id_of(&due(&kept(1, 1), limits(0, 150, 14))), "W6");
        assert_eq!(due(&kept(6, 6), limits(0, 149, 15)), Ok(()));
        assert_eq!(due(&kept(6, 6), limits(0, 150, 14)), Ok(()));
        assert_eq!(id_of(&due(&kept(6, 6), limits(0, 150, 15))), "W6");
        assert_eq!(due(&kept(11, 6), limits(10, 150, 15)), Ok(()));
        assert_eq!(id_of(&due(&kept(12, 6), limits(10, 150, 15))), "W6");
    }

    #[test]
    fn w6_what_was_dropped_by_number_does_not_come_back() {
        let configure = |history_events| {
            let operation = Operation::Configure(Settings {
                history_events,
                ..Settings::default()
            });
            let client = None;
            Payload::Command(Arc::new(Command { client, operation }))
        };
        let mut model = model();
        model.apply(ClusterTime::ZERO, &configure(1));
        for name in [b"a", b"b", b"c"] {
            let operation = Operation::Append(Append {
                directory: Path::root().child(name),
                value: None,
                ttl: None,
            });
            let client = None;
            let command = Arc::new(Command { client, operation });
            model.apply(ClusterTime::ZERO, &Payload::Command(command));
        }
        model.apply(ClusterTime::ZERO, &configure(2));
        let counted = |index| model.counted(Index(index));
        assert_eq!([3, 4, 5, 6].map(counted), [1, 2, 3, 3].map(Some));
        assert_eq!(counted(7), None);
    }

    #[test]
    fn e5_members_unlike_what_they_made_known() {
        let publish = |name: &str| {
            let operation = Operation::Publish(Publish {
                member: NodeId(2),
                name: name.to_owned(),
                client_urls: Vec::new(),
            });
            let client = None;
            Payload::Command(Arc::new(Command { client, operation }))
        };
        let members = |name: &str| {
            let member = Member {
                name: name.to_owned(),
                client_urls: Vec::new(),
            };
            BTreeMap::from([(NodeId(2), Arc::new(member))])
        };
        let mut model = model();
        model.apply(ClusterTime::ZERO, &publish("old"));
        model.apply(ClusterTime::ZERO, &publish("new"));
        let knows = |index, members| States::knows(0, Index(index), &members, &model);
        assert_eq!(knows(1, BTreeMap::new()), Ok(()));
        assert_eq!(knows(2, members("old")), Ok(()));
        assert_eq!(knows(3, members("new")), Ok(()));
        assert_eq!(id_of(&knows(3, members("old"))), "E5");
        assert_eq!(id_of(&knows(3, BTreeMap::new())), "E5");
        assert_eq!(id_of(&knows(1, members("old"))), "E5");
    }

    #[test]
    fn e5_a_store_unlike_the_model() {
        let mut states = States::default();
        assert_eq!(
            id_of(&states.shows(0, shown(7, 1), Origin::Log, &model())),
            "E5"
        );
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
