//! What can be due.

use quorate_core::store::{Response, SliceId};
use quorate_core::{LogId, RequestError, RequestId, WatchId};
use xxhash_rust::xxh3::xxh3_64;

use crate::client::digest;
use crate::clock::Time;
use crate::network::Packet;
use crate::queue::Ranked;

/// Something that is due at some time.
#[expect(
    missing_docs,
    reason = "the variants say what happens, the fields to whom"
)]
#[derive(Clone, Debug)]
pub enum Event {
    /// A packet arrives.
    Deliver {
        to: usize,
        from: usize,
        kind: u8,
        packet: Packet,
        sent: Time,
    },
    /// A deadline is reached.
    Alarm { seat: usize, number: u64 },
    /// A node polls its replica.
    Turn { seat: usize, incarnation: u64 },
    /// The thread of the log is done with its job.
    LogDone {
        seat: usize,
        incarnation: u64,
        job: u64,
    },
    /// The thread of the log tries again on a disk that was full.
    LogRetry { seat: usize, incarnation: u64 },
    /// The checkpoint thread is done with its job.
    CheckpointDone { seat: usize, incarnation: u64 },
    /// A slice of history has been read.
    SliceRead {
        seat: usize,
        incarnation: u64,
        slice: SliceId,
    },
    /// The next piece of a snapshot arrives.
    Piece { transfer: u64 },
    /// A snapshot that arrived is on disk.
    SnapshotStored {
        seat: usize,
        incarnation: u64,
        number: u64,
    },
    /// Who sent a snapshot learns what came of it.
    SnapshotTold {
        seat: usize,
        incarnation: u64,
        peer: usize,
        last: LogId,
        delivered: bool,
    },
    /// An old snapshot arrives once more.
    SnapshotAgain { seat: usize, parcel: usize },
    /// A snapshot has taken the place of the tables.
    Switched { seat: usize, incarnation: u64 },
    /// Somebody looks whether those lead who should not.
    Watchdog,
    /// A process begins to recover.
    Start { seat: usize },
    /// It has recovered.
    Started { seat: usize, incarnation: u64 },
    /// It crashes before it has.
    FailStart { seat: usize, incarnation: u64 },
    /// A fuse has burnt down.
    Burn { seat: usize, incarnation: u64 },
    /// Who asked a node to stop in order waits no longer.
    Stopped { seat: usize, incarnation: u64 },
    /// The transport gives up on a peer for now.
    GaveUp { seat: usize, peer: usize },
    /// A fault strikes.
    Strike { number: usize, count: u64 },
    /// The leader is killed.
    KillLeader { count: u64 },
    /// A disk has room again.
    Unfull { seat: usize },
    /// A client begins something.
    Begin { client: usize },
    /// A request reaches a node.
    Arrive {
        client: usize,
        operation: u64,
        attempt: u64,
    },
    /// An answer reaches a client.
    Answer {
        client: usize,
        operation: u64,
        attempt: u64,
        result: Box<Result<Response, RequestError>>,
    },
    /// A client learns that its connection broke.
    Lose {
        client: usize,
        operation: u64,
        attempt: u64,
    },
    /// A client loses its patience.
    Timeout {
        client: usize,
        operation: u64,
        attempt: u64,
    },
    /// A member learns that a client has lost its patience.
    Cancel {
        seat: usize,
        incarnation: u64,
        request: RequestId,
    },
    /// A client opens a watch.
    Open { client: usize, stream: u64 },
    /// A watcher has read on.
    Credit {
        client: usize,
        stream: u64,
        watch: WatchId,
    },
    /// Forked disks are looked at.
    Fork { count: u64 },
    /// Chaos ends.
    Heal,
    /// The run ends before that.
    Cut,
    /// Progress is looked at.
    Tick,
}

impl Event {
    /// The node it is for: it waits while that node is paused.
    #[must_use]
    pub fn seat(&self) -> Option<usize> {
        match *self {
            Self::Deliver { to: seat, .. }
            | Self::Alarm { seat, .. }
            | Self::Turn { seat, .. }
            | Self::LogDone { seat, .. }
            | Self::LogRetry { seat, .. }
            | Self::CheckpointDone { seat, .. }
            | Self::SliceRead { seat, .. }
            | Self::SnapshotStored { seat, .. }
            | Self::SnapshotTold { seat, .. }
            | Self::SnapshotAgain { seat, .. }
            | Self::Switched { seat, .. }
            | Self::Cancel { seat, .. }
            | Self::GaveUp { seat, .. } => Some(seat),
            Self::Piece { .. }
            | Self::Watchdog
            | Self::Start { .. }
            | Self::Started { .. }
            | Self::FailStart { .. }
            | Self::Burn { .. }
            | Self::Stopped { .. }
            | Self::Strike { .. }
            | Self::KillLeader { .. }
            | Self::Unfull { .. }
            | Self::Begin { .. }
            | Self::Arrive { .. }
            | Self::Answer { .. }
            | Self::Lose { .. }
            | Self::Timeout { .. }
            | Self::Open { .. }
            | Self::Credit { .. }
            | Self::Fork { .. }
            | Self::Heal
            | Self::Cut
            | Self::Tick => None,
        }
    }

    /// Whether it happens in chaos only.
    #[must_use]
    pub const fn is_of_chaos(&self) -> bool {
        self.is_strike() || matches!(self, Self::Begin { .. } | Self::Fork { .. })
    }

    /// Whether a fault strikes.
    #[must_use]
    pub const fn is_strike(&self) -> bool {
        matches!(self, Self::Strike { .. } | Self::KillLeader { .. })
    }

    /// Its kind and its place, for the trace and for the order of what is due at once.
    #[must_use]
    pub fn place(&self) -> (u8, u64) {
        match *self {
            Self::Deliver { to, .. } => (1, to as u64),
            Self::Alarm { seat, .. } => (2, seat as u64),
            Self::Turn { seat, .. } => (3, seat as u64),
            Self::LogDone { seat, .. } => (4, seat as u64),
            Self::LogRetry { seat, .. } => (5, seat as u64),
            Self::CheckpointDone { seat, .. } => (6, seat as u64),
            Self::SliceRead { seat, .. } => (7, seat as u64),
            Self::Start { seat } => (8, seat as u64),
            Self::Started { seat, .. } => (9, seat as u64),
            Self::FailStart { seat, .. } => (10, seat as u64),
            Self::GaveUp { seat, .. } => (11, seat as u64),
            Self::Burn { seat, .. } => (25, seat as u64),
            Self::Stopped { seat, .. } => (26, seat as u64),
            Self::Piece { transfer } => (27, transfer),
            Self::SnapshotStored { seat, .. } => (28, seat as u64),
            Self::SnapshotTold { seat, .. } => (29, seat as u64),
            Self::SnapshotAgain { seat, .. } => (30, seat as u64),
            Self::Switched { seat, .. } => (31, seat as u64),
            Self::Watchdog => (32, 0),
            Self::Cancel { seat, .. } => (33, seat as u64),
            Self::Strike { number, .. } => (12, number as u64),
            Self::KillLeader { .. } => (13, 0),
            Self::Unfull { seat } => (14, seat as u64),
            Self::Begin { client } => (15, client as u64),
            Self::Arrive { client, .. } => (16, client as u64),
            Self::Answer { client, .. } => (17, client as u64),
            Self::Lose { client, .. } => (18, client as u64),
            Self::Timeout { client, .. } => (19, client as u64),
            Self::Open { client, .. } => (20, client as u64),
            Self::Credit { client, .. } => (21, client as u64),
            Self::Fork { .. } => (22, 0),
            Self::Heal => (23, 0),
            Self::Tick => (24, 0),
            // After all else that is due then.
            Self::Cut => (255, 0),
        }
    }

    /// A hash of the rest.
    #[must_use]
    pub fn payload(&self) -> u64 {
        match self {
            Self::Deliver { from, packet, .. } => xxh3_64(packet) ^ *from as u64,
            Self::Alarm { number, .. } | Self::LogDone { job: number, .. } => *number,
            Self::Turn { incarnation, .. }
            | Self::LogRetry { incarnation, .. }
            | Self::CheckpointDone { incarnation, .. }
            | Self::Started { incarnation, .. }
            | Self::FailStart { incarnation, .. }
            | Self::Burn { incarnation, .. }
            | Self::Stopped { incarnation, .. }
            | Self::Switched { incarnation, .. } => *incarnation,
            Self::Piece { transfer } => *transfer,
            Self::SnapshotStored { number, .. } => *number,
            Self::Cancel { request, .. } => request.0,
            Self::SnapshotTold {
                last, delivered, ..
            } => (last.index.0 << 1) | u64::from(*delivered),
            Self::SnapshotAgain { parcel, .. } => *parcel as u64,
            Self::SliceRead { slice, .. } => slice.revision.0,
            Self::GaveUp { peer, .. } => *peer as u64,
            Self::Strike { count, .. } | Self::KillLeader { count } | Self::Fork { count } => {
                *count
            }
            Self::Arrive {
                operation, attempt, ..
            }
            | Self::Lose {
                operation, attempt, ..
            }
            | Self::Timeout {
                operation, attempt, ..
            } => operation ^ (attempt << 48),
            Self::Answer { result, .. } => digest(result),
            Self::Open { stream, .. } | Self::Credit { stream, .. } => *stream,
            Self::Start { .. }
            | Self::Unfull { .. }
            | Self::Begin { .. }
            | Self::Heal
            | Self::Cut
            | Self::Watchdog
            | Self::Tick => 0,
        }
    }
}

impl Ranked for Event {
    fn rank(&self) -> (u8, u8) {
        let (kind, place) = self.place();
        // Beyond that, insertion numbers decide.
        (kind, u8::try_from(place).unwrap_or(u8::MAX))
    }
}
