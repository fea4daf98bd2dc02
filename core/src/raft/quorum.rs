//! What a quorum is (Raft §5.3, §6): pure functions of a configuration and of what each voter did.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::ids::NodeId;
use crate::raft::Configuration;

/// How a vote stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VoteResult {
    /// Those who have not answered decide it.
    Pending,
    /// A quorum granted it.
    Won,
    /// A quorum can no longer grant it.
    Lost,
}

/// The highest value that a quorum has reached: each half of a joint configuration by a majority of
/// its own (Raft §6).
///
/// # Panics
/// Where nobody votes: no such configuration is ever in force.
pub(super) fn reached<T: Copy + Ord>(
    configuration: &Configuration,
    value: impl Fn(NodeId) -> T,
) -> T {
    let staying = majority_reached(&configuration.voters, &value).expect("somebody votes");
    match majority_reached(&configuration.outgoing, &value) {
        Some(going) => staying.min(going),
        None => staying,
    }
}

/// How a vote stands when `vote` tells what each voter answered.
pub(super) fn vote_result(
    configuration: &Configuration,
    vote: impl Fn(NodeId) -> Option<bool>,
) -> VoteResult {
    if reached(configuration, |node| vote(node) == Some(true)) {
        VoteResult::Won
    } else if reached(configuration, |node| vote(node) != Some(false)) {
        VoteResult::Pending
    } else {
        VoteResult::Lost
    }
}

/// The highest value that more than half of `voters` have reached; `None` where there are none.
fn majority_reached<T: Copy + Ord>(
    voters: &BTreeSet<NodeId>,
    value: impl Fn(NodeId) -> T,
) -> Option<T> {
    let mut values: Vec<T> = voters.iter().map(|&voter| value(voter)).collect();
    values.sort_unstable();
    // Of 4 sorted upwards, the second is reached by three: an even half is no majority.
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use alloc::collections::BTreeMap;

    fn nodes(rng: &mut Rng, least: u64) -> BTreeSet<NodeId> {
        let count = least + rng.below(6 - least);
        (0..count).map(|_| NodeId(1 + rng.below(7))).collect()
    }

    fn any_configuration(rng: &mut Rng) -> Configuration {
        Configuration {
            voters: nodes(rng, 1),
            outgoing: nodes(rng, 0),
            learners: nodes(rng, 0),
        }
    }

    /// By the definition: more than half of each half that is there.
    fn is_quorum(configuration: &Configuration, has: impl Fn(NodeId) -> bool) -> bool {
        [&configuration.voters, &configuration.outgoing]
            .into_iter()
            .filter(|half| !half.is_empty())
            .all(|half| 2 * half.iter().filter(|&&node| has(node)).count() > half.len())
    }

    #[test]
    fn reached_is_the_highest_value_a_quorum_has() {
        let mut rng = Rng::new(1);
        for _ in 0..5000 {
            let configuration = any_configuration(&mut rng);
            let values: BTreeMap<_, _> = (0..10).map(|id| (NodeId(id), rng.below(6))).collect();
            let expected = (0..6)
                .rev()
                .find(|&least| is_quorum(&configuration, |node| values[&node] >= least));
            let found = reached(&configuration, |node| values[&node]);
            assert_eq!(Some(found), expected, "{configuration:?} {values:?}");
        }
    }

    #[test]
    fn a_vote_is_won_by_a_quorum_and_lost_when_none_can_come() {
        let mut rng = Rng::new(2);
        for _ in 0..5000 {
            let configuration = any_configuration(&mut rng);
            let votes: BTreeMap<_, _> = (0..10)
                .map(|id| (NodeId(id), [None, Some(true), Some(false)]))
                .map(|(node, any)| (node, any[usize::try_from(rng.below(3)).unwrap()]))
                .collect();
            let expected = if is_quorum(&configuration, |node| votes[&node] == Some(true)) {
                VoteResult::Won
            } else if is_quorum(&configuration, |node| votes[&node] != Some(false)) {
                VoteResult::Pending
            } else {
                VoteResult::Lost
            };
            assert_eq!(vote_result(&configuration, |node| votes[&node]), expected);
        }
    }

    #[test]
    fn learners_do_not_count() {
        let mut configuration = Configuration::of([NodeId(1), NodeId(2), NodeId(3)]);
        configuration.learners = [NodeId(4), NodeId(5)].into();
        let value = |node: NodeId| if node.0 >= 3 { 9 } else { node.0 };
        assert_eq!(reached(&configuration, value), 2);
    }
}
