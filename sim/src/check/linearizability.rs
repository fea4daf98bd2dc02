//! The ledger as a witness (SIMULATION.md §8.1): L1 to L7, R17. L8 is with the
//! [events](super::events).
//!
//! The ledger is the claimed order. Every reply must equal the model's at the index in its header;
//! what was answered before something else was asked must come before it.
//!
//! A member that passes on a command without a request id gives it one, and may pass it on several
//! times: the ledger may hold it as often, and only the first takes effect.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate_core::raft::Payload;
use quorate_core::store::{
    Body, ClientRequest, Command, Consistency, Content, Header, Operation, Query, Response, Scope,
    StoreError,
};
use quorate_core::{Index, RequestError};

use super::{Verdict, Violation, ensure};
use crate::ledger::Ledger;
use crate::model::{Answer, Model};

/// Numbered sessions from here on are drawn by members; those of clients are small.
const DRAWN: u64 = 1 << 32;

/// What a client asks for.
#[derive(Clone, Debug)]
pub enum Asked {
    /// A change.
    Write(Arc<Command>),
    /// An answer.
    Read(Query),
}

/// All client operations of a run.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    open: BTreeMap<u64, Open>,
    /// The highest index shown to a client by a write or a linearizable read that has returned.
    shown: Index,
    /// The last entry whose effect was acknowledged to a client.
    acknowledged: Index,
    /// Which operation claimed which entry as its own.
    claims: BTreeMap<Index, u64>,
    /// How often each command was handed in, refused, and done.
    counts: BTreeMap<Vec<u8>, Counts>,
    /// The command of each handing in.
    handed: Vec<Vec<u8>>,
    /// The ids that members gave to commands which were done: session and number.
    given: BTreeSet<(u64, u64)>,
}

#[derive(Clone, Debug)]
struct Open {
    asked: Asked,
    /// All that had been shown when it was asked.
    floor: Index,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    handed_in: u64,
    refused: u64,
    done: u64,
}

impl Witness {
    /// A client begins `operation`.
    pub fn asks(&mut self, operation: u64, asked: Asked) {
        let floor = self.shown;
        self.open.insert(operation, Open { asked, floor });
    }

    /// The command is handed to a node: for the first time, or once more. Returns a number for it.
    pub fn hands_in(&mut self, command: &Command) -> u64 {
        let key = encoded(command);
        self.counts.entry(key.clone()).or_default().handed_in += 1;
        self.handed.push(key);
        self.handed.len() as u64 - 1
    }

    /// A node says that it has not done and will not do what was handed in to it.
    ///
    /// # Errors
    /// L5: it has.
    pub fn refuses(&mut self, handed: u64) -> Verdict {
        let place = usize::try_from(handed).expect("runs are short");
        let key = &self.handed[place];
        let command: Command = postcard::from_bytes(key).expect("it was a command");
        let counts = self.counts.entry(key.clone()).or_default();
        counts.refused += 1;
        balanced(&command, *counts)
    }

    /// An entry is committed; `done` where it did what it says, or was refused by the store: where
    /// it was no repetition.
    ///
    /// # Errors
    /// L5: a command nobody asked for, or that was refused, or done more than once. L4: an id that
    /// a member gave was done twice.
    pub fn commits(&mut self, payload: &Payload, done: bool) -> Verdict {
        let Payload::Command(command) = payload else {
            return Ok(());
        };
        let asked = as_asked(command);
        let counts = self.counts.entry(encoded(&asked)).or_default();
        counts.done += u64::from(done);
        let counts = *counts;
        if let (Some(id), true) = (drawn(command), done) {
            ensure(self.given.insert(id), "L4", &[], || {
                format!("{command:?} is done a second time")
            })?;
        }
        ensure(counts.handed_in > 0, "L5", &[], || {
            format!("{command:?} is committed, and nobody asked for it")
        })?;
        balanced(&asked, counts)
    }

    /// The operation is answered, by `seat`.
    ///
    /// # Errors
    /// L3: not what the ledger says, or against the order of real time. L4: a retry that is
    /// answered otherwise than at first. L7: an error that is not true. L1, L2: an answer about a
    /// key or a directory that is not true. R17: a read that is too old. L6: a stale read that is
    /// not of the ledger.
    pub fn answers(
        &mut self,
        operation: u64,
        seat: usize,
        result: &Result<Response, RequestError>,
        ledger: &Ledger,
        model: &Model,
    ) -> Verdict {
        let Some(Open { asked, floor }) = self.open.get(&operation).cloned() else {
            return Err(Violation::new(
                "L3",
                &[seat],
                format!("answered twice: {result:?}"),
            ));
        };
        let (header, outcome) = match result {
            Ok(response) => (response.header, Ok(&response.body)),
            Err(RequestError::Store { header, error }) => (*header, Err(error)),
            // Whether it was done is not known: the counts see to it.
            Err(
                RequestError::NotLeader { .. }
                | RequestError::Busy
                | RequestError::DiskFull
                | RequestError::Dropped
                | RequestError::Stopping,
            ) => return Ok(()),
        };
        let index = header.index();
        ensure(index <= ledger.last(), "L6", &[seat], || {
            format!("n{seat} answers at index {index}, which is not committed: {result:?}")
        })?;
        match &asked {
            Asked::Write(command) => {
                ensure(index > floor, "L3", &[seat], || {
                    format!("{command:?} is at {index}; {floor} was shown before it was asked")
                })?;
                self.write(operation, seat, command, header, outcome, ledger, model)?;
                self.acknowledged = self.acknowledged.max(index);
                self.shown = self.shown.max(index);
            }
            Asked::Read(query) => {
                read(seat, query, floor, header, outcome, model)?;
                if query.consistency == Consistency::Linearizable {
                    self.shown = self.shown.max(index);
                }
            }
        }
        Ok(())
    }

    /// The operation is over for the client, answered or not.
    pub fn closes(&mut self, operation: u64) {
        self.open.remove(&operation);
    }

    /// The last entry whose effect was acknowledged.
    #[must_use]
    pub const fn acknowledged(&self) -> Index {
        self.acknowledged
    }

    fn write(
        &mut self,
        operation: u64,
        seat: usize,
        command: &Arc<Command>,
        header: Header,
        outcome: Result<&Body, &StoreError>,
        ledger: &Ledger,
        model: &Model,
    ) -> Verdict {
        let index = header.index();
        let own = ledger.get(index).is_some_and(|entry| match &entry.payload {
            Payload::Command(committed) => as_asked(committed) == **command,
            Payload::Empty
            | Payload::Expire { .. }
            | Payload::Configuration(_)
            | Payload::Renew { .. } => false,
        });
        ensure(own, "L3", &[seat], || {
            format!("n{seat} answers {command:?} with index {index}, which is another entry's")
        })?;
        let claimant = *self.claims.entry(index).or_insert(operation);
        ensure(claimant == operation, "L3", &[seat], || {
            format!("entry {index} is the answer to two operations")
        })?;
        let expected = model.answer(index);
        let revision = model.revision_at(index);
        let is_counted = revision == Some(header.revision.0);
        let agree = match (expected, outcome) {
            (Some(Answer::Changed(change)), Ok(Body::Changed(event))) => {
                let place = usize::try_from(change - 1).expect("runs are short");
                model.changes()[place].agrees(event)
            }
            (Some(Answer::Done), Ok(Body::Done)) => true,
            (Some(Answer::Refused(reason, revision)), Err(error)) => {
                *reason == error.reason && *revision == error.revision.0
            }
            (Some(_) | None, _) => false,
        };
        // A retry with an id of its own is answered with the first answer.
        let id = if !model.is_done(index) {
            "L4"
        } else if outcome.is_err() {
            "L7"
        } else if concerns_directory(&command.operation) {
            "L2"
        } else {
            "L1"
        };
        ensure(agree && is_counted, id, &[seat], || {
            format!(
                "{command:?} is answered {outcome:?} at {header:?}; the model says {expected:?} at \
                 {revision:?}"
            )
        })
    }
}

/// A command may be done as often as it was handed in and not refused. One with an id of its
/// client's may be passed on again after the store has forgotten it, which the model knows of: it
/// must only not have been refused each time.
fn balanced(command: &Command, counts: Counts) -> Verdict {
    let open = counts.handed_in - counts.refused;
    let holds = match command.client {
        None => counts.done <= open,
        Some(_) => counts.done == 0 || open > 0,
    };
    ensure(holds, "L5", &[], || {
        format!("{command:?} was refused, or done too often: {counts:?}")
    })
}

/// Whether it makes, fills or empties a directory, and not only sets a key.
const fn concerns_directory(operation: &Operation) -> bool {
    match operation {
        Operation::Put(put) => matches!(put.content, Content::Directory),
        Operation::Append(_) => true,
        Operation::Delete(delete) => matches!(delete.scope, Scope::EmptyDirectory | Scope::Tree),
        Operation::Configure(_) | Operation::Publish(_) => false,
    }
}

/// The id that a member gave to a command.
fn drawn(command: &Command) -> Option<(u64, u64)> {
    match command.client {
        Some(ClientRequest::Numbered {
            client, sequence, ..
        }) if client >= DRAWN => Some((client, sequence)),
        Some(ClientRequest::Numbered { .. } | ClientRequest::Opaque(_)) | None => None,
    }
}

/// What the client handed in: a member that passes it on may have named it.
fn as_asked(command: &Command) -> Command {
    Command {
        client: command.client.clone().filter(|_| drawn(command).is_none()),
        operation: command.operation.clone(),
    }
}

fn read(
    seat: usize,
    query: &Query,
    floor: Index,
    header: Header,
    outcome: Result<&Body, &StoreError>,
    model: &Model,
) -> Verdict {
    let index = header.index();
    let fresh = match query.consistency {
        Consistency::Linearizable => index >= floor,
        Consistency::Local { at_least } => header.revision >= at_least,
    };
    let id = match query.consistency {
        Consistency::Linearizable => "R17",
        Consistency::Local { .. } => "L6",
    };
    ensure(fresh, id, &[seat], || {
        format!("n{seat} answers {query:?} at {header:?}; {floor} was shown before it was asked")
    })?;
    let revision = model.revision_at(index);
    let expected = model.get(index, &query.path, query.recursive);
    let agree = revision == Some(header.revision.0)
        && match (&expected, outcome) {
            (Ok(found), Ok(Body::Found(tree))) => found.agrees(tree),
            (Err(refusal), Err(error)) => {
                *refusal == error.reason && revision == Some(error.revision.0)
            }
            (Ok(_) | Err(_), _) => false,
        };
    let is_directory = matches!(&expected, Ok(found) if found.node.value.is_none());
    let id = match query.consistency {
        Consistency::Local { .. } => "L6",
        Consistency::Linearizable if outcome.is_err() => "L7",
        Consistency::Linearizable if is_directory => "L2",
        Consistency::Linearizable => "L1",
    };
    ensure(agree, id, &[seat], || {
        format!("{query:?} at {header:?} is answered {outcome:?}; the model says {expected:?}")
    })
}

fn encoded(command: &Command) -> Vec<u8> {
    postcard::to_allocvec(command).expect("a command encodes")
}

#[cfg(test)]
mod tests {
    use quorate_core::store::{Action, Audience, Event, NodeState, Path, Put, Refusal, Tree, When};
    use quorate_core::{ChangeId, ClusterTime, LogId, NodeId, Revision, Term};

    use super::super::id_of;
    use super::*;
    use crate::clock::Time;
    use crate::ledger::Committed;

    /// A run so far: `/a` was created by operation 1, which is entry 1; operation 2 tries it again
    /// and is refused, at entry 2.
    struct Story {
        witness: Witness,
        ledger: Ledger,
        model: Model,
    }

    impl Story {
        fn new() -> Self {
            let mut story = Self {
                witness: Witness::default(),
                ledger: Ledger::default(),
                model: Model::new(),
            };
            for operation in [1, 2] {
                story.witness.asks(operation, create(operation));
                story.hands_in(operation);
                assert_eq!(story.commit(operation), Ok(()));
            }
            story
        }

        fn hands_in(&mut self, operation: u64) -> u64 {
            self.witness.hands_in(&command(operation))
        }

        fn commit(&mut self, operation: u64) -> Verdict {
            self.commit_as(command(operation))
        }

        /// As a member put it into the log that passed it on under this number of its own.
        fn commit_given(&mut self, operation: u64, sequence: u64) -> Verdict {
            let given = ClientRequest::Numbered {
                client: DRAWN + 7,
                sequence,
                acked: 0,
            };
            self.commit_as(Command {
                client: Some(given),
                ..command(operation)
            })
        }

        fn commit_as(&mut self, command: Command) -> Verdict {
            let payload = Payload::Command(command.into());
            self.ledger.push(Committed {
                id: at(self.ledger.last().0 + 1),
                chain: 0,
                stamp: ClusterTime::ZERO,
                payload: payload.clone(),
                stamped: Time(0),
                committed_in: Term(1),
                committed: Time(0),
            });
            self.model.apply(ClusterTime::ZERO, &payload);
            let done = self.model.is_done(self.ledger.last());
            self.witness.commits(&payload, done)
        }

        fn answers(&mut self, operation: u64, result: &Result<Response, RequestError>) -> Verdict {
            let (ledger, model) = (&self.ledger, &self.model);
            self.witness.answers(operation, 0, result, ledger, model)
        }

        fn read(&mut self, consistency: Consistency, index: u64, value: &str) -> Verdict {
            let path = Path::root().child(b"a");
            let recursive = false;
            let query = Query {
                path: path.clone(),
                recursive,
                consistency,
            };
            self.witness.asks(9, Asked::Read(query));
            let node = node(value);
            let children = Vec::new();
            let body = Body::Found(Tree {
                path,
                node,
                children,
            });
            self.answers(
                9,
                &Ok(Response {
                    header: header(index),
                    body,
                }),
            )
        }
    }

    const fn at(index: u64) -> LogId {
        LogId {
            term: Term(1),
            index: Index(index),
        }
    }

    const fn header(index: u64) -> Header {
        Header {
            member: NodeId(1),
            term: Term(1),
            applied: at(index),
            revision: Revision(if index == 0 { 0 } else { 1 }),
            now: ClusterTime::ZERO,
        }
    }

    fn create(operation: u64) -> Asked {
        Asked::Write(Arc::new(command(operation)))
    }

    fn command(operation: u64) -> Command {
        let value = format!("v{operation}");
        Command {
            client: (operation == 2).then(|| ClientRequest::Opaque("id".into())),
            operation: Operation::Put(Put {
                path: Path::root().child(b"a"),
                content: Content::Value(value.as_str().into()),
                when: When::Missing,
                ttl: None,
            }),
        }
    }

    fn node(value: &str) -> NodeState {
        let id = ChangeId {
            revision: Revision(1),
            sub: 0,
        };
        NodeState {
            value: Some(value.into()),
            created: id,
            modified: id,
            lease: None,
        }
    }

    fn created(index: u64, value: &str) -> Result<Response, RequestError> {
        let node = node(value);
        let body = Body::Changed(Arc::new(Event {
            id: node.modified,
            at: ClusterTime::ZERO,
            action: Action::Create,
            audience: Audience::Everyone,
            path: Path::root().child(b"a"),
            node,
            previous: None,
        }));
        Ok(Response {
            header: header(index),
            body,
        })
    }

    fn refused_at(index: u64, reason: Refusal) -> Result<Response, RequestError> {
        let error = StoreError {
            reason,
            revision: Revision(1),
        };
        let header = header(index);
        Err(RequestError::Store { header, error })
    }

    fn exists() -> Refusal {
        Refusal::Exists(Path::root().child(b"a"))
    }

    #[test]
    fn l1_l3_l6_answers_to_writes() {
        assert_eq!(Story::new().answers(1, &created(1, "v1")), Ok(()));
        assert_eq!(id_of(&Story::new().answers(1, &created(1, "v2"))), "L1");
        assert_eq!(id_of(&Story::new().answers(1, &created(2, "v1"))), "L3");
        assert_eq!(id_of(&Story::new().answers(1, &created(3, "v1"))), "L6");
    }

    #[test]
    fn l2_answers_about_directories() {
        let answered = |name: &[u8]| {
            let mut story = Story::new();
            let path = Path::root().child(name);
            let put = Put {
                path: path.clone(),
                content: Content::Directory,
                when: When::Missing,
                ttl: None,
            };
            let make = Command {
                client: None,
                operation: Operation::Put(put),
            };
            story.witness.asks(3, Asked::Write(make.clone().into()));
            story.witness.hands_in(&make);
            assert_eq!(story.commit_as(make), Ok(()));
            let id = ChangeId {
                revision: Revision(2),
                sub: 0,
            };
            let body = Body::Changed(Arc::new(Event {
                id,
                at: ClusterTime::ZERO,
                action: Action::Create,
                audience: Audience::Everyone,
                path: Path::root().child(b"d"),
                node: NodeState {
                    value: None,
                    created: id,
                    modified: id,
                    lease: None,
                },
                previous: None,
            }));
            let mut header = header(3);
            header.revision = Revision(2);
            story.answers(3, &Ok(Response { header, body }))
        };
        assert_eq!(answered(b"d"), Ok(()));
        assert_eq!(id_of(&answered(b"e")), "L2");
    }

    #[test]
    fn l4_the_answer_to_a_retry() {
        let retried = |result| {
            let mut story = Story::new();
            story.hands_in(2);
            assert_eq!(story.commit(2), Ok(()));
            story.answers(2, &result)
        };
        assert_eq!(retried(refused_at(3, exists())), Ok(()));
        let gone = Refusal::NotFound(Path::root().child(b"a"));
        assert_eq!(id_of(&retried(refused_at(3, gone))), "L4");
        assert_eq!(id_of(&retried(created(3, "v2"))), "L4");
    }

    #[test]
    fn l7_errors_that_are_not_true() {
        let answered = |result| Story::new().answers(2, &result);
        assert_eq!(answered(refused_at(2, exists())), Ok(()));
        let gone = Refusal::NotFound(Path::root());
        assert_eq!(id_of(&answered(refused_at(2, gone.clone()))), "L7");
        let elsewhere = |header: u64, error: u64| {
            let Err(RequestError::Store {
                header: mut at,
                error: mut why,
            }) = refused_at(2, exists())
            else {
                unreachable!("it is refused");
            };
            (at.revision, why.revision) = (Revision(header), Revision(error));
            answered(Err(RequestError::Store {
                header: at,
                error: why,
            }))
        };
        assert_eq!(elsewhere(1, 1), Ok(()));
        assert_eq!(id_of(&elsewhere(1, 2)), "L7", "its index");
        assert_eq!(id_of(&elsewhere(2, 1)), "L7", "the header's");
        let mut story = Story::new();
        story.witness.asks(
            9,
            Asked::Read(Query {
                path: Path::root().child(b"a"),
                recursive: false,
                consistency: Consistency::Linearizable,
            }),
        );
        assert_eq!(id_of(&story.answers(9, &refused_at(2, gone))), "L7");
    }

    #[test]
    fn l3_what_was_asked_later_comes_later() {
        let mut story = Story::new();
        assert_eq!(story.read(Consistency::Linearizable, 2, "v1"), Ok(()));
        story.witness.asks(1, create(1));
        assert_eq!(id_of(&story.answers(1, &created(1, "v1"))), "L3");
    }

    #[test]
    fn l5_done_though_refused_or_twice() {
        let mut story = Story::new();
        assert_eq!(
            id_of(&story.commit(1)),
            "L5",
            "handed in once, committed twice"
        );
        let mut story = Story::new();
        let handed = story.hands_in(1);
        assert_eq!(
            story.witness.refuses(handed),
            Ok(()),
            "one try was refused, one was not"
        );
        assert_eq!(id_of(&story.witness.refuses(handed)), "L5");
        assert_eq!(id_of(&story.commit(3)), "L5", "nobody asked for it");
    }

    #[test]
    fn l4_l5_what_was_passed_on_more_than_once() {
        let mut story = Story::new();
        story.hands_in(3);
        assert_eq!(story.commit_given(3, 1), Ok(()));
        assert_eq!(
            story.commit_given(3, 1),
            Ok(()),
            "a repetition does nothing"
        );
        assert_eq!(
            id_of(&story.commit_given(3, 2)),
            "L5",
            "handed in once, done under two names"
        );
        let mut story = Story::new();
        story.hands_in(3);
        story.hands_in(3);
        assert_eq!(story.commit_given(3, 1), Ok(()));
        let Asked::Write(again) = create(3) else {
            unreachable!("creates are writes");
        };
        let given = ClientRequest::Numbered {
            client: DRAWN + 7,
            sequence: 1,
            acked: 0,
        };
        let again = Command {
            client: Some(given),
            ..(*again).clone()
        };
        let twice = story.witness.commits(&Payload::Command(again.into()), true);
        assert_eq!(id_of(&twice), "L4");
        let mut story = Story::new();
        let handed = story.hands_in(4);
        assert_eq!(story.witness.refuses(handed), Ok(()));
        assert_eq!(id_of(&story.commit_given(4, 1)), "L5", "it was refused");
    }

    #[test]
    fn l1_l6_r17_reads() {
        let stale = |at_least| Consistency::Local {
            at_least: Revision(at_least),
        };
        assert_eq!(
            Story::new().read(Consistency::Linearizable, 1, "v1"),
            Ok(())
        );
        assert_eq!(Story::new().read(stale(1), 1, "v1"), Ok(()));
        assert_eq!(
            id_of(&Story::new().read(Consistency::Linearizable, 1, "v2")),
            "L1"
        );
        assert_eq!(id_of(&Story::new().read(stale(0), 1, "v2")), "L6");
        assert_eq!(id_of(&Story::new().read(stale(2), 1, "v1")), "L6");
        let mut story = Story::new();
        assert_eq!(story.answers(2, &refused_at(2, exists())), Ok(()));
        assert_eq!(
            id_of(&story.read(Consistency::Linearizable, 1, "v1")),
            "R17"
        );
    }
}
