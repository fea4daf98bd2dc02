//! Who votes (Raft §6): the configuration, made for joint use. Changing it comes later; its type,
//! its place in the log and its quorums are here from the first day.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{Index, NodeId};
use crate::raft::{Entry, Payload};

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

/// The configurations of a log: the one before it, and those in it, each in force from its entry on
/// (Raft §6).
#[derive(Clone, Debug)]
pub(super) struct Configurations {
    /// In force at the log's start.
    base: Arc<Configuration>,
    /// By index, rising.
    in_log: Vec<(Index, Arc<Configuration>)>,
}

impl Configurations {
    /// No change yet after `base`.
    pub(super) fn new(base: Configuration) -> Self {
        assert!(!base.voters.is_empty(), "a configuration without voters");
        Self {
            base: Arc::new(base),
            in_log: Vec::new(),
        }
    }

    /// The entry at `index` changes the configuration: in force from now on.
    pub(super) fn append(&mut self, index: Index, configuration: Arc<Configuration>) {
        assert!(
            !configuration.voters.is_empty(),
            "a configuration without voters"
        );
        assert!(self.changed() < index, "configurations out of order");
        self.in_log.push((index, configuration));
    }

    /// As [`append`](Self::append), if `entry` changes the configuration.
    pub(super) fn append_entry(&mut self, entry: &Entry) {
        match &entry.payload {
            Payload::Configuration(configuration) => {
                self.append(entry.id.index, configuration.clone());
            }
            Payload::Empty
            | Payload::Command(_)
            | Payload::Expire { .. }
            | Payload::Renew { .. } => {}
        }
    }

    /// The log was cut before `from`: what was in force there is in force again.
    pub(super) fn truncate(&mut self, from: Index) {
        let kept = self.in_log.partition_point(|&(index, _)| index < from);
        self.in_log.truncate(kept);
    }

    /// The log now starts at `start`.
    pub(super) fn trim(&mut self, start: Index) {
        let trimmed = self.in_log.partition_point(|&(index, _)| index <= start);
        if let Some((_, last)) = self.in_log.drain(..trimmed).next_back() {
            self.base = last;
        }
    }

    /// The latest in the log, committed or not (Raft §6).
    pub(super) fn in_force(&self) -> &Configuration {
        self.in_log.last().map_or(&self.base, |(_, latest)| latest)
    }

    /// Where the one in force was appended; zero where that is before the log.
    pub(super) fn changed(&self) -> Index {
        self.in_log.last().map_or(Index::ZERO, |&(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(id: u64) -> Arc<Configuration> {
        Arc::new(Configuration::of([NodeId(id)]))
    }

    /// SIMULATION.md R12: in force on append, and again after a truncation, also of two.
    #[test]
    fn the_last_one_in_the_log_is_in_force() {
        let mut configurations = Configurations::new(Configuration::of([NodeId(1)]));
        configurations.append(Index(4), of(4));
        configurations.append(Index(7), of(7));
        configurations.append(Index(9), of(9));
        assert_eq!(*configurations.in_force(), *of(9));
        configurations.truncate(Index(10));
        assert_eq!(configurations.changed(), Index(9));
        configurations.truncate(Index(7));
        assert_eq!(*configurations.in_force(), *of(4));
        configurations.trim(Index(3));
        assert_eq!(configurations.changed(), Index(4));
        configurations.trim(Index(4));
        assert_eq!(
            (configurations.in_force(), configurations.changed()),
            (&*of(4), Index(0))
        );
        configurations.append(Index(5), of(5));
        configurations.truncate(Index(5));
        assert_eq!(*configurations.in_force(), *of(4));
    }
}
