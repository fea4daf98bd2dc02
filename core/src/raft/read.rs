//! ReadIndex (thesis §6.4): a leader that still leads after a question came may answer it from what
//! was committed then.

use alloc::vec::Vec;
use core::mem;

use crate::ids::{Index, RequestId};
use crate::raft::progress::Progress;
use crate::raft::role::RoleState;
use crate::raft::{Raft, RaftOutput, quorum};

/// The questions of one leadership. A round asks all peers whether this member still leads; one
/// round serves every question that waits when it begins, and the next begins when it is done.
#[derive(Clone, Debug, Default)]
pub(super) struct Reads {
    /// Came after the round in flight began, so only a later one can vouch for them.
    waiting: Vec<RequestId>,
    in_flight: Option<Round>,
    /// The newest round; 0 is before the first.
    round: u64,
}

/// What a finished round allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Round {
    /// A store that has applied through here may answer.
    pub(super) index: Index,
    /// The questions.
    pub(super) requests: Vec<RequestId>,
}

impl Reads {
    /// A question came.
    pub(super) fn push(&mut self, request: RequestId) {
        self.waiting.push(request);
    }

    /// Begins a round for what waits, if none is in flight. `committed` is from before the first
    /// message of the round, and after the questions came. Whether it did.
    pub(super) fn maybe_begin(&mut self, committed: Index) -> bool {
        if self.is_asking() || self.waiting.is_empty() {
            return false;
        }
        self.round += 1;
        let requests = mem::take(&mut self.waiting);
        self.in_flight = Some(Round {
            index: committed,
            requests,
        });
        true
    }

    /// A quorum has answered through `round`.
    pub(super) fn finish(&mut self, round: u64) -> Option<Round> {
        assert!(round <= self.round, "round {round} never began");
        if round < self.round {
            None
        } else {
            self.in_flight.take()
        }
    }

    /// Leadership is lost: nothing here will be answered.
    pub(super) fn into_requests(self) -> impl Iterator<Item = RequestId> {
        let asked = self.in_flight.into_iter().flat_map(|round| round.requests);
        asked.chain(self.waiting)
    }

    /// Whether a round is in flight.
    pub(super) fn is_asking(&self) -> bool {
        self.in_flight.is_some()
    }

    /// The newest round.
    pub(super) fn round(&self) -> u64 {
        self.round
    }

    /// How many questions are open.
    pub(super) fn len(&self) -> usize {
        let asked = self
            .in_flight
            .as_ref()
            .map_or(0, |round| round.requests.len());
        asked + self.waiting.len()
    }
}

impl Raft {
    /// Begins a round for the questions that wait. Not before the leader has committed an entry of
    /// its own term: until then it may not know all that is committed (thesis §6.4, step 1).
    pub(super) fn maybe_begin_round(&mut self) {
        let may_begin = self.has_committed_in_term();
        if let RoleState::Leader(leadership) = &mut self.role
            && may_begin
            && leadership.reads.maybe_begin(self.committed)
        {
            self.maybe_finish_round();
        }
    }

    /// Answers the questions of the round in flight once a quorum has answered it.
    pub(super) fn maybe_finish_round(&mut self) {
        let RoleState::Leader(leadership) = &mut self.role else {
            return;
        };
        if !leadership.reads.is_asking() {
            return;
        }
        let newest = leadership.reads.round();
        let through = quorum::reached(self.configurations.in_force(), |node| {
            if node == self.id {
                return newest;
            }
            leadership.progress.get(&node).map_or(0, Progress::round)
        });
        let Some(Round { index, requests }) = leadership.reads.finish(through) else {
            return;
        };
        for request in requests {
            self.outputs
                .push_back(RaftOutput::ReadReady { request, index });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_only_served_by_a_round_that_began_after_it() {
        let mut reads = Reads::default();
        reads.maybe_begin(Index(3));
        assert_eq!(reads.round(), 0, "nothing waits");
        reads.push(RequestId(1));
        reads.push(RequestId(2));
        reads.maybe_begin(Index(4));
        reads.push(RequestId(3));
        reads.maybe_begin(Index(9));
        assert_eq!((reads.round(), reads.len()), (1, 3));

        assert_eq!(reads.finish(0), None);
        let first = Round {
            index: Index(4),
            requests: [RequestId(1), RequestId(2)].into(),
        };
        assert_eq!(reads.finish(1), Some(first));
        assert_eq!(reads.finish(1), None, "served once");
        reads.maybe_begin(Index(9));
        let second = Round {
            index: Index(9),
            requests: [RequestId(3)].into(),
        };
        assert_eq!(reads.finish(2), Some(second));
    }

    #[test]
    fn all_open_questions_are_given_back() {
        let mut reads = Reads::default();
        reads.push(RequestId(1));
        reads.maybe_begin(Index(1));
        reads.push(RequestId(2));
        assert!(reads.into_requests().eq([RequestId(1), RequestId(2)]));
    }
}
