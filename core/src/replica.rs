//! A whole member: Raft, store and watches behind `step`, `poll` and `deadline`.

mod checkpoint;
mod expiry;
mod forward;
mod leader;
mod queues;
mod requests;
mod rounds;
mod shutdown;
mod snapshot;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use checkpoint::Schedule;
use expiry::Expiry;
use forward::{Fate, Forwards};
pub use queues::Queues;
use requests::{Proposal, Requests};
use rounds::Rounds;

use crate::birth::BirthRecord;
use crate::config::Config;
use crate::ids::{Index, LogId, NodeId, RequestId, WatchId, WriteSeq};
use crate::input::Input;
use crate::output::{HardState, Output, RequestError};
use crate::raft::{Configuration, Entry, Payload, Raft, RaftOpening, RaftOutput, Status};
use crate::rng::Rng;
use crate::store::{
    Body, Consistency, Header, Query, Response, Store, StoreError, WatchOutput, Watches,
};
use crate::time::{ClusterTime, Instant};

/// What a member starts from: what recovery found on its disk.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Who founded the cluster.
    pub birth: BirthRecord,
    /// Which of them this is.
    pub node: NodeId,
    /// Term and vote of the newest write.
    pub hard_state: HardState,
    /// The tables, as of their last checkpoint.
    pub store: Store,
    /// The entry just before `entries`; at most the last one the store has applied.
    pub log_start: LogId,
    /// The log: contiguous, and through the last entry the store has applied, at least.
    pub entries: Vec<Entry>,
    /// The last write on disk.
    pub persisted: WriteSeq,
    /// After damage: the highest index the log had held. The member neither votes nor counts until
    /// the leader has repaired its log through there.
    pub held: Option<Index>,
    /// Where election timeouts come from. Different at each start.
    pub seed: u64,
}

/// A member of the cluster: everything it decides, and nothing of how the world does it.
///
/// Invariants: the store has applied exactly the committed entries in order; what is acknowledged
/// is committed; each request gets one answer; one checkpoint is in flight at most.
#[derive(Clone, Debug)]
pub struct Replica {
    config: Config,
    /// Who votes until the log says otherwise.
    founders: Configuration,
    raft: Raft,
    store: Store,
    watches: Watches,
    /// How things stood when watches were asked for that have not been answered yet.
    openings: BTreeMap<WatchId, Header>,
    requests: Requests,
    /// Writes that another member has to put into the log.
    forwards: Forwards,
    /// Questions that the leader has to vouch for.
    rounds: Rounds,
    expiry: Expiry,
    schedule: Schedule,
    /// A snapshot that was received, until it is installed or of no use.
    arrived: Option<Box<Store>>,
    /// The last entry that is in the tables, durably.
    checkpointed: LogId,
    /// The log on disk begins here.
    trimmed: Index,
    /// Cluster time as it was last shown: what is left of a time to live never rises.
    shown: ClusterTime,
    stopping: bool,
    /// While stopping: what is open is waited for until then. `None` once that is over.
    drain_until: Option<Instant>,
    outbox: VecDeque<Output>,
}

impl Replica {
    /// A member as its disk left it.
    ///
    /// # Panics
    /// Where `opening` contradicts itself: recovery has the duty to refuse such a disk.
    #[must_use]
    pub fn new(config: Config, opening: Opening, now: Instant) -> Self {
        config.check();
        let Opening {
            birth,
            node,
            hard_state,
            store,
            log_start,
            entries,
            persisted,
            held,
            seed,
        } = opening;
        assert!(
            birth.founder(node).is_some(),
            "{node} is none of the founders"
        );
        // The log may begin before what the store has applied: the store's clock is ahead of it.
        let start_stamp = entries
            .first()
            .map_or(store.clock(), |entry| entry.stamp.min(store.clock()));
        let founders = birth.configuration();
        // What was in force before the last entry the tables hold can no longer come back.
        let configuration = configuration_of(&store, &founders);
        let raft = Raft::new(
            &config,
            RaftOpening {
                id: node,
                birth: birth.hash(),
                disks: birth
                    .nodes()
                    .map(|(id, founder)| (id, founder.disk))
                    .collect(),
                configuration,
                hard_state,
                log_start,
                start_stamp,
                entries,
                applied: store.applied(),
                persisted,
                held,
                seed,
            },
            now,
        );
        // The seed is Raft's; what is drawn here has a stream of its own.
        let mut rng = Rng::new(!seed);
        Self {
            forwards: Forwards::new(&config, rng.next_u64()),
            rounds: Rounds::new(rng.next_u64(), config.election_timeout),
            founders,
            arrived: None,
            drain_until: None,
            expiry: Expiry::new(&config, now),
            schedule: Schedule::new(&config, now),
            watches: Watches::new(config.watches_max, config.watch_scan_max, &store),
            openings: BTreeMap::new(),
            requests: Requests::default(),
            checkpointed: store.applied(),
            trimmed: log_start.index.next(),
            shown: ClusterTime::ZERO,
            stopping: false,
            outbox: VecDeque::new(),
            config,
            raft,
            store,
        }
    }

    /// Absorbs one input. Emits nothing; never fails.
    pub fn step(&mut self, now: Instant, input: Input) {
        match input {
            Input::Deadline => {} // `poll` looks at the clock itself
            Input::Receive { from, message } => self.raft.receive(now, from, message),
            Input::Propose { request, command } => self.on_propose(now, request, command),
            Input::Read { request, query } => self.on_read(now, request, query),
            Input::Cancel { request } => self.on_cancel(request),
            Input::Watch {
                watch,
                filter,
                since,
                credit,
            } => {
                let header = self.header(now);
                self.openings.insert(watch, header);
                self.watches.open(&self.store, watch, filter, since, credit);
            }
            Input::Credit { watch, events } => self.watches.credit(&self.store, watch, events),
            Input::Unwatch { watch } => {
                self.openings.remove(&watch);
                self.watches.unwatch(watch);
            }
            Input::Persisted { through } => self.raft.persisted(now, through),
            Input::Checkpointed { applied } => self.on_checkpointed(applied),
            Input::CheckpointFailed { changes } => {
                self.schedule.failed(now);
                self.store.merge_back(changes);
            }
            Input::HistoryRead { slice, events } => {
                self.watches.history_read(&self.store, slice, events);
            }
            Input::SnapshotStarted { to, last } => self.raft.snapshot_started(to, last),
            Input::SnapshotSent {
                to,
                last,
                delivered,
            } => self.raft.snapshot_sent(to, last, delivered),
            Input::SnapshotReceived { store } => self.on_snapshot(store),
            Input::Unreachable { peer } => self.on_unreachable(peer),
            Input::DiskFull(full) => self.raft.disk_full(now, full),
            Input::Transfer { to } => self.raft.transfer(now, to),
            Input::Shutdown => self.on_shutdown(now),
        }
    }

    /// The next thing to do, computed on demand; `None` when there is nothing left.
    pub fn poll(&mut self, now: Instant) -> Option<Output> {
        loop {
            if let Some(output) = self.outbox.pop_front() {
                return Some(output);
            }
            self.tick(now);
            if let Some(output) = self.raft.poll(now) {
                match self.on_raft(now, output) {
                    Some(output) => return Some(output),
                    None => continue,
                }
            }
            if self.pass_on(now)
                || self.ask_leader(now)
                || self.answer_next(now)
                || self.maybe_install(now)
            {
                continue;
            }
            if let Some(output) = self.watches.poll(&self.store) {
                return Some(self.watch_output(now, output));
            }
            return self.checkpoint_if_due(now).or_else(|| self.trim_log());
        }
    }

    /// When to step [`Input::Deadline`] if nothing else happens first. In the past where there is
    /// work left that should not hold up what has come in meanwhile.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        // A laggard's history is scanned a chunk at a time, and the log forgotten so: what came
        // meanwhile goes first.
        let is_behind = self.watches.has_work() || self.raft.is_trimming();
        let timers = [
            is_behind.then_some(Instant::default()),
            self.raft.deadline(),
            self.expiry_deadline(),
            self.checkpoint_deadline(),
            self.leader_to_ask().and(self.forwards.deadline()),
            self.leader_to_ask().and(self.rounds.deadline()),
            self.drain_until,
        ];
        timers.into_iter().flatten().min()
    }

    /// The member at this moment. Changes nothing.
    #[must_use]
    pub fn status(&self) -> Status {
        let (raft, store) = (&self.raft, &self.store);
        let HardState { term, vote } = raft.hard_state();
        Status {
            id: raft.id(),
            term,
            vote,
            role: raft.role(),
            leader: raft.leader(),
            last: raft.last(),
            persisted: raft.persisted_index(),
            committed: raft.committed(),
            applied: store.applied(),
            checkpointed: self.checkpointed,
            first: raft.log_start().index.next(),
            configuration: raft.configuration().clone(),
            matched: raft.matched(),
            revision: store.revision(),
            clock: store.clock(),
            state_hash: store.hash(),
            pending: (self.writes(), self.reads(), self.watches.len()),
            repairing: raft.repairing(),
        }
    }

    /// The store as far as this member has applied the log.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// This member's Raft: for the simulator's checks.
    #[must_use]
    pub const fn raft(&self) -> &Raft {
        &self.raft
    }

    /// This member's watches: for the simulator's checks.
    #[must_use]
    pub const fn watches(&self) -> &Watches {
        &self.watches
    }

    /// Writes without an answer.
    fn writes(&self) -> usize {
        self.requests.proposals() + self.forwards.len()
    }

    /// Questions without an answer.
    fn reads(&self) -> usize {
        self.requests.questions() + self.rounds.len()
    }

    fn on_read(&mut self, now: Instant, request: RequestId, query: Query) {
        if self.stopping {
            return self.reply(request, Err(RequestError::Stopping));
        }
        if self.reads() >= self.config.reads_max {
            return self.reply(request, Err(RequestError::Busy));
        }
        match query.consistency {
            Consistency::Local { at_least } if at_least <= self.store.revision() => {
                self.answer(now, request, &query);
            }
            Consistency::Local { at_least } => {
                self.requests.wait_for_revision(at_least, request, query);
            }
            Consistency::Linearizable => self.rounds.add(request, query),
        }
    }

    fn on_cancel(&mut self, request: RequestId) {
        let leader = self.raft.leader();
        let not_leader = Err(RequestError::NotLeader { leader });
        let result = if self.requests.cancel_proposal(request) {
            Err(RequestError::Dropped)
        } else if let Some(fate) = self.forwards.cancel(request) {
            match fate {
                Fate::NotDone => not_leader,
                Fate::Unknown => Err(RequestError::Dropped),
            }
        } else if self.rounds.cancel(request) {
            not_leader
        } else if self.requests.cancel_question(request) {
            Err(RequestError::Dropped)
        } else {
            return;
        };
        self.reply(request, result);
    }

    fn on_unreachable(&mut self, peer: NodeId) {
        if self.raft.leader() == Some(peer) {
            self.forwards.hurry();
            self.rounds.hurry();
        }
        self.raft.unreachable(peer);
    }

    fn on_checkpointed(&mut self, applied: LogId) {
        assert!(
            applied >= self.checkpointed,
            "checkpoint {applied} goes back"
        );
        self.schedule.succeeded(applied);
        self.store
            .checkpointed(applied, self.config.history_hot_bytes);
        self.checkpointed = applied;
        self.raft.trim(applied.index.next());
    }

    /// Handles what Raft says to the rest of the replica; passes on what it says to the world.
    fn on_raft(&mut self, now: Instant, output: RaftOutput) -> Option<Output> {
        match output {
            RaftOutput::Persist(write) => return Some(Output::Persist(write)),
            RaftOutput::Send { to, message } => return Some(Output::Send { to, message }),
            RaftOutput::Fault { peer, fault } => return Some(Output::Fault { peer, fault }),
            RaftOutput::Commit(entries) => {
                for entry in entries.iter() {
                    self.apply(now, entry);
                }
            }
            RaftOutput::ReadReady { request, index } => {
                for (at, query) in self.rounds.done(request.0, index) {
                    self.requests.wait_for_index(at, query);
                }
            }
            RaftOutput::ReadLost { request: _ } => self.rounds.hurry(),
            RaftOutput::Refused { tickets } => {
                let due = now + self.config.heartbeat_interval;
                for ticket in tickets {
                    self.forwards.refused(RequestId(ticket), due);
                }
            }
            RaftOutput::NeedsSnapshot { to } => return Some(Output::SendSnapshot { to }),
            RaftOutput::LostLeadership => {
                self.expiry.reset();
                // They may still be committed; but who takes in nothing more will not learn of it.
                if self.is_closed() {
                    self.drop_proposals();
                }
            }
        }
        None
    }

    /// Applies one committed entry, and answers whoever proposed it here.
    fn apply(&mut self, now: Instant, entry: &Entry) {
        let before = self.store.applied();
        assert_eq!(
            entry.id.index,
            before.index.next(),
            "applying {} after {before}",
            entry.id
        );
        let proposal = self.requests.committed(entry.id);
        for Proposal { request, command } in self.requests.superseded(entry.id) {
            self.propose_anew(request, command);
        }
        let result = match &entry.payload {
            Payload::Command(command) => {
                let result = self.store.apply(entry.id, entry.stamp, command);
                result.map(|applied| applied.event.map_or(Body::Done, Body::Changed))
            }
            Payload::Expire { limit, until } => {
                let expired = self.store.expire(entry.id, entry.stamp, *limit, *until);
                self.expiry.applied(now, expired);
                Ok(Body::Done)
            }
            Payload::Configuration(configuration) => {
                self.store.reconfigure(entry.id, entry.stamp, configuration);
                Ok(Body::Done)
            }
            Payload::Renew { since } => {
                self.store.grant_anew(entry.id, entry.stamp, *since);
                Ok(Body::Done)
            }
            Payload::Empty => {
                self.store.skip(entry.id, entry.stamp);
                Ok(Body::Done)
            }
        };
        self.raft.applied(entry.id);
        self.schedule.applied(now, entry.weight());
        self.watches.applied(&self.store);
        // What an older leader stamped counts from this one's first entry (`Payload::Renew`).
        let is_own = self.raft.is_leader() && entry.id.term == self.raft.hard_state().term;
        if is_own && matches!(entry.payload, Payload::Empty | Payload::Renew { .. }) {
            let after = self.raft.cluster_time(now).since(entry.stamp);
            // Whoever waits for what others left may wait elsewhere.
            self.expiry.inherits(self.store.last_deadline(), after * 2);
        }
        if let Payload::Command(command) = &entry.payload {
            if let (Some(granted), true) = (command.granted(), is_own) {
                let stamped = self.raft.cluster_time(now).since(entry.stamp);
                // Elsewhere it is answered once the news of it has got there.
                let legs = if proposal.is_some() { 1 } else { 2 };
                self.expiry.answered(entry.stamp + granted, stamped * legs);
            }
            if let Some(id) = &command.client {
                self.reply_forwarded(now, id, &result);
            }
        }
        if let Some(Proposal { request, .. }) = proposal {
            self.reply_applied(now, request, result);
        }
    }

    fn reply_applied(
        &mut self,
        now: Instant,
        request: RequestId,
        result: Result<Body, StoreError>,
    ) {
        let header = self.header(now);
        let result = match result {
            Ok(body) => Ok(Response { header, body }),
            Err(error) => Err(RequestError::Store { header, error }),
        };
        self.reply(request, result);
    }

    /// Answers one question that has what it waited for; whether there was one.
    fn answer_next(&mut self, now: Instant) -> bool {
        let (applied, revision) = (self.store.applied().index, self.store.revision());
        let Some((request, query)) = self.requests.answerable(applied, revision) else {
            return false;
        };
        self.answer(now, request, &query);
        true
    }

    fn answer(&mut self, now: Instant, request: RequestId, query: &Query) {
        let found = self
            .store
            .get(&query.path, query.recursive)
            .map(Body::Found);
        self.reply_applied(now, request, found);
    }

    fn reply(&mut self, request: RequestId, result: Result<Response, RequestError>) {
        self.outbox.push_back(Output::Reply { request, result });
    }

    /// What the clock has made due.
    fn tick(&mut self, now: Instant) {
        self.raft.tick(now);
        self.maybe_close(now);
        self.expiry.forget(self.raft.cluster_time(now));
        if self.expiry_deadline().is_some_and(|at| at <= now) {
            let entry = self.expiry.entry(now, &self.raft, &self.store);
            match entry.map(|entry| self.raft.propose(now, entry)) {
                Some(Ok(_)) => self.expiry.proposed(now),
                Some(Err(_)) | None => self.expiry.refused(now),
            }
        }
    }

    /// When nodes are to be removed whose time is over; never again once the member is stopping.
    fn expiry_deadline(&self) -> Option<Instant> {
        if self.stopping {
            return None;
        }
        self.expiry.deadline(&self.raft, &self.store)
    }

    /// When the next checkpoint is due: not while there is a snapshot to install, which takes the
    /// place of the tables.
    fn checkpoint_deadline(&self) -> Option<Instant> {
        let is_free = self.arrived.is_none() && !self.raft.is_installing();
        self.schedule.deadline().filter(|_| is_free)
    }

    fn checkpoint_if_due(&mut self, now: Instant) -> Option<Output> {
        let due = self.checkpoint_deadline()?;
        let is_quiet = self.requests.proposals() == 0 && self.raft.is_settled();
        let is_last = self.stopping && is_quiet && !self.schedule.is_failing();
        if due > now && !is_last {
            return None;
        }
        let changes = self.store.take_changes();
        self.schedule.begin(self.store.applied());
        Some(Output::Checkpoint(changes))
    }

    fn trim_log(&mut self) -> Option<Output> {
        if self.raft.is_trimming() {
            self.raft.trim(self.checkpointed.index.next());
        }
        if self.raft.is_trimming() {
            return None;
        }
        let first = self.raft.log_start().index.next();
        assert!(
            first <= self.checkpointed.index.next(),
            "the log lost what no checkpoint holds"
        );
        if first <= self.trimmed {
            return None;
        }
        self.trimmed = first;
        Some(Output::TrimLog { below: first })
    }

    fn watch_output(&mut self, now: Instant, output: WatchOutput) -> Output {
        match output {
            WatchOutput::Watching { watch } => Output::Watching {
                watch,
                header: self.opening(now, watch),
            },
            WatchOutput::Notify { watches, event } => Output::Notify { watches, event },
            WatchOutput::End {
                watch,
                reason,
                resume,
            } => Output::WatchEnd {
                watch,
                reason,
                resume,
                header: self.opening(now, watch),
            },
            WatchOutput::ReadHistory { slice } => Output::ReadHistory { slice },
        }
    }

    /// The store when the watch was asked for, if that has not been said yet: what is applied
    /// before the answer is polled is still to be delivered. The store as it is now, otherwise.
    fn opening(&mut self, now: Instant, watch: WatchId) -> Header {
        let opening = self.openings.remove(&watch);
        opening.unwrap_or_else(|| self.header(now))
    }

    fn header(&mut self, now: Instant) -> Header {
        // The estimate falls where an entry took longer on its way than the one before it.
        let estimate = self.raft.cluster_time(now).max(self.store.clock());
        self.shown = self.shown.max(estimate);
        Header {
            member: self.raft.id(),
            term: self.raft.hard_state().term,
            applied: self.store.applied(),
            revision: self.store.revision(),
            now: self.shown,
        }
    }
}

/// Who votes as of `store`: the founders, unless the log has said otherwise.
fn configuration_of(store: &Store, founders: &Configuration) -> Configuration {
    if store.configuration().voters.is_empty() {
        founders.clone()
    } else {
        (**store.configuration()).clone()
    }
}
