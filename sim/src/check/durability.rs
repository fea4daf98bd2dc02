//! What is on the disks: R8, R10, R11.

use quorate_core::raft::Entry;
use quorate_core::{HardState, Index, LogId, Term, Write};

use super::{Verdict, ensure};

/// The durable part of one node: what a recovery would find after a power cut that loses all it
/// may.
#[derive(Clone, Debug, Default)]
pub struct Image {
    hard_state: HardState,
    /// The entry before the first one held.
    start: LogId,
    terms: Vec<Term>,
    /// It once held the log through here, and damage took some of that: until it is back, the node
    /// neither votes nor acknowledges.
    owes: Option<Index>,
}

impl Image {
    /// What a recovery found; `applied` is in the tables, and with it a term.
    #[must_use]
    pub fn recovered(
        hard_state: HardState,
        applied: LogId,
        start: LogId,
        entries: &[Entry],
    ) -> Self {
        let from_tables = HardState {
            term: applied.term,
            vote: None,
        };
        Self {
            hard_state: if hard_state.term < applied.term {
                from_tables
            } else {
                hard_state
            },
            start,
            terms: entries.iter().map(|entry| entry.id.term).collect(),
            owes: None,
        }
    }

    /// The same, of a member that knows that it lost what it had held through `held`.
    #[must_use]
    pub fn owing(self, held: Option<Index>) -> Self {
        let owes = held.filter(|&held| held > self.last().index);
        Self { owes, ..self }
    }

    /// Through where it has to be repaired before it may vote or acknowledge.
    #[must_use]
    pub const fn owes(&self) -> Option<Index> {
        self.owes
    }

    /// The sync that covers `write` has completed.
    pub fn written(&mut self, write: &Write) {
        self.hard_state = write.hard_state;
        if let Some(install) = write.install {
            (self.start, self.terms) = (install, Vec::new());
        }
        if let Some(first) = write.entries.first() {
            let keep = first.id.index.0.saturating_sub(self.start.index.0 + 1);
            self.terms
                .truncate(usize::try_from(keep).expect("runs are short"));
            self.terms
                .extend(write.entries.iter().map(|entry| entry.id.term));
        }
        let last = self.last().index;
        self.owes = self.owes.filter(|&owes| owes > last);
    }

    /// A snapshot as of `last` is the tables from now on, and the log begins anew after it unless
    /// it holds that: so a recovery would have it, whether the log was told or not.
    pub fn switched(&mut self, last: LogId) {
        if self.term_at(last.index) != Some(last.term) && self.start != last {
            self.start = last;
            self.terms.clear();
        }
        if self.hard_state.term < last.term {
            self.hard_state = HardState {
                term: last.term,
                vote: None,
            };
        }
        let last = self.last().index;
        self.owes = self.owes.filter(|&owes| owes > last);
    }

    /// Term and vote.
    #[must_use]
    pub const fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The last entry.
    #[must_use]
    pub fn last(&self) -> LogId {
        match self.terms.last() {
            Some(&term) => LogId {
                term,
                index: Index(self.start.index.0 + self.terms.len() as u64),
            },
            None => self.start,
        }
    }

    /// The term of the entry at `index`, if it is held.
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        let after = index.0.checked_sub(self.start.index.0 + 1)?;
        self.terms.get(usize::try_from(after).ok()?).copied()
    }

    /// Whether the log through `id` is held: by Log Matching, whether `id` is. What is before the
    /// start is in the tables.
    #[must_use]
    pub fn holds(&self, id: LogId) -> bool {
        id.index <= self.start.index || self.term_at(id.index) == Some(id.term)
    }
}

/// The durable images of all nodes. All of them vote.
#[derive(Clone, Debug)]
pub struct Durability {
    images: Vec<Image>,
}

impl Durability {
    /// Empty disks.
    #[must_use]
    pub fn new(seats: usize) -> Self {
        Self {
            images: vec![Image::default(); seats],
        }
    }

    /// What is on the disk of `seat`.
    #[must_use]
    pub fn image(&self, seat: usize) -> &Image {
        &self.images[seat]
    }

    /// What is on the disk of `seat`, to change it.
    pub fn image_mut(&mut self, seat: usize) -> &mut Image {
        &mut self.images[seat]
    }

    /// A recovery of `seat` found this; `handed` is what its disk would hold if everything handed
    /// to it had become durable.
    ///
    /// # Errors
    /// R11: something is gone that was durable.
    pub fn comes_back(&mut self, seat: usize, found: Image, handed: &Image) -> Verdict {
        let before = std::mem::replace(&mut self.images[seat], found);
        if let Some(owes) = before.owes {
            // Damage that was seen once is not forgotten.
            let found = &self.images[seat];
            let known = found.owes.is_some_and(|owed| owed >= owes);
            ensure(known || found.last().index >= owes, "R11", &[seat], || {
                format!("n{seat} had lost entries through {owes} and no longer knows")
            })?;
        }
        let found = &self.images[seat];
        let (had, has) = (before.hard_state, found.hard_state);
        let voted = had.term < has.term || had.vote.is_none() || had == has;
        ensure(had.term <= has.term && voted, "R11", &[seat], || {
            format!("n{seat} had {had:?} on its disk and comes back with {has:?}")
        })?;
        let last = before.last();
        // A write that was not acknowledged may have replaced the end of the log, and so may the
        // tables: they can hold what was committed before it was on this disk.
        let tables = found.start;
        let replaced = before
            .term_at(tables.index)
            .is_some_and(|term| term < tables.term);
        let owed = found.owes.is_some_and(|owes| owes >= last.index);
        ensure(
            found.holds(last) || !handed.holds(last) || replaced || owed,
            "R11",
            &[seat],
            || {
                let end = found.last();
                format!("n{seat} had {last} on its disk and comes back with a log through {end}")
            },
        )
    }

    /// `id` is newly committed, as `seat` says; `leads_in` is its term if it leads.
    ///
    /// # Errors
    /// R8: it is not on the disks of a majority, or a leader counted an entry of an older term.
    pub fn commits(&self, seat: usize, id: LogId, leads_in: Option<Term>) -> Verdict {
        // Raft §5.4.2.
        ensure(
            leads_in.is_none_or(|term| term == id.term),
            "R8",
            &[seat],
            || format!("n{seat} leads in term {leads_in:?} and commits {id} by counting"),
        )?;
        let holding: Vec<_> = (0..self.images.len())
            .filter(|&holder| {
                // One that lost it helps nobody to lead without it.
                let image = &self.images[holder];
                image.holds(id) || image.owes.is_some_and(|owes| owes >= id.index)
            })
            .collect();
        let majority = self.images.len() / 2 + 1;
        ensure(holding.len() >= majority, "R8", &[seat], || {
            format!("n{seat} commits {id}, which is on the disks of {holding:?} only")
        })
    }

    /// `seat` votes, or acknowledges entries as one that counts.
    ///
    /// # Errors
    /// R10: damage took what it had vouched for, and that is not back.
    pub fn vouches(&self, seat: usize) -> Verdict {
        let owes = self.images[seat].owes;
        ensure(owes.is_none(), "R10", &[seat], || {
            let last = self.images[seat].last();
            format!("n{seat} vouches; its disk ends at {last}, and it had lost through {owes:?}")
        })
    }

    /// `seat` acknowledges the leader's log through `through`, which is `id` in the log in memory.
    ///
    /// # Errors
    /// R10: its disk does not hold it.
    pub fn acknowledges(&self, seat: usize, through: Index, id: Option<LogId>) -> Verdict {
        let holds = through == Index::ZERO || id.is_some_and(|id| self.images[seat].holds(id));
        ensure(holds, "R10", &[seat], || {
            let last = self.images[seat].last();
            format!("n{seat} acknowledges {id:?} through {through}; its disk ends at {last}")
        })
    }

    /// `seat`, whose log ends at `last`, asks `to` to take the lead.
    ///
    /// # Errors
    /// M8: that one lacks some of the log, and had not acknowledged it before damage took it. It
    /// could depose the leader and not be elected. One whose log is of a later term follows another
    /// leader already, and heeds this one no more.
    pub fn hands_over(&self, seat: usize, to: usize, last: LogId) -> Verdict {
        let image = &self.images[to];
        let is_later = image.last().term > last.term;
        let holds = image.holds(last) || image.owes.is_some() || is_later;
        ensure(holds, "M8", &[seat, to], || {
            let has = image.last();
            format!(
                "n{seat} hands a log that ends at {last} over to n{to}, whose disk ends at {has}"
            )
        })
    }
}

/// After a power cut: whoever a majority of the recovered logs could elect must hold all that was
/// acknowledged.
///
/// # Errors
/// R11.
pub fn survives(recovered: &[Image], acknowledged: Option<LogId>) -> Verdict {
    let Some(id) = acknowledged else {
        return Ok(());
    };
    let majority = recovered.len() / 2 + 1;
    let may_vote = |image: &&Image| image.owes.is_none();
    for (seat, image) in recovered.iter().enumerate() {
        if !may_vote(&image) {
            continue;
        }
        let last = image.last();
        let voters = recovered
            .iter()
            .filter(may_vote)
            .filter(|voter| voter.last() <= last)
            .count();
        ensure(voters < majority || image.holds(id), "R11", &[seat], || {
            format!("after a power cut n{seat} can lead; its log ends at {last}, without {id}")
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use quorate_core::raft::Payload;
    use quorate_core::{ClusterTime, WriteSeq};

    use super::super::id_of;
    use super::*;

    const fn id(term: u64, index: u64) -> LogId {
        LogId {
            term: Term(term),
            index: Index(index),
        }
    }

    fn write(term: u64, entries: &[LogId]) -> Write {
        let entry = |&id| Entry {
            id,
            stamp: ClusterTime::ZERO,
            payload: Payload::Empty,
        };
        Write {
            seq: WriteSeq(1),
            hard_state: HardState {
                term: Term(term),
                vote: None,
            },
            entries: Arc::from_iter(entries.iter().map(entry)),
            install: None,
        }
    }

    fn disks(logs: &[&[LogId]]) -> Durability {
        let mut disks = Durability::new(logs.len());
        for (seat, log) in logs.iter().enumerate() {
            disks.image_mut(seat).written(&write(1, log));
        }
        disks
    }

    #[test]
    fn r8_committed_without_a_majority_of_disks() {
        let disks = disks(&[&[id(1, 1), id(1, 2)], &[id(1, 1)], &[id(1, 1), id(2, 2)]]);
        assert_eq!(disks.commits(0, id(1, 1), Some(Term(1))), Ok(()));
        assert_eq!(id_of(&disks.commits(0, id(1, 1), Some(Term(2)))), "R8");
        assert_eq!(id_of(&disks.commits(0, id(1, 2), Some(Term(1)))), "R8");
    }

    #[test]
    fn r10_acknowledged_before_the_disk() {
        let mut disks = disks(&[&[id(1, 1)]]);
        assert_eq!(disks.acknowledges(0, Index(1), Some(id(1, 1))), Ok(()));
        assert_eq!(
            id_of(&disks.acknowledges(0, Index(2), Some(id(1, 2)))),
            "R10"
        );
        disks.image_mut(0).written(&write(2, &[id(2, 1)]));
        assert_eq!(
            id_of(&disks.acknowledges(0, Index(1), Some(id(1, 1)))),
            "R10"
        );
    }

    #[test]
    fn m8_handed_over_to_one_that_lags() {
        let disks = disks(&[&[id(1, 1), id(1, 2)], &[id(1, 1)], &[id(1, 1), id(1, 2)]]);
        assert_eq!(disks.hands_over(0, 2, id(1, 2)), Ok(()));
        assert_eq!(disks.hands_over(0, 1, id(1, 1)), Ok(()));
        assert_eq!(id_of(&disks.hands_over(0, 1, id(1, 2))), "M8");
        let disks = self::disks(&[&[id(1, 1), id(1, 2)], &[id(1, 1), id(2, 2)]]);
        assert_eq!(disks.hands_over(0, 1, id(1, 2)), Ok(()), "a later leader's");
    }

    #[test]
    fn r11_a_disk_that_lost_what_it_had() {
        let back = |log: &[LogId], term| {
            let mut found = Image::default();
            found.written(&write(term, log));
            let mut handed = Image::default();
            let meant = [id(1, 1), id(term.max(1), 2)];
            handed.written(&write(term, &meant));
            disks(&[&[id(1, 1), id(1, 2)]]).comes_back(0, found, &handed)
        };
        assert_eq!(back(&[id(1, 1), id(1, 2), id(1, 3)], 1), Ok(()));
        assert_eq!(back(&[id(1, 1), id(2, 2)], 2), Ok(()));
        assert_eq!(id_of(&back(&[id(1, 1)], 1)), "R11");
        assert_eq!(id_of(&back(&[id(1, 1), id(1, 2)], 0)), "R11");
    }

    #[test]
    fn r10_r11_what_a_snapshot_makes_durable() {
        let mut disks = disks(&[&[id(1, 1), id(1, 2)]]);
        let installed = id(2, 9);
        let acknowledged = |disks: &Durability| disks.acknowledges(0, Index(9), Some(installed));
        assert_eq!(
            id_of(&acknowledged(&disks)),
            "R10",
            "its tables are not there"
        );
        let mut handed = disks.image(0).clone();
        let installs = Write {
            install: Some(installed),
            ..write(2, &[])
        };
        handed.written(&installs);
        let before = disks.image(0).clone();
        assert_eq!(disks.clone().comes_back(0, before.clone(), &handed), Ok(()));
        disks.image_mut(0).switched(installed);
        assert_eq!(acknowledged(&disks), Ok(()));
        let found = disks.image(0).clone();
        assert_eq!(found.last(), installed, "a log that lacks it is dropped");
        assert_eq!(disks.clone().comes_back(0, found.clone(), &handed), Ok(()));
        let forgotten = disks.clone().comes_back(0, before, &handed);
        assert_eq!(id_of(&forgotten), "R11", "it was durable");
        let mut told = found;
        told.written(&installs);
        assert_eq!(disks.comes_back(0, told, &handed), Ok(()));
        let mut longer = Image::default();
        longer.written(&write(1, &[id(1, 1), id(2, 2), id(2, 3)]));
        longer.switched(id(2, 2));
        assert_eq!(longer.last(), id(2, 3), "a suffix that follows is kept");
    }

    #[test]
    fn r11_a_leader_without_what_was_acknowledged() {
        let images = |logs: &[&[LogId]]| disks(logs).images;
        let kept = images(&[&[id(1, 1), id(1, 2)], &[id(1, 1)], &[id(1, 1), id(1, 2)]]);
        assert_eq!(survives(&kept, Some(id(1, 2))), Ok(()));
        let lost = images(&[&[id(1, 1), id(1, 2)], &[id(1, 1)], &[id(1, 1)]]);
        assert_eq!(id_of(&survives(&lost, Some(id(1, 2)))), "R11");
    }
}
