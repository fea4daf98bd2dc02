//! A history made ready for the search: names are numbers, answers are plain, and of what nobody
//! was answered there is known what can be known before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_core::Revision;
use quorate_core::store::{
    self, Body, Command, Consistency, NodeState, Operation, Path, Refusal, Tree, Value,
};

use super::super::linearizability::Asked;
use super::history::{History, Record, Said};
use super::names::{NUMBERED, Names, PathId, Paths, ROOT, ValueId};
use super::spec::{
    Answer, Ask, Changed, Compare, Content, Index, Lease, Reason, Scope, Shown, When,
};
use crate::clock::{Time, nanos};
use crate::ledger::Ledger;

/// What is known of the clocks of the members.
#[derive(Clone, Debug, Default)]
pub struct Clocks {
    /// The longest step of a clock: so much too long may each leader measure.
    pub grain: Duration,
    /// When those began who led, rising.
    pub leaders: Vec<Time>,
}

impl Clocks {
    /// Clocks with steps of at most `grain`, of members that led as the ledger tells: a leader
    /// that committed nothing has stamped nothing.
    #[must_use]
    pub fn new(grain: Duration, ledger: &Ledger) -> Self {
        let mut leaders = Vec::new();
        let mut last = None;
        for entry in ledger.iter() {
            if last.replace(entry.id.term) != Some(entry.id.term) {
                leaders.push(entry.stamped);
            }
        }
        Self { grain, leaders }
    }

    /// The earliest time at which that may be over which was granted for `ttl` at `from`.
    fn earliest(&self, from: Time, ttl: Duration) -> u64 {
        let end = from + ttl;
        let before = |time| self.leaders.partition_point(|&leader| leader <= time);
        let leaders = 1 + before(end) - before(from);
        let error = self.grain * u32::try_from(leaders).unwrap_or(u32::MAX);
        (end - error).0.max(from.0)
    }
}

/// An operation, as the search sees it.
#[derive(Clone, Debug)]
pub(super) struct Op {
    /// Its place in the history.
    pub(super) record: usize,
    pub(super) ask: Ask,
    pub(super) answer: Answer,
    /// In true time; `u64::MAX` is never.
    pub(super) invoked: u64,
    pub(super) returned: u64,
    /// Where it belongs among the writes, where its answer or a sighting says so.
    pub(super) pin: Option<u64>,
    /// All that its answer depends on.
    pub(super) reads: Paths,
    /// It was answered or seen, and so has taken place.
    pub(super) must: bool,
    /// The one of the same record that goes first, since they are alike.
    pub(super) twin: Option<usize>,
    /// What answers show as made or changed by it: directories on the way among them, which were
    /// not there before.
    pub(super) made: Vec<PathId>,
}

/// Where a write with `index` belongs among those of its partition: an error tells which change was
/// the last before it.
pub(super) const fn pin(index: u64, is_error: bool) -> u64 {
    2 * index + is_error as u64
}

/// A whole history.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) names: Names,
    pub(super) ops: Vec<Op>,
    /// The operations of each partition, in the order in which they began.
    pub(super) partitions: BTreeMap<PathId, Vec<usize>>,
}

/// How much is made of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// What was seen of unanswered writes is made use of.
    Sighted,
    /// Only to name the children they made.
    #[cfg(test)]
    Plain,
}

/// A value or a name that was in an answer, and whose writer was not answered, or not for it.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    path: PathId,
    /// The last change of the node, where it was shown.
    modified: Option<u64>,
    at: u64,
}

struct Binder<'a> {
    history: &'a History,
    clocks: &'a Clocks,
    whole: bool,
    depth: Depth,
    names: Names,
    /// The record and the answer of each operation that was answered.
    known: Vec<(usize, Ask, Answer)>,
    /// The indexes of all answered changes.
    indexes: BTreeSet<u64>,
    /// The writes of which some may have taken effect unseen, and how often.
    hazy: Vec<(usize, usize)>,
    /// By value: the record in `hazy` that wrote it.
    writers: BTreeMap<ValueId, usize>,
    /// By record.
    sightings: BTreeMap<usize, Vec<Sighting>>,
    /// Directories in which children without a value may have been made unseen, and as what such
    /// children were seen. Nothing tells them apart but the time that they were granted.
    nurseries: BTreeMap<(PathId, Option<u64>), Nursery>,
    /// Keys whose last change may be a refresh that nobody was told of.
    refreshed: BTreeSet<PathId>,
    /// The indexes that answers show, by partition: which paths they are shown for, and when the
    /// first such answer returned.
    shown: BTreeMap<(PathId, u64), (BTreeSet<PathId>, u64)>,
    /// What a change left at its own path, where answers show that.
    looks: BTreeMap<(PathId, u64), Shown>,
    /// All first names, hidden ones excepted.
    tops: Vec<PathId>,
    ops: Vec<Op>,
}

/// Children of one directory that nothing tells apart.
#[derive(Clone, Debug)]
struct Nursery {
    /// When the first of those began who may have made one.
    since: Time,
    seen: Vec<Sighting>,
    /// How many of them have been accounted for.
    taken: usize,
}

impl Book {
    pub(super) fn new(history: &History, clocks: &Clocks, whole: bool, depth: Depth) -> Self {
        let mut binder = Binder {
            history,
            clocks,
            whole,
            depth,
            names: Names::new(whole),
            known: Vec::new(),
            indexes: BTreeSet::new(),
            hazy: Vec::new(),
            writers: BTreeMap::new(),
            sightings: BTreeMap::new(),
            nurseries: BTreeMap::new(),
            refreshed: BTreeSet::new(),
            shown: BTreeMap::new(),
            looks: BTreeMap::new(),
            tops: Vec::new(),
            ops: Vec::new(),
        };
        for place in 0..history.records().len() {
            binder.read(place);
        }
        binder.look();
        for place in 0..binder.hazy.len() {
            binder.unseen(place);
        }
        if depth == Depth::Sighted {
            binder.fill_gaps();
        }
        binder.tops = binder.first_names();
        for (record, ask, answer) in std::mem::take(&mut binder.known) {
            binder.answered(record, ask, answer);
        }
        binder.finish()
    }
}

impl Binder<'_> {
    /// Takes in one record: names, and whether it was answered.
    fn read(&mut self, place: usize) {
        let history = self.history;
        let record = &history.records()[place];
        match &record.asked {
            Asked::Read(query) => {
                if let Some((_, said)) = &record.answer
                    && query.consistency == Consistency::Linearizable
                {
                    let path = self.names.path(&query.path);
                    let recursive = query.recursive;
                    let answer = self.answer(None, said);
                    self.known
                        .push((place, Ask::Get { path, recursive }, answer));
                }
            }
            Asked::Write(command) => self.read_command(place, record, command),
        }
    }

    fn read_command(&mut self, place: usize, record: &Record, command: &Command) {
        let times = self.history.unseen(record, command);
        let ask = record.answer.as_ref().and_then(|(_, said)| {
            let child = child_of(&command.operation, said);
            Some((self.ask(record, command, child.as_ref())?, said))
        });
        if let Some((ask, said)) = ask {
            let answer = self.answer(Some(&ask), said);
            if let Answer::Changed(changed) = &answer {
                self.indexes.insert(changed.index);
            }
            self.known.push((place, ask, answer));
        }
        if times > 0 {
            self.hazes(place, command, times);
        }
    }

    fn hazes(&mut self, place: usize, command: &Command, times: usize) {
        let value = match &command.operation {
            Operation::Put(put) => match &put.content {
                store::Content::Value(value) => Some(value),
                store::Content::Kept => {
                    let path = self.names.path(&put.path);
                    self.refreshed.insert(path);
                    None
                }
                store::Content::Directory => None,
            },
            Operation::Append(append) => {
                if append.value.is_none() {
                    let directory = self.names.path(&append.directory);
                    let granted = append.ttl.map(nanos);
                    let since = self.history.records()[place].invoked;
                    let nursery = self.nurseries.entry((directory, granted));
                    nursery.or_insert(Nursery {
                        since,
                        seen: Vec::new(),
                        taken: 0,
                    });
                }
                append.value.as_ref()
            }
            Operation::Delete(_) => None,
            Operation::Configure(_) | Operation::Publish(_) => return,
        };
        if let Some(value) = value {
            let value = self.names.value(value);
            self.writers.insert(value, place);
        }
        self.hazy.push((place, times));
    }

    /// What is asked, in numbers; `None` where it is nothing about keys. The child of an append is
    /// given where it is known.
    fn ask(&mut self, record: &Record, command: &Command, child: Option<&Path>) -> Option<Ask> {
        let clocks = self.clocks;
        let lease = |ttl: Option<Duration>| {
            ttl.map(|ttl| Lease {
                granted: nanos(ttl),
                earliest: clocks.earliest(record.invoked, ttl),
            })
        };
        Some(match &command.operation {
            Operation::Put(put) => Ask::Put {
                path: self.names.path(&put.path),
                content: match &put.content {
                    store::Content::Value(value) => Content::Value(self.names.value(value)),
                    store::Content::Directory => Content::Directory,
                    store::Content::Kept => Content::Kept,
                },
                when: match &put.when {
                    store::When::Always => When::Always,
                    store::When::Missing => When::Missing,
                    store::When::Exists => When::Exists,
                    store::When::Matches(compare) => When::Matches(self.compare(compare)),
                },
                lease: lease(put.ttl),
            },
            Operation::Append(append) => {
                // No name in use has a question mark.
                let unnamed = format!("?{}", self.names.len());
                let unnamed = || append.directory.child(unnamed.as_bytes());
                let child = child.cloned().unwrap_or_else(unnamed);
                Ask::Append {
                    child: self.names.path(&child),
                    value: append.value.as_ref().map(|value| self.names.value(value)),
                    lease: lease(append.ttl),
                }
            }
            Operation::Delete(delete) => Ask::Delete {
                path: self.names.path(&delete.path),
                scope: match &delete.scope {
                    store::Scope::Key => Scope::Key,
                    store::Scope::EmptyDirectory => Scope::EmptyDirectory,
                    store::Scope::Tree => Scope::Tree,
                    store::Scope::Matches(compare) => Scope::Matches(self.compare(compare)),
                },
            },
            Operation::Configure(_) | Operation::Publish(_) => return None,
        })
    }

    fn compare(&mut self, compare: &store::Compare) -> Compare {
        Compare {
            value: compare.value.as_ref().map(|value| self.names.value(value)),
            modified: compare.modified.map(|modified| modified.0),
        }
    }

    fn answer(&mut self, ask: Option<&Ask>, said: &Said) -> Answer {
        match said {
            Ok(Body::Found(tree)) => {
                let mut found = Vec::new();
                self.flatten(tree, &mut found);
                Answer::Found(found)
            }
            Ok(Body::Changed(event)) => {
                let previous = event.previous.as_ref();
                Answer::Changed(Box::new(Changed {
                    index: event.id.index().0,
                    action: event.action,
                    path: self.names.path(&event.path),
                    node: self.shown(&event.node),
                    previous: previous.map(|previous| self.shown(previous)),
                }))
            }
            Ok(Body::Done) => Answer::Refused(Reason::Strange),
            Err(error) => Answer::Refused(self.reason(ask, &error.reason)),
        }
    }

    fn flatten(&mut self, tree: &Tree, found: &mut Vec<(PathId, Shown)>) {
        let path = self.names.path(&tree.path);
        let node = self.shown(&tree.node);
        found.push((path, node));
        for child in &tree.children {
            self.flatten(child, found);
        }
    }

    fn shown(&mut self, node: &NodeState) -> Shown {
        Shown {
            value: node.value.as_ref().map(|value| self.names.value(value)),
            created: node.created.index().0,
            modified: node.modified.index().0,
            granted: node.lease.map(|lease| nanos(lease.granted)),
        }
    }

    fn reason(&mut self, ask: Option<&Ask>, refusal: &Refusal) -> Reason {
        match refusal {
            Refusal::NotFound(path) => Reason::NotFound(self.names.path(path)),
            Refusal::CompareFailed { value, modified } => self.failed(ask, value, modified),
            Refusal::NotAKey(path) => {
                Reason::NotAKey(path.as_ref().map(|path| self.names.path(path)))
            }
            Refusal::NotADirectory(path) => Reason::NotADirectory(self.names.path(path)),
            Refusal::Exists(path) => Reason::Exists(self.names.path(path)),
            Refusal::RootIsReadOnly => Reason::RootIsReadOnly,
            Refusal::NotEmpty(path) => Reason::NotEmpty(self.names.path(path)),
            Refusal::Expired | Refusal::TooLong(_) => Reason::Strange,
        }
    }

    /// A comparison that failed says what was asked for, too.
    fn failed(
        &mut self,
        ask: Option<&Ask>,
        value: &Option<(Value, Value)>,
        modified: &Option<(Revision, Revision)>,
    ) -> Reason {
        let compare = match ask {
            Some(
                Ask::Put {
                    when: When::Matches(compare),
                    ..
                }
                | Ask::Delete {
                    scope: Scope::Matches(compare),
                    ..
                },
            ) => *compare,
            Some(Ask::Get { .. } | Ask::Put { .. } | Ask::Append { .. } | Ask::Delete { .. })
            | None => return Reason::Strange,
        };
        let value = value.as_ref().map(|(asked, found)| {
            let asked = self.names.value(asked);
            (asked, self.names.value(found))
        });
        let modified = modified.map(|(asked, found)| (asked.0, found.0));
        let repeats = value.is_none_or(|(asked, _)| compare.value == Some(asked))
            && modified.is_none_or(|(asked, _)| compare.modified == Some(asked));
        if !repeats {
            return Reason::Strange;
        }
        Reason::CompareFailed {
            path: ask.map_or(ROOT, Ask::path),
            value: value.map(|(_, found)| found),
            modified: modified.map(|(_, found)| found),
        }
    }

    /// Looks through all answers for what unseen writes left.
    fn look(&mut self) {
        for (record, ask, answer) in std::mem::take(&mut self.known) {
            let at = self.returned(record);
            match &answer {
                Answer::Found(found) => {
                    for &(path, node) in found {
                        self.sees_indexes(path, &node, at);
                        self.sees(path, &node, at);
                    }
                }
                Answer::Changed(changed) => {
                    // That it changed the node last need not be so: it was removed, or is a
                    // directory, which keeps its index.
                    self.sees_index(changed.path, Some(changed.node.created), at);
                    self.sees(changed.path, &changed.node, at);
                    if let Some(previous) = &changed.previous {
                        self.sees_indexes(changed.path, previous, at);
                        self.sees(changed.path, previous, at);
                    }
                }
                Answer::Refused(Reason::CompareFailed {
                    path,
                    value,
                    modified,
                }) => {
                    if let Some(value) = value {
                        self.sees_value(*path, *value, None, at);
                    }
                    self.sees_index(*path, *modified, at);
                }
                Answer::Refused(_) | Answer::Unseen(_) | Answer::Gap(..) => {}
            }
            self.known.push((record, ask, answer));
        }
    }

    fn sees_index(&mut self, path: PathId, index: Option<u64>, at: u64) {
        let Some(index) = index.filter(|index| *index > 0) else {
            return;
        };
        let shown = self.shown.entry((self.partition(path), index));
        let (paths, first) = shown.or_insert((BTreeSet::new(), at));
        paths.insert(path);
        *first = at.min(*first);
    }

    fn sees_indexes(&mut self, path: PathId, node: &Shown, at: u64) {
        self.sees_index(path, Some(node.created), at);
        self.sees_index(path, Some(node.modified), at);
        self.looks.entry((path, node.modified)).or_insert(*node);
    }

    fn partition(&self, path: PathId) -> PathId {
        if self.whole {
            ROOT
        } else {
            self.names.place(path).top
        }
    }

    /// What answers show under the index of a change at `path`.
    fn made(&self, path: PathId, index: u64) -> Vec<PathId> {
        let shown = self.shown.get(&(self.partition(path), index));
        shown.map_or_else(Vec::new, |(paths, _)| paths.iter().copied().collect())
    }

    /// Something took place under each index that was seen.
    fn fill_gaps(&mut self) {
        let mut filled = BTreeSet::new();
        for place in 0..self.ops.len() {
            if let Answer::Unseen(Index::Known(index)) = self.ops[place].answer {
                self.ops[place].made = self.made(self.ops[place].ask.path(), index);
                filled.insert(index);
            }
        }
        for (&(_, index), (paths, at)) in &self.shown {
            let Some(&path) = paths.first() else {
                continue;
            };
            if self.indexes.contains(&index) || filled.contains(&index) {
                continue;
            }
            self.ops.push(Op {
                record: self.hazy.first().map_or(0, |&(record, _)| record),
                ask: Ask::Get {
                    path,
                    recursive: false,
                },
                answer: Answer::Gap(
                    index,
                    paths
                        .iter()
                        .map(|&path| (path, self.looks.get(&(path, index)).copied()))
                        .collect(),
                ),
                invoked: 0,
                returned: *at,
                pin: Some(pin(index, false)),
                reads: 0,
                must: true,
                twin: None,
                made: Vec::new(),
            });
        }
    }

    fn sees(&mut self, path: PathId, node: &Shown, at: u64) {
        if let Some(value) = node.value {
            self.sees_value(path, value, Some(node.modified), at);
            return;
        }
        let above = self.names.place(path).above.last().copied();
        let key = (above.unwrap_or(ROOT), node.granted);
        if self.nurseries.contains_key(&key)
            && let Some(index) = self.numbered(path)
            && !self.indexes.contains(&index)
            && let Some(nursery) = self.nurseries.get_mut(&key)
        {
            nursery.seen.push(Sighting {
                path,
                modified: Some(index),
                at,
            });
        }
    }

    fn sees_value(&mut self, path: PathId, value: ValueId, modified: Option<u64>, at: u64) {
        if let Some(&writer) = self.writers.get(&value) {
            let sighting = Sighting { path, modified, at };
            self.sightings.entry(writer).or_default().push(sighting);
        }
    }

    /// The index that a child made in order is named by.
    fn numbered(&self, path: PathId) -> Option<u64> {
        let name = self.names.place(path).path.name();
        let text = std::str::from_utf8(name)
            .ok()
            .filter(|text| text.len() == NUMBERED)?;
        text.parse().ok()
    }

    fn returned(&self, record: usize) -> u64 {
        let answer = &self.history.records()[record].answer;
        answer.as_ref().map_or(u64::MAX, |(at, _)| at.0)
    }

    /// What one hazy record may have done.
    fn unseen(&mut self, place: usize) {
        let (record, times) = self.hazy[place];
        let history = self.history;
        let of = &history.records()[record];
        let Asked::Write(command) = &of.asked else {
            unreachable!("reads leave nothing");
        };
        let seen = self.sightings.remove(&record).unwrap_or_default();
        let mut invoked = of.invoked;
        let exact = match &command.operation {
            Operation::Append(append) if append.value.is_some() => self.children(append, &seen),
            Operation::Append(append) => self.adopt(append, times, &mut invoked),
            Operation::Put(put) if self.depth == Depth::Sighted => self.indexes_of(put, &seen),
            Operation::Put(_) => Vec::new(),
            Operation::Delete(_) | Operation::Configure(_) | Operation::Publish(_) => Vec::new(),
        };
        let seen_first = seen.iter().map(|sighting| sighting.at).min();
        // Of several it may be any that was seen, of an answered write the answered one.
        let is_one = times == 1 || exact.is_empty();
        let seen_first = seen_first.filter(|_| is_one);
        let seen_first = seen_first.filter(|_| of.answer.is_none() && self.depth == Depth::Sighted);
        let mut twin = None;
        for copy in 0..times {
            let sighting = exact.get(copy);
            let child = sighting.map(|sighting| self.names.place(sighting.path).path.clone());
            let index = sighting.and_then(|sighting| sighting.modified);
            let seen_at = [sighting.map(|sighting| sighting.at), seen_first];
            let seen_at = seen_at[..2 - usize::from(copy > 0)].iter().flatten().min();
            let of = Record {
                invoked,
                ..of.clone()
            };
            let ask = self.ask(&of, command, child.as_ref());
            let op = Op {
                record,
                ask: ask.expect("hazy records are about keys"),
                answer: Answer::Unseen(index.map_or(Index::Hidden, Index::Known)),
                invoked: invoked.0,
                returned: seen_at.copied().unwrap_or(u64::MAX),
                pin: index.map(|index| pin(index, false)),
                reads: 0,
                must: seen_at.is_some(),
                twin,
                made: Vec::new(),
            };
            if !op.must {
                twin = Some(self.ops.len());
            }
            self.ops.push(op);
        }
    }

    /// A put that left its unique value under several indexes took effect as often, unless the key
    /// was refreshed in between.
    fn indexes_of(&self, put: &store::Put, seen: &[Sighting]) -> Vec<Sighting> {
        let is_here = |sighting: &&Sighting| {
            let place = self.names.place(sighting.path);
            place.path == put.path && !self.refreshed.contains(&sighting.path)
        };
        let strange = |sighting: &&Sighting| {
            sighting
                .modified
                .is_some_and(|modified| !self.indexes.contains(&modified))
        };
        first_of_each(seen.iter().filter(is_here).filter(strange))
    }

    /// The name of a child says which change made it.
    fn children(&self, append: &store::Append, seen: &[Sighting]) -> Vec<Sighting> {
        let is_child = |sighting: &Sighting| {
            let place = self.names.place(sighting.path);
            if place.path.parent().as_ref() != Some(&append.directory) {
                return None;
            }
            let index = self.numbered(sighting.path)?;
            let modified = Some(index).filter(|index| !self.indexes.contains(index))?;
            Some(Sighting {
                modified: Some(modified),
                ..*sighting
            })
        };
        let found: Vec<_> = seen.iter().filter_map(is_child).collect();
        first_of_each(found.iter())
    }

    /// The next `times` children that were seen in this directory, whoever made them: as if asked
    /// for when the first of all was.
    fn adopt(&mut self, append: &store::Append, times: usize, invoked: &mut Time) -> Vec<Sighting> {
        let directory = self.names.path(&append.directory);
        let Some(nursery) = self.nurseries.get_mut(&(directory, append.ttl.map(nanos))) else {
            return Vec::new();
        };
        let seen = first_of_each(nursery.seen.iter());
        let taken = nursery.taken;
        nursery.taken += times;
        let adopted: Vec<_> = seen.into_iter().skip(taken).take(times).collect();
        if !adopted.is_empty() {
            *invoked = nursery.since;
        }
        adopted
    }

    /// The names below the root that a listing of it shows.
    fn first_names(&self) -> Vec<PathId> {
        let all = (1..self.names.len()).map(|path| (path, self.names.place(path)));
        let shown = all.filter(|(path, place)| place.top == *path && !place.hidden);
        shown.map(|(path, _)| path).collect()
    }

    fn answered(&mut self, record: usize, ask: Ask, answer: Answer) {
        let of = &self.history.records()[record];
        let Some((at, said)) = &of.answer else {
            return;
        };
        if let (
            Ask::Get {
                path: ROOT,
                recursive: true,
            },
            Answer::Found(found),
            false,
        ) = (&ask, &answer, self.whole)
        {
            self.parts(record, found);
            return;
        }
        let pin = match said {
            Ok(Body::Changed(event)) => Some(pin(event.id.index().0, false)),
            Err(error) => Some(pin(error.revision.0, true)),
            Ok(Body::Done | Body::Found(_)) => None,
        };
        let made = match &answer {
            Answer::Changed(changed) => self.made(changed.path, changed.index),
            Answer::Found(_) | Answer::Refused(_) | Answer::Unseen(_) | Answer::Gap(..) => {
                Vec::new()
            }
        };
        self.ops.push(Op {
            record,
            ask,
            answer,
            invoked: of.invoked.0,
            returned: at.0,
            pin,
            reads: 0,
            must: true,
            twin: None,
            made,
        });
    }

    /// A listing of everything is a listing of each part at one moment, and so of each for itself.
    fn parts(&mut self, record: usize, found: &[(PathId, Shown)]) {
        let of = &self.history.records()[record];
        let mut parts: BTreeMap<PathId, Vec<(PathId, Shown)>> = BTreeMap::new();
        for shown in found.iter().filter(|(path, _)| *path != ROOT) {
            let top = self.names.place(shown.0).top;
            parts.entry(top).or_default().push(*shown);
        }
        for &top in &self.tops {
            let part = parts.remove(&top);
            let answer = part.map_or(Answer::Refused(Reason::NotFound(top)), Answer::Found);
            self.ops.push(Op {
                record,
                ask: Ask::Get {
                    path: top,
                    recursive: true,
                },
                answer,
                invoked: of.invoked.0,
                returned: self.returned(record),
                pin: None,
                reads: 0,
                must: true,
                twin: None,
                made: Vec::new(),
            });
        }
    }

    fn finish(mut self) -> Book {
        self.names.sort();
        let mut partitions: BTreeMap<PathId, Vec<usize>> = BTreeMap::new();
        for (place, op) in self.ops.iter_mut().enumerate() {
            op.reads = op.ask.reads(&self.names);
            let top = self.names.place(op.ask.path()).top;
            // The root is above all partitions. Nobody can change it, so that nothing follows from
            // what is asked of it but in a history that is checked as a whole.
            if self.whole {
                partitions.entry(ROOT).or_default().push(place);
            } else if top != ROOT {
                partitions.entry(top).or_default().push(place);
            }
        }
        for ops in partitions.values_mut() {
            ops.sort_by_key(|&place| self.ops[place].invoked);
        }
        Book {
            names: self.names,
            ops: self.ops,
            partitions,
        }
    }
}

/// Of all sightings of one change the first.
fn first_of_each<'a>(seen: impl Iterator<Item = &'a Sighting>) -> Vec<Sighting> {
    let mut firsts: BTreeMap<Option<u64>, Sighting> = BTreeMap::new();
    for sighting in seen {
        let first = firsts.entry(sighting.modified).or_insert(*sighting);
        first.at = first.at.min(sighting.at);
    }
    firsts.into_values().collect()
}

/// The child that an answered append has made.
fn child_of(operation: &Operation, said: &Said) -> Option<Path> {
    let (Operation::Append(append), Ok(Body::Changed(event))) = (operation, said) else {
        return None;
    };
    let name = format!("{:020}", event.id.index().0);
    append.directory.try_child(name.as_bytes())
}
