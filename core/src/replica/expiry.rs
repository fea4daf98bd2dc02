//! When the leader asks the log to remove what is due (DESIGN.md §3).

use crate::raft::Raft;
use crate::store::Store;
use crate::time::{Duration, Instant};

/// The most intervals by which nodes outlive their deadlines so that nobody sees them end early.
const SLACK_INTERVALS_MAX: u32 = 4;

/// Paces `Expire` entries: one in flight, and no more than one in each interval, so that deadlines
/// due together share an entry. What one entry leaves over goes into the next without waiting.
///
/// A deadline counts from the stamp of the write that set it, its client from the answer, which is
/// later by a sync of the disk. So nothing goes before its deadline has been over for as long as
/// the slowest of those answers took.
#[derive(Clone, Debug)]
pub(super) struct Expiry {
    interval: Duration,
    limit_max: u32,
    in_flight: bool,
    not_before: Instant,
    slack: Duration,
}

impl Expiry {
    pub(super) fn new(interval: Duration, limit_max: u32, now: Instant) -> Self {
        Self {
            interval,
            limit_max,
            in_flight: false,
            not_before: now,
            slack: Duration::ZERO,
        }
    }

    /// When an entry should be proposed; `None` while nothing is due to be.
    pub(super) fn deadline(&self, raft: &Raft, store: &Store) -> Option<Instant> {
        if self.in_flight || !raft.is_leader() {
            return None;
        }
        let due = raft.reaches(store.next_deadline()? + self.slack);
        Some(due.max(self.not_before))
    }

    /// How many nodes may go now. They are the first to go, so a number tells which.
    pub(super) fn limit(&self, now: Instant, raft: &Raft, store: &Store) -> u32 {
        store.due(raft.cluster_time(now) - self.slack, self.limit_max)
    }

    /// A write that gives a time to live is answered so long after it was stamped.
    pub(super) fn answered(&mut self, after: Duration) {
        let most = self.interval * SLACK_INTERVALS_MAX;
        self.slack = self.slack.max(after).min(most);
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

    /// An entry that `expired` so many nodes has been applied, ours or another leader's. Where that
    /// is the most there may be, more may be due already.
    pub(super) fn applied(&mut self, now: Instant, expired: u32) {
        self.in_flight = false;
        if expired == self.limit_max {
            self.not_before = now;
        }
    }

    /// Leadership is lost: what was in flight may never be applied.
    pub(super) fn reset(&mut self) {
        self.in_flight = false;
    }
}
