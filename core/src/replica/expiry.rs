//! When the leader asks the log to remove what is due (DESIGN.md §3).

use alloc::collections::BTreeMap;

use crate::config::Config;
use crate::raft::{Payload, Raft};
use crate::store::Store;
use crate::time::{ClusterTime, Duration, Instant};

/// The most election timeouts by which a node outlives its deadline so that nobody sees it end
/// early. A leader that commits nothing for longer leads no more.
const HELD_TIMEOUTS_MAX: u32 = 2;

/// The most moments at which nodes are held back. Beyond it all nodes are.
const HOLDS_MAX: usize = 4096;

/// Paces `Expire` entries: one in flight, and no more than one in each interval, so that deadlines
/// due together share an entry. What one entry leaves over goes into the next without waiting.
///
/// A deadline counts from the stamp of the write that set it, its client from the answer. That is
/// later by a sync of the disk, so nothing goes before its deadline has been over for as long as
/// the slowest of such answers took. Where a disk or a peer hung in between, what is due then is
/// held back for as long, and what is due after it waits with it, for nodes go in order.
///
/// A new leader does not know how late others answered. What may not have been answered at all
/// counts from its own first entry ([`Payload::Renew`](crate::raft::Payload::Renew)). All that it
/// finds stays an election timeout longer, which is more than a healthy leader takes for an answer,
/// or for as long as that entry took, which answers what others left.
#[derive(Clone, Debug)]
pub(super) struct Expiry {
    interval: Duration,
    limit_max: u32,
    in_flight: bool,
    not_before: Instant,
    slack: Duration,
    /// What is due at this moment, or later, does not go before that one. Moments are rounded down
    /// to intervals.
    holds: BTreeMap<ClusterTime, ClusterTime>,
    held_max: Duration,
    /// The last deadline of what others granted, if anything.
    inherited: Option<ClusterTime>,
    /// How much longer that stays.
    inherited_slack: Duration,
}

impl Expiry {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        Self {
            interval: config.expiry_interval,
            limit_max: config.expiry_batch_max,
            in_flight: false,
            not_before: now,
            slack: Duration::ZERO,
            holds: BTreeMap::new(),
            held_max: config.election_timeout * HELD_TIMEOUTS_MAX,
            inherited: None,
            inherited_slack: Duration::ZERO,
        }
    }

    /// When an entry should be proposed; `None` while nothing is due to be. To be asked again then:
    /// more may be held back. Not before the leader's first entry is applied, which grants anew
    /// what others left.
    pub(super) fn deadline(&self, raft: &Raft, store: &Store) -> Option<Instant> {
        let leads = raft.is_leader() && store.applied().term == raft.hard_state().term;
        if self.in_flight || !leads {
            return None;
        }
        let due = raft.reaches(self.goes(store.next_deadline()?));
        Some(due.max(self.not_before))
    }

    /// The entry to propose now; `None` where all that is due is held back.
    pub(super) fn entry(&self, now: Instant, raft: &Raft, store: &Store) -> Option<Payload> {
        let next = store.next_deadline()?;
        let horizon = self.horizon(raft.cluster_time(now), next);
        // What stands in the log before the entry is not answered yet, and applied before it.
        let granted = raft.first_to_end_after(store.applied().index);
        let until = granted.map_or(horizon, |granted| horizon.min(before(granted)));
        (next <= until).then_some(Payload::Expire {
            limit: self.limit_max,
            until,
        })
    }

    /// When the first of all nodes, due at `next`, may go, as far as the first hold tells.
    fn goes(&self, next: ClusterTime) -> ClusterTime {
        let first = self.holds.first_key_value();
        let held = first.filter(|&(&from, _)| from <= next);
        let slack = next + self.slack(next);
        held.map_or(slack, |(_, &until)| slack.max(until))
    }

    /// The last deadline of which nodes may go at `now`, when holds that are over are forgotten and
    /// the first deadline of all is `next`.
    fn horizon(&self, now: ClusterTime, next: ClusterTime) -> ClusterTime {
        let first = self.holds.first_key_value();
        let free = first.map_or(now, |(&from, _)| before(from));
        free.min(now - self.slack(next))
    }

    /// How long all nodes outlive their deadlines while the first of these is `next`: nodes go in
    /// order, so what waits for it waits as long.
    fn slack(&self, next: ClusterTime) -> Duration {
        match self.inherited {
            Some(last) if next <= last => self.slack.max(self.inherited_slack),
            Some(_) | None => self.slack,
        }
    }

    /// The first entry of this leader is applied; whom it answers will know so long after it was
    /// stamped. What there is, up to the deadline `last`, was granted by others.
    pub(super) fn inherits(&mut self, last: Option<ClusterTime>, after: Duration) {
        self.inherited = last;
        self.inherited_slack = after.clamp(self.held_max / HELD_TIMEOUTS_MAX, self.held_max);
    }

    /// A write that made something due at `deadline` is answered so long after it was stamped.
    pub(super) fn answered(&mut self, deadline: ClusterTime, after: Duration) {
        let after = after.min(self.held_max);
        if after <= self.interval || self.holds.len() >= HOLDS_MAX {
            self.slack = self.slack.max(after);
            return;
        }
        let interval = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        let from = ClusterTime(deadline.0 - deadline.0 % interval);
        let until = self.holds.entry(from).or_default();
        *until = (*until).max(deadline + after);
    }

    /// Forgets what is held back no longer. To be called before the others are asked.
    pub(super) fn forget(&mut self, now: ClusterTime) {
        while let Some(first) = self.holds.first_entry()
            && *first.get() <= now
        {
            first.remove();
        }
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

fn before(moment: ClusterTime) -> ClusterTime {
    moment - Duration::from_nanos(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_nanos(100);

    fn expiry() -> Expiry {
        let config = Config {
            expiry_interval: INTERVAL,
            election_timeout: Duration::from_nanos(1000),
            ..Config::default()
        };
        Expiry::new(&config, Instant(0))
    }

    #[test]
    fn a_slow_answer_delays_all_a_little() {
        let mut expiry = expiry();
        expiry.answered(ClusterTime(5000), Duration::from_nanos(70));
        expiry.answered(ClusterTime(5000), Duration::from_nanos(30));
        assert_eq!(expiry.goes(ClusterTime(200)), ClusterTime(270));
        assert_eq!(
            expiry.horizon(ClusterTime(270), ClusterTime(200)),
            ClusterTime(200)
        );
    }

    #[test]
    fn an_answer_that_took_long_delays_what_is_due_with_it() {
        let mut expiry = expiry();
        expiry.answered(ClusterTime(5050), Duration::from_nanos(600));
        assert_eq!(expiry.goes(ClusterTime(4999)), ClusterTime(4999));
        assert_eq!(expiry.goes(ClusterTime(5000)), ClusterTime(5650));
        assert_eq!(expiry.goes(ClusterTime(6000)), ClusterTime(6000));
        expiry.forget(ClusterTime(5649));
        assert_eq!(
            expiry.horizon(ClusterTime(5649), ClusterTime(5000)),
            ClusterTime(4999)
        );
        expiry.forget(ClusterTime(5650));
        assert_eq!(
            expiry.horizon(ClusterTime(5650), ClusterTime(5000)),
            ClusterTime(5650)
        );
    }

    #[test]
    fn what_another_leader_granted_stays_an_election_timeout_longer() {
        let mut expiry = expiry();
        expiry.inherits(Some(ClusterTime(5000)), Duration::ZERO);
        assert_eq!(expiry.goes(ClusterTime(5000)), ClusterTime(6000));
        let horizon = |expiry: &Expiry, next| expiry.horizon(ClusterTime(6000), ClusterTime(next));
        assert_eq!(horizon(&expiry, 5000), ClusterTime(5000));
        assert_eq!(expiry.goes(ClusterTime(5001)), ClusterTime(5001));
        assert_eq!(horizon(&expiry, 5001), ClusterTime(6000));
        expiry.inherits(Some(ClusterTime(5000)), Duration::from_nanos(1500));
        assert_eq!(expiry.goes(ClusterTime(5000)), ClusterTime(6500));
        expiry.inherits(None, Duration::MAX);
        assert_eq!(expiry.goes(ClusterTime(5000)), ClusterTime(5000));
    }

    #[test]
    fn holds_have_a_limit_each_and_together() {
        let mut expiry = expiry();
        for moment in 0..HOLDS_MAX as u64 {
            let deadline = ClusterTime(10_000 + moment * 100);
            expiry.answered(deadline, Duration::MAX);
        }
        assert_eq!(expiry.goes(ClusterTime(10_000)), ClusterTime(12_000));
        assert_eq!(expiry.goes(ClusterTime(9_000)), ClusterTime(9_000));
        expiry.answered(ClusterTime(5000), Duration::MAX);
        assert_eq!(expiry.holds.len(), HOLDS_MAX);
        assert_eq!(expiry.goes(ClusterTime(5000)), ClusterTime(7_000));
    }
}
