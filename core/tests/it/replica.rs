//! What the replica adds to Raft and the store: answers, expiry, checkpoints, an orderly end.

use std::collections::BTreeMap;

use quorate_core::store::{
    Body, Changes, Command, Consistency, Content, Filter, Operation, Path, Put, Query, Refusal,
    Store, When,
};
use quorate_core::{
    BirthRecord, Config, DiskId, Duration, EndReason, Founder, HardState, Index, Input, Instant,
    LogId, Opening, Output, Replica, RequestError, RequestId, Revision, WatchId, WriteSeq,
};

/// One member, with a disk and tables that do at once what they are asked.
struct Solo {
    replica: Replica,
    now: Instant,
    /// What the disk and the tables do not do by themselves.
    manual: bool,
    answers: BTreeMap<RequestId, Result<Body, RequestError>>,
    events: Vec<(WatchId, Revision)>,
    ended: Vec<(WatchId, EndReason)>,
    writes: Vec<WriteSeq>,
    checkpoints: Vec<Changes>,
    trimmed: Option<Index>,
    /// How often it had more to do than it did at once.
    turns: u64,
}

impl Solo {
    fn new(config: Config) -> Self {
        let founder = Founder {
            name: "solo".into(),
            peer_urls: vec![],
            disk: DiskId(1),
            key: [0; 32],
        };
        let birth = BirthRecord::new("t".into(), vec![founder]);
        let opening = Opening {
            node: birth.node_of(DiskId(1)).expect("the founder"),
            birth,
            hard_state: HardState::default(),
            store: Store::new(),
            log_start: LogId::ZERO,
            entries: vec![],
            persisted: WriteSeq::ZERO,
            held: None,
            seed: 7,
        };
        let now = Instant(1_000_000);
        let mut solo = Self {
            replica: Replica::new(config, opening, now),
            now,
            manual: false,
            answers: BTreeMap::new(),
            events: vec![],
            ended: vec![],
            writes: vec![],
            checkpoints: vec![],
            trimmed: None,
            turns: 0,
        };
        solo.run();
        assert!(
            solo.replica.raft().is_leader(),
            "the only voter leads at once"
        );
        solo
    }

    fn step(&mut self, input: Input) {
        self.replica.step(self.now, input);
        self.run();
    }

    /// Polls until there is nothing left to do now.
    fn run(&mut self) {
        loop {
            while let Some(output) = self.replica.poll(self.now) {
                self.handle(output);
            }
            if self.replica.deadline().is_none_or(|at| at > self.now) {
                return;
            }
            self.turns += 1;
            self.replica.step(self.now, Input::Deadline);
        }
    }

    fn handle(&mut self, output: Output) {
        match output {
            Output::Persist(write) if self.manual => self.writes.push(write.seq),
            Output::Persist(write) => {
                self.replica
                    .step(self.now, Input::Persisted { through: write.seq });
            }
            Output::Checkpoint(changes) if self.manual => self.checkpoints.push(changes),
            Output::Checkpoint(changes) => {
                let applied = changes.applied;
                self.checkpoints.push(changes);
                self.replica.step(self.now, Input::Checkpointed { applied });
            }
            Output::Reply { request, result } => {
                let before = self
                    .answers
                    .insert(request, result.map(|answer| answer.body));
                assert!(before.is_none(), "{request} was answered twice");
            }
            Output::Notify { watches, event } => {
                self.events
                    .extend(watches.into_iter().map(|watch| (watch, event.id.index())));
            }
            Output::WatchEnd { watch, reason, .. } => self.ended.push((watch, reason)),
            Output::TrimLog { below } => self.trimmed = Some(below),
            Output::Watching { .. } => {}
            Output::Send { .. }
            | Output::SendSnapshot { .. }
            | Output::DropSnapshot { .. }
            | Output::ReadHistory { .. }
            | Output::Fault { .. } => {
                panic!("a member on its own does not: {output:?}")
            }
        }
    }

    /// Lets time pass, stopping at every deadline on the way.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(at) = self.replica.deadline().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.replica.step(self.now, Input::Deadline);
            self.run();
        }
        self.now = end;
    }

    fn put(&mut self, request: u64, path: &str, ttl: Option<Duration>) {
        let put = Put {
            path: Path::new(path.as_bytes()).expect("a clean path"),
            content: Content::Value("v".into()),
            when: When::Always,
            ttl,
        };
        let command = Command {
            client: None,
            operation: Operation::Put(put),
        };
        self.step(Input::Propose {
            request: RequestId(request),
            command,
        });
    }

    fn get(&mut self, request: u64, path: &str, consistency: Consistency) {
        let path = Path::new(path.as_bytes()).expect("a clean path");
        let query = Query {
            path,
            recursive: false,
            consistency,
        };
        self.step(Input::Read {
            request: RequestId(request),
            query,
        });
    }

    fn changed_at(&self, request: u64) -> Revision {
        match self.answers.get(&RequestId(request)) {
            Some(Ok(Body::Changed(event))) => event.id.index(),
            other => panic!("r{request} was not a change: {other:?}"),
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_write_is_answered_only_when_it_is_on_disk() {
    let mut solo = Solo::new(Config::default());
    solo.pass(SECOND);
    solo.manual = true;
    solo.put(1, "/a", None);
    solo.put(2, "/b", None);
    assert_eq!(solo.writes.len(), 1, "one batch in flight");
    assert!(solo.answers.is_empty());
    solo.step(Input::Persisted {
        through: solo.writes[0],
    });
    assert_eq!(solo.changed_at(1), Revision(1));
    assert_eq!(solo.answers.len(), 1, "the second is in the next batch");
    solo.step(Input::Persisted {
        through: solo.writes[1],
    });
    assert_eq!(solo.changed_at(2), Revision(2));
}

#[test]
fn a_linearizable_read_sees_what_was_answered_and_waits_for_what_it_must() {
    let mut solo = Solo::new(Config::default());
    solo.put(1, "/a", None);
    solo.get(2, "/a", Consistency::Linearizable);
    assert!(matches!(solo.answers[&RequestId(2)], Ok(Body::Found(_))));
    solo.get(
        3,
        "/b",
        Consistency::Local {
            at_least: Revision(2),
        },
    );
    assert!(
        !solo.answers.contains_key(&RequestId(3)),
        "revision 2 is still to come"
    );
    solo.get(
        4,
        "/b",
        Consistency::Local {
            at_least: Revision(2),
        },
    );
    solo.step(Input::Cancel {
        request: RequestId(4),
    });
    solo.put(5, "/b", None);
    assert!(matches!(solo.answers[&RequestId(3)], Ok(Body::Found(_))));
    let given_up = solo.answers[&RequestId(4)].clone();
    assert_eq!(given_up, Err(RequestError::Dropped), "nobody waits for it");
}

#[test]
fn what_is_due_together_goes_in_one_entry_and_never_early() {
    let mut solo = Solo::new(Config::default());
    for n in 0..20 {
        solo.put(n, &format!("/k{n}"), Some(SECOND));
    }
    let filter = Filter {
        path: Path::root(),
        recursive: true,
    };
    solo.step(Input::Watch {
        watch: WatchId(1),
        filter,
        since: None,
        credit: 100,
    });
    let before = solo.replica.status().applied.index;
    solo.pass(SECOND);
    assert!(
        solo.events.is_empty(),
        "the deadline counts time that has certainly passed"
    );
    solo.pass(Duration::from_millis(200));
    assert_eq!(solo.events.len(), 20);
    let entries = solo.replica.status().applied.index.0 - before.0;
    assert_eq!(entries, 1, "twenty keys, one entry");
    solo.get(99, "/k0", Consistency::Linearizable);
    let gone = &solo.answers[&RequestId(99)];
    assert!(
        matches!(gone, Err(RequestError::Store { error, .. })
            if matches!(error.reason, Refusal::NotFound(_))),
        "{gone:?}"
    );
}

#[test]
fn a_slow_disk_makes_nothing_expire_early_for_who_counts_from_the_answer() {
    const SYNC: Duration = Duration::from_millis(150);
    let mut solo = Solo::new(Config::default());
    solo.pass(SECOND);
    solo.put(1, "/quick", Some(SECOND + 3 * SYNC));
    solo.manual = true;
    solo.put(2, "/slow", Some(SECOND));
    let seq = solo.writes[0];
    solo.pass(SYNC);
    solo.step(Input::Persisted { through: seq });
    assert!(solo.answers.contains_key(&RequestId(2)), "answered now");
    solo.manual = false;
    solo.pass(SECOND);
    assert_eq!(solo.replica.store().key_count(), 2, "a second later");
    solo.pass(Duration::from_millis(150));
    assert_eq!(solo.replica.store().key_count(), 1, "not the other's turn");
    solo.pass(Duration::from_millis(250));
    assert_eq!(solo.replica.store().key_count(), 0);
}

#[test]
fn more_than_an_entry_may_remove_goes_on_without_a_pause() {
    let mut solo = Solo::new(Config {
        expiry_batch_max: 3,
        ..Config::default()
    });
    for n in 0..10 {
        solo.put(n, &format!("/k{n}"), Some(SECOND));
    }
    solo.pass(Duration::from_millis(1102));
    assert_eq!(solo.replica.store().key_count(), 0);
    assert_eq!(solo.replica.store().revision(), Revision(20));
}

#[test]
fn a_checkpoint_comes_by_bytes_and_the_log_is_trimmed_below_it() {
    let config = Config {
        checkpoint_bytes: 2000,
        log_bytes_max: 1,
        ..Config::default()
    };
    let mut solo = Solo::new(config);
    for n in 0..100 {
        solo.put(n, &format!("/k{n}"), None);
    }
    assert!(
        solo.checkpoints.len() >= 2,
        "{} checkpoints",
        solo.checkpoints.len()
    );
    let last = solo.checkpoints.last().expect("there are some").applied;
    assert_eq!(solo.trimmed, Some(last.index.next()));
    assert_eq!(solo.replica.status().checkpointed, last);
}

/// All at once it would keep a member from everything else for long.
#[test]
fn what_a_checkpoint_makes_needless_is_forgotten_in_steps() {
    let mut solo = Solo::new(Config {
        checkpoint_bytes: 2_000_000,
        log_bytes_max: 1,
        ..Config::default()
    });
    let mut puts = 0;
    while solo.checkpoints.is_empty() {
        puts += 1;
        solo.put(puts, "/k", None);
    }
    let last = solo.checkpoints[0].applied;
    assert!(last.index > Index(5000), "{last}");
    assert!(solo.turns >= last.index.0 / 1000, "in {} turns", solo.turns);
    assert_eq!(solo.trimmed, Some(last.index.next()));
}

#[test]
fn a_failed_checkpoint_gives_its_changes_back() {
    let mut solo = Solo::new(Config::default());
    solo.manual = true;
    solo.put(1, "/a", None);
    let seq = solo.writes[solo.writes.len() - 1];
    solo.step(Input::Persisted { through: seq });
    solo.pass(Duration::from_secs(301));
    let changes = solo.checkpoints.pop().expect("due by age");
    let rows = changes.rows.len();
    solo.step(Input::CheckpointFailed { changes });
    assert!(solo.checkpoints.is_empty(), "not again at once");
    solo.pass(Duration::from_secs(2));
    assert!(solo.checkpoints.pop().expect("tried again").rows.len() >= rows);
}

#[test]
fn shutting_down_refuses_the_new_and_finishes_the_old() {
    let mut solo = Solo::new(Config::default());
    let filter = Filter {
        path: Path::root(),
        recursive: true,
    };
    solo.step(Input::Watch {
        watch: WatchId(1),
        filter: filter.clone(),
        since: None,
        credit: 1,
    });
    solo.get(
        8,
        "/a",
        Consistency::Local {
            at_least: Revision(9),
        },
    );
    solo.pass(SECOND);
    solo.manual = true;
    solo.put(1, "/a", None);
    solo.step(Input::Shutdown);
    assert_eq!(solo.ended, [(WatchId(1), EndReason::Stopping)]);
    assert_eq!(solo.answers[&RequestId(8)], Err(RequestError::Stopping));
    solo.put(2, "/b", None);
    assert_eq!(solo.answers[&RequestId(2)], Err(RequestError::Stopping));
    solo.step(Input::Watch {
        watch: WatchId(2),
        filter,
        since: None,
        credit: 1,
    });
    assert_eq!(solo.ended.len(), 2);
    assert!(!solo.replica.is_finished(), "a write is on its way");

    while let Some(seq) = solo.writes.pop() {
        solo.step(Input::Persisted { through: seq });
    }
    assert_eq!(solo.changed_at(1), Revision(1), "begun before the end");
    assert!(!solo.replica.is_finished(), "a last checkpoint");
    let applied = solo.checkpoints.pop().expect("a last checkpoint").applied;
    solo.step(Input::Checkpointed { applied });
    assert!(solo.replica.is_finished());
}

/// A driver has forgotten a watch that it gave up, refused or not: its name may be in use again.
#[test]
fn a_watcher_that_left_before_a_stopping_member_refused_it_is_told_nothing() {
    let mut solo = Solo::new(Config::default());
    solo.step(Input::Shutdown);
    for watch in [WatchId(1), WatchId(2)] {
        let filter = Filter {
            path: Path::root(),
            recursive: true,
        };
        let input = Input::Watch {
            watch,
            filter,
            since: None,
            credit: 1,
        };
        solo.replica.step(solo.now, input);
    }
    solo.step(Input::Unwatch { watch: WatchId(1) });
    assert_eq!(solo.ended, [(WatchId(2), EndReason::Stopping)]);
}
