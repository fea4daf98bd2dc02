//! The limits and timeouts of one member. What must be equal on all replicas is not here but in
//! [`Settings`](crate::store::Settings), in the log.

use serde::{Deserialize, Serialize};

use crate::time::Duration;

/// Limits and timeouts. Every queue has its limit here; simulations set them down to 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// How often a leader tells that it leads.
    pub heartbeat_interval: Duration,
    /// The least time without a leader before a campaign; drawn anew each time from one to two
    /// times this (Raft §5.2).
    pub election_timeout: Duration,
    /// Payload bytes in one write and in one append. A single larger entry goes alone.
    pub batch_bytes_max: usize,
    /// Entries in one write and in one append.
    pub batch_entries_max: usize,
    /// Bytes of proposals not yet committed. Reached: `Busy`.
    pub uncommitted_bytes_max: usize,
    /// Proposals without an answer. Reached: `Busy`.
    pub proposals_max: usize,
    /// Questions that wait for a round, or for an index. Reached: `Busy`.
    pub reads_max: usize,
    /// Open watches. Reached: ended at once as `Busy`.
    pub watches_max: usize,
    /// Events one poll looks at for watches that lag, before it does something else.
    pub watch_scan_max: usize,
    /// Bytes of closed, checkpointed history slices kept in memory.
    pub history_hot_bytes: usize,
    /// Nodes removed by one expiry entry.
    pub expiry_batch_max: u32,
    /// The granularity of expiry: deadlines due within this share an entry.
    pub expiry_interval: Duration,
    /// An idle log is sealed after this long, so that damage to its last batch shows.
    pub seal_after: Duration,
    /// Bytes of log that make a checkpoint due.
    pub checkpoint_bytes: usize,
    /// The age of the oldest change that makes a checkpoint due.
    pub checkpoint_interval: Duration,
    /// Bytes of log kept in memory for peers that lag, beyond what a checkpoint still needs.
    pub log_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            batch_bytes_max: 4 << 20,
            batch_entries_max: 4096,
            uncommitted_bytes_max: 64 << 20,
            proposals_max: 16_384,
            reads_max: 65_536,
            watches_max: 262_144,
            watch_scan_max: 1024,
            history_hot_bytes: 16 << 20,
            expiry_batch_max: 256,
            expiry_interval: Duration::from_millis(100),
            seal_after: Duration::from_millis(100),
            checkpoint_bytes: 32 << 20,
            checkpoint_interval: Duration::from_secs(300),
            log_bytes_max: 128 << 20,
        }
    }
}

impl Config {
    /// Asserts how the limits relate.
    ///
    /// # Panics
    /// Where a limit is zero, or the heartbeat is not well below the election timeout: the caller
    /// checks what an operator typed before it comes here.
    pub fn check(&self) {
        assert!(
            !self.heartbeat_interval.is_zero(),
            "heartbeat_interval is zero"
        );
        assert!(
            self.election_timeout >= 2 * self.heartbeat_interval,
            "election_timeout {:?} is below two heartbeats of {:?}",
            self.election_timeout,
            self.heartbeat_interval,
        );
        assert!(
            self.batch_bytes_max > 0 && self.batch_entries_max > 0,
            "empty batches"
        );
        assert!(
            self.proposals_max > 0 && self.uncommitted_bytes_max > 0,
            "no proposals"
        );
        assert!(
            self.reads_max > 0 && self.watches_max > 0,
            "no reads or watches"
        );
        assert!(
            self.watch_scan_max > 0 && self.expiry_batch_max > 0,
            "no progress"
        );
        assert!(
            !self.expiry_interval.is_zero() && !self.seal_after.is_zero(),
            "idle timers spin"
        );
    }
}
