//! Raft, as in the paper (Ongaro, Ousterhout 2014: «Raft §») and Ongaro's thesis («thesis §»).
//!
//! [`Raft`] is a machine without clock, disk or network: it absorbs what happens and computes what
//! to do when it is asked. `election` decides who leads, `replication` what is in the log and what
//! is committed, `read` when a question may be answered; `durability` holds back what needs the
//! disk.

mod clock;
mod durability;
mod election;
mod entry;
mod log;
mod membership;
mod message;
mod opening;
mod output;
mod progress;
mod quorum;
mod read;
mod replication;
mod retention;
mod role;
mod snapshot;
mod status;
mod timers;
mod transfer;

use alloc::collections::{BTreeMap, VecDeque};

pub use entry::{Entries, Entry, Payload};
pub use membership::Configuration;
pub use message::{AppendOutcome, Forwarded, Message, MessageBody};
pub use opening::RaftOpening;
pub use output::RaftOutput;
pub use snapshot::SnapshotHead;
pub use status::{Role, Status};

use crate::config::Config;
use crate::ids::{DiskId, Index, LogId, NodeId, RequestId, Term, WriteSeq};
use crate::output::{HardState, PeerFault, RequestError, Write};
use crate::rng::Rng;
use crate::time::{ClusterTime, Instant};
use clock::Anchor;
use durability::Durability;
use log::{BatchLimits, Log};
use membership::Configurations;
use read::Asker;
use retention::Trimming;
use role::RoleState;
use timers::{Timer, Timers};

/// One member's Raft.
///
/// Invariants: `applied <= delivered <= committed <= last`; `persisted <= last`; terms never fall;
/// a leader never cuts its own log (Raft §5.3); nothing of a term leaves before the disk holds it.
#[derive(Clone, Debug)]
pub struct Raft {
    id: NodeId,
    birth: u128,
    disks: BTreeMap<NodeId, DiskId>,
    config: Config,
    rng: Rng,

    hard_state: HardState,
    role: RoleState,
    log: Log,
    configurations: Configurations,
    durability: Durability,
    timers: Timers,
    anchor: Anchor,

    committed: Index,
    /// Given out as [`RaftOutput::Commit`] through here.
    delivered: Index,
    applied: LogId,
    /// After damage: the highest index the log had held, until it is on disk through there again.
    held: Option<Index>,
    trimming: Trimming,
    /// When the leader of the time was last heard from; or, once leadership was lost, a quorum.
    heard: Option<Instant>,
    disk_full: bool,
    /// It shall not lead any more.
    stopping: bool,
    /// It takes in nothing more, not even as a follower.
    closed: bool,
    /// The idle log shall be sealed now.
    seal_due: bool,
    /// Leadership was lost when this much was committed; not yet said.
    lost: Option<Index>,
    /// What to say besides what is computed when polled.
    outputs: VecDeque<RaftOutput>,
}

impl Raft {
    /// When to call [`tick`](Self::tick) if nothing else happens first.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.deadline()
    }

    /// The clock reached the deadline. Harmless at any time.
    pub fn tick(&mut self, now: Instant) {
        for timer in Timer::ALL {
            if self.timers.expire(timer, now) {
                match timer {
                    Timer::CheckQuorum => self.on_check_quorum(now),
                    Timer::Election => self.on_election_timeout(now),
                    Timer::Heartbeat => self.on_heartbeat_timer(now),
                    Timer::Transfer => self.on_transfer_timeout(now),
                    Timer::Seal => self.seal_due = true,
                }
            }
        }
        self.check_invariants();
    }

    /// A message came. Whatever it says, it cannot make this panic.
    pub fn receive(&mut self, now: Instant, from: NodeId, message: Message) {
        if let Err(fault) = self.admit(from, &message) {
            return self.fault(from, fault);
        }
        let Message { term, body, .. } = message;
        match body {
            // These two speak of the term that would be: they change no term here (thesis §9.6).
            MessageBody::PreVote { last } => self.on_pre_vote(now, from, term, last),
            MessageBody::PreVoteReply { granted: true } => {
                self.on_pre_vote_granted(now, from, term);
            }
            // Leader stickiness comes before the term (thesis §4.2.3).
            MessageBody::Vote { last, transfer } => self.on_vote(now, from, term, last, transfer),
            MessageBody::Append {
                previous,
                entries,
                committed,
                round,
            } => {
                if self.observe_term(now, term) {
                    self.on_append(now, from, previous, &entries, committed, round);
                } else {
                    self.refuse_old_leader(from);
                }
            }
            MessageBody::PreVoteReply { granted: false } => {
                if self.observe_term(now, term) {
                    self.on_pre_vote_refused(now, from);
                }
            }
            MessageBody::VoteReply { granted } => {
                if self.observe_term(now, term) {
                    self.on_vote_reply(now, from, granted);
                }
            }
            MessageBody::AppendReply { outcome, round } => {
                if self.observe_term(now, term) {
                    self.on_append_reply(now, from, outcome, round);
                }
            }
            MessageBody::TimeoutNow => {
                if self.observe_term(now, term) {
                    self.on_timeout_now(now, from);
                }
            }
            MessageBody::Propose { requests } => {
                if self.observe_term(now, term) {
                    self.on_propose(now, from, requests);
                }
            }
            MessageBody::ProposeRefused { tickets } => {
                if self.observe_term(now, term) {
                    self.outputs.push_back(RaftOutput::Refused { tickets });
                }
            }
            MessageBody::ReadIndex { nonce, counts } => {
                if self.observe_term(now, term) {
                    self.on_read_index(from, nonce, counts);
                }
            }
            MessageBody::ReadIndexReply { nonce, index } => {
                if self.observe_term(now, term) {
                    self.on_read_index_reply(from, nonce, index);
                }
            }
        }
        self.check_invariants();
    }

    /// Appends to the log of a leader, and tells where.
    ///
    /// # Errors
    /// `Stopping`, `NotLeader`, `DiskFull`, or `Busy` where a limit is reached, leadership is being
    /// handed over, or a change of configuration is still under way: nothing was done.
    pub fn propose(&mut self, now: Instant, payload: Payload) -> Result<LogId, RequestError> {
        if self.stopping {
            return Err(RequestError::Stopping);
        }
        let RoleState::Leader(leadership) = &self.role else {
            return Err(RequestError::NotLeader {
                leader: self.leader(),
            });
        };
        if self.disk_full {
            return Err(RequestError::DiskFull);
        }
        if leadership.transfer.is_some() {
            return Err(RequestError::Busy);
        }
        let entry = self.next_entry(now, payload);
        let uncommitted = leadership.uncommitted_bytes;
        if uncommitted > 0 && uncommitted + entry.weight() > self.config.uncommitted_bytes_max {
            return Err(RequestError::Busy);
        }
        if matches!(entry.payload, Payload::Configuration(_)) && !self.may_reconfigure() {
            return Err(RequestError::Busy);
        }
        let id = entry.id;
        self.lead_entry(now, entry);
        self.check_invariants();
        Ok(id)
    }

    /// Asks from which index on this leader may answer a question that came now (thesis §6.4).
    /// Pairs with one `ReadReady` or `ReadLost`.
    ///
    /// # Errors
    /// `Stopping`, `NotLeader`, or `Busy` where too many wait already.
    pub fn read_index(&mut self, request: RequestId) -> Result<(), RequestError> {
        if self.stopping {
            return Err(RequestError::Stopping);
        }
        let leader = self.leader();
        let RoleState::Leader(leadership) = &mut self.role else {
            return Err(RequestError::NotLeader { leader });
        };
        if leadership.reads.own() >= self.config.reads_max {
            return Err(RequestError::Busy);
        }
        leadership.reads.push(Asker::Own(request));
        Ok(())
    }

    /// What to ask the leader instead, where another member leads.
    #[must_use]
    pub fn read_index_question(&self, nonce: u64) -> MessageBody {
        MessageBody::ReadIndex {
            nonce,
            // One that may have forgotten a vote cannot vouch for a leader (DESIGN.md §6).
            counts: self.held.is_none(),
        }
    }

    /// The leader, if that is another member and may be told something now: what is said of a term
    /// waits until the disk holds it.
    #[must_use]
    pub fn leader_to_ask(&self) -> Option<NodeId> {
        let leader = self.leader().filter(|leader| *leader != self.id);
        leader.filter(|_| self.durability.holds(self.hard_state))
    }

    /// A message to `to`, a member, in this term.
    ///
    /// # Panics
    /// Where the disk of `to` is not known.
    #[must_use]
    pub fn message_to(&self, to: NodeId, body: MessageBody) -> Message {
        self.message(to, self.hard_state.term, body)
    }

    /// Every write through `through` is on disk.
    ///
    /// # Panics
    /// Where it was never asked for: the driver's word is not a peer's.
    pub fn persisted(&mut self, now: Instant, through: WriteSeq) {
        if !self.durability.complete(through) {
            return;
        }
        if self
            .held
            .is_some_and(|held| self.durability.persisted() >= held)
        {
            // Whole again: everything this member ever acknowledged is back (DESIGN.md §6).
            self.held = None;
        }
        match &self.role {
            RoleState::Candidate(_) if self.durability.holds(self.hard_state) => {
                self.on_own_vote_persisted(now);
            }
            RoleState::Leader(_) => self.maybe_commit(now),
            RoleState::Candidate(_) | RoleState::Follower(_) | RoleState::PreCandidate(_) => {}
        }
        self.check_invariants();
    }

    /// The caller has applied what was committed through `through`.
    ///
    /// # Panics
    /// Where that was not given out, or is behind what was applied before.
    pub fn applied(&mut self, through: LogId) {
        assert!(
            through.index <= self.delivered,
            "applied {through}, delivered {}",
            self.delivered
        );
        assert!(
            through.index >= self.applied.index,
            "applied goes back to {through}"
        );
        assert_eq!(
            self.log.id_at(through.index),
            Some(through),
            "applied another entry"
        );
        self.applied = through;
    }

    /// The next thing to do. To be called until `None` after anything else was.
    ///
    /// Lost leadership is told first, between what was committed before and what came after: the
    /// next leader's entries may stand where proposals of this one did. Then the disk, since it is
    /// the slowest.
    pub fn poll(&mut self, now: Instant) -> Option<RaftOutput> {
        if let Some(committed) = self.lost {
            return Some(self.poll_commit(committed).unwrap_or_else(|| {
                self.lost = None;
                RaftOutput::LostLeadership
            }));
        }
        if let Some(write) = self.poll_write(now) {
            return Some(RaftOutput::Persist(write));
        }
        if let Some((to, message)) = self.poll_message() {
            return Some(RaftOutput::Send { to, message });
        }
        self.poll_commit(self.committed)
            .or_else(|| self.outputs.pop_front())
    }

    /// The best estimate of cluster time: never ahead of true time (SIMULATION.md §6).
    #[must_use]
    pub fn cluster_time(&self, now: Instant) -> ClusterTime {
        self.anchor.estimate(now)
    }

    /// When [`cluster_time`](Self::cluster_time) reaches `time`, if no entry comes before.
    #[must_use]
    pub fn reaches(&self, time: ClusterTime) -> Instant {
        self.anchor.reaches(time)
    }

    /// When the first of what the log grants a time to live after `after` is due.
    pub(crate) fn first_to_end_after(&self, after: Index) -> Option<ClusterTime> {
        let entries = (after.0 + 1..=self.log.last().index.0).map(Index);
        let deadlines = entries.filter_map(|index| {
            let entry = self.log.get(index)?;
            let Payload::Command(command) = &entry.payload else {
                return None;
            };
            Some(entry.stamp + command.granted()?)
        });
        deadlines.min()
    }

    /// What is committed through `through` and was not given out yet.
    fn poll_commit(&mut self, through: Index) -> Option<RaftOutput> {
        let entries = self.log.slice(self.delivered, through, self.batch_limits());
        self.delivered = entries.last()?.id.index;
        Some(RaftOutput::Commit(entries))
    }

    /// The next write, if the disk is free and there is something to write.
    fn poll_write(&mut self, now: Instant) -> Option<Write> {
        if self.durability.is_writing() {
            return None;
        }
        if self.durability.must_install() {
            return Some(self.write(now, [].into()));
        }
        let persisted = self.durability.persisted();
        let through = if self.disk_full {
            self.through_on_full_disk(persisted)
        } else {
            self.log.last().index
        };
        let entries = self.log.slice(persisted, through, self.batch_limits());
        let is_news = !entries.is_empty() || !self.durability.holds(self.hard_state);
        if !is_news && !self.durability.is_sealed() {
            if self.closed {
                self.seal_due = true;
            } else if !self.seal_due && !self.timers.is_set(Timer::Seal) {
                self.timers.set(Timer::Seal, now + self.config.seal_after);
            }
        }
        if !is_news && !self.seal_due {
            return None;
        }
        Some(self.write(now, entries))
    }

    fn write(&mut self, now: Instant, entries: Entries) -> Write {
        self.timers.clear(Timer::Seal);
        self.seal_due = false;
        self.durability.begin(now, self.hard_state, entries)
    }

    /// Through where a full disk takes the log. It has room for a term and a vote, which cost
    /// nothing, and for the empty entry that begins a leader's term: without it a leader that is
    /// alone could not even answer reads. Beyond that, nothing.
    fn through_on_full_disk(&self, persisted: Index) -> Index {
        let next = persisted.next();
        let term = Some(self.hard_state.term);
        let begins_term = self.is_leader()
            && self.log.term_at(persisted) != term
            && self.log.term_at(next) == term;
        if begins_term { next } else { persisted }
    }

    /// The next message that may leave.
    fn poll_message(&mut self) -> Option<(NodeId, Message)> {
        self.maybe_begin_round();
        if let Some((to, term, body)) = self.durability.release(self.hard_state) {
            return Some((to, self.message(to, term, body)));
        }
        let (to, body) = self
            .poll_append()
            .or_else(|| self.poll_acknowledgement())
            .or_else(|| self.poll_timeout_now())?;
        Some((to, self.message(to, self.hard_state.term, body)))
    }

    /// Whether the message may be heard at all.
    fn admit(&self, from: NodeId, message: &Message) -> Result<(), PeerFault> {
        let Some(&disk) = self.disks.get(&from) else {
            return Err(PeerFault::NotAMember);
        };
        let own = self.disks.get(&self.id).copied();
        // A wiped disk is another member, whatever it calls itself (DESIGN.md §4).
        if from == self.id
            || message.birth != self.birth
            || message.from_disk != disk
            || Some(message.to_disk) != own
        {
            return Err(PeerFault::WrongIdentity);
        }
        message
            .check()
            .map_err(|what| PeerFault::Malformed { what })
    }

    /// Raft §5.1: a higher term makes a follower; a lower one is not heard. Whether the message is
    /// of the current term.
    fn observe_term(&mut self, now: Instant, term: Term) -> bool {
        if term > self.hard_state.term {
            self.become_follower(now, term);
        }
        term == self.hard_state.term
    }

    /// Keeps a message until this term and vote are on disk.
    fn hold(&mut self, to: NodeId, term: Term, body: MessageBody) {
        if self.disks.contains_key(&to) {
            self.durability.hold(to, term, body);
        }
    }

    fn fault(&mut self, peer: NodeId, fault: PeerFault) {
        self.outputs.push_back(RaftOutput::Fault { peer, fault });
    }

    fn message(&self, to: NodeId, term: Term, body: MessageBody) -> Message {
        Message {
            birth: self.birth,
            from_disk: self.disks[&self.id],
            to_disk: self.disks[&to],
            term,
            body,
        }
    }

    fn batch_limits(&self) -> BatchLimits {
        BatchLimits {
            bytes_max: self.config.batch_bytes_max,
            entries_max: self.config.batch_entries_max,
        }
    }

    /// Raft §6: one change at a time, each after the last one is committed, and none before the
    /// leader has committed in its own term (Ongaro 2015, the single-server bug).
    fn may_reconfigure(&self) -> bool {
        self.configurations.changed() <= self.committed && self.has_committed_in_term()
    }

    /// What must hold between any two calls, whatever peers say.
    fn check_invariants(&self) {
        let last = self.log.last();
        assert!(
            self.applied.index <= self.delivered,
            "applied past what was given out"
        );
        assert!(
            self.delivered <= self.committed,
            "gave out what is not committed"
        );
        assert!(self.committed <= last.index, "committed past the log");
        assert!(
            self.durability.persisted() <= last.index,
            "the disk holds more than the log"
        );
        assert!(
            last.term <= self.hard_state.term,
            "an entry of a later term"
        );
        assert!(
            self.log.start().index <= self.applied.index,
            "trimmed what is not applied"
        );
        match &self.role {
            RoleState::Follower(Some(following)) => {
                assert!(following.matched <= last.index, "matched past the log");
                assert!(
                    following.acknowledged <= self.durability.persisted(),
                    "acknowledged what is not on disk",
                );
                assert_ne!(following.leader, self.id, "follows itself");
            }
            RoleState::Follower(None) => {}
            RoleState::PreCandidate(_) => assert!(self.held.is_none(), "campaigns while repairing"),
            RoleState::Candidate(_) => {
                assert_eq!(
                    self.hard_state.vote,
                    Some(self.id),
                    "a candidate votes for itself"
                );
            }
            RoleState::Leader(leadership) => {
                assert_eq!(
                    self.hard_state.vote,
                    Some(self.id),
                    "leads without its own vote"
                );
                assert!(
                    self.durability.holds(self.hard_state),
                    "leads a term it may forget"
                );
                assert_eq!(
                    last.term, self.hard_state.term,
                    "leads without an entry of its term"
                );
                assert!(
                    !leadership.progress.contains_key(&self.id),
                    "keeps progress of itself"
                );
            }
        }
    }
}
