//! Everything that can happen to a replica.

use alloc::boxed::Box;

use crate::ids::{LogId, NodeId, RequestId, Revision, WatchId, WriteSeq};
use crate::raft::Message;
use crate::store::{Changes, Command, Filter, HistoryLost, Query, SliceEvents, SliceId, Store};

/// One thing that happened. Absorbed by [`Replica::step`](crate::Replica::step), which never fails:
/// what cannot be done is answered by an [`Output`](crate::Output).
///
/// A generator of arbitrary inputs passes over those that hand back what an output carried.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Input {
    /// The clock reached [`Replica::deadline`](crate::Replica::deadline). Harmless at any time.
    Deadline,
    /// A message came, already decoded, hence well-formed; not necessarily honest.
    Receive {
        /// Who sent it, as the transport proved.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// A client asks for a change. Pairs with one [`Output::Reply`](crate::Output::Reply).
    Propose {
        /// Names the answer.
        request: RequestId,
        /// What to do.
        command: Command,
    },
    /// A client asks a question. Pairs with one [`Output::Reply`](crate::Output::Reply).
    Read {
        /// Names the answer.
        request: RequestId,
        /// What.
        query: Query,
    },
    /// Whoever waits for the answer to this request has lost patience: it is answered now, if it
    /// was not before, with what is known of it. That may be `Dropped`.
    Cancel {
        /// Which.
        request: RequestId,
    },
    /// A client watches. Answered at once by [`Output::Watching`](crate::Output::Watching) or
    /// [`Output::WatchEnd`](crate::Output::WatchEnd).
    Watch {
        /// Names it; must not be in use.
        watch: WatchId,
        /// What it wants to see.
        filter: Filter,
        /// The v2 index to begin at; `None` is after now.
        since: Option<Revision>,
        /// How many events may leave before more credit comes.
        credit: u32,
    },
    /// A watcher has read on: so many more events may leave.
    Credit {
        /// Which.
        watch: WatchId,
        /// How many more.
        events: u32,
    },
    /// A watcher is gone: nothing more is said of the watch, not even its end.
    Unwatch {
        /// Which; unknown ones are ignored.
        watch: WatchId,
    },
    /// Every write up to here is on disk.
    Persisted {
        /// Through here.
        through: WriteSeq,
    },
    /// The changes of the checkpoint in flight are in the tables, durably, up to here.
    Checkpointed {
        /// The last entry they contain.
        applied: LogId,
    },
    /// The checkpoint in flight failed; its changes come back and are merged under newer ones.
    #[cfg_attr(feature = "arbitrary", arbitrary(skip))]
    CheckpointFailed {
        /// What [`Output::Checkpoint`](crate::Output::Checkpoint) carried.
        changes: Changes,
    },
    /// A slice of history was read back for those who need it.
    #[cfg_attr(feature = "arbitrary", arbitrary(skip))]
    HistoryRead {
        /// Which.
        slice: SliceId,
        /// Its events, or why not.
        events: Result<SliceEvents, HistoryLost>,
    },
    /// A snapshot as of `last` is on its way to a peer: what follows it is wanted.
    SnapshotStarted {
        /// To whom.
        to: NodeId,
        /// The last entry it contains.
        last: LogId,
    },
    /// The answer to [`Output::SendSnapshot`](crate::Output::SendSnapshot): the peer has it all,
    /// and it was whole; or it came to nothing, before it started or after.
    SnapshotSent {
        /// To whom.
        to: NodeId,
        /// The last entry it contains.
        last: LogId,
        /// Whether it has it.
        delivered: bool,
    },
    /// A snapshot has arrived from a peer, in tables of its own, durably and verified. Answered by
    /// a write that installs it, or by [`Output::DropSnapshot`](crate::Output::DropSnapshot).
    #[cfg_attr(feature = "arbitrary", arbitrary(skip))]
    SnapshotReceived {
        /// The store in those tables.
        store: Box<Store>,
    },
    /// The transport gave up on a peer for now.
    Unreachable {
        /// Which.
        peer: NodeId,
    },
    /// Whether there is no room for more log. While there is none, writes are refused and reads go
    /// on; a leader hands over, a follower stops acknowledging.
    DiskFull(bool),
    /// A client or operator asks this leader to hand over (thesis §3.10).
    Transfer {
        /// To whom; a voter.
        to: NodeId,
    },
    /// Finish what is begun, take in nothing new, make a last checkpoint;
    /// [`Replica::is_finished`](crate::Replica::is_finished) tells when.
    Shutdown,
}
