//! A member at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_core::raft::{Role, Status};
use quorate_core::store::{Member, Settings, StoreStats};
use quorate_core::{NodeId, Replica, Revision};

use crate::metrics::{RaftMetrics, gauge};

/// What a member shows of itself.
#[derive(Clone, Debug)]
pub struct View {
    /// What it is in Raft, and how far it has come.
    pub status: Status,
    /// What was done to the store since this member started.
    pub stats: StoreStats,
    /// What members published of themselves, by id.
    pub members: BTreeMap<NodeId, Arc<Member>>,
    /// The replicated settings in force.
    pub settings: Settings,
    /// The oldest v2 index that history still has.
    pub oldest: Revision,
    /// Keys, leases and answers kept for retries.
    pub counts: (usize, usize, usize),
    /// Bytes of history kept, in canonical encoding.
    pub history_bytes: u64,
}

impl View {
    pub(crate) fn of(replica: &Replica) -> Self {
        let store = replica.store();
        Self {
            status: replica.status(),
            stats: *store.stats(),
            members: store.members().clone(),
            settings: store.settings().clone(),
            oldest: store.oldest(),
            counts: (store.key_count(), store.lease_count(), store.answer_count()),
            history_bytes: store.history_bytes(),
        }
    }
}

impl RaftMetrics {
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
