//! The ledger as a witness (SIMULATION.md §8.1): L1 to L8, R17.
//!
//! The ledger is the claimed order. Every reply must equal the model's at the index in its header;
//! what was answered before something else was asked must come before it.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_core::raft::Payload;
use quorate_core::store::{Body, Command, Consistency, Header, Query, Response, StoreError};
use quorate_core::{Index, RequestError};

use super::{Verdict, Violation, ensure};
use crate::ledger::Ledger;
use crate::model::{Answer, Model};

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
    /// How often each command was handed in, refused, and committed.
    counts: BTreeMap<Vec<u8>, Counts>,
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
    committed: u64,
}

impl Witness {
    /// A client begins `operation`.
    pub fn asks(&mut self, operation: u64, asked: Asked) {
        let floor = self.shown;
        self.open.insert(operation, Open { asked, floor });
    }

    /// The operation is handed to a node: for the first time, or once more.
    pub fn hands_in(&mut self, operation: u64) {
        if let Some(key) = self.key(operation) {
            self.counts.entry(key).or_default().handed_in += 1;
        }
    }

    /// A node says that it has not done and will not do what was handed in to it.
    ///
    /// # Errors
    /// L5: it has.
    pub fn refuses(&mut self, operation: u64) -> Verdict {
        let Some(key) = self.key(operation) else {
            return Ok(());
        };
        let counts = self.counts.entry(key).or_default();
        counts.refused += 1;
        let counts = *counts;
        self.balanced(operation, counts)
    }

    /// An entry is committed.
    ///
    /// # Errors
    /// L5: a command nobody asked for, or that was refused, or more than once.
    pub fn commits(&mut self, payload: &Payload) -> Verdict {
        let Payload::Command(command) = payload else {
            return Ok(());
        };
        let counts = self.counts.entry(encoded(command)).or_default();
        counts.committed += 1;
        let counts = *counts;
        ensure(
            counts.committed + counts.refused <= counts.handed_in,
            "L5",
            &[],
            || format!("{command:?} is committed: {counts:?}"),
        )
    }

    /// The operation is answered, by `seat`.
    ///
    /// # Errors
    /// L3: not what the ledger says, or against the order of real time. R17: a read that is too
    /// old. L6: a stale read that is not of the ledger.
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
            Payload::Command(committed) => committed == command,
            Payload::Empty | Payload::Expire { .. } | Payload::Configuration(_) => false,
        });
        ensure(own, "L3", &[seat], || {
            format!("n{seat} answers {command:?} with index {index}, which is another entry's")
        })?;
        let claimant = *self.claims.entry(index).or_insert(operation);
        ensure(claimant == operation, "L3", &[seat], || {
            format!("entry {index} is the answer to two operations")
        })?;
        let expected = model.answer(index);
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
        let id = if command.client.is_some() { "L4" } else { "L1" };
        ensure(agree, id, &[seat], || {
            format!("{command:?} at {index} is answered {outcome:?}; the model says {expected:?}")
        })
    }

    fn key(&self, operation: u64) -> Option<Vec<u8>> {
        match &self.open.get(&operation)?.asked {
            Asked::Write(command) => Some(encoded(command)),
            Asked::Read(_) => None,
        }
    }

    fn balanced(&self, operation: u64, counts: Counts) -> Verdict {
        ensure(
            counts.committed + counts.refused <= counts.handed_in,
            "L5",
            &[],
            || {
                format!(
                    "{:?} was refused and is committed: {counts:?}",
                    self.open.get(&operation)
                )
            },
        )
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
    let id = match query.consistency {
        Consistency::Linearizable => "L2",
        Consistency::Local { .. } => "L6",
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
    use quorate_core::store::{
        Action, Audience, ClientRequest, Content, Event, NodeState, Operation, Path, Put, Refusal,
        Tree, When,
    };
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
                story.witness.hands_in(operation);
                assert_eq!(story.commit(operation), Ok(()));
            }
            story
        }

        fn commit(&mut self, operation: u64) -> Verdict {
            let Asked::Write(command) = create(operation) else {
                unreachable!("creates are writes");
            };
            let payload = Payload::Command(command);
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
            self.witness.commits(&payload)
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
        let value = format!("v{operation}");
        Asked::Write(Arc::new(Command {
            client: (operation == 2).then(|| ClientRequest::Opaque("id".into())),
            operation: Operation::Put(Put {
                path: Path::root().child(b"a"),
                content: Content::Value(value.as_str().into()),
                when: When::Missing,
                ttl: None,
            }),
        }))
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

    fn refused(reason: Refusal) -> Result<Response, RequestError> {
        let error = StoreError {
            reason,
            revision: Revision(1),
        };
        Err(RequestError::Store {
            header: header(2),
            error,
        })
    }

    #[test]
    fn l1_l3_l4_l7_answers_to_writes() {
        let exists = || Refusal::Exists(Path::root().child(b"a"));
        assert_eq!(Story::new().answers(1, &created(1, "v1")), Ok(()));
        assert_eq!(Story::new().answers(2, &refused(exists())), Ok(()));
        assert_eq!(id_of(&Story::new().answers(1, &created(1, "v2"))), "L1");
        assert_eq!(id_of(&Story::new().answers(1, &created(2, "v1"))), "L3");
        assert_eq!(id_of(&Story::new().answers(1, &created(3, "v1"))), "L6");
        let other = refused(Refusal::NotFound(Path::root()));
        assert_eq!(id_of(&Story::new().answers(2, &other)), "L4");
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
        story.witness.hands_in(1);
        assert_eq!(
            story.witness.refuses(1),
            Ok(()),
            "one try was refused, one was not"
        );
        assert_eq!(id_of(&story.witness.refuses(1)), "L5");
    }

    #[test]
    fn l2_l6_r17_reads() {
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
            "L2"
        );
        assert_eq!(id_of(&Story::new().read(stale(0), 1, "v2")), "L6");
        assert_eq!(id_of(&Story::new().read(stale(2), 1, "v1")), "L6");
        let mut story = Story::new();
        assert_eq!(
            story.answers(2, &refused(Refusal::Exists(Path::root().child(b"a")))),
            Ok(())
        );
        assert_eq!(
            id_of(&story.read(Consistency::Linearizable, 1, "v1")),
            "R17"
        );
    }
}
