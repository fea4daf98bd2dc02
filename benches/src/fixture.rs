//! Commands, stores and replicas to measure.

use std::collections::VecDeque;

use quorate_core::raft::{Message, Status};
use quorate_core::store::{
    Command, Content, Delete, Operation, Path, Put, Scope, Settings, Store, When,
};
use quorate_core::{
    BirthRecord, ClusterTime, Config, DiskId, Duration, Founder, HardState, Index, Input, Instant,
    LogId, NodeId, Opening, Output, Replica, RequestId, Term, WriteSeq,
};

/// Keys in one directory.
pub const DIRECTORY_KEYS: usize = 1000;

/// The path of key number `key`: `/bench/<directory>/<key>`.
#[must_use]
pub fn key(key: usize) -> Path {
    directory(key).child(format!("{key:08}").as_bytes())
}

/// The directory of key number `key`.
#[must_use]
pub fn directory(key: usize) -> Path {
    let directory = format!("{:05}", key / DIRECTORY_KEYS);
    Path::root().child(b"bench").child(directory.as_bytes())
}

/// A command that puts a value of `bytes`.
#[must_use]
pub fn put(path: Path, bytes: usize, ttl: Option<Duration>) -> Command {
    Command {
        client: None,
        operation: Operation::Put(Put {
            path,
            content: Content::Value(vec![b'x'; bytes].into()),
            when: When::Always,
            ttl,
        }),
    }
}

/// A command that removes a directory and all in it.
#[must_use]
pub fn remove(path: Path) -> Command {
    let delete = Delete {
        path,
        scope: Scope::Tree,
    };
    Command {
        client: None,
        operation: Operation::Delete(delete),
    }
}

/// A command that keeps history short, so that a long run measures the same as a short one.
#[must_use]
pub fn short_history() -> Command {
    let settings = Settings {
        history_bytes: 4 << 20,
        slice_bytes: 1 << 20,
        ..Settings::default()
    };
    Command {
        client: None,
        operation: Operation::Configure(settings),
    }
}

/// A store, and the log it applies.
#[derive(Clone, Debug)]
pub struct Applier {
    /// The store.
    pub store: Store,
    last: LogId,
    /// Cluster time.
    pub now: ClusterTime,
}

impl Applier {
    /// A store of `keys` keys of `bytes`, with a short history.
    #[must_use]
    pub fn new(keys: usize, bytes: usize) -> Self {
        let mut applier = Self {
            store: Store::new(),
            last: LogId {
                term: Term(1),
                index: Index::ZERO,
            },
            now: ClusterTime::ZERO,
        };
        applier.apply(&short_history());
        for number in 0..keys {
            applier.apply(&put(key(number), bytes, None));
        }
        applier.checkpoint();
        applier
    }

    /// Applies a command.
    ///
    /// # Panics
    /// Where it is refused.
    pub fn apply(&mut self, command: &Command) {
        let id = self.next();
        let applied = self.store.apply(id, self.now, command);
        applied.expect("a command that is not refused");
    }

    /// Expires at most `limit` of what is due.
    pub fn expire(&mut self, limit: u32) -> u32 {
        let id = self.next();
        self.store.expire(id, self.now, limit, self.now)
    }

    /// Passes all changes to nobody.
    pub fn checkpoint(&mut self) {
        let changes = self.store.take_changes();
        self.store.checkpointed(changes.applied, 1 << 20);
    }

    fn next(&mut self) -> LogId {
        self.last.index = self.last.index.next();
        self.last
    }
}

/// Replicas whose disks and messages take no time.
#[derive(Debug)]
pub struct Cluster {
    replicas: Vec<Replica>,
    letters: VecDeque<(NodeId, NodeId, Message)>,
    now: Instant,
    leader: usize,
    requests: u64,
    replies: usize,
}

impl Cluster {
    /// So many members, of whom one leads.
    #[must_use]
    pub fn new(members: u8) -> Self {
        let founders = (1..=members).map(|disk| Founder {
            name: format!("m{disk}"),
            peer_urls: Vec::new(),
            disk: DiskId(disk.into()),
            key: [disk; 32],
        });
        let birth = BirthRecord::new("bench".into(), founders.collect());
        let nodes: Vec<NodeId> = birth.nodes().map(|(node, _)| node).collect();
        let replicas = nodes.iter().zip(1..).map(|(&node, seed)| {
            let opening = Opening {
                birth: birth.clone(),
                node,
                hard_state: HardState::default(),
                store: Store::new(),
                log_start: LogId::ZERO,
                entries: Vec::new(),
                persisted: WriteSeq::ZERO,
                held: None,
                seed,
            };
            Replica::new(Config::default(), opening, Instant(1))
        });
        let mut cluster = Self {
            replicas: replicas.collect(),
            letters: VecDeque::new(),
            now: Instant(1),
            leader: 0,
            requests: 0,
            replies: 0,
        };
        cluster.elect();
        cluster.run(vec![short_history()]);
        cluster
    }

    /// Proposes `commands` at once and runs until each has its answer.
    ///
    /// # Panics
    /// Where one has none.
    pub fn run(&mut self, commands: Vec<Command>) {
        let expected = self.replies + commands.len();
        for command in commands {
            self.requests += 1;
            let request = RequestId(self.requests);
            let input = Input::Propose { request, command };
            self.replicas[self.leader].step(self.now, input);
        }
        self.settle();
        assert_eq!(self.replies, expected, "an answer is missing");
        // Time passes, or check-quorum would never hear anyone.
        self.now = self.now + Duration::from_micros(10);
    }

    /// The leader.
    #[must_use]
    pub fn status(&self) -> Status {
        self.replicas[self.leader].status()
    }

    fn elect(&mut self) {
        loop {
            self.settle();
            let leads = |replica: &Replica| replica.raft().is_leader();
            if let Some(leader) = self.replicas.iter().position(leads) {
                self.leader = leader;
                return;
            }
            self.now = self.now + Duration::from_millis(10);
        }
    }

    /// Until nobody has anything to do.
    fn settle(&mut self) {
        loop {
            for member in 0..self.replicas.len() {
                while let Some(output) = self.replicas[member].poll(self.now) {
                    self.handle(member, output);
                }
            }
            let Some((from, to, message)) = self.letters.pop_front() else {
                return;
            };
            let receiver = self.replicas.iter_mut().find(|r| r.raft().id() == to);
            let receiver = receiver.expect("messages go to members");
            receiver.step(self.now, Input::Receive { from, message });
        }
    }

    fn handle(&mut self, member: usize, output: Output) {
        let replica = &mut self.replicas[member];
        match output {
            Output::Persist(write) => {
                let through = write.seq;
                replica.step(self.now, Input::Persisted { through });
            }
            Output::Send { to, message } => {
                let from = replica.raft().id();
                self.letters.push_back((from, to, message));
            }
            Output::Checkpoint(changes) => {
                let applied = changes.applied;
                replica.step(self.now, Input::Checkpointed { applied });
            }
            Output::Reply { result, .. } => {
                result.expect("a leader takes proposals");
                self.replies += 1;
            }
            Output::TrimLog { .. }
            | Output::SendSnapshot { .. }
            | Output::DropSnapshot { .. }
            | Output::ReadHistory { .. }
            | Output::Watching { .. }
            | Output::Notify { .. }
            | Output::WatchEnd { .. }
            | Output::Fault { .. } => {}
        }
    }
}
