//! What a checkpoint must write (DESIGN.md §6): the rows that changed since the last one, and the
//! slices of history that were closed.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Store;
use super::event::Event;
use super::history::{SliceEvents, SliceInfo};
use super::row::{self, Head, Row, RowKey};
use crate::ids::LogId;

/// Everything that changed since the last checkpoint. Put into the tables in one step, after the
/// files of the closed slices, it takes them from the last checkpoint to this one.
#[derive(Clone, Debug)]
pub struct Changes {
    /// The last entry they contain.
    pub applied: LogId,
    /// The hash of the state they lead to.
    pub hash: u128,
    /// The rows that changed; `None` is a row that is gone.
    pub rows: BTreeMap<RowKey, Option<Row>>,
    /// New rows of history's open slice, in order.
    pub history: Vec<Arc<Event>>,
    /// Slices closed since the last checkpoint, oldest first: each becomes a file, written and
    /// synced before the rows, and never changes.
    pub closed: Vec<ClosedSlice>,
    /// All slices that are kept, oldest first: the files that must be there. Others can go once the
    /// rows are durable.
    pub slices: Vec<Arc<SliceInfo>>,
}

/// A slice of history, whole.
#[derive(Clone, Debug)]
pub struct ClosedSlice {
    /// What it is.
    pub info: Arc<SliceInfo>,
    /// Its events.
    pub events: SliceEvents,
    /// So many of its first rows may be in the tables, and are to be removed there.
    pub(super) stored: usize,
}

impl Changes {
    /// The rows as the tables on disk take them: in order of their keys, without repetition; `None`
    /// removes. Encoded on demand, off the loop.
    pub fn encode(&self) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> + '_ {
        let rows = self.rows.iter();
        let rows = rows.map(|(key, row)| (key.encode(), row.as_ref().map(Row::encode)));
        // Events sort behind all other keys. Those that the rows erase were in slices dropped
        // since, which are older than those closed, and these are older than the open one.
        let removed = self
            .closed
            .iter()
            .flat_map(|slice| &slice.events[..slice.stored]);
        let removed = removed.map(|event| (RowKey::Event(event.id).encode(), None));
        let added = self.history.iter().map(|event| {
            let row = Row::Event(event.clone());
            (RowKey::Event(event.id).encode(), Some(row.encode()))
        });
        rows.chain(removed).chain(added)
    }

    /// How many rows [`encode`](Self::encode) yields: a measure of the work.
    #[must_use]
    pub fn len(&self) -> usize {
        let removed: usize = self.closed.iter().map(|slice| slice.stored).sum();
        self.rows.len() + removed + self.history.len()
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Store {
    /// Moves out what changed since it was last moved out.
    #[must_use]
    pub fn take_changes(&mut self) -> Changes {
        let mut rows = self.ledger.take();
        rows.insert(
            RowKey::Head,
            Some(Row::Head(Arc::new(self.head(self.hash())))),
        );
        let (closed, history) = self.history.take();
        self.taken = self.applied;
        Changes {
            applied: self.applied,
            hash: self.hash(),
            rows,
            history,
            closed,
            slices: self.history.slices().cloned().collect(),
        }
    }

    /// Puts changes back that could not be written. What changed since then is newer and stays.
    pub fn merge_back(&mut self, changes: Changes) {
        assert!(
            changes.applied <= self.applied,
            "changes of {} from the future",
            changes.applied
        );
        self.history.merge_back(&changes.closed, &changes.history);
        self.ledger.merge_back(changes.rows);
        self.taken = LogId::ZERO;
    }

    /// Everything up to `applied` is in the tables, durably: closed slices on disk may leave
    /// memory, oldest first, until `hot_bytes` of them remain. Changes neither the state nor its
    /// hash.
    pub fn checkpointed(&mut self, applied: LogId, hot_bytes: usize) {
        assert!(
            applied <= self.applied,
            "a checkpoint of {applied} from the future"
        );
        self.history.checkpointed(applied, hot_bytes as u64);
    }

    /// Whether anything was applied that no checkpoint has taken.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.taken != self.applied
    }

    /// The hash of the state: equal on all replicas at one applied index.
    #[must_use]
    pub fn hash(&self) -> u128 {
        let head = Row::Head(Arc::new(self.head(0)));
        let (weight, _) = row::weigh(&RowKey::Head, &head, &mut Vec::new());
        self.ledger.hash().wrapping_add(weight)
    }

    /// The same hash, computed from every row: for tests. Costs the whole state.
    #[must_use]
    pub fn recompute_hash(&self) -> u128 {
        let mut scratch = Vec::new();
        let mut hash = 0_u128;
        for (key, row) in self.rows() {
            hash = hash.wrapping_add(row::weigh(&key, &row, &mut scratch).0);
        }
        for slice in self.history.slices() {
            hash = hash.wrapping_add(slice.hash);
        }
        hash
    }

    /// Every row as the tables hold it when all is saved: for tests. Costs the whole state.
    pub fn encode(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + '_ {
        let head = Row::Head(Arc::new(self.head(self.hash())));
        let others = self.rows().filter(|(key, _)| *key != RowKey::Head);
        let rows = core::iter::once((RowKey::Head, head)).chain(others);
        rows.map(|(key, row)| (key.encode(), row.encode()))
    }

    fn head(&self, hash: u128) -> Head {
        Head {
            format: row::FORMAT,
            applied: self.applied,
            clock: self.clock,
            revision: self.revision,
            oldest: self.history.oldest(),
            hash,
        }
    }

    /// Every row, but for those of closed slices.
    fn rows(&self) -> impl Iterator<Item = (RowKey, Row)> + '_ {
        let once = [
            (RowKey::Head, Row::Head(Arc::new(self.head(0)))),
            (RowKey::Settings, Row::Settings(self.settings.clone())),
            (
                RowKey::Configuration,
                Row::Configuration(self.configuration.clone()),
            ),
        ];
        let members = self.members.iter();
        let members = members.map(|(id, row)| (RowKey::Member(*id), Row::Member(row.clone())));
        let slices = self.history.slices();
        let slices = slices.map(|info| (RowKey::Slice(info.id), Row::Slice(info.clone())));
        let events = self.history.open_rows().iter();
        let events = events.map(|event| (RowKey::Event(event.id), Row::Event(event.clone())));
        once.into_iter()
            .chain(members)
            .chain(self.keyspace.rows())
            .chain(self.leases.rows())
            .chain(self.requests.rows())
            .chain(slices)
            .chain(events)
    }
}
