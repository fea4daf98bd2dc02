//! What members say to each other: one QUIC connection for each pair (DESIGN.md §7).

mod options;

use std::net::SocketAddr;
use std::sync::Arc;

use quorate_core::raft::{Message, MessageBody};
use quorate_core::{BirthRecord, Confirmation, DiskId, Founder, NodeId};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

use crate::error::StartError;
use crate::identity::Identity;
use crate::metrics::PeerMetrics;
pub use options::PeerTls;
pub(crate) use options::TransportOptions;

/// Takes what arrives: the driver's side.
pub(crate) trait Receiver: Send + Sync + 'static {
    /// Takes one arrival. Never blocks.
    fn receive(&self, arrival: Arrival);
}

/// Room taken by a message that waits for the driver. Drop it once the driver has the message.
pub(crate) type Permit = OwnedSemaphorePermit;

/// What the transport tells.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// From a member of the cluster this one is born into.
    Message {
        /// Who.
        from: NodeId,
        /// What.
        message: Message,
        /// Held until the driver has taken the message in.
        permit: Permit,
    },
    /// A peer proved who it is, in answer to a challenge of this process.
    Handshake {
        /// Numbers rise in the order in which the challenges were made.
        challenge: u64,
        /// Who it is.
        founder: Founder,
    },
    /// A peer confirms a record, or asks to confirm one.
    Confirmation {
        /// What it is called.
        from: String,
        /// The disk it has proved to be.
        disk: DiskId,
        /// What it says.
        confirmation: Confirmation,
    },
    /// A connection with a member broke, or a dial failed: once for each time.
    Unreachable {
        /// Who.
        peer: NodeId,
    },
}

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// In order with all others of its kind, on the one long-lived stream.
    Raft,
    /// On a stream of its own: it may be large, and nothing waits behind it.
    Forward,
}

/// The lane of a message.
pub(crate) fn lane(body: &MessageBody) -> Lane {
    match body {
        MessageBody::PreVote { .. }
        | MessageBody::PreVoteReply { .. }
        | MessageBody::Vote { .. }
        | MessageBody::VoteReply { .. }
        | MessageBody::Append { .. }
        | MessageBody::AppendReply { .. }
        | MessageBody::TimeoutNow
        | MessageBody::ProposeRefused { .. }
        | MessageBody::ReadIndex { .. }
        | MessageBody::ReadIndexReply { .. } => Lane::Raft,
        MessageBody::Propose { .. } => Lane::Forward,
    }
}

/// The transport of one member. Dropped, it closes its connections without waiting for anything.
#[derive(Debug)]
pub(crate) struct Transport {}

impl Transport {
    /// Listens, and dials the others from now on. `runtime` is a tokio runtime with time and I/O.
    ///
    /// # Errors
    /// `Listen` and `PeerTls`.
    pub(crate) fn start(
        _options: TransportOptions,
        _identity: Arc<Identity>,
        _receiver: Arc<dyn Receiver>,
        _metrics: Arc<PeerMetrics>,
        _runtime: Handle,
    ) -> Result<Self, StartError> {
        Ok(Self {})
    }

    /// Queues a message. Never blocks; where there is no connection, or the queue is full, it is
    /// dropped and counted.
    pub(crate) fn send(&self, _to: NodeId, _message: Message) {}

    /// Queues a confirmation for every connection of the peer called `to`. Never blocks; may be
    /// lost.
    pub(crate) fn confirm(&self, _to: &str, _confirmation: Confirmation) {}

    /// This member is born: peers have ids from now on, and get messages. Says so to all.
    pub(crate) fn born(&self, _record: &BirthRecord) {}

    /// The way on which a snapshot goes to a member, if there is one.
    pub(crate) fn snapshot_streams(&self, _to: NodeId) -> Option<SnapshotStreams> {
        None
    }

    /// Where peers are heard.
    pub(crate) fn local_addresses(&self) -> Vec<SocketAddr> {
        Vec::new()
    }

    /// Says goodbye to all peers and ends.
    pub(crate) async fn close(self) {}
}

/// The way on which a snapshot goes to a member.
pub(crate) struct SnapshotStreams {}

impl crate::snapshot::Streams for SnapshotStreams {
    type Read = tokio::io::DuplexStream;
    type Write = tokio::io::DuplexStream;

    async fn open(&self) -> Result<(Self::Read, Self::Write), String> {
        Err(String::new())
    }
}
