//! Who leads: pre-vote, vote, check-quorum (Raft §5.2, §5.4.1; thesis §4.2.3, §6.2, §9.6).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::mem;

use crate::ids::{Index, LogId, NodeId, Term};
use crate::output::{HardState, PeerFault};
use crate::raft::progress::Progress;
use crate::raft::quorum::{self, VoteResult};
use crate::raft::read::Reads;
use crate::raft::role::{Following, Leadership, RoleState, Tally};
use crate::raft::timers::Timer;
use crate::raft::{MessageBody, Payload, Raft, RaftOutput};
use crate::time::{Duration, Instant};

impl Raft {
    /// Nobody was heard from for a whole timeout, or a campaign came to nothing.
    pub(super) fn on_election_timeout(&mut self, now: Instant) {
        assert!(!self.is_leader(), "a leader has no election timeout");
        self.arm_election(now);
        if self.is_promotable() {
            self.pre_campaign(now);
        } else {
            self.become_follower(now, self.hard_state.term);
        }
    }

    /// Asks whether a campaign would succeed (thesis §9.6): a member that cannot win disturbs no
    /// one by trying.
    pub(super) fn pre_campaign(&mut self, now: Instant) {
        assert!(self.is_promotable(), "{} may not campaign", self.id);
        let mut tally = Tally::default();
        tally.record(self.id, true);
        self.role = RoleState::PreCandidate(tally);
        let last = self.log.last();
        self.ask_voters(self.hard_state.term.next(), &MessageBody::PreVote { last });
        self.count_pre_votes(now);
    }

    /// Would this member vote for `from` in `term`? Promises nothing, changes nothing.
    pub(super) fn on_pre_vote(&mut self, now: Instant, from: NodeId, term: Term, last: LogId) {
        if term > self.hard_state.term && self.is_sticky(now) {
            return;
        }
        let granted = term > self.hard_state.term && self.would_vote(last);
        // A refusal tells the own term, so that one who lags learns of it.
        let term = if granted { term } else { self.hard_state.term };
        self.hold(from, term, MessageBody::PreVoteReply { granted });
    }

    /// `from` would vote for this member in `term`.
    pub(super) fn on_pre_vote_granted(&mut self, now: Instant, from: NodeId, term: Term) {
        let is_asked = term == self.hard_state.term.next();
        if let (RoleState::PreCandidate(tally), true) = (&mut self.role, is_asked) {
            tally.record(from, true);
            self.count_pre_votes(now);
        }
    }

    /// `from` would not vote for this member.
    pub(super) fn on_pre_vote_refused(&mut self, now: Instant, from: NodeId) {
        if let RoleState::PreCandidate(tally) = &mut self.role {
            tally.record(from, false);
            self.count_pre_votes(now);
        }
    }

    /// Asks for votes in a new term (Raft §5.2). Its own vote counts, and the requests leave, once
    /// that term and vote are on disk.
    pub(super) fn campaign(&mut self, now: Instant, transfer: bool) {
        assert!(self.is_promotable(), "{} may not campaign", self.id);
        assert!(!self.is_leader(), "a leader does not campaign");
        self.enter_term(HardState {
            term: self.hard_state.term.next(),
            vote: Some(self.id),
        });
        self.role = RoleState::Candidate(Tally::default());
        let last = self.log.last();
        self.ask_voters(self.hard_state.term, &MessageBody::Vote { last, transfer });
        self.arm_election(now);
    }

    /// `from` asks for this member's vote in `term`.
    pub(super) fn on_vote(
        &mut self,
        now: Instant,
        from: NodeId,
        term: Term,
        last: LogId,
        transfer: bool,
    ) {
        // Thesis §4.2.3: with a leader at work, one who campaigns is cut off or removed. Its term
        // must not depose that leader, unless the leader itself asked for this election.
        if term > self.hard_state.term && !transfer && self.is_sticky(now) {
            return;
        }
        let granted =
            self.observe_term(now, term) && self.may_vote_for(from) && self.would_vote(last);
        if granted && self.hard_state.vote.is_none() {
            self.hard_state.vote = Some(from);
            self.role = RoleState::Follower(None);
            self.arm_election(now);
        }
        self.hold(
            from,
            self.hard_state.term,
            MessageBody::VoteReply { granted },
        );
    }

    /// `from` voted. Nobody was asked before the own vote was on disk.
    pub(super) fn on_vote_reply(&mut self, now: Instant, from: NodeId, granted: bool) {
        if !matches!(self.role, RoleState::Candidate(_)) {
            return;
        }
        // The question leaves only once term and vote are on disk.
        if !self.durability.holds(self.hard_state) {
            if granted {
                let what = "a vote that was never asked for";
                self.fault(from, PeerFault::Malformed { what });
            }
            // A refusal may answer the question of an older term.
            return;
        }
        if let RoleState::Candidate(tally) = &mut self.role {
            tally.record(from, granted);
            self.count_votes(now);
        }
    }

    /// The candidate's own vote is on disk.
    pub(super) fn on_own_vote_persisted(&mut self, now: Instant) {
        assert_eq!(
            self.hard_state.vote,
            Some(self.id),
            "a candidate votes for itself"
        );
        let id = self.id;
        self.on_vote_reply(now, id, true);
    }

    /// Steps down a leader that has not heard from a quorum for an election timeout (thesis §6.2):
    /// its clients shall look for another one.
    pub(super) fn on_check_quorum(&mut self, now: Instant) {
        let heard = self.quorum_heard(now);
        let heard = heard.expect("only a leader checks its quorum");
        if now.since(heard) >= self.config.election_timeout {
            self.become_follower(now, self.hard_state.term);
        } else {
            self.timers
                .set(Timer::CheckQuorum, heard + self.config.election_timeout);
        }
    }

    /// When a leader last knew of a whole quorum; `None` of any other member.
    pub(super) fn quorum_heard(&self, now: Instant) -> Option<Instant> {
        let RoleState::Leader(leadership) = &self.role else {
            return None;
        };
        let heard = |node| {
            if node == self.id {
                return now;
            }
            let progress = leadership.progress.get(&node);
            progress.map_or(Instant::default(), Progress::heard)
        };
        Some(quorum::reached(self.configurations.in_force(), heard))
    }

    /// Follows nobody yet, in `term`: this one, or a later one.
    pub(super) fn become_follower(&mut self, now: Instant, term: Term) {
        assert!(term >= self.hard_state.term, "the term falls to {term}");
        if term > self.hard_state.term {
            self.enter_term(HardState { term, vote: None });
        }
        self.heard = self.quorum_heard(now).or(self.heard);
        if let RoleState::Leader(leadership) =
            mem::replace(&mut self.role, RoleState::Follower(None))
        {
            self.timers.clear(Timer::CheckQuorum);
            self.timers.clear(Timer::Heartbeat);
            self.timers.clear(Timer::Transfer);
            self.arm_election(now);
            for request in leadership.reads.into_requests() {
                self.outputs.push_back(RaftOutput::ReadLost { request });
            }
            self.lost = Some(self.committed);
        }
    }

    /// Follows `leader`, which was just heard from in this term.
    ///
    /// # Errors
    /// `TwoLeaders` where that cannot be.
    pub(super) fn follow(&mut self, now: Instant, leader: NodeId) -> Result<(), PeerFault> {
        match &mut self.role {
            RoleState::Follower(Some(following)) if following.leader == leader => {
                following.heard = now;
            }
            RoleState::Follower(Some(_)) | RoleState::Leader(_) => {
                // Raft §5.2, Election Safety.
                return Err(PeerFault::TwoLeaders {
                    term: self.hard_state.term,
                });
            }
            RoleState::Follower(None) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                let persisted = self.durability.persisted();
                let following = Following::new(leader, now, self.committed, persisted);
                self.role = RoleState::Follower(Some(following));
            }
        }
        self.heard = Some(now);
        self.arm_election(now);
        Ok(())
    }

    /// Draws the next election timeout: between one and two times the least (Raft §5.2).
    pub(super) fn arm_election(&mut self, now: Instant) {
        let least = self.config.election_timeout;
        let span = u64::try_from(least.as_nanos()).unwrap_or(u64::MAX);
        let extra = Duration::from_nanos(self.rng.below(span));
        self.timers.set(Timer::Election, now + least + extra);
    }

    /// Whether this member may campaign: a voter whose log is whole, and that stays.
    pub(super) fn is_promotable(&self) -> bool {
        self.configurations.in_force().is_voter(self.id) && self.held.is_none() && !self.stopping
    }

    /// Whether no one else votes.
    pub(super) fn is_alone(&self) -> bool {
        let mut own = Tally::default();
        own.record(self.id, true);
        own.result(self.configurations.in_force()) == VoteResult::Won
    }

    /// Whether a leader is at work, as far as this member knows (thesis §4.2.3).
    fn is_sticky(&self, now: Instant) -> bool {
        match &self.role {
            RoleState::Follower(Some(following)) => {
                now.since(following.heard) < self.config.election_timeout
            }
            RoleState::Follower(None) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                false
            }
            // Check-quorum ends this where it is no longer so.
            RoleState::Leader(_) => true,
        }
    }

    /// Raft §5.2: one vote a term, and none beside a leader.
    fn may_vote_for(&self, candidate: NodeId) -> bool {
        match self.hard_state.vote {
            Some(vote) => vote == candidate,
            None => self.leader().is_none(),
        }
    }

    /// Raft §5.4.1: only for one whose log holds at least what this one holds. A damaged log holds
    /// less than this member once vouched for, so it cannot be compared.
    fn would_vote(&self, last: LogId) -> bool {
        last >= self.log.last() && self.held.is_none()
    }

    fn count_pre_votes(&mut self, now: Instant) {
        let RoleState::PreCandidate(tally) = &self.role else {
            unreachable!("pre-votes are counted for a pre-candidate");
        };
        match tally.result(self.configurations.in_force()) {
            VoteResult::Pending => {}
            VoteResult::Won if self.is_promotable() => self.campaign(now, false),
            // Won, but the member is shutting down since it asked.
            VoteResult::Won | VoteResult::Lost => {
                self.become_follower(now, self.hard_state.term);
            }
        }
    }

    fn count_votes(&mut self, now: Instant) {
        let RoleState::Candidate(tally) = &self.role else {
            unreachable!("votes are counted for a candidate");
        };
        match tally.result(self.configurations.in_force()) {
            VoteResult::Pending => {}
            VoteResult::Won => self.become_leader(now),
            VoteResult::Lost => self.become_follower(now, self.hard_state.term),
        }
    }

    /// Leads the current term. An entry of that term comes first: it commits what older terms left
    /// (Raft §5.4.2, §8).
    fn become_leader(&mut self, now: Instant) {
        assert!(
            self.durability.holds(self.hard_state),
            "elected before its vote was on disk"
        );
        assert_eq!(
            self.hard_state.vote,
            Some(self.id),
            "elected without its own vote"
        );
        let last = self.log.last().index;
        self.role = RoleState::Leader(Leadership {
            progress: BTreeMap::new(),
            reads: Reads::default(),
            transfer: None,
            uncommitted_bytes: self.log.weight(self.committed, last),
        });
        self.meet_members(now, last.next());
        self.timers.clear(Timer::Election);
        self.timers
            .set(Timer::Heartbeat, now + self.config.heartbeat_interval);
        self.timers
            .set(Timer::CheckQuorum, now + self.config.election_timeout);
        if self.disk_full {
            self.timers
                .set(Timer::Transfer, now + self.config.election_timeout);
        }
        let entry = self.next_entry(now, self.opening_payload());
        self.lead_entry(now, entry);
    }

    /// What a new leader's first entry says. What older terms left, and may not have committed, is
    /// committed by it at the earliest (Raft §5.4.2): whoever is granted a time to live there will
    /// not be told before.
    ///
    /// Check-quorum ends a leadership that commits nothing, so what is much older than the end of
    /// the log was committed long ago, even where this member was not told: after a restart it
    /// knows of no more than its checkpoint holds.
    fn opening_payload(&self) -> Payload {
        let Some(last) = self.log.get(self.log.last().index) else {
            return Payload::Empty;
        };
        let window = 2 * self.config.election_timeout;
        let first = (self.committed.0 + 1..=last.id.index.0)
            .rev()
            .map(|index| self.log.get(Index(index)).expect("after what is committed"))
            .take_while(|entry| entry.stamp + window >= last.stamp)
            .filter(|entry| matches!(&entry.payload, Payload::Command(c) if c.grants()))
            .last();
        first.map_or(Payload::Empty, |entry| Payload::Renew {
            since: entry.stamp,
        })
    }

    /// Enters a later term. What waits to be said in the old one is no longer true to say.
    fn enter_term(&mut self, hard_state: HardState) {
        assert!(hard_state.term > self.hard_state.term, "terms only rise");
        self.hard_state = hard_state;
        self.durability.drop_messages();
    }

    fn ask_voters(&mut self, term: Term, question: &MessageBody) {
        let configuration = self.configurations.in_force();
        let voters: Vec<NodeId> = configuration
            .members()
            .filter(|&node| node != self.id && configuration.is_voter(node))
            .collect();
        for voter in voters {
            self.hold(voter, term, question.clone());
        }
    }
}
