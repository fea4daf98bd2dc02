//! The store, and a second one that is loaded from its checkpoints now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use quorate_core::raft::Configuration;
use quorate_core::store::{
    Applied, Changes, Command, Filter, HistoryLost, Path, SliceEvents, SliceId, Store, WatchOutput,
    Watches,
};
use quorate_core::{ClusterTime, LogId, Revision, Term, WatchId};

use crate::numbers::{near, small};

/// How many things happen at most.
const ACTS_MAX: usize = 400;

/// Watches open at most.
const WATCHES_MAX: usize = 8;

/// Any commands, at any times: the hash is that of all rows, a store that was saved and loaded does
/// and answers the same, and each watch sees what history has for it, in order and within credit.
pub fn store(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let _ = Life::new().run(&mut u);
}

/// One thing that happens.
#[derive(Debug, Arbitrary)]
enum Act {
    /// An entry of the log, so long after the last one.
    Apply { millis: u16, entry: Entry },
    /// A checkpoint is taken; it succeeds at once, or fails when the next one is due.
    Checkpoint { done: bool, hot_bytes: u16 },
    /// The second store is loaded from what was saved.
    Load,
    /// A question.
    Get { path: Path, recursive: bool },
    /// A watch.
    Watch {
        filter: Filter,
        since: Option<u64>,
        credit: u8,
    },
    /// More credit for a watch.
    Credit { watch: u8, events: u8 },
    /// A watcher leaves.
    Unwatch { watch: u8 },
    /// Slices asked for are read, or lost.
    Read { found: bool },
}

/// What the store takes from the log.
#[derive(Debug, Arbitrary)]
enum Entry {
    Command(Command),
    Again,
    Expire { limit: u8, early: u32 },
    Reconfigure(Configuration),
    Skip { terms: u8 },
}

struct Life {
    store: Store,
    /// Has applied the same entries, but was loaded from a checkpoint on the way.
    loaded: Store,
    /// What was applied since the last checkpoint that succeeded.
    log: Vec<(LogId, ClusterTime, Entry)>,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    slices: BTreeMap<SliceId, SliceEvents>,
    failed: Option<Changes>,
    watches: Watches,
    watchers: BTreeMap<WatchId, Watcher>,
    next_watch: WatchId,
    reading: Vec<SliceId>,
    last_command: Option<Command>,
}

#[derive(Debug)]
struct Watcher {
    filter: Filter,
    credit: u64,
    next: Revision,
}

impl Life {
    fn new() -> Self {
        let store = Store::new();
        Self {
            loaded: store.clone(),
            log: Vec::new(),
            rows: BTreeMap::new(),
            slices: BTreeMap::new(),
            failed: None,
            watches: Watches::new(WATCHES_MAX, 3, &store),
            watchers: BTreeMap::new(),
            next_watch: WatchId(1),
            reading: Vec::new(),
            last_command: None,
            store,
        }
    }

    fn run(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        for _ in 0..ACTS_MAX {
            if u.is_empty() {
                break;
            }
            let act = u.arbitrary()?;
            self.act(act);
            self.check();
        }
        Ok(())
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Apply { millis, entry } => self.apply(millis, entry),
            Act::Checkpoint { done, hot_bytes } => self.checkpoint(done, hot_bytes.into()),
            Act::Load => self.load(),
            Act::Get { path, recursive } => {
                let found = self.store.get(&path, recursive);
                assert_eq!(found, self.loaded.get(&path, recursive), "{path}");
            }
            Act::Watch {
                filter,
                since,
                credit,
            } => self.watch(filter, since, credit % 8),
            Act::Credit { watch, events } => {
                let watch = WatchId(u64::from(watch) % self.next_watch.0);
                if let Some(watcher) = self.watchers.get_mut(&watch) {
                    watcher.credit += u64::from(events % 8);
                }
                let events = u32::from(events % 8);
                self.watches.credit(&self.store, watch, events);
            }
            Act::Unwatch { watch } => {
                let watch = WatchId(u64::from(watch) % self.next_watch.0);
                self.watchers.remove(&watch);
                self.watches.unwatch(watch);
            }
            Act::Read { found } => {
                for slice in std::mem::take(&mut self.reading) {
                    let events = self.slices.get(&slice).cloned();
                    let events = events.filter(|_| found).ok_or(HistoryLost);
                    self.watches.history_read(&self.store, slice, events);
                }
            }
        }
        self.poll_watches();
    }

    fn apply(&mut self, millis: u16, mut entry: Entry) {
        let mut id = self.store.applied();
        id.index = id.index.next();
        id.term = id.term.max(Term(1));
        match &mut entry {
            Entry::Command(command) => {
                near(command);
                self.last_command = Some(command.clone());
            }
            Entry::Again => {
                let Some(command) = self.last_command.clone() else {
                    return;
                };
                entry = Entry::Command(command);
            }
            Entry::Skip { terms } => id.term.0 += u64::from(*terms % 4),
            Entry::Expire { .. } | Entry::Reconfigure(_) => {}
        }
        let stamp = self.store.clock() + Duration::from_millis(u64::from(millis % 2048));
        let outcome = apply(&mut self.store, id, stamp, &entry);
        assert_eq!(apply(&mut self.loaded, id, stamp, &entry), outcome);
        self.watches.applied(&self.store);
        self.log.push((id, stamp, entry));
    }

    fn checkpoint(&mut self, done: bool, hot_bytes: usize) {
        if let Some(changes) = self.failed.take() {
            self.store.merge_back(changes);
        }
        let changes = self.store.take_changes();
        assert!(!self.store.has_changes(), "taken, and still there");
        let rows = changes.encode().count();
        assert_eq!(changes.len(), rows, "encodes another number of rows");
        if !done {
            self.failed = Some(changes);
            return;
        }
        let mut last = None;
        for (key, row) in changes.encode() {
            assert!(last < Some(key.clone()), "rows out of order");
            last = Some(key.clone());
            match row {
                Some(row) => self.rows.insert(key, row),
                None => self.rows.remove(&key),
            };
        }
        for slice in &changes.closed {
            assert!(slice.info.describes(&slice.events), "another slice");
            self.slices.insert(slice.info.id, slice.events.clone());
        }
        let kept: BTreeSet<SliceId> = changes.slices.iter().map(|slice| slice.id).collect();
        self.slices.retain(|id, _| kept.contains(id));
        assert_eq!(self.slices.len(), kept.len(), "a slice was never written");
        assert_eq!(changes.hash, self.store.hash());
        self.store.checkpointed(changes.applied, hot_bytes);
        self.log.clear();
    }

    /// The second store as it would come back after a power cut: checkpoint and log.
    fn load(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        let mut loaded = Store::load(&self.rows).expect("what was saved can be loaded");
        assert_eq!(loaded.recompute_hash(), loaded.hash(), "a wrong hash");
        for (id, stamp, entry) in &self.log {
            // The answer was compared when it was given.
            let _ = apply(&mut loaded, *id, *stamp, entry);
        }
        self.loaded = loaded;
    }

    fn watch(&mut self, filter: Filter, since: Option<u64>, credit: u8) {
        let watch = self.next_watch;
        self.next_watch = watch.next();
        let since = since.map(|index| Revision(small(index)));
        let watcher = Watcher {
            filter: filter.clone(),
            credit: credit.into(),
            next: since.unwrap_or(self.store.revision().next()),
        };
        self.watchers.insert(watch, watcher);
        self.watches
            .open(&self.store, watch, filter, since, credit.into());
    }

    /// Hears all that watches have to say, which ends.
    fn poll_watches(&mut self) {
        loop {
            match self.watches.poll(&self.store) {
                Some(WatchOutput::Watching { watch }) => {
                    assert!(self.watchers.contains_key(&watch), "{watch} is not open");
                }
                Some(WatchOutput::Notify { watches, event }) => {
                    assert!(!watches.is_empty(), "an event for nobody");
                    for watch in watches {
                        let watcher = self.watchers.get_mut(&watch).expect("an open watch");
                        assert!(watcher.credit > 0, "{watch} has no credit");
                        assert!(watcher.next <= event.id.index(), "{watch} sees the past");
                        let path = &watcher.filter.path;
                        let is_near = event.path == *path
                            || event.path.below(path).is_some()
                            || path.below(&event.path).is_some();
                        assert!(is_near, "{watch} watches {path}, not {}", event.path);
                        watcher.credit -= 1;
                        watcher.next = event.id.index().next();
                    }
                }
                Some(WatchOutput::End { watch, .. }) => {
                    assert!(self.watchers.remove(&watch).is_some(), "{watch} ends twice");
                }
                Some(WatchOutput::ReadHistory { slice }) => self.reading.push(slice),
                None if self.watches.has_work() => {}
                None => return,
            }
        }
    }

    fn check(&self) {
        let hash = self.store.hash();
        assert_eq!(hash, self.store.recompute_hash(), "a wrong hash");
        assert_eq!(hash, self.loaded.hash(), "loaded, it went another way");
        assert_eq!(self.watches.len(), self.watchers.len(), "watches are lost");
        let (oldest, revision) = (self.store.oldest(), self.store.revision());
        assert!(oldest <= revision.next(), "history begins in the future");
        assert_eq!(self.store.next_deadline(), self.loaded.next_deadline());
    }
}

/// What came of an entry, in a form that can be compared.
type Outcome = std::result::Result<Option<Applied>, String>;

fn apply(store: &mut Store, id: LogId, stamp: ClusterTime, entry: &Entry) -> Outcome {
    match entry {
        Entry::Command(command) => {
            let applied = store.apply(id, stamp, command);
            return applied.map(Some).map_err(|error| format!("{error:?}"));
        }
        Entry::Again => unreachable!("replaced by what it repeats"),
        Entry::Expire { limit, early } => {
            let until = ClusterTime(stamp.0.saturating_sub(u64::from(*early)));
            let expired = store.expire(id, stamp, u32::from(*limit), until);
            assert!(
                expired <= u32::from(*limit),
                "{expired} expired, of {limit}"
            );
        }
        Entry::Reconfigure(configuration) => {
            store.reconfigure(id, stamp, &Arc::new(configuration.clone()));
        }
        Entry::Skip { .. } => store.skip(id, stamp),
    }
    Ok(None)
}
