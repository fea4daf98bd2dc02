//! Logs that match, a ledger that never changes: R4, R5, R6, R7, R9, R12, R14, R15.

use std::collections::BTreeMap;

use quorate_core::raft::{Configuration, Entry, Payload};
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
    /// Where the log itself was last seen to begin.
    start: LogId,
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
        let Some(base) = chain_of(start, ledger) else {
            return ensure(false, "R4", &[seat], || {
                format!("n{seat} starts after {start}, which is not of the ledger")
            });
        };
        self.mirrors[seat] = Mirror {
            base: (start, base),
            start,
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

    /// Whether `seat`, whose log begins after `start`, has another log than before: a snapshot took
    /// the place of it.
    #[must_use]
    pub fn is_replaced(&self, seat: usize, start: LogId) -> bool {
        let mirror = &self.mirrors[seat];
        start != mirror.start && mirror.id_at(start.index) != Some(start)
    }

    /// A snapshot as of `start` took the place of the log of `seat`.
    ///
    /// # Errors
    /// R15: it is not of the ledger, or takes the log back.
    pub fn installs(&mut self, seat: usize, start: LogId, ledger: &Ledger) -> Verdict {
        let marks = self.marks[seat];
        let Some(chain) = chain_of(start, ledger) else {
            return ensure(false, "R15", &[seat], || {
                format!("n{seat} installs a snapshot of {start}, which is not of the ledger")
            });
        };
        ensure(start.index > marks.committed, "R15", &[seat], || {
            format!("n{seat} installs a snapshot of {start}, and had {marks:?}")
        })?;
        self.mirrors[seat] = Mirror {
            base: (start, chain),
            start,
            entries: Vec::new(),
        };
        Ok(())
    }

    /// `seat` was seen with a log that begins after `start` and ends at `last`.
    ///
    /// # Errors
    /// R4; R5: a leader took something of its own log away; R14: something committed went; R15: a
    /// snapshot took away what follows it.
    pub fn observe<'a>(
        &mut self,
        now: Time,
        seat: usize,
        leads_since_before: bool,
        start: LogId,
        last: LogId,
        term_at: impl Fn(Index) -> Option<Term>,
        entry: impl Fn(Index) -> &'a Entry,
    ) -> Verdict {
        let mirror = &mut self.mirrors[seat];
        let moved = std::mem::replace(&mut mirror.start, start) != start;
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
            // Nothing is trimmed and cut in one step.
            ensure(!moved, "R15", &[seat], || {
                format!("n{seat} begins after {start} and removes ({first} to {through})")
            })?;
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

/// The hash of the ledger through `id`, if that is of it.
fn chain_of(id: LogId, ledger: &Ledger) -> Option<u128> {
    let entry = ledger.get(id.index).map(|entry| entry.id);
    let is_known = id == LogId::ZERO || entry == Some(id);
    ledger.chain(id.index).filter(|_| is_known)
}

/// `seat` has just installed a snapshot as of `start`, and this configuration is in force.
///
/// # Errors
/// R12: it is not that of the ledger through there, nor of the founders.
pub fn in_force(
    seat: usize,
    shown: &Configuration,
    founders: &Configuration,
    start: LogId,
    ledger: &Ledger,
) -> Verdict {
    let entries = ledger.iter().rev().skip_while(|e| e.id.index > start.index);
    let mut changes = entries.filter_map(|entry| match &entry.payload {
        Payload::Configuration(configuration) => Some(&**configuration),
        Payload::Empty | Payload::Command(_) | Payload::Expire { .. } | Payload::Renew { .. } => {
            None
        }
    });
    let due = changes.next().unwrap_or(founders);
    ensure(shown == due, "R12", &[seat], || {
        format!("n{seat} installs {start} and has {shown:?} in force, instead of {due:?}")
    })
}

impl Mirror {
    fn id_at(&self, index: Index) -> Option<LogId> {
        let after = index.0.checked_sub(self.base.0.index.0)?;
        match after.checked_sub(1) {
            None => Some(self.base.0),
            Some(place) => {
                let &(term, _) = self.entries.get(usize::try_from(place).ok()?)?;
                Some(LogId { term, index })
            }
        }
    }

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
    use quorate_core::raft::Payload;
    use quorate_core::{ClusterTime, NodeId};

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
        let start = LogId::ZERO;
        logs.observe(Time(1), seat, leads, start, last, term_at, |index| {
            at(index).expect("there")
        })
    }

    #[test]
    fn r12_r15_snapshots_of_the_ledger_that_keep_what_follows() {
        let log = [entry(1, 1, 5), entry(1, 2, 5), entry(1, 3, 5)];
        let (mut logs, mut ledger) = (Logs::new(2), Ledger::default());
        assert_eq!(observe(&mut logs, 0, true, &log), Ok(()));
        let place = |index: Index| &log[usize::try_from(index.0 - 1).expect("small")];
        let commits = logs.commits(Time(2), 0, Term(1), Index(2), &mut ledger, place);
        assert_eq!(commits, Ok(()));
        let two = log[1].id;
        assert!(logs.is_replaced(1, two) && !logs.is_replaced(0, two));
        let installed = |logs: &Logs, id| logs.clone().installs(1, id, &ledger);
        assert_eq!(installed(&logs, two), Ok(()));
        assert_eq!(id_of(&installed(&logs, log[2].id)), "R15", "not committed");
        let other = entry(2, 2, 5).id;
        assert_eq!(id_of(&installed(&logs, other)), "R15");
        let marks = Marks {
            committed: Index(2),
            last: Index(2),
            ..Marks::default()
        };
        let mut behind = logs.clone();
        behind.marks[1] = marks;
        assert_eq!(id_of(&installed(&behind, two)), "R15", "it takes it back");

        let kept = |id: LogId| move |index| (index == id.index).then_some(id.term);
        let shrinks = logs.observe(Time(3), 0, false, two, two, kept(two), place);
        assert_eq!(id_of(&shrinks), "R15", "what followed is gone");

        let (three, five) = ([1, 2, 3].map(NodeId), [1, 2].map(NodeId));
        let (three, two_of) = (Configuration::of(three), Configuration::of(five));
        assert_eq!(in_force(1, &three, &three, two, &ledger), Ok(()));
        assert_eq!(id_of(&in_force(1, &two_of, &three, two, &ledger)), "R12");
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
