//! What is on disk, what is on its way there, and what waits for it.
//!
//! Nothing that needs the disk leaves before the disk. A write is named by its `WriteSeq`, never by
//! what it holds: truncating clamps the write in flight, so its late completion cannot vouch for
//! entries that were overwritten meanwhile.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::ids::{Index, LogId, NodeId, Term, WriteSeq};
use crate::output::{HardState, Write};
use crate::raft::{Entries, MessageBody};
use crate::time::Instant;

/// The disk, as this member knows it.
///
/// Invariants: one write is in flight at most; `persisted <= in_flight.through`; the entries
/// through `persisted` on disk equal the log's.
#[derive(Clone, Debug)]
pub(super) struct Durability {
    issued: WriteSeq,
    in_flight: Option<InFlight>,
    hard_state: HardState,
    persisted: Index,
    /// A snapshot took the log's place, and no write has told the disk yet.
    install: Option<LogId>,
    /// Nothing was written since the last seal: the last batch is checkable (DESIGN.md §6).
    sealed: bool,
    /// What is to be said in this term, and speaks for the hard state.
    messages: VecDeque<HeldMessage>,
}

/// To whom, in which term, what. The term is the current one, or of a pre-vote and its grant the
/// one that would be.
type HeldMessage = (NodeId, Term, MessageBody);

#[derive(Clone, Debug)]
struct InFlight {
    seq: WriteSeq,
    hard_state: HardState,
    through: Index,
    is_seal: bool,
    since: Instant,
}

impl Durability {
    /// A disk that holds `hard_state` and the log through `persisted`.
    pub(super) fn new(issued: WriteSeq, hard_state: HardState, persisted: Index) -> Self {
        Self {
            issued,
            in_flight: None,
            hard_state,
            persisted,
            install: None,
            // A disk that was never written to has no last batch.
            sealed: issued == WriteSeq::ZERO,
            messages: VecDeque::new(),
        }
    }

    /// The next write: `entries` follow what is persisted, or there are none. Where a snapshot is
    /// to be installed, that comes first and alone.
    pub(super) fn begin(&mut self, now: Instant, hard_state: HardState, entries: Entries) -> Write {
        assert!(self.in_flight.is_none(), "two writes in flight");
        assert!(
            self.install.is_none() || entries.is_empty(),
            "entries after a snapshot that the disk does not know"
        );
        assert!(hard_state.term >= self.hard_state.term, "the term falls");
        if let Some(first) = entries.first() {
            assert_eq!(first.id.index, self.persisted.next(), "a gap on disk");
        }
        let install = self.install.take();
        let is_news = install.is_some() || hard_state != self.hard_state;
        let is_seal = entries.is_empty() && !is_news;
        self.issued = self.issued.next();
        self.sealed = false;
        let last = entries.last().map(|last| last.id).or(install);
        self.in_flight = Some(InFlight {
            seq: self.issued,
            hard_state,
            through: last.map_or(self.persisted, |last| last.index),
            is_seal,
            since: now,
        });
        Write {
            seq: self.issued,
            hard_state,
            entries,
            install,
        }
    }

    /// A snapshot as of `last` takes the place of the log, which agreed with it through `agreed` at
    /// least: what the disk holds beyond that is no longer the log.
    pub(super) fn install(&mut self, last: LogId, agreed: Index) {
        self.truncate(agreed.next());
        self.install = Some(last);
    }

    /// The disk is done through `through`. Whether that was the write in flight.
    pub(super) fn complete(&mut self, through: WriteSeq) -> bool {
        assert!(
            through <= self.issued,
            "{through} was never issued; the last was {}",
            self.issued
        );
        let Some(write) = self.in_flight.take_if(|write| write.seq <= through) else {
            return false;
        };
        assert!(
            write.through >= self.persisted,
            "the disk forgot what it held"
        );
        self.persisted = write.through;
        self.hard_state = write.hard_state;
        self.sealed = write.is_seal;
        true
    }

    /// The log was cut before `from`: what the disk holds there is no longer the log.
    pub(super) fn truncate(&mut self, from: Index) {
        let kept = Index(from.0 - 1);
        self.persisted = self.persisted.min(kept);
        if let Some(write) = &mut self.in_flight {
            write.through = write.through.min(kept);
        }
    }

    /// Keeps a message until the hard state it speaks for is on disk.
    pub(super) fn hold(&mut self, to: NodeId, term: Term, body: MessageBody) {
        if let MessageBody::ProposeRefused { tickets } = &body
            && let Some(waiting) = self.refusal(to, term)
        {
            waiting.extend(tickets);
            return;
        }
        let message = (to, term, body);
        // An equal one already waiting says it all, so the queue is bounded by what can be said.
        if !self.messages.contains(&message) {
            self.messages.push_back(message);
        }
    }

    /// The tickets that a peer is to be told are refused, where that waits already: each of its
    /// messages may bring more.
    fn refusal(&mut self, to: NodeId, term: Term) -> Option<&mut Vec<u64>> {
        self.messages.iter_mut().find_map(|(peer, at, body)| {
            let MessageBody::ProposeRefused { tickets } = body else {
                return None;
            };
            (*peer == to && *at == term).then_some(tickets)
        })
    }

    /// The term moved on: what waits would speak for another one.
    pub(super) fn drop_messages(&mut self) {
        self.messages.clear();
    }

    /// The next message that may leave, given the hard state it speaks for.
    pub(super) fn release(&mut self, hard_state: HardState) -> Option<HeldMessage> {
        if self.holds(hard_state) {
            self.messages.pop_front()
        } else {
            None
        }
    }

    /// How many messages wait.
    pub(super) fn held(&self) -> usize {
        self.messages.len()
    }

    /// Whether `hard_state` is on disk.
    pub(super) fn holds(&self, hard_state: HardState) -> bool {
        self.hard_state == hard_state
    }

    /// Whether a write is in flight.
    pub(super) fn is_writing(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Since when the write in flight has been.
    pub(super) fn writing_since(&self) -> Option<Instant> {
        self.in_flight.as_ref().map(|write| write.since)
    }

    /// Whether a snapshot waits to be told to the disk.
    pub(super) fn must_install(&self) -> bool {
        self.install.is_some()
    }

    /// Whether the last batch is followed by a seal.
    pub(super) fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// The log is on disk through here.
    pub(super) fn persisted(&self) -> Index {
        self.persisted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::LogId;
    use crate::raft::{Entry, Payload};
    use crate::time::{ClusterTime, Instant};

    fn nothing() -> Entries {
        Entries::from([])
    }

    fn state(term: u64) -> HardState {
        HardState {
            term: Term(term),
            vote: None,
        }
    }

    fn entries(range: core::ops::RangeInclusive<u64>, term: u64) -> Entries {
        range
            .map(|index| Entry {
                id: LogId {
                    term: Term(term),
                    index: Index(index),
                },
                stamp: ClusterTime::ZERO,
                payload: Payload::Empty,
            })
            .collect()
    }

    #[test]
    fn a_late_completion_does_not_vouch_for_overwritten_entries() {
        let mut disk = Durability::new(WriteSeq(4), state(1), Index(3));
        assert_eq!(
            disk.begin(Instant(0), state(1), entries(4..=9, 1)).seq,
            WriteSeq(5)
        );
        disk.truncate(Index(7));
        assert!(disk.complete(WriteSeq(5)));
        assert_eq!(disk.persisted(), Index(6));
        disk.begin(Instant(0), state(2), entries(7..=7, 2));
        assert!(disk.complete(WriteSeq(6)));
        assert_eq!(disk.persisted(), Index(7));
    }

    #[test]
    fn truncating_what_is_on_disk_takes_it_back_at_once() {
        let mut disk = Durability::new(WriteSeq(0), state(1), Index(9));
        disk.begin(Instant(0), state(1), entries(10..=10, 1));
        disk.truncate(Index(5));
        assert_eq!(disk.persisted(), Index(4));
        disk.complete(WriteSeq(1));
        assert_eq!(disk.persisted(), Index(4));
    }

    #[test]
    fn an_answer_waits_for_the_hard_state_it_speaks_for() {
        let mut disk = Durability::new(WriteSeq(0), state(1), Index(0));
        disk.begin(Instant(0), state(2), nothing());
        let answer = MessageBody::VoteReply { granted: false };
        disk.hold(NodeId(2), Term(2), answer.clone());
        disk.hold(NodeId(2), Term(2), answer.clone());
        assert_eq!(disk.release(state(2)), None);
        disk.complete(WriteSeq(1));
        assert_eq!(disk.release(state(2)), Some((NodeId(2), Term(2), answer)));
        assert_eq!(disk.release(state(2)), None, "said once");
    }

    #[test]
    fn however_much_is_refused_waits_as_one_message_for_each_peer() {
        let mut disk = Durability::new(WriteSeq(0), state(1), Index(0));
        let refused = |tickets: &[u64]| MessageBody::ProposeRefused {
            tickets: tickets.to_vec(),
        };
        for (peer, tickets) in [(2, [1, 2]), (3, [1, 5]), (2, [3, 4])] {
            disk.hold(NodeId(peer), Term(1), refused(&tickets));
        }
        assert_eq!(disk.held(), 2);
        let first = (NodeId(2), Term(1), refused(&[1, 2, 3, 4]));
        assert_eq!(disk.release(state(1)), Some(first));
        let second = (NodeId(3), Term(1), refused(&[1, 5]));
        assert_eq!(disk.release(state(1)), Some(second));
    }

    #[test]
    fn only_an_empty_write_after_all_others_seals() {
        let mut disk = Durability::new(WriteSeq(0), state(1), Index(0));
        assert!(disk.is_sealed(), "nothing was ever written");
        disk.begin(Instant(0), state(1), entries(1..=1, 1));
        disk.complete(WriteSeq(1));
        assert!(!disk.is_sealed());
        disk.begin(Instant(0), state(1), nothing());
        assert!(!disk.complete(WriteSeq(1)), "an older one, told again");
        assert!(!disk.is_sealed());
        disk.complete(WriteSeq(2));
        assert!(disk.is_sealed());
        disk.begin(Instant(0), state(2), nothing());
        disk.complete(WriteSeq(3));
        assert!(!disk.is_sealed(), "a new term wants a seal of its own");
    }

    #[test]
    #[should_panic(expected = "never issued")]
    fn a_completion_of_nothing_is_a_bug() {
        Durability::new(WriteSeq(3), state(1), Index(0)).complete(WriteSeq(4));
    }

    #[test]
    fn a_snapshot_is_written_before_what_follows_it() {
        let mut disk = Durability::new(WriteSeq(0), state(1), Index(3));
        disk.begin(Instant(0), state(1), entries(4..=9, 1));
        let last = LogId {
            term: Term(1),
            index: Index(20),
        };
        disk.install(last, Index(2));
        assert!(disk.must_install());
        disk.complete(WriteSeq(1));
        assert_eq!(
            disk.persisted(),
            Index(2),
            "what it held is no longer the log"
        );
        let write = disk.begin(Instant(0), state(1), nothing());
        assert_eq!((write.install, disk.must_install()), (Some(last), false));
        assert_eq!(disk.persisted(), Index(2));
        disk.complete(WriteSeq(2));
        assert_eq!(disk.persisted(), Index(20));
        assert!(!disk.is_sealed(), "an installation is no seal");
    }
}
