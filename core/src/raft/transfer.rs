//! Leadership transfer (thesis §3.10), also where the leader shuts down or its disk is full.

use crate::ids::NodeId;
use crate::output::PeerFault;
use crate::raft::role::{RoleState, Transfer};
use crate::raft::timers::Timer;
use crate::raft::{MessageBody, Raft};
use crate::time::Instant;

impl Raft {
    /// Hands leadership to `to` once it has caught up; given up after an election timeout, and
    /// meanwhile proposals are `Busy`. Nothing happens where this member does not lead, `to` is no
    /// other voter, or a transfer is under way.
    pub fn transfer(&mut self, now: Instant, to: NodeId) {
        let is_voter = self.configurations.in_force().is_voter(to);
        let RoleState::Leader(leadership) = &mut self.role else {
            return;
        };
        if !is_voter || !leadership.progress.contains_key(&to) || leadership.transfer.is_some() {
            return;
        }
        leadership.transfer = Some(Transfer { to, told: false });
        self.timers
            .set(Timer::Transfer, now + self.config.election_timeout);
    }

    /// Whether there is no room for more log. A leader hands over and takes no proposals; a
    /// follower writes no entries, and so acknowledges none. Both go on as soon as there is room.
    pub fn disk_full(&mut self, now: Instant, is_full: bool) {
        let was_full = core::mem::replace(&mut self.disk_full, is_full);
        if is_full && !was_full {
            self.hand_over(now);
        }
    }

    /// Leads no more, and takes no proposals: a leader hands over. Goes on following.
    pub fn retire(&mut self, now: Instant) {
        self.stopping = true;
        self.hand_over(now);
    }

    /// Takes in nothing new. A leader hands over; the log is sealed.
    pub fn shutdown(&mut self, now: Instant) {
        self.closed = true;
        self.retire(now);
    }

    /// Whether a shutdown has nothing left to wait for: leadership is handed over, or nobody took
    /// it, and everything is on disk and sealed.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let is_written = self.durability.holds(self.hard_state)
            && (self.disk_full || self.durability.persisted() == self.log.last().index);
        let is_quiet = !self.durability.is_writing() && self.durability.is_sealed();
        !self.is_handing_over() && is_written && is_quiet
    }

    /// The transport gave up on `peer` for now: what was in flight to it is probably lost.
    pub fn unreachable(&mut self, peer: NodeId) {
        if let RoleState::Leader(leadership) = &mut self.role
            && let Some(progress) = leadership.progress.get_mut(&peer)
        {
            progress.on_unreachable();
        }
    }

    /// Hands over where the disk has not ended a write for an election timeout: what is committed
    /// by the others alone, the others can better lead.
    pub(super) fn maybe_hand_over_stalled(&mut self, now: Instant) {
        let since = self.durability.writing_since();
        if since.is_some_and(|since| now.since(since) >= self.config.election_timeout) {
            self.hand_over(now);
        }
    }

    /// Whether leadership is on its way to another member.
    #[must_use]
    pub fn is_handing_over(&self) -> bool {
        match &self.role {
            RoleState::Leader(leadership) => leadership.transfer.is_some(),
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => false,
        }
    }

    /// The leader asks this member to campaign at once.
    pub(super) fn on_timeout_now(&mut self, now: Instant, from: NodeId) {
        let is_from_leader = match &self.role {
            RoleState::Follower(Some(following)) => following.leader == from,
            // Its appends may be behind this message.
            RoleState::Follower(None) | RoleState::PreCandidate(_) => true,
            RoleState::Candidate(_) => return,
            RoleState::Leader(_) => false,
        };
        if !is_from_leader {
            let term = self.hard_state.term;
            return self.fault(from, PeerFault::TwoLeaders { term });
        }
        if self.is_promotable() {
            self.campaign(now, true);
        }
    }

    /// Tells the target to campaign, once, when it holds the whole log.
    pub(super) fn poll_timeout_now(&mut self) -> Option<(NodeId, MessageBody)> {
        let last = self.log.last().index;
        let RoleState::Leader(leadership) = &mut self.role else {
            return None;
        };
        let transfer = leadership
            .transfer
            .as_mut()
            .filter(|transfer| !transfer.told)?;
        if leadership.progress.get(&transfer.to)?.counted() < last {
            return None;
        }
        transfer.told = true;
        Some((transfer.to, MessageBody::TimeoutNow))
    }

    /// The target did not take over in time: this member goes on leading.
    pub(super) fn on_transfer_timeout(&mut self, now: Instant) {
        let RoleState::Leader(leadership) = &mut self.role else {
            unreachable!("only a leader hands over");
        };
        leadership.transfer = None;
        if self.disk_full {
            self.hand_over(now);
        }
    }

    /// Begins a transfer to the voter that is best prepared, if this member leads. With a full disk
    /// it will be tried again.
    fn hand_over(&mut self, now: Instant) {
        let RoleState::Leader(leadership) = &self.role else {
            return;
        };
        let configuration = self.configurations.in_force();
        let best = leadership
            .progress
            .iter()
            .filter(|&(&node, progress)| {
                configuration.is_voter(node)
                    && now.since(progress.heard()) < self.config.election_timeout
            })
            .max_by_key(|(_, progress)| progress.counted());
        if let Some((&to, _)) = best {
            self.transfer(now, to);
        } else if self.disk_full {
            self.timers
                .set(Timer::Transfer, now + self.config.election_timeout);
        }
    }
}
