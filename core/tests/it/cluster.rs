//! Several Rafts over disks and a network in memory. Nothing happens by itself: each test says what
//! is delivered, what reaches the disk and when time passes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_core::raft::{
    AppendOutcome, Configuration, Entry, Message, MessageBody, Payload, Raft, RaftOpening,
    RaftOutput,
};
use quorate_core::time::{ClusterTime, Duration, Instant};
use quorate_core::{
    Config, DiskId, HardState, Index, LogId, NodeId, RequestError, RequestId, Term, Write, WriteSeq,
};

/// The hash of the birth record of every cluster here.
pub(crate) const BIRTH: u128 = 0xb127;

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) entries: Vec<Entry>,
    pub(crate) seq: WriteSeq,
    /// After damage: what the log had held.
    pub(crate) held: Option<Index>,
}

impl Disk {
    fn write(&mut self, write: &Write) {
        assert_eq!(write.seq, self.seq.next(), "writes are dense");
        self.seq = write.seq;
        self.hard_state = write.hard_state;
        if let Some(first) = write.entries.first() {
            let keep = self
                .entries
                .iter()
                .filter(|entry| entry.id.index < first.id.index);
            self.entries = keep.cloned().collect();
            self.entries.extend(write.entries.iter().cloned());
        }
        if self.held <= Some(self.last().index) {
            self.held = None;
        }
    }

    pub(crate) fn last(&self) -> LogId {
        self.entries.last().map_or(LogId::ZERO, |entry| entry.id)
    }

    pub(crate) fn holds(&self, id: LogId) -> bool {
        id == LogId::ZERO || self.entries.iter().any(|entry| entry.id == id)
    }
}

/// A member: its memory, if it runs, and its disk.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) raft: Option<Raft>,
    pub(crate) disk: Disk,
    /// Asked for, not yet on disk.
    pub(crate) writing: VecDeque<Write>,
    /// Given out as committed since it was started.
    pub(crate) committed: Vec<Entry>,
    starts: u64,
}

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) message: Message,
}

/// The cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) config: Config,
    pub(crate) configuration: Configuration,
    pub(crate) members: BTreeMap<NodeId, Member>,
    pub(crate) network: VecDeque<Flight>,
    /// Who neither hears nor is heard.
    pub(crate) cut: BTreeSet<NodeId>,
    pub(crate) now: Instant,
}

impl Cluster {
    /// `voters` empty members n1, n2, …, and then `learners` more.
    pub(crate) fn new(voters: u64, learners: u64) -> Self {
        Self::with(Config::default(), voters, learners)
    }

    pub(crate) fn with(config: Config, voters: u64, learners: u64) -> Self {
        let mut configuration = Configuration::of((1..=voters).map(NodeId));
        configuration.learners = (voters + 1..=voters + learners).map(NodeId).collect();
        let mut cluster = Self {
            config,
            configuration,
            members: BTreeMap::new(),
            network: VecDeque::new(),
            cut: BTreeSet::new(),
            now: Instant::default(),
        };
        for node in (1..=voters + learners).map(NodeId) {
            cluster.insert(node, Disk::default());
        }
        cluster
    }

    /// Starts `node` from `disk`.
    pub(crate) fn insert(&mut self, node: NodeId, disk: Disk) {
        let member = Member {
            raft: None,
            disk,
            writing: VecDeque::new(),
            committed: Vec::new(),
            starts: 0,
        };
        self.members.insert(node, member);
        self.restart(node);
    }

    pub(crate) fn crash(&mut self, node: NodeId) {
        let member = self.members.get_mut(&node).expect("a member");
        member.raft = None;
        member.writing.clear();
        member.committed.clear();
    }

    pub(crate) fn restart(&mut self, node: NodeId) {
        let disks = self.configuration.members().chain([node]);
        let disks = disks.map(|id| (id, disk_of(id))).collect();
        let member = self.members.get_mut(&node).expect("a member");
        assert!(member.raft.is_none(), "{node} runs");
        member.starts += 1;
        let opening = RaftOpening {
            id: node,
            birth: BIRTH,
            disks,
            configuration: self.configuration.clone(),
            hard_state: member.disk.hard_state,
            log_start: LogId::ZERO,
            start_stamp: ClusterTime::ZERO,
            entries: member.disk.entries.clone(),
            applied: LogId::ZERO,
            persisted: member.disk.seq,
            held: member.disk.held,
            seed: node.0 + 1000 * member.starts,
        };
        member.raft = Some(Raft::new(&self.config, opening, self.now));
    }

    pub(crate) fn raft(&self, node: u64) -> &Raft {
        self.members[&NodeId(node)].raft.as_ref().expect("runs")
    }

    pub(crate) fn raft_mut(&mut self, node: NodeId) -> Option<&mut Raft> {
        self.members.get_mut(&node)?.raft.as_mut()
    }

    pub(crate) fn disk(&self, node: u64) -> &Disk {
        &self.members[&NodeId(node)].disk
    }

    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.members.keys().copied().collect()
    }

    /// Polls `node` until it has nothing to say; its messages are on their way, its writes wait.
    pub(crate) fn poll(&mut self, node: NodeId) -> Vec<RaftOutput> {
        let now = self.now;
        let member = self.members.get_mut(&node).expect("a member");
        let Some(raft) = &mut member.raft else {
            return Vec::new();
        };
        let mut outputs = Vec::new();
        while let Some(output) = raft.poll(now) {
            match &output {
                RaftOutput::Persist(write) => member.writing.push_back(write.clone()),
                RaftOutput::Send { to, message } => {
                    let is_cut = self.cut.contains(&node) || self.cut.contains(to);
                    if !is_cut {
                        let message = message.clone();
                        self.network.push_back(Flight {
                            from: node,
                            to: *to,
                            message,
                        });
                    }
                }
                RaftOutput::Commit(entries) => {
                    member.committed.extend(entries.iter().cloned());
                    raft.applied(entries.last().expect("never empty").id);
                }
                RaftOutput::ReadReady { .. }
                | RaftOutput::ReadLost { .. }
                | RaftOutput::LostLeadership
                | RaftOutput::Refused { .. }
                | RaftOutput::NeedsSnapshot { .. }
                | RaftOutput::Fault { .. } => {}
            }
            outputs.push(output);
            assert!(outputs.len() < 100_000, "{node} never stops talking");
        }
        outputs
    }

    pub(crate) fn poll_all(&mut self) -> Vec<(NodeId, RaftOutput)> {
        let mut all = Vec::new();
        for node in self.nodes() {
            all.extend(self.poll(node).into_iter().map(|output| (node, output)));
        }
        all
    }

    /// What `node` asked for last reaches its disk. Whether there was anything.
    pub(crate) fn persist(&mut self, node: NodeId) -> bool {
        let now = self.now;
        let member = self.members.get_mut(&node).expect("a member");
        assert!(member.writing.len() <= 1, "two writes in flight");
        let Some(write) = member.writing.pop_front() else {
            return false;
        };
        member.disk.write(&write);
        member
            .raft
            .as_mut()
            .expect("a write of a member that runs")
            .persisted(now, write.seq);
        true
    }

    /// `flight` arrives, if its receiver runs and is not cut off.
    pub(crate) fn arrive(&mut self, flight: Flight) {
        let now = self.now;
        let Flight { from, to, message } = flight;
        if self.cut.contains(&from) || self.cut.contains(&to) {
            return;
        }
        if let Some(raft) = self.raft_mut(to) {
            raft.receive(now, from, message);
        }
    }

    /// Everything now in flight arrives, in order.
    pub(crate) fn deliver(&mut self) {
        for flight in std::mem::take(&mut self.network) {
            self.arrive(flight);
        }
    }

    /// Polls, delivers and writes until nothing happens any more, without letting time pass.
    pub(crate) fn settle(&mut self) -> Vec<(NodeId, RaftOutput)> {
        let mut all = self.poll_all();
        loop {
            self.deliver();
            let mut is_quiet = true;
            for node in self.nodes() {
                is_quiet &= !self.persist(node);
            }
            let outputs = self.poll_all();
            is_quiet &= outputs.is_empty() && self.network.is_empty();
            all.extend(outputs);
            if is_quiet {
                return all;
            }
        }
    }

    /// Lets time pass without a timer firing.
    pub(crate) fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    /// Lets time pass; each timer fires when it is due, and all is delivered and written at once.
    pub(crate) fn run(&mut self, span: Duration) -> Vec<(NodeId, RaftOutput)> {
        let end = self.now + span;
        let mut all = self.settle();
        while let Some(due) = self.deadline().filter(|&due| due <= end) {
            self.now = self.now.max(due);
            for node in self.nodes() {
                let now = self.now;
                if let Some(raft) = self.raft_mut(node) {
                    raft.tick(now);
                }
            }
            all.extend(self.settle());
        }
        self.now = end;
        all
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let rafts = self
            .members
            .values()
            .filter_map(|member| member.raft.as_ref());
        rafts.filter_map(Raft::deadline).min()
    }

    /// `node`'s election timer fires now, whenever it is due: its clock runs ahead for a moment.
    pub(crate) fn timeout(&mut self, node: u64) {
        let late = self.now + 2 * self.config.election_timeout;
        let raft = self.raft_mut(NodeId(node)).expect("runs");
        assert!(!raft.is_leader(), "n{node} leads");
        raft.tick(late);
    }

    /// Makes `node` the leader, with everyone's help.
    pub(crate) fn elect(&mut self, node: u64) {
        self.pass(2 * self.config.election_timeout);
        self.timeout(node);
        self.settle();
        assert!(
            self.raft(node).is_leader(),
            "{} does not lead",
            self.raft(node)
        );
    }

    pub(crate) fn propose(&mut self, node: u64) -> Result<LogId, RequestError> {
        let now = self.now;
        let raft = self.raft_mut(NodeId(node)).expect("runs");
        raft.propose(
            now,
            Payload::Expire {
                limit: 1,
                until: ClusterTime::ZERO,
            },
        )
    }

    pub(crate) fn read(&mut self, node: u64, request: u64) -> Result<(), RequestError> {
        self.raft_mut(NodeId(node))
            .expect("runs")
            .read_index(RequestId(request))
    }

    /// A message that a test makes up arrives.
    pub(crate) fn inject(&mut self, from: u64, to: u64, term: u64, body: MessageBody) {
        let message = message(from, to, term, body);
        self.arrive(Flight {
            from: NodeId(from),
            to: NodeId(to),
            message,
        });
    }

    /// The messages now in flight from `from` to `to`.
    pub(crate) fn sent(&self, from: u64, to: u64) -> Vec<MessageBody> {
        let sent = self.network.iter();
        sent.filter(|flight| flight.from == NodeId(from) && flight.to == NodeId(to))
            .map(|flight| flight.message.body.clone())
            .collect()
    }

    /// The ids of the log of `node`, in memory.
    pub(crate) fn log(&self, node: u64) -> Vec<LogId> {
        log_of(self.raft(node)).map(|entry| entry.id).collect()
    }
}

pub(crate) fn log_of(raft: &Raft) -> impl Iterator<Item = &Entry> {
    let range = raft.log_start().index.0 + 1..=raft.last().index.0;
    range.map(|index| raft.entry(Index(index)).expect("in memory"))
}

pub(crate) fn disk_of(node: NodeId) -> DiskId {
    DiskId(0xd000 + u128::from(node.0))
}

pub(crate) fn message(from: u64, to: u64, term: u64, body: MessageBody) -> Message {
    Message {
        birth: BIRTH,
        from_disk: disk_of(NodeId(from)),
        to_disk: disk_of(NodeId(to)),
        term: Term(term),
        body,
    }
}

/// The entry at `index` of `term`.
pub(crate) fn id(index: u64, term: u64) -> LogId {
    LogId {
        term: Term(term),
        index: Index(index),
    }
}

pub(crate) fn entry(index: u64, term: u64) -> Entry {
    Entry {
        id: id(index, term),
        stamp: ClusterTime(index),
        payload: Payload::Empty,
    }
}

/// A disk whose log has entries of `terms`, seen in `term`.
pub(crate) fn disk(term: u64, terms: &[u64]) -> Disk {
    let entries = terms
        .iter()
        .zip(1..)
        .map(|(&term, index)| entry(index, term))
        .collect();
    let hard_state = HardState {
        term: Term(term),
        vote: None,
    };
    Disk {
        hard_state,
        entries,
        seq: WriteSeq(1),
        held: None,
    }
}

pub(crate) fn append(previous: LogId, entries: &[Entry], committed: u64) -> MessageBody {
    let entries = entries.iter().cloned().collect();
    MessageBody::Append {
        previous,
        entries,
        committed: Index(committed),
        round: 0,
    }
}

pub(crate) fn reply(outcome: AppendOutcome, round: u64) -> MessageBody {
    MessageBody::AppendReply { outcome, round }
}

pub(crate) fn matched(through: u64) -> MessageBody {
    reply(
        AppendOutcome::Matched {
            through: Index(through),
        },
        0,
    )
}
