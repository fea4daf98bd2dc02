//! A member at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_core::raft::Status;
use quorate_core::store::{Member, Settings, StoreStats};
use quorate_core::{Duration, NodeId, Replica, Revision};

use crate::traffic::Traffic;

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
    /// How long the leader, or that there is none, has been known.
    pub leader_for: Duration,
    /// What went to other members and came from them.
    pub traffic: Traffic,
}

impl View {
    pub(crate) fn of(replica: &Replica, leader_for: Duration, traffic: &Traffic) -> Self {
        let store = replica.store();
        Self {
            status: replica.status(),
            stats: *store.stats(),
            members: store.members().clone(),
            settings: store.settings().clone(),
            oldest: store.oldest(),
            counts: (store.key_count(), store.lease_count(), store.answer_count()),
            history_bytes: store.history_bytes(),
            leader_for,
            traffic: traffic.clone(),
        }
    }
}
