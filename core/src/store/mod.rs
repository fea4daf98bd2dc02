//! The store: one deterministic `apply` over the tables of DESIGN.md §5.
//!
//! | table | file |
//! |---|---|
//! | `cur`, `dir` | keyspace, listing |
//! | `lease` | lease |
//! | `hist` | history |
//! | `req` | request |
//! | `meta` | here |
//!
//! What they hold is row's vocabulary; ledger, changes and load take it to disk and back.
//!
//! Every entry of the log goes through [`Store::apply`], [`Store::expire`],
//! [`Store::reconfigure`] or [`Store::skip`], in order. What they do is a function of the entries
//! alone: two stores that applied the same ones have the same [`Store::hash`]. Every change of a
//! row passes the ledger, which keeps that hash and what the next checkpoint must write.

mod bytes;
mod changes;
mod cold;
mod command;
mod error;
mod event;
mod history;
mod keyspace;
mod lease;
mod ledger;
mod listing;
mod load;
mod path;
mod query;
mod read;
mod remove;
mod request;
mod row;
mod stats;
mod watch;
mod watches;
mod write;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

pub use bytes::Value;
pub use changes::{Changes, ClosedSlice};
pub use command::{
    Append, ClientRequest, Command, Compare, Content, Delete, Operation, Publish, Put, Scope,
    Settings, When,
};
pub use error::{Refusal, StoreError};
pub use event::{Action, Audience, Event, Lease, NodeState};
pub use history::{Change, HistoryLost, SliceEvents, SliceId, SliceInfo, SliceSum, changes};
pub use keyspace::{Changed, DirectoryRow, KeyRow};
pub use lease::LeaseRow;
pub use load::LoadError;
pub use path::{Path, hidden};
pub use query::{Body, Consistency, Header, Query, Response, Tree};
pub use request::{Answer, RequestKey, Session};
pub use row::{Head, Row, RowKey};
pub use stats::{Count, StoreStats};
pub use watch::{Filter, WatchOutput};
pub use watches::Watches;

use crate::ids::{LogId, NodeId, Revision};
use crate::raft::Configuration;
use crate::time::ClusterTime;
use history::{History, Place};
use keyspace::Keyspace;
use lease::Leases;
use ledger::Ledger;
use request::{Known, Requests};

/// What came of a command that was not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The v2 event it made, if it makes any: the answer to its client.
    pub event: Option<Arc<Event>>,
    /// The store's counter after it.
    pub revision: Revision,
    /// Whether it is the retry of an earlier request: this is the first answer, and nothing
    /// changed.
    pub replay: bool,
}

/// A member, as it published itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
}

/// The replicated state.
///
/// Invariants: entries are applied in order, each once; the clock never falls; the counter moves by
/// one for each v2 event, and by nothing else; each node with a lease has it in the table, and the
/// other way round; a refused command changes no table but `req`.
///
/// A clone is a state of its own; what is large and never changes is shared.
#[derive(Clone, Debug)]
pub struct Store {
    keyspace: Keyspace,
    leases: Leases,
    history: History,
    requests: Requests,
    settings: Arc<Settings>,
    configuration: Arc<Configuration>,
    members: BTreeMap<NodeId, Arc<Member>>,
    ledger: Ledger,
    applied: LogId,
    /// The last entry that a checkpoint took.
    taken: LogId,
    clock: ClusterTime,
    revision: Revision,
    stats: StoreStats,
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// Before the first entry: the root and default settings.
    #[must_use]
    pub fn new() -> Self {
        let mut ledger = Ledger::default();
        let settings = Arc::new(Settings::default());
        let configuration = Arc::new(Configuration::default());
        let row = Row::Settings(settings.clone());
        ledger.change(RowKey::Settings, None, Some(row));
        let row = Row::Configuration(configuration.clone());
        ledger.change(RowKey::Configuration, None, Some(row));
        Self {
            keyspace: Keyspace::new(&mut ledger),
            leases: Leases::default(),
            history: History::new(),
            requests: Requests::default(),
            settings,
            configuration,
            members: BTreeMap::new(),
            ledger,
            applied: LogId::ZERO,
            taken: LogId::ZERO,
            clock: ClusterTime::ZERO,
            revision: Revision::ZERO,
            stats: StoreStats::default(),
        }
    }

    /// Applies a command, or finds the answer that it had before.
    ///
    /// # Errors
    /// A refusal, which the client acts on. It too is an answer that a retry gets again.
    ///
    /// # Panics
    /// Like all that apply entries: where `id` is not the next one, or `stamp` before the last.
    pub fn apply(
        &mut self,
        id: LogId,
        stamp: ClusterTime,
        command: &Command,
    ) -> Result<Applied, StoreError> {
        self.begin(id, stamp);
        let result = match &command.client {
            Some(request) => self.answer(request, &command.operation),
            None => self
                .perform(&command.operation)
                .map(|event| self.done(event)),
        };
        self.finish();
        result
    }

    /// Removes what was due by `until`, and by `stamp`: at most `limit` nodes, each with all that
    /// is in it, in order of (deadline, creation, path). Returns how many v2 events that made; none
    /// is not an error: what was due when the entry was proposed may be refreshed or gone by now.
    pub fn expire(&mut self, id: LogId, stamp: ClusterTime, limit: u32, until: ClusterTime) -> u32 {
        self.begin(id, stamp);
        let expired = self.remove_due(until.min(stamp), limit);
        self.stats.expired += u64::from(expired);
        self.finish();
        expired
    }

    /// Notes who votes as of this entry.
    pub fn reconfigure(
        &mut self,
        id: LogId,
        stamp: ClusterTime,
        configuration: &Arc<Configuration>,
    ) {
        self.begin(id, stamp);
        let old = core::mem::replace(&mut self.configuration, configuration.clone());
        self.ledger.change(
            RowKey::Configuration,
            Some(Row::Configuration(old)),
            Some(Row::Configuration(configuration.clone())),
        );
        self.finish();
    }

    /// Counts the time to live of what was granted since then from this entry: a new leader's first
    /// one, which is the first that can commit it.
    pub fn grant_anew(&mut self, id: LogId, stamp: ClusterTime, since: ClusterTime) {
        self.begin(id, stamp);
        self.leases.grant_anew(&mut self.ledger, since, stamp);
        self.finish();
    }

    /// Passes over an entry that asks nothing of the store: time passes all the same.
    pub fn skip(&mut self, id: LogId, stamp: ClusterTime) {
        self.begin(id, stamp);
        self.finish();
    }

    /// When the next node is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<ClusterTime> {
        self.leases.next_deadline()
    }

    /// When the last node is due.
    #[must_use]
    pub fn last_deadline(&self) -> Option<ClusterTime> {
        self.leases.last_deadline()
    }

    /// The counter: the v2 index of the last event.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// The last entry applied.
    #[must_use]
    pub const fn applied(&self) -> LogId {
        self.applied
    }

    /// Cluster time: the stamp of the last entry.
    #[must_use]
    pub const fn clock(&self) -> ClusterTime {
        self.clock
    }

    /// The replicated settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Who votes, as of the last entry; nobody before the first configuration of the log.
    #[must_use]
    pub fn configuration(&self) -> &Arc<Configuration> {
        &self.configuration
    }

    /// The members that published themselves.
    #[must_use]
    pub const fn members(&self) -> &BTreeMap<NodeId, Arc<Member>> {
        &self.members
    }

    /// The oldest v2 index that history answers for; one past the counter if there is none.
    #[must_use]
    pub fn oldest(&self) -> Revision {
        self.history.oldest()
    }

    /// The v2 event of this index, if history keeps it in memory.
    #[must_use]
    pub fn event(&self, index: Revision) -> Option<&Arc<Event>> {
        if index < self.oldest() {
            return None;
        }
        match self.history.place(index)? {
            Place::Hot(rows) => changes(rows)
                .map(|change| change.event)
                .find(|event| event.id.index() == index),
            Place::Cold(_) => None,
        }
    }

    /// The closed slices of history that are kept, oldest first.
    pub fn slices(&self) -> impl Iterator<Item = &Arc<SliceInfo>> {
        self.history.slices()
    }

    /// Bytes of history kept, in canonical encoding.
    #[must_use]
    pub fn history_bytes(&self) -> u64 {
        self.history.bytes()
    }

    /// How many keys there are.
    #[must_use]
    pub fn key_count(&self) -> usize {
        self.keyspace.key_count()
    }

    /// How many nodes have a TTL.
    #[must_use]
    pub fn lease_count(&self) -> usize {
        self.leases.len()
    }

    /// How many answers are kept for retries.
    #[must_use]
    pub fn answer_count(&self) -> usize {
        self.requests.len()
    }

    /// Counts of writes on this member since it started.
    #[must_use]
    pub const fn stats(&self) -> &StoreStats {
        &self.stats
    }

    fn begin(&mut self, id: LogId, stamp: ClusterTime) {
        assert_eq!(
            id.index,
            self.applied.index.next(),
            "entries apply in order, each once"
        );
        assert!(
            id.term >= self.applied.term,
            "the term fell from {} to {id}",
            self.applied
        );
        assert!(
            stamp >= self.clock,
            "the clock fell from {} to {stamp}",
            self.clock
        );
        self.applied = id;
        self.clock = stamp;
    }

    /// What every entry does besides what it says: history moves on, what is too old is forgotten.
    fn finish(&mut self) {
        let (settings, clock) = (&*self.settings, self.clock);
        let at = self.applied.index;
        self.history
            .settle(&mut self.ledger, settings, clock, self.revision, at);
        let floor = self.history.first_row().unwrap_or(crate::ids::ChangeId {
            revision: self.revision.next(),
            sub: 0,
        });
        self.keyspace.retire_tombstones(&mut self.ledger, floor);
        self.requests.forget(&mut self.ledger, settings, clock);
    }

    fn answer(
        &mut self,
        request: &ClientRequest,
        operation: &Operation,
    ) -> Result<Applied, StoreError> {
        let at = self.applied.index;
        match self.requests.admit(&mut self.ledger, request, at) {
            Known::Expired => Err(self.refusal(Refusal::Expired)),
            Known::Answered(answer) => answer.outcome.clone().map(|event| Applied {
                event,
                revision: answer.revision,
                replay: true,
            }),
            Known::New => {
                let outcome = self.perform(operation);
                let answer = Answer {
                    at,
                    stamp: self.clock,
                    revision: self.revision,
                    outcome: outcome.clone(),
                };
                self.requests.keep(&mut self.ledger, request, answer);
                outcome.map(|event| self.done(event))
            }
        }
    }

    fn perform(&mut self, operation: &Operation) -> Result<Option<Arc<Event>>, StoreError> {
        let before = self.revision;
        let outcome = match operation {
            Operation::Put(put) => self.put(put).map(Some),
            Operation::Append(append) => self.append(append).map(Some),
            Operation::Delete(delete) => self.delete(delete).map(Some),
            Operation::Configure(settings) => {
                self.configure(settings);
                Ok(None)
            }
            Operation::Publish(publish) => {
                self.publish(publish);
                Ok(None)
            }
        };
        self.stats.count(operation, outcome.is_ok());
        let events = u64::from(matches!(outcome, Ok(Some(_))));
        assert_eq!(
            self.revision,
            before.plus(events),
            "the counter counts v2 events"
        );
        outcome.map_err(|reason| self.refusal(reason))
    }

    fn configure(&mut self, settings: &Settings) {
        let new = Arc::new(settings.clone());
        let old = core::mem::replace(&mut self.settings, new.clone());
        let (old, new) = (Row::Settings(old), Row::Settings(new));
        self.ledger.change(RowKey::Settings, Some(old), Some(new));
    }

    fn publish(&mut self, publish: &Publish) {
        let member = Arc::new(Member {
            name: publish.name.clone(),
            client_urls: publish.client_urls.clone(),
        });
        let old = self.members.insert(publish.member, member.clone());
        let (old, new) = (old.map(Row::Member), Row::Member(member));
        self.ledger
            .change(RowKey::Member(publish.member), old, Some(new));
    }

    fn done(&self, event: Option<Arc<Event>>) -> Applied {
        Applied {
            event,
            revision: self.revision,
            replay: false,
        }
    }

    fn refusal(&self, reason: Refusal) -> StoreError {
        StoreError {
            reason,
            revision: self.revision,
        }
    }
}
