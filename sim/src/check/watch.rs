//! Streams that miss nothing and repeat nothing: W1 to W5, what follows for W6, W7 and W9, and that
//! snapshots change nothing about it: W10.

use std::collections::{BTreeMap, BTreeSet};

use quorate_core::store::{Event, Filter};
use quorate_core::{EndReason, Revision, WatchId};

use super::{Verdict, Violation, ensure};
use crate::model::Model;

/// All watches of a run; a watch resumed at another node goes on as the same stream (W5).
#[derive(Clone, Debug, Default)]
pub struct Streams {
    open: BTreeMap<u64, Stream>,
    names: BTreeMap<WatchId, (u64, usize)>,
    /// Watches that were open when a snapshot took the place of the store.
    across: BTreeSet<WatchId>,
}

#[derive(Clone, Debug)]
struct Stream {
    filter: Filter,
    /// The first v2 index that may still be delivered; `None` until a watch from now has begun.
    next: Option<u64>,
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
    ) {
        self.names.insert(watch, (stream, seat));
        self.open.entry(stream).or_insert_with(|| Stream {
            filter: filter.clone(),
            next: since.map(|since| since.0),
        });
    }

    /// The stream's headers came: the counter of the store when it began.
    pub fn begins(&mut self, watch: WatchId, revision: Revision) {
        if let Some((_, stream)) = self.find(watch) {
            stream.next.get_or_insert(revision.0 + 1);
        }
    }

    /// A snapshot took the place of the store of `seat`.
    pub fn installs(&mut self, seat: usize) {
        let there = self.names.iter().filter(|(_, (_, at))| *at == seat);
        self.across.extend(there.map(|(&watch, _)| watch));
    }

    /// Where the stream of `watch` goes on.
    #[must_use]
    pub fn next(&self, stream: u64) -> Option<Revision> {
        self.open.get(&stream)?.next.map(Revision)
    }

    /// An event is delivered.
    ///
    /// # Errors
    /// W2: it is not committed. W9: it is not what happened. W1: something was left out before it,
    /// or it was delivered already. W8: it is not for this watch. W7: it is older than asked for.
    /// W10 instead of any of them, where a snapshot took the store's place meanwhile.
    pub fn delivers(&mut self, watch: WatchId, event: &Event, model: &Model) -> Verdict {
        let verdict = self.delivers_in_order(watch, event, model);
        self.across_install(watch, verdict)
    }

    fn delivers_in_order(&mut self, watch: WatchId, event: &Event, model: &Model) -> Verdict {
        let Some((seat, stream)) = self.find(watch) else {
            return Err(Violation::new(
                "W1",
                &[],
                format!("{watch} is not open: {event:?}"),
            ));
        };
        let index = event.id.index().0;
        let Some(change) = change_at(model, index) else {
            return Err(Violation::new(
                "W2",
                &[seat],
                format!("{watch} is given {event:?}, which is not committed"),
            ));
        };
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
            return Err(Violation::new(
                "W1",
                &[seat],
                format!("{watch} has not begun: {event:?}"),
            ));
        };
        ensure(index >= next, "W1", &[seat], || {
            format!("{watch} of {filter:?} goes on from {next} and is given {index}")
        })?;
        missed(model, filter, next, index, "W1", seat, watch)?;
        stream.next = Some(index + 1);
        Ok(())
    }

    /// The watch ends.
    ///
    /// # Errors
    /// W6: it is said to be cleared and is not. W5: to go on at `resume` would leave something out.
    /// W10: either of them, or history was lost, where a snapshot took the store's place meanwhile.
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
        let Some((seat, stream)) = self.find(watch) else {
            return Ok(());
        };
        let filter = stream.filter.clone();
        let next = stream.next;
        if let (EndReason::Cleared { oldest }, Some(next)) = (reason, next) {
            ensure(next < oldest.0, "W6", &[seat], || {
                format!("{watch} goes on from {next} and is cleared; {oldest} is the oldest kept")
            })?;
        } else if let Some(next) = next {
            missed(model, &filter, next, resume.0, "W5", seat, watch)?;
        } else {
            // From now, and never begun: now was then.
            stream.next = Some(resume.0);
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
        self.names.retain(|_, (of, _)| *of != stream);
    }

    /// Whether a stream that is open has been given all there is.
    #[must_use]
    pub fn behind(&self, model: &Model) -> Option<(WatchId, usize)> {
        let behind = |&stream: &u64| {
            let Some(Stream {
                filter,
                next: Some(next),
            }) = self.open.get(&stream)
            else {
                return false;
            };
            let end = model.revision() + 1;
            missed(model, filter, *next, end, "V6", 0, WatchId::ZERO).is_err()
        };
        let found = self.names.iter().find(|(_, (stream, _))| behind(stream));
        found.map(|(&watch, &(_, seat))| (watch, seat))
    }

    fn find(&mut self, watch: WatchId) -> Option<(usize, &mut Stream)> {
        let &(stream, seat) = self.names.get(&watch)?;
        Some((seat, self.open.get_mut(&stream)?))
    }
}

/// Fails with `id` where a change from `from` to before `to` is wanted.
fn missed(
    model: &Model,
    filter: &Filter,
    from: u64,
    to: u64,
    id: &'static str,
    seat: usize,
    watch: WatchId,
) -> Verdict {
    let first = usize::try_from(from.max(1) - 1).expect("runs are short");
    let missed = model
        .changes()
        .iter()
        .skip(first)
        .take_while(|change| change.index < to)
        .find(|change| model.wants(&filter.path, filter.recursive, change));
    match missed {
        None => Ok(()),
        Some(missed) => Err(Violation::new(
            id,
            &[seat],
            format!("{watch} of {filter:?} went on from {from} to {to} without {missed:?}"),
        )),
    }
}

fn change_at(model: &Model, index: u64) -> Option<&crate::model::Change> {
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
        let mut streams = Streams::default();
        let filter = Filter {
            path: Path::root().child(b"a"),
            recursive: false,
        };
        streams.opens(1, WATCH, 0, &filter, Some(Revision(since)));
        streams
    }

    #[test]
    fn a_stream_in_order_is_legal_and_ends_up_complete() {
        let (model, mut streams) = (model(), streams(1));
        for (index, previous) in [(1, None), (3, Some(1)), (4, Some(3))] {
            assert!(streams.behind(&model).is_some());
            assert_eq!(
                streams.delivers(WATCH, &event(index, previous), &model),
                Ok(())
            );
        }
        assert_eq!(streams.behind(&model), None);
    }

    #[test]
    fn w1_w3_w4_w5_gaps_and_repeats() {
        let (model, mut streams) = (model(), streams(1));
        assert_eq!(
            id_of(&streams.delivers(WATCH, &event(3, Some(1)), &model)),
            "W1"
        );
        assert_eq!(streams.delivers(WATCH, &event(1, None), &model), Ok(()));
        assert_eq!(
            id_of(&streams.delivers(WATCH, &event(1, None), &model)),
            "W1"
        );
        let filter = streams.open[&1].filter.clone();
        streams.opens(1, WatchId(2), 1, &filter, Some(Revision(2)));
        assert_eq!(
            id_of(&streams.delivers(WatchId(2), &event(4, Some(3)), &model)),
            "W1"
        );
    }

    #[test]
    fn w2_not_committed_w8_not_wanted_w9_not_true() {
        let (model, mut streams) = (model(), streams(1));
        assert_eq!(
            id_of(&streams.delivers(WATCH, &event(5, Some(4)), &model)),
            "W2"
        );
        assert_eq!(
            id_of(&streams.delivers(WATCH, &event(2, None), &model)),
            "W8"
        );
        assert_eq!(
            id_of(&streams.delivers(WATCH, &event(1, Some(1)), &model)),
            "W9"
        );
    }

    #[test]
    fn w10_a_snapshot_under_an_open_watch() {
        let (model, mut streams) = (model(), streams(1));
        streams.installs(1);
        assert_eq!(streams.delivers(WATCH, &event(1, None), &model), Ok(()));
        streams.installs(0);
        let skips = streams.delivers(WATCH, &event(4, Some(3)), &model);
        assert_eq!(id_of(&skips), "W10");
        assert_eq!(streams.delivers(WATCH, &event(3, Some(1)), &model), Ok(()));
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
    fn w5_w6_what_an_end_may_say() {
        let model = model();
        let cleared = |oldest| EndReason::Cleared {
            oldest: Revision(oldest),
        };
        let end = |reason, resume| streams(2).ends(WATCH, reason, Revision(resume), &model);
        assert_eq!(end(cleared(3), 3), Ok(()));
        assert_eq!(id_of(&end(cleared(2), 2)), "W6");
        assert_eq!(end(EndReason::Stopping, 3), Ok(()));
        assert_eq!(id_of(&end(EndReason::Stopping, 4)), "W5");
    }
}
