//! True time, which no node sees, and the clocks of the nodes, which are wrong in known bounds.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use quorate_core::Instant;
use serde::{Deserialize, Serialize};

use crate::fates::Here;
use crate::fault::{Dials, Fault, Kind};
use crate::rng::Draw;

/// What clocks can do.
pub const FAULTS: &[Kind] = &[
    Kind {
        fault: Fault::C1,
        what: "the wall clock jumps forward, by milliseconds to years",
        gap: 10,
    },
    Kind {
        fault: Fault::C2,
        what: "the wall clock jumps back, by milliseconds to years",
        gap: 10,
    },
    Kind {
        fault: Fault::C3,
        what: "the monotonic clock runs too fast or too slow, within ρ, and changes its rate",
        gap: 10,
    },
    Kind {
        fault: Fault::C6,
        what: "the monotonic clock has steps of 1, 10 or 16 ms, so that deadlines tie",
        gap: 0,
    },
];

/// What clocks can do, too.
pub const LATER: &[Kind] = &[Kind {
    fault: Fault::C5,
    what: "a machine is suspended: its monotonic clock stands still, and so does the node",
    gap: 8,
}];

/// What clocks can do, at last.
pub const LATEST: &[Kind] = &[
    Kind {
        fault: Fault::C4,
        what: "a monotonic clock is wrong by more than ρ: times to live mean nothing then",
        gap: 0,
    },
    Kind {
        fault: Fault::C7,
        what: "a timer fires late, by up to two election timeouts",
        gap: 0,
    },
];

/// A moment of true time, in nanoseconds since the run began.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Time(pub u64);

impl Time {
    /// The time since `earlier`; zero where `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanos(by)))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(by)))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0 / 1_000;
        write!(f, "{}.{:06}s", micros / 1_000_000, micros % 1_000_000)
    }
}

/// A duration in nanoseconds; the longest that fits where it is longer.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// ρ in parts per million: the largest rate error that core is promised.
pub const RATE_ERROR_PPM: u64 = quorate_core::time::RATE_ERROR_PER_MILLE * 1_000;

/// Tells the occasions of clocks that begin from those on which they change.
pub const BEGINNING: u64 = 1 << 37;

/// How wrong clocks are at most that nobody can rely on.
const LOST_PPM: u64 = 50_000;

const MILLION: u64 = 1_000_000;

/// The longest step a clock has with these dials.
#[must_use]
pub const fn grain(dials: &Dials) -> Duration {
    Duration::from_nanos(if dials.on(Fault::C6) { 16 * MILLION } else { 1 })
}

/// The clocks of one node. The monotonic one has a new origin after each restart, since core must
/// not depend on it; the wall clock is never shown to core at all (SIMULATION.md T3).
#[derive(Clone, Debug)]
pub struct Clock {
    /// The piece of the line that is in force: from this true time, before which it stands still …
    since: Time,
    /// … and this reading on …
    reading: u64,
    /// … so many parts of the clock pass in a million parts of true time.
    rate: u64,
    /// The reading is a multiple of this.
    step: u64,
    /// How far the wall clock is off, in nanoseconds.
    wall_error: i64,
}

impl Clock {
    /// A clock of the kind the dials ask for.
    #[must_use]
    pub fn new(now: Time, mut here: Here<'_>, draw: &mut Draw) -> Self {
        let is_coarse = here.dials().on(Fault::C6);
        let step = if here.strikes(Fault::C6, is_coarse) {
            *draw.pick(&[1, 10, 16]) * MILLION
        } else {
            1
        };
        let mut clock = Self {
            since: now,
            // Up to a year: a machine that has been up for long, or was just started.
            reading: draw.skewed(3_000_000 * 1_000_000_000),
            rate: MILLION,
            step,
            wall_error: 0,
        };
        let is_wrong = here.dials().on(Fault::C3);
        let is_wrong = here.strikes(Fault::C3, is_wrong);
        let is_lost = here.dials().on(Fault::C4);
        let is_lost = here.strikes(Fault::C4, is_lost);
        let bound = here.dials().scale(Fault::C3, RATE_ERROR_PPM) * u64::from(is_wrong)
            + here.dials().scale(Fault::C4, LOST_PPM) * u64::from(is_lost);
        clock.change_rate(now, bound, draw);
        clock
    }

    /// What the node reads at true time `now`.
    #[must_use]
    pub fn read(&self, now: Time) -> Instant {
        let reading = self.exact(now);
        Instant(reading - reading % self.step)
    }

    /// The first true time at which the node reads at least `deadline`.
    #[must_use]
    pub fn when(&self, deadline: Instant) -> Time {
        // A coarse clock shows the deadline only at its next step.
        let Some(shown) = deadline.0.checked_next_multiple_of(self.step) else {
            return Time(u64::MAX);
        };
        let span = u128::from(shown.saturating_sub(self.reading));
        let true_span = (span * u128::from(MILLION)).div_ceil(u128::from(self.rate));
        let at = u128::from(self.since.0) + true_span;
        Time(u64::try_from(at).unwrap_or(u64::MAX))
    }

    /// C3: goes on at another rate, wrong by at most `bound` parts in a million.
    pub fn change_rate(&mut self, now: Time, bound: u64, draw: &mut Draw) {
        self.reading = self.exact(now);
        self.since = self.since.max(now);
        // The bounds themselves are the likeliest to break something.
        self.rate = match draw.below(4) {
            0 => MILLION - bound,
            1 => MILLION + bound,
            _ => draw.between(MILLION - bound, MILLION + bound),
        };
    }

    /// C5: stands still until `until`.
    pub fn suspend(&mut self, now: Time, until: Time) {
        self.reading = self.exact(now);
        self.since = self.since.max(until);
    }

    /// Stands still no longer.
    pub fn wake(&mut self, now: Time) {
        self.since = self.since.min(now);
    }

    /// Whether it stands still.
    #[must_use]
    pub fn is_suspended(&self, now: Time) -> bool {
        self.since > now
    }

    /// C1, C2: the wall clock is suddenly elsewhere.
    pub const fn jump(&mut self, by: i64) {
        self.wall_error = self.wall_error.saturating_add(by);
    }

    /// How far the wall clock is off, in nanoseconds.
    #[must_use]
    pub const fn wall_error(&self) -> i64 {
        self.wall_error
    }

    fn exact(&self, now: Time) -> u64 {
        let passed = now.since(self.since).as_nanos();
        let span = passed * u128::from(self.rate) / u128::from(MILLION);
        self.reading + u64::try_from(span).expect("runs are shorter than centuries")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fates::{Fates, Place};
    use crate::rng::{Purpose, Seed};

    fn clocks() -> impl Iterator<Item = (Clock, Draw)> {
        (0..50).map(|seed| {
            let mut draw = Seed::new(seed).draw(Purpose::Clock, 0, 0);
            let dials = Dials::off().with(&[(Fault::C3, 100), (Fault::C6, seed % 2)]);
            let mut fates = Fates::of_chance(dials);
            let here = fates.at(Place::Node(0), 0);
            let mut clock = Clock::new(Time(5), here, &mut draw);
            clock.change_rate(Time(1_000_000_007), RATE_ERROR_PPM, &mut draw);
            (clock, draw)
        })
    }

    #[test]
    fn a_deadline_is_reached_when_it_is_due_and_not_before() {
        for (clock, mut draw) in clocks() {
            let now = Time(draw.between(1_000_000_007, 9_000_000_000));
            let deadline = clock.read(now) + Duration::from_nanos(draw.below(5_000_000_000));
            let due = clock.when(deadline);
            assert!(clock.read(due.max(now)) >= deadline);
            if due > now {
                assert!(clock.read(Time(due.0 - 1)) < deadline);
            }
        }
    }

    #[test]
    fn a_suspended_clock_goes_on_where_it_stopped() {
        for (mut clock, _) in clocks() {
            let (from, until) = (Time(2_000_000_000), Time(5_000_000_000));
            let reading = clock.exact(from);
            clock.suspend(from, until);
            assert_eq!(clock.exact(Time(4_000_000_000)), reading);
            assert_eq!(clock.exact(until), reading);
            assert!(clock.exact(Time(5_000_001_000)) > reading);
            clock.suspend(Time(6_000_000_000), Time(9_000_000_000));
            clock.wake(Time(7_000_000_000));
            let after = clock.exact(Time(8_000_000_000)) - reading;
            assert!(after.abs_diff(2_000_000_000) <= 2_000_001);
        }
    }

    #[test]
    fn the_rate_stays_within_its_bound() {
        for (clock, _) in clocks() {
            let (from, to) = (Time(2_000_000_000), Time(62_000_000_000));
            let shown = u64::abs_diff(clock.exact(to), clock.exact(from));
            assert!(shown.abs_diff(to.0 - from.0) <= 60_000_000 + 1);
        }
    }
}
