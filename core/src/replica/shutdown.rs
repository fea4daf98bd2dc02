//! A member that stops: what it has begun is finished first, for a while.

use alloc::vec::Vec;

use super::Replica;
use super::forward::Fate;
use crate::output::RequestError;
use crate::time::Instant;

impl Replica {
    pub(super) fn on_shutdown(&mut self, now: Instant) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        self.drain_until = Some(now + 2 * self.config.election_timeout);
        self.raft.retire(now);
        let questions = self.rounds.take().chain(self.requests.drop_questions());
        for request in questions.collect::<Vec<_>>() {
            self.reply(request, Err(RequestError::Stopping));
        }
        self.watches.stop(&self.store);
        self.drop_arrived();
    }

    /// While stopping: takes in nothing more once all writes are answered, or patience is over.
    pub(super) fn maybe_close(&mut self, now: Instant) {
        let Some(until) = self.drain_until else {
            return;
        };
        if self.writes() > 0 && now < until {
            return;
        }
        self.drain_until = None;
        for request in self.forwards.requests() {
            let result = match self.forwards.cancel(request) {
                Some(Fate::NotDone) => Err(RequestError::Stopping),
                Some(Fate::Unknown) | None => Err(RequestError::Dropped),
            };
            self.reply(request, result);
        }
        self.raft.shutdown(now);
        if !self.raft.is_leader() {
            self.drop_proposals();
        }
    }

    pub(super) fn drop_proposals(&mut self) {
        for request in self.requests.drop_proposals() {
            self.reply(request, Err(RequestError::Dropped));
        }
    }

    /// Whether this member is stopping and takes in nothing more.
    pub(super) const fn is_closed(&self) -> bool {
        self.stopping && self.drain_until.is_none()
    }

    /// After [`Input::Shutdown`](crate::Input::Shutdown): whether everything begun is finished. A
    /// checkpoint that fails is not waited for: the log has what it would hold.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.stopping
            && self.outbox.is_empty()
            && !self.watches.has_work()
            && self.drain_until.is_none()
            && self.requests.proposals() == 0
            && self.raft.is_settled()
            && !self.schedule.in_flight()
            && (self.schedule.is_failing() || !self.schedule.is_behind())
    }
}
