//! What Raft asks for.

use alloc::vec::Vec;
use core::fmt;

use crate::ids::{Index, NodeId, RequestId};
use crate::output::{PeerFault, Write};
use crate::raft::{Entries, Message};

/// What [`Raft`](crate::raft::Raft) asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RaftOutput {
    /// Put this on disk, then call [`Raft::persisted`](crate::raft::Raft::persisted). One at a
    /// time.
    Persist(Write),
    /// Send this; it may be lost.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// These are committed: apply them. In order, each once since the opening's `applied`.
    Commit(Entries),
    /// The question may be answered by a store that has applied through `index`.
    ReadReady {
        /// Which.
        request: RequestId,
        /// What was committed when its round began.
        index: Index,
    },
    /// The question cannot be answered here any more: leadership is lost. It can be asked again.
    ReadLost {
        /// Which.
        request: RequestId,
    },
    /// Another member would not take these in: they can be passed on again.
    Refused {
        /// Which, by the tickets of [`Forwarded`](crate::raft::Forwarded).
        tickets: Vec<u64>,
    },
    /// Leadership is lost: what was proposed and has not been committed may or may not come about.
    /// What is committed by now was given out before.
    LostLeadership,
    /// The peer needs entries that the log no longer holds. Said once, until it has caught up.
    NeedsSnapshot {
        /// Which.
        to: NodeId,
    },
    /// An honest peer cannot have done this.
    Fault {
        /// Who.
        peer: NodeId,
        /// What.
        fault: PeerFault,
    },
}

/// What it says, without who says it.
impl fmt::Display for RaftOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Persist(write) => write!(f, "persist {write}"),
            Self::Send { to, message } => write!(f, "send n{to}@{} {}", message.term, message.body),
            Self::Commit(entries) => match (entries.first(), entries.last()) {
                (Some(first), Some(last)) => write!(f, "commit [{}, {}]", first.id, last.id),
                (None, _) | (_, None) => write!(f, "commit nothing"),
            },
            Self::ReadReady { request, index } => write!(f, "{request} may read at {index}"),
            Self::ReadLost { request } => write!(f, "{request} is lost"),
            Self::Refused { tickets } => write!(f, "{} refused", tickets.len()),
            Self::LostLeadership => write!(f, "lost leadership"),
            Self::NeedsSnapshot { to } => write!(f, "n{to} needs a snapshot"),
            Self::Fault { peer, fault } => write!(f, "fault of n{peer}: {fault}"),
        }
    }
}
