//! Clusters under random schedules: messages lost, doubled and out of order, crashes, disks that
//! forget, clocks that differ. Safety is checked after every step, progress after all is healed.
//!
//! A failing run prints its seed; `CHAOS_SEED=n cargo test -p quorate-core chaos` plays that one.

use std::collections::{BTreeMap, BTreeSet};
use std::env;

use quorate_core::raft::{AppendOutcome, Entry, Message, MessageBody, Raft, RaftOutput};
use quorate_core::rng::Rng;
use quorate_core::time::{ClusterTime, Duration, Instant};
use quorate_core::{Config, HardState, Index, LogId, NodeId, RequestId, Term};

use crate::cluster::{Cluster, log_of};

const STEPS: u64 = 3000;

#[test]
fn safe_under_any_schedule_and_live_when_healed() {
    let seeds = match env::var("CHAOS_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => (0..150).collect(),
    };
    for seed in seeds {
        let run = std::panic::catch_unwind(|| Chaos::new(seed).run());
        assert!(run.is_ok(), "CHAOS_SEED={seed} shows it again");
    }
}

/// One run.
struct Chaos {
    rng: Rng,
    cluster: Cluster,
    /// How far each member's clock is ahead, in nanoseconds.
    ahead: BTreeMap<NodeId, u64>,
    requests: u64,
    /// Of whom each open question was asked, and the least index it may be answered at.
    asked: BTreeMap<RequestId, (NodeId, Index)>,
    history: History,
}

/// What was ever seen, for what must hold over the whole run.
#[derive(Default)]
struct History {
    /// Raft §5.2, Election Safety.
    leaders: BTreeMap<Term, NodeId>,
    /// Each entry with the id of the one before it: Log Matching.
    entries: BTreeMap<LogId, (LogId, Entry)>,
    /// What was committed: State Machine Safety.
    ledger: BTreeMap<Index, Entry>,
    /// Who ever had what on disk.
    durable: BTreeSet<(NodeId, LogId)>,
    /// The vote each member gave in each term.
    votes: BTreeMap<(NodeId, Term), NodeId>,
    terms: BTreeMap<NodeId, Term>,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let config = Config {
            batch_entries_max: 1 + usize::try_from(rng.below(4)).expect("small"),
            uncommitted_bytes_max: 1000,
            heartbeat_interval: Duration::from_millis(40),
            election_timeout: Duration::from_millis(400),
            ..Config::default()
        };
        let cluster = Cluster::with(config, 1 + rng.below(5), rng.below(2));
        // Clocks have origins of their own; all are behind the true time by less than a day.
        let ahead = cluster
            .nodes()
            .into_iter()
            .map(|node| (node, rng.below(1 << 46)))
            .collect();
        let nodes = cluster.nodes();
        let mut chaos = Self {
            rng,
            cluster,
            ahead,
            requests: 0,
            asked: BTreeMap::new(),
            history: History::default(),
        };
        for node in nodes {
            chaos.crash_or_restart(node);
            chaos.crash_or_restart(node);
        }
        chaos
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            self.step();
            self.check();
        }
        self.heal();
    }

    /// One thing happens to one member, or to a message.
    fn step(&mut self) {
        let node = self.any_node();
        let now = self.clock(node);
        match self.rng.below(100) {
            0..45 => (0..=self.rng.below(6)).for_each(|_| self.deliver()),
            45..65 => {
                for node in self.cluster.nodes() {
                    if self.rng.below(2) == 0 {
                        self.persist(node);
                    }
                }
            }
            65..75 => self.pass(),
            75..82 => drop(self.propose(node)),
            82..86 => self.read(node),
            86..88 => {
                if self.cluster.members[&node].raft.is_none() || self.rng.below(8) == 0 {
                    self.crash_or_restart(node);
                }
            }
            88 => self.damage(node),
            89 => {
                let to = self.any_node();
                self.with(node, |raft| raft.transfer(now, to));
            }
            90 => {
                let is_full = self.rng.below(10) == 0;
                self.with(node, |raft| raft.disk_full(now, is_full));
            }
            91 => {
                let peer = self.any_node();
                self.with(node, |raft| raft.unreachable(peer));
            }
            92..94 => {
                // Long enough for the others to elect a leader beside the one cut off.
                let is_cut = self.cluster.cut.contains(&node);
                match (is_cut, self.rng.below(if is_cut { 4 } else { 24 })) {
                    (true, 0) => drop(self.cluster.cut.remove(&node)),
                    (false, 0) => drop(self.cluster.cut.insert(node)),
                    _ => {}
                }
            }
            94..96 => {
                let floor = self.rng.below(1 + self.history.ledger.len() as u64);
                self.with(node, |raft| raft.trim(Index(floor)));
            }
            _ => {
                self.poll(node);
            }
        }
        if self.rng.below(4) > 0 {
            for node in self.cluster.nodes() {
                self.poll(node);
            }
        }
    }

    /// A message in flight arrives, twice, late or never.
    fn deliver(&mut self) {
        let count = self.cluster.network.len();
        if count == 0 {
            return;
        }
        // Mostly one of the first, so that conversations get somewhere.
        let reach = if self.rng.below(4) == 0 {
            count
        } else {
            count.min(3)
        };
        let place = usize::try_from(self.rng.below(reach as u64)).expect("small");
        let flight = self.cluster.network[place].clone();
        if self.rng.below(10) > 0 {
            self.cluster.network.remove(place);
        }
        if count > 200 {
            self.cluster.network.pop_front();
        }
        if self.rng.below(10) > 0 {
            let now = self.clock(flight.to);
            self.at(now, |cluster| cluster.arrive(flight));
        }
    }

    fn persist(&mut self, node: NodeId) -> bool {
        let now = self.clock(node);
        let done = self.at(now, |cluster| cluster.persist(node));
        for entry in &self.cluster.members[&node].disk.entries {
            self.history.durable.insert((node, entry.id));
        }
        done
    }

    /// Time goes on; what is due fires, sooner or later.
    fn pass(&mut self) {
        let millis = if self.rng.below(30) == 0 { 900 } else { 30 };
        let span = Duration::from_millis(self.rng.below(millis));
        self.cluster.pass(span);
        for node in self.cluster.nodes() {
            let now = self.clock(node);
            self.with(node, |raft| raft.tick(now));
        }
    }

    fn propose(&mut self, node: NodeId) -> bool {
        let now = self.clock(node);
        let is_running = self.cluster.members[&node].raft.is_some();
        is_running && self.at(now, |cluster| cluster.propose(node.0)).is_ok()
    }

    /// A question must see what anybody was told before it was asked.
    fn read(&mut self, node: NodeId) {
        self.requests += 1;
        let (request, floor) = (RequestId(self.requests), self.last_committed());
        let is_running = self.cluster.members[&node].raft.is_some();
        if is_running && self.cluster.read(node.0, self.requests).is_ok() {
            self.asked.insert(request, (node, floor));
        }
    }

    fn crash_or_restart(&mut self, node: NodeId) {
        if self.cluster.members[&node].raft.is_some() {
            self.cluster.crash(node);
            self.asked.retain(|_, (asked, _)| *asked != node);
        } else {
            // Another origin, as after a reboot.
            self.ahead.insert(node, self.rng.below(1 << 46));
            let now = self.clock(node);
            self.at(now, |cluster| cluster.restart(node));
            self.history.terms.remove(&node);
        }
    }

    /// A member that is down loses the end of its log, and knows. One at a time: of every committed
    /// entry the others keep what a quorum needs.
    fn damage(&mut self, node: NodeId) {
        let is_whole = |node: &NodeId| self.cluster.members[node].disk.held.is_none();
        let are_whole = self.cluster.nodes().iter().all(is_whole);
        let voters = self.cluster.configuration.voters.len();
        let member = self.cluster.members.get_mut(&node).expect("a member");
        if member.raft.is_some() || !are_whole || voters < 3 || member.disk.entries.is_empty() {
            return;
        }
        member.disk.held = Some(member.disk.last().index);
        let keep =
            usize::try_from(self.rng.below(member.disk.entries.len() as u64)).expect("small");
        member.disk.entries.truncate(keep);
    }

    fn poll(&mut self, node: NodeId) -> bool {
        let now = self.clock(node);
        let outputs = self.at(now, |cluster| cluster.poll(node));
        for output in &outputs {
            self.check_output(node, output);
        }
        !outputs.is_empty()
    }

    /// All run, all hear each other, and nothing is lost: everyone must agree, and go on.
    fn heal(&mut self) {
        self.cluster.cut.clear();
        self.cluster.network.clear();
        for node in self.cluster.nodes() {
            let now = self.clock(node);
            if self.cluster.members[&node].raft.is_none() {
                self.at(now, |cluster| cluster.restart(node));
                self.history.terms.remove(&node);
            }
            self.with(node, |raft| raft.disk_full(now, false));
        }
        self.go_on(Duration::from_secs(10));
        let nodes = self.cluster.nodes();
        let leader = nodes
            .iter()
            .copied()
            .find(|node| self.cluster.raft(node.0).is_leader());
        let leader = leader.expect("a leader ten election timeouts after all was healed");
        let term = self.cluster.raft(leader.0).hard_state().term;
        // A damaged member is whole again when the log is as long as its own had been.
        let members = self.cluster.members.values();
        let held = members.filter_map(|member| member.disk.held).max();
        while {
            assert!(self.propose(leader), "the leader takes proposals");
            self.go_on(Duration::from_millis(100));
            Some(self.cluster.raft(leader.0).last().index) < held
        } {}
        self.read(leader);
        self.go_on(Duration::from_secs(2));
        let last = self.cluster.raft(leader.0).last();
        assert_eq!(last.index, self.last_committed(), "all is committed");
        assert_eq!(
            self.cluster.raft(leader.0).hard_state().term,
            term,
            "a stable leader"
        );
        assert!(self.asked.is_empty(), "an open question: {:?}", self.asked);
        let start = self.cluster.raft(leader.0).log_start();
        for node in nodes {
            let raft = self.cluster.raft(node.0);
            if raft.last() < start {
                // Its log was lost when the leader thought it had no more use for the entries.
                continue;
            }
            assert_eq!(
                (raft.last(), raft.committed()),
                (last, last.index),
                "{raft} caught up"
            );
            assert_eq!(raft.repairing(), None, "{raft} is whole again");
        }
    }

    /// Everything happens as soon as it can.
    fn go_on(&mut self, span: Duration) {
        let end = self.cluster.now + span;
        while self.cluster.now < end {
            let mut is_busy = true;
            while is_busy {
                is_busy = false;
                for node in self.cluster.nodes() {
                    is_busy |= self.persist(node);
                    is_busy |= self.poll(node);
                }
                for flight in std::mem::take(&mut self.cluster.network) {
                    let now = self.clock(flight.to);
                    self.at(now, |cluster| cluster.arrive(flight));
                    is_busy = true;
                }
                self.check();
            }
            self.cluster.pass(Duration::from_millis(10));
            for node in self.cluster.nodes() {
                let now = self.clock(node);
                self.with(node, |raft| raft.tick(now));
            }
        }
    }

    /// What must hold of what a member says, when it says it (SIMULATION.md R2, R3, R8, R10, R17).
    fn check_output(&mut self, node: NodeId, output: &RaftOutput) {
        match output {
            RaftOutput::Send { message, .. } => self.check_message(node, message),
            RaftOutput::Commit(entries) => {
                for entry in entries.iter() {
                    self.check_committed(node, entry);
                }
            }
            RaftOutput::ReadReady { request, index } => {
                let asked = self.asked.remove(request);
                let (_, floor) = asked.expect("asked, and answered once");
                assert!(
                    *index >= floor,
                    "{request} misses what was committed: {index} < {floor}"
                );
            }
            RaftOutput::ReadLost { request } => {
                assert!(
                    self.asked.remove(request).is_some(),
                    "{request} was not open"
                );
            }
            RaftOutput::Fault { fault, .. } => panic!("{node} accuses an honest peer: {fault}"),
            RaftOutput::Persist(_)
            | RaftOutput::LostLeadership
            | RaftOutput::Refused { .. }
            | RaftOutput::NeedsSnapshot { .. } => {}
        }
    }

    fn check_message(&mut self, node: NodeId, message: &Message) {
        let disk = &self.cluster.members[&node].disk;
        let vote = match &message.body {
            MessageBody::PreVote { .. } | MessageBody::PreVoteReply { granted: true } => return,
            MessageBody::Vote { .. } => Some(node),
            MessageBody::VoteReply { granted: true } => disk.hard_state.vote,
            MessageBody::VoteReply { granted: false }
            | MessageBody::PreVoteReply { granted: false }
            | MessageBody::Append { .. }
            | MessageBody::AppendReply { .. }
            | MessageBody::TimeoutNow
            | MessageBody::Propose { .. }
            | MessageBody::ProposeRefused { .. }
            | MessageBody::ReadIndex { .. }
            | MessageBody::ReadIndexReply { .. } => None,
        };
        assert!(
            disk.hard_state.term >= message.term,
            "{node} may forget {}",
            message.term
        );
        if let Some(vote) = vote {
            let durable = HardState {
                term: message.term,
                vote: Some(vote),
            };
            assert_eq!(disk.hard_state, durable, "{node} may forget its vote");
            let first = *self
                .history
                .votes
                .entry((node, message.term))
                .or_insert(vote);
            assert_eq!(first, vote, "{node} votes twice in {}", message.term);
        }
        if let MessageBody::AppendReply { outcome, .. } = &message.body {
            match *outcome {
                AppendOutcome::Matched { through } => {
                    assert!(
                        disk.last().index >= through,
                        "{node} acknowledges {through} too early"
                    );
                    let raft = self.cluster.raft(node.0);
                    let entry = raft.entry(through).map(|entry| entry.id);
                    assert!(
                        entry.is_none_or(|id| disk.holds(id)),
                        "{node} acknowledges others"
                    );
                    assert_eq!(raft.repairing(), None, "{node} counts before it is whole");
                }
                AppendOutcome::Repairing { through } => {
                    assert!(
                        disk.last().index >= through,
                        "{node} acknowledges {through} too early"
                    );
                }
                AppendOutcome::Conflict { .. } => {}
            }
        }
    }

    fn check_committed(&mut self, node: NodeId, entry: &Entry) {
        let known = self
            .history
            .ledger
            .entry(entry.id.index)
            .or_insert_with(|| entry.clone());
        assert_eq!(known, entry, "{node} commits another entry");
        let voters = &self.cluster.configuration.voters;
        let holders = voters
            .iter()
            .filter(|&&voter| self.history.durable.contains(&(voter, entry.id)));
        assert!(
            2 * holders.count() > voters.len(),
            "{} is not on a quorum of disks",
            entry.id
        );
    }

    /// What must hold between any two steps (Raft figure 3).
    fn check(&mut self) {
        let true_time = ClusterTime(self.cluster.now.0);
        for (&node, member) in &self.cluster.members {
            let Some(raft) = &member.raft else {
                continue;
            };
            let term = raft.hard_state().term;
            let before = self.history.terms.insert(node, term).unwrap_or_default();
            assert!(term >= before, "{raft}: the term goes back from {before}");
            if raft.is_leader() {
                let first = *self.history.leaders.entry(term).or_insert(node);
                assert_eq!(first, node, "two leaders in {term}");
                // Leader Completeness.
                for entry in self
                    .history
                    .ledger
                    .values()
                    .filter(|entry| entry.id.term < term)
                {
                    let own = raft.entry(entry.id.index);
                    let is_trimmed = entry.id.index <= raft.log_start().index;
                    assert!(
                        is_trimmed || own == Some(entry),
                        "{raft} lacks {}",
                        entry.id
                    );
                }
            }
            let mut previous = raft.log_start();
            for entry in log_of(raft) {
                let seen = (previous, entry.clone());
                let known = self
                    .history
                    .entries
                    .entry(entry.id)
                    .or_insert_with(|| seen.clone());
                assert_eq!(*known, seen, "{raft}: one id, two entries");
                assert!(
                    entry.stamp <= true_time,
                    "{} is stamped ahead of true time",
                    entry.id
                );
                previous = entry.id;
            }
            let clock = Instant(self.cluster.now.0 + self.ahead[&node]);
            assert!(
                raft.cluster_time(clock) <= true_time,
                "{raft}: ahead of true time"
            );
        }
    }

    fn last_committed(&self) -> Index {
        self.history
            .ledger
            .last_key_value()
            .map_or(Index::ZERO, |(&index, _)| index)
    }

    fn any_node(&mut self) -> NodeId {
        NodeId(1 + self.rng.below(self.cluster.members.len() as u64))
    }

    /// What `node`'s own clock shows.
    fn clock(&self, node: NodeId) -> Instant {
        Instant(self.cluster.now.0 + self.ahead[&node])
    }

    /// Does something by another clock than the true one.
    fn at<T>(&mut self, clock: Instant, act: impl FnOnce(&mut Cluster) -> T) -> T {
        let now = std::mem::replace(&mut self.cluster.now, clock);
        let result = act(&mut self.cluster);
        self.cluster.now = now;
        result
    }

    fn with(&mut self, node: NodeId, act: impl FnOnce(&mut Raft)) {
        if let Some(raft) = self.cluster.raft_mut(node) {
            act(raft);
        }
    }
}
