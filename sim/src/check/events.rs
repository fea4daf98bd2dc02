//! What happened, event by event, as each replica makes it: E3, what an event shows of T6, T7, T10
//! and L8, and E5.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_core::raft::Payload;
use quorate_core::store::{Action, Event, Operation, Path};
use quorate_core::{ClusterTime, Index};

use super::{Verdict, Violation, ensure};
use crate::ledger::Ledger;
use crate::model::{Model, below};

/// All events of a run.
#[derive(Clone, Debug, Default)]
pub struct Events {
    /// By v2 index: which replica showed it first, and what it showed.
    first: BTreeMap<u64, (usize, Arc<Event>)>,
}

impl Events {
    /// The event of `index`, as whoever applied it first made it.
    #[must_use]
    pub fn get(&self, index: u64) -> Option<&Event> {
        self.first.get(&index).map(|(_, event)| &**event)
    }

    /// `seat` has applied what takes `index`, and this is there.
    ///
    /// # Errors
    /// E3: nothing is there, or something else than on another replica. L8: a name in order is not
    /// that of its index, with which it would rise and never come again. T7: something expired
    /// before what was due earlier. T10: something expired that had
    /// gone with its directory. T6: something expired though it was granted more time. E5: the
    /// model says otherwise.
    pub fn shows(
        &mut self,
        seat: usize,
        index: u64,
        event: Option<&Arc<Event>>,
        ledger: &Ledger,
        model: &Model,
    ) -> Verdict {
        let Some(event) = event.filter(|event| event.id.index().0 == index) else {
            let what = format!("n{seat} counts {index} and has {event:?} there");
            return Err(Violation::new("E3", &[seat], what));
        };
        if let Some((other, first)) = self.first.get(&index) {
            return ensure(first == event, "E3", &[*other, seat], || {
                format!("at v2 index {index}, n{other} has {first:?}, and n{seat} has {event:?}")
            });
        }
        if event.action == Action::Expire {
            self.in_order(seat, index, event)?;
        }
        let change = model.changes().get(place(index - 1));
        if let Some(change) = change
            && let Some(entry) = ledger.get(change.by)
            && let Payload::Command(command) = &entry.payload
            && let Operation::Append(append) = &command.operation
        {
            let path = append.directory.child(format!("{index:020}").as_bytes());
            ensure(event.path == path, "L8", &[seat], || {
                format!(
                    "n{seat} names a child in order {}, which is {path}",
                    event.path
                )
            })?;
        }
        if !change.is_some_and(|change| change.agrees(event)) {
            let id = match event.action {
                Action::Expire => what_expired(event, ledger, model),
                Action::Set
                | Action::Create
                | Action::Update
                | Action::CompareAndSwap
                | Action::Delete
                | Action::CompareAndDelete => "E5",
            };
            let what =
                format!("at v2 index {index}, n{seat} has {event:?}; the model has {change:?}");
            return Err(Violation::new(id, &[seat], what));
        }
        self.first.insert(index, (seat, event.clone()));
        Ok(())
    }

    /// `seat` counts to `counter`, and this is what it has after that.
    ///
    /// # Errors
    /// E3: an event that is not counted.
    pub fn ends(seat: usize, counter: u64, after: Option<&Arc<Event>>) -> Verdict {
        ensure(after.is_none(), "E3", &[seat], || {
            format!("n{seat} counts {counter} and has {after:?} after it")
        })
    }

    /// What expires with one entry has an order: deadline, creation, path; and what went with its
    /// directory is gone.
    fn in_order(&self, seat: usize, index: u64, event: &Event) -> Verdict {
        let with_it = self.first.range(event.id.revision.0..index);
        for (_, (_, earlier)) in with_it.rev() {
            let is_taken = below(&event.path, &earlier.path).is_some();
            ensure(!is_taken, "T10", &[seat], || {
                format!("n{seat} has {event:?}, which went with {earlier:?}")
            })?;
        }
        let Some((_, before)) = self.first.get(&(index - 1)) else {
            return Ok(());
        };
        let is_with_it = before.id.revision == event.id.revision;
        ensure(
            !is_with_it || rank(before) < rank(event),
            "T7",
            &[seat],
            || format!("n{seat} has {event:?} after {before:?}"),
        )
    }
}

/// `directory` has expired at `seat`, and this was in it and is still there.
///
/// # Errors
/// T10.
pub fn gone_with(seat: usize, directory: &Path, left: Option<&Path>) -> Verdict {
    ensure(left.is_none(), "T10", &[seat], || {
        format!("{directory} has expired at n{seat}, and {left:?} is still there")
    })
}

/// What is wrong with an expiry that the model does not know.
fn what_expired(event: &Event, ledger: &Ledger, model: &Model) -> &'static str {
    let expires = |payload: &Payload| matches!(payload, Payload::Expire { .. });
    let mut entries = ledger.iter();
    let entry = entries.find(|entry| entry.stamp == event.at && expires(&entry.payload));
    let Some(entry) = entry else {
        return "E5";
    };
    let before = Index(entry.id.index.0 - 1);
    match model.node_at(before, &event.path) {
        None if went_with_directory(event, model) => "T10",
        None => "E5",
        Some(node) => match node.lease {
            // Due: another was due before it.
            Some(lease) if lease.deadline <= event.at => "T7",
            Some(_) | None if had_deadline(event.at, &event.path, model) => "T6",
            Some(_) | None => "E5",
        },
    }
}

/// Whether the node last went with a directory that expired.
fn went_with_directory(event: &Event, model: &Model) -> bool {
    let mut changes = model.changes().iter().rev();
    let last = changes.find(|change| {
        change.action.removes()
            && (change.path == event.path || below(&event.path, &change.path).is_some())
    });
    last.is_some_and(|last| last.action == Action::Expire && last.path != event.path)
}

/// Whether the node once was to go by `now`.
fn had_deadline(now: ClusterTime, path: &Path, model: &Model) -> bool {
    let mut versions = model.versions(path);
    versions.any(|node| node.lease.is_some_and(|lease| lease.deadline <= now))
}

fn rank(event: &Event) -> Option<(ClusterTime, u64, &Path)> {
    let previous = event.previous.as_ref()?;
    let deadline = previous.lease?.deadline;
    Some((deadline, previous.created.index().0, &event.path))
}

fn place(index: u64) -> usize {
    usize::try_from(index).expect("runs are short")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quorate_core::store::{Append, Audience, Command, Content, Lease, NodeState, Put, When};
    use quorate_core::{ChangeId, LeaseId, LogId, Revision, Term};

    use super::super::id_of;
    use super::*;
    use crate::clock::Time;
    use crate::ledger::Committed;

    /// A ledger, what the model makes of it, and what a replica says it made.
    #[derive(Default)]
    struct Story {
        ledger: Ledger,
        model: Model,
        events: Events,
    }

    impl Story {
        fn commits(&mut self, stamp: u64, payload: Payload) {
            let stamp = ClusterTime(stamp);
            self.ledger.push(Committed {
                id: LogId {
                    term: Term(1),
                    index: self.ledger.last().next(),
                },
                chain: 0,
                stamp,
                payload: payload.clone(),
                stamped: Time(0),
                committed_in: Term(1),
                committed: Time(0),
            });
            self.model.apply(stamp, &payload);
        }

        fn does(&mut self, stamp: u64, operation: Operation) {
            let client = None;
            let command = Command { client, operation };
            self.commits(stamp, Payload::Command(command.into()));
        }

        fn puts(&mut self, stamp: u64, name: &str, content: Content, ttl: u64) {
            let put = Put {
                path: path(name),
                content,
                when: When::Always,
                ttl: Some(Duration::from_nanos(ttl)),
            };
            self.does(stamp, Operation::Put(put));
        }

        fn sets(&mut self, stamp: u64, name: &str, ttl: u64) {
            self.puts(stamp, name, Content::Value("v".into()), ttl);
        }

        fn expires(&mut self, stamp: u64, limit: u32) {
            let until = ClusterTime(stamp);
            self.commits(stamp, Payload::Expire { limit, until });
        }

        /// As the model has it.
        fn right(&self, index: u64) -> Event {
            let change = &self.model.changes()[place(index - 1)];
            let stamp = self.ledger.get(change.by).expect("it made this").stamp;
            // The events of one entry share its revision.
            let mut with_it = self.model.changes().iter();
            let first = with_it.find(|other| other.by == change.by);
            let revision = first.expect("at least this").index;
            Event {
                id: ChangeId {
                    revision: Revision(revision),
                    sub: u32::try_from(index - revision).expect("few"),
                },
                at: stamp,
                action: change.action,
                audience: Audience::Everyone,
                path: change.path.clone(),
                node: state(&change.node),
                previous: change.previous.as_ref().map(state),
            }
        }

        fn shows(&mut self, seat: usize, event: &Event, index: u64) -> Verdict {
            let event = Arc::new(event.clone());
            self.events
                .shows(seat, index, Some(&event), &self.ledger, &self.model)
        }

        fn shows_right(&mut self, indexes: std::ops::RangeInclusive<u64>) {
            for index in indexes {
                let event = self.right(index);
                assert_eq!(self.shows(0, &event, index), Ok(()));
            }
        }
    }

    fn path(name: &str) -> Path {
        Path::new(name.as_bytes()).expect("a clean path")
    }

    fn state(node: &crate::model::Node) -> NodeState {
        let id = |index| ChangeId {
            revision: Revision(index),
            sub: 0,
        };
        NodeState {
            value: node.value.clone(),
            created: id(node.created),
            modified: id(node.modified),
            lease: node.lease.map(|lease| Lease {
                id: LeaseId::PRIVATE,
                granted: lease.granted,
                deadline: lease.deadline,
            }),
        }
    }

    #[test]
    fn e3_an_index_without_its_event_or_with_two() {
        let mut story = Story::default();
        story.sets(5, "/a", 90);
        story.sets(6, "/b", 90);
        let (first, second) = (story.right(1), story.right(2));
        assert_eq!(story.shows(0, &first, 1), Ok(()));
        assert_eq!(story.shows(1, &first, 1), Ok(()));
        let mut other = first.clone();
        other.at = ClusterTime(6);
        assert_eq!(id_of(&story.shows(1, &other, 1)), "E3", "another event");
        assert_eq!(id_of(&story.shows(0, &first, 2)), "E3", "a hole");
        let (ledger, model) = (&story.ledger, &story.model);
        let none = story.events.shows(0, 2, None, ledger, model);
        assert_eq!(id_of(&none), "E3");
        assert_eq!(Events::ends(0, 2, None), Ok(()));
        assert_eq!(id_of(&Events::ends(0, 1, Some(&second.into()))), "E3");
    }

    #[test]
    fn e5_an_event_unlike_the_models() {
        let mut story = Story::default();
        story.sets(5, "/a", 90);
        let mut event = story.right(1);
        event.node.value = Some("w".into());
        assert_eq!(id_of(&story.shows(0, &event, 1)), "E5");
        story.shows_right(1..=1);
    }

    #[test]
    fn l8_a_name_that_is_not_of_its_index() {
        let mut story = Story::default();
        for stamp in [5, 6] {
            let append = Append {
                directory: path("/d"),
                value: Some("v".into()),
                ttl: None,
            };
            story.does(stamp, Operation::Append(append));
        }
        story.shows_right(1..=1);
        for wrong in ["00000000000000000001", "00000000000000000003", "2"] {
            let mut again = story.right(2);
            again.path = path("/d").child(wrong.as_bytes());
            assert_eq!(id_of(&story.shows(0, &again, 2)), "L8");
        }
        story.shows_right(2..=2);
    }

    #[test]
    fn t6_the_old_deadline_of_what_was_refreshed() {
        let mut story = Story::default();
        story.sets(5, "/a", 10);
        story.puts(6, "/a", Content::Kept, 90);
        story.expires(20, 9);
        // The refresh is silent, and an event of its own all the same.
        let mut refresh = story.right(2);
        refresh.audience = Audience::Nobody;
        story.shows_right(1..=1);
        assert_eq!(story.shows(0, &refresh, 2), Ok(()));
        let gone = Event {
            id: ChangeId {
                revision: Revision(3),
                sub: 0,
            },
            at: ClusterTime(20),
            action: Action::Expire,
            previous: Some(refresh.node.clone()),
            ..story.right(1)
        };
        assert_eq!(id_of(&story.shows(0, &gone, 3)), "T6");
        story.expires(96, 9);
        story.shows_right(3..=3);
    }

    #[test]
    fn t7_what_is_due_later_goes_first() {
        let mut story = Story::default();
        story.sets(5, "/late", 30);
        story.sets(5, "/b", 10);
        story.sets(5, "/a", 10);
        story.expires(50, 9);
        story.shows_right(1..=5);
        let (second, third) = (story.right(5), story.right(6));
        assert_eq!(story.shows(0, &third, 6), Ok(()));
        // Equal deadlines: what was created first goes first.
        let ranks = [story.right(4), second, third].map(|e| rank(&e).map(|r| r.1));
        assert_eq!(ranks, [Some(2), Some(3), Some(1)]);

        let swapped = |story: &Story, index, other| Event {
            id: story.right(index).id,
            ..story.right(other)
        };
        let mut wrong = Story::default();
        wrong.sets(5, "/b", 10);
        wrong.sets(5, "/a", 10);
        wrong.expires(50, 9);
        wrong.shows_right(1..=2);
        let first = swapped(&wrong, 3, 4);
        assert_eq!(id_of(&wrong.shows(0, &first, 3)), "T7");
        wrong.shows_right(3..=3);
        let again = swapped(&wrong, 4, 3);
        assert_eq!(id_of(&wrong.shows(0, &again, 4)), "T7");
    }

    #[test]
    fn t10_what_went_with_its_directory_expires_again() {
        let mut story = Story::default();
        story.puts(5, "/d", Content::Directory, 10);
        story.sets(5, "/d/a", 20);
        story.expires(30, 9);
        story.shows_right(1..=3);
        let child = |at: u64, sub: u32| Event {
            id: ChangeId {
                revision: Revision(if sub == 0 { 4 } else { 3 }),
                sub,
            },
            at: ClusterTime(at),
            action: Action::Expire,
            previous: Some(story.right(2).node),
            ..story.right(2)
        };
        let (with_it, later) = (child(30, 1), child(40, 0));
        assert_eq!(id_of(&story.shows(0, &with_it, 4)), "T10");
        story.expires(40, 9);
        assert_eq!(id_of(&story.shows(0, &later, 4)), "T10");
        assert_eq!(gone_with(0, &path("/d"), None), Ok(()));
        let left = path("/d/a");
        assert_eq!(id_of(&gone_with(0, &path("/d"), Some(&left))), "T10");
    }
}
