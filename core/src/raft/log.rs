//! The log in memory: what is not yet applied everywhere it must be.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::ids::{Index, LogId, Term};
use crate::raft::{Entries, Entry};
use crate::time::ClusterTime;

/// The entries after `start`.
///
/// Invariants: indexes are contiguous from `start`; terms and stamps never fall; `bytes` is the sum
/// of the entries' weights.
#[derive(Clone, Debug)]
pub(super) struct Log {
    start: LogId,
    start_stamp: ClusterTime,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The batch last cut: the disk and each peer mostly ask for the same one, and share it.
    cut: Entries,
}

/// How much one batch may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchLimits {
    /// Bytes; a single larger entry goes alone.
    pub(super) bytes_max: usize,
    /// Entries.
    pub(super) entries_max: usize,
}

impl Log {
    /// A log of `entries` after `start`.
    pub(super) fn new(start: LogId, start_stamp: ClusterTime, entries: Vec<Entry>) -> Self {
        let mut log = Self {
            start,
            start_stamp,
            entries: VecDeque::with_capacity(entries.len()),
            bytes: 0,
            cut: Arc::new([]),
        };
        for entry in entries {
            log.append(entry);
        }
        log
    }

    /// Adds an entry at the end.
    pub(super) fn append(&mut self, entry: Entry) {
        let last = self.last();
        assert_eq!(entry.id.index, last.index.next(), "a gap in the log");
        assert!(
            entry.id.term >= last.term,
            "terms fall: {} after {last}",
            entry.id
        );
        assert!(
            entry.stamp >= self.last_stamp(),
            "stamps fall: {} at {} after {}",
            entry.stamp,
            entry.id,
            self.last_stamp(),
        );
        self.bytes += entry.weight();
        self.entries.push_back(entry);
    }

    /// Removes the entries from `from` on, of which there is at least one.
    pub(super) fn truncate(&mut self, from: Index) {
        assert!(
            from > self.start.index,
            "truncating at {from}, before the log's start"
        );
        assert!(from <= self.last().index, "nothing to truncate at {from}");
        let removed = self.entries.drain(self.start.offset(from)..);
        self.bytes -= removed.map(|entry| entry.weight()).sum::<usize>();
        // A peer that lies may send another entry of the same id.
        self.cut = Arc::new([]);
    }

    /// Forgets the first entry, of which there is one.
    pub(super) fn forget_first(&mut self) {
        let entry = self.entries.pop_front().expect("there is an entry");
        self.bytes -= entry.weight();
        self.start = entry.id;
        self.start_stamp = entry.stamp;
        if !self.cut.is_empty() {
            self.cut = Arc::new([]);
        }
    }

    /// A snapshot as of `start` takes the place of all entries.
    pub(super) fn restart(&mut self, start: LogId, stamp: ClusterTime) {
        *self = Self::new(start, stamp, Vec::new());
    }

    /// The batch after `after`, as large as the limits and `through` allow; empty where nothing
    /// follows.
    pub(super) fn slice(&mut self, after: Index, through: Index, limits: BatchLimits) -> Entries {
        assert!(
            after >= self.start.index,
            "a slice from {after}, before the log's start"
        );
        assert!(
            through <= self.last().index,
            "a slice through {through}, past the end"
        );
        if after >= through {
            return Arc::new([]);
        }
        let begin = self.start.offset(after.next());
        let end = self.start.offset(through) + 1;
        let mut bytes = 0;
        let fitting = self
            .entries
            .range(begin..end)
            .take(limits.entries_max)
            .take_while(|entry| {
                let first = bytes == 0;
                bytes += entry.weight();
                first || bytes <= limits.bytes_max
            })
            .count();
        assert!(fitting > 0, "an empty batch makes no progress");
        let range = begin..begin + fitting;
        // Ids name entries (Raft §5.3), so equal ends are equal batches.
        let ends = |batch: &[Entry]| Some((batch.first()?.id, batch.last()?.id));
        if ends(&self.cut) != Some((self.entries[begin].id, self.entries[range.end - 1].id)) {
            self.cut = self.entries.range(range).cloned().collect();
        }
        self.cut.clone()
    }

    /// The place just before the first entry.
    pub(super) fn start(&self) -> LogId {
        self.start
    }

    /// The first index in memory, or the next one where there is none.
    pub(super) fn first(&self) -> Index {
        self.start.index.next()
    }

    /// The last entry, or `start`.
    pub(super) fn last(&self) -> LogId {
        self.entries.back().map_or(self.start, |entry| entry.id)
    }

    /// The stamp of the last entry, or of `start`.
    pub(super) fn last_stamp(&self) -> ClusterTime {
        self.entries
            .back()
            .map_or(self.start_stamp, |entry| entry.stamp)
    }

    /// The weight of all entries, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The entry at `index`, if it is in memory.
    pub(super) fn get(&self, index: Index) -> Option<&Entry> {
        (index > self.start.index && index <= self.last().index)
            .then(|| &self.entries[self.start.offset(index)])
    }

    /// The id at `index`: of an entry in memory, or of `start`.
    pub(super) fn id_at(&self, index: Index) -> Option<LogId> {
        if index == self.start.index {
            Some(self.start)
        } else {
            self.get(index).map(|entry| entry.id)
        }
    }

    /// The term at `index`, where that is known.
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        self.id_at(index).map(|id| id.term)
    }

    /// The stamp at `index`, where that is known.
    pub(super) fn stamp_at(&self, index: Index) -> Option<ClusterTime> {
        if index == self.start.index {
            Some(self.start_stamp)
        } else {
            self.get(index).map(|entry| entry.stamp)
        }
    }

    /// The highest place not after `limit` in index or in term; `None` where that is before
    /// `start`.
    ///
    /// Where another log holds `limit`, and nothing of a higher term before it, the two can agree
    /// no higher than here: one step back per term, not per entry (Raft §5.3, end).
    pub(super) fn agreement(&self, limit: LogId) -> Option<LogId> {
        if limit.index < self.start.index || limit.term < self.start.term {
            return None;
        }
        let older = self
            .entries
            .partition_point(|entry| entry.id.term <= limit.term);
        let within = self
            .entries
            .partition_point(|entry| entry.id.index <= limit.index);
        match older.min(within).checked_sub(1) {
            Some(offset) => Some(self.entries[offset].id),
            None => Some(self.start),
        }
    }

    /// The weight of the entries in `(after, through]`.
    pub(super) fn weight(&self, after: Index, through: Index) -> usize {
        assert!(after >= self.start.index && through <= self.last().index);
        if after >= through {
            return 0;
        }
        let range = self.start.offset(after.next())..=self.start.offset(through);
        self.entries.range(range).map(Entry::weight).sum()
    }
}

impl LogId {
    /// Where the entry `index` stands among those after this one.
    fn offset(self, index: Index) -> usize {
        assert!(index > self.index, "{index} is not after {self}");
        usize::try_from(index.0 - self.index.0 - 1).expect("as many entries as fit in memory")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::Payload;
    use crate::rng::Rng;

    const ALL: BatchLimits = BatchLimits {
        bytes_max: usize::MAX,
        entries_max: usize::MAX,
    };

    fn entry(index: u64, term: u64) -> Entry {
        Entry {
            id: LogId {
                term: Term(term),
                index: Index(index),
            },
            stamp: ClusterTime(index),
            payload: Payload::Empty,
        }
    }

    fn id(index: u64, term: u64) -> LogId {
        LogId {
            term: Term(term),
            index: Index(index),
        }
    }

    /// Against a plain vector with everything that ever was, under random appends, truncations and
    /// trims.
    #[test]
    fn behaves_like_a_vector() {
        let mut rng = Rng::new(3);
        for _ in 0..200 {
            let mut log = Log::new(LogId::ZERO, ClusterTime::ZERO, Vec::new());
            let mut model: Vec<LogId> = Vec::from([LogId::ZERO]);
            let (mut trimmed, mut term) = (0_usize, 1);
            for _ in 0..60 {
                term += rng.below(4) / 3;
                let last = model.len() - 1;
                match rng.below(6) {
                    0 if last > trimmed => {
                        let from = trimmed + 1 + below(&mut rng, last - trimmed);
                        log.truncate(Index(from as u64));
                        model.truncate(from);
                    }
                    1 => {
                        let keep = trimmed + below(&mut rng, last - trimmed + 1);
                        (trimmed..keep).for_each(|_| log.forget_first());
                        trimmed = keep;
                    }
                    _ => {
                        let next = entry(last as u64 + 1, term);
                        model.push(next.id);
                        log.append(next);
                    }
                }
                check(&mut log, &model, trimmed, &mut rng);
            }
        }
    }

    fn below(rng: &mut Rng, bound: usize) -> usize {
        usize::try_from(rng.below(bound as u64)).unwrap()
    }

    fn check(log: &mut Log, model: &[LogId], trimmed: usize, rng: &mut Rng) {
        let last = model.len() - 1;
        assert_eq!(log.last(), model[last]);
        assert_eq!(log.start(), model[trimmed]);
        assert_eq!(log.bytes(), (last - trimmed) * entry(1, 1).weight());
        for (place, &id) in model.iter().enumerate() {
            let expected = (place >= trimmed).then_some(id.term);
            assert_eq!(log.term_at(Index(place as u64)), expected);
        }
        assert_eq!(log.term_at(Index(last as u64 + 1)), None);

        let after = trimmed + below(rng, last - trimmed + 1);
        let through = trimmed + below(rng, last - trimmed + 1);
        let slice = log.slice(Index(after as u64), Index(through as u64), ALL);
        let expected = model.get(after + 1..=through).unwrap_or(&[]);
        assert!(
            slice
                .iter()
                .map(|entry| entry.id)
                .eq(expected.iter().copied())
        );

        let limit = id(rng.below(last as u64 + 3), rng.below(20));
        let expected = model[trimmed..]
            .iter()
            .rfind(|id| id.index <= limit.index && id.term <= limit.term);
        assert_eq!(log.agreement(limit), expected.copied());
    }

    #[test]
    fn a_batch_keeps_its_limits_but_always_holds_one() {
        let entries = (1..=9).map(|index| entry(index, 1)).collect();
        let mut log = Log::new(LogId::ZERO, ClusterTime::ZERO, entries);
        let weight = entry(1, 1).weight();
        for (bytes_max, entries_max, expected) in [
            (1, 9, 1),
            (3 * weight, 9, 3),
            (3 * weight + 1, 9, 3),
            (usize::MAX, 4, 4),
        ] {
            let limits = BatchLimits {
                bytes_max,
                entries_max,
            };
            assert_eq!(log.slice(Index(2), Index(9), limits).len(), expected);
        }
    }

    #[test]
    fn equal_batches_share_one_allocation_and_others_do_not() {
        let entries = (1..=4).map(|index| entry(index, 1)).collect();
        let mut log = Log::new(LogId::ZERO, ClusterTime::ZERO, entries);
        let first = log.slice(Index(1), Index(4), ALL);
        assert!(Arc::ptr_eq(&first, &log.slice(Index(1), Index(4), ALL)));
        log.truncate(Index(4));
        let other = Entry {
            stamp: ClusterTime(9),
            ..entry(4, 1)
        };
        log.append(other.clone());
        assert_eq!(log.slice(Index(1), Index(4), ALL)[2], other);
    }

    #[test]
    #[should_panic(expected = "terms fall")]
    fn terms_never_fall() {
        let mut log = Log::new(id(3, 3), ClusterTime(3), Vec::new());
        log.append(entry(4, 2));
    }

    #[test]
    #[should_panic(expected = "stamps fall")]
    fn stamps_never_fall() {
        let mut log = Log::new(id(3, 3), ClusterTime(9), Vec::new());
        log.append(entry(4, 3));
    }
}
