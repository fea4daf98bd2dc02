//! Histories made by hand, and many small ones against a search through all orders.

use std::time::Duration;

use quorate_core::raft::Payload;
use quorate_core::store::{
    Append, Body, ClientRequest, Command, Compare, Consistency, Content, Delete, Header, Operation,
    Path, Put, Query, Refusal, Response, Scope, Settings, Store, StoreError, Value, When,
};
use quorate_core::{ClusterTime, Index, LogId, NodeId, RequestError, Revision, Term};

use super::super::id_of;
use super::super::linearizability::Asked;
use super::book::{Book, Depth, Op, pin};
use super::names::ROOT;
use super::spec::{Answer, Index as Stamped, Reason, Shown, State};
use super::*;
use crate::clock::Time;
use crate::model::Model;
use crate::rng::{Draw, Purpose, Seed};

/// A store, and what its clients say about it, true or not.
struct Tale {
    store: Store,
    /// What guides the search; led astray where the store is put back to what it was.
    model: Model,
    applied: u64,
    clock: ClusterTime,
    history: History,
    told: u64,
    clocks: Clocks,
}

impl Tale {
    fn new() -> Self {
        Self {
            store: Store::new(),
            model: Model::new(),
            applied: 0,
            clock: ClusterTime::ZERO,
            history: History::new(true, &Settings::default()),
            told: 0,
            clocks: Clocks::default(),
        }
    }

    fn next(&mut self) -> LogId {
        self.applied += 1;
        LogId {
            term: Term(1),
            index: Index(self.applied),
        }
    }

    /// Does it in the store. Returns what its client would be answered.
    fn done(&mut self, operation: &Operation) -> Said {
        let id = self.next();
        let command = Command {
            client: None,
            operation: operation.clone(),
        };
        let payload = Payload::Command(command.clone().into());
        self.model.apply(self.clock, &payload);
        let applied = self.store.apply(id, self.clock, &command)?;
        Ok(Body::Changed(applied.event.expect("writes make events")))
    }

    /// All that has a time to live is over.
    fn expire(&mut self) {
        let id = self.next();
        self.clock = self.clock + Duration::from_secs(1);
        let (limit, until) = (100, self.clock);
        self.model.apply(until, &Payload::Expire { limit, until });
        self.store.expire(id, self.clock, limit, until);
    }

    fn found(&self, path: &str, recursive: bool) -> Said {
        self.store.get(&at(path), recursive).map(Body::Found)
    }

    /// Writes down an operation and its answer.
    fn tells(&mut self, from: u64, to: u64, asked: Asked, said: Option<Said>) {
        self.told += 1;
        let operation = self.told;
        self.history.asks(Time(from), operation, &asked);
        self.history.hands_in(operation);
        let Some(said) = said else {
            return;
        };
        let header = Header {
            member: NodeId(1),
            term: Term(1),
            applied: LogId {
                term: Term(1),
                index: Index(0),
            },
            revision: Revision::ZERO,
            now: ClusterTime::ZERO,
        };
        let result = said
            .map(|body| Response { header, body })
            .map_err(|error| RequestError::Store { header, error });
        self.history.returns(Time(to), operation, &result);
    }

    /// A write that is done and answered.
    fn write(&mut self, from: u64, to: u64, operation: Operation) {
        let said = self.done(&operation);
        self.tells(from, to, write(operation), Some(said));
    }

    /// A write without an answer.
    fn loses(&mut self, from: u64, operation: Operation) {
        self.tells(from, 0, write(operation), None);
    }

    /// A read that finds what is there now.
    fn read(&mut self, from: u64, to: u64, path: &str) {
        let said = self.found(path, true);
        self.tells(from, to, read(path), Some(said));
    }

    fn verdict(&self) -> Verdict {
        self.judged(false)
    }

    /// The verdict of the search, which is the same whoever guides it.
    fn judged(&self, whole: bool) -> Verdict {
        let judged = |changes| {
            let tally = &mut Tally::default();
            judge(&self.history, &self.clocks, changes, whole, tally)
        };
        let alone = judged(&[]);
        assert_eq!(id_of(&judged(self.model.changes())), id_of(&alone));
        alone
    }

    /// Whether the order of `changes` explains all answers at once.
    fn follows(&self, changes: &[Change]) -> bool {
        let book = Book::new(&self.history, &self.clocks, true, Depth::Sighted);
        let guide = Guide::new(&book, changes, true);
        Search::new(&book, &book.partitions[&ROOT]).follow(guide.of(ROOT))
    }

    fn id(&self) -> &'static str {
        let whole = self.judged(true);
        let parts = self.verdict();
        assert_eq!(id_of(&whole), id_of(&parts), "{whole:?} {parts:?}");
        id_of(&parts)
    }
}

fn at(path: &str) -> Path {
    Path::new(path.as_bytes()).expect("a clean path")
}

fn write(operation: Operation) -> Asked {
    let command = Command {
        client: None,
        operation,
    };
    Asked::Write(command.into())
}

fn read(path: &str) -> Asked {
    Asked::Read(Query {
        path: at(path),
        recursive: true,
        consistency: Consistency::Linearizable,
    })
}

fn put(path: &str, value: &str, when: When, ttl: Option<u64>) -> Operation {
    Operation::Put(Put {
        path: at(path),
        content: Content::Value(value.into()),
        when,
        ttl: ttl.map(Duration::from_nanos),
    })
}

fn set(path: &str, value: &str) -> Operation {
    put(path, value, When::Always, None)
}

fn swap(path: &str, from: &str, to: &str) -> Operation {
    let compare = Compare {
        value: Some(from.into()),
        modified: None,
    };
    put(path, to, When::Matches(compare), None)
}

fn delete(path: &str, scope: Scope) -> Operation {
    Operation::Delete(Delete {
        path: at(path),
        scope,
    })
}

fn append(path: &str, value: &str) -> Operation {
    Operation::Append(Append {
        directory: at(path),
        value: Some(value.into()),
        ttl: None,
    })
}

#[test]
fn l1_stale_read_after_write() {
    let mut tale = Tale::new();
    tale.write(10, 20, set("/a", "1"));
    let old = tale.found("/a", true);
    tale.write(30, 40, set("/a", "2"));
    tale.read(41, 50, "/a");
    tale.tells(40, 50, read("/a"), Some(old.clone()));
    assert_eq!(
        tale.id(),
        "holds",
        "a closed interval may touch the write's"
    );
    tale.tells(41, 50, read("/a"), Some(old));
    assert_eq!(tale.id(), "L1");
}

#[test]
fn l1_two_reads_against_each_other() {
    let mut tale = Tale::new();
    tale.write(10, 20, set("/a", "1"));
    let old = tale.found("/a", true);
    tale.write(30, 90, set("/a", "2"));
    tale.tells(40, 50, read("/a"), Some(old.clone()));
    tale.read(60, 70, "/a");
    assert_eq!(tale.id(), "holds");
    tale.tells(71, 80, read("/a"), Some(old));
    assert_eq!(tale.id(), "L1");
}

#[test]
fn l1_swapped_twice() {
    let mut tale = Tale::new();
    tale.write(10, 20, set("/a", "1"));
    let mut fork = tale.store.clone();
    tale.write(30, 40, swap("/a", "1", "2"));
    assert_eq!(tale.id(), "holds");
    std::mem::swap(&mut tale.store, &mut fork);
    tale.applied = 1;
    tale.write(30, 40, swap("/a", "1", "3"));
    assert_eq!(tale.id(), "L1");
}

#[test]
fn l1_lost_update() {
    let mut tale = Tale::new();
    tale.write(10, 20, set("/a", "1"));
    let fork = tale.store.clone();
    tale.write(30, 40, set("/b", "x"));
    tale.write(50, 60, put("/a", "2", When::Exists, None));
    tale.store = fork;
    tale.applied = 1;
    tale.loses(61, set("/c", "x"));
    tale.done(&set("/c", "x")).expect("done");
    tale.done(&set("/c", "y")).expect("done");
    tale.write(70, 80, set("/a", "3"));
    assert_eq!(
        tale.id(),
        "L1",
        "it shows as the node before what was there before the update"
    );
}

#[test]
fn l2_children_out_of_order() {
    let mut tale = Tale::new();
    let first = tale.done(&append("/d", "1"));
    let second = tale.done(&append("/d", "2"));
    tale.tells(10, 20, write(append("/d", "2")), Some(second));
    let mut late = Tale {
        history: tale.history.clone(),
        ..Tale::new()
    };
    late.told = 1;
    tale.tells(20, 30, write(append("/d", "1")), Some(first.clone()));
    assert_eq!(tale.id(), "holds");
    late.tells(21, 30, write(append("/d", "1")), Some(first));
    assert_eq!(late.id(), "L2");
}

#[test]
fn l1_deleted_and_there_again() {
    let mut tale = Tale::new();
    tale.write(10, 20, set("/a", "1"));
    let there = tale.found("/a", true);
    tale.write(30, 40, delete("/a", Scope::Key));
    tale.read(41, 50, "/a");
    assert_eq!(tale.id(), "holds");
    tale.tells(51, 60, read("/a"), Some(there));
    assert_eq!(tale.id(), "L1");
}

#[test]
fn l1_unknown_write_seen_late_and_again_after_it_was_undone() {
    let mut tale = Tale::new();
    tale.write(10, 20, set("/a", "1"));
    tale.loses(11, set("/a", "lost"));
    tale.read(30, 40, "/a");
    tale.done(&set("/a", "lost")).expect("done");
    let lost = tale.found("/a", true);
    tale.read(50, 60, "/a");
    assert_eq!(tale.id(), "holds");
    tale.write(70, 80, set("/a", "2"));
    tale.read(81, 90, "/a");
    assert_eq!(tale.id(), "holds");
    tale.tells(91, 99, read("/a"), Some(lost));
    assert_eq!(tale.id(), "L1");
}

#[test]
fn l1_unknown_write_that_nobody_asked_for_yet() {
    let mut tale = Tale::new();
    tale.done(&set("/a", "1")).expect("done");
    tale.read(10, 20, "/a");
    tale.loses(21, set("/a", "1"));
    assert_eq!(tale.id(), "L1");
    tale.loses(20, set("/a", "2"));
    assert_eq!(tale.id(), "L1");
    tale.loses(20, set("/a", "1"));
    assert_eq!(tale.id(), "holds");
}

/// Hundreds of writes that were never answered, half of which took place: too many to try them all.
#[test]
fn the_ledger_tells_which_unanswered_writes_took_place() {
    let mut tale = Tale::new();
    for number in 0..400 {
        let operation = match number % 4 {
            0 => set("/a/b", &number.to_string()),
            1 => delete("/a/b", Scope::Key),
            2 => append("/a/q", &number.to_string()),
            _ => put("/a/c", &number.to_string(), When::Always, Some(5)),
        };
        let at = 10 * number;
        tale.loses(at, operation.clone());
        if number % 3 > 0 {
            let _ = tale.done(&operation);
        }
        if number % 7 == 0 {
            tale.expire();
        }
        if number % 5 == 0 {
            tale.read(at + 7, at + 8, "/a/b");
            tale.read(at + 8, at + 9, "/a/c");
        }
    }
    let changes = tale.model.changes();
    assert!(tale.follows(changes));
    assert!(!tale.follows(&changes[..changes.len() / 2]));
    let mut others = changes.to_vec();
    others.retain(|change| change.path != at("/a/c"));
    assert!(!tale.follows(&others), "what was seen did not take place");
}

#[test]
fn l1_refused_and_seen() {
    let mut tale = Tale::new();
    tale.loses(10, set("/a", "1"));
    tale.done(&set("/a", "1")).expect("done");
    tale.read(20, 30, "/a");
    assert_eq!(tale.id(), "holds");
    tale.history.refuses(1);
    assert_eq!(tale.id(), "L1");
}

#[test]
fn l1_gone_too_early() {
    for (end, grain, expected) in [(59, 0, "L1"), (60, 0, "holds"), (58, 2, "holds")] {
        let mut tale = Tale::new();
        tale.clocks.grain = Duration::from_nanos(grain);
        tale.write(10, 20, put("/a", "1", When::Always, Some(50)));
        tale.read(25, 40, "/a");
        tale.expire();
        tale.read(50, end, "/a");
        assert_eq!(tale.id(), expected);
    }
}

#[test]
fn l1_gone_in_spite_of_a_refresh() {
    let mut tale = Tale::new();
    tale.write(10, 20, put("/a", "1", When::Always, Some(50)));
    let refresh = Operation::Put(Put {
        path: at("/a"),
        content: Content::Kept,
        when: When::Exists,
        ttl: Some(Duration::from_nanos(50)),
    });
    tale.write(40, 50, refresh);
    tale.expire();
    tale.read(60, 89, "/a");
    assert_eq!(tale.id(), "L1");
    let mut tale = Tale::new();
    tale.write(10, 20, put("/a", "1", When::Always, Some(50)));
    tale.expire();
    tale.read(60, 89, "/a");
    assert_eq!(tale.id(), "holds");
}

#[test]
fn l2_a_directory_takes_along_what_is_in_it_and_comes_back_without() {
    let directory = Operation::Put(Put {
        path: at("/d"),
        content: Content::Directory,
        when: When::Missing,
        ttl: Some(Duration::from_nanos(50)),
    });
    let mut tale = Tale::new();
    tale.write(10, 20, directory);
    tale.write(21, 30, set("/d/a", "1"));
    let before = tale.found("/d", true);
    tale.expire();
    tale.write(70, 80, set("/d/b", "2"));
    tale.read(81, 90, "/d");
    assert_eq!(
        tale.id(),
        "holds",
        "it went, unseen, before the second write"
    );
    tale.tells(81, 90, read("/d"), Some(before));
    assert_eq!(tale.id(), "L2");
}

#[test]
fn l2_a_listing_that_never_was() {
    let mut tale = Tale::new();
    let mut only_b = Tale::new();
    tale.write(10, 20, set("/d/a", "1"));
    tale.write(30, 40, set("/d/b", "2"));
    tale.read(10, 50, "/d");
    assert_eq!(tale.id(), "holds");
    only_b.done(&set("/d/x", "0")).expect("done");
    only_b.done(&set("/d/b", "2")).expect("done");
    only_b.done(&delete("/d/x", Scope::Key)).expect("done");
    tale.tells(10, 50, read("/d"), Some(only_b.found("/d", true)));
    assert_eq!(tale.id(), "L2");
}

#[test]
fn l2_a_listing_of_the_root() {
    let mut tale = Tale::new();
    tale.write(10, 20, set("/a/x", "1"));
    let old = tale.found("/", true);
    tale.write(30, 40, set("/b", "2"));
    tale.read(41, 50, "/");
    assert_eq!(tale.id(), "holds");
    tale.tells(41, 50, read("/"), Some(old));
    let verdict = tale.verdict();
    assert!(verdict.is_err(), "/b is missing in its own partition");
}

#[test]
fn l1_errors_are_reads() {
    let refused = |reason, revision| {
        let revision = Revision(revision);
        Some(Err(StoreError { reason, revision }))
    };
    let create = || write(put("/a", "9", When::Missing, None));
    let mut tale = Tale::new();
    tale.tells(10, 20, create(), refused(Refusal::Exists(at("/a")), 0));
    assert_eq!(tale.id(), "L1", "a phantom is in the way");
    let mut tale = Tale::new();
    tale.write(10, 20, set("/a", "1"));
    tale.tells(21, 30, create(), refused(Refusal::Exists(at("/a")), 1));
    tale.write(40, 50, delete("/a", Scope::Key));
    assert_eq!(tale.id(), "holds");
    tale.tells(30, 60, create(), refused(Refusal::Exists(at("/a")), 2));
    assert_eq!(tale.id(), "L1", "the index says that it was gone already");
    let mut tale = Tale::new();
    tale.write(10, 20, set("/a", "1"));
    let failed = Refusal::CompareFailed {
        value: Some(("x".into(), "2".into())),
        modified: None,
    };
    tale.tells(30, 40, write(swap("/a", "x", "y")), refused(failed, 1));
    assert_eq!(tale.id(), "L1", "that value was never there");
}

#[test]
fn l1_an_unseen_write_is_needed() {
    let mut tale = Tale::new();
    tale.loses(10, set("/d/a", "1"));
    tale.done(&set("/d/a", "1")).expect("done");
    tale.write(20, 30, put("/d/a", "2", When::Missing, None));
    tale.write(31, 40, delete("/d", Scope::EmptyDirectory));
    tale.write(41, 50, delete("/d", Scope::Tree));
    assert_eq!(tale.id(), "holds");
    tale.history.refuses(1);
    assert_eq!(tale.id(), "L1");
}

#[test]
fn l1_what_carries_an_id_is_done_once() {
    for (named, expected) in [(false, "holds"), (true, "L2")] {
        let mut tale = Tale::new();
        let said = tale.done(&append("/d", "1"));
        tale.done(&append("/d", "1")).expect("done");
        let command = Command {
            client: named.then_some(ClientRequest::Numbered {
                client: 1,
                sequence: 1,
                acked: 0,
            }),
            operation: append("/d", "1"),
        };
        tale.tells(10, 20, Asked::Write(command.into()), Some(said));
        tale.history.hands_in(1);
        tale.read(30, 40, "/d");
        assert_eq!(tale.id(), expected);
    }
}

#[test]
fn l1_an_index_that_does_not_rise() {
    let mut tale = Tale::new();
    let second = {
        tale.done(&set("/a/x", "0")).expect("done");
        tale.done(&set("/a/1", "1"))
    };
    tale.tells(10, 20, write(set("/a/1", "1")), Some(second));
    let mut other = Tale::new();
    let first = other.done(&set("/a/2", "2"));
    tale.tells(21, 30, write(set("/a/2", "2")), Some(first));
    assert_eq!(tale.id(), "L1");
}

#[test]
fn a_failure_names_the_shortest_beginning() {
    let mut tale = Tale::new();
    tale.write(10, 20, set("/a", "1"));
    let old = tale.found("/a", true);
    tale.write(30, 40, set("/a", "2"));
    tale.tells(41, 50, read("/a"), Some(old));
    tale.write(51, 60, set("/a", "late"));
    tale.write(51, 60, set("/b", "apart"));
    let what = tale.verdict().expect_err("a stale read").what;
    assert!(what.contains("told about /a"), "{what}");
    assert!(
        what.contains("from 0.000000s to 0.000000s: read all of /a"),
        "{what}"
    );
    assert!(!what.contains("late") && !what.contains("apart"), "{what}");
}

#[test]
fn undecided_is_counted_and_no_pass() {
    let mut tally = Tally::default();
    tally.add(Tally {
        partitions: 2_000,
        undecided: 2_000 * UNDECIDED_PER_MILLE_MAX / 1_000 - 1,
    });
    assert!(tally.is_decided());
    tally.undecided += 1;
    assert!(!tally.is_decided());
    tally.undecided = 2;
    assert_eq!(
        tally.to_string(),
        "black box: 2000 partitions, 2 undecided (0.100 %)"
    );
}

/// Every order, one by one: no index is known before, nothing is left out.
struct Brute<'a> {
    ops: Vec<&'a Op>,
    /// All that answers show; what nobody was answered has one of these, or is not shown.
    indexes: Vec<u64>,
    placed: Vec<bool>,
    state: State<'a>,
}

impl<'a> Brute<'a> {
    fn new(book: &'a Book, places: &[usize]) -> Self {
        let ops: Vec<&Op> = places.iter().map(|&op| &book.ops[op]).collect();
        let pins: Vec<u64> = ops.iter().filter_map(|op| op.pin).collect();
        let mut indexes: Vec<u64> = ops.iter().flat_map(|op| shown(&op.answer)).collect();
        indexes.sort_unstable();
        indexes.dedup();
        indexes.retain(|&index| index > 0 && !pins.contains(&pin(index, false)));
        Self {
            indexes,
            placed: vec![false; ops.len()],
            state: State::new(&book.names),
            ops,
        }
    }

    fn has_order(&mut self, floor: u64) -> bool {
        let ops = 0..self.ops.len();
        let open: Vec<usize> = ops.filter(|&op| !self.placed[op]).collect();
        if open.iter().all(|&op| !self.ops[op].must) {
            return true;
        }
        let musts = open.iter().filter(|&&op| self.ops[op].must);
        let end = musts
            .map(|&op| self.ops[op].returned)
            .min()
            .expect("one is left");
        for op in open {
            let at = self.ops[op];
            if at.invoked > end {
                continue;
            }
            let found = match &at.answer {
                Answer::Unseen(Stamped::Hidden) => {
                    let indexes = self.indexes.clone();
                    let known = indexes.into_iter().filter(|&index| index > floor);
                    let mut ways: Vec<_> =
                        known.map(|index| (Stamped::Known(index), index)).collect();
                    ways.push((Stamped::Hidden, floor));
                    ways.into_iter()
                        .any(|(index, next)| self.goes(op, &Answer::Unseen(index), next))
                }
                Answer::Changed(_) | Answer::Unseen(Stamped::Known(_)) => {
                    let index = at.pin.expect("it was shown") / 2;
                    index > floor && self.goes(op, &at.answer, index)
                }
                Answer::Found(_) | Answer::Refused(_) | Answer::Gap(..) => {
                    let index = at.pin.map_or(floor, |pin| pin / 2);
                    index >= floor && self.goes(op, &at.answer, index)
                }
            };
            if found {
                return true;
            }
        }
        let leased: Vec<_> = self.state.leased().collect();
        for (path, _) in leased.into_iter().filter(|&(_, earliest)| earliest <= end) {
            let mark = self.state.mark();
            self.state.expire(path);
            let found = self.has_order(floor);
            self.state.undo(mark);
            if found {
                return true;
            }
        }
        false
    }
}

impl Brute<'_> {
    /// Whether there is an order that goes on with `op`.
    fn goes(&mut self, op: usize, answer: &Answer, next: u64) -> bool {
        let mark = self.state.mark();
        if !self.state.place(&self.ops[op].ask, answer) {
            return false;
        }
        self.placed[op] = true;
        let found = self.has_order(next);
        self.placed[op] = false;
        self.state.undo(mark);
        found
    }
}

/// All indexes in an answer.
fn shown(answer: &Answer) -> Vec<u64> {
    let of = |node: &Shown| [node.created, node.modified];
    match answer {
        Answer::Found(found) => found.iter().flat_map(|(_, node)| of(node)).collect(),
        Answer::Changed(changed) => {
            let nodes = [Some(changed.node), changed.previous];
            nodes.iter().flatten().flat_map(of).collect()
        }
        Answer::Refused(Reason::CompareFailed { modified, .. }) => {
            modified.iter().copied().collect()
        }
        Answer::Refused(_) | Answer::Unseen(_) | Answer::Gap(..) => Vec::new(),
    }
}

/// A short history of a real store, with answers that were lost, mixed up or made late.
fn gossip(draw: &mut Draw) -> Tale {
    const PATHS: [&str; 6] = ["/d", "/d/a", "/d/b", "/d/a/x", "/d/_h", "/d/a/y"];
    let mut tale = Tale::new();
    let mut time = 10;
    let mut answers: Vec<Said> = Vec::new();
    let lost = *draw.pick(&[10, 40, 70]);
    for number in 0..draw.between(3, 7) {
        let end = draw.place(PATHS.len());
        let path = PATHS[draw.place(1 + end)];
        let is_read = draw.percent(30);
        let operation = some_write(draw, &tale, path, number);
        let asked = if is_read {
            read(path)
        } else {
            write(operation.clone())
        };
        let is_done = !draw.percent(10);
        let mut said = if is_read {
            Some(tale.found(path, true))
        } else if is_done {
            Some(tale.done(&operation))
        } else {
            None
        };
        if !is_read && is_done && draw.percent(8) {
            tale.done(&operation).ok();
        }
        answers.extend(said.clone());
        if draw.percent(20) && !answers.is_empty() {
            said = Some(answers[draw.place(answers.len())].clone());
        }
        said = said.filter(|_| !draw.percent(if is_read { 0 } else { lost }));
        let from = time - draw.below(9);
        tale.tells(from, time + draw.below(15), asked, said);
        if draw.percent(8) {
            tale.history.hands_in(tale.told);
        }
        time += draw.below(12);
        if draw.percent(15) {
            tale.expire();
        }
    }
    tale
}

fn some_write(draw: &mut Draw, tale: &Tale, path: &str, number: u64) -> Operation {
    let value = format!("v{number}");
    let ttl = draw.percent(30).then(|| draw.below(20));
    let there = tale.store.get(&at(path), false).ok();
    let known = there.as_ref().and_then(|tree| tree.node.value.clone());
    let modified = there.map_or(Revision(1), |tree| tree.node.modified.index());
    let by_value = draw.percent(50);
    let compare = Compare {
        value: by_value.then(|| known.unwrap_or_else(|| Value::from("none"))),
        modified: (!by_value).then_some(modified),
    };
    let of = |content, when| {
        Operation::Put(Put {
            path: at(path),
            content,
            when,
            ttl: ttl.map(Duration::from_nanos),
        })
    };
    match draw.below(11) {
        0 | 1 => put(path, &value, When::Always, ttl),
        2 => put(path, &value, When::Missing, ttl),
        3 => put(path, &value, When::Exists, ttl),
        4 => put(path, &value, When::Matches(compare), ttl),
        5 => of(Content::Directory, When::Missing),
        6 => of(Content::Kept, When::Exists),
        7 => append("/d", &value),
        8 => delete(path, Scope::EmptyDirectory),
        9 => delete(path, Scope::Matches(compare)),
        _ => delete(path, Scope::Tree),
    }
}

#[test]
fn every_order_tried_says_the_same() {
    let (mut legal, mut illegal) = (0, 0);
    for seed in 0..GOSSIPS {
        let mut draw = Seed::new(seed).draw(Purpose::Workload, 0, 0);
        let tale = gossip(&mut draw);
        let plain = Book::new(&tale.history, &tale.clocks, false, Depth::Plain);
        let has_order = plain
            .partitions
            .values()
            .all(|ops| Brute::new(&plain, ops).has_order(0));
        let verdict = tale.verdict();
        assert_eq!(
            verdict.is_ok(),
            has_order,
            "{seed}: {verdict:?} {:#?}",
            tale.history
        );
        *(if has_order { &mut legal } else { &mut illegal }) += 1;
    }
    assert!(
        legal.min(illegal) * 10 > GOSSIPS,
        "{legal} legal, {illegal} not"
    );
}

const GOSSIPS: u64 = 20_000;
