//! What a replica shows of itself.

use alloc::collections::BTreeMap;
use core::fmt;

use crate::ids::{Index, LogId, NodeId, Revision, Term};
use crate::output::HardState;
use crate::raft::role::RoleState;
use crate::raft::{Configuration, Entry, Raft};
use crate::time::{ClusterTime, Duration, Instant};

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

impl Raft {
    /// Who this is.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Term and vote, as they stand; the disk may be behind.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// What it is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role.role()
    }

    /// Whether it leads, as far as it knows.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.role() == Role::Leader
    }

    /// Whom it follows; itself, if it leads.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            RoleState::Follower(following) => following.as_ref().map(|following| following.leader),
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => None,
            RoleState::Leader(_) => Some(self.id),
        }
    }

    /// How long ago this member last heard from its leader or, if it leads, from a quorum: so old
    /// may be what it has applied, besides what is still on its way. `None` where that has not
    /// happened since it started.
    #[must_use]
    pub fn age(&self, now: Instant) -> Option<Duration> {
        let heard = self.quorum_heard(now).or(self.heard);
        heard.map(|heard| now.since(heard))
    }

    /// The last entry of its log.
    #[must_use]
    pub fn last(&self) -> LogId {
        self.log.last()
    }

    /// The place just before the first entry in memory: what is on disk up to here may go, too.
    #[must_use]
    pub fn log_start(&self) -> LogId {
        self.log.start()
    }

    /// The entry at `index`, if it is in memory.
    #[must_use]
    pub fn entry(&self, index: Index) -> Option<&Entry> {
        self.log.get(index)
    }

    /// The weight of the log in memory, in bytes ([`Entry::weight`]).
    #[must_use]
    pub fn log_bytes(&self) -> usize {
        self.log.bytes()
    }

    /// The last entry that is on its disk.
    #[must_use]
    pub fn persisted_index(&self) -> Index {
        self.durability.persisted()
    }

    /// The last entry it knows to be committed.
    #[must_use]
    pub fn committed(&self) -> Index {
        self.committed
    }

    /// Who votes, by its log.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        self.configurations.in_force()
    }

    /// Of a leader: how far each peer's disk is known to agree. Empty otherwise.
    #[must_use]
    pub fn matched(&self) -> BTreeMap<NodeId, Index> {
        match &self.role {
            RoleState::Leader(leadership) => {
                let progress = leadership.progress.iter();
                progress
                    .map(|(&node, progress)| (node, progress.matched()))
                    .collect()
            }
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                BTreeMap::new()
            }
        }
    }

    /// After damage: it neither votes nor counts until its log is on disk through here.
    #[must_use]
    pub fn repairing(&self) -> Option<Index> {
        self.held
    }

    /// Of a leader: the weight of the entries that are not committed.
    #[must_use]
    pub fn uncommitted_bytes(&self) -> usize {
        match &self.role {
            RoleState::Leader(leadership) => leadership.uncommitted_bytes,
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => 0,
        }
    }

    /// How many messages wait for the disk.
    #[must_use]
    pub fn held_messages(&self) -> usize {
        self.durability.held()
    }

    /// How many questions wait for a round.
    #[must_use]
    pub fn reads(&self) -> usize {
        match &self.role {
            RoleState::Leader(leadership) => leadership.reads.len(),
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => 0,
        }
    }
}

/// The head of every line of a trace: who in which term, as what, and how far.
impl fmt::Display for Raft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "n{}@{} {} {}/{}/{}",
            self.id,
            self.hard_state.term,
            self.role(),
            self.committed,
            self.applied.index,
            self.durability.persisted(),
        )
    }
}

/// One glyph.
impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Follower => "f",
            Self::PreCandidate => "p",
            Self::Candidate => "c",
            Self::Leader => "L",
        })
    }
}
