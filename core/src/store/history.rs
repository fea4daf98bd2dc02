//! Table `hist`: one change log in slices, with a floor (DESIGN.md §5).
//!
//! A slice is closed, between two entries of the log, once its canonical encoding reaches
//! [`Settings::slice_bytes`]. By age and bytes the floor moves by whole slices, by count event by
//! event; rows leave with their slice. All of it is part of applying an entry, and so equal on all
//! replicas at one applied index. Whether the events of a closed slice are in memory is not: they
//! may be dropped once the slice is on disk, and are read back for watches that need them.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use serde::{Deserialize, Serialize};

use super::changes::ClosedSlice;
use super::command::Settings;
use super::event::{Audience, Event};
use super::ledger::Ledger;
use super::row::{Row, RowKey, weigh_encoded};
use crate::ids::{ChangeId, Index, LogId, Revision};
use crate::time::ClusterTime;

/// No slice is longer, in bytes: only a damaged one says so.
const BYTES_MAX: u64 = 1 << 40;

/// Names a slice of history: its first change.
pub type SliceId = ChangeId;

/// All events of one slice, in order.
pub type SliceEvents = Arc<[Arc<Event>]>;

/// A slice that should be on disk cannot be read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryLost;

/// A closed slice, without its events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceInfo {
    /// Its first change, which names it.
    pub id: SliceId,
    /// Its last change.
    pub last: ChangeId,
    /// The v2 index of its last v2 event; its first one's is `id.index()`.
    pub last_index: Revision,
    /// How many changes it holds, records included.
    pub rows: u64,
    /// How long they are in canonical encoding.
    pub bytes: u64,
    /// The wrapping sum of what its rows add to the set hash.
    pub hash: u128,
    /// The stamp of its last change.
    pub at: ClusterTime,
}

impl SliceInfo {
    /// Whether `events` are what was in the slice when it was closed. Costs an encoding of them
    /// all: for those who read a slice back, not for the loop.
    #[must_use]
    pub fn describes(&self, events: &[Arc<Event>]) -> bool {
        let rows: Vec<_> = events.iter().cloned().map(Row::Event).collect();
        let records: Vec<_> = rows.iter().map(Row::encode).collect();
        let sum = SliceSum::of(records.iter().map(Vec::as_slice));
        sum.is_some_and(|sum| self.adds_up_to(&sum))
    }

    /// Whether a slice with this sum is the one that was closed.
    #[must_use]
    pub fn adds_up_to(&self, sum: &SliceSum) -> bool {
        sum.ends == Some((self.id, self.last)) && sum.rows == self.rows && sum.hash == self.hash
    }

    /// Whether `events` begin and end as the slice did.
    pub(super) fn frames(&self, events: &[Arc<Event>]) -> bool {
        events.first().map(|event| event.id) == Some(self.id)
            && events.last().map(|event| event.id) == Some(self.last)
            && events.len() as u64 == self.rows
    }
}

/// What the rows of a slice add up to: enough to know it by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SliceSum {
    /// The first change and the last.
    ends: Option<(ChangeId, ChangeId)>,
    rows: u64,
    hash: u128,
}

impl SliceSum {
    /// The sum of rows in their canonical encoding; `None` where one does not begin as an event
    /// does. No more of them is read than their ids: if the hash is right, so is the rest.
    #[must_use]
    pub fn of<'a>(records: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut scratch = Vec::new();
        let mut sum = Self::default();
        for record in records {
            let id = Event::id_in(record)?;
            let weight = weigh_encoded(&RowKey::Event(id), record, &mut scratch);
            let (first, _) = sum.ends.unwrap_or((id, id));
            sum.ends = Some((first, id));
            sum.rows += 1;
            sum.hash = sum.hash.wrapping_add(weight);
        }
        Some(sum)
    }
}

/// One v2 event, and the records of what went away with it.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The event.
    pub event: &'a Arc<Event>,
    /// What was below the node it removed, in order of path.
    pub gone: &'a [Arc<Event>],
}

/// The v2 events among `rows`, which begin with the first row of a command. Cheap to go over: a
/// command's records are skipped, not looked at.
pub fn changes(rows: &[Arc<Event>]) -> impl Iterator<Item = Change<'_>> {
    let (mut rows, mut events, mut records) = (rows, &[][..], &[][..]);
    core::iter::from_fn(move || {
        if events.is_empty() {
            let revision = rows.first()?.id.revision;
            let command;
            (command, rows) = rows.split_at(first(rows, |row| row.id.revision != revision));
            let is_record = |row: &Event| row.audience == Audience::Records;
            (events, records) = command.split_at(first(command, is_record));
        }
        let (event, others) = events
            .split_first()
            .expect("a command's rows begin with its event");
        // The records of each event follow those of the one before it. What one event removed, no
        // later one of the same command did: so a directory's records end where something else is.
        let outside = |row: &Event| row.path.below(&event.path).is_none();
        let gone;
        (gone, records) = records.split_at(first(records, outside));
        events = others;
        Some(Change { event, gone })
    })
}

/// The first place where `predicate` holds, which it does from there on. Looks at the first two
/// before it searches: most commands have one row.
fn first(rows: &[Arc<Event>], predicate: impl Fn(&Event) -> bool) -> usize {
    let near = rows.iter().take(2).position(|row| predicate(row));
    near.unwrap_or_else(|| rows.partition_point(|row| !predicate(row)))
}

/// A closed slice that is still kept.
#[derive(Clone, Debug)]
struct Closed {
    info: Arc<SliceInfo>,
    /// `None`: only on disk.
    events: Option<SliceEvents>,
    /// So many of its first rows may be in the tables on disk, from when it was open.
    stored: usize,
    /// The entry that closed it; it is on disk with the checkpoint that contains this.
    closed_at: Index,
    /// Whether no checkpoint has taken it yet.
    fresh: bool,
    /// Whether it is on disk.
    durable: bool,
}

/// The slice that is being written.
#[derive(Clone, Debug, Default)]
struct Open {
    events: Vec<Arc<Event>>,
    bytes: u64,
    hash: u128,
    /// Rows from here on have not been taken by a checkpoint.
    fresh: usize,
    /// Rows below here may be in the tables on disk.
    stored: usize,
}

/// What history knows about an index that it keeps.
#[derive(Debug)]
pub(super) enum Place<'a> {
    /// In memory: the rows from the command of that index to the end of its slice.
    Hot(&'a [Arc<Event>]),
    /// In this slice, on disk.
    Cold(&'a SliceInfo),
}

/// The change log.
///
/// Invariants: slices follow each other without a gap; every v2 index from the first slice's first
/// to the store's counter is that of exactly one v2 event; `oldest` never falls.
#[derive(Clone, Debug)]
pub(super) struct History {
    closed: VecDeque<Closed>,
    closed_bytes: u64,
    open: Open,
    oldest: Revision,
}

impl History {
    /// Nothing happened yet.
    pub(super) fn new() -> Self {
        Self {
            closed: VecDeque::new(),
            closed_bytes: 0,
            open: Open::default(),
            oldest: Revision(1),
        }
    }

    /// What was saved: closed slices, all on disk, and the rows of the open one. The caller checks
    /// them with [`check`](Self::check).
    pub(super) fn restore(
        ledger: &mut Ledger,
        oldest: Revision,
        slices: Vec<Arc<SliceInfo>>,
        rows: Vec<Arc<Event>>,
    ) -> Self {
        let mut history = Self {
            oldest,
            ..Self::new()
        };
        for info in slices {
            ledger.add(info.hash);
            history.closed_bytes = history.closed_bytes.saturating_add(info.bytes);
            history.closed.push_back(Closed {
                info,
                events: None,
                stored: 0,
                closed_at: Index::ZERO,
                fresh: false,
                durable: true,
            });
        }
        for row in rows {
            history.push(ledger, row);
        }
        history.open.fresh = history.open.events.len();
        history.open.stored = history.open.fresh;
        history
    }

    /// The invariants of this type that rows from outside could break, at a store's `revision`.
    pub(super) fn check(&self, revision: Revision) -> Result<(), &'static str> {
        let above = |row: &Event| row.id.revision > revision;
        if self.open.events.iter().any(|row| above(row)) {
            return Err("an event is above the counter");
        }
        let mut next = self.closed.front().map(|slice| slice.info.id.revision);
        for Closed { info, .. } in &self.closed {
            if next != Some(info.id.revision) || info.id.sub != 0 || info.last < info.id {
                return Err("slices do not follow each other");
            }
            let indexes = info.last.revision..=revision;
            if !indexes.contains(&info.last_index) || info.rows == 0 || info.bytes > BYTES_MAX {
                return Err("a slice contradicts itself");
            }
            next = Some(info.last_index.next());
        }
        if !self.open.events.is_sorted_by(|a, b| a.id < b.id) {
            return Err("events out of order");
        }
        let mut rows = &self.open.events[..];
        while let Some(row) = rows.first() {
            if next.is_some_and(|next| next != row.id.revision) {
                return Err("an index is missing");
            }
            let command = &rows[..first(rows, |other| other.id.revision != row.id.revision)];
            let dense = command.iter().zip(0..).all(|(row, sub)| row.id.sub == sub);
            let events = command
                .iter()
                .filter(|row| row.audience != Audience::Records);
            let leading = first(command, |row| row.audience == Audience::Records);
            if !dense || leading == 0 || events.count() != leading {
                return Err("a command's rows are incomplete");
            }
            next = Some(command[leading - 1].id.index().next());
            rows = &rows[command.len()..];
        }
        if next.is_some_and(|next| next != revision.next()) {
            return Err("history does not end at the counter");
        }
        if self.oldest > revision.next() {
            return Err("the floor is above the counter");
        }
        let lowest = self.first_row().map_or(revision.next(), |id| id.revision);
        if self.oldest < lowest {
            return Err("history does not reach down to its floor");
        }
        Ok(())
    }

    /// Appends one change.
    pub(super) fn push(&mut self, ledger: &mut Ledger, event: Arc<Event>) {
        let row = Row::Event(event.clone());
        let (hash, bytes) = ledger.weigh(&RowKey::Event(event.id), &row);
        ledger.add(hash);
        self.open.hash = self.open.hash.wrapping_add(hash);
        self.open.bytes += bytes;
        self.open.events.push(event);
    }

    /// After an entry: closes the open slice if it is full, and moves the floor.
    pub(super) fn settle(
        &mut self,
        ledger: &mut Ledger,
        settings: &Settings,
        clock: ClusterTime,
        revision: Revision,
        at: Index,
    ) {
        if !self.open.events.is_empty() && self.open.bytes >= settings.slice_bytes {
            self.close(ledger, revision, at);
        }
        if settings.history_events > 0 {
            let by_count = Revision((revision.0 + 1).saturating_sub(settings.history_events));
            self.oldest = self.oldest.max(by_count);
        }
        while let Some(first) = self.closed.front() {
            let too_old = clock.since(first.info.at) > settings.history_age;
            let too_many = self.closed_bytes + self.open.bytes > settings.history_bytes;
            if !(too_old || too_many || first.info.last_index < self.oldest) {
                break;
            }
            self.drop_first(ledger);
        }
    }

    /// The oldest v2 index that is answered for.
    pub(super) fn oldest(&self) -> Revision {
        self.oldest
    }

    /// The first change that is still kept, if any is. Not above the floor, but for an empty log.
    pub(super) fn first_row(&self) -> Option<ChangeId> {
        let closed = self.closed.front().map(|slice| slice.info.id);
        closed.or_else(|| self.open.events.first().map(|row| row.id))
    }

    /// Where the event of `index` is; `None` for one that has not happened.
    pub(super) fn place(&self, index: Revision) -> Option<Place<'_>> {
        assert!(
            index >= self.oldest,
            "{index} is below the floor {}",
            self.oldest
        );
        let at = self
            .closed
            .partition_point(|slice| slice.info.last_index < index);
        let rows = match self.closed.get(at) {
            Some(Closed { info, events, .. }) => match events {
                Some(events) => &events[..],
                None => return Some(Place::Cold(info)),
            },
            None => &self.open.events,
        };
        from(rows, index).map(Place::Hot)
    }

    /// Everything that the next checkpoint must write: closed slices, and rows of the open one.
    pub(super) fn take(&mut self) -> (Vec<ClosedSlice>, Vec<Arc<Event>>) {
        let mut closed = Vec::new();
        for slice in self.closed.iter_mut().filter(|slice| slice.fresh) {
            slice.fresh = false;
            closed.push(ClosedSlice {
                info: slice.info.clone(),
                events: slice
                    .events
                    .clone()
                    .expect("what is not on disk is in memory"),
                stored: slice.stored,
            });
        }
        let rows = self.open.events[self.open.fresh..].to_vec();
        self.open.fresh = self.open.events.len();
        // From now on they may be on disk, even if the checkpoint fails.
        self.open.stored = self.open.fresh;
        (closed, rows)
    }

    /// Puts back what a failed checkpoint took.
    pub(super) fn merge_back(&mut self, closed: &[ClosedSlice], rows: &[Arc<Event>]) {
        let taken: BTreeSet<_> = closed.iter().map(|slice| slice.info.id).collect();
        for slice in &mut self.closed {
            slice.fresh |= taken.contains(&slice.info.id);
        }
        if let Some(first) = rows.first() {
            let before = self.open.events.partition_point(|row| row.id < first.id);
            self.open.fresh = self.open.fresh.min(before);
        }
    }

    /// The checkpoint that contains `applied` is durable: its slices are on disk, and may leave
    /// memory, oldest first, until `hot_bytes` of closed slices remain.
    pub(super) fn checkpointed(&mut self, applied: LogId, hot_bytes: u64) {
        for slice in &mut self.closed {
            slice.durable |= !slice.fresh && slice.closed_at <= applied.index;
        }
        let hot = self.closed.iter().filter(|slice| slice.events.is_some());
        let mut hot: u64 = hot.map(|slice| slice.info.bytes).sum();
        for slice in self.closed.iter_mut().filter(|slice| slice.durable) {
            if hot <= hot_bytes {
                break;
            }
            if slice.events.take().is_some() {
                hot -= slice.info.bytes;
            }
        }
    }

    /// The closed slices that are kept, oldest first: what must be on disk.
    pub(super) fn slices(&self) -> impl Iterator<Item = &Arc<SliceInfo>> {
        self.closed.iter().map(|slice| &slice.info)
    }

    /// The rows of the open slice.
    pub(super) fn open_rows(&self) -> &[Arc<Event>] {
        &self.open.events
    }

    /// Bytes of history kept, in canonical encoding.
    pub(super) fn bytes(&self) -> u64 {
        self.closed_bytes + self.open.bytes
    }

    fn close(&mut self, ledger: &mut Ledger, revision: Revision, at: Index) {
        let open = mem::take(&mut self.open);
        let (first, last) = (&open.events[0], &open.events[open.events.len() - 1]);
        let info = Arc::new(SliceInfo {
            id: first.id,
            last: last.id,
            last_index: revision,
            rows: open.events.len() as u64,
            bytes: open.bytes,
            hash: open.hash,
            at: last.at,
        });
        ledger.change(RowKey::Slice(info.id), None, Some(Row::Slice(info.clone())));
        self.closed_bytes += info.bytes;
        self.closed.push_back(Closed {
            info,
            events: Some(open.events.into()),
            stored: open.stored,
            closed_at: at,
            fresh: true,
            durable: false,
        });
    }

    fn drop_first(&mut self, ledger: &mut Ledger) {
        let slice = self
            .closed
            .pop_front()
            .expect("the caller saw a first slice");
        self.closed_bytes -= slice.info.bytes;
        self.oldest = self.oldest.max(slice.info.last_index.next());
        ledger.subtract(slice.info.hash);
        // Not yet written as a file, but its rows may be in the tables: nothing else removes them.
        if let Some(events) = slice.events.filter(|_| !slice.durable) {
            for row in &events[..slice.stored] {
                ledger.erase(RowKey::Event(row.id));
            }
        }
        let id = slice.info.id;
        ledger.change(RowKey::Slice(id), Some(Row::Slice(slice.info)), None);
    }
}

/// The rows from the command whose event has `index`; `None` where all are older.
pub(super) fn from(rows: &[Arc<Event>], index: Revision) -> Option<&[Arc<Event>]> {
    // An index is at least its command's revision, and below the next command's.
    let behind = rows.partition_point(|row| row.id.revision <= index);
    let revision = rows[..behind].last()?.id.revision;
    let start = rows[..behind].partition_point(|row| row.id.revision < revision);
    Some(&rows[start..])
}
