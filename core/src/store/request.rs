//! Table `req`: the first answer to each request that carries an id, so that a retry changes
//! nothing (DESIGN.md §5).

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bytes::Value;
use super::command::{ClientRequest, Settings};
use super::error::StoreError;
use super::event::Event;
use super::ledger::Ledger;
use super::row::{Row, RowKey};
use crate::ids::{Index, Revision};
use crate::time::ClusterTime;

/// The first answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The entry that was answered.
    pub at: Index,
    /// Its stamp.
    pub stamp: ClusterTime,
    /// The store's counter after it.
    pub revision: Revision,
    /// The event it made, if any, or why it was refused.
    pub outcome: Result<Option<Arc<Event>>, StoreError>,
}

/// A session of numbered requests. Outlives its answers, so that what was forgotten is known to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Requests up to here are done for: acknowledged, or their answers forgotten.
    pub dropped: u64,
    /// The last entry that came from it.
    pub used: Index,
}

/// What is known of a request that comes in.
#[derive(Debug)]
pub(super) enum Known {
    /// Nothing: it is to be done, and its answer kept.
    New,
    /// It is a retry.
    Answered(Arc<Answer>),
    /// It was done and forgotten, or comes too late to be done.
    Expired,
}

/// What names a request, and so its answer: a repetition has the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestKey {
    /// Any text.
    Opaque(Value),
    /// The session and the number in it.
    Numbered(u64, u64),
}

impl RequestKey {
    /// The name of `request`.
    #[must_use]
    pub fn of(request: &ClientRequest) -> Self {
        match request {
            ClientRequest::Opaque(id) => Self::Opaque(id.clone()),
            ClientRequest::Numbered {
                client, sequence, ..
            } => Self::Numbered(*client, *sequence),
        }
    }

    fn key(&self) -> RowKey {
        match self {
            Self::Opaque(id) => RowKey::Opaque(id.clone()),
            Self::Numbered(client, sequence) => RowKey::Numbered(*client, *sequence),
        }
    }
}

/// All answers.
///
/// Invariants: `arrivals` holds each answer once, `idle` each session, by the entry they came with;
/// `bytes` is the canonical length of all answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    opaque: BTreeMap<Value, Arc<Answer>>,
    numbered: BTreeMap<(u64, u64), Arc<Answer>>,
    arrivals: BTreeMap<Index, RequestKey>,
    sessions: BTreeMap<u64, Session>,
    idle: BTreeMap<Index, u64>,
    bytes: u64,
}

impl Requests {
    /// What is known of `request`, which the entry at `at` carries. A numbered one also tells which
    /// answers its client has.
    pub(super) fn admit(
        &mut self,
        ledger: &mut Ledger,
        request: &ClientRequest,
        at: Index,
    ) -> Known {
        match *request {
            ClientRequest::Opaque(ref id) => {
                let answer = self.opaque.get(id).cloned();
                answer.map_or(Known::New, Known::Answered)
            }
            ClientRequest::Numbered {
                client,
                sequence,
                acked,
            } => {
                // No client has an answer it has not asked for: a larger `acked` means nothing.
                let acked = acked.min(sequence.saturating_sub(1));
                let dropped = self.acknowledge(ledger, client, acked, at);
                match self.numbered.get(&(client, sequence)) {
                    Some(answer) => Known::Answered(answer.clone()),
                    None if sequence <= dropped => Known::Expired,
                    None => Known::New,
                }
            }
        }
    }

    /// Keeps the answer to a request that was [`Known::New`].
    pub(super) fn keep(&mut self, ledger: &mut Ledger, request: &ClientRequest, answer: Answer) {
        let place = RequestKey::of(request);
        let answer = Arc::new(answer);
        let row = Row::Answer(answer.clone());
        let (old, bytes) = ledger.change(place.key(), None, Some(row));
        assert_eq!(old, 0, "{request:?} was answered before");
        assert!(
            self.insert(place, answer, bytes),
            "{request:?} was answered before"
        );
    }

    /// Forgets what is over the limits, oldest first, a bounded number at a time.
    pub(super) fn forget(&mut self, ledger: &mut Ledger, settings: &Settings, clock: ClusterTime) {
        for _ in 0..Settings::FORGOTTEN_PER_ENTRY_MAX {
            let Some((_, place)) = self.arrivals.first_key_value() else {
                break;
            };
            let place = place.clone();
            let too_old = clock.since(self.answer(&place).stamp) > settings.request_age;
            let too_many = self.arrivals.len() as u64 > settings.requests_max;
            if !(too_old || too_many || self.bytes > settings.request_bytes_max) {
                break;
            }
            self.remove(ledger, &place);
            if let RequestKey::Numbered(client, sequence) = place
                && let Some(&session) = self.sessions.get(&client)
            {
                let dropped = session.dropped.max(sequence);
                self.write_session(ledger, client, Some(Session { dropped, ..session }));
            }
        }
        while self.sessions.len() > Settings::SESSIONS_MAX {
            let (_, &client) = self.idle.first_key_value().expect("each session was used");
            self.write_session(ledger, client, None);
        }
    }

    /// Puts a saved answer back; `false` where one is there.
    pub(super) fn restore_answer(&mut self, key: &RowKey, answer: Arc<Answer>, bytes: u64) -> bool {
        let place = match key {
            RowKey::Opaque(id) => RequestKey::Opaque(id.clone()),
            RowKey::Numbered(client, sequence) => RequestKey::Numbered(*client, *sequence),
            RowKey::Head
            | RowKey::Settings
            | RowKey::Configuration
            | RowKey::Member(_)
            | RowKey::Key(_)
            | RowKey::Tombstone(_)
            | RowKey::Directory(_)
            | RowKey::Lease(_)
            | RowKey::Session(_)
            | RowKey::Slice(_)
            | RowKey::Event(_) => return false,
        };
        self.insert(place, answer, bytes)
    }

    /// Puts a saved session back; `false` where one is there.
    pub(super) fn restore_session(&mut self, client: u64, session: Session) -> bool {
        let first = self.idle.insert(session.used, client).is_none();
        self.sessions.insert(client, session).is_none() && first
    }

    /// How many answers are kept.
    pub(super) fn len(&self) -> usize {
        self.arrivals.len()
    }

    /// Every row of this table.
    pub(super) fn rows(&self) -> impl Iterator<Item = (RowKey, Row)> {
        let answers = self.arrivals.values().map(|place| {
            let row = Row::Answer(self.answer(place).clone());
            (place.key(), row)
        });
        let sessions = self.sessions.iter();
        answers.chain(sessions.map(|(id, row)| (RowKey::Session(*id), Row::Session(*row))))
    }

    /// Notes that the session is in use and has its answers through `acked`. Returns what is
    /// dropped.
    fn acknowledge(&mut self, ledger: &mut Ledger, client: u64, acked: u64, used: Index) -> u64 {
        let had = self.numbered.range((client, 0)..=(client, acked));
        let had: alloc::vec::Vec<_> = had.map(|(&(_, sequence), _)| sequence).collect();
        for sequence in had {
            self.remove(ledger, &RequestKey::Numbered(client, sequence));
        }
        let session = self.sessions.get(&client).copied().unwrap_or_default();
        let dropped = session.dropped.max(acked);
        self.write_session(ledger, client, Some(Session { dropped, used }));
        dropped
    }

    fn write_session(&mut self, ledger: &mut Ledger, client: u64, new: Option<Session>) {
        let old = match new {
            Some(session) => self.sessions.insert(client, session),
            None => self.sessions.remove(&client),
        };
        if let Some(old) = old {
            self.idle.remove(&old.used);
        }
        if let Some(new) = new {
            self.idle.insert(new.used, client);
        }
        assert_eq!(
            self.idle.len(),
            self.sessions.len(),
            "an entry is of one session"
        );
        ledger.change(
            RowKey::Session(client),
            old.map(Row::Session),
            new.map(Row::Session),
        );
    }

    fn insert(&mut self, place: RequestKey, answer: Arc<Answer>, bytes: u64) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        let first = self.arrivals.insert(answer.at, place.clone()).is_none();
        let old = match place {
            RequestKey::Opaque(id) => self.opaque.insert(id, answer),
            RequestKey::Numbered(client, sequence) => {
                self.numbered.insert((client, sequence), answer)
            }
        };
        first && old.is_none()
    }

    fn remove(&mut self, ledger: &mut Ledger, place: &RequestKey) {
        let answer = match place {
            RequestKey::Opaque(id) => self.opaque.remove(id),
            RequestKey::Numbered(client, sequence) => self.numbered.remove(&(*client, *sequence)),
        };
        let answer = answer.expect("an answer that arrived is kept until it is removed");
        self.arrivals.remove(&answer.at);
        let (bytes, _) = ledger.change(place.key(), Some(Row::Answer(answer)), None);
        assert!(
            bytes <= self.bytes,
            "{bytes} of {} bytes of answers",
            self.bytes
        );
        self.bytes -= bytes;
    }

    fn answer(&self, place: &RequestKey) -> &Arc<Answer> {
        match place {
            RequestKey::Opaque(id) => &self.opaque[id],
            RequestKey::Numbered(client, sequence) => &self.numbered[&(*client, *sequence)],
        }
    }
}
