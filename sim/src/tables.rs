//! What a checkpoint is made of: the tables of a member, and its slices of history, each a file.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use quorate_core::LogId;
use quorate_core::store::{Changes, Event, HistoryLost, Row, RowKey, SliceEvents, SliceId};
use quorate_core::wal::{Files, WalError, slice};

use crate::disk::SimFiles;

/// The tables of a checkpoint: a map with the promise of the real ones. Atomic, and durable when
/// acknowledged (DESIGN.md §6, last point).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// The rows. A snapshot on its way shares them.
    pub rows: Rc<Rows>,
    /// The last entry they contain.
    pub applied: LogId,
    /// The slices of history they list.
    pub slices: BTreeSet<SliceId>,
}

/// Rows by their keys.
pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

impl Tables {
    /// Puts the rows of a checkpoint into the tables.
    pub fn put(&mut self, changes: &Changes) {
        let rows = Rc::make_mut(&mut self.rows);
        for (key, row) in changes.encode() {
            match row {
                Some(row) => rows.insert(key, row),
                None => rows.remove(&key),
            };
        }
        self.applied = changes.applied;
        self.slices = changes.slices.iter().map(|info| info.id).collect();
    }
}

/// Writes the slices of a checkpoint, each a file.
///
/// # Errors
/// A full disk, or one that failed.
pub fn write_slices(files: &mut SimFiles, changes: &Changes) -> Result<(), WalError> {
    for closed in &changes.closed {
        let row = |event: &Arc<Event>| Row::Event(event.clone()).encode();
        let records: Vec<Vec<u8>> = closed.events.iter().map(row).collect();
        slice::write(files, closed.info.id, &records)?;
    }
    Ok(())
}

/// Reads a slice of history back.
///
/// # Errors
/// It cannot be read.
pub fn read_slice(files: &SimFiles, id: SliceId) -> Result<SliceEvents, HistoryLost> {
    let records = slice::read(files, id).map_err(|_| HistoryLost)?;
    let mut events = Vec::new();
    for record in records.iter() {
        match Row::decode(&RowKey::Event(id), record) {
            Some(Row::Event(event)) => events.push(event),
            Some(_) | None => return Err(HistoryLost),
        }
    }
    Ok(events.into())
}

/// A slice that came in a snapshot, while it is written.
pub const SLICE_PART: &str = "slice.part";

/// Unlinks the slices that are not in `kept`, and what a crash left of one.
///
/// # Errors
/// A disk that failed.
pub fn remove_slices(
    files: &mut SimFiles,
    kept: &BTreeSet<SliceId>,
) -> Result<(), quorate_core::wal::FileError> {
    let mut removed = false;
    for name in files.list()? {
        let is_stray = slice::id_of(&name).is_some_and(|id| !kept.contains(&id));
        if is_stray || name == SLICE_PART {
            files.remove(&name)?;
            removed = true;
        }
    }
    if removed { files.sync_dir() } else { Ok(()) }
}
