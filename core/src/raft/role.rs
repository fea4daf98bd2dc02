//! What a member is, with the data that only such a member has: a change of role drops it.

use alloc::collections::BTreeMap;

use crate::ids::{Index, LogId, NodeId};
use crate::raft::Configuration;
use crate::raft::Role;
use crate::raft::progress::Progress;
use crate::raft::quorum::{VoteResult, vote_result};
use crate::raft::read::Reads;
use crate::time::Instant;

/// The role, and what belongs to it (Raft figure 4; thesis §9.6).
#[derive(Clone, Debug)]
pub(super) enum RoleState {
    /// Follows, or waits for a leader.
    Follower(Option<Following>),
    /// Asks whether a campaign would succeed.
    PreCandidate(Tally),
    /// Asks for votes. Its own is among them once that is on disk.
    Candidate(Tally),
    /// Leads.
    Leader(Leadership),
}

/// A follower's view of its leader, in this term.
#[derive(Clone, Debug)]
pub(super) struct Following {
    /// Whom.
    pub(super) leader: NodeId,
    /// When it was last heard from.
    pub(super) heard: Instant,
    /// The log is known to equal the leader's through here. Never cut in this term.
    pub(super) matched: Index,
    /// What is on disk through here needs no word of its own: it was there when this began, or the
    /// leader was told.
    pub(super) acknowledged: Index,
    /// The newest round heard of.
    pub(super) round: u64,
    /// What the last append asks to be answered, if that is not yet done.
    pub(super) answer: Option<Answer>,
}

/// An answer that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The logs agree; through where on disk is looked up when it leaves.
    Matched,
    /// They do not.
    Conflict {
        /// At this place.
        refused: Index,
        /// They may, here.
        hint: LogId,
    },
}

/// The answers to a campaign.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally(BTreeMap<NodeId, bool>);

/// What a leader keeps.
#[derive(Clone, Debug)]
pub(super) struct Leadership {
    /// Every other member.
    pub(super) progress: BTreeMap<NodeId, Progress>,
    /// The questions that wait for a round.
    pub(super) reads: Reads,
    /// The transfer under way (thesis §3.10).
    pub(super) transfer: Option<Transfer>,
    /// The weight of the entries not yet committed.
    pub(super) uncommitted_bytes: usize,
}

/// Leadership on its way to another member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    /// To whom.
    pub(super) to: NodeId,
    /// Whether it was told to campaign.
    pub(super) told: bool,
}

impl RoleState {
    /// The role alone.
    pub(super) fn role(&self) -> Role {
        match self {
            Self::Follower(_) => Role::Follower,
            Self::PreCandidate(_) => Role::PreCandidate,
            Self::Candidate(_) => Role::Candidate,
            Self::Leader(_) => Role::Leader,
        }
    }
}

impl Following {
    /// Begins to follow. What is committed here is in every leader's log (Raft §5.4).
    pub(super) fn new(leader: NodeId, now: Instant, committed: Index, persisted: Index) -> Self {
        Self {
            leader,
            heard: now,
            matched: committed,
            acknowledged: persisted,
            round: 0,
            answer: None,
        }
    }
}

impl Tally {
    /// `node` answered. A vote once given stands; a refusal may have been of an older question.
    pub(super) fn record(&mut self, node: NodeId, granted: bool) {
        *self.0.entry(node).or_default() |= granted;
    }

    /// How the vote stands.
    pub(super) fn result(&self, configuration: &Configuration) -> VoteResult {
        vote_result(configuration, |node| self.0.get(&node).copied())
    }
}
