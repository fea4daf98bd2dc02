//! One replica among three, in a conversation with its disk and with peers that the test plays.

use quorate_core::raft::{AppendOutcome, Entry, Forwarded, Message, MessageBody, Payload};
use quorate_core::store::{Command, Content, Filter, Operation, Path, Put, Store, When};
use quorate_core::{
    BirthRecord, ClusterTime, Config, DiskId, Duration, Founder, HardState, Index, Input, Instant,
    LogId, NodeId, Opening, Output, Replica, RequestError, RequestId, Term, WatchId, Write,
    WriteSeq,
};

/// A member and the world around it.
pub(crate) struct World {
    pub(crate) birth: BirthRecord,
    pub(crate) replica: Replica,
    pub(crate) now: Instant,
    /// Whether writes reach the disk at once.
    pub(crate) disk: bool,
    pub(crate) outputs: Vec<Output>,
}

impl World {
    /// Member 0 of `members`, as `open` leaves its disk.
    pub(crate) fn open(members: u8, open: impl FnOnce(&mut Opening)) -> Self {
        let founders = (0..members).map(|number| Founder {
            name: format!("n{number}"),
            peer_urls: vec![],
            disk: DiskId(u128::from(number)),
            key: [number; 32],
        });
        let birth = BirthRecord::new("test".into(), founders.collect());
        let mut opening = Opening {
            node: birth.node_of(DiskId(0)).expect("a founder"),
            birth: birth.clone(),
            hard_state: HardState::default(),
            store: Store::new(),
            log_start: LogId::ZERO,
            entries: vec![],
            persisted: WriteSeq::ZERO,
            held: None,
            seed: 1,
        };
        open(&mut opening);
        let now = Instant::default() + Duration::from_secs(1000);
        Self {
            birth,
            replica: Replica::new(Config::default(), opening, now),
            now,
            disk: true,
            outputs: vec![],
        }
    }

    /// Member 0 of three, which leads term 1 and has committed its first entry.
    pub(crate) fn leader() -> Self {
        Self::leader_of(3)
    }

    /// The same, of so many.
    pub(crate) fn leader_of(members: u8) -> Self {
        let mut world = Self::open(members, |_| {});
        world.poll();
        let voters: Vec<_> = (1..=members / 2).collect();
        world.elect(&voters, 1);
        for voter in voters {
            world.matched(voter, 1, 1);
        }
        assert_eq!(world.replica.status().committed, Index(1));
        world
    }

    /// Waits for the longest of election timeouts; these members let this one lead `term`.
    pub(crate) fn elect(&mut self, voters: &[u8], term: u64) {
        self.now = self.now + 2 * Config::default().election_timeout;
        for body in [
            MessageBody::PreVoteReply { granted: true },
            MessageBody::VoteReply { granted: true },
        ] {
            self.poll();
            for &voter in voters {
                self.receive(voter, term, body.clone());
            }
        }
        self.poll();
        assert!(self.replica.raft().is_leader());
    }

    /// Member `from` has this leader's log through `through`.
    pub(crate) fn matched(&mut self, from: u8, term: u64, through: u64) {
        let through = Index(through);
        let outcome = AppendOutcome::Matched { through };
        self.receive(from, term, MessageBody::AppendReply { outcome, round: 0 });
        self.poll();
    }

    pub(crate) fn node(&self, number: u8) -> NodeId {
        self.birth
            .node_of(DiskId(u128::from(number)))
            .expect("one of the founders")
    }

    pub(crate) fn step(&mut self, input: Input) {
        self.replica.step(self.now, input);
    }

    /// A message of member `from`.
    pub(crate) fn receive(&mut self, from: u8, term: u64, body: MessageBody) {
        let message = Message {
            birth: self.birth.hash(),
            from_disk: DiskId(u128::from(from)),
            to_disk: DiskId(0),
            term: Term(term),
            body,
        };
        let from = self.node(from);
        self.step(Input::Receive { from, message });
    }

    pub(crate) fn propose(&mut self, request: u64, command: Command) {
        let request = RequestId(request);
        self.step(Input::Propose { request, command });
    }

    /// Until it has nothing more to say.
    pub(crate) fn poll(&mut self) {
        while let Some(output) = self.replica.poll(self.now) {
            if let (Output::Persist(write), true) = (&output, self.disk) {
                let through = write.seq;
                self.step(Input::Persisted { through });
            }
            if let Output::Checkpoint(changes) = &output {
                let applied = changes.applied;
                self.step(Input::Checkpointed { applied });
            }
            self.outputs.push(output);
        }
    }

    pub(crate) fn writes(&self) -> impl Iterator<Item = &Write> {
        self.outputs.iter().filter_map(|output| {
            let Output::Persist(write) = output else {
                return None;
            };
            Some(write)
        })
    }

    pub(crate) fn sent(&self) -> impl Iterator<Item = &Message> {
        self.outputs.iter().filter_map(|output| {
            let Output::Send { message, .. } = output else {
                return None;
            };
            Some(message)
        })
    }

    /// The requests of clients in the last message that passed some on.
    pub(crate) fn passed_on(&self) -> Vec<Forwarded> {
        let requests = self.sent().filter_map(|message| {
            let MessageBody::Propose { requests } = &message.body else {
                return None;
            };
            Some(requests.clone())
        });
        requests.last().unwrap_or_default()
    }

    pub(crate) fn replies(&self) -> impl Iterator<Item = (RequestId, Result<(), &RequestError>)> {
        self.outputs.iter().filter_map(|output| {
            let Output::Reply { request, result } = output else {
                return None;
            };
            Some((*request, result.as_ref().map(|_| ())))
        })
    }

    pub(crate) fn faults(&self) -> usize {
        self.outputs
            .iter()
            .filter(|output| matches!(output, Output::Fault { .. }))
            .count()
    }
}

pub(crate) fn id(index: u64, term: u64) -> LogId {
    LogId {
        term: Term(term),
        index: Index(index),
    }
}

pub(crate) fn set(path: &str, ttl: Option<Duration>) -> Command {
    let put = Put {
        path: Path::new(path.as_bytes()).expect("a clean path"),
        content: Content::Value("x".into()),
        when: When::Always,
        ttl,
    };
    Command {
        client: None,
        operation: Operation::Put(put),
    }
}

pub(crate) fn entry(index: u64, term: u64) -> Entry {
    Entry {
        id: id(index, term),
        stamp: ClusterTime(index << 40),
        payload: Payload::Command(set("/a", None).into()),
    }
}

pub(crate) fn append(previous: LogId, entries: Vec<Entry>, committed: u64) -> MessageBody {
    MessageBody::Append {
        previous,
        entries: entries.into(),
        committed: Index(committed),
        round: 0,
    }
}

/// The log on disk begins where a segment does, which is below what the tables hold.
#[test]
fn a_log_may_begin_below_what_the_tables_hold() {
    let world = World::open(3, |opening| {
        opening.entries = (1..=4).map(|index| entry(index, 1)).collect();
        opening.hard_state.term = Term(1);
        for entry in &opening.entries[..3] {
            let Payload::Command(command) = &entry.payload else {
                unreachable!("only commands");
            };
            let applied = opening.store.apply(entry.id, entry.stamp, command);
            applied.expect("a set succeeds");
        }
    });
    let status = world.replica.status();
    assert_eq!((status.applied, status.last), (id(3, 1), id(4, 1)));
    assert_eq!(status.clock, ClusterTime(3 << 40));
}

/// A checkpoint can be durable before the term of its last entry is: everything may be applied as
/// soon as a majority holds it.
#[test]
fn the_tables_may_know_a_later_term_than_the_log() {
    let mut world = World::open(3, |opening| {
        opening.store.skip(id(1, 5), ClusterTime(1));
        opening.log_start = id(1, 5);
        opening.hard_state = HardState {
            term: Term(4),
            vote: Some(NodeId(9)),
        };
    });
    world.poll();
    let state = HardState {
        term: Term(5),
        vote: None,
    };
    let write = world.writes().next().expect("the term is written");
    assert_eq!(write.hard_state, state, "the vote was one of term 4");
}

/// One message can depose a leader, replace what it proposed and commit that.
#[test]
fn what_takes_the_place_of_a_proposal_does_not_answer_it() {
    let mut world = World::leader();
    world.propose(1, set("/mine", None));
    world.poll();
    world.receive(2, 2, append(id(1, 1), vec![entry(2, 2)], 2));
    world.poll();
    assert_eq!(world.replies().count(), 0);
    assert_eq!(world.replica.status().applied, id(2, 2));
    assert_eq!(world.passed_on().len(), 1, "it goes to the next leader");
}

/// What was committed before leadership went is answered, however late that is polled.
#[test]
fn what_was_committed_before_leadership_was_lost_is_answered() {
    let mut world = World::leader();
    world.propose(1, set("/mine", None));
    world.propose(2, set("/lost", None));
    world.poll();
    let outcome = AppendOutcome::Matched { through: Index(2) };
    world.receive(1, 1, MessageBody::AppendReply { outcome, round: 0 });
    world.receive(2, 2, append(id(2, 1), vec![entry(3, 2)], 3));
    world.poll();
    let replies: Vec<_> = world.replies().collect();
    assert_eq!(replies, [(RequestId(1), Ok(()))]);
    assert_eq!(world.passed_on().len(), 1);
}

/// What a dead leader left is told to nobody before the next one commits it, and so counts from
/// there.
#[test]
fn a_new_leader_grants_anew_what_it_may_be_the_first_to_commit() {
    let ttl = Duration::from_secs(60);
    let entry_with = |index, seconds: u64, command: Command| Entry {
        id: id(index, 1),
        stamp: ClusterTime(seconds * 1_000_000_000),
        payload: Payload::Command(command.into()),
    };
    let mut world = World::open(3, |_| {});
    let entries = vec![
        entry_with(1, 10, set("/told", Some(ttl))),
        entry_with(2, 10, set("/plain", None)),
        entry_with(3, 10, set("/long-ago", Some(ttl))),
        entry_with(4, 19, set("/first", Some(ttl))),
        entry_with(5, 20, set("/second", Some(ttl))),
    ];
    world.receive(1, 1, append(LogId::ZERO, entries, 1));
    world.poll();
    world.elect(&[2], 2);
    world.matched(2, 2, 6);
    let raft = world.replica.raft();
    let opening = raft.entry(Index(6)).expect("its first entry").clone();
    let since = ClusterTime(19_000_000_000);
    assert_eq!(opening.payload, Payload::Renew { since });
    let store = world.replica.store();
    let left = |path: &str| {
        let path = Path::new(path.as_bytes()).expect("a clean path");
        let lease = store.get(&path, false).expect("it is there").node.lease;
        lease.expect("it has one").deadline.since(opening.stamp)
    };
    assert_eq!((left("/first"), left("/second")), (ttl, ttl));
    assert!(left("/told") < ttl && left("/long-ago") < ttl);
}

/// An `Expire` that was proposed for another node comes after it in the log.
#[test]
fn what_is_not_answered_yet_is_not_due() {
    let mut world = World::leader();
    let begun = world.now;
    let at = |millis| begun + Duration::from_millis(millis);
    world.propose(1, set("/old", Some(Duration::from_millis(1000))));
    world.poll();
    world.matched(1, 1, 2);
    world.now = at(500);
    world.propose(2, set("/new", Some(Duration::from_millis(400))));
    world.poll();
    // A heartbeat is answered, but what is new is not on that disk yet.
    world.matched(1, 1, 2);
    world.now = at(1100);
    world.poll();
    assert!(world.replica.raft().is_leader());
    world.matched(1, 1, world.replica.status().last.index.0);
    assert_eq!(world.replica.store().key_count(), 2, "just answered");
    let mut gone = vec![];
    while world.replica.store().key_count() > 0 {
        world.now = world.now + Duration::from_millis(50);
        world.poll();
        world.matched(1, 1, world.replica.status().last.index.0);
        gone.resize(2 - world.replica.store().key_count(), world.now);
    }
    assert!(
        gone[0] >= at(1100 + 400),
        "before its time since the answer"
    );
}

#[test]
fn a_new_leader_grants_nothing_where_nothing_was_left() {
    let mut world = World::open(3, |_| {});
    let entries = vec![entry(1, 1), entry(2, 1)];
    world.receive(1, 1, append(LogId::ZERO, entries, 1));
    world.poll();
    world.elect(&[2], 2);
    let opening = world
        .replica
        .raft()
        .entry(Index(3))
        .expect("its first entry");
    assert_eq!(opening.payload, Payload::Empty);
}

#[test]
fn a_stopping_member_does_not_wait_for_what_it_will_not_do() {
    let mut world = World::open(1, |_| {});
    world.poll();
    world.propose(1, set("/a", Some(Duration::ZERO)));
    world.disk = false;
    world.poll();
    let through = WriteSeq(3);
    world.step(Input::Persisted { through });
    world.step(Input::Shutdown);
    world.poll();
    assert_eq!(world.replica.store().key_count(), 1, "due, and still there");
    let deadline = world.replica.deadline();
    assert!(deadline > Some(world.now), "spins: {deadline:?}");
}

#[test]
fn a_stopping_member_does_not_campaign_on_votes_it_asked_for_before() {
    let mut world = World::open(3, |_| {});
    world.poll();
    world.now = world.replica.deadline().expect("an election timeout");
    world.poll();
    world.step(Input::Shutdown);
    world.receive(1, 1, MessageBody::PreVoteReply { granted: true });
    world.poll();
    assert_eq!(world.replica.status().term, Term::ZERO);
}

#[test]
fn a_stopping_member_first_ends_its_watches() {
    let mut world = World::open(1, |_| {});
    for _ in 0..3 {
        // The election, the seal, the checkpoint.
        world.poll();
        world.now = world.now + Duration::from_secs(400);
    }
    let filter = Filter {
        path: Path::root(),
        recursive: true,
    };
    world.step(Input::Watch {
        watch: WatchId(1),
        filter,
        since: None,
        credit: 1,
    });
    world.poll();
    world.step(Input::Shutdown);
    assert!(!world.replica.is_finished(), "nobody was told");
    world.poll();
    assert!(world.replica.is_finished());
    assert!(matches!(
        world.outputs.last(),
        Some(Output::WatchEnd { .. })
    ));
}

#[test]
fn a_stopping_follower_comes_to_rest_under_load() {
    let mut world = World::open(3, |_| {});
    world.receive(1, 1, append(LogId::ZERO, vec![entry(1, 1)], 0));
    world.poll();
    world.step(Input::Shutdown);
    world.disk = false;
    for index in 2..=9 {
        world.now = world.now + Duration::from_millis(50);
        let entry = vec![entry(index, 1)];
        world.receive(1, 1, append(id(index - 1, 1), entry, index - 1));
        world.poll();
        let through = world.writes().last().expect("the first entry").seq;
        world.step(Input::Persisted { through });
    }
    world.poll();
    assert!(world.replica.is_finished());
}

/// No honest peer answers what has not left yet; a majority of others must not make a leader of one
/// whose own term may be forgotten.
#[test]
fn votes_for_a_question_not_yet_asked_do_not_count() {
    let mut world = World::open(3, |_| {});
    world.poll();
    world.now = world.replica.deadline().expect("an election timeout");
    world.poll();
    world.disk = false;
    world.receive(1, 1, MessageBody::PreVoteReply { granted: true });
    world.receive(1, 1, MessageBody::VoteReply { granted: true });
    world.receive(2, 1, MessageBody::VoteReply { granted: true });
    world.poll();
    assert_eq!(world.replica.status().leader, None);
    assert_eq!(world.faults(), 2);
}

/// Who refused a question of an older term says so in its own, later term: that is no lie, and not
/// its answer to the question of this term.
#[test]
fn a_refusal_of_an_older_question_is_no_fault() {
    let mut world = World::open(3, |_| {});
    world.poll();
    world.now = world.replica.deadline().expect("an election timeout");
    world.poll();
    world.disk = false;
    world.receive(1, 1, MessageBody::PreVoteReply { granted: true });
    world.receive(1, 1, MessageBody::VoteReply { granted: false });
    world.poll();
    assert_eq!(world.faults(), 0);
    world.disk = true;
    world.step(Input::Persisted {
        through: WriteSeq(1),
    });
    world.receive(1, 1, MessageBody::VoteReply { granted: false });
    world.receive(1, 1, MessageBody::VoteReply { granted: true });
    world.poll();
    let status = world.replica.status();
    assert_eq!((world.faults(), status.leader), (0, Some(status.id)));
}

/// Its refusal may arrive when that leader leads again, with a shorter log.
#[test]
fn an_old_leader_is_refused_at_a_place_that_any_leader_has() {
    let mut world = World::open(3, |opening| opening.hard_state.term = Term(7));
    world.receive(1, 3, append(id(40, 2), vec![], 0));
    world.poll();
    let refused = AppendOutcome::Conflict {
        refused: Index(1),
        hint: LogId::ZERO,
    };
    let answer = world.sent().find(|message| message.term == Term(7));
    let expected = MessageBody::AppendReply {
        outcome: refused,
        round: 0,
    };
    assert_eq!(answer.map(|message| &message.body), Some(&expected));
}
