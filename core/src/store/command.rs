//! What the log can ask of the store.
//!
//! The options are explicit here; which combination of HTTP parameters means which operation, with
//! all of etcd's quirks, is the v2 layer's business (api/v2.md §7.1).

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::bytes::Value;
use super::path::Path;
use crate::ids::{NodeId, Revision};
use crate::time::Duration;

/// One request for a change, as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Command {
    /// The client's own id of this request, with which a retry finds the first answer.
    pub client: Option<ClientRequest>,
    /// What to do.
    pub operation: Operation,
}

impl Command {
    /// The time to live of what it writes, if it has one.
    #[must_use]
    pub const fn granted(&self) -> Option<Duration> {
        match &self.operation {
            Operation::Put(put) => put.ttl,
            Operation::Append(append) => append.ttl,
            Operation::Delete(_) | Operation::Configure(_) | Operation::Publish(_) => None,
        }
    }

    /// About how many bytes it takes, in memory and on its way.
    #[must_use]
    pub fn weight(&self) -> usize {
        let client = match &self.client {
            Some(ClientRequest::Opaque(text)) => text.len(),
            Some(ClientRequest::Numbered { .. }) | None => 0,
        };
        let operation = match &self.operation {
            Operation::Put(put) => {
                let content = match &put.content {
                    Content::Value(value) => value.len(),
                    Content::Directory | Content::Kept => 0,
                };
                let condition = match &put.when {
                    When::Matches(compare) => compare_weight(compare),
                    When::Always | When::Missing | When::Exists => 0,
                };
                put.path.as_key().len() + content + condition
            }
            Operation::Append(append) => {
                append.directory.as_key().len()
                    + append.value.as_ref().map_or(0, |value| value.len())
            }
            Operation::Delete(delete) => {
                let condition = match &delete.scope {
                    Scope::Matches(compare) => compare_weight(compare),
                    Scope::Key | Scope::EmptyDirectory | Scope::Tree => 0,
                };
                delete.path.as_key().len() + condition
            }
            Operation::Configure(_) => 0,
            Operation::Publish(publish) => {
                publish.name.len() + publish.client_urls.iter().map(String::len).sum::<usize>()
            }
        };
        client + operation
    }
}

/// How a client names a request so that a retry is not a second request (DESIGN.md §5).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum ClientRequest {
    /// Any text, kept for a time. At most [`ClientRequest::OPAQUE_BYTES_MAX`] bytes.
    Opaque(Value),
    /// A numbered request of a session.
    Numbered {
        /// The session.
        client: u64,
        /// Rises by one with each new request of the session.
        sequence: u64,
        /// The client has the answers up to here: they need not be kept. Below `sequence`.
        acked: u64,
    },
}

impl ClientRequest {
    /// The longest opaque id, in bytes.
    pub const OPAQUE_BYTES_MAX: usize = 64;
}

/// A change to make. Variants are only ever appended: their numbers are in every log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Operation {
    /// Write a key or a directory.
    Put(Put),
    /// Make a child of a directory, named by its index (v2's POST).
    Append(Append),
    /// Remove a key or a directory.
    Delete(Delete),
    /// Change the replicated settings.
    Configure(Settings),
    /// Make known under which name and client URLs a member serves.
    Publish(Publish),
}

/// Write a key or a directory. Missing parent directories are made, unless [`When`] needs the node
/// itself to exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Put {
    /// What to write.
    pub path: Path,
    /// What it shall be.
    pub content: Content,
    /// On which condition.
    pub when: When,
    /// How long it shall live; `None` is for ever, and so takes an earlier limit away.
    pub ttl: Option<Duration>,
}

/// What a [`Put`] leaves at its path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Content {
    /// A key with this value.
    Value(Value),
    /// A directory.
    Directory,
    /// What is there, with a new TTL and without waking a watcher (v2's `refresh`).
    Kept,
}

/// The condition of a [`Put`], which also names the action of its event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum When {
    /// Always: `set`. Renews the node's creation.
    Always,
    /// If nothing is there: `create`.
    Missing,
    /// If something is there: `update`. Keeps the node's creation.
    Exists,
    /// If a key is there that compares equal: `compareAndSwap`.
    Matches(Compare),
}

/// What a key is compared with; both parts must hold where both are given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Compare {
    /// Its value.
    pub value: Option<Value>,
    /// Its v2 `modifiedIndex`.
    pub modified: Option<Revision>,
}

/// Make a child of `directory`, named by the index of this change in 20 decimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Append {
    /// Where; made if missing.
    pub directory: Path,
    /// The value of a key, or `None` for a directory.
    pub value: Option<Value>,
    /// How long it shall live.
    pub ttl: Option<Duration>,
}

/// Remove a key or a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Delete {
    /// What to remove.
    pub path: Path,
    /// How far it may go, or on which condition.
    pub scope: Scope,
}

/// What a [`Delete`] may remove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Scope {
    /// A key only.
    Key,
    /// A key, or a directory without children (v2's `dir`).
    EmptyDirectory,
    /// A key, or a directory and all in it (v2's `recursive`).
    Tree,
    /// A key that compares equal: `compareAndDelete`.
    Matches(Compare),
}

/// The replicated settings: limits that move the history floor or forget requests must be equal on
/// all replicas, so they are in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Settings {
    /// How long a change stays in history, in cluster time. The floor moves by whole slices.
    pub history_age: Duration,
    /// Bytes of history kept, in canonical encoding. The floor moves by whole slices.
    pub history_bytes: u64,
    /// v2 events kept, refreshes and expiries counted; zero is no limit by count.
    pub history_events: u64,
    /// Canonical bytes after which a slice of history is closed.
    pub slice_bytes: u64,
    /// How long an answer is kept for a retry, in cluster time.
    pub request_age: Duration,
    /// How many answers are kept. Reached: the oldest is forgotten.
    pub requests_max: u64,
    /// Bytes of answers kept. Reached: the oldest is forgotten.
    pub request_bytes_max: u64,
}

impl Settings {
    /// Answers forgotten with one entry, so that many due at once do not stall it: a limit may be
    /// exceeded until as many entries have followed as this goes into the excess.
    pub const FORGOTTEN_PER_ENTRY_MAX: usize = 256;
    /// Sessions of numbered requests that are remembered. Reached: the one idle for longest is
    /// forgotten, and its numbers would be new ones.
    pub const SESSIONS_MAX: usize = 1 << 18;
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            history_age: Duration::from_secs(72 * 3600),
            history_bytes: 512 << 20,
            history_events: 0,
            slice_bytes: 8 << 20,
            request_age: Duration::from_secs(600),
            requests_max: 100_000,
            request_bytes_max: 64 << 20,
        }
    }
}

/// What a member tells of itself once it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Publish {
    /// Which member.
    pub member: NodeId,
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
}

fn compare_weight(compare: &Compare) -> usize {
    compare.value.as_ref().map_or(0, |value| value.len())
}
