//! The two clocks of core, neither of which it can read: both are arguments or state.

use core::fmt;
use core::ops::{Add, Sub};
pub use core::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment on this member's monotonic clock, in nanoseconds from an origin of its own.
///
/// Means nothing to another member, nor after a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Instant(pub u64);

impl Instant {
    /// The time since `earlier`; zero where `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// The moment `by` later; the end of time where that is past it.
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanos(by)))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:06}s",
            self.0 / 1_000_000_000,
            self.0 / 1_000 % 1_000_000
        )
    }
}

/// A moment in cluster time, in nanoseconds since the cluster's birth: part of the replicated
/// state.
///
/// The leader stamps every entry (SIMULATION.md §6, TTL contract), so what has expired is a
/// function of the log. It never runs ahead of true time.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct ClusterTime(pub u64);

impl ClusterTime {
    /// The cluster's birth.
    pub const ZERO: Self = Self(0);

    /// The time since `earlier`; zero where `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for ClusterTime {
    type Output = Self;

    /// The moment `by` later; the end of time where that is past it.
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanos(by)))
    }
}

impl Sub<Duration> for ClusterTime {
    type Output = Self;

    /// The moment `by` earlier; the cluster's birth where that is before it.
    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(by)))
    }
}

impl fmt::Display for ClusterTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:03}s",
            self.0 / 1_000_000_000,
            self.0 / 1_000_000 % 1_000
        )
    }
}

/// The bound on the error of a monotonic clock's rate, as parts in a thousand: ρ = 10⁻³.
pub const RATE_ERROR_PER_MILLE: u64 = 1;

/// What `elapsed` on a monotonic clock is certain to have been in true time: `elapsed / (1 + ρ)`,
/// rounded down (SIMULATION.md §6, TTL contract).
#[must_use]
pub fn certain(elapsed: Duration) -> Duration {
    let scaled = elapsed.as_nanos() * 1000 / (1000 + u128::from(RATE_ERROR_PER_MILLE));
    Duration::from_nanos(u64::try_from(scaled).unwrap_or(u64::MAX))
}

/// What must pass on a monotonic clock before [`certain`] grants at least `span`.
#[must_use]
pub fn until_certain(span: Duration) -> Duration {
    let scaled = span.as_nanos() * (1000 + u128::from(RATE_ERROR_PER_MILLE));
    Duration::from_nanos(u64::try_from(scaled.div_ceil(1000)).unwrap_or(u64::MAX))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certain_time_is_never_ahead_and_until_certain_is_enough() {
        for span in [0, 1, 999, 1000, 1001, 1_000_000_007, u64::MAX / 2] {
            let span = Duration::from_nanos(span);
            assert!(certain(span) <= span);
            assert!(certain(until_certain(span)) >= span);
        }
    }
}
