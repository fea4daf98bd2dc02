//! What clients asked and were answered, with the true times of both.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_core::RequestError;
use quorate_core::store::{Body, ClientRequest, Command, Refusal, Response, Settings, StoreError};

use super::super::linearizability::Asked;
use crate::clock::Time;

/// So many more times may a command take effect whose id the store has forgotten: a member that
/// waits for the leader's answer passes it on again. What members pass on among themselves cannot
/// be seen from outside: twice was not enough for swarm:12231 and swarm:12336.
const PASSED_ON_MAX: usize = 16;

/// An answer, without anything from inside: neither term nor applied index.
pub type Said = Result<Body, StoreError>;

/// One operation of one client.
#[derive(Clone, Debug)]
pub struct Record {
    /// Who asked.
    pub client: u64,
    /// What for.
    pub asked: Asked,
    /// When: of a read the try that was answered, of a write the first one.
    pub invoked: Time,
    /// When the answer came, and what it says. None is: it is not known what became of it.
    pub answer: Option<(Time, Said)>,
    /// How often members took it in: tries, and requests that came twice (K3).
    pub handed_in: usize,
    /// How often a member said that it was not done and will not be.
    pub refused: usize,
}

/// All operations of a run, in the order in which they began.
#[derive(Clone, Debug)]
pub struct History {
    on: bool,
    records: Vec<Record>,
    /// Where the record of each operation is.
    places: BTreeMap<u64, usize>,
    /// Whether the store may have forgotten an answer, if that is known already.
    forgets: Option<bool>,
    /// What the store keeps answers for at least: so many, and for so long.
    kept: (u64, Duration),
}

impl History {
    /// An empty history of a run with these settings; one that is not `on` stays empty.
    #[must_use]
    pub fn new(on: bool, settings: &Settings) -> Self {
        // They are in force only once the first operation is done.
        let shipped = Settings::default();
        let count = settings.requests_max.min(shipped.requests_max);
        let age = settings.request_age.min(shipped.request_age);
        Self {
            on,
            records: Vec::new(),
            places: BTreeMap::new(),
            forgets: None,
            kept: (count, age),
        }
    }

    /// A client asks, for the first time or once more. A read asked once more is another read.
    pub fn asks(&mut self, now: Time, operation: u64, asked: &Asked) {
        if !self.on {
            return;
        }
        let place = *self.places.entry(operation).or_insert(self.records.len());
        if let Some(record) = self.records.get_mut(place) {
            if let Asked::Read(_) = asked {
                record.invoked = now;
            }
            return;
        }
        self.records.push(Record {
            client: operation >> 32,
            asked: asked.clone(),
            invoked: now,
            answer: None,
            handed_in: 0,
            refused: 0,
        });
    }

    /// A member takes it in.
    pub fn hands_in(&mut self, operation: u64) {
        if let Some(record) = self.record(operation) {
            record.handed_in += 1;
        }
    }

    /// A member that took it in says that it has not done it and will not.
    pub fn refuses(&mut self, operation: u64) {
        if let Some(record) = self.record(operation) {
            record.refused += 1;
        }
    }

    /// The client has its answer. One that says nothing about the outcome is none.
    pub fn returns(&mut self, now: Time, operation: u64, result: &Result<Response, RequestError>) {
        let Some(record) = self.record(operation) else {
            return;
        };
        let said = match result {
            Ok(response) => Ok(response.body.clone()),
            Err(RequestError::Store { error, .. }) if error.reason != Refusal::Expired => {
                Err(error.clone())
            }
            // Expired: it may have been done before its answer was forgotten.
            Err(
                RequestError::Store { .. }
                | RequestError::NotLeader { .. }
                | RequestError::Busy
                | RequestError::DiskFull
                | RequestError::Dropped
                | RequestError::Stopping,
            ) => return,
        };
        record.answer = Some((now, said));
    }

    /// All operations.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// What was known at `end`: what was answered later was on its way, and may have been done.
    #[must_use]
    pub fn until(&self, end: Time) -> Self {
        let mut cut = self.clone();
        // What was true later must stay true: no beginning knows more than the whole.
        cut.forgets = Some(self.forgets());
        cut.records.retain(|record| record.invoked <= end);
        for record in &mut cut.records {
            record.answer.take_if(|(at, _)| *at > end);
        }
        cut
    }

    /// How often the command of a record may have taken effect without an answer that tells.
    #[must_use]
    pub fn unseen(&self, record: &Record, command: &Command) -> usize {
        let open = record.handed_in - record.refused;
        let answered = usize::from(record.answer.is_some());
        let times = match command.client {
            None => open,
            Some(ClientRequest::Opaque(_)) if self.forgets() && open > 0 => open + PASSED_ON_MAX,
            // At most once, for it carries an id; a number is refused when its answer is forgotten.
            Some(ClientRequest::Opaque(_) | ClientRequest::Numbered { .. }) => open.min(1),
        };
        times.saturating_sub(answered)
    }

    /// Whether the store may have forgotten an answer within the run.
    fn forgets(&self) -> bool {
        if let Some(forgets) = self.forgets {
            return forgets;
        }
        let handed_in: usize = self.records.iter().map(|record| record.handed_in).sum();
        let times = |record: &Record| record.answer.as_ref().map_or(record.invoked, |(at, _)| *at);
        let last = self.records.iter().map(times).max().unwrap_or_default();
        let (count, age) = self.kept;
        handed_in as u64 >= count || last >= Time(0) + age
    }

    fn record(&mut self, operation: u64) -> Option<&mut Record> {
        let place = *self.places.get(&operation)?;
        self.records.get_mut(place)
    }
}
