//! What changed: one row of history, one event of a watch, one answer to a write. They are the same
//! thing, and shared.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::bytes::Value;
use super::path::Path;
use crate::ids::{ChangeId, LeaseId};
use crate::time::{ClusterTime, Duration};

/// One change of one key or directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place in history.
    pub id: ChangeId,
    /// When, in cluster time: the stamp of its entry.
    pub at: ClusterTime,
    /// What was done.
    pub action: Action,
    /// Who sees it.
    pub audience: Audience,
    /// Of what.
    pub path: Path,
    /// What is there now. Of a removal: only `created`, `modified` and `directory` are of interest.
    pub node: NodeState,
    /// What was there before.
    pub previous: Option<NodeState>,
}

impl Event {
    /// The id of the event that was encoded as `bytes`, without reading the rest.
    pub(super) fn id_in(bytes: &[u8]) -> Option<ChangeId> {
        postcard::take_from_bytes(bytes).ok().map(|(id, _)| id)
    }
}

/// What was done to the node. Variants are only ever appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Written, whatever was there.
    Set,
    /// Made where nothing was.
    Create,
    /// Changed where it was.
    Update,
    /// Changed since it compared equal.
    CompareAndSwap,
    /// Removed.
    Delete,
    /// Removed since it compared equal.
    CompareAndDelete,
    /// Removed since its time was over.
    Expire,
}

impl Action {
    /// Whether the node is gone afterwards.
    #[must_use]
    pub const fn removes(self) -> bool {
        match self {
            Self::Delete | Self::CompareAndDelete | Self::Expire => true,
            Self::Set | Self::Create | Self::Update | Self::CompareAndSwap => false,
        }
    }
}

/// Who sees an [`Event`]. Variants are only ever appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Audience {
    /// An event of the v2 API: takes an index, wakes watchers.
    Everyone,
    /// A refresh: takes an index and a place in v2's window of events, wakes nobody.
    Nobody,
    /// The record of what went away with a directory: no v2 event, takes no index; tells which
    /// watchers inside the directory are concerned, and the v3 API will show it.
    Records,
}

/// A key or a directory at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// The value of a key, `None` for a directory. Empty after a removal of a key.
    pub value: Option<Value>,
    /// The change that brought it into being.
    pub created: ChangeId,
    /// The last change to it.
    pub modified: ChangeId,
    /// How long it shall live.
    pub lease: Option<Lease>,
}

impl NodeState {
    /// Whether this is a directory.
    #[must_use]
    pub const fn is_directory(&self) -> bool {
        self.value.is_none()
    }
}

/// A limit on how long a node lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its name.
    pub id: LeaseId,
    /// The time granted.
    pub granted: Duration,
    /// When it is over. A node whose deadline has passed stays until an entry of the log removes
    /// it.
    pub deadline: ClusterTime,
}

/// One line, the same in traces, golden scripts and logs (STYLE.md §3.12).
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.id, self.action, self.path)?;
        if !self.action.removes() {
            write!(f, " {}", self.node)?;
        }
        if let Some(previous) = &self.previous {
            write!(f, " was {previous}")?;
        }
        match self.audience {
            Audience::Everyone => Ok(()),
            Audience::Nobody => write!(f, " (refresh)"),
            Audience::Records => write!(f, " (record)"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Set => "set",
            Self::Create => "create",
            Self::Update => "update",
            Self::CompareAndSwap => "compareAndSwap",
            Self::Delete => "delete",
            Self::CompareAndDelete => "compareAndDelete",
            Self::Expire => "expire",
        })
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "\"{value}\"")?,
            None => write!(f, "dir")?,
        }
        write!(f, " {}/{}", self.created, self.modified)?;
        match &self.lease {
            Some(lease) => write!(f, " until {}", lease.deadline),
            None => Ok(()),
        }
    }
}
