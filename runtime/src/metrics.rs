//! Counters and gauges of one member: a registry of its own, no globals.
//!
//! Where the meaning is etcd's, the name is etcd's. What core knows is copied from its status when
//! somebody asks; what only this crate sees is counted as it happens.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use quorate_core::Duration;
use quorate_core::store::StoreStats;

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics of one member.
pub struct Metrics {
    registry: Mutex<Registry>,
    pub(crate) raft: RaftMetrics,
    pub(crate) store: StoreMetrics,
    pub(crate) log: LogMetrics,
    pub(crate) checkpoint: CheckpointMetrics,
    /// The longest time the driver was busy without looking at its inbox, since start: what a
    /// request may have waited for nothing. In nanoseconds.
    longest_pause: AtomicU64,
    longest_pause_gauge: Gauge<f64, AtomicU64>,
}

/// etcd's `etcd_server_*`, and what else core's status tells.
#[derive(Default)]
pub(crate) struct RaftMetrics {
    pub(crate) has_leader: Gauge,
    pub(crate) is_leader: Gauge,
    pub(crate) leader_changes: Counter,
    pub(crate) committed: Gauge,
    pub(crate) applied: Gauge,
    pub(crate) pending: Gauge,
    pub(crate) failed: Counter,
    pub(crate) term: Gauge,
    pub(crate) revision: Gauge,
    pub(crate) state_hash: Gauge,
    pub(crate) inbox: Gauge,
    pub(crate) busy: Counter,
}

/// etcd's `etcd_debugging_store_*`, as far as this crate sees it: reads are counted by who serves
/// them.
#[derive(Default)]
pub(crate) struct StoreMetrics {
    pub(crate) writes: Family<Action, Counter>,
    pub(crate) writes_failed: Family<Action, Counter>,
    pub(crate) expires: Counter,
    pub(crate) watch_requests: Counter,
    pub(crate) watchers: Gauge,
}

/// The label of a write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Action {
    action: &'static str,
}

/// What the log thread does.
pub(crate) struct LogMetrics {
    pub(crate) sync_seconds: Histogram,
    pub(crate) batch_entries: Histogram,
    pub(crate) disk_bytes: Gauge,
    pub(crate) full: Gauge,
}

/// What the checkpoint thread does.
pub(crate) struct CheckpointMetrics {
    pub(crate) done: Counter,
    pub(crate) failed: Counter,
    pub(crate) reopened: Counter,
    pub(crate) seconds: Histogram,
    /// The sum of `seconds`, which the histogram keeps to itself.
    pub(crate) nanos: AtomicU64,
    pub(crate) bytes: Counter,
    pub(crate) slice_bytes: Counter,
    pub(crate) table_bytes: Gauge,
    pub(crate) level0: Gauge,
    pub(crate) compactions: Gauge,
}

impl Metrics {
    /// All at zero.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let raft = RaftMetrics::registered(&mut registry);
        let store = StoreMetrics::registered(&mut registry);
        let log = LogMetrics::registered(&mut registry);
        let checkpoint = CheckpointMetrics::registered(&mut registry);
        let longest_pause_gauge = Gauge::<f64, AtomicU64>::default();
        registry.register(
            "quorate_driver_longest_pause_seconds",
            "The longest time the driver took for one round",
            longest_pause_gauge.clone(),
        );
        Self {
            registry: Mutex::new(registry),
            raft,
            store,
            log,
            checkpoint,
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
        text::encode(&mut open_metrics, &registry).expect("a String takes everything");
        classic(&open_metrics)
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

    /// Checkpoints done, and the bytes of rows and slices written for them: what changed, not what is
    /// stored. Compaction writes more; the system's own count of bytes written tells how much.
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

impl RaftMetrics {
    fn registered(registry: &mut Registry) -> Self {
        let all = Self::default();
        let gauges = [
            (
                "etcd_server_has_leader",
                "Whether a leader is known: 1 or 0",
                &all.has_leader,
            ),
            (
                "etcd_server_is_leader",
                "Whether this member leads: 1 or 0",
                &all.is_leader,
            ),
            // etcd's names end in _total though they are gauges.
            (
                "etcd_server_proposals_committed_total",
                "The last index known to be committed",
                &all.committed,
            ),
            (
                "etcd_server_proposals_applied_total",
                "The last index applied",
                &all.applied,
            ),
            (
                "etcd_server_proposals_pending",
                "Writes without an answer",
                &all.pending,
            ),
            ("quorate_term", "The term", &all.term),
            (
                "quorate_revision",
                "The counter of the store: the v2 index",
                &all.revision,
            ),
            (
                "quorate_state_hash",
                "The low 53 bits of the hash of all tables: equal on all members at one index",
                &all.state_hash,
            ),
            (
                "quorate_inbox",
                "Requests that wait for the driver",
                &all.inbox,
            ),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        let counters = [
            (
                "etcd_server_leader_changes_seen",
                "How often another leader was seen",
                &all.leader_changes,
            ),
            (
                "etcd_server_proposals_failed",
                "Requests refused or dropped, not by the store",
                &all.failed,
            ),
            (
                "quorate_busy",
                "Requests refused since too many waited",
                &all.busy,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        all
    }
}

impl StoreMetrics {
    fn registered(registry: &mut Registry) -> Self {
        let all = Self::default();
        let families = [
            (
                "etcd_debugging_store_writes",
                "Writes done, by action",
                &all.writes,
            ),
            (
                "etcd_debugging_store_writes_failed",
                "Writes the store refused, by action",
                &all.writes_failed,
            ),
        ];
        for (name, help, family) in families {
            registry.register(name, help, family.clone());
        }
        registry.register(
            "etcd_debugging_store_expires",
            "Keys and directories that expired",
            all.expires.clone(),
        );
        registry.register(
            "etcd_debugging_store_watch_requests",
            "Watches asked for",
            all.watch_requests.clone(),
        );
        registry.register(
            "etcd_debugging_store_watchers",
            "Watches that are open",
            all.watchers.clone(),
        );
        all
    }

    /// Copies what the store counted.
    pub(crate) fn show(&self, stats: &StoreStats, watchers: usize) {
        let counts = [
            ("set", stats.sets),
            ("create", stats.creates),
            ("update", stats.updates),
            ("compareAndSwap", stats.swaps),
            ("delete", stats.deletes),
            ("compareAndDelete", stats.compare_deletes),
        ];
        for (action, count) in counts {
            let label = Action { action };
            let writes = self.writes.get_or_create(&label);
            writes.inner().store(count.success, Ordering::Relaxed);
            let failed = self.writes_failed.get_or_create(&label);
            failed.inner().store(count.fail, Ordering::Relaxed);
        }
        self.expires.inner().store(stats.expired, Ordering::Relaxed);
        self.watchers.set(gauge(watchers));
    }
}

impl LogMetrics {
    fn registered(registry: &mut Registry) -> Self {
        let all = Self {
            // etcd's buckets for the same histogram.
            sync_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            batch_entries: Histogram::new(exponential_buckets(1.0, 2.0, 13)),
            disk_bytes: Gauge::default(),
            full: Gauge::default(),
        };
        registry.register(
            "etcd_disk_wal_fsync_duration_seconds",
            "How long a batch of the log took to write and sync",
            all.sync_seconds.clone(),
        );
        registry.register(
            "quorate_wal_batch_entries",
            "Entries written by one sync of the log",
            all.batch_entries.clone(),
        );
        registry.register(
            "quorate_wal_disk_bytes",
            "Bytes of the segments the log is in or has ready",
            all.disk_bytes.clone(),
        );
        registry.register(
            "quorate_disk_full",
            "Whether there is no room: 1 or 0",
            all.full.clone(),
        );
        all
    }
}

impl CheckpointMetrics {
    fn registered(registry: &mut Registry) -> Self {
        let all = Self {
            done: Counter::default(),
            failed: Counter::default(),
            reopened: Counter::default(),
            seconds: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            nanos: AtomicU64::new(0),
            bytes: Counter::default(),
            slice_bytes: Counter::default(),
            table_bytes: Gauge::default(),
            level0: Gauge::default(),
            compactions: Gauge::default(),
        };
        let counters = [
            ("quorate_checkpoints", "Checkpoints done", &all.done),
            (
                "quorate_checkpoints_failed",
                "Checkpoints that failed",
                &all.failed,
            ),
            (
                "quorate_tables_reopened",
                "How often the tables were opened anew",
                &all.reopened,
            ),
            (
                "quorate_checkpoint_bytes",
                "Bytes of changed rows written",
                &all.bytes,
            ),
            (
                "quorate_history_bytes",
                "Bytes of history slices written",
                &all.slice_bytes,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "quorate_checkpoint_seconds",
            "How long a checkpoint took",
            all.seconds.clone(),
        );
        registry.register(
            "quorate_table_bytes",
            "Bytes of the tables",
            all.table_bytes.clone(),
        );
        registry.register(
            "quorate_table_level0",
            "Tables that no compaction has touched yet",
            all.level0.clone(),
        );
        registry.register(
            "quorate_table_compactions",
            "Compactions that ended since the tables were opened",
            all.compactions.clone(),
        );
        all
    }
}

/// `OpenMetrics` text to text format 0.0.4: a counter is described under the name it is sampled by,
/// and there is neither a unit nor an end mark.
fn classic(open_metrics: &str) -> String {
    let mut classic = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if line.starts_with("# HELP ") {
            // The kind follows on the next line and decides the name here.
            help = Some(line);
        } else if let Some(described) = line.strip_prefix("# TYPE ") {
            let suffix = if described.ends_with(" counter") {
                "_total"
            } else {
                ""
            };
            let (name, kind) = described.split_once(' ').expect("a name and a kind");
            if let Some(text) = help.take().and_then(|help| help.splitn(4, ' ').nth(3)) {
                classic.push_str(&format!("# HELP {name}{suffix} {text}\n"));
            }
            classic.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with("# ") {
            classic.push_str(line);
            classic.push('\n');
        }
    }
    classic
}

/// A count as a gauge holds it.
pub(crate) fn gauge(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

#[cfg(test)]
mod tests {
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
    fn the_longest_pause_stays_until_it_is_reset() {
        let metrics = Metrics::new();
        metrics.paused(Duration::from_millis(5));
        metrics.paused(Duration::from_millis(2));
        assert_eq!(metrics.longest_pause(), Duration::from_millis(5));
        metrics.reset_pause();
        assert_eq!(metrics.longest_pause(), Duration::ZERO);
    }
}
