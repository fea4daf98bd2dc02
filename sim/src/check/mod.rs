//! What must hold (SIMULATION.md §6), each property under its id.
//!
//! The checkers take plain data, so that each can be shown a history that breaks it. They see what
//! no node sees: true time, all disks, and the one ledger. [`Checks`] feeds them from the replicas,
//! after every step, with what is new on the node that stepped. [`blackbox`] is apart from them: it
//! sees only what clients see, and judges once, when a run is over.

pub mod blackbox;
pub mod determinism;
pub mod durability;
pub mod election;
pub mod leadership;
pub mod linearizability;
pub mod log;
pub mod state;
pub mod ttl;
mod violation;
pub mod watch;

use std::time::Duration;

use quorate_core::raft::{AppendOutcome, Configuration, Entry, Message, MessageBody};
use quorate_core::store::{Action, Event, Store};
use quorate_core::{
    EndReason, HardState, Index, Instant, LogId, NodeId, Replica, Revision, Term, WatchId, Write,
};

#[cfg(test)]
pub(crate) use violation::id_of;
pub use violation::{Verdict, Violation, ensure};

use crate::clock::Time;
use crate::ledger::Ledger;
use crate::model::Model;
use crate::tables::Rows;
use durability::{Durability, Image, survives};
use election::{Election, Untouched};
use linearizability::Witness;
use log::{Logs, Marks};
use state::{Kept, Origin, Shown, States};
use watch::Streams;

/// So many entries pass between two comparisons of a whole store with the model.
const DEEP_EVERY: u64 = 64;

/// All checkers of a run.
#[derive(Debug)]
pub struct Checks {
    /// Whether they look at all. What happens does not depend on it (SIMULATION.md X5).
    on: bool,
    /// What is committed.
    pub ledger: Ledger,
    /// What it leads to.
    pub model: Model,
    /// Client operations.
    pub witness: Witness,
    /// Watches.
    pub streams: Streams,
    election: Election,
    logs: Logs,
    durability: Durability,
    states: States,
    seats: Vec<Seat>,
    /// Who votes from the beginning.
    founders: Configuration,
    /// The longest step of a clock.
    grain: Duration,
    /// What a new leader looks back over for times to live (T1).
    window: Duration,
}

/// What the checks remember of a node.
#[derive(Clone, Debug, Default)]
struct Seat {
    /// The term in which it leads, if it does.
    leads: Option<Term>,
    /// First, applied, committed and last index when it was looked at.
    marks: (Index, Index, Index, Index),
    /// The last entry applied when its store was looked at.
    applied: Index,
    /// Its store was just loaded, and has not been compared yet.
    loaded: bool,
    /// It just came as a snapshot, and has not been compared yet.
    installed: bool,
    /// When its whole store was last compared with the model.
    deep: u64,
    /// What history it kept then.
    kept: Kept,
    /// What was handed to its disk, durable or not.
    handed: Image,
}

impl Checks {
    /// Checks of the nodes that `founders` names, whose clocks have no steps longer than `grain`,
    /// and which look back over `window` when they begin to lead.
    #[must_use]
    pub fn new(on: bool, founders: Configuration, grain: Duration, window: Duration) -> Self {
        let seats = founders.voters.len();
        Self {
            on,
            ledger: Ledger::default(),
            model: Model::new(),
            witness: Witness::default(),
            streams: Streams::default(),
            election: Election::new(seats),
            logs: Logs::new(seats),
            durability: Durability::new(seats),
            states: States::default(),
            seats: vec![Seat::default(); seats],
            founders,
            grain,
            window,
        }
    }

    /// Whether they look at all.
    #[must_use]
    pub const fn are_on(&self) -> bool {
        self.on
    }

    /// A node starts with what its disk held.
    ///
    /// # Errors
    /// R3, R4, R7, R11.
    pub fn restarted(
        &mut self,
        now: Time,
        seat: usize,
        hard_state: HardState,
        start: LogId,
        entries: &[Entry],
        applied: LogId,
        held: Option<Index>,
    ) -> Verdict {
        if !self.on {
            return Ok(());
        }
        let found = Image::recovered(hard_state, applied, start, entries).owing(held);
        let handed = &self.seats[seat].handed;
        self.durability.comes_back(seat, found.clone(), handed)?;
        self.election.restarted(seat, found.hard_state().term)?;
        self.seats[seat] = Seat {
            loaded: true,
            handed: found,
            ..Seat::default()
        };
        let ledger = &self.ledger;
        self.logs
            .restarted(now, seat, start, entries, applied.index, ledger)
    }

    /// Looks at what is new on a node that stepped.
    ///
    /// # Errors
    /// R1, R3 to R9, R12, R14, R15, E1, E3 to E5, T1, T9, L5.
    pub fn observe(&mut self, now: Time, seat: usize, replica: &Replica) -> Verdict {
        if !self.on {
            return Ok(());
        }
        let raft = replica.raft();
        let term = raft.hard_state().term;
        self.election.term(seat, term)?;
        let leads = raft.is_leader().then_some(term);
        let led = std::mem::replace(&mut self.seats[seat].leads, leads);
        let start = raft.log_start();
        let term_at = |index| {
            if index == start.index {
                return Some(start.term);
            }
            raft.entry(index).map(|entry| entry.id.term)
        };
        let entry = |index| raft.entry(index).expect("new entries are in memory");
        let still_leads = leads.is_some() && leads == led;
        if self.logs.is_replaced(seat, start) {
            self.logs.installs(seat, start, &self.ledger)?;
            let (shown, founders) = (raft.configuration(), &self.founders);
            log::in_force(seat, shown, founders, start, &self.ledger)?;
            self.streams.installs(seat);
            self.seats[seat].installed = true;
            self.seats[seat].kept = Kept::default();
        }
        self.logs
            .observe(now, seat, still_leads, start, raft.last(), term_at, entry)?;
        if let Some(term) = leads.filter(|_| !still_leads) {
            self.election.leads(seat, term)?;
            self.logs.elected(seat, term, &self.ledger)?;
        }
        let committed = raft.committed();
        let known = self.ledger.last();
        if committed > self.logs.committed(seat) {
            self.logs
                .commits(now, seat, term, committed, &mut self.ledger, entry)?;
        }
        if committed > known {
            self.extended(seat, leads, known)?;
        }
        let applied = replica.store().applied();
        let marks = (start.index, applied.index, committed, raft.last().index);
        if marks != self.seats[seat].marks {
            self.seats[seat].marks = marks;
            let marks = Marks {
                first: start.index.next(),
                checkpointed: replica.status().checkpointed.index,
                applied: applied.index,
                committed,
                last: raft.last().index,
            };
            self.logs.progress(seat, marks)?;
        }
        if applied.index != self.seats[seat].applied || self.seats[seat].loaded {
            self.compare(seat, replica)?;
        }
        Ok(())
    }

    /// A message of an older term is about to be absorbed: what it must leave alone.
    #[must_use]
    pub fn before(&self, replica: &Replica, message: &Message) -> Option<Untouched> {
        let stale = self.on && message.term < replica.raft().hard_state().term;
        stale.then(|| untouched(replica))
    }

    /// It was absorbed.
    ///
    /// # Errors
    /// R16.
    pub fn after(&self, seat: usize, before: Option<Untouched>, replica: &Replica) -> Verdict {
        match before {
            None => Ok(()),
            Some(before) => Election::ignored(seat, &before, &untouched(replica)),
        }
    }

    /// A message that is none of its cluster's is about to be absorbed, or was.
    #[must_use]
    pub fn strange(&self, replica: &Replica) -> Option<Untouched> {
        self.on.then(|| untouched(replica))
    }

    /// A node hands this to its disk.
    ///
    /// # Errors
    /// R14.
    pub fn persists(&mut self, seat: usize, write: &Write) -> Verdict {
        if !self.on {
            return Ok(());
        }
        let handed = &mut self.seats[seat].handed;
        if let Some(first) = write.entries.first() {
            Logs::overwrites(seat, first.id, handed.term_at(first.id.index))?;
        }
        handed.written(write);
        Ok(())
    }

    /// These are durable on the disk of a node.
    pub fn durable(&mut self, seat: usize, writes: &[Write]) {
        for write in writes {
            self.durability.image_mut(seat).written(write);
        }
    }

    /// A received snapshot is the tables of a node, durably; its log does not know yet.
    pub fn switched(&mut self, seat: usize, last: LogId) {
        self.durability.image_mut(seat).switched(last);
    }

    /// A snapshot was received, found whole, and loaded.
    ///
    /// # Errors
    /// R15, E2.
    pub fn received(&mut self, seat: usize, store: &Store, rows: &Rows) -> Verdict {
        if !self.on {
            return Ok(());
        }
        self.states.receives(seat, Shown::of(store), &self.ledger)?;
        States::restored(seat, store, rows)
    }

    /// A message leaves a node.
    ///
    /// # Errors
    /// R2, R3, R10.
    pub fn sends(
        &mut self,
        seat: usize,
        to: NodeId,
        replica: &Replica,
        message: &Message,
    ) -> Verdict {
        if !self.on {
            return Ok(());
        }
        let raft = replica.raft();
        let durable = self.durability.image(seat).hard_state();
        match &message.body {
            // Their term is one that would be; they promise nothing.
            MessageBody::PreVote { .. } | MessageBody::PreVoteReply { granted: false } => {
                return Ok(());
            }
            MessageBody::PreVoteReply { granted: true } => {
                return self.durability.vouches(seat);
            }
            MessageBody::Vote { .. } => {
                self.durability.vouches(seat)?;
                self.election
                    .votes(seat, message.term, raft.id(), durable)?;
            }
            MessageBody::VoteReply { granted: true } => {
                self.durability.vouches(seat)?;
                self.election.votes(seat, message.term, to, durable)?;
            }
            MessageBody::AppendReply { outcome, .. } => {
                if let AppendOutcome::Matched { .. } = outcome {
                    self.durability.vouches(seat)?;
                }
                if let AppendOutcome::Matched { through } | AppendOutcome::Repairing { through } =
                    *outcome
                {
                    let id = raft.entry(through).map(|entry| entry.id);
                    let start = raft.log_start();
                    // What a snapshot that is being installed replaces was committed.
                    let known = self.ledger.get(through).map(|entry| entry.id);
                    let known = known.filter(|_| through <= start.index);
                    let id = id.or(known);
                    self.durability.acknowledges(seat, through, id)?;
                }
            }
            MessageBody::VoteReply { granted: false }
            | MessageBody::Append { .. }
            | MessageBody::TimeoutNow
            | MessageBody::Propose { .. }
            | MessageBody::ProposeRefused { .. }
            | MessageBody::ReadIndex { .. }
            | MessageBody::ReadIndexReply { .. } => {}
        }
        self.election.promises(seat, message.term, durable.term)
    }

    /// Nodes were recovered from forks of all disks.
    ///
    /// # Errors
    /// R11.
    pub fn forked(&self, recovered: &[Image]) -> Verdict {
        let acknowledged = self.ledger.get(self.witness.acknowledged());
        survives(recovered, acknowledged.map(|entry| entry.id))
    }

    /// An event reaches a watcher.
    ///
    /// # Errors
    /// W1, W2, W8, W9.
    pub fn notified(&mut self, watch: WatchId, event: &Event) -> Verdict {
        if !self.on {
            return Ok(());
        }
        self.streams.delivers(watch, event, &self.model)
    }

    /// A watch ends.
    ///
    /// # Errors
    /// W5, W6.
    pub fn watch_ends(&mut self, watch: WatchId, reason: EndReason, resume: Revision) -> Verdict {
        if !self.on {
            return Ok(());
        }
        self.streams.ends(watch, reason, resume, &self.model)
    }

    /// Under leaders that were killed every 2 E, nothing that was granted `least` or more has
    /// outlived its time three times over.
    ///
    /// # Errors
    /// T4.
    pub fn churned(&self, now: Time, least: Duration) -> Verdict {
        if !self.on {
            return Ok(());
        }
        ttl::churned(&self.model, &self.ledger, now, least)
    }

    /// At rest: what a node holds, path by path, hidden ones too.
    ///
    /// # Errors
    /// E5.
    pub fn holds_everything(&self, seat: usize, replica: &Replica) -> Verdict {
        if !self.on {
            return Ok(());
        }
        let store = replica.store();
        for path in self.model.paths() {
            let tree = store.get(path, true).ok();
            States::holds(
                seat,
                store.applied().index,
                tree.as_ref(),
                path,
                &self.model,
            )?;
        }
        Ok(())
    }

    /// What follows from entries after `known` being committed, as `seat` was first to say.
    fn extended(&mut self, seat: usize, leads: Option<Term>, known: Index) -> Verdict {
        let last = self.ledger.last();
        let last_id = self.ledger.get(last).expect("just committed").id;
        self.durability.commits(seat, last_id, leads)?;
        for index in known.0 + 1..=last.0 {
            let before = self.ledger.get(Index(index - 1));
            let entry = self.ledger.get(Index(index)).expect("up to the last");
            ttl::stamps(before, entry, self.grain)?;
            let events = self.model.changes().len();
            self.model.apply(entry.stamp, &entry.payload);
            let done = self.model.is_done(entry.id.index);
            self.witness.commits(&entry.payload, done)?;
            for change in &self.model.changes()[events..] {
                if change.action == Action::Expire {
                    let previous = change.previous.as_ref();
                    let lease = previous.and_then(|node| node.lease);
                    let lease = lease.expect("only what has a lease expires in the model");
                    let (grain, window) = (self.grain, self.window);
                    ttl::expired(&change.path, lease, &self.ledger, entry, grain, window)?;
                }
            }
        }
        Ok(())
    }

    fn compare(&mut self, seat: usize, replica: &Replica) -> Verdict {
        let store = replica.store();
        let shown = Shown::of(store);
        let mut loaded = std::mem::take(&mut self.seats[seat].loaded);
        let origin = if std::mem::take(&mut self.seats[seat].installed) {
            loaded = true;
            Origin::Snapshot
        } else if loaded {
            Origin::Disk
        } else {
            Origin::Log
        };
        self.seats[seat].applied = shown.applied.index;
        self.states.shows(seat, shown, origin, &self.model)?;
        if shown.applied.index.0 < self.seats[seat].deep + DEEP_EVERY && !loaded {
            return Ok(());
        }
        self.seats[seat].deep = shown.applied.index.0;
        if shown.applied.index >= self.model.configured() {
            let kept = Kept::of(store);
            kept.is_due(seat, &self.seats[seat].kept, self.model.settings())?;
            self.seats[seat].kept = kept;
        }
        let root = quorate_core::store::Path::root();
        let tree = store.get(&root, true).ok();
        States::holds(seat, shown.applied.index, tree.as_ref(), &root, &self.model)
    }
}

fn untouched(replica: &Replica) -> Untouched {
    let raft = replica.raft();
    Untouched {
        hard_state: raft.hard_state(),
        role: raft.role(),
        leader: raft.leader(),
        last: raft.last(),
        committed: raft.committed(),
        matched: raft.matched(),
        pending: (
            raft.reads(),
            replica.status().pending.0,
            replica.status().pending.1,
        ),
        deadline: replica.deadline().map(|deadline| Instant(deadline.0)),
    }
}
