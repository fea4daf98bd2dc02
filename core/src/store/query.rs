//! What can be asked without changing anything, and the answers.

use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::event::{Event, NodeState};
use super::path::Path;
use crate::ids::{Index, LogId, NodeId, Revision, Term};
use crate::time::ClusterTime;

/// A question to the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Query {
    /// What to read.
    pub path: Path,
    /// Of a directory: all levels below it rather than its direct children.
    pub recursive: bool,
    /// How fresh the answer must be.
    pub consistency: Consistency,
}

/// How fresh an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Consistency {
    /// Not older than the moment the question was asked: ReadIndex (thesis §6.4).
    Linearizable,
    /// What this member has applied, once its counter has reached `at_least`.
    Local {
        /// The least revision; zero answers at once.
        at_least: Revision,
    },
}

/// The point of the log an answer belongs to, and who gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The member that answered.
    pub member: NodeId,
    /// Its term.
    pub term: Term,
    /// The last entry applied when the answer was made; of a write: the write's own entry.
    pub applied: LogId,
    /// The store's counter; of a write: after it.
    pub revision: Revision,
    /// Cluster time as this member estimates it now: what remains of a TTL is counted from here.
    pub now: ClusterTime,
}

impl Header {
    /// The index applied.
    #[must_use]
    pub const fn index(&self) -> Index {
        self.applied.index
    }
}

/// The answer to a question or a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Where in the log.
    pub header: Header,
    /// What.
    pub body: Body,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A change was made.
    Changed(Arc<Event>),
    /// A command without an event of its own took effect.
    Done,
    /// What was found.
    Found(Tree),
}

/// A node and what was asked for of what is below it. Hidden nodes are left out, but for the node
/// asked for itself and what is on the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Where.
    pub path: Path,
    /// The node. The root's `created` and `modified` are zero.
    pub node: NodeState,
    /// Children in order of their names' bytes; empty for a key and for a directory not expanded.
    pub children: Vec<Self>,
}
