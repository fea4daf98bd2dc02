//! The only place that reads a clock.

use std::time;

use quorate_core::{Duration, Instant};

/// This process's monotonic clock, as core wants it: nanoseconds from an origin of its own.
///
/// `std::time::Instant` is `CLOCK_MONOTONIC`: jumps of the wall clock do not reach it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: time::Instant,
}

impl Clock {
    /// A clock that begins now.
    pub(crate) fn start() -> Self {
        Self {
            origin: time::Instant::now(),
        }
    }

    /// The time on it.
    pub(crate) fn now(&self) -> Instant {
        Instant::default() + self.origin.elapsed()
    }

    /// The same moment for a wait of the standard library; `None` where it is past all time.
    pub(crate) fn moment(&self, at: Instant) -> Option<time::Instant> {
        self.origin.checked_add(Duration::from_nanos(at.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_instants_agree() {
        let clock = Clock::start();
        let now = clock.now();
        let moment = clock.moment(now).expect("a moment of today");
        assert!(moment <= time::Instant::now());
        assert!(clock.now() >= now);
        // Either the end of time is representable or it is reported as such; it never panics.
        let _ = clock.moment(Instant(u64::MAX));
    }
}
