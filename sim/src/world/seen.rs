//! What is seen of the world, for a picture: told to the [`scene`](crate::scene), if there is one.
//!
//! What lasts is looked at after every event; what passes is told where it happens.

use std::time::Duration;

use quorate_core::codec::{decode_message, encode_message};
use quorate_core::raft::{AppendOutcome, MessageBody, Role};
use quorate_core::store::{Event as StoreEvent, Response};
use quorate_core::{LogId, NodeId, RequestError, WatchId, Write};

use super::World;
use super::members::kind_of;
use crate::clock::Time;
use crate::event::Event;
use crate::fault::{Counters, Fault, kinds};
use crate::network::{Cut, Packet};
use crate::node::{Life, Node};
use crate::scene::{
    BandName, Film, HEARTBEAT, Job, MESSAGE_KINDS, Message, Outcome, Part, Progress, Scene, Sign,
    Span, Standing, Try,
};
use crate::words;

impl World {
    /// From here on somebody looks.
    pub(crate) fn show(&mut self, span: Span) {
        self.scene = Scene::of(span);
        // What was asked when the world was made.
        for client in 0..self.clients.len() {
            self.see_asked(client, Duration::ZERO);
        }
    }

    /// How things stand after an event.
    pub(crate) fn see(&mut self) {
        if !self.scene.is_on() {
            return;
        }
        let (lying, carried) = (self.lying(), self.carried());
        let ids: Vec<_> = self.nodes.iter().map(|node| node.id).collect();
        let seat_of = |id| ids.iter().position(|&node| node == id);
        let Scene::On(film) = &mut self.scene else {
            return;
        };
        let before = std::mem::replace(&mut film.counters, self.fates.counters.clone());
        for (seat, node) in self.nodes.iter().enumerate() {
            let why = || reason(&before, &self.fates.counters);
            film.stands(seat, standing(node, seat_of), why);
            see_log(film, seat, node);
            see_disk(film, seat, node);
        }
        if self.heal.is_some() && !film.is_healing {
            film.is_healing = true;
            film.mark(
                Sign::Heal,
                None,
                "chaos ends: no faults from here on".to_owned(),
            );
        }
        film.covers(lying);
        film.carries(carried);
    }

    /// The run is over: what is on its way, and how things stand.
    pub(crate) fn see_end(&mut self) {
        self.see();
        self.see_withheld();
        while let Some(film) = self.scene.film() {
            let Some((at, event)) = self.queue.pop() else {
                film.closes();
                return;
            };
            if let Event::Deliver {
                to,
                from,
                kind,
                packet,
                sent,
            } = event
                && let Some(message) = message(from, to, kind, &packet, sent)
            {
                film.message(Message {
                    arrived: Some(at),
                    fate: "on its way".to_owned(),
                    ..message
                });
            }
        }
    }

    /// What a node was about to send when it was found that it must not.
    fn see_withheld(&mut self) {
        let leaving = self.scene.film().and_then(|film| film.leaving.take());
        let Some((from, to, withheld)) = leaving else {
            return;
        };
        let (kind, packet) = (kind_of(&withheld.body), encode_message(&withheld).into());
        if let (Some(to), Some(film)) = (self.seat_of(to), self.scene.film())
            && let Some(message) = message(from, to, kind, &packet, film.now)
        {
            let (step, fate) = (film.step, "about to leave".to_owned());
            film.message(Message {
                step,
                fate,
                ..message
            });
        }
    }

    /// The faults that lie over nodes for a while.
    fn lying(&self) -> Vec<(BandName, Time, String)> {
        let mut lying = Vec::new();
        for (seat, node) in self.nodes.iter().enumerate() {
            let until = node.paused_until;
            if until > self.now {
                let (fault, text) = if node.clock.is_suspended(self.now) {
                    (Fault::C5, "the machine is suspended, with its clock")
                } else {
                    (Fault::P5, "the process stands still")
                };
                lying.push(((fault, seat, Time(0)), until, text.to_owned()));
            }
            if node.disk.borrow().is_full() {
                let text = "the disk is full".to_owned();
                lying.push(((Fault::D12, seat, Time(0)), Time(u64::MAX), text));
            }
            if node.is_impaired() {
                // It may have been D7 or D8 as well: the crash before says what was counted.
                let text = "its log was damaged: it does not vote until that is repaired";
                lying.push(((Fault::D6, seat, Time(0)), Time(u64::MAX), text.to_owned()));
            }
            if let Some(until) = self.network.clogged(seat, self.now) {
                let text = "its links are clogged".to_owned();
                lying.push(((Fault::N9, seat, Time(0)), until, text));
            }
            for cut in self.network.cuts(self.now) {
                if let Some(text) = seen_from(cut, seat, self.nodes.len()) {
                    lying.push(((cut.fault, seat, cut.since), cut.until, text));
                }
            }
        }
        lying
    }

    fn carried(&self) -> Vec<(u64, usize, usize, bool, String)> {
        let carried = self.transfers.iter().map(|(&number, transfer)| {
            let (from, to, arrived, last) = transfer.seen();
            let text = last.map_or_else(|| "snapshot".to_owned(), |l| format!("snapshot of {l}"));
            (number, from, to, arrived, text)
        });
        carried.collect()
    }

    /// A packet leaves; some arrive never.
    pub(super) fn see_sent(
        &mut self,
        from: usize,
        to: usize,
        kind: u8,
        packet: &Packet,
        is_lost: bool,
    ) {
        if !self.scene.is_on() {
            return;
        }
        let cut = self.network.cut(self.now, from, to, kind);
        let (sent, overflows) = (self.now, self.fates.counters.of(Fault::N10));
        let Some(film) = self.scene.film() else {
            return;
        };
        film.leaving = None;
        if !is_lost {
            return;
        }
        // What its link lost on its own was counted a moment ago.
        let overflows = std::mem::replace(&mut film.overflows, overflows);
        let lost = if overflows < film.overflows {
            Fault::N10
        } else {
            Fault::N2
        };
        if let Some(message) = message(from, to, kind, packet, sent) {
            let (step, fate) = (film.step, cut.unwrap_or(lost).to_string());
            film.message(Message {
                step,
                fate,
                ..message
            });
        }
    }

    /// A packet arrives, or would.
    pub(super) fn see_delivery(
        &mut self,
        from: usize,
        to: usize,
        kind: u8,
        packet: &Packet,
        sent: Time,
    ) {
        if !self.scene.is_on() {
            return;
        }
        let cut = self.network.cut(self.now, from, to, kind);
        let fate = if self.network.was_reset(from, to, sent) {
            Fault::N11.to_string()
        } else if let Some(fault) = cut {
            fault.to_string()
        } else if self.nodes[to].process().is_none() {
            "the node is down".to_owned()
        } else {
            String::new()
        };
        if let Some(film) = self.scene.film()
            && let Some(message) = message(from, to, kind, packet, sent)
        {
            let (arrived, step) = (Some(film.now), film.step);
            film.message(Message {
                arrived,
                step,
                fate,
                ..message
            });
        }
    }

    /// A node hands something to its disk.
    pub(super) fn see_write(&mut self, seat: usize, write: &Write) {
        let vote = write.hard_state.vote.and_then(|id| self.seat_of(id));
        let Some(film) = self.scene.film() else {
            return;
        };
        let mut text = format!("{} term {}", write.seq, write.hard_state.term);
        if let Some(vote) = vote {
            text += &format!(" vote n{vote}");
        }
        if let Some(last) = write.install {
            text += &format!(" log anew after {last}");
        }
        let mut indexes = (0, 0);
        if let (Some(first), Some(last)) = (write.entries.first(), write.entries.last()) {
            text += &format!(" entries {} to {}", first.id, last.id);
            indexes = (first.id.index.0 - 1, last.id.index.0);
        }
        for entry in &*write.entries {
            let says = || words::entry(entry);
            film.entries.entry(entry.id).or_insert_with(says);
        }
        film.writes(seat, Job::Log, write.seq.0, text, indexes);
    }

    /// What was handed over is durable.
    pub(super) fn see_durable(&mut self, seat: usize, writes: &[Write]) {
        if let (Some(film), Some(last)) = (self.scene.film(), writes.last()) {
            film.written(seat, Job::Log, last.seq.0, true);
        }
    }

    /// A fault strikes a node, at one moment.
    pub(super) fn see_strike(&mut self, fault: Fault, seat: usize) {
        // The others are seen by what comes of them.
        let is_moment = matches!(
            fault,
            Fault::C1 | Fault::C2 | Fault::C3 | Fault::P7 | Fault::M8 | Fault::N11
        );
        let kind = kinds().find(|kind| kind.fault == fault && is_moment);
        if let (Some(film), Some(kind)) = (self.scene.film(), kind) {
            film.mark(Sign::Strike, Some(seat), format!("{fault} {}", kind.what));
        }
    }

    /// A snapshot took the place of a node's tables.
    pub(super) fn see_installed(&mut self, seat: usize, last: LogId) {
        if let Some(film) = self.scene.film() {
            film.mark(
                Sign::Installed,
                Some(seat),
                format!("snapshot of {last} installed"),
            );
        }
    }

    /// A client asks, after that long.
    pub(super) fn see_asked(&mut self, client: usize, after: Duration) {
        let at = self.now + after;
        let (Some(film), Some(pending)) = (self.scene.film(), &self.clients[client].pending) else {
            return;
        };
        film.wants(client, pending.operation, || words::asked(&pending.asked));
        if let Some(operation) = film.operation(pending.operation) {
            operation.outcome = Outcome::Open;
            operation.tries.push(Try {
                seat: pending.seat,
                asked: at,
                arrived: None,
                answered: None,
                ended: None,
                text: String::new(),
            });
        }
    }

    /// A question reaches its node, which may not run.
    pub(super) fn see_arrived(&mut self, seat: usize, operation: u64, attempt: u64) {
        let (now, is_up) = (self.now, self.nodes[seat].process().is_some());
        if let Some(film) = self.scene.film()
            && let Some(tried) = film.attempt(operation, attempt)
        {
            tried.arrived.get_or_insert(now);
            if !is_up {
                tried.ended = Some(now);
                "the node is down".clone_into(&mut tried.text);
            }
        }
    }

    /// A node answers.
    pub(super) fn see_reply(&mut self, operation: u64, attempt: u64) {
        let now = self.now;
        if let Some(film) = self.scene.film()
            && let Some(tried) = film.attempt(operation, attempt)
        {
            tried.answered.get_or_insert(now);
        }
    }

    /// An answer reaches its client.
    pub(super) fn see_answer(
        &mut self,
        operation: u64,
        attempt: u64,
        result: &Result<Response, RequestError>,
    ) {
        let now = self.now;
        let Some(film) = self.scene.film() else {
            return;
        };
        let (text, at) = words::answer(result);
        if let Some(tried) = film.attempt(operation, attempt) {
            (tried.ended, tried.text) = (Some(now), text.clone());
        }
        if let Some(operation) = film.operation(operation) {
            operation.unsure |= matches!(result, Err(RequestError::Dropped));
            operation.outcome = match result {
                Ok(_) => Outcome::Done,
                Err(RequestError::Store { .. }) => Outcome::Refused,
                Err(_) if operation.unsure => Outcome::Unknown,
                Err(_) => Outcome::Refused,
            };
            (operation.answer, operation.at) = (text, at);
        }
    }

    /// A client hears nothing.
    pub(super) fn see_loss(&mut self, operation: u64, attempt: u64, patience: bool) {
        let now = self.now;
        let Some(film) = self.scene.film() else {
            return;
        };
        let text = if patience {
            "no answer in time"
        } else {
            "the connection broke"
        };
        if let Some(tried) = film.attempt(operation, attempt) {
            (tried.ended, tried.text) = (Some(now), text.to_owned());
        }
        if let Some(operation) = film.operation(operation) {
            operation.unsure = true;
            operation.outcome = Outcome::Unknown;
            text.clone_into(&mut operation.answer);
        }
    }

    /// An operation is over for its client.
    pub(super) fn see_over(&mut self, operation: u64) {
        let now = self.now;
        let film = self.scene.film();
        if let Some(operation) = film.and_then(|film| film.operation(operation)) {
            operation.over = Some(now);
        }
    }

    /// A watcher is told of an event.
    pub(super) fn see_event(&mut self, seat: usize, watch: WatchId, event: &StoreEvent) {
        let index = event.id.index().0;
        self.see_notice(seat, watch, index, || words::event(event));
    }

    /// A watch begins or ends.
    pub(super) fn see_watch(&mut self, seat: usize, watch: WatchId, text: impl FnOnce() -> String) {
        self.see_notice(seat, watch, 0, text);
    }

    fn see_notice(
        &mut self,
        seat: usize,
        watch: WatchId,
        index: u64,
        text: impl FnOnce() -> String,
    ) {
        let watcher = self.watcher(seat, watch);
        if let (Some(film), Some((client, _))) = (self.scene.film(), watcher) {
            film.notice(client, seat, text(), index);
        }
    }
}

fn standing(node: &Node, seat_of: impl Fn(NodeId) -> Option<usize>) -> Standing {
    match &node.life {
        Life::Down => Standing::without(Part::Down),
        Life::Starting { .. } => Standing::without(Part::Starting),
        Life::Up(process) => {
            let raft = process.replica.raft();
            let state = raft.hard_state();
            Standing {
                part: match raft.role() {
                    Role::Follower => Part::Follower,
                    Role::PreCandidate => Part::PreCandidate,
                    Role::Candidate => Part::Candidate,
                    Role::Leader => Part::Leader,
                },
                term: state.term.0,
                vote: state.vote.and_then(&seat_of),
                leader: raft.leader().and_then(&seat_of),
            }
        }
    }
}

/// The faults of processes and disks that were counted in between: why a node is down, and what
/// that did to its disk.
fn reason(before: &Counters, after: &Counters) -> String {
    let faults = [
        Fault::P1,
        Fault::P2,
        Fault::P3,
        Fault::P4,
        Fault::D3,
        Fault::D4,
        Fault::D5,
        Fault::D6,
        Fault::D7,
        Fault::D8,
    ];
    let happened = faults
        .into_iter()
        .filter(|&fault| after.of(fault) > before.of(fault));
    let words: Vec<_> = happened.map(|fault| fault.to_string()).collect();
    words.join(" ")
}

fn see_log(film: &mut Film, seat: usize, node: &Node) {
    let Some(process) = node.process() else {
        return;
    };
    let (raft, before) = (process.replica.raft(), film.came(seat));
    let now = Progress {
        last: raft.last(),
        persisted: raft.persisted_index().0,
        committed: raft.committed().0,
        applied: process.replica.store().applied().index.0,
    };
    if now == before {
        return;
    }
    // Its last entry is gone, and not because a snapshot holds it.
    let was = before.last;
    let is_kept = was.index <= raft.log_start().index
        || raft.entry(was.index).is_some_and(|entry| entry.id == was);
    let cut = if is_kept {
        String::new()
    } else {
        format!("{was} is gone from the log, which ends at {}", now.last)
    };
    film.comes(seat, now, cut);
}

fn see_disk(film: &mut Film, seat: usize, node: &Node) {
    let Some(process) = node.process() else {
        return;
    };
    let in_tables = |index| node.tables.applied.index.0 == index;
    let checkpoint = process.checkpoint.as_ref().map(|c| c.changes.applied);
    film.works(seat, Job::Checkpoint, checkpoint, in_tables);
    let storing = process.storing.first().map(|s| s.parcel.tables.applied);
    film.works(seat, Job::Store, storing, |_| true);
    let install = process.switching.as_ref().map(|s| s.0.tables.applied);
    film.works(seat, Job::Install, install, in_tables);
}

/// What a cut is for a node: whom it does not reach, and who does not reach it.
fn seen_from(cut: &Cut, seat: usize, seats: usize) -> Option<String> {
    let others = || (0..seats).filter(|&other| other != seat);
    let out = |other: &usize| cut.links[seat * seats + other];
    let into = |other: &usize| cut.links[other * seats + seat];
    let names = |of: &dyn Fn(&usize) -> bool| {
        let names: Vec<_> = others().filter(of).map(|seat| format!("n{seat}")).collect();
        names.join(" ")
    };
    let both = names(&|other| out(other) && into(other));
    let deaf = names(&|other| into(other) && !out(other));
    let mute = names(&|other| out(other) && !into(other));
    if let Some(kind) = cut.kind {
        let kind = MESSAGE_KINDS[usize::from(kind)];
        return (!mute.is_empty()).then(|| format!("its messages «{kind}» are dropped"));
    }
    let mut parts = Vec::new();
    if !both.is_empty() {
        parts.push(format!("cut from {both}"));
    }
    if !deaf.is_empty() {
        parts.push(format!("does not hear {deaf}"));
    }
    if !mute.is_empty() {
        parts.push(format!("is not heard by {mute}"));
    }
    if let Some(period) = cut.period {
        parts.push(format!("in turns of {period:?}"));
    }
    let is_any = !(both.is_empty() && deaf.is_empty() && mute.is_empty());
    is_any.then(|| parts.join(", "))
}

/// A message as it leaves.
fn message(from: usize, to: usize, kind: u8, packet: &Packet, sent: Time) -> Option<Message> {
    let message = decode_message(packet).ok()?;
    let mut kind = kind;
    let mut text = message.body.to_string();
    let indexes = match &message.body {
        MessageBody::Append { entries, .. } => match (entries.first(), entries.last()) {
            (Some(first), Some(last)) => (first.id.index.0 - 1, last.id.index.0),
            (None, _) | (_, None) => {
                kind = HEARTBEAT;
                (0, 0)
            }
        },
        MessageBody::AppendReply { outcome, .. } => match outcome {
            AppendOutcome::Matched { through } | AppendOutcome::Repairing { through } => {
                (through.0.saturating_sub(1), through.0)
            }
            AppendOutcome::Conflict { refused, .. } => (refused.0.saturating_sub(1), refused.0),
        },
        MessageBody::ReadIndexReply { index, .. } => (index.0.saturating_sub(1), index.0),
        MessageBody::PreVote { last } | MessageBody::Vote { last, .. } => {
            (last.index.0.saturating_sub(1), last.index.0)
        }
        MessageBody::Propose { requests } => {
            let commands = requests.iter().map(|r| words::command(&r.command).0);
            let commands: Vec<_> = commands.collect();
            text = words::cut(format!("propose {}", commands.join(", ")));
            (0, 0)
        }
        MessageBody::PreVoteReply { .. }
        | MessageBody::VoteReply { .. }
        | MessageBody::TimeoutNow
        | MessageBody::ProposeRefused { .. }
        | MessageBody::ReadIndex { .. } => (0, 0),
    };
    Some(Message {
        from,
        to,
        sent,
        arrived: None,
        step: 0,
        kind,
        term: message.term.0,
        text,
        indexes,
        fate: String::new(),
    })
}
