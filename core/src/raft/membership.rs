//! Who votes (Raft §6): the configuration, made for joint use. Changing it comes later; its type,
//! its place in the log and its quorums are here from the first day.

use alloc::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::NodeId;

/// The members in force. While `outgoing` is not empty the configuration is joint: both halves must
/// agree, each by its own majority (Raft §6).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Configuration {
    /// Those who vote; while joint, the half that stays.
    pub voters: BTreeSet<NodeId>,
    /// While joint, the half that goes. Empty otherwise.
    pub outgoing: BTreeSet<NodeId>,
    /// Those who receive the log without a vote.
    pub learners: BTreeSet<NodeId>,
}

impl Configuration {
    /// A simple configuration of `voters`.
    #[must_use]
    pub fn of(voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self {
            voters: voters.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Whether `node` votes, in either half.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.outgoing.contains(&node)
    }

    /// Everyone the log goes to, each once, in order.
    pub fn members(&self) -> impl Iterator<Item = NodeId> {
        let all: BTreeSet<_> = self
            .voters
            .iter()
            .chain(&self.outgoing)
            .chain(&self.learners)
            .copied()
            .collect();
        all.into_iter()
    }

    /// Whether `node` is a member at all.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.learners.contains(&node)
    }
}
