//! When the leader asks the log to remove what is due (DESIGN.md §3).

use crate::raft::Raft;
use crate::store::Store;
use crate::time::{Duration, Instant};

/// Paces `Expire` entries: one in flight, and no more than one in each interval, so that deadlines
/// due together share an entry. What one entry leaves over goes into the next without waiting.
#[derive(Clone, Debug)]
pub(super) struct Expiry {
    interval: Duration,
    in_flight: bool,
    not_before: Instant,
}

impl Expiry {
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            in_flight: false,
            not_before: now,
        }
    }

    /// When an entry should be proposed; `None` while nothing is due to be.
    pub(super) fn deadline(&self, raft: &Raft, store: &Store) -> Option<Instant> {
        if self.in_flight || !raft.is_leader() {
            return None;
        }
        let due = raft.reaches(store.next_deadline()?);
        Some(due.max(self.not_before))
    }

    /// An entry has been proposed.
    pub(super) fn proposed(&mut self, now: Instant) {
        assert!(!self.in_flight, "two expiry entries in flight");
        self.in_flight = true;
        self.not_before = now + self.interval;
    }

    /// The proposal was refused: not before an interval has passed.
    pub(super) fn refused(&mut self, now: Instant) {
        self.not_before = now + self.interval;
    }

    /// An entry has been applied, ours or another leader's; `full` if it reached its limit, so that
    /// more may be due already.
    pub(super) fn applied(&mut self, now: Instant, full: bool) {
        self.in_flight = false;
        if full {
            self.not_before = now;
        }
    }

    /// Leadership is lost: what was in flight may never be applied.
    pub(super) fn reset(&mut self) {
        self.in_flight = false;
    }
}
