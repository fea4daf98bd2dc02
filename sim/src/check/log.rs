//! Logs that match, a ledger that never changes: R4, R5, R6, R7, R9, R14.

use std::collections::BTreeMap;

use quorate_core::raft::Entry;
use quorate_core::{Index, LogId, Term};

use super::{Verdict, ensure};
use crate::clock::Time;
use crate::ledger::{Committed, Ledger, chained};

/// The logs of all nodes, by their hashes.
#[derive(Clone, Debug)]
pub struct Logs {
    /// (term, index) to the hash of the log through it: Log Matching says that this is a function.
    known: BTreeMap<LogId, Known>,
    mirrors: Vec<Mirror>,
    /// Per node: how far it knew the log to be committed, and what it had applied.
    marks: Vec<Marks>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    chain: u128,
    /// When it was first seen anywhere: when its leader appended it.
    seen: Time,
}

/// A log by terms and hashes, from some index on.
#[derive(Clone, Debug, Default)]
struct Mirror {
    /// The entry before the first, and the hash of the log through it.
    base: (LogId, u128),
    entries: Vec<(Term, u128)>,
}

/// How far a node has come (R9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The first index of the log in memory.
    pub first: Index,
    /// The last in its tables.
    pub checkpointed: Index,
    /// The last in its store.
    pub applied: Index,
    /// The last it knows to be committed.
    pub committed: Index,
    /// The last of its log.
    pub last: Index,
}

impl Logs {
    /// Empty logs of `seats` nodes.
    #[must_use]
    pub fn new(seats: usize) -> Self {
        Self {
            known: BTreeMap::new(),
            mirrors: vec![Mirror::default(); seats],
            marks: vec![Marks::default(); seats],
        }
    }

    /// `seat` starts with the log after `start`, whose hash the ledger knows.
    ///
    /// # Errors
    /// R4: what it recovered differs from what was once written anywhere. R7: its tables are not
    /// of the ledger.
    pub fn restarted<'a>(
        &mut self,
        now: Time,
        seat: usize,
        start: LogId,
        entries: impl IntoIterator<Item = &'a Entry>,
        applied: Index,
        ledger: &Ledger,
    ) -> Verdict {
        let base = match self.known.get(&start) {
            Some(known) => Some(known.chain),
            None => (start == LogId::ZERO).then_some(0),
        };
        let Some(base) = base else {
            return ensure(false, "R4", &[seat], || {
                format!("n{seat} starts after {start}, which nobody ever wrote")
            });
        };
        self.mirrors[seat] = Mirror {
            base: (start, base),
            entries: Vec::new(),
        };
        self.marks[seat] = Marks {
            applied,
            checkpointed: applied,
            ..Marks::default()
        };
        ensure(applied <= ledger.last(), "R7", &[seat], || {
            format!(
                "n{seat} starts with {applied} applied of a ledger of {}",
                ledger.last()
            )
        })?;
        for entry in entries {
            self.push(now, seat, entry)?;
        }
        Ok(())
    }

    /// `seat` was seen with a log that ends at `last`.
    ///
    /// # Errors
    /// R4; R5: a leader took something of its own log away; R14: something committed went.
    pub fn observe<'a>(
        &mut self,
        now: Time,
        seat: usize,
        leads_since_before: bool,
        last: LogId,
        term_at: impl Fn(Index) -> Option<Term>,
        entry: impl Fn(Index) -> &'a Entry,
    ) -> Verdict {
        let mirror = &mut self.mirrors[seat];
        if mirror.last() == last {
            return Ok(());
        }
        // What is equal at one place is equal before it (R4), so only the end can differ.
        let mut removed = Vec::new();
        while mirror.last().index > mirror.base.0.index
            && term_at(mirror.last().index) != Some(mirror.last().term)
        {
            removed.push(mirror.last());
            mirror.entries.pop();
        }
        if let (Some(first), Some(through)) = (removed.last(), removed.first()) {
            let committed = self.marks[seat].committed;
            ensure(!leads_since_before, "R5", &[seat], || {
                format!("n{seat} leads and removes ({first} to {through}) of its own log")
            })?;
            ensure(first.index > committed, "R14", &[seat], || {
                format!("n{seat} removes {first}, committed through {committed}")
            })?;
        }
        while self.mirrors[seat].last().index < last.index {
            let next = self.mirrors[seat].last().index.next();
            self.push(now, seat, entry(next))?;
        }
        Ok(())
    }

    /// `seat` just became leader.
    ///
    /// # Errors
    /// R6: its log lacks something of the ledger.
    pub fn elected(&self, seat: usize, term: Term, ledger: &Ledger) -> Verdict {
        // A vote that arrives late can make a leader of a term that is over already.
        let last = ledger.last_before(term);
        let base = self.mirrors[seat].base.0.index;
        let holds = last <= base || self.mirrors[seat].chain(last) == ledger.chain(last);
        ensure(holds, "R6", &[seat], || {
            let own = self.mirrors[seat].last();
            format!(
                "n{seat} leads in term {term}; its log (last {own}) lacks the ledger through {last}"
            )
        })
    }

    /// `seat` has come so far.
    ///
    /// # Errors
    /// R9: the marks are out of order or went back.
    pub fn progress(&mut self, seat: usize, marks: Marks) -> Verdict {
        let before = std::mem::replace(&mut self.marks[seat], marks);
        let ordered = marks.first.0 <= marks.checkpointed.0 + 1
            && marks.checkpointed <= marks.applied
            && marks.applied <= marks.committed
            && marks.committed <= marks.last;
        ensure(ordered, "R9", &[seat], || format!("n{seat} has {marks:?}"))?;
        let forward = marks.committed >= before.committed && marks.applied >= before.applied;
        ensure(forward, "R9", &[seat], || {
            format!("n{seat} goes back from {before:?} to {marks:?}")
        })
    }

    /// How far `seat` knew the log to be committed when last seen.
    #[must_use]
    pub fn committed(&self, seat: usize) -> Index {
        self.marks[seat].committed
    }

    /// `seat`, in `term`, knows its log to be committed through `committed`; what is new is added
    /// to the ledger. `entry` is asked for entries not in the ledger yet.
    ///
    /// # Errors
    /// R7: its log differs from the ledger.
    pub fn commits<'a>(
        &self,
        now: Time,
        seat: usize,
        term: Term,
        committed: Index,
        ledger: &mut Ledger,
        entry: impl Fn(Index) -> &'a Entry,
    ) -> Verdict {
        let mirror = &self.mirrors[seat];
        while ledger.last() < committed {
            let entry = entry(ledger.last().next());
            let chain = mirror.chain(entry.id.index);
            let known = self.known.get(&entry.id);
            let (Some(chain), Some(known)) = (chain, known) else {
                return ensure(false, "R7", &[seat], || {
                    format!("n{seat} commits {}, which is not in its log", entry.id)
                });
            };
            ledger.push(Committed {
                id: entry.id,
                chain,
                stamp: entry.stamp,
                payload: entry.payload.clone(),
                stamped: known.seen,
                committed_in: term,
                committed: now,
            });
        }
        // What is before the base of the mirror was compared when it was committed.
        let holds =
            committed <= mirror.base.0.index || mirror.chain(committed) == ledger.chain(committed);
        ensure(holds, "R7", &[seat], || {
            let theirs = ledger.get(committed).map(|entry| entry.id);
            format!("n{seat} commits its own log through {committed}; the ledger has {theirs:?}")
        })
    }

    /// `seat` hands this to its disk, over what it handed there before: `durable_term` is what is
    /// there now at an index.
    ///
    /// # Errors
    /// R14: it overwrites an entry with itself and so removes what follows.
    pub fn overwrites(seat: usize, first: LogId, there: Option<Term>) -> Verdict {
        ensure(there != Some(first.term), "R14", &[seat], || {
            format!("n{seat} writes {first} over itself, and removes what follows")
        })
    }

    fn push(&mut self, now: Time, seat: usize, entry: &Entry) -> Verdict {
        let mirror = &mut self.mirrors[seat];
        let before = mirror.entries.last().map_or(mirror.base.1, |last| last.1);
        let follows = entry.id.index == mirror.last().index.next();
        ensure(follows, "R4", &[seat], || {
            format!("n{seat} has {} after {}", entry.id, mirror.last())
        })?;
        let chain = chained(before, entry);
        mirror.entries.push((entry.id.term, chain));
        let known = *self
            .known
            .entry(entry.id)
            .or_insert(Known { chain, seen: now });
        ensure(known.chain == chain, "R4", &[seat], || {
            format!("n{seat} holds another log through {} than others", entry.id)
        })
    }
}

impl Mirror {
    fn last(&self) -> LogId {
        match self.entries.last() {
            Some(&(term, _)) => LogId {
                term,
                index: Index(self.base.0.index.0 + self.entries.len() as u64),
            },
            None => self.base.0,
        }
    }

    fn chain(&self, index: Index) -> Option<u128> {
        let after = index.0.checked_sub(self.base.0.index.0)?;
        match after.checked_sub(1) {
            None => Some(self.base.1),
            Some(place) => Some(self.entries.get(usize::try_from(place).ok()?)?.1),
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::ClusterTime;
    use quorate_core::raft::Payload;

    use super::super::id_of;
    use super::*;

    fn entry(term: u64, index: u64, stamp: u64) -> Entry {
        Entry {
            id: LogId {
                term: Term(term),
                index: Index(index),
            },
            stamp: ClusterTime(stamp),
            payload: Payload::Empty,
        }
    }

    fn observe(logs: &mut Logs, seat: usize, leads: bool, log: &[Entry]) -> Verdict {
        let at = |index: Index| log.iter().find(|entry| entry.id.index == index);
        let last = log.last().map_or(LogId::ZERO, |entry| entry.id);
        let term_at = |index| at(index).map(|entry| entry.id.term);
        logs.observe(Time(1), seat, leads, last, term_at, |index| {
            at(index).expect("there")
        })
    }

    #[test]
    fn r4_one_id_for_two_entries() {
        let mut logs = Logs::new(2);
        assert_eq!(observe(&mut logs, 0, true, &[entry(1, 1, 5)]), Ok(()));
        assert_eq!(
            id_of(&observe(&mut logs, 1, false, &[entry(1, 1, 6)])),
            "R4"
        );
        let mut logs = Logs::new(2);
        assert_eq!(
            observe(&mut logs, 0, true, &[entry(1, 1, 5), entry(2, 2, 6)]),
            Ok(())
        );
        let other_prefix = [entry(2, 1, 5), entry(2, 2, 6)];
        assert_eq!(id_of(&observe(&mut logs, 1, false, &other_prefix)), "R4");
    }

    #[test]
    fn r5_r14_what_may_be_removed() {
        let long = [entry(1, 1, 5), entry(1, 2, 5)];
        let other = [entry(1, 1, 5), entry(2, 2, 5)];
        let mut logs = Logs::new(1);
        assert_eq!(observe(&mut logs, 0, false, &long), Ok(()));
        assert_eq!(observe(&mut logs, 0, false, &other), Ok(()));
        assert_eq!(id_of(&observe(&mut logs, 0, true, &other[..1])), "R5");
        let mut logs = Logs::new(1);
        assert_eq!(observe(&mut logs, 0, false, &long), Ok(()));
        let two = Index(2);
        let marks = Marks {
            first: Index(1),
            committed: two,
            last: two,
            ..Marks::default()
        };
        assert_eq!(logs.progress(0, marks), Ok(()));
        assert_eq!(id_of(&observe(&mut logs, 0, false, &other)), "R14");
        let over = LogId {
            term: Term(2),
            index: Index(2),
        };
        assert_eq!(Logs::overwrites(0, over, Some(Term(1))), Ok(()));
        assert_eq!(id_of(&Logs::overwrites(0, over, Some(Term(2)))), "R14");
    }

    #[test]
    fn r6_r7_the_ledger_is_held_and_never_changes() {
        let log = [entry(1, 1, 5), entry(1, 2, 5)];
        let (mut logs, mut ledger) = (Logs::new(2), Ledger::default());
        assert_eq!(observe(&mut logs, 0, true, &log), Ok(()));
        let place = |index: Index| &log[usize::try_from(index.0 - 1).expect("small")];
        assert_eq!(
            logs.commits(Time(2), 0, Term(1), Index(2), &mut ledger, place),
            Ok(())
        );
        assert_eq!(ledger.last(), Index(2));
        assert_eq!(logs.elected(0, Term(2), &ledger), Ok(()));
        let other = [entry(1, 1, 5), entry(2, 2, 6)];
        assert_eq!(observe(&mut logs, 1, false, &other), Ok(()));
        assert_eq!(
            logs.elected(1, Term(1), &ledger),
            Ok(()),
            "an election that is over"
        );
        assert_eq!(id_of(&logs.elected(1, Term(2), &ledger)), "R6");
        assert_eq!(
            id_of(&logs.commits(Time(2), 1, Term(2), Index(2), &mut ledger, place)),
            "R7"
        );
    }

    #[test]
    fn r9_marks_out_of_order() {
        let mut logs = Logs::new(1);
        let good = Marks {
            first: Index(2),
            checkpointed: Index(1),
            applied: Index(2),
            committed: Index(3),
            last: Index(4),
        };
        assert_eq!(logs.progress(0, good), Ok(()));
        let back = Marks {
            applied: Index(1),
            ..good
        };
        assert_eq!(id_of(&logs.progress(0, back)), "R9");
        let mut logs = Logs::new(1);
        let ahead = Marks {
            applied: Index(4),
            ..good
        };
        assert_eq!(id_of(&logs.progress(0, ahead)), "R9");
        let mut logs = Logs::new(1);
        let purged = Marks {
            first: Index(3),
            ..good
        };
        assert_eq!(id_of(&logs.progress(0, purged)), "R9");
    }
}
