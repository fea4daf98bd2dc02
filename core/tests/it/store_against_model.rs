//! The store against the reference model, on random entries: answers, events, reads, expiry, the
//! history window, watches over a hub that lags, reads slices back and is moved to reloaded stores;
//! and after every entry the hash against its own slow recomputation.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use quorate_core::store::{
    Append, Changes, ClientRequest, Command, Compare, Content, Delete, Event, Filter, HistoryLost,
    Operation, Path, Put, Scope, Settings, SliceEvents, SliceId, Store, Value, WatchOutput,
    Watches, When,
};
use quorate_core::{
    ClusterTime, Duration, EndReason, Index, LogId, NodeId, Revision, Term, WatchId,
};

use crate::model::Model;

/// Events looked at in one poll; low, so that watches take turns.
const SCAN_MAX: usize = 3;
const WATCHES_MAX: usize = 6;

#[derive(Clone, Debug)]
enum Step {
    Apply(Command),
    /// So many at most, and so many nanoseconds before the stamp.
    Expire(u32, u64),
    Skip,
    Get(Path, bool),
    /// Begins so far back from now, or ahead of it where negative.
    Open(Filter, Option<i64>, u32),
    Credit(usize, u32),
    Unwatch(usize),
    /// Begins a checkpoint, unless one is in flight.
    Take,
    /// Ends it. `written` and `told`: it may be on disk and yet come back as failed.
    Settle {
        written: bool,
        told: bool,
    },
    /// Goes on from what is on disk.
    Reload,
    /// A slice cannot be read.
    Lose,
}

fn names() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "ab", "_h", "a!"])
}

fn path() -> impl Strategy<Value = Path> {
    let below_root = vec(names(), 1..4).prop_map(|names| {
        let start = Path::root();
        names
            .iter()
            .fold(start, |path, name| path.child(name.as_bytes()))
    });
    prop_oneof![1 => Just(Path::root()), 30 => below_root]
}

fn value() -> impl Strategy<Value = Value> {
    select(vec!["", "x", "y"]).prop_map(Value::from)
}

fn ttl() -> impl Strategy<Value = Option<Duration>> {
    let some = select(vec![0, 1, 2, 5, 5]).prop_map(|s| Some(Duration::from_secs(s)));
    prop_oneof![2 => Just(None), 1 => some]
}

fn compare() -> impl Strategy<Value = Compare> {
    let modified = proptest::option::of((1_u64..40).prop_map(Revision));
    (proptest::option::of(value()), modified)
        .prop_map(|(value, modified)| Compare { value, modified })
}

fn put() -> impl Strategy<Value = Put> {
    let content = prop_oneof![
        4 => value().prop_map(Content::Value),
        1 => Just(Content::Directory),
        2 => Just(Content::Kept),
    ];
    let when = prop_oneof![
        4 => Just(When::Always),
        2 => Just(When::Missing),
        3 => Just(When::Exists),
        2 => compare().prop_map(When::Matches),
    ];
    (path(), content, when, ttl()).prop_map(|(path, content, when, ttl)| Put {
        path,
        content,
        when,
        ttl,
    })
}

fn delete() -> impl Strategy<Value = Delete> {
    let scope = prop_oneof![
        Just(Scope::Key),
        Just(Scope::EmptyDirectory),
        Just(Scope::Tree),
        compare().prop_map(Scope::Matches),
    ];
    (path(), scope).prop_map(|(path, scope)| Delete { path, scope })
}

fn settings() -> impl Strategy<Value = Settings> {
    let events = select(vec![0, 3, 20]);
    let slice = select(vec![1, 300, 1500]);
    let request_age = select(vec![3, 600]).prop_map(Duration::from_secs);
    (events, slice, request_age, select(vec![0, 2, 100])).prop_map(
        |(history_events, slice_bytes, request_age, requests_max)| Settings {
            history_events,
            slice_bytes,
            request_age,
            requests_max,
            ..Settings::default()
        },
    )
}

fn operation() -> impl Strategy<Value = Operation> {
    let append = (path(), proptest::option::of(value()), ttl());
    let append = append.prop_map(|(directory, value, ttl)| Append {
        directory,
        value,
        ttl,
    });
    prop_oneof![
        20 => put().prop_map(Operation::Put),
        8 => delete().prop_map(Operation::Delete),
        3 => append.prop_map(Operation::Append),
        1 => settings().prop_map(Operation::Configure),
    ]
}

fn client() -> impl Strategy<Value = Option<ClientRequest>> {
    let opaque = select(vec!["p", "q"]).prop_map(|id| ClientRequest::Opaque(Value::from(id)));
    let numbered = (0..2_u64, 0..6_u64, 0..7_u64).prop_map(|(client, sequence, acked)| {
        ClientRequest::Numbered {
            client,
            sequence,
            acked,
        }
    });
    prop_oneof![
        6 => Just(None),
        1 => opaque.prop_map(Some),
        2 => numbered.prop_map(Some),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let command = (client(), operation());
    let command = command.prop_map(|(client, operation)| Command { client, operation });
    let filter = (path(), any::<bool>());
    let filter = filter.prop_map(|(path, recursive)| Filter { path, recursive });
    prop_oneof![
        30 => command.prop_map(Step::Apply),
        3 => (0..4_u32, 0..3_000_000_000_u64).prop_map(|(limit, early)| Step::Expire(limit, early)),
        1 => Just(Step::Skip),
        5 => (path(), any::<bool>()).prop_map(|(path, recursive)| Step::Get(path, recursive)),
        3 => (filter, proptest::option::of(-3..30_i64), 0..4_u32)
            .prop_map(|(filter, back, credit)| Step::Open(filter, back, credit)),
        4 => (0..WATCHES_MAX, 1..5_u32).prop_map(|(watch, events)| Step::Credit(watch, events)),
        1 => (0..WATCHES_MAX).prop_map(Step::Unwatch),
        3 => Just(Step::Take),
        3 => (any::<bool>(), any::<bool>())
            .prop_map(|(written, told)| Step::Settle { written, told }),
        1 => Just(Step::Reload),
        1 => Just(Step::Lose),
    ]
}

/// What a watch was told, against what it should have been.
struct Watched {
    filter: Filter,
    since: Revision,
    credit: u32,
    got: Vec<Event>,
}

/// A member's store and hub, its disk, and the model.
struct World {
    store: Store,
    watches: Watches,
    model: Model,
    tables: BTreeMap<Vec<u8>, Vec<u8>>,
    slices: BTreeMap<SliceId, SliceEvents>,
    in_flight: Option<Changes>,
    watched: BTreeMap<WatchId, Watched>,
    next_watch: u64,
    asked: Vec<SliceId>,
    lose: bool,
}

impl World {
    fn new() -> Self {
        let mut store = Store::new();
        let watches = Watches::new(WATCHES_MAX, SCAN_MAX, &store);
        let mut world = Self {
            model: Model::new(),
            tables: BTreeMap::new(),
            slices: BTreeMap::new(),
            in_flight: None,
            watched: BTreeMap::new(),
            next_watch: 0,
            asked: Vec::new(),
            lose: false,
            watches,
            store: store.clone(),
        };
        let changes = store.take_changes();
        world.write(&changes);
        world.store = store;
        world
    }

    fn step(&mut self, seconds: u64, step: Step) {
        let stamp = self.store.clock() + Duration::from_secs(seconds);
        let id = LogId {
            term: Term(1),
            index: self.store.applied().index.next(),
        };
        match step {
            Step::Apply(command) => {
                let expected = self.model.apply(stamp, &command);
                let found = self.store.apply(id, stamp, &command);
                let found =
                    found.map(|it| (it.event.map(|e| (*e).clone()), it.revision, it.replay));
                assert_eq!(found, expected, "{command:?}");
            }
            Step::Expire(limit, early) => {
                let until = ClusterTime(stamp.0.saturating_sub(early));
                assert_eq!(
                    self.store.expire(id, stamp, limit, until),
                    self.model.expire(stamp, limit, until)
                );
            }
            Step::Skip => {
                self.store.skip(id, stamp);
                self.model.skip(stamp);
            }
            Step::Get(path, recursive) => {
                let expected = self.model.get(&path, recursive);
                assert_eq!(self.store.get(&path, recursive), expected);
            }
            Step::Open(filter, back, credit) => self.open(filter, back, credit),
            Step::Credit(nth, events) => {
                if let Some((&watch, watched)) = self.watched.iter_mut().nth(nth) {
                    watched.credit += events;
                    self.watches.credit(&self.store, watch, events);
                }
            }
            Step::Unwatch(nth) => {
                if let Some((&watch, _)) = self.watched.iter().nth(nth) {
                    self.watched.remove(&watch);
                    self.watches.unwatch(watch);
                }
            }
            Step::Take => self.take(),
            Step::Settle { written, told } => self.settle(written, told),
            Step::Reload => self.reload(),
            Step::Lose => self.lose = true,
        }
        self.check();
        self.drain();
        self.lose = false;
    }

    fn open(&mut self, filter: Filter, back: Option<i64>, credit: u32) {
        self.next_watch += 1;
        let watch = WatchId(self.next_watch);
        let now = self.store.revision();
        let since = back.map(|back| Revision(now.0.saturating_add_signed(1 - back)));
        let start = since.unwrap_or(now.next());
        self.watches
            .open(&self.store, watch, filter.clone(), since, credit);
        let watched = Watched {
            filter,
            since: start,
            credit,
            got: Vec::new(),
        };
        self.watched.insert(watch, watched);
    }

    fn take(&mut self) {
        if self.in_flight.is_none() {
            self.in_flight = Some(self.store.take_changes());
            assert!(!self.store.has_changes());
        }
    }

    fn settle(&mut self, written: bool, told: bool) {
        let Some(changes) = self.in_flight.take() else {
            return;
        };
        if written || told {
            self.write(&changes);
        }
        if told {
            self.store.checkpointed(changes.applied, 0);
            let kept: Vec<_> = changes.slices.iter().map(|info| info.id).collect();
            self.slices.retain(|id, _| kept.contains(id));
        } else {
            self.store.merge_back(changes);
        }
    }

    fn write(&mut self, changes: &Changes) {
        for slice in &changes.closed {
            assert!(slice.info.describes(&slice.events));
            self.slices.insert(slice.info.id, slice.events.clone());
        }
        let mut last = Vec::new();
        for (key, row) in changes.encode() {
            assert!(last < key, "out of order: {last:?}, {key:?}");
            last.clone_from(&key);
            match row {
                Some(row) => self.tables.insert(key, row),
                None => self.tables.remove(&key),
            };
        }
        let loaded = Store::load(&self.tables).expect("what was written loads");
        assert_eq!(loaded.hash(), changes.hash);
        assert_eq!(loaded.recompute_hash(), changes.hash);
        for info in loaded.slices() {
            assert!(info.describes(&self.slices[&info.id]));
        }
    }

    /// A restart with nothing lost: what is in no checkpoint would come again from the log.
    fn reload(&mut self) {
        self.settle(false, false);
        self.take();
        self.settle(true, true);
        self.store = Store::load(&self.tables).expect("what was written loads");
        self.watches.replaced(&self.store);
    }

    fn check(&self) {
        let (store, model) = (&self.store, &self.model);
        assert_eq!(store.hash(), store.recompute_hash());
        assert_eq!(store.revision(), model.revision());
        assert_eq!(store.oldest(), model.oldest());
        assert_eq!(store.next_deadline(), model.next_deadline());
        let newest = store.event(store.revision()).map(|event| &**event);
        assert!(newest.is_none() || newest == model.event(model.revision()));
    }

    /// Does what the hub asks until it wants nothing more.
    fn drain(&mut self) {
        loop {
            match self.watches.poll(&self.store) {
                Some(output) => self.told(output),
                None if self.watches.has_work() => {}
                None if self.asked.is_empty() => break,
                None => {
                    let slice = self.asked.remove(0);
                    let events = self.slices.get(&slice).cloned();
                    let events = events.filter(|_| !self.lose).ok_or(HistoryLost);
                    self.watches.history_read(&self.store, slice, events);
                }
            }
        }
        for (watch, watched) in &self.watched {
            let all = self.expected(watched, Revision(u64::MAX));
            // Who has credit left was told everything.
            assert!(
                watched.credit == 0 || watched.got.len() == all.len(),
                "{watch} missed some"
            );
            assert_eq!(
                watched.got,
                all[..watched.got.len()],
                "{watch} got something else"
            );
        }
        assert_eq!(self.watches.len(), self.watched.len());
    }

    fn told(&mut self, output: WatchOutput) {
        match output {
            WatchOutput::Watching { watch } => assert!(self.watched.contains_key(&watch)),
            WatchOutput::Notify { watches, event } => {
                assert_eq!(self.model.event(event.id.index()), Some(&*event));
                for watch in watches {
                    let watched = self.watched.get_mut(&watch).expect("told who watches");
                    assert!(watched.credit > 0, "{watch} was told without credit");
                    watched.credit -= 1;
                    watched.got.push((*event).clone());
                }
            }
            WatchOutput::End {
                watch,
                reason,
                resume,
            } => {
                let watched = self.watched.remove(&watch).expect("ended who watches");
                let told = self.expected(&watched, resume);
                match reason {
                    EndReason::Cleared { oldest } => {
                        assert_eq!(oldest, self.store.oldest());
                        assert!(resume < oldest, "{watch} was cleared for nothing");
                        assert_eq!(watched.got, told, "{watch} resumes elsewhere");
                    }
                    EndReason::HistoryLost => {
                        assert!(self.lose);
                        assert_eq!(watched.got, told, "{watch} resumes elsewhere");
                    }
                    EndReason::Busy => assert!(self.watched.len() >= WATCHES_MAX),
                    EndReason::Stopping => panic!("nobody stops here"),
                }
            }
            WatchOutput::ReadHistory { slice } => {
                assert!(!self.asked.contains(&slice), "{slice} is asked for twice");
                self.asked.push(slice);
            }
        }
    }

    /// What the model says that a watch is to be told, below `end`.
    fn expected(&self, watched: &Watched, end: Revision) -> Vec<Event> {
        let Filter { path, recursive } = &watched.filter;
        let mut all = self.model.watch(path, *recursive, watched.since);
        all.retain(|event| event.id.index() < end);
        all
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_store_does_what_the_model_does(steps in vec((0..3_u64, step()), 1..80)) {
        let mut world = World::new();
        for (seconds, step) in steps {
            world.step(seconds, step);
        }
    }
}

/// A row as it is saved: key and row, encoded.
type Pair = (Vec<u8>, Vec<u8>);

/// A store with a bit of everything in it, and what it saved.
fn saved() -> (Store, Vec<Pair>) {
    let mut store = Store::new();
    let put = |path: &str, content, ttl| {
        let path = Path::new(path.as_bytes()).expect("a clean path");
        let when = When::Always;
        Operation::Put(Put {
            path,
            content,
            when,
            ttl,
        })
    };
    let value = |text| Content::Value(Value::from(text));
    let ttl = Some(Duration::from_secs(5));
    let small = Settings {
        slice_bytes: 200,
        ..Settings::default()
    };
    let operations = [
        Operation::Configure(small),
        put("/a/b", value("x"), None),
        put("/a/b", value("y"), ttl),
        put("/d", Content::Directory, ttl),
        put("/gone", value("z"), None),
        Operation::Delete(Delete {
            path: Path::root().child(b"gone"),
            scope: Scope::Key,
        }),
        Operation::Publish(quorate_core::store::Publish {
            member: NodeId(7),
            name: "m".into(),
            client_urls: vec!["http://localhost:2379".into()],
        }),
        put("/a/c", value("w"), None),
    ];
    for (operation, index) in operations.into_iter().zip(1..) {
        let id = LogId {
            term: Term(1),
            index: Index(index),
        };
        let client = Some(if index % 2 == 0 {
            ClientRequest::Opaque(Value::from(format!("id{index}").as_str()))
        } else {
            ClientRequest::Numbered {
                client: 1,
                sequence: index,
                acked: 0,
            }
        });
        let command = Command { client, operation };
        store
            .apply(id, ClusterTime(index), &command)
            .expect("nothing is refused here");
    }
    let changes = store.take_changes();
    assert!(!changes.closed.is_empty() && !changes.history.is_empty());
    let rows = changes.encode().filter_map(|(key, row)| Some((key, row?)));
    let rows = rows.collect();
    (store, rows)
}

#[test]
fn whatever_is_damaged_in_the_rows_is_refused() {
    let (store, rows) = saved();
    let loaded = Store::load(rows.iter().map(|(key, row)| (key, row))).expect("all is well");
    assert_eq!(loaded.hash(), store.hash());
    for at in 0..rows.len() {
        let mut fewer = rows.clone();
        fewer.remove(at);
        Store::load(fewer).expect_err("a row is missing");
        for bit in 0..rows[at].1.len() * 8 {
            let mut damaged = rows.clone();
            damaged[at].1[bit / 8] ^= 1 << (bit % 8);
            // A number may have more than one encoding: then nothing was damaged.
            if let Ok(same) = Store::load(damaged) {
                assert_eq!(same.hash(), store.hash(), "row {at}, bit {bit}");
            }
        }
        for bit in 0..rows[at].0.len() * 8 {
            let mut damaged = rows.clone();
            damaged[at].0[bit / 8] ^= 1 << (bit % 8);
            Store::load(damaged).expect_err("a key is damaged");
        }
        let mut cut = rows.clone();
        cut[at].1.pop();
        Store::load(cut).expect_err("a row is cut");
    }
}

#[test]
fn a_clone_is_a_state_of_its_own() {
    let (store, _) = saved();
    let mut other = store.clone();
    let id = LogId {
        term: Term(1),
        index: store.applied().index.next(),
    };
    let at = ClusterTime(10_000_000_000);
    assert_eq!(other.expire(id, at, 9, at), 2);
    assert_ne!(other.hash(), store.hash());
    assert_eq!(store.hash(), store.recompute_hash());
    assert_eq!(store.lease_count(), 2);
}
