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
