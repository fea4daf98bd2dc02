//! Cluster time on one member: an anchor in the log, and what has certainly passed since.

use crate::time::{ClusterTime, Instant, certain};

/// Where this member's estimate of cluster time hangs: the last entry of its own log, and when that
/// arrived here. After a truncation or a restart: the stamp of what remains, and that moment.
///
/// Not the highest stamp ever seen: an entry that was truncated may be stamped far ahead of one
/// that takes its place, and would expire a key early (SIMULATION.md §6, TTL contract).
#[derive(Clone, Copy, Debug)]
pub(super) struct Anchor {
    /// The stamp.
    pub(super) stamp: ClusterTime,
    /// When it was last certain.
    pub(super) at: Instant,
}

impl Anchor {
    /// The estimate: it never runs ahead of true time, since the anchor's entry was stamped before
    /// it arrived, and of the time since then only what every clock agrees on is counted.
    pub(super) fn estimate(&self, now: Instant) -> ClusterTime {
        self.stamp + certain(now.since(self.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    #[test]
    fn an_estimate_grows_from_the_anchor_a_little_slower_than_the_clock() {
        let anchor = Anchor {
            stamp: ClusterTime(50),
            at: Instant(1000),
        };
        assert_eq!(anchor.estimate(Instant(1000)), ClusterTime(50));
        assert_eq!(
            anchor.estimate(Instant(1)),
            ClusterTime(50),
            "a clock that went back"
        );
        let later = anchor.estimate(Instant(1000) + Duration::from_nanos(1001));
        assert_eq!(later, ClusterTime(1050));
    }
}
