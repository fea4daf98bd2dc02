//! A member at one moment.

use quorate_core::Replica;
use quorate_core::raft::{Role, Status};

use crate::metrics::RaftMetrics;

/// What a member shows of itself.
#[derive(Clone, Debug)]
pub struct View {
    /// What it is in Raft, and how far it has come.
    pub status: Status,
}

impl View {
    pub(crate) fn of(replica: &Replica) -> Self {
        Self {
            status: replica.status(),
        }
    }
}

impl RaftMetrics {
    /// Copies what core says of itself.
    pub(crate) fn show(&self, status: &Status, watchers: usize, inbox: usize) {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.has_leader.set(status.leader.is_some().into());
        self.is_leader.set((status.role == Role::Leader).into());
        self.committed.set(number(status.committed.0));
        self.applied.set(number(status.applied.index.0));
        self.pending.set(number(status.pending.0 as u64));
        self.term.set(number(status.term.0));
        self.revision.set(number(status.revision.0));
        // A gauge is shown as a float by many: only so many bits survive.
        let low = u64::try_from(status.state_hash & ((1 << 53) - 1)).expect("53 bits");
        self.state_hash.set(number(low));
        self.watchers.set(number(watchers as u64));
        self.inbox.set(number(inbox as u64));
    }
}
