//! From saved rows back to a store. What was saved is trusted only as far as it proves itself: the
//! set hash must be that of the state, and the tables must agree with each other.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::bytes::Value;
use super::event::Event;
use super::history::{History, SliceInfo};
use super::keyspace::{DirectoryRow, KeyRow, Keyspace};
use super::lease::{LeaseRow, Leases};
use super::ledger::Ledger;
use super::request::Requests;
use super::row::{FORMAT, Head, Row, RowKey};
use super::{Member, Settings, Store, StoreStats};
use crate::ids::{ChangeId, LeaseId, NodeId};
use crate::raft::Configuration;

/// Counters beyond this are damage: no store gets there, and they could overflow.
const COUNTER_MAX: u64 = 1 << 62;

/// What is wrong with a row where another is there, or should be.
const TWICE: &str = "twice, or not what its key says";

/// Why saved rows are no store. Whoever reads the tables must stop: nothing here heals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// No row has this key.
    Key {
        /// The key, escaped.
        key: String,
    },
    /// The row of this key cannot be read.
    Row {
        /// The key, escaped.
        key: String,
    },
    /// There is no head row: nothing was ever saved here, or not all of it is here.
    NoHead,
    /// Another version wrote this.
    Format {
        /// Which.
        found: u16,
    },
    /// Rows are missing, too many, or changed.
    Hash {
        /// The hash that was saved.
        expected: u128,
        /// The hash of what is here.
        found: u128,
    },
    /// The rows are those that were saved, and contradict each other.
    Inconsistent {
        /// Where: a key, escaped, or a table.
        at: String,
        /// How.
        what: &'static str,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { key } => write!(f, "no row is called {key}"),
            Self::Row { key } => write!(f, "the row {key} cannot be read"),
            Self::NoHead => write!(f, "the head row is missing"),
            Self::Format { found } => {
                write!(
                    f,
                    "rows of format {found}, where this version reads {FORMAT}"
                )
            }
            Self::Hash { expected, found } => {
                write!(
                    f,
                    "the rows have the hash {found:032x}, not {expected:032x} as when saved"
                )
            }
            Self::Inconsistent { at, what } => write!(f, "{at}: {what}"),
        }
    }
}

impl core::error::Error for LoadError {}

impl Store {
    /// The store that these rows were saved from: pairs of key and row as [`Changes::encode`] makes
    /// them, each key once, in any order. Closed slices of history stay on disk.
    ///
    /// # Errors
    /// [`LoadError`], which names the first row that is wrong.
    ///
    /// [`Changes::encode`]: super::Changes::encode
    pub fn load<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        rows: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, LoadError> {
        let mut saved = Saved::default();
        for (key, row) in rows {
            saved.read(key.as_ref(), row.as_ref())?;
        }
        saved.into_store()
    }
}

/// The rows read so far.
#[derive(Default)]
struct Saved {
    ledger: Ledger,
    keys: Vec<(Value, KeyRow)>,
    directories: Vec<(Value, DirectoryRow)>,
    tombstones: Vec<(Value, ChangeId)>,
    requests: Requests,
    head: Option<Arc<Head>>,
    settings: Arc<Settings>,
    configuration: Arc<Configuration>,
    members: BTreeMap<NodeId, Arc<Member>>,
    leases: Vec<(LeaseId, LeaseRow)>,
    slices: Vec<Arc<SliceInfo>>,
    events: Vec<Arc<Event>>,
}

impl Saved {
    fn read(&mut self, key: &[u8], row: &[u8]) -> Result<(), LoadError> {
        let escaped = || key.escape_ascii().to_string();
        let row_key = RowKey::decode(key).ok_or_else(|| LoadError::Key { key: escaped() })?;
        let row = Row::decode(&row_key, row).ok_or_else(|| LoadError::Row { key: escaped() })?;
        let elsewhere = matches!(row_key, RowKey::Head | RowKey::Event(_));
        let bytes = match elsewhere {
            true => 0,
            false => self.ledger.weigh_in(&row_key, &row),
        };
        let first = match (row_key, row) {
            (_, Row::Head(head)) => self.head.replace(head).is_none(),
            (_, Row::Settings(settings)) => {
                self.settings = settings;
                true
            }
            (_, Row::Configuration(configuration)) => {
                self.configuration = configuration;
                true
            }
            (RowKey::Member(node), Row::Member(member)) => {
                self.members.insert(node, member).is_none()
            }
            (RowKey::Key(key), Row::Key(row)) => {
                self.keys.push((key, row));
                true
            }
            (RowKey::Tombstone(key), Row::Tombstone(id)) => {
                self.tombstones.push((key, id));
                true
            }
            (RowKey::Directory(key), Row::Directory(row)) => {
                self.directories.push((key, row));
                true
            }
            (RowKey::Lease(id), Row::Lease(row)) => {
                self.leases.push((id, row));
                true
            }
            (key, Row::Answer(answer)) => self.requests.restore_answer(&key, answer, bytes),
            (RowKey::Session(client), Row::Session(session)) => {
                self.requests.restore_session(client, session)
            }
            (RowKey::Slice(id), Row::Slice(info)) => {
                let named = info.id == id;
                self.slices.push(info);
                named
            }
            (RowKey::Event(id), Row::Event(event)) => {
                let named = event.id == id;
                self.events.push(event);
                named
            }
            _ => false,
        };
        first
            .then_some(())
            .ok_or_else(|| inconsistent(escaped(), TWICE))
    }

    fn into_store(mut self) -> Result<Store, LoadError> {
        let head = self.head.take().ok_or(LoadError::NoHead)?;
        if head.format != FORMAT {
            return Err(LoadError::Format { found: head.format });
        }
        let largest = head
            .applied
            .index
            .0
            .max(head.applied.term.0)
            .max(head.revision.0);
        if largest > COUNTER_MAX || head.oldest.0 > COUNTER_MAX {
            return Err(inconsistent("head", "a counter is beyond all reason"));
        }
        self.slices.sort_by_key(|info| info.id);
        self.events.sort_by_key(|event| event.id);
        let slices = core::mem::take(&mut self.slices);
        let events = core::mem::take(&mut self.events);
        let keyspace = Keyspace::restore(self.keys, self.directories, self.tombstones)
            .map_err(|key| inconsistent(key, TWICE))?;
        let history = History::restore(&mut self.ledger, head.oldest, slices, events);
        let mut store = Store {
            keyspace,
            leases: Leases::default(),
            requests: self.requests,
            history,
            settings: self.settings,
            configuration: self.configuration,
            members: self.members,
            ledger: self.ledger,
            applied: head.applied,
            taken: head.applied,
            clock: head.clock,
            revision: head.revision,
            stats: StoreStats::default(),
        };
        // Before anything is looked at closely: damage shows here.
        if store.hash() != head.hash {
            return Err(LoadError::Hash {
                expected: head.hash,
                found: store.hash(),
            });
        }
        let broken = |what| inconsistent("history", what);
        store.history.check(head.revision).map_err(broken)?;
        let broken = |(key, what): (Value, _)| inconsistent(key, what);
        store.keyspace.check().map_err(broken)?;
        store.attach(self.leases)?;
        Ok(store)
    }
}

impl Store {
    /// Puts saved leases back. Each must be that of the node it names, and each node's be there.
    fn attach(&mut self, leases: Vec<(LeaseId, LeaseRow)>) -> Result<(), LoadError> {
        let mut attached = 0_usize;
        for (id, row) in leases {
            let found = self.keyspace.find(&row.path).ok();
            let Some(node) = found.filter(|node| node.lease() == Some(id)) else {
                return Err(inconsistent(&row.path, "its lease is not its own"));
            };
            let created = node.changed().created();
            if id < LeaseId::PRIVATE || !self.leases.restore(id, row, created) {
                return Err(inconsistent(id, "a lease twice, or out of its range"));
            }
            attached += 1;
        }
        let needed = self
            .keyspace
            .nodes()
            .filter(|(_, node)| node.lease().is_some());
        if needed.count() != attached {
            return Err(inconsistent("lease", "a node's lease is missing"));
        }
        Ok(())
    }
}

fn inconsistent(at: impl fmt::Display, what: &'static str) -> LoadError {
    LoadError::Inconsistent {
        at: at.to_string(),
        what,
    }
}
