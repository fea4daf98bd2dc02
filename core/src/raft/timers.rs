//! The table of deadlines: a timer has a name, so a trace can say which one fired.

use crate::time::Instant;

/// What can come due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// Of a leader: a quorum must have been heard from by now (thesis §6.2). First in the table, so
    /// that a leader that slept steps down before it says anything.
    CheckQuorum,
    /// Nobody leads: ask whether a campaign would succeed (Raft §5.2).
    Election,
    /// Of a leader: tell everyone.
    Heartbeat,
    /// Of a leader: the transfer took too long, or it is time to try another (thesis §3.10).
    Transfer,
    /// The log is idle: seal its last batch (DESIGN.md §6).
    Seal,
}

impl Timer {
    pub(super) const ALL: [Self; 5] = [
        Self::CheckQuorum,
        Self::Election,
        Self::Heartbeat,
        Self::Transfer,
        Self::Seal,
    ];
}

/// When each timer comes due, if it is set.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    due: [Option<Instant>; Timer::ALL.len()],
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.due[timer as usize] = Some(at);
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        self.due[timer as usize] = None;
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.due[timer as usize].is_some()
    }

    /// Whether `timer` was due, which clears it.
    pub(super) fn expire(&mut self, timer: Timer, now: Instant) -> bool {
        let due = self.due[timer as usize].is_some_and(|at| at <= now);
        if due {
            self.clear(timer);
        }
        due
    }

    /// The earliest deadline.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.iter().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_fires_once_and_not_before_its_time() {
        let mut timers = Timers::default();
        assert_eq!(timers.deadline(), None);
        timers.set(Timer::Seal, Instant(5));
        timers.set(Timer::Election, Instant(3));
        assert_eq!(timers.deadline(), Some(Instant(3)));
        assert!(!timers.expire(Timer::Election, Instant(2)));
        assert!(timers.expire(Timer::Election, Instant(3)));
        assert!(!timers.expire(Timer::Election, Instant(4)));
        assert_eq!(timers.deadline(), Some(Instant(5)));
    }

    #[test]
    fn every_timer_has_a_place_of_its_own() {
        for (place, timer) in Timer::ALL.into_iter().enumerate() {
            assert_eq!(timer as usize, place);
        }
    }
}
