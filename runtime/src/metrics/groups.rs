//! The metrics by whose they are. What core knows is copied from its status when somebody asks;
//! what only this crate sees is counted as it happens.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use quorate_core::Duration;
use quorate_core::raft::{Role, Status};
use quorate_core::store::StoreStats;

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
    pub(crate) faults: Counter,
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
    pub(crate) seconds_max: Gauge<f64, AtomicU64>,
    /// The sum of `seconds`, which the histogram keeps to itself.
    pub(crate) nanos: AtomicU64,
    pub(crate) bytes: Counter,
    pub(crate) slice_bytes: Counter,
    pub(crate) table_bytes: Gauge,
    pub(crate) level0: Gauge,
    pub(crate) compactions: Gauge,
}

impl RaftMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
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
                "quorate_peer_faults",
                "Messages that no honest member can have sent",
                &all.faults,
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

    /// Copies what core says of itself.
    pub(crate) fn show(&self, status: &Status, inbox: usize) {
        self.has_leader.set(status.leader.is_some().into());
        self.is_leader.set((status.role == Role::Leader).into());
        self.committed.set(gauge(status.committed.0));
        self.applied.set(gauge(status.applied.index.0));
        self.pending.set(gauge(status.pending.0));
        self.term.set(gauge(status.term.0));
        self.revision.set(gauge(status.revision.0));
        // A gauge is shown as a float by many: only so many bits survive.
        let low = u64::try_from(status.state_hash & ((1 << 53) - 1)).expect("53 bits");
        self.state_hash.set(gauge(low));
        self.inbox.set(gauge(inbox));
    }
}

impl StoreMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
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
    pub(super) fn registered(registry: &mut Registry) -> Self {
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
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let all = Self {
            done: Counter::default(),
            failed: Counter::default(),
            reopened: Counter::default(),
            seconds: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            seconds_max: Gauge::default(),
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
            "quorate_checkpoint_seconds_max",
            "How long the longest checkpoint took",
            all.seconds_max.clone(),
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

    /// A checkpoint was done, of so many bytes of rows.
    pub(crate) fn count(&self, bytes: u64, took: Duration) {
        self.done.inc();
        self.bytes.inc_by(bytes);
        self.seconds.observe(took.as_secs_f64());
        // Only the checkpoint thread writes this.
        self.seconds_max
            .set(self.seconds_max.get().max(took.as_secs_f64()));
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// A count as a gauge holds it.
pub(crate) fn gauge(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}
