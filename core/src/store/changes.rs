//! What a checkpoint must write (DESIGN.md §6): the rows that changed since the last one, and the
//! slices of history that were closed.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::event::Event;
use super::history::{SliceEvents, SliceInfo};
use super::row::{Row, RowKey};
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
        // Events sort behind all other keys. Those that the rows erase were in slices dropped since,
        // which are older than those closed, and these are older than the open one.
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
