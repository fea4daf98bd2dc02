//! What must hold (SIMULATION.md §6), each property under its id.
//!
//! The checkers take plain data, so that each can be shown a history that breaks it. They see what
//! no node sees: true time, all disks, and the one ledger. [`Checks`] feeds them from the replicas,
//! after every step, with what is new on the node that stepped. Where several see a failure, the
//! one that tells most looks first: an expiry in the wrong order is T7 before it is E5.
//! [`blackbox`] is apart from them: it sees only what clients see, and judges once, when a run is
//! over.
//!
//! | id | what breaks it is seen by |
//! |---|---|
//! | X1 | [`determinism::equal`], of two runs of a seed |
//! | X2, X3, X4 | nothing in one run: builds, processes and machines are compared from outside |
//! | X5 | the test `looking_changes_nothing` |
//! | R1 | [`election::Election::leads`] |
//! | R2 | [`election::Election::votes`] |
//! | R3 | [`election::Election`]: `term`, `promises`, `restarted` |
//! | R4 | [`log::Logs`]: `observe`, `restarted` |
//! | R5 | [`log::Logs::observe`] |
//! | R6 | [`log::Logs::elected`] |
//! | R7 | [`log::Logs`]: `commits`, `restarted` |
//! | R8 | [`durability::Durability::commits`] |
//! | R9 | [`log::Logs::progress`] |
//! | R10 | [`durability::Durability`]: `acknowledges`, `vouches` |
//! | R11 | [`durability::survives`], on forks of disks; [`durability::Durability::comes_back`] |
//! | R12 | [`log::in_force`], on snapshots: no run changes the configuration otherwise yet |
//! | R13 | not yet: no run changes the configuration |
//! | R14 | [`log::Logs`]: `observe`, `overwrites` |
//! | R15 | [`state::States::receives`], [`log::Logs::installs`] |
//! | R16 | [`election::Election::ignored`] |
//! | R17 | [`linearizability::Witness::answers`] |
//! | R18 | not yet: there are no lease reads |
//! | E1 | [`state::States::shows`] |
//! | E2 | [`state::States::restored`] |
//! | E3 | [`events::Events`]: `shows`, `ends` |
//! | E4 | [`state::States::shows`], of a store that was just loaded |
//! | E5 | [`events::Events::shows`], [`state::States`]: `shows`, `holds`, `knows` |
//! | L1, L2, L4, L7 | [`linearizability::Witness::answers`]; L1, L2 by [`blackbox::judge`], too |
//! | L3 | [`linearizability::Witness::answers`]; what is answered that nobody asked |
//! | L5 | [`linearizability::Witness`]: `refuses`, `commits` |
//! | L6 | [`linearizability::Witness::answers`], of local reads |
//! | L8 | [`events::Events::shows`] |
//! | T1 | [`ttl::expired`] |
//! | T2 | [`ttl::overdue`], in a healed core; [`ttl::runs`] under one leader |
//! | T3 | [`ttl::immune`], by the test `wall_clocks_may_jump` |
//! | T4 | [`ttl::churned`], in the profile `leader-killer` |
//! | T5 | [`ttl::kept`], [`ttl::renewed`], [`ttl::stamps`] |
//! | T6, T7 | [`events::Events::shows`] |
//! | T8 | [`ttl::Reported::shows`] |
//! | T9 | [`ttl::stamps`] |
//! | T10 | [`events::Events::shows`], [`events::gone_with`] |
//! | W1, W2, W4, W7, W8, W9, W12 | [`watch::Streams::delivers`] |
//! | W3 | [`watch::Streams`]: `delivers`, `meet` |
//! | W5 | [`watch::Streams::ends`]; as W1 where the next watch goes on |
//! | W6 | [`watch::Streams::ends`], [`state::Kept::is_due`]; as E1 where replicas differ |
//! | W10 | [`watch::Streams`], after `installs` |
//! | W11 | [`watch::Streams`]: `delivers` without credit, `ends` when cleared; V6 for the others |
//! | W13 | not yet: there are no progress marks |
//! | B1 | [`bounds::queues`] |
//! | B2 | [`bounds::retained`], [`bounds::Written::holds`] |
//! | B3 | [`bounds::disk`], [`bounds::slices`] |
//! | B4 | [`bounds::queues`], [`bounds::answers`], [`bounds::refused`] |
//! | B5 | [`bounds::Windows::sends`] |
//! | B6 | [`bounds::quiet`], in a healed core |
//! | V1 | [`liveness::elected`] |
//! | V2 | [`liveness`]: `steady`, `still_led`, `stays_apart` |
//! | V3 | [`liveness::served`] |
//! | V4 | [`liveness::converged`] |
//! | V5 | [`liveness::answered`]; T2 for keys that are due |
//! | V6 | [`liveness::told`] |
//! | V7 | not yet: no run changes the configuration |
//! | V8 | [`leadership`]: `deposed`, `stalled` |
//! | V9 | [`liveness`]: `converged`, `repaired` |
//! | M8 | [`durability::Durability::hands_over`]; [`liveness::handed_over`], when all is well |

pub mod blackbox;
pub mod bounds;
pub mod determinism;
pub mod durability;
pub mod election;
pub mod events;
pub mod leadership;
pub mod linearizability;
pub mod liveness;
pub mod log;
mod observe;
pub mod state;
pub mod ttl;
mod violation;
pub mod watch;

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_core::raft::{AppendOutcome, Configuration, Entry, Message, MessageBody};
use quorate_core::store::{Body, Event, NodeState, Path, Response, SliceId, Store, Tree};
use quorate_core::{
    Config, EndReason, HardState, Index, Input, Instant, LogId, NodeId, Queues, Replica,
    RequestError, Revision, Term, WatchId, Write,
};

#[cfg(test)]
pub(crate) use violation::id_of;
pub use violation::{Verdict, Violation, ensure};

use crate::clock::Time;
use crate::ledger::Ledger;
use crate::model::Model;
use crate::tables::Rows;
use bounds::{Quiet, Traffic, Windows, Written};
use durability::{Durability, Image, survives};
use election::{Election, Untouched};
use events::Events;
use linearizability::Witness;
use log::Logs;
use state::{Kept, Shown, States};
use ttl::{Outages, Reported};
use watch::Streams;

/// All checkers of a run.
#[derive(Clone, Debug)]
pub struct Checks {
    /// Whether they look at all. What happens does not depend on it (SIMULATION.md X5).
    on: bool,
    /// C4: no clock can be relied on, nor what a time to live promises.
    drifts: bool,
    /// C5: until then the clock of some machine stands still.
    suspended: Time,
    /// Whether it is counted what is limited over time: B2, B3, B5, B6.
    counts: bool,
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
    events: Events,
    windows: Windows,
    outages: Outages,
    seats: Vec<Seat>,
    machines: Vec<Machine>,
    /// The limits of all members.
    config: Config,
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
    /// Its counter when its events were looked at.
    counter: Revision,
    /// What waited in it when it was looked at.
    queues: Queues,
    /// What was not committed when it became leader.
    led_with: usize,
    /// A checkpoint is durable through here, and the log has not been forgotten so far.
    needless: Option<Index>,
    /// Peers that it sends snapshots to.
    sending: BTreeSet<NodeId>,
    /// What it has said of times to live.
    reported: Reported,
}

/// What the checks remember of a node over all of its processes.
#[derive(Clone, Debug, Default)]
struct Machine {
    /// Its log on disk.
    written: Written,
    /// What the log is to give up, in order.
    trims: Vec<Index>,
    /// The highest entry it ever wrote.
    highest: Index,
    /// The bytes of the longest write it ever began, also where a crash came before the end.
    longest: u64,
    /// Messages it has sent.
    messages: u64,
    /// Messages that were sent in chaos and reached it after that.
    late: u64,
}

impl Checks {
    /// Checks of the nodes that `founders` names, whose limits `config` says, and whose clocks have
    /// no steps longer than `grain`.
    #[must_use]
    pub fn new(on: bool, founders: Configuration, grain: Duration, config: Config) -> Self {
        let seats = founders.voters.len();
        let window = 2 * config.election_timeout;
        Self {
            on,
            drifts: false,
            suspended: Time(0),
            counts: true,
            ledger: Ledger::default(),
            model: Model::new(),
            witness: Witness::default(),
            streams: Streams::default(),
            election: Election::new(seats),
            logs: Logs::new(seats),
            durability: Durability::new(seats),
            states: States::default(),
            events: Events::default(),
            windows: Windows::default(),
            outages: Outages::new(seats),
            seats: vec![Seat::default(); seats],
            machines: vec![Machine::default(); seats],
            config,
            founders,
            grain,
            window,
        }
    }

    /// Nothing is counted: who searches all orders tells pasts apart by what they may lead to, and
    /// counts would make no two of them alike.
    pub const fn count_nothing(&mut self) {
        self.counts = false;
    }

    /// C4: from now on times to live mean nothing.
    pub const fn distrust_clocks(&mut self) {
        self.drifts = true;
    }

    /// C5: the clock of a machine stands still until then.
    pub fn suspends(&mut self, until: Time) {
        self.suspended = self.suspended.max(until);
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
        self.outages.starts(now, seat);
        self.windows.restarts(seat);
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

    /// Its log has so many bytes on disk.
    pub fn log_found(&mut self, seat: usize, bytes: u64) {
        let machine = &mut self.machines[seat];
        machine.written = Written::found(machine.highest, bytes, machine.longest);
        machine.trims.clear();
    }

    /// A node stops.
    pub fn stops(&mut self, now: Time, seat: usize) {
        self.outages.stops(now, seat);
    }

    /// A node is about to absorb an input.
    pub fn absorbs(&mut self, seat: usize, input: &Input, replica: &Replica) {
        let state = &mut self.seats[seat];
        let counter = replica.store().revision();
        match input {
            Input::Watch { watch, credit, .. } => {
                let open = replica.watches().len();
                self.streams.credits(*watch, *credit, counter);
                self.streams.joins(*watch, open);
            }
            Input::Credit { watch, events } => self.streams.credits(*watch, *events, counter),
            Input::Checkpointed { applied } => state.needless = Some(applied.index),
            Input::Unreachable { peer } => self.windows.hears(seat, *peer),
            Input::SnapshotStarted { to, .. } => {
                state.sending.insert(*to);
                self.windows.hears(seat, *to);
            }
            Input::SnapshotSent { to, .. } => {
                state.sending.remove(to);
                self.windows.hears(seat, *to);
            }
            Input::Deadline
            | Input::Receive { .. }
            | Input::Propose { .. }
            | Input::Read { .. }
            | Input::Cancel { .. }
            | Input::Unwatch { .. }
            | Input::Persisted { .. }
            | Input::CheckpointFailed { .. }
            | Input::HistoryRead { .. }
            | Input::SnapshotReceived { .. }
            | Input::DiskFull(_)
            | Input::Transfer { .. }
            | Input::Shutdown => {}
        }
    }

    /// A message of a peer is about to be absorbed; it `is_late` if chaos has ended meanwhile.
    pub fn hears(&mut self, seat: usize, from: NodeId, body: &MessageBody, is_late: bool) {
        if !self.counts {
            return;
        }
        self.machines[seat].late += u64::from(is_late);
        if matches!(body, MessageBody::AppendReply { .. }) {
            self.windows.hears(seat, from);
        }
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
        if self.counts {
            let longest = &mut self.machines[seat].longest;
            *longest = bounds::weight(write).max(*longest);
        }
        Ok(())
    }

    /// These are durable on the disk of a node.
    pub fn durable(&mut self, seat: usize, writes: &[Write]) {
        for write in writes {
            self.durability.image_mut(seat).written(write);
            let machine = &mut self.machines[seat];
            if self.counts {
                machine.written.adds(write);
            }
            let last = write.entries.last().map(|last| last.id.index);
            machine.highest = machine.highest.max(last.unwrap_or_default());
        }
    }

    /// A node tells its log what it needs no longer.
    pub fn trims(&mut self, seat: usize, below: Index) {
        self.machines[seat].trims.push(below);
    }

    /// The log has done a job: so many `writes`, or given up what it was told to, which a full disk
    /// `may_fail`. It has so many bytes on disk now, in segments of `segment` bytes.
    ///
    /// # Errors
    /// B2.
    pub fn log_done(
        &mut self,
        seat: usize,
        writes: usize,
        may_fail: bool,
        bytes: u64,
        segment: u64,
    ) -> Verdict {
        let machine = &mut self.machines[seat];
        if writes == 0 && !machine.trims.is_empty() {
            let below = machine.trims.remove(0);
            machine.written.trims(below, may_fail);
        }
        if !self.on {
            return Ok(());
        }
        machine.written.holds(seat, bytes, segment)
    }

    /// At rest: the files of a node but for slices of history are so long, its `log`
    /// and what that may keep to be used again included; these slices are there, and these listed.
    ///
    /// # Errors
    /// B3.
    pub fn on_disk(
        &self,
        seat: usize,
        bytes: u64,
        (log, spare): (u64, u64),
        there: &BTreeSet<SliceId>,
        listed: &BTreeSet<SliceId>,
    ) -> Verdict {
        if !self.on {
            return Ok(());
        }
        bounds::disk(seat, bytes, log, spare)?;
        bounds::slices(seat, there, listed)
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
    /// R2, R3, R10, B5.
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
        self.machines[seat].messages += u64::from(self.counts);
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
            MessageBody::Append { entries, .. } if self.counts => {
                let config = &self.config;
                self.windows
                    .sends(seat, to, message.term, entries, config)?;
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

    /// `seat`, whose log ends at `last`, asks `to` to take the lead.
    ///
    /// # Errors
    /// M8.
    pub fn hands_over(&self, seat: usize, to: usize, last: LogId) -> Verdict {
        if !self.on {
            return Ok(());
        }
        self.durability.hands_over(seat, to, last)
    }

    /// Nodes were recovered from forks of all disks.
    ///
    /// # Errors
    /// R11.
    pub fn forked(&self, recovered: &[Image]) -> Verdict {
        let acknowledged = self.ledger.get(self.witness.acknowledged());
        survives(recovered, acknowledged.map(|entry| entry.id))
    }

    /// A node answers; `open` questions of others it has taken in and not answered.
    ///
    /// # Errors
    /// T8, B4.
    pub fn replies(
        &mut self,
        seat: usize,
        result: &Result<Response, RequestError>,
        open: Option<usize>,
    ) -> Verdict {
        if !self.on {
            return Ok(());
        }
        match result {
            Ok(Response { header, body }) => {
                let reported = &mut self.seats[seat].reported;
                let mut shows = |path: &Path, node: &NodeState| match node.lease {
                    Some(lease) => reported.shows(seat, path, lease, header.now),
                    None => Ok(()),
                };
                match body {
                    Body::Changed(event) => shows(&event.path, &event.node),
                    Body::Done => Ok(()),
                    Body::Found(tree) => each_node(tree, &mut shows),
                }
            }
            Err(RequestError::Busy) => open.map_or(Ok(()), |open| {
                bounds::refused(seat, "the questions", open, self.config.reads_max)
            }),
            Err(
                RequestError::NotLeader { .. }
                | RequestError::DiskFull
                | RequestError::Dropped
                | RequestError::Stopping
                | RequestError::Store { .. },
            ) => Ok(()),
        }
    }

    /// An event reaches a watcher.
    ///
    /// # Errors
    /// W1 to W4, W7 to W9, W11, W12; W10 where a snapshot came.
    pub fn notified(&mut self, watch: WatchId, event: &Event) -> Verdict {
        if !self.on {
            return Ok(());
        }
        let original = self.events.get(event.id.index().0);
        self.streams.delivers(watch, event, original, &self.model)
    }

    /// A watch ends.
    ///
    /// # Errors
    /// W5, W6, W11, B4; W10 where a snapshot came.
    pub fn watch_ends(&mut self, watch: WatchId, reason: EndReason, resume: Revision) -> Verdict {
        if !self.on {
            return Ok(());
        }
        if let (EndReason::Busy, Some((seat, open))) = (reason, self.streams.joined(watch)) {
            bounds::refused(seat, "the watches", open, self.config.watches_max)?;
        }
        self.streams.ends(watch, reason, resume, &self.model)
    }

    /// Looks at the watches of a node that has nothing left to say.
    ///
    /// # Errors
    /// W3.
    pub fn watches_meet(&mut self, seat: usize, replica: &Replica) -> Verdict {
        let (counter, watches) = (replica.store().revision(), replica.watches());
        let is_live = |watch| watches.is_live(watch);
        self.streams.meet(seat, counter, is_live, &self.model)
    }

    /// How much `core` has said so far.
    #[must_use]
    pub fn quiet(&self, now: Time, core: &[usize]) -> Quiet {
        Quiet {
            since: now,
            messages: self.messages(core),
            committed: self.ledger.last(),
            late: self.late(core),
        }
    }

    /// Since then `core` had nothing to do but what fell due.
    ///
    /// # Errors
    /// B6.
    pub fn was_quiet(&self, now: Time, core: &[usize], before: &Quiet) -> Verdict {
        if self.drifts {
            // C4: some think that it was longer.
            return Ok(());
        }
        let traffic = Traffic {
            span: now.since(before.since),
            messages: self.messages(core) - before.messages,
            entries: self.ledger.last().0 - before.committed.0,
            late: self.late(core) - before.late,
        };
        bounds::quiet(core, self.seats.len(), traffic, &self.config)
    }

    fn messages(&self, core: &[usize]) -> u64 {
        core.iter().map(|&seat| self.machines[seat].messages).sum()
    }

    fn late(&self, core: &[usize]) -> u64 {
        core.iter().map(|&seat| self.machines[seat].late).sum()
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
}

/// Whether `holds` holds for each node of `tree`.
fn each_node(tree: &Tree, holds: &mut impl FnMut(&Path, &NodeState) -> Verdict) -> Verdict {
    holds(&tree.path, &tree.node)?;
    let mut children = tree.children.iter();
    children.try_for_each(|child| each_node(child, holds))
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
