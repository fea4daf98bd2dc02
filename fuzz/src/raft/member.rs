//! A replica with the driver's side of it: a disk, tables, and a ledger of what is owed to whom.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use quorate_core::raft::{AppendOutcome, Entry, Message, MessageBody};
use quorate_core::store::{Changes, Consistency, HistoryLost, SliceEvents, SliceId, Store};
use quorate_core::{
    BirthRecord, Config, Duration, HardState, Index, Input, Instant, LogId, NodeId, Opening,
    Output, Replica, RequestId, Revision, Term, WatchId, Write, WriteSeq,
};

use super::Letter;
use crate::numbers::{near, small};

/// A member under fuzz.
///
/// Keeps the driver's contract, and asserts the replica's: one write and one checkpoint in flight;
/// nothing is said that the disk does not hold; each request gets one answer; a watch sees events
/// in order and within its credit; the log is trimmed only below a durable checkpoint; what is
/// committed stays so; checkpoints load back to the state they were taken of.
pub(super) struct Member {
    birth: BirthRecord,
    replica: Replica,
    disk: Disk,
    starts: u64,
    writing: Option<Write>,
    checkpoint: Option<Changes>,
    reading: Vec<SliceId>,
    /// To whom snapshots are to be sent.
    wanted: Vec<NodeId>,
    /// One that arrived, and is neither installed nor dropped.
    received: Option<Snapshot>,
    requests: BTreeSet<RequestId>,
    watches: BTreeMap<WatchId, Watcher>,
    /// The last number given to a request or a watch.
    number: u64,
    committed: Index,
}

/// What survives a power cut.
#[derive(Clone, Debug, Default)]
struct Disk {
    seed: u64,
    hard_state: HardState,
    persisted: WriteSeq,
    start: LogId,
    entries: Vec<Entry>,
    /// The log had reached here before it was damaged.
    held: Option<Index>,
    tables: BTreeMap<Vec<u8>, Vec<u8>>,
    checkpointed: LogId,
    slices: BTreeMap<SliceId, SliceEvents>,
}

/// What travels between members whole.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) last: LogId,
    tables: BTreeMap<Vec<u8>, Vec<u8>>,
    slices: BTreeMap<SliceId, SliceEvents>,
}

#[derive(Debug, Default)]
struct Watcher {
    credit: u64,
    seen: Revision,
}

impl Member {
    pub(super) fn new(birth: &BirthRecord, node: NodeId, seed: u64, now: Instant) -> Self {
        let disk = Disk {
            seed,
            ..Disk::default()
        };
        Self {
            birth: birth.clone(),
            replica: Replica::new(config(), disk.open(birth, node), now),
            disk,
            starts: 0,
            writing: None,
            checkpoint: None,
            reading: Vec::new(),
            wanted: Vec::new(),
            received: None,
            requests: BTreeSet::new(),
            watches: BTreeMap::new(),
            number: 0,
            committed: Index::ZERO,
        }
    }

    /// Absorbs an arbitrary input, as far as a driver could have come upon it.
    pub(super) fn step(&mut self, now: Instant, input: Input) {
        if let Some(input) = self.possible(input) {
            self.replica.step(now, input);
        }
    }

    pub(super) fn receive(&mut self, now: Instant, from: NodeId, message: Message) {
        self.replica.step(now, Input::Receive { from, message });
    }

    /// Polls once. Returns what it sent, or `None` if it had nothing to do.
    pub(super) fn poll(&mut self, now: Instant, is_honest: bool) -> Option<Option<Letter>> {
        let output = self.replica.poll(now)?;
        let sent = self.handle(output, is_honest);
        let committed = self.replica.raft().committed();
        assert!(
            committed >= self.committed,
            "committed falls to {committed}"
        );
        self.committed = committed;
        Some(sent)
    }

    /// The write in flight is done.
    pub(super) fn persist(&mut self, now: Instant) {
        if let Some(write) = self.writing.take() {
            let through = write.seq;
            if let Some(last) = write.install {
                let snapshot = self.received.take().expect("it arrived");
                assert_eq!(snapshot.last, last, "installs another one");
                assert!(self.checkpoint.is_none(), "two sources of tables");
                self.disk.switch(snapshot);
                self.disk.entries.clear();
                self.disk.start = last;
            }
            self.disk.write(write);
            self.replica.step(now, Input::Persisted { through });
        }
    }

    /// The checkpoint in flight is in the tables, or has failed.
    pub(super) fn end_checkpoint(&mut self, now: Instant, done: bool) {
        let Some(changes) = self.checkpoint.take() else {
            return;
        };
        if done {
            let applied = changes.applied;
            self.disk.checkpoint(changes);
            self.replica.step(now, Input::Checkpointed { applied });
        } else {
            self.replica.step(now, Input::CheckpointFailed { changes });
        }
    }

    /// Steps what only a driver can say.
    pub(super) fn driver(&mut self, now: Instant, input: Input) {
        self.replica.step(now, input);
    }

    /// A snapshot that is to be sent, and to whom.
    pub(super) fn take_wanted(&mut self) -> Option<(NodeId, Snapshot)> {
        let to = self.wanted.pop()?;
        let snapshot = Snapshot {
            last: self.disk.checkpointed,
            tables: self.disk.tables.clone(),
            slices: self.disk.slices.clone(),
        };
        Some((to, snapshot))
    }

    /// A snapshot has arrived; whether it is taken.
    pub(super) fn receive_snapshot(&mut self, now: Instant, snapshot: Snapshot) -> bool {
        if self.received.is_some() || snapshot.tables.is_empty() {
            return false;
        }
        let store = Store::load(&snapshot.tables).expect("what was saved can be loaded");
        assert_eq!(store.applied(), snapshot.last, "tables of another time");
        self.received = Some(snapshot);
        let store = Box::new(store);
        self.replica.step(now, Input::SnapshotReceived { store });
        true
    }

    /// A slice that was asked for is read, or cannot be.
    pub(super) fn read_history(&mut self, now: Instant, found: bool) {
        if let Some(slice) = self.reading.pop() {
            let events = self.disk.slices.get(&slice).cloned();
            let events = events.filter(|_| found).ok_or(HistoryLost);
            self.replica.step(now, Input::HistoryRead { slice, events });
        }
    }

    /// Opens what the disk holds, after so many of the last entries became unreadable.
    pub(super) fn restart(&mut self, now: Instant, damaged: u8) {
        self.starts += 1;
        self.disk.seed = self.disk.seed.wrapping_add(self.starts);
        let is_installing = self.writing.as_ref().is_some_and(|w| w.install.is_some());
        if is_installing && damaged % 2 == 1 {
            // Between the tables and the log.
            let snapshot = self.received.take().expect("it is being installed");
            self.disk.switch(snapshot);
        }
        self.disk.damage(damaged.into());
        self.disk.fit();
        *self = Self {
            replica: Replica::new(config(), self.disk.open(&self.birth, self.id()), now),
            birth: self.birth.clone(),
            disk: mem::take(&mut self.disk),
            starts: self.starts,
            writing: None,
            checkpoint: None,
            reading: Vec::new(),
            wanted: Vec::new(),
            received: None,
            requests: BTreeSet::new(),
            watches: BTreeMap::new(),
            number: self.number,
            committed: Index::ZERO,
        };
    }

    pub(super) fn id(&self) -> NodeId {
        self.replica.raft().id()
    }

    pub(super) fn birth(&self) -> &BirthRecord {
        &self.birth
    }

    pub(super) fn replica(&self) -> &Replica {
        &self.replica
    }

    /// The term it leads, if it does.
    pub(super) fn leads(&self) -> Option<Term> {
        let raft = self.replica.raft();
        raft.is_leader().then(|| raft.hard_state().term)
    }

    /// The last entry applied, and the hash of the state it made.
    pub(super) fn state(&self) -> (LogId, u128) {
        let store = self.replica.store();
        (store.applied(), store.hash())
    }

    /// The input, if a driver may come upon it now: with names that are free, or in use.
    fn possible(&mut self, input: Input) -> Option<Input> {
        Some(match input {
            Input::Propose { mut command, .. } => {
                near(&mut command);
                let request = self.ask();
                Input::Propose { request, command }
            }
            Input::Read { mut query, .. } => {
                if let Consistency::Local { at_least } = &mut query.consistency {
                    at_least.0 = small(at_least.0);
                }
                let request = self.ask();
                Input::Read { request, query }
            }
            Input::Cancel { request } => Input::Cancel {
                request: RequestId(request.0 % (self.number + 2)),
            },
            Input::Watch {
                filter,
                since,
                credit,
                ..
            } => {
                self.number += 1;
                let watch = WatchId(self.number);
                let credit = credit % 4;
                let watcher = Watcher {
                    credit: credit.into(),
                    seen: Revision::ZERO,
                };
                self.watches.insert(watch, watcher);
                Input::Watch {
                    watch,
                    filter,
                    since: since.map(|index| Revision(small(index.0))),
                    credit,
                }
            }
            Input::Credit { watch, events } => {
                let watch = WatchId(watch.0 % (self.number + 2));
                if let Some(watcher) = self.watches.get_mut(&watch) {
                    watcher.credit += u64::from(events);
                }
                Input::Credit { watch, events }
            }
            Input::Unwatch { watch } => {
                let watch = WatchId(watch.0 % (self.number + 2));
                self.watches.remove(&watch);
                Input::Unwatch { watch }
            }
            // An old one, told again.
            Input::Persisted { through } => Input::Persisted {
                through: WriteSeq(through.0 % (self.disk.persisted.0 + 1)),
            },
            Input::Unreachable { peer } => Input::Unreachable {
                peer: self.someone(peer),
            },
            Input::Transfer { to } => Input::Transfer {
                to: self.someone(to),
            },
            Input::Deadline | Input::DiskFull(_) | Input::Shutdown => input,
            // These have acts of their own.
            Input::Receive { .. }
            | Input::Checkpointed { .. }
            | Input::CheckpointFailed { .. }
            | Input::HistoryRead { .. }
            | Input::SnapshotStarted { .. }
            | Input::SnapshotSent { .. }
            | Input::SnapshotReceived { .. } => return None,
        })
    }

    fn handle(&mut self, output: Output, is_honest: bool) -> Option<Letter> {
        match output {
            Output::Persist(write) => {
                assert!(self.writing.is_none(), "two writes in flight");
                assert_eq!(write.seq, self.disk.persisted.next(), "writes are dense");
                self.writing = Some(write);
            }
            Output::Send { to, message } => {
                assert_ne!(to, self.id(), "a message to itself");
                self.check_said(to, &message);
                let from = self.id();
                return Some(Letter { from, to, message });
            }
            Output::Checkpoint(changes) => {
                assert!(self.checkpoint.is_none(), "two checkpoints in flight");
                self.checkpoint = Some(changes);
            }
            Output::TrimLog { below } => {
                let kept = self.disk.checkpointed.index.next();
                assert!(below <= kept, "trims {below}, the tables begin at {kept}");
                self.disk.trim(below);
            }
            Output::ReadHistory { slice } => self.reading.push(slice),
            Output::SendSnapshot { to } => {
                let start = self.replica.raft().log_start();
                assert!(self.disk.checkpointed >= start, "nothing to send from");
                self.wanted.push(to);
            }
            Output::DropSnapshot { last } => {
                let dropped = self.received.take().map(|snapshot| snapshot.last);
                assert_eq!(dropped, Some(last), "drops another one");
            }
            Output::Reply { request, .. } => {
                assert!(self.requests.remove(&request), "{request} answered twice");
            }
            Output::Watching { watch, .. } => {
                assert!(self.watches.contains_key(&watch), "{watch} is not open");
            }
            Output::Notify { watches, event } => {
                assert!(!watches.is_empty(), "an event for nobody");
                for watch in watches {
                    let watcher = self.watches.get_mut(&watch);
                    let watcher = watcher.unwrap_or_else(|| panic!("{watch} is not open"));
                    assert!(watcher.credit > 0, "{watch} has no credit");
                    assert!(watcher.seen < event.id.index(), "{watch} sees the past");
                    watcher.credit -= 1;
                    watcher.seen = event.id.index();
                }
            }
            Output::WatchEnd { watch, .. } => {
                assert!(self.watches.remove(&watch).is_some(), "{watch} ends twice");
            }
            Output::Fault { peer, fault } => {
                assert!(!is_honest, "n{peer} is honest: {fault}");
            }
        }
        None
    }

    /// Nothing that needs the disk leaves before the disk (Raft §5.1, figure 2).
    fn check_said(&self, to: NodeId, message: &Message) {
        assert_eq!(message.check(), Ok(()), "contradicts itself: {message:?}");
        let HardState { term, vote } = self.disk.hard_state;
        match &message.body {
            MessageBody::PreVote { .. } | MessageBody::PreVoteReply { granted: true } => return,
            MessageBody::VoteReply { granted: true } => {
                assert_eq!(vote, Some(to), "a vote the disk does not hold");
            }
            MessageBody::Vote { .. } => {
                assert_eq!(vote, Some(self.id()), "a campaign the disk forgets");
            }
            MessageBody::AppendReply { outcome, .. } => match *outcome {
                AppendOutcome::Matched { through } | AppendOutcome::Repairing { through } => {
                    let last = self.disk.last().index;
                    assert!(through <= last, "vouches for {through}, has {last}");
                }
                AppendOutcome::Conflict { .. } => {}
            },
            MessageBody::PreVoteReply { granted: false }
            | MessageBody::VoteReply { granted: false }
            | MessageBody::Append { .. }
            | MessageBody::TimeoutNow
            | MessageBody::Propose { .. }
            | MessageBody::ProposeRefused { .. }
            | MessageBody::ReadIndex { .. }
            | MessageBody::ReadIndexReply { .. } => {}
        }
        assert_eq!(message.term, term, "says what the disk does not hold");
    }

    fn ask(&mut self) -> RequestId {
        self.number += 1;
        let request = RequestId(self.number);
        self.requests.insert(request);
        request
    }

    /// A member, or in one of four cases nobody known.
    fn someone(&self, raw: NodeId) -> NodeId {
        let seat = usize::try_from(raw.0 % 4).expect("below four");
        let member = self.birth.nodes().nth(seat);
        member.map_or(raw, |(node, _)| node)
    }
}

impl Disk {
    fn last(&self) -> LogId {
        self.entries.last().map_or(self.start, |entry| entry.id)
    }

    fn write(&mut self, write: Write) {
        self.persisted = write.seq;
        self.hard_state = write.hard_state;
        if let Some(first) = write.entries.first() {
            self.truncate(first.id.index);
            assert_eq!(first.id.index, self.last().index.next(), "a gap on disk");
        }
        self.entries.extend_from_slice(&write.entries);
        self.held = self.held.filter(|&held| held > self.last().index);
    }

    /// The tables of a snapshot take the place of those before.
    fn switch(&mut self, snapshot: Snapshot) {
        self.tables = snapshot.tables;
        self.slices = snapshot.slices;
        self.checkpointed = snapshot.last;
    }

    fn truncate(&mut self, from: Index) {
        self.entries.retain(|entry| entry.id.index < from);
    }

    fn trim(&mut self, below: Index) {
        let gone = self.entries.iter().take_while(|e| e.id.index < below);
        let gone = gone.count();
        if let Some(last) = self.entries.drain(..gone).next_back() {
            self.start = last.id;
        }
    }

    fn checkpoint(&mut self, changes: Changes) {
        for (key, row) in changes.encode() {
            match row {
                Some(row) => self.tables.insert(key, row),
                None => self.tables.remove(&key),
            };
        }
        for slice in &changes.closed {
            assert!(slice.info.describes(&slice.events), "another slice");
            self.slices.insert(slice.info.id, slice.events.clone());
        }
        let kept: BTreeSet<_> = changes.slices.iter().map(|slice| slice.id).collect();
        self.slices.retain(|id, _| kept.contains(id));
        assert_eq!(self.slices.len(), kept.len(), "a slice was never written");
        self.checkpointed = changes.applied;
        let store = self.load();
        assert_eq!(store.hash(), changes.hash, "another state");
        assert_eq!(store.recompute_hash(), changes.hash, "a wrong hash");
    }

    fn load(&self) -> Store {
        if self.tables.is_empty() {
            Store::new()
        } else {
            Store::load(&self.tables).expect("what was saved can be loaded")
        }
    }

    /// So many of the last entries cannot be read any more; hard state and length are known.
    fn damage(&mut self, entries: usize) {
        let last = self.last().index;
        let kept = self.entries.len().saturating_sub(entries);
        if kept < self.entries.len() {
            self.entries.truncate(kept);
            self.held = self.held.max(Some(last));
        }
    }

    /// As recovery does where the tables are ahead of the log, or beside it (DESIGN.md §6).
    fn fit(&mut self) {
        let applied = self.checkpointed;
        let is_there = self.start == applied || self.entries.iter().any(|e| e.id == applied);
        if !is_there {
            self.entries.clear();
            self.start = applied;
            self.held = self.held.filter(|&held| held > applied.index);
        }
    }

    fn open(&self, birth: &BirthRecord, node: NodeId) -> Opening {
        Opening {
            birth: birth.clone(),
            node,
            hard_state: self.hard_state,
            store: self.load(),
            log_start: self.start,
            entries: self.entries.clone(),
            persisted: self.persisted,
            held: self.held,
            seed: self.seed,
        }
    }
}

/// Limits so low that all of them are met.
fn config() -> Config {
    Config {
        batch_bytes_max: 512,
        batch_entries_max: 3,
        uncommitted_bytes_max: 2048,
        proposals_max: 4,
        reads_max: 4,
        watches_max: 4,
        watch_scan_max: 2,
        history_hot_bytes: 256,
        expiry_batch_max: 2,
        checkpoint_bytes: 1024,
        checkpoint_interval: Duration::from_secs(3),
        log_bytes_max: 2048,
        ..Config::default()
    }
}
