//! ReadIndex (thesis §6.4): a leader that still leads after a question came may answer it from what
//! was committed then.

use alloc::vec::Vec;
use core::mem;

use crate::ids::{Index, NodeId, RequestId};
use crate::raft::progress::Progress;
use crate::raft::role::RoleState;
use crate::raft::{MessageBody, Raft, RaftOutput, quorum};

/// Who asked a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// This member.
    Own(RequestId),
    /// Another one: its name for the question.
    Peer(NodeId, u64),
}

/// The questions of one leadership. A round asks all peers whether this member still leads; one
/// round serves every question that waits when it begins, and the next begins when it is done.
#[derive(Clone, Debug, Default)]
pub(super) struct Reads {
    /// Came after the round in flight began, so only a later one can vouch for them. A peer waits
    /// with one question at most: it asks for all its clients at once.
    waiting: Vec<Asker>,
    in_flight: Option<Round>,
    /// The newest round; 0 is before the first.
    round: u64,
}

/// What a finished round allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Round {
    /// A store that has applied through here may answer.
    pub(super) index: Index,
    /// Who asked.
    pub(super) askers: Vec<Asker>,
}

impl Reads {
    /// A question came. A peer that asks again has given up what it asked before.
    pub(super) fn push(&mut self, asker: Asker) {
        if let Asker::Peer(node, _) = asker {
            let is_same = |other: &Asker| matches!(other, Asker::Peer(peer, _) if *peer == node);
            self.waiting.retain(|other| !is_same(other));
        }
        self.waiting.push(asker);
    }

    /// Begins a round for what waits, if none is in flight. `committed` is from before the first
    /// message of the round, and after the questions came. Whether it did.
    pub(super) fn maybe_begin(&mut self, committed: Index) -> bool {
        if self.is_asking() || self.waiting.is_empty() {
            return false;
        }
        self.round += 1;
        let askers = mem::take(&mut self.waiting);
        self.in_flight = Some(Round {
            index: committed,
            askers,
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

    /// Leadership is lost: nothing here will be answered. The questions of this member itself;
    /// peers see that the term has changed.
    pub(super) fn into_requests(self) -> impl Iterator<Item = RequestId> {
        let asked = self.in_flight.into_iter().flat_map(|round| round.askers);
        asked.chain(self.waiting).filter_map(|asker| match asker {
            Asker::Own(request) => Some(request),
            Asker::Peer(..) => None,
        })
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
        self.askers().count()
    }

    /// How many of them this member asked itself.
    pub(super) fn own(&self) -> usize {
        let own = |asker: &&Asker| matches!(asker, Asker::Own(_));
        self.askers().filter(own).count()
    }

    fn askers(&self) -> impl Iterator<Item = &Asker> {
        let asked = self.in_flight.iter().flat_map(|round| &round.askers);
        asked.chain(&self.waiting)
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
        let Some(Round { index, askers }) = leadership.reads.finish(through) else {
            return;
        };
        let term = self.hard_state.term;
        for asker in askers {
            match asker {
                Asker::Own(request) => self
                    .outputs
                    .push_back(RaftOutput::ReadReady { request, index }),
                Asker::Peer(node, nonce) => {
                    self.hold(node, term, MessageBody::ReadIndexReply { nonce, index });
                }
            }
        }
    }

    /// A peer asks for its clients. Who does not lead, or will not for long, does not answer: the
    /// peer learns of the next leader, and asks that one.
    ///
    /// Whoever asks in this term had not voted in a later one when it asked, which was after its
    /// clients did. Where it is a quorum together with this member, nobody else can have been
    /// elected before that: the question itself is the round.
    pub(super) fn on_read_index(&mut self, from: NodeId, nonce: u64, counts: bool) {
        let is_round = counts && self.has_committed_in_term() && {
            let agrees = |node| node == self.id || node == from;
            quorum::reached(self.configurations.in_force(), agrees)
        };
        if let RoleState::Leader(leadership) = &mut self.role
            && !self.stopping
        {
            if is_round {
                let (term, index) = (self.hard_state.term, self.committed);
                self.hold(from, term, MessageBody::ReadIndexReply { nonce, index });
            } else {
                leadership.reads.push(Asker::Peer(from, nonce));
            }
        }
    }

    /// The leader answers what this member asked.
    pub(super) fn on_read_index_reply(&mut self, from: NodeId, nonce: u64, index: Index) {
        if self.leader() == Some(from) {
            let request = RequestId(nonce);
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
        reads.push(Asker::Own(RequestId(1)));
        reads.push(Asker::Own(RequestId(2)));
        reads.maybe_begin(Index(4));
        reads.push(Asker::Own(RequestId(3)));
        reads.maybe_begin(Index(9));
        assert_eq!((reads.round(), reads.len()), (1, 3));

        assert_eq!(reads.finish(0), None);
        let first = Round {
            index: Index(4),
            askers: [Asker::Own(RequestId(1)), Asker::Own(RequestId(2))].into(),
        };
        assert_eq!(reads.finish(1), Some(first));
        assert_eq!(reads.finish(1), None, "served once");
        reads.maybe_begin(Index(9));
        let second = Round {
            index: Index(9),
            askers: [Asker::Own(RequestId(3))].into(),
        };
        assert_eq!(reads.finish(2), Some(second));
    }

    #[test]
    fn all_open_questions_are_given_back() {
        let mut reads = Reads::default();
        reads.push(Asker::Own(RequestId(1)));
        reads.push(Asker::Peer(NodeId(7), 1));
        reads.maybe_begin(Index(1));
        reads.push(Asker::Own(RequestId(2)));
        assert!(reads.into_requests().eq([RequestId(1), RequestId(2)]));
    }

    #[test]
    fn a_peer_that_asks_again_is_answered_once() {
        let mut reads = Reads::default();
        reads.push(Asker::Peer(NodeId(7), 1));
        reads.push(Asker::Peer(NodeId(8), 1));
        reads.push(Asker::Peer(NodeId(7), 2));
        reads.maybe_begin(Index(1));
        let asked = reads.finish(1).map(|round| round.askers);
        let expected = [Asker::Peer(NodeId(8), 1), Asker::Peer(NodeId(7), 2)];
        assert_eq!(asked, Some(expected.into()));
    }
}
