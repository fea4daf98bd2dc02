//! Everything a replica can ask for.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{Index, LogId, NodeId, RequestId, Revision, Term, WatchId, WriteSeq};
use crate::raft::{Entries, Message};
use crate::store::{Changes, Event, Header, Response, SliceId, StoreError};

/// One thing to do, from [`Replica::poll`](crate::Replica::poll). To be done in the order given;
/// none of them waits for another.
#[derive(Clone, Debug)]
pub enum Output {
    /// Put this on disk, then say [`Input::Persisted`](crate::Input::Persisted). In `seq` order,
    /// one at a time: what arrives meanwhile is the next. A failure is not an input: the driver
    /// drops the replica, since a failed sync must not be tried again (SIMULATION.md D11).
    Persist(Write),
    /// Send this. Safe to send at once; may be lost.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Put these changes into the tables, then say `Checkpointed` or `CheckpointFailed`.
    Checkpoint(Changes),
    /// The log below here is no longer needed on disk: it is in a durable checkpoint.
    TrimLog {
        /// The first index to keep.
        below: Index,
    },
    /// Send `to` a snapshot: the tables as of their last checkpoint, with the slices of history
    /// they list. Say [`Input::SnapshotStarted`](crate::Input::SnapshotStarted), and in any case
    /// [`Input::SnapshotSent`](crate::Input::SnapshotSent).
    SendSnapshot {
        /// To whom.
        to: NodeId,
    },
    /// The snapshot that was received, as of this entry, is of no use: its tables can go.
    DropSnapshot {
        /// The last entry it contains.
        last: LogId,
    },
    /// Read this slice of history back, then say [`Input::HistoryRead`](crate::Input::HistoryRead).
    ReadHistory {
        /// Which.
        slice: SliceId,
    },
    /// The one answer to a proposal or a question.
    Reply {
        /// Which.
        request: RequestId,
        /// What.
        result: Result<Response, RequestError>,
    },
    /// A watch has begun: its headers can go out.
    Watching {
        /// Which.
        watch: WatchId,
        /// The store as it is now.
        header: Header,
    },
    /// An event for these watches, each of which had credit for it.
    Notify {
        /// For whom.
        watches: Vec<WatchId>,
        /// What happened.
        event: Arc<Event>,
    },
    /// A watch is over; nothing follows.
    WatchEnd {
        /// Which.
        watch: WatchId,
        /// Why.
        reason: EndReason,
        /// The v2 index to go on from with nothing lost, where that is still possible.
        resume: Revision,
        /// The store as it is now.
        header: Header,
    },
    /// An honest peer cannot have done this.
    Fault {
        /// Who.
        peer: NodeId,
        /// What.
        fault: PeerFault,
    },
}

/// What must reach the disk in one piece and in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Write {
    /// Its name. Dense.
    pub seq: WriteSeq,
    /// Term and vote as they stand after this write: every batch header repeats them.
    pub hard_state: HardState,
    /// Entries to append. If the first one's index is not after the last on disk, what is there
    /// from that index on is overwritten. Empty in a write that only seals the one before it.
    pub entries: Entries,
    /// The received snapshot of the store as of this entry takes the place of the tables, and the
    /// log begins anew after it (DESIGN.md §6): the tables first, so that a crash between the two
    /// leaves a log that is older than its tables. Such a write has no entries.
    pub install: Option<LogId>,
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.seq, self.hard_state)?;
        if let Some(install) = self.install {
            write!(f, " install {install}")?;
        }
        match (self.entries.first(), self.entries.last()) {
            (Some(first), Some(last)) => write!(f, " [{}, {}]", first.id, last.id),
            (None, _) | (_, None) => Ok(()),
        }
    }
}

/// What Raft must not forget besides the log (Raft figure 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct HardState {
    /// The latest term seen.
    pub term: Term,
    /// Who got this member's vote in it.
    pub vote: Option<NodeId>,
}

impl fmt::Display for HardState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.vote {
            Some(vote) => write!(f, "term {} vote n{vote}", self.term),
            None => write!(f, "term {}", self.term),
        }
    }
}

/// Why a request got no answer from the store. The client acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// Not done: this member does not lead, and had nobody to pass it on to in time. Ask `leader`,
    /// if known.
    NotLeader {
        /// The leader, as far as this member knows.
        leader: Option<NodeId>,
    },
    /// Not done: a limit of `Config` is reached, or the leader is handing over. Try again later.
    Busy,
    /// Not done: the leader's disk is full. It heals by itself once the operator makes room.
    DiskFull,
    /// Not known whether it was or will be done: it was on its way when patience ran out. Only a
    /// request with an id of its own can be repeated safely.
    Dropped,
    /// Not done: the member is shutting down.
    Stopping,
    /// Not done, by a deterministic answer of the store at this point of the log.
    Store {
        /// Where in the log.
        header: Header,
        /// Why.
        error: StoreError,
    },
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader {
                leader: Some(leader),
            } => write!(f, "not the leader: ask {leader}"),
            Self::NotLeader { leader: None } => write!(f, "no leader is known"),
            Self::Busy => write!(f, "too busy"),
            Self::DiskFull => write!(f, "the disk is full"),
            Self::Dropped => write!(f, "no answer in time: the outcome is unknown"),
            Self::Stopping => write!(f, "shutting down"),
            Self::Store { error, .. } => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for RequestError {}

/// Why a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The index it needs next is below the history floor.
    Cleared {
        /// The oldest index kept.
        oldest: Revision,
    },
    /// History could not be read back from disk.
    HistoryLost,
    /// As many watches as `Config` allows are open.
    Busy,
    /// The member is shutting down.
    Stopping,
}

/// What an honest peer cannot have done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerFault {
    /// Its message names another birth record, or another disk than the record holds.
    WrongIdentity,
    /// Two leaders in one term.
    TwoLeaders {
        /// The term.
        term: Term,
    },
    /// Its message contradicts itself, or what is committed here.
    Malformed {
        /// How.
        what: &'static str,
    },
    /// It is no member.
    NotAMember,
}

impl fmt::Display for PeerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongIdentity => write!(f, "another cluster or disk than this member knows"),
            Self::TwoLeaders { term } => write!(f, "a second leader of term {term}"),
            Self::Malformed { what } => write!(f, "{what}"),
            Self::NotAMember => write!(f, "no member"),
        }
    }
}
