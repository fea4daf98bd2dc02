//! All watches of a member as cursors (DESIGN.md §5).
//!
//! A watch is a filter, the next v2 index it has to look at, and credit. Events leave only against
//! credit; a slow reader costs a cursor. Those that have seen everything and have credit are
//! indexed by path, so that an event costs the watches it concerns and no others; the rest scan
//! history in bounded chunks, taking turns, so that none delays another. There is one filter for
//! both.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::ops::Bound;

use super::Store;
use super::cold::ColdSlices;
use super::history::{Change, HistoryLost, Place, SliceEvents, SliceId, changes, from};
use super::path::Path;
use super::watch::{Filter, WatchOutput};
use crate::ids::{Revision, WatchId};
use crate::output::EndReason;

/// Where a watch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has seen everything: `next` may be far behind, but there was nothing for it since, or
    /// ahead, for one that begins in the future.
    Live,
    /// Without credit.
    Idle,
    /// There is history it has not seen.
    Lagging,
    /// The history it has to see is on disk.
    Waiting,
}

#[derive(Clone, Debug)]
struct Cursor {
    filter: Filter,
    next: Revision,
    credit: u32,
    state: State,
    /// The cold slice it is at.
    slice: Option<SliceId>,
}

/// The live watches of one path.
#[derive(Clone, Debug, Default)]
struct Listeners {
    plain: BTreeSet<WatchId>,
    recursive: BTreeSet<WatchId>,
}

/// All watches of one member.
///
/// Invariants: `live` holds exactly the watches that are `State::Live`, `lagging` those that are
/// `State::Lagging`; nobody live or lagging is without credit; `seen` is the last index that was
/// offered to live watches.
#[derive(Clone, Debug)]
pub struct Watches {
    watches_max: usize,
    scan_max: usize,
    cursors: BTreeMap<WatchId, Cursor>,
    live: BTreeMap<Path, Listeners>,
    lagging: BTreeSet<WatchId>,
    /// Who scanned last: the next one's turn comes after it.
    turn: WatchId,
    cold: ColdSlices,
    seen: Revision,
    ready: VecDeque<WatchOutput>,
    /// Nobody is let in any more.
    stopping: bool,
}

impl Watches {
    /// None yet, over `store`. At most `watches_max` at a time; a poll looks at no more than about
    /// `scan_max` events for those that lag.
    #[must_use]
    pub fn new(watches_max: usize, scan_max: usize, store: &Store) -> Self {
        assert!(scan_max > 0, "watches that lag would never catch up");
        Self {
            watches_max,
            scan_max,
            cursors: BTreeMap::new(),
            live: BTreeMap::new(),
            lagging: BTreeSet::new(),
            turn: WatchId::ZERO,
            cold: ColdSlices::default(),
            seen: store.revision(),
            ready: VecDeque::new(),
            stopping: false,
        }
    }

    /// Begins a watch at the v2 index `since`, or after now; an index in the future is waited for.
    /// Answered by [`WatchOutput::Watching`] or [`WatchOutput::End`].
    pub fn open(
        &mut self,
        store: &Store,
        watch: WatchId,
        filter: Filter,
        since: Option<Revision>,
        credit: u32,
    ) {
        assert!(
            !self.cursors.contains_key(&watch),
            "watch {watch} is in use"
        );
        self.applied(store);
        let next = since.unwrap_or(self.seen.next());
        let reason = if self.stopping {
            Some(EndReason::Stopping)
        } else if self.cursors.len() >= self.watches_max {
            Some(EndReason::Busy)
        } else {
            let oldest = store.oldest();
            (next < oldest).then_some(EndReason::Cleared { oldest })
        };
        if let Some(reason) = reason {
            let resume = next;
            self.ready.push_back(WatchOutput::End {
                watch,
                reason,
                resume,
            });
            return;
        }
        self.ready.push_back(WatchOutput::Watching { watch });
        let cursor = Cursor {
            filter,
            next,
            credit,
            state: State::Idle,
            slice: None,
        };
        self.cursors.insert(watch, cursor);
        self.resume(watch);
    }

    /// So many more events may leave for this watch. Unknown ones are ignored: it may have ended.
    pub fn credit(&mut self, store: &Store, watch: WatchId, events: u32) {
        self.applied(store);
        if let Some(cursor) = self.cursors.get_mut(&watch) {
            cursor.credit = cursor.credit.saturating_add(events);
            if cursor.state == State::Idle {
                self.resume(watch);
            }
        }
    }

    /// A watcher is gone: nothing more is said of it. Unknown ones are ignored.
    pub fn unwatch(&mut self, watch: WatchId) {
        self.remove(watch);
        self.ready.retain_mut(|output| match output {
            WatchOutput::Notify { watches, .. } => {
                watches.retain(|&other| other != watch);
                !watches.is_empty()
            }
            WatchOutput::Watching { watch: other } | WatchOutput::End { watch: other, .. } => {
                *other != watch
            }
            WatchOutput::ReadHistory { .. } => true,
        });
    }

    /// Offers what the store did since the last call to the live watches. To be called after each
    /// entry that was applied: history that has left memory cannot be offered, only scanned.
    pub fn applied(&mut self, store: &Store) {
        if self.live.is_empty() {
            self.seen = store.revision();
            return;
        }
        while self.seen < store.revision() {
            let next = self.seen.next();
            let place = (next >= store.oldest())
                .then(|| store.history.place(next))
                .flatten();
            let Some(Place::Hot(rows)) = place else {
                self.replaced(store);
                return;
            };
            for change in changes(rows) {
                let index = change.event.id.index();
                if index > self.seen {
                    self.offer(&change);
                    self.seen = index;
                }
            }
            assert!(self.seen >= next, "history has no event {next}");
        }
    }

    /// Another state took the store's place, a snapshot for example: every watch has to look for
    /// itself what the history of that one holds for it.
    pub fn replaced(&mut self, store: &Store) {
        let live = core::mem::take(&mut self.live);
        for listeners in live.into_values() {
            for watch in listeners.plain.into_iter().chain(listeners.recursive) {
                let cursor = self
                    .cursors
                    .get_mut(&watch)
                    .expect("live watches have cursors");
                cursor.next = cursor.next.max(self.seen.next());
                cursor.state = State::Idle;
            }
        }
        self.cold.clear();
        self.lagging.clear();
        self.seen = store.revision();
        let watches: Vec<_> = self.cursors.keys().copied().collect();
        for watch in watches {
            let cursor = self
                .cursors
                .get_mut(&watch)
                .expect("the key came from the table");
            (cursor.state, cursor.slice) = (State::Idle, None);
            self.resume(watch);
        }
    }

    /// A slice that was asked for is here, or is lost.
    pub fn history_read(
        &mut self,
        store: &Store,
        slice: SliceId,
        events: Result<SliceEvents, HistoryLost>,
    ) {
        let events = events.ok();
        let lost = events.is_none();
        for watch in self.cold.arrived(slice, events) {
            // A slice that history dropped meanwhile is not lost: its readers fell behind.
            if lost && self.cursors[&watch].next >= store.oldest() {
                self.end(watch, EndReason::HistoryLost);
            } else {
                self.settle(watch, State::Lagging);
            }
        }
    }

    /// Ends all watches, and refuses those to come: the member shuts down.
    pub fn stop(&mut self, store: &Store) {
        self.stopping = true;
        self.applied(store);
        let watches: Vec<_> = self.cursors.keys().copied().collect();
        for watch in watches {
            self.end(watch, EndReason::Stopping);
        }
    }

    /// The next thing to say. `None` is not yet the end while [`has_work`](Self::has_work): then a
    /// chunk of history was scanned and held nothing for the watch whose turn it was.
    pub fn poll(&mut self, store: &Store) -> Option<WatchOutput> {
        self.applied(store);
        if self.ready.is_empty() {
            self.scan(store);
        }
        if let Some(output) = self.ready.pop_front() {
            return Some(output);
        }
        let slice = self.cold.ask()?;
        Some(WatchOutput::ReadHistory { slice })
    }

    /// Whether polling again would get on with something.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.ready.is_empty() || !self.lagging.is_empty()
    }

    /// Whether this watch has seen all there is, and has credit for what comes.
    #[must_use]
    pub fn is_live(&self, watch: WatchId) -> bool {
        let cursor = self.cursors.get(&watch);
        cursor.is_some_and(|cursor| cursor.state == State::Live)
    }

    /// How many are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cursors.len()
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cursors.is_empty()
    }

    /// Sends a change to the live watches that it concerns.
    fn offer(&mut self, change: &Change<'_>) {
        let index = change.event.id.index();
        let mut watches = self.candidates(change);
        watches.retain(|watch| {
            let cursor = &self.cursors[watch];
            cursor.next <= index && cursor.filter.matches(change)
        });
        for &watch in &watches {
            self.spend(watch, index);
        }
        if !watches.is_empty() {
            let event = change.event.clone();
            self.ready.push_back(WatchOutput::Notify { watches, event });
        }
    }

    /// The live watches that a change may concern, each once: a superset, which the filter decides.
    fn candidates(&self, change: &Change<'_>) -> Vec<WatchId> {
        let mut found = Vec::new();
        let path = &change.event.path;
        if let Some(listeners) = self.live.get(path) {
            found.extend(listeners.plain.iter().chain(&listeners.recursive));
        }
        for ancestor in path.ancestors() {
            if let Some(listeners) = self.live.get(&ancestor) {
                found.extend(&listeners.recursive);
            }
        }
        if let (Some(first), Some(last)) = (change.gone.first(), change.gone.last()) {
            let range = (Bound::Included(&first.path), Bound::Included(&last.path));
            for (_, listeners) in self.live.range::<Path, _>(range) {
                found.extend(listeners.plain.iter().chain(&listeners.recursive));
            }
        }
        found
    }

    /// Has those that lag look at history: about `scan_max` events, or until there is something to
    /// say.
    fn scan(&mut self, store: &Store) {
        let mut budget = self.scan_max;
        while budget > 0 && self.ready.is_empty() {
            let after = (Bound::Excluded(self.turn), Bound::Unbounded);
            let next = self.lagging.range(after).next().or(self.lagging.first());
            let Some(&watch) = next else {
                return;
            };
            self.turn = watch;
            let looked_at = self.scan_one(store, watch, budget);
            budget = budget.saturating_sub(looked_at.max(1));
        }
    }

    /// One turn of one watch: as far as the budget, its credit, and its slice go. Returns how many
    /// events it looked at.
    fn scan_one(&mut self, store: &Store, watch: WatchId, budget: usize) -> usize {
        let cursor = self.cursors.get_mut(&watch).expect("who lags has a cursor");
        let oldest = store.oldest();
        if cursor.next < oldest {
            self.end(watch, EndReason::Cleared { oldest });
            return 1;
        }
        let cold;
        let rows = match store.history.place(cursor.next) {
            Some(Place::Hot(rows)) => rows,
            Some(Place::Cold(info)) => {
                if let Some(slice) = cursor.slice.filter(|&slice| slice != info.id) {
                    self.cold.leave(slice, watch);
                }
                cursor.slice = Some(info.id);
                let Some(events) = self.cold.read(info.id, watch) else {
                    self.settle(watch, State::Waiting);
                    return 1;
                };
                if !info.frames(&events) {
                    self.end(watch, EndReason::HistoryLost);
                    return 1;
                }
                cold = events;
                from(&cold, cursor.next).unwrap_or_default()
            }
            None => &[],
        };
        let mut looked_at = 0;
        for change in changes(rows) {
            let index = change.event.id.index();
            let cursor = self.cursors.get_mut(&watch).expect("who lags has a cursor");
            if index < cursor.next {
                continue;
            }
            assert_eq!(index, cursor.next, "history has a gap");
            cursor.next = index.next();
            looked_at += 1;
            if cursor.filter.matches(&change) {
                let (watches, event) = (alloc::vec![watch], change.event.clone());
                self.ready.push_back(WatchOutput::Notify { watches, event });
                self.spend(watch, index);
            }
            if looked_at >= budget || self.cursors[&watch].state != State::Lagging {
                return looked_at;
            }
        }
        self.resume(watch);
        looked_at
    }

    /// One event leaves for a watch.
    fn spend(&mut self, watch: WatchId, index: Revision) {
        let cursor = self
            .cursors
            .get_mut(&watch)
            .expect("an event leaves for an open watch");
        assert!(cursor.credit > 0, "watch {watch} has no credit for {index}");
        cursor.credit -= 1;
        cursor.next = index.next();
        if cursor.credit == 0 {
            self.settle(watch, State::Idle);
        }
    }

    /// Decides how a watch goes on from its cursor.
    fn resume(&mut self, watch: WatchId) {
        let cursor = &self.cursors[&watch];
        let state = match cursor.credit {
            0 => State::Idle,
            _ if cursor.next > self.seen => State::Live,
            _ => State::Lagging,
        };
        self.settle(watch, state);
    }

    fn end(&mut self, watch: WatchId, reason: EndReason) {
        let cursor = &self.cursors[&watch];
        // A live one has seen everything, whatever its cursor says.
        let resume = match cursor.state {
            State::Live => cursor.next.max(self.seen.next()),
            State::Idle | State::Lagging | State::Waiting => cursor.next,
        };
        self.ready.push_back(WatchOutput::End {
            watch,
            reason,
            resume,
        });
        self.remove(watch);
    }

    /// Forgets a watch. What is ready for it will still be told.
    fn remove(&mut self, watch: WatchId) {
        self.settle(watch, State::Idle);
        self.cursors.remove(&watch);
    }

    /// Puts a watch where one in this state belongs. Unknown ones are ignored.
    fn settle(&mut self, watch: WatchId, state: State) {
        let Some(cursor) = self.cursors.get_mut(&watch) else {
            return;
        };
        match cursor.state {
            State::Live => self.leave_live(watch),
            State::Lagging => {
                self.lagging.remove(&watch);
            }
            State::Idle | State::Waiting => {}
        }
        let cursor = self.cursors.get_mut(&watch).expect("it was there above");
        cursor.state = state;
        if !matches!(state, State::Lagging | State::Waiting)
            && let Some(slice) = cursor.slice.take()
        {
            self.cold.leave(slice, watch);
        }
        match state {
            State::Live => {
                let listeners = self.live.entry(cursor.filter.path.clone()).or_default();
                listeners.of(cursor.filter.recursive).insert(watch);
            }
            State::Lagging => {
                self.lagging.insert(watch);
            }
            State::Idle | State::Waiting => {}
        }
    }

    fn leave_live(&mut self, watch: WatchId) {
        let cursor = self
            .cursors
            .get_mut(&watch)
            .expect("live watches have cursors");
        let path = &cursor.filter.path;
        let listeners = self.live.get_mut(path).expect("a live watch is indexed");
        listeners.of(cursor.filter.recursive).remove(&watch);
        if listeners.plain.is_empty() && listeners.recursive.is_empty() {
            self.live.remove(path);
        }
    }
}

impl Listeners {
    fn of(&mut self, recursive: bool) -> &mut BTreeSet<WatchId> {
        if recursive {
            &mut self.recursive
        } else {
            &mut self.plain
        }
    }
}
