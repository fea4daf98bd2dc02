//! Counters and gauges of one member: a registry of its own, no globals.
//!
//! Where the meaning is etcd's, the name is etcd's. What core knows is copied from its status when
//! somebody asks; what only this crate sees is counted as it happens.

mod groups;
mod peers;
mod text;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use quorate_core::Duration;

pub(crate) use groups::gauge;
use groups::{CheckpointMetrics, LogMetrics, RaftMetrics, StoreMetrics};
pub(crate) use peers::{DropLabel, PeerLabel, PeerMetrics, RefusalLabel};
pub use text::CONTENT_TYPE;

/// The metrics of one member.
pub struct Metrics {
    registry: Mutex<Registry>,
    pub(crate) raft: RaftMetrics,
    pub(crate) store: StoreMetrics,
    pub(crate) log: LogMetrics,
    pub(crate) checkpoint: CheckpointMetrics,
    pub(crate) peers: Arc<PeerMetrics>,
    /// The longest time the driver was busy without looking at its inbox, since start: what a
    /// request may have waited for nothing. In nanoseconds.
    longest_pause: AtomicU64,
    longest_pause_gauge: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// All at zero.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let raft = RaftMetrics::registered(&mut registry);
        let store = StoreMetrics::registered(&mut registry);
        let log = LogMetrics::registered(&mut registry);
        let checkpoint = CheckpointMetrics::registered(&mut registry);
        let peers = Arc::new(PeerMetrics::registered(&mut registry));
        let longest_pause_gauge = Gauge::<f64, AtomicU64>::default();
        registry.register(
            "quorate_driver_pause_seconds_max",
            "The longest time the driver took for one round",
            longest_pause_gauge.clone(),
        );
        Self {
            registry: Mutex::new(registry),
            raft,
            store,
            log,
            checkpoint,
            peers,
            longest_pause: AtomicU64::new(0),
            longest_pause_gauge,
        }
    }

    /// Lets the caller register metrics of its own.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The text format 0.0.4 of Prometheus, which etcd's users scrape ([`CONTENT_TYPE`]).
    #[must_use]
    pub fn encode(&self) -> String {
        self.longest_pause_gauge
            .set(self.longest_pause().as_secs_f64());
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open_metrics = String::new();
        encode(&mut open_metrics, &registry).expect("a String takes everything");
        text::classic(&open_metrics)
    }

    /// The longest time the driver took for one round since start or [`Metrics::reset_pause`].
    #[must_use]
    pub fn longest_pause(&self) -> Duration {
        Duration::from_nanos(self.longest_pause.load(Ordering::Relaxed))
    }

    /// Forgets the longest pause: a bench asks for that of one phase.
    pub fn reset_pause(&self) {
        self.longest_pause.store(0, Ordering::Relaxed);
    }

    /// Checkpoints done, and the bytes of rows and slices written for them: what changed, not what
    /// is stored. Compaction writes more; the system's own count of bytes written tells how much.
    #[must_use]
    pub fn checkpoints(&self) -> (u64, u64) {
        let written = self.checkpoint.bytes.get() + self.checkpoint.slice_bytes.get();
        (self.checkpoint.done.get(), written)
    }

    /// Time spent in checkpoints, all together.
    #[must_use]
    pub fn checkpoint_time(&self) -> Duration {
        Duration::from_nanos(self.checkpoint.nanos.load(Ordering::Relaxed))
    }

    /// One round of the driver.
    pub(crate) fn paused(&self, pause: Duration) {
        let nanos = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
        // Only the driver writes this, so nothing is lost between the two steps but a reset.
        if nanos > self.longest_pause.load(Ordering::Relaxed) {
            self.longest_pause.store(nanos, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::store::StoreStats;

    use super::*;

    #[test]
    fn counters_and_gauges_are_written_as_0_0_4_wants() {
        let metrics = Metrics::new();
        metrics.raft.leader_changes.inc();
        metrics.raft.committed.set(7);
        metrics.log.sync_seconds.observe(0.003);
        let text = metrics.encode();
        for line in [
            "# TYPE etcd_server_leader_changes_seen_total counter",
            "etcd_server_leader_changes_seen_total 1",
            "# TYPE etcd_server_proposals_committed_total gauge",
            "etcd_server_proposals_committed_total 7",
            "# TYPE etcd_disk_wal_fsync_duration_seconds histogram",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.004\"} 1",
            "etcd_disk_wal_fsync_duration_seconds_count 1",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} not in\n{text}"
            );
        }
        assert!(!text.contains("EOF"));
        // Each described name is sampled under that name.
        metrics.store.show(&StoreStats::default(), 0);
        let text = metrics.encode();
        for name in text.lines().filter_map(|l| l.strip_prefix("# TYPE ")) {
            let (name, _) = name.split_once(' ').expect("a kind");
            assert!(text.lines().any(|l| l.starts_with(name)), "{name}");
        }
    }

    #[test]
    fn the_longest_are_shown_with_their_fractions() {
        let metrics = Metrics::new();
        metrics.paused(Duration::from_millis(5));
        metrics.checkpoint.count(7, Duration::from_millis(250));
        metrics.checkpoint.count(7, Duration::from_millis(3));
        let text = metrics.encode();
        for line in [
            "quorate_driver_pause_seconds_max 0.005",
            "quorate_checkpoint_seconds_max 0.25",
            "quorate_checkpoint_bytes_total 14",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }

    #[test]
    fn the_longest_pause_stays_until_it_is_reset() {
        let metrics = Metrics::new();
        metrics.paused(Duration::from_millis(5));
        metrics.paused(Duration::from_millis(2));
        assert_eq!(metrics.longest_pause(), Duration::from_millis(5));
        metrics.reset_pause();
        assert_eq!(metrics.longest_pause(), Duration::ZERO);
    }
}
