//! When a checkpoint is due, and the one in flight (DESIGN.md §6).

use crate::config::Config;
use crate::ids::LogId;
use crate::time::{Duration, Instant};

/// At most one checkpoint is in flight. The next is due when enough log has been applied since it
/// was taken, or when the first change after it has grown old.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    bytes_max: usize,
    interval: Duration,
    in_flight: Option<InFlight>,
    /// Applied bytes that no checkpoint holds.
    bytes: usize,
    /// When the first change came that no checkpoint holds.
    changed_at: Option<Instant>,
    /// A failed checkpoint is not tried again at once.
    not_before: Instant,
    failures: u32,
}

#[derive(Clone, Debug)]
struct InFlight {
    applied: LogId,
    bytes: usize,
    changed_at: Option<Instant>,
}

impl Schedule {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        Self {
            bytes_max: config.checkpoint_bytes,
            interval: config.checkpoint_interval,
            in_flight: None,
            bytes: 0,
            changed_at: None,
            not_before: now,
            failures: 0,
        }
    }

    /// An entry of `bytes` has been applied.
    pub(super) fn applied(&mut self, now: Instant, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.changed_at.get_or_insert(now);
    }

    /// When the next one is due; `None` while one is in flight or nothing has changed.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let changed_at = self.changed_at?;
        if self.in_flight.is_some() {
            return None;
        }
        let due = if self.is_failing() || self.bytes >= self.bytes_max {
            changed_at
        } else {
            changed_at + self.interval
        };
        Some(due.max(self.not_before))
    }

    /// A checkpoint of everything applied through `applied` has been handed out.
    pub(super) fn begin(&mut self, applied: LogId) {
        assert!(self.in_flight.is_none(), "two checkpoints in flight");
        let bytes = core::mem::take(&mut self.bytes);
        self.in_flight = Some(InFlight {
            applied,
            bytes,
            changed_at: self.changed_at.take(),
        });
    }

    /// It is durable.
    pub(super) fn succeeded(&mut self, applied: LogId) {
        let done = self.in_flight.take().map(|taken| taken.applied);
        assert_eq!(done, Some(applied), "a checkpoint nobody asked for");
        self.failures = 0;
    }

    /// It failed, and its changes are back: as due as they were. Tried again after a second, then
    /// more and more slowly.
    pub(super) fn failed(&mut self, now: Instant) {
        let taken = self
            .in_flight
            .take()
            .expect("only a checkpoint in flight can fail");
        self.bytes = self.bytes.saturating_add(taken.bytes);
        self.changed_at = taken.changed_at.or(self.changed_at);
        self.failures = (self.failures + 1).min(6);
        self.not_before = now + Duration::from_secs(1 << (self.failures - 1));
    }

    /// A snapshot took the place of all that was applied.
    pub(super) fn superseded(&mut self) {
        assert!(self.in_flight.is_none(), "superseded in flight");
        self.bytes = 0;
        self.changed_at = None;
    }

    pub(super) const fn in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether the last one failed and none has succeeded since.
    pub(super) const fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Whether something is applied that no checkpoint holds.
    pub(super) const fn is_behind(&self) -> bool {
        self.changed_at.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Index, Term};

    const AT: LogId = LogId {
        term: Term(1),
        index: Index(9),
    };

    fn seconds(n: u64) -> Instant {
        Instant::default() + Duration::from_secs(n)
    }

    fn schedule() -> Schedule {
        let config = Config {
            checkpoint_bytes: 100,
            ..Config::default()
        };
        Schedule::new(&config, Instant::default())
    }

    #[test]
    fn due_by_age_of_the_first_change_or_at_once_by_bytes() {
        let mut schedule = schedule();
        assert_eq!(schedule.deadline(), None);
        schedule.applied(seconds(1), 60);
        schedule.applied(seconds(2), 39);
        assert_eq!(schedule.deadline(), Some(seconds(301)));
        schedule.applied(seconds(3), 1);
        assert_eq!(schedule.deadline(), Some(seconds(1)));
    }

    #[test]
    fn one_in_flight_and_what_comes_meanwhile_is_the_next() {
        let mut schedule = schedule();
        schedule.applied(seconds(1), 100);
        schedule.begin(AT);
        schedule.applied(seconds(2), 100);
        assert_eq!(schedule.deadline(), None);
        schedule.succeeded(AT);
        assert_eq!(schedule.deadline(), Some(seconds(2)));
    }

    #[test]
    fn a_failed_one_waits_longer_each_time() {
        let mut schedule = schedule();
        schedule.applied(seconds(0), 100);
        for (now, next) in [(10, 11), (20, 22), (30, 34)] {
            schedule.begin(AT);
            schedule.failed(seconds(now));
            assert_eq!(schedule.deadline(), Some(seconds(next)));
        }
    }
}
