//! Writes and questions on their way to whoever leads: another member, or this one.

use alloc::sync::Arc;

use super::Replica;
use super::forward::Fate;
use crate::ids::{NodeId, RequestId, Term};
use crate::output::{Output, RequestError};
use crate::raft::{MessageBody, Payload};
use crate::store::{Body, ClientRequest, Command, Refusal, StoreError};
use crate::time::Instant;

impl Replica {
    pub(super) fn on_propose(&mut self, now: Instant, request: RequestId, command: Command) {
        if self.stopping {
            return self.reply(request, Err(RequestError::Stopping));
        }
        if self.writes() >= self.config.proposals_max {
            return self.reply(request, Err(RequestError::Busy));
        }
        let command = Arc::new(command);
        // Whoever takes over from this leader shall have it.
        if self.raft.is_handing_over() {
            return self.forward(request, command);
        }
        let payload = Payload::Command(command.clone());
        match self.raft.propose(now, payload) {
            Ok(at) => self.requests.proposed(at, request, command),
            Err(RequestError::NotLeader { .. }) => self.forward(request, command),
            Err(error) => self.reply(request, Err(error)),
        }
    }

    /// Another member has to put this into the log, if there is room for it to wait here.
    fn forward(&mut self, request: RequestId, command: Arc<Command>) {
        let bytes = self.forwards.bytes();
        if bytes > 0 && bytes + command.weight() > self.config.uncommitted_bytes_max {
            self.reply(request, Err(RequestError::Busy));
        } else {
            self.forwards.add(request, command, Fate::NotDone);
        }
    }

    /// This can no longer be committed where it stood in the log: it is proposed again, by whoever
    /// leads now.
    pub(super) fn propose_anew(&mut self, request: RequestId, command: Arc<Command>) {
        if self.is_closed() {
            self.reply(request, Err(RequestError::Stopping));
        } else {
            self.forwards.add(request, command, Fate::NotDone);
        }
    }

    /// Passes writes on to the leader; where that is this member by now, proposes them itself.
    /// Whether there were any.
    pub(super) fn pass_on(&mut self, now: Instant) -> bool {
        if self.forwards.deadline().is_none_or(|due| due > now) {
            return false;
        }
        let Some(leader) = self.leader_to_ask() else {
            return false;
        };
        let (bytes_max, count_max) = (self.config.batch_bytes_max, self.config.batch_entries_max);
        let requests = self.forwards.next(now, leader, bytes_max, count_max);
        if leader.1 != self.raft.id() {
            self.tell(leader.1, MessageBody::Propose { requests });
            return true;
        }
        let due = now + self.config.heartbeat_interval;
        for forwarded in requests {
            let payload = Payload::Command(forwarded.command);
            if self.raft.propose(now, payload).is_err() {
                self.forwards.refused(RequestId(forwarded.ticket), due);
            }
        }
        true
    }

    /// Asks the leader from where on the questions that wait may be answered. Whether there was
    /// something to ask.
    pub(super) fn ask_leader(&mut self, now: Instant) -> bool {
        let Some(leader) = self.leader_to_ask() else {
            return false;
        };
        let Some(nonce) = self.rounds.next(now, leader) else {
            return false;
        };
        if leader.1 != self.raft.id() {
            self.tell(leader.1, self.raft.read_index_question(nonce));
        } else if self.raft.read_index(RequestId(nonce)).is_err() {
            self.rounds.refused(now + self.config.heartbeat_interval);
        }
        true
    }

    /// The leader, if it can be asked for anything now: perhaps this member itself.
    pub(super) fn leader_to_ask(&self) -> Option<(Term, NodeId)> {
        let leader = match self.raft.is_leader() {
            true => (!self.raft.is_handing_over()).then_some(self.raft.id()),
            false => self.raft.leader_to_ask(),
        };
        leader.map(|leader| (self.raft.hard_state().term, leader))
    }

    fn tell(&mut self, to: NodeId, body: MessageBody) {
        let message = self.raft.message_to(to, body);
        self.outbox.push_back(Output::Send { to, message });
    }

    /// Answers those who waited for the first entry with this request id.
    pub(super) fn reply_forwarded(
        &mut self,
        now: Instant,
        id: &ClientRequest,
        result: &Result<Body, StoreError>,
    ) {
        let is_expired = matches!(result, Err(error) if matches!(error.reason, Refusal::Expired));
        let is_own = self.forwards.is_own(id);
        for request in self.forwards.applied(id) {
            if is_expired && is_own {
                // The client does not know of the id: one of several attempts came too late, and
                // what became of the others is forgotten.
                self.reply(request, Err(RequestError::Dropped));
            } else {
                self.reply_applied(now, request, result.clone());
            }
        }
    }
}
