//! What is the same in all states of a search.

use quorate_core::{BirthRecord, Config, NodeId, RequestId};

use super::{Budget, MEMBERS};
use crate::check::linearizability::Asked;
use crate::node::birth;

/// Who there is, and what is asked of them.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) birth: BirthRecord,
    pub(super) nodes: [NodeId; MEMBERS],
    pub(super) config: Config,
    /// In the order in which they are asked.
    pub(super) operations: Vec<Asked>,
    /// A crash loses what was durable: what a search has to find out.
    pub(super) disks_forget: bool,
}

impl Cluster {
    pub(super) fn new(budget: &Budget) -> Self {
        let birth = birth(MEMBERS);
        let ids: Vec<NodeId> = birth.nodes().map(|(node, _)| node).collect();
        Self {
            birth,
            nodes: std::array::from_fn(|seat| ids[seat]),
            config: super::member::config(budget.batch),
            operations: budget.operations.asked(),
            disks_forget: false,
        }
    }

    /// The seat of a member.
    pub(super) fn seat_of(&self, node: NodeId) -> usize {
        let seat = self.nodes.iter().position(|&other| other == node);
        seat.expect("members speak of members")
    }

    /// Of a write: the number that [`Witness::hands_in`] gave it.
    ///
    /// [`Witness::hands_in`]: crate::check::linearizability::Witness::hands_in
    pub(super) fn handed(&self, request: RequestId) -> Option<u64> {
        let place = usize::try_from(request.0).expect("there are few");
        let is_write = |asked: &&Asked| matches!(asked, Asked::Write(_));
        let before = self.operations[..place].iter().filter(is_write).count();
        is_write(&&self.operations[place]).then_some(before as u64)
    }
}
