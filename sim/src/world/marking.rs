//! Rare situations, as they are seen from outside the members (SIMULATION.md §10).
//!
//! It remembers what it needs to tell them by, and changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use quorate_core::raft::{Entry, Message, MessageBody, Payload, Raft, Role};
use quorate_core::store::{Action, Body, Content, Operation, Refusal, Response};
use quorate_core::{
    EndReason, HardState, Index, LogId, NodeId, Output, Replica, RequestError, RequestId, Revision,
    Term, WatchId, Write,
};

use super::World;
use crate::check::Checks;
use crate::clock::Time;
use crate::fault::{Counters, Fault};
use crate::mark::{Mark, Marks};
use crate::node::{Life, LogTask, Node, Process};

/// So soon after a leader's first entry, an expiry is one of the first things it does.
const FIRST_ENTRIES: u64 = 2;

/// The marks, and what they are told by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marking {
    /// What was reached.
    pub marks: Marks,
    seats: Vec<Seat>,
    /// The last entry and the number of changes looked at, and the first entry of the last term.
    seen: (Index, usize, LogId),
    /// In which term the request of a process was last passed on: by seat and incarnation.
    forwarded: BTreeMap<(usize, u64, RequestId), Term>,
    /// N4: votes that will come again, from, to and when.
    replays: BTreeSet<(usize, usize, Time)>,
    /// Watches that have begun.
    begun: BTreeSet<WatchId>,
    /// One is cut off in one direction until the others have healed.
    one_way: bool,
}

/// What is remembered of a member.
#[derive(Clone, Debug, Default)]
struct Seat {
    /// Its process, its role and how many questions it had to answer.
    incarnation: u64,
    standing: Option<(Role, Term)>,
    reads: usize,
    impaired: bool,
    full: bool,
    oldest: Revision,
    /// The term in which it was asked to lead.
    asked: Term,
    /// What was handed to its disk last.
    handed: Vec<LogId>,
    /// Terms it led.
    led: BTreeSet<Term>,
    /// The counter of the store that last came as a snapshot, and whether nothing came after.
    installed: Option<Revision>,
    just_installed: bool,
    /// Its tables are new and its log is old.
    installing: bool,
    /// The watches that were open when a snapshot came.
    across: BTreeSet<WatchId>,
    /// Of what is to be recovered from.
    torn: bool,
    reordered: bool,
    failed: bool,
}

/// A question about an election, or the answer to one, and how its receiver stood before.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    from: NodeId,
    message: Message,
    before: (HardState, Role),
}

impl Marking {
    pub(super) fn new(seats: usize) -> Self {
        Self {
            seats: vec![Seat::default(); seats],
            ..Self::default()
        }
    }

    /// This is about to be absorbed.
    pub(super) fn hears(from: NodeId, message: &Message, replica: &Replica) -> Option<Heard> {
        let is_election = match &message.body {
            MessageBody::PreVoteReply { granted } => !granted,
            MessageBody::Vote { .. } | MessageBody::VoteReply { .. } | MessageBody::TimeoutNow => {
                true
            }
            MessageBody::PreVote { .. }
            | MessageBody::Append { .. }
            | MessageBody::AppendReply { .. }
            | MessageBody::Propose { .. }
            | MessageBody::ProposeRefused { .. }
            | MessageBody::ReadIndex { .. }
            | MessageBody::ReadIndexReply { .. } => false,
        };
        let raft = replica.raft();
        is_election.then(|| Heard {
            from,
            message: message.clone(),
            before: (raft.hard_state(), raft.role()),
        })
    }

    /// It was absorbed, by `to`, at `now`, from the member at `from`.
    pub(super) fn heard(
        &mut self,
        now: Time,
        (from, to): (usize, usize),
        heard: Option<Heard>,
        raft: &Raft,
    ) {
        let Some(Heard {
            from: id,
            message,
            before: (before, role),
        }) = heard
        else {
            return;
        };
        let marks = &mut self.marks;
        let follows_again = |of| role == of && raft.role() == Role::Follower;
        match message.body {
            MessageBody::PreVoteReply { .. } => {
                marks.add_if(follows_again(Role::PreCandidate), Mark::PreVoteLost);
            }
            MessageBody::VoteReply { granted } => {
                marks.add_if(!granted && follows_again(Role::Candidate), Mark::VoteLost);
                let is_again = self.replays.remove(&(from, to, now));
                let is_old = granted && message.term < before.term;
                marks.add_if(is_again && is_old, Mark::VoteReplayed);
            }
            MessageBody::Vote { last, transfer } => {
                let after = raft.hard_state();
                let is_current = after.term == message.term;
                let by_vote = before.vote.is_some_and(|vote| vote != id);
                let by_vote = by_vote && before.term == message.term;
                marks.add_if(by_vote, Mark::VoteRefusedByVote);
                let by_log = is_current && after.vote.is_none() && last < raft.last();
                marks.add_if(by_log, Mark::VoteRefusedByLog);
                let by_lease = message.term > after.term && !transfer;
                marks.add_if(by_lease, Mark::VoteRefusedByLease);
            }
            MessageBody::TimeoutNow => self.seats[to].asked = message.term.next(),
            MessageBody::PreVote { .. }
            | MessageBody::Append { .. }
            | MessageBody::AppendReply { .. }
            | MessageBody::Propose { .. }
            | MessageBody::ProposeRefused { .. }
            | MessageBody::ReadIndex { .. }
            | MessageBody::ReadIndexReply { .. } => {}
        }
    }

    /// N4: a packet of this kind was sent, and its last copy comes much later.
    pub(super) fn replays(&mut self, from: usize, to: usize, kind: u8, last: Option<&Time>) {
        if let Some(&at) = last.filter(|_| kind == VOTE_REPLY) {
            self.replays.insert((from, to, at));
        }
    }

    /// A member hands this to its disk.
    fn writes(&mut self, seat: usize, write: &Write) {
        let seat = &mut self.seats[seat];
        if write.install.is_some() {
            seat.handed.clear();
        }
        let Some(first) = write.entries.first() else {
            return;
        };
        seat.just_installed = false;
        let kept = seat.handed.partition_point(|id| id.index < first.id.index);
        let gone = seat.handed.split_off(kept);
        seat.handed
            .extend(write.entries.iter().map(|entry| entry.id));
        self.marks.add_if(gone.len() >= 2, Mark::TwoTruncated);
        let own = gone.iter().any(|id| seat.led.contains(&id.term));
        self.marks.add_if(own, Mark::LeaderTruncated);
        let has = |is: fn(&Entry) -> bool| write.entries.iter().any(is);
        let both = has(is_refresh) && has(is_expiry);
        self.marks.add_if(both, Mark::RefreshWithExpiry);
    }

    /// These are durable.
    pub(super) fn durable(&mut self, seat: usize, writes: &[Write]) {
        if writes.iter().any(|write| write.install.is_some()) {
            self.seats[seat].installing = false;
        }
    }

    /// A snapshot begins to arrive; it `resumes` where a stream before it broke off.
    pub(super) fn resumed(&mut self, resumes: bool) {
        self.marks.add_if(resumes, Mark::SnapshotResumed);
    }

    /// A snapshot took the place of the tables of a member; its log does not know yet.
    pub(super) fn installed(&mut self, seat: usize, process: &Process) {
        let seat = &mut self.seats[seat];
        let has_watches = !process.watches.is_empty();
        self.marks.add_if(has_watches, Mark::InstalledUnderWatches);
        self.marks.add_if(seat.just_installed, Mark::InstalledTwice);
        seat.just_installed = true;
        seat.installing = true;
        seat.installed = Some(process.replica.store().revision());
        seat.across.extend(process.watches.keys());
    }

    /// A member answers.
    fn replies(
        &mut self,
        (seat, incarnation): (usize, u64),
        request: RequestId,
        is_write: bool,
        result: &Result<Response, RequestError>,
        term: Term,
    ) {
        let passed_on = self.forwarded.remove(&(seat, incarnation, request));
        let marks = &mut self.marks;
        match result {
            Ok(response) => {
                let is_late = passed_on.is_some_and(|passed_on| passed_on < term);
                marks.add_if(is_late, Mark::ForwardOutlivesLeader);
                if let (Body::Changed(event), true) = (&response.body, is_write) {
                    let installed = self.seats[seat].installed;
                    let is_old = installed.is_some_and(|at| event.id.index() <= at);
                    marks.add_if(is_old, Mark::RetryAfterSnapshot);
                }
            }
            Err(RequestError::Busy) if is_write => marks.add(Mark::WritesFull),
            Err(RequestError::Busy) => marks.add(Mark::ReadsFull),
            Err(RequestError::DiskFull) => marks.add(Mark::DiskFullRefused),
            Err(RequestError::Stopping) => marks.add(Mark::StoppingRefused),
            Err(RequestError::Dropped) => marks.add_if(is_write, Mark::OutcomeUnknown),
            Err(RequestError::Store { error, .. }) => {
                marks.add_if(error.reason == Refusal::Expired, Mark::AnswerForgotten);
            }
            Err(RequestError::NotLeader { .. }) => {}
        }
    }

    /// A watch is over.
    fn watch_ends(&mut self, watch: WatchId, reason: EndReason) {
        let had_begun = self.begun.remove(&watch);
        match reason {
            EndReason::Cleared { .. } if had_begun => self.marks.add(Mark::SlowWatcherEnded),
            EndReason::Cleared { .. } => self.marks.add(Mark::WatchFromCleared),
            EndReason::Busy => self.marks.add(Mark::WatchesFull),
            EndReason::HistoryLost | EndReason::Stopping => {}
        }
    }

    /// What is new in the ledger.
    fn committed(&mut self, checks: &Checks) {
        let (through, changes, first) = &mut self.seen;
        while let Some(entry) = checks.ledger.get(through.next()) {
            *through = entry.id.index;
            if entry.id.term > first.term {
                *first = entry.id;
            }
            let marks = &mut self.marks;
            marks.add_if(entry.committed_in > entry.id.term, Mark::OlderTermCommitted);
            let is_named = matches!(&entry.payload, Payload::Command(c) if c.client.is_some());
            let is_again = is_named && !checks.model.is_done(*through);
            marks.add_if(is_again, Mark::RepeatedInLog);
            let made = checks.model.changes().get(*changes..).unwrap_or_default();
            let made = &made[..made.partition_point(|change| change.by <= *through)];
            *changes += made.len();
            let expired = made.iter().filter(|change| change.action == Action::Expire);
            let deadlines = expired.filter_map(|change| change.previous.as_ref()?.lease);
            let deadlines: Vec<_> = deadlines.map(|lease| lease.deadline).collect();
            let is_first = first.term.0 > 1 && through.0 <= first.index.0 + FIRST_ENTRIES;
            let is_first = is_first && !deadlines.is_empty();
            marks.add_if(is_first, Mark::ExpiryAfterElection);
            let equal = deadlines.windows(2).any(|two| two[0] == two[1]);
            marks.add_if(equal, Mark::EqualDeadlines);
        }
    }

    /// How a member stands after an event.
    fn stands(&mut self, place: usize, node: &Node) {
        let incarnation = node.incarnation;
        let marks = &mut self.marks;
        let Some(process) = node.process() else {
            self.seats[place].standing = None;
            return;
        };
        let (raft, store) = (process.replica.raft(), process.replica.store());
        let (role, term) = (raft.role(), raft.hard_state().term);
        let seat = &mut self.seats[place];
        let (impaired, full) = (node.is_impaired(), process.disk_full);
        let (reads, oldest) = (raft.reads(), store.oldest());
        let before = seat.standing.replace((role, term));
        if seat.incarnation == incarnation {
            let steps_down = matches!(before, Some((Role::Leader, _))) && role != Role::Leader;
            let in_term = before.is_some_and(|(_, before)| before == term);
            marks.add_if(steps_down && in_term, Mark::QuorumLost);
            marks.add_if(steps_down && seat.reads > 0, Mark::ReadDropped);
            marks.add_if(seat.impaired && !impaired, Mark::DamageRecovered);
            marks.add_if(seat.full && !full, Mark::FullRecovered);
            marks.add_if(oldest > seat.oldest, Mark::HistoryMoved);
        }
        seat.incarnation = incarnation;
        (seat.impaired, seat.full) = (impaired, full);
        (seat.reads, seat.oldest) = (reads, oldest);
        if before == Some((role, term)) {
            return;
        }
        if role == Role::Leader {
            marks.add_if(seat.asked == term, Mark::HandedOver);
            seat.led.insert(term);
        }
        let others = self.seats.iter().enumerate();
        let others = others.filter(|(other, _)| *other != place);
        let mut others = others.filter_map(|(_, seat)| seat.standing);
        let is_like = |standing| standing == (role, term);
        match role {
            Role::Leader => {
                let two = others.any(|(other, at)| other == Role::Leader && at != term);
                marks.add_if(two, Mark::TwoLeaders);
            }
            Role::Candidate => marks.add_if(others.any(is_like), Mark::TwoCandidates),
            Role::Follower | Role::PreCandidate => {}
        }
    }

    /// A process is about to be gone. Whether its disk has yet to sync what clients were told of.
    fn crashes(&mut self, seat: usize, node: &Node, sends: bool, acknowledged: Index) -> bool {
        let marks = &mut self.marks;
        let process = match &node.life {
            Life::Down => return false,
            Life::Starting { .. } => {
                marks.add(Mark::CrashInRecovery);
                return false;
            }
            Life::Up(process) => process,
        };
        marks.add_if(node.is_impaired(), Mark::CrashWhileImpaired);
        let writing = process.writing.iter().flat_map(|writing| &writing.writes);
        marks.add_if(writing.clone().next().is_some(), Mark::CrashInLogWrite);
        marks.add_if(process.switching.is_some(), Mark::CrashInSwitch);
        marks.add_if(self.seats[seat].installing, Mark::CrashInInstall);
        marks.add_if(process.checkpoint.is_some(), Mark::CrashInCheckpoint);
        marks.add_if(!process.storing.is_empty(), Mark::CrashWhileStoring);
        marks.add_if(sends, Mark::CrashWhileSending);
        let waiting = process.backlog.iter().filter_map(|task| match task {
            LogTask::Append(write) => Some(write),
            LogTask::Trim(_) => None,
        });
        let mut entries = writing.chain(waiting).flat_map(|write| &*write.entries);
        entries.any(|entry| entry.id.index <= acknowledged)
    }

    /// It is: `before` and `after` tell what its disk lost.
    fn crashed(&mut self, seat: usize, was_due: bool, before: &Counters, after: &Counters) {
        let lost = |fault| after.of(fault) > before.of(fault);
        let seat = &mut self.seats[seat];
        let (torn, reordered) = (lost(Fault::D4), lost(Fault::D5));
        let any = torn || reordered || lost(Fault::D3);
        let both = was_due && any;
        self.marks.add_if(both, Mark::AcknowledgedInFlight);
        *seat = Seat {
            torn: seat.torn || torn,
            failed: seat.failed,
            reordered: seat.reordered || reordered,
            led: std::mem::take(&mut seat.led),
            ..Seat::default()
        };
    }

    /// D11: a sync failed.
    pub(super) fn failed(&mut self, seat: usize) {
        self.seats[seat].failed = true;
    }

    /// A process runs.
    pub(super) fn started(&mut self, seat: usize, replica: &Replica) {
        let raft = replica.raft();
        let seat = &mut self.seats[seat];
        let torn = std::mem::take(&mut seat.torn);
        let failed = std::mem::take(&mut seat.failed);
        self.marks.add_if(failed, Mark::SyncErrorRecovered);
        self.marks.add_if(torn, Mark::TornRecovered);
        let reordered = std::mem::take(&mut seat.reordered);
        self.marks.add_if(reordered, Mark::ReorderedRecovered);
        let indexes = raft.log_start().index.0 + 1..=raft.last().index.0;
        let entries = indexes.filter_map(|index| raft.entry(Index(index)));
        seat.handed = entries.map(|entry| entry.id).collect();
    }

    /// One is cut off in one direction until the others have healed.
    pub(crate) const fn goes_one_way(&mut self) {
        self.one_way = true;
    }

    /// All are well.
    pub(crate) const fn ends(&mut self) {
        self.marks.add_if(self.one_way, Mark::OneWayHealed);
    }
}

impl World {
    /// How things stand after an event that concerned `seat`, or any.
    pub(super) fn mark_standing(&mut self, seat: Option<usize>) {
        match seat {
            Some(seat) => self.marking.stands(seat, &self.nodes[seat]),
            None => {
                for (seat, node) in self.nodes.iter().enumerate() {
                    self.marking.stands(seat, node);
                }
            }
        }
        self.marking.committed(&self.checks);
    }

    /// A member asks for this.
    pub(super) fn mark_output(&mut self, seat: usize, output: &Output) {
        let incarnation = self.nodes[seat].incarnation;
        let Some(process) = self.nodes[seat].process() else {
            return;
        };
        let term = process.replica.raft().hard_state().term;
        let marking = &mut self.marking;
        match output {
            Output::Persist(write) => marking.writes(seat, write),
            Output::Send { message, .. } => match &message.body {
                MessageBody::Propose { requests } => {
                    for request in requests {
                        let name = (seat, incarnation, RequestId(request.ticket));
                        marking.forwarded.insert(name, term);
                    }
                }
                MessageBody::ProposeRefused { .. } => marking.marks.add(Mark::ForwardRefused),
                MessageBody::PreVote { .. }
                | MessageBody::PreVoteReply { .. }
                | MessageBody::Vote { .. }
                | MessageBody::VoteReply { .. }
                | MessageBody::Append { .. }
                | MessageBody::AppendReply { .. }
                | MessageBody::TimeoutNow
                | MessageBody::ReadIndex { .. }
                | MessageBody::ReadIndexReply { .. } => {}
            },
            Output::Reply { request, result } => {
                let caller = process.requests.get(request);
                let is_write = caller.is_some_and(|caller| caller.handed.is_some());
                marking.replies((seat, incarnation), *request, is_write, result, term);
            }
            Output::Watching { watch, .. } => {
                marking.begun.insert(*watch);
            }
            Output::Notify { watches, .. } => {
                let across = &marking.seats[seat].across;
                let goes_on = watches.iter().any(|watch| across.contains(watch));
                marking.marks.add_if(goes_on, Mark::WatchAcrossSnapshot);
            }
            Output::WatchEnd { watch, reason, .. } => marking.watch_ends(*watch, *reason),
            Output::DropSnapshot { .. } => marking.marks.add(Mark::SnapshotDropped),
            Output::ReadHistory { .. } => marking.marks.add(Mark::HistoryRead),
            Output::TrimLog { .. }
            | Output::Checkpoint(_)
            | Output::SendSnapshot { .. }
            | Output::Fault { .. } => {}
        }
    }

    /// A process is about to be gone: whether its disk owes what clients were told, and what was
    /// lost so far.
    pub(super) fn mark_crash(&mut self, seat: usize) -> (bool, Counters) {
        let sends = self.is_sending(seat);
        let acknowledged = self.checks.witness.acknowledged();
        let node = &self.nodes[seat];
        let owes = self.marking.crashes(seat, node, sends, acknowledged);
        (owes, self.fates.counters.clone())
    }

    /// It is gone.
    pub(super) fn mark_crashed(&mut self, seat: usize, (owes, before): &(bool, Counters)) {
        let after = &self.fates.counters;
        self.marking.crashed(seat, *owes, before, after);
    }

    /// A watch is asked for.
    pub(super) fn mark_watch(&mut self, seat: usize, since: Option<Revision>) {
        let store = self.nodes[seat].process().map(|p| p.replica.store());
        let now = store.map(quorate_core::store::Store::revision);
        let future = since > now.map(Revision::next) && now.is_some();
        self.marking.marks.add_if(future, Mark::WatchFromFuture);
    }
}

/// The kind of a vote, as N12 tells them apart.
const VOTE_REPLY: u8 = 3;

fn is_refresh(entry: &Entry) -> bool {
    let Payload::Command(command) = &entry.payload else {
        return false;
    };
    matches!(&command.operation, Operation::Put(put) if put.content == Content::Kept)
}

const fn is_expiry(entry: &Entry) -> bool {
    matches!(entry.payload, Payload::Expire { .. })
}
