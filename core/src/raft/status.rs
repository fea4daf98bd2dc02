//! What a replica shows of itself.

use alloc::collections::BTreeMap;

use crate::ids::{Index, LogId, NodeId, Revision, Term};
use crate::raft::Configuration;
use crate::time::ClusterTime;

/// A replica at one moment: for operators, metrics and the simulator's checks. Reading it changes
/// nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who.
    pub id: NodeId,
    /// Its term.
    pub term: Term,
    /// Who got its vote in the term.
    pub vote: Option<NodeId>,
    /// What it is.
    pub role: Role,
    /// Whom it follows; itself, if it leads.
    pub leader: Option<NodeId>,
    /// The last entry of its log.
    pub last: LogId,
    /// The last entry that is on its disk.
    pub persisted: Index,
    /// The last entry it knows to be committed.
    pub committed: Index,
    /// The last entry its store has applied.
    pub applied: LogId,
    /// The last entry that is in its tables, durably.
    pub checkpointed: LogId,
    /// The first entry of its log in memory.
    pub first: Index,
    /// Who votes, by its log.
    pub configuration: Configuration,
    /// Of a leader: how far each peer's disk is known to agree.
    pub matched: BTreeMap<NodeId, Index>,
    /// The store's counter.
    pub revision: Revision,
    /// Cluster time in the store.
    pub clock: ClusterTime,
    /// The set hash of the store: equal on all replicas at one applied index.
    pub state_hash: u128,
    /// Proposals, questions and watches that are open.
    pub pending: (usize, usize, usize),
    /// After damage: it neither votes nor counts until its log is on disk through here.
    pub repairing: Option<Index>,
}

/// What a member is (Raft figure 4; thesis §9.6 for the second).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether a campaign would succeed.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}
