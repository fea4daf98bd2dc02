//! Streams that miss nothing and repeat nothing: W1 to W5, W7 to W9, W11, W12, what follows for W6,
//! and that snapshots change nothing about it: W10.

use std::collections::{BTreeMap, BTreeSet};

use quorate_core::store::{Event, Filter};
use quorate_core::{EndReason, Revision, WatchId};

use super::{Verdict, Violation, ensure};
use crate::model::{Change, Model};

/// All watches of a run; a watch resumed at another node goes on as the same stream (W5).
#[derive(Clone, Debug, Default)]
pub struct Streams {
    open: BTreeMap<u64, Stream>,
    names: BTreeMap<WatchId, Watch>,
    /// Watches that were open when a snapshot took the place of the store.
    across: BTreeSet<WatchId>,
}

#[derive(Clone, Debug)]
struct Stream {
    filter: Filter,
    /// The first v2 index asked for; `None` where it began with the next one.
    asked: Option<u64>,
    /// The first v2 index that may still be delivered; `None` until a watch from now has begun.
    next: Option<u64>,
    /// One event is all it wants.
    once: bool,
}

/// One watch of a stream, at one member.
#[derive(Clone, Copy, Debug)]
struct Watch {
    stream: u64,
    seat: usize,
    /// Events that may still be delivered.
    credit: u64,
    /// The store's counter when credit last came: what is at or before it, is history.
    history: u64,
    /// Nothing through here was missing at the last look.
    looked: u64,
    /// So many others were open at its member when it was asked for.
    others: usize,
}

impl Streams {
    /// A client opens `stream` as `watch` at `seat`: anew, or to go on after what it has seen.
    pub fn opens(
        &mut self,
        stream: u64,
        watch: WatchId,
        seat: usize,
        filter: &Filter,
        since: Option<Revision>,
        once: bool,
    ) {
        let opened = Watch {
            stream,
            seat,
            credit: 0,
            history: 0,
            looked: 0,
            others: 0,
        };
        self.names.insert(watch, opened);
        self.open.entry(stream).or_insert_with(|| Stream {
            filter: filter.clone(),
            asked: since.map(|since| since.0),
            next: since.map(|since| since.0),
            once,
        });
    }

    /// So many more events may be delivered, of those from after `counter` on as they happen.
    pub fn credits(&mut self, watch: WatchId, events: u32, counter: Revision) {
        if let Some(watch) = self.names.get_mut(&watch) {
            watch.credit += u64::from(events);
            watch.history = counter.0;
        }
    }

    /// `others` are open at its member when it is asked for.
    pub fn joins(&mut self, watch: WatchId, others: usize) {
        if let Some(watch) = self.names.get_mut(&watch) {
            watch.others = others;
        }
    }

    /// At which member it was asked for, and how many others were open there.
    #[must_use]
    pub fn joined(&self, watch: WatchId) -> Option<(usize, usize)> {
        let watch = self.names.get(&watch)?;
        Some((watch.seat, watch.others))
    }

    /// The stream's headers came: the counter of the store when it began.
    pub fn begins(&mut self, watch: WatchId, revision: Revision) {
        if let Some((_, stream)) = self.find(watch) {
            stream.next.get_or_insert(revision.0 + 1);
        }
    }

    /// A snapshot took the place of the store of `seat`.
    pub fn installs(&mut self, seat: usize) {
        let there = self.names.iter().filter(|(_, watch)| watch.seat == seat);
        self.across.extend(there.map(|(&watch, _)| watch));
    }

    /// Where the stream of `watch` goes on.
    #[must_use]
    pub fn next(&self, stream: u64) -> Option<Revision> {
        self.open.get(&stream)?.next.map(Revision)
    }

    /// An event is delivered; `original` is what it was when it was applied first, where that was
    /// seen.
    ///
    /// # Errors
    /// W11: there was no credit for it. W2: it is not committed. W4: it is not what it was when it
    /// happened. W9: it is not what the model says. W8: it is not for this watch. W7: it is older
    /// than what was asked for. W12: it is not the first one, where one is enough. W3: history and
    /// what happens now do not meet. W1: something was left out before it, or it was delivered
    /// already. W10 instead of most of them, where a snapshot took the store's place meanwhile.
    pub fn delivers(
        &mut self,
        watch: WatchId,
        event: &Event,
        original: Option<&Event>,
        model: &Model,
    ) -> Verdict {
        if let Some(watch) = self.names.get_mut(&watch) {
            let credit = watch.credit;
            watch.credit = credit.saturating_sub(1);
            ensure(credit > 0, "W11", &[watch.seat], || {
                format!("{watch:?} has no credit and is given {event:?}")
            })?;
        }
        let verdict = self.delivers_in_order(watch, event, original, model);
        self.across_install(watch, verdict)
    }

    fn delivers_in_order(
        &mut self,
        watch: WatchId,
        event: &Event,
        original: Option<&Event>,
        model: &Model,
    ) -> Verdict {
        let Some((of, stream)) = self.find(watch) else {
            let what = format!("{watch} is not open: {event:?}");
            return Err(Violation::new("W1", &[], what));
        };
        let seat = of.seat;
        let index = event.id.index().0;
        let Some(change) = change_at(model, index) else {
            let what = format!("{watch} is given {event:?}, which is not committed");
            return Err(Violation::new("W2", &[seat], what));
        };
        let is_replay = index <= of.history;
        let is_same = original.is_none_or(|original| original == event);
        ensure(!is_replay || is_same, "W4", &[seat], || {
            format!("{watch} is given {event:?} from history, which was {original:?}")
        })?;
        ensure(change.agrees(event), "W9", &[seat], || {
            format!("{watch} is given {event:?} for {change:?}")
        })?;
        let filter = &stream.filter;
        ensure(
            model.wants(&filter.path, filter.recursive, change),
            "W8",
            &[seat],
            || format!("{watch} of {filter:?} is given {event:?}"),
        )?;
        let Some(next) = stream.next else {
            let what = format!("{watch} has not begun: {event:?}");
            return Err(Violation::new("W1", &[seat], what));
        };
        ensure(
            stream.asked.is_none_or(|asked| index >= asked),
            "W7",
            &[seat],
            || {
                let asked = stream.asked;
                format!("{watch} of {filter:?} begins at {asked:?} and is given {index}")
            },
        )?;
        let id = if is_replay && next > of.history {
            "W3"
        } else {
            "W1"
        };
        ensure(index >= next, id, &[seat], || {
            format!("{watch} of {filter:?} goes on from {next} and is given {index}")
        })?;
        if let Some(missed) = first_missed(model, filter, next.max(of.looked + 1), index) {
            let id = if stream.once {
                "W12"
            } else if missed.index <= of.history && !is_replay {
                "W3"
            } else {
                "W1"
            };
            return Err(gap(id, watch, of, filter, (next, index), missed));
        }
        stream.next = Some(index + 1);
        Ok(())
    }

    /// What `seat` says of its watches, with its counter at `counter`: whether each has seen all
    /// there is and is told of the rest as it happens.
    ///
    /// # Errors
    /// W3: one that says so has missed something of history.
    pub fn meet(
        &mut self,
        seat: usize,
        counter: Revision,
        is_live: impl Fn(WatchId) -> bool,
        model: &Model,
    ) -> Verdict {
        let here = self.names.iter_mut().filter(|(_, of)| of.seat == seat);
        for (&watch, of) in here.filter(|(watch, _)| is_live(**watch)) {
            let Some(Stream {
                filter,
                next: Some(next),
                ..
            }) = self.open.get(&of.stream)
            else {
                continue;
            };
            let (from, to) = ((*next).max(of.looked + 1), counter.0 + 1);
            if let Some(missed) = first_missed(model, filter, from, to) {
                let id = if self.across.contains(&watch) {
                    "W10"
                } else {
                    "W3"
                };
                return Err(gap(id, watch, *of, filter, (from, to), missed));
            }
            of.looked = counter.0;
        }
        Ok(())
    }

    /// The watch ends.
    ///
    /// # Errors
    /// W6: it is said to be cleared and is not. W11: it is, and is not told how far it came. W5: to
    /// go on at `resume` would leave something out, or repeat it. W10: any of them, or history was
    /// lost, where a snapshot took the store's place meanwhile.
    pub fn ends(
        &mut self,
        watch: WatchId,
        reason: EndReason,
        resume: Revision,
        model: &Model,
    ) -> Verdict {
        let lost = reason == EndReason::HistoryLost && self.across.contains(&watch);
        ensure(!lost, "W10", &[], || {
            format!("{watch} is ended for lost history after a snapshot was installed")
        })?;
        let verdict = self.ends_in_order(watch, reason, resume, model);
        let verdict = self.across_install(watch, verdict);
        self.across.remove(&watch);
        verdict
    }

    fn across_install(&self, watch: WatchId, verdict: Verdict) -> Verdict {
        verdict.map_err(|violation| Violation {
            id: match self.across.contains(&watch) {
                true => "W10",
                false => violation.id,
            },
            ..violation
        })
    }

    fn ends_in_order(
        &mut self,
        watch: WatchId,
        reason: EndReason,
        resume: Revision,
        model: &Model,
    ) -> Verdict {
        let Some((of, stream)) = self.find(watch) else {
            return Ok(());
        };
        let Some(next) = stream.next else {
            // From now, and never begun: now was then.
            stream.next = Some(resume.0);
            self.names.remove(&watch);
            return Ok(());
        };
        let mut id = "W5";
        if let EndReason::Cleared { oldest } = reason {
            id = "W11";
            ensure(next < oldest.0, "W6", &[of.seat], || {
                format!("{watch} goes on from {next} and is cleared; {oldest} is the oldest kept")
            })?;
        }
        ensure(resume.0 >= next, id, &[of.seat], || {
            format!("{watch} goes on from {next} and is told to resume at {resume}")
        })?;
        let from = next.max(of.looked + 1);
        if let Some(missed) = first_missed(model, &stream.filter, from, resume.0) {
            let range = (next, resume.0);
            return Err(gap(id, watch, of, &stream.filter, range, missed));
        }
        self.names.remove(&watch);
        Ok(())
    }

    /// The connection of the watch is gone, and with it nothing that had been delivered.
    pub fn drops(&mut self, watch: WatchId) {
        self.names.remove(&watch);
    }

    /// The client wants no more of `stream`, or has to begin anew after it was cleared.
    pub fn forgets(&mut self, stream: u64) {
        self.open.remove(&stream);
        self.names.retain(|_, of| of.stream != stream);
    }

    /// Whether a stream that is open has been given all there is.
    #[must_use]
    pub fn behind(&self, model: &Model) -> Option<(WatchId, usize)> {
        let behind = |of: &Watch| {
            let Some(Stream {
                filter,
                next: Some(next),
                ..
            }) = self.open.get(&of.stream)
            else {
                return false;
            };
            let end = model.revision() + 1;
            first_missed(model, filter, *next, end).is_some()
        };
        let found = self.names.iter().find(|(_, of)| behind(of));
        found.map(|(&watch, of)| (watch, of.seat))
    }

    fn find(&mut self, watch: WatchId) -> Option<(Watch, &mut Stream)> {
        let of = *self.names.get(&watch)?;
        Some((of, self.open.get_mut(&of.stream)?))
    }
}

/// The first change from `from` to before `to` that is wanted.
fn first_missed<'a>(model: &'a Model, filter: &Filter, from: u64, to: u64) -> Option<&'a Change> {
    let first = usize::try_from(from.max(1) - 1).expect("runs are short");
    let changes = model.changes().iter().skip(first);
    changes
        .take_while(|change| change.index < to)
        .find(|change| model.wants(&filter.path, filter.recursive, change))
}

fn gap(
    id: &'static str,
    watch: WatchId,
    of: Watch,
    filter: &Filter,
    (from, to): (u64, u64),
    missed: &Change,
) -> Violation {
    let what = format!("{watch} of {filter:?} went on from {from} to {to} without {missed:?}");
    Violation::new(id, &[of.seat], what)
}

fn change_at(model: &Model, index: u64) -> Option<&Change> {
    let place = usize::try_from(index.checked_sub(1)?).ok()?;
    model.changes().get(place)
}

#[cfg(test)]
mod tests {
    use quorate_core::raft::Payload;
    use quorate_core::store::{
        Action, Audience, Command, Content, NodeState, Operation, Path, Put, When,
    };
    use quorate_core::{ChangeId, ClusterTime};

    use super::super::id_of;
    use super::*;

    const WATCH: WatchId = WatchId(1);

    /// `/a` set three times and `/b` once in between.
    fn model() -> Model {
        let mut model = Model::new();
        for name in ["a", "b", "a", "a"] {
            let operation = Operation::Put(Put {
                path: Path::root().child(name.as_bytes()),
                content: Content::Value("v".into()),
                when: When::Always,
                ttl: None,
            });
            let command = Command {
                client: None,
                operation,
            };
            model.apply(ClusterTime::ZERO, &Payload::Command(command.into()));
        }
        model
    }

    fn event(index: u64, previous: Option<u64>) -> Event {
        let at = |index| NodeState {
            value: Some("v".into()),
            created: ChangeId {
                revision: Revision(index),
                sub: 0,
            },
            modified: ChangeId {
                revision: Revision(index),
                sub: 0,
            },
            lease: None,
        };
        let name = if index == 2 { b"b" } else { b"a" };
        Event {
            id: at(index).modified,
            at: ClusterTime::ZERO,
            action: Action::Set,
            audience: Audience::Everyone,
            path: Path::root().child(name),
            node: at(index),
            previous: previous.map(at),
        }
    }

    fn streams(since: u64) -> Streams {
        opened(Some(since), false, 0)
    }

    /// Opened when the store counted to `counter`, with credit for ten events.
    fn opened(since: Option<u64>, once: bool, counter: u64) -> Streams {
        let mut streams = Streams::default();
        open(&mut streams, WATCH, since, once, counter);
        streams
    }

    fn open(streams: &mut Streams, watch: WatchId, since: Option<u64>, once: bool, counter: u64) {
        let filter = Filter {
            path: Path::root().child(b"a"),
            recursive: false,
        };
        streams.opens(1, watch, 0, &filter, since.map(Revision), once);
        streams.credits(watch, 10, Revision(counter));
    }

    impl Streams {
        fn gives(&mut self, index: u64, previous: Option<u64>) -> Verdict {
            self.delivers(WATCH, &event(index, previous), None, &model())
        }
    }

    #[test]
    fn w1_v6_gaps_and_repeats_and_what_is_complete() {
        let (model, mut streams) = (model(), streams(1));
        assert_eq!(id_of(&streams.gives(3, Some(1))), "W1");
        for (index, previous) in [(1, None), (3, Some(1)), (4, Some(3))] {
            assert_eq!(streams.behind(&model), Some((WATCH, 0)));
            assert_eq!(streams.gives(index, previous), Ok(()));
            assert_eq!(id_of(&streams.gives(index, previous)), "W1");
        }
        assert_eq!(streams.behind(&model), None);
        streams.forgets(1);
        assert_eq!(id_of(&streams.gives(4, Some(3))), "W1", "it is not open");
    }

    #[test]
    fn w2_not_committed_yet() {
        let mut streams = streams(1);
        assert_eq!(id_of(&streams.gives(5, Some(4))), "W2");
        assert_eq!(streams.gives(1, None), Ok(()));
    }

    #[test]
    fn w3_history_and_what_happens_now() {
        // The store counted to 3 when the watch began at 1.
        let story = || opened(Some(1), false, 3);
        let mut legal = story();
        for (index, previous) in [(1, None), (3, Some(1)), (4, Some(3))] {
            assert_eq!(legal.gives(index, previous), Ok(()));
        }
        assert_eq!(id_of(&legal.gives(3, Some(1))), "W3", "history once more");
        let mut hasty = story();
        assert_eq!(hasty.gives(1, None), Ok(()));
        assert_eq!(id_of(&hasty.gives(4, Some(3))), "W3");
        let model = model();
        let live = |streams: &mut Streams| streams.meet(0, Revision(4), |_| true, &model);
        assert_eq!(id_of(&live(&mut hasty)), "W3", "it says that it is there");
        assert_eq!(hasty.meet(0, Revision(4), |_| false, &model), Ok(()));
        assert_eq!(live(&mut legal), Ok(()));
    }

    #[test]
    fn w4_history_unlike_what_happened() {
        let was = event(1, None);
        let mut now = was.clone();
        now.at = ClusterTime(7);
        let gives = |counter, event: &Event| {
            let mut streams = opened(Some(1), false, counter);
            streams.delivers(WATCH, event, Some(&was), &model())
        };
        assert_eq!(gives(4, &was), Ok(()));
        assert_eq!(id_of(&gives(4, &now)), "W4");
    }

    #[test]
    fn w5_another_watch_goes_on() {
        let again = WatchId(2);
        let resumed = |since| {
            let (model, mut streams) = (model(), streams(1));
            assert_eq!(streams.gives(1, None), Ok(()));
            let end = streams.ends(WATCH, EndReason::Stopping, Revision(2), &model);
            assert_eq!(end, Ok(()));
            open(&mut streams, again, Some(2), false, 0);
            streams.delivers(again, &event(since, Some(since - 1)), None, &model)
        };
        assert_eq!(id_of(&resumed(4)), "W1");
        let model = model();
        let end = |resume| streams(2).ends(WATCH, EndReason::Stopping, Revision(resume), &model);
        assert_eq!(end(3), Ok(()));
        assert_eq!(id_of(&end(4)), "W5", "something is left out");
        assert_eq!(id_of(&end(1)), "W5", "something is repeated");
    }

    #[test]
    fn w6_w11_what_is_cleared() {
        let model = model();
        let cleared = |oldest| EndReason::Cleared {
            oldest: Revision(oldest),
        };
        let end =
            |oldest, resume| streams(2).ends(WATCH, cleared(oldest), Revision(resume), &model);
        assert_eq!(end(3, 3), Ok(()));
        assert_eq!(end(3, 2), Ok(()));
        assert_eq!(id_of(&end(2, 2)), "W6");
        assert_eq!(id_of(&end(5, 5)), "W11", "it came to 2 only");
        assert_eq!(id_of(&end(3, 1)), "W11", "it was further");
    }

    #[test]
    fn w7_older_than_asked_for() {
        let mut streams = streams(3);
        assert_eq!(id_of(&streams.gives(1, None)), "W7");
        assert_eq!(streams.gives(3, Some(1)), Ok(()));
    }

    #[test]
    fn w8_what_is_not_for_this_watch() {
        let mut streams = streams(1);
        assert_eq!(id_of(&streams.gives(2, None)), "W8");
        assert_eq!(streams.gives(1, None), Ok(()));
    }

    #[test]
    fn w9_what_did_not_happen_so() {
        let mut streams = streams(1);
        assert_eq!(id_of(&streams.gives(1, Some(1))), "W9");
        assert_eq!(streams.gives(1, None), Ok(()));
    }

    #[test]
    fn w10_a_snapshot_under_an_open_watch() {
        let (model, mut streams) = (model(), streams(1));
        streams.installs(1);
        assert_eq!(streams.gives(1, None), Ok(()));
        streams.installs(0);
        assert_eq!(id_of(&streams.gives(4, Some(3))), "W10");
        let live = streams.meet(0, Revision(4), |_| true, &model);
        assert_eq!(id_of(&live), "W10");
        assert_eq!(streams.gives(3, Some(1)), Ok(()));
        let end = |reason, resume| {
            streams
                .clone()
                .ends(WATCH, reason, Revision(resume), &model)
        };
        let oldest = Revision(5);
        assert_eq!(end(EndReason::Cleared { oldest }, 4), Ok(()));
        let oldest = Revision(4);
        assert_eq!(id_of(&end(EndReason::Cleared { oldest }, 4)), "W10");
        assert_eq!(id_of(&end(EndReason::HistoryLost, 4)), "W10");
    }

    #[test]
    fn w11_more_than_a_slow_watcher_has_credit_for() {
        let mut streams = Streams::default();
        let filter = Filter {
            path: Path::root().child(b"a"),
            recursive: false,
        };
        streams.opens(1, WATCH, 0, &filter, Some(Revision(1)), false);
        streams.credits(WATCH, 1, Revision(0));
        assert_eq!(streams.gives(1, None), Ok(()));
        assert_eq!(id_of(&streams.gives(3, Some(1))), "W11");
        streams.credits(WATCH, 1, Revision(4));
        assert_eq!(streams.gives(3, Some(1)), Ok(()));
    }

    #[test]
    fn w12_one_event_that_is_not_the_first() {
        let mut streams = opened(Some(2), true, 4);
        assert_eq!(id_of(&streams.gives(4, Some(3))), "W12");
        assert_eq!(streams.gives(3, Some(1)), Ok(()));
    }
}
