//! What members say to each other: one QUIC connection for each pair (DESIGN.md §7).
//!
//! - TLS proves that the network may be the cluster's; the hello, signed with the identity key over
//!   the TLS exporter, proves which member speaks.
//! - Both members of a pair dial. Of two connections made at once the one dialed from the lower
//!   disk id stays; a peer that was restarted replaces its old one.
//! - Messages go only between members born into one cluster, with a disk and a key of its record.
//!   Anybody else with the token may confirm and ask (DESIGN.md §4), no more.
//! - Nothing here waits for a peer: queues are bounded and drop the newest, readers stop reading,
//!   and each connection has tasks of its own. No byte that arrives can panic.
//!
//! | file | what |
//! |---|---|
//! | `options.rs`, `tls.rs` | limits; certificates, made or read again and again |
//! | `endpoint.rs`, `dial.rs` | sockets and who comes in; dialing with back-off |
//! | `hello.rs`, `refusal.rs` | the proof of who it is; why not, in words and numbers |
//! | `network.rs`, `peer.rs` | which connections count; what is known of one peer |
//! | `link.rs`, `queue.rs` | the streams of one connection; what waits for it |

mod dial;
mod endpoint;
mod hello;
mod link;
mod network;
mod options;
mod peer;
mod queue;
mod refusal;
#[cfg(test)]
mod tests;
mod tls;

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn::{Endpoint, RecvStream, SendStream};
use quorate_core::raft::{Message, MessageBody};
use quorate_core::{BirthRecord, Confirmation, DiskId, Founder, NodeId};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::warn;

use crate::error::StartError;
use crate::identity::Identity;
use crate::metrics::PeerMetrics;
use crate::snapshot::Streams;
use network::Network;
pub use options::PeerTls;
pub(crate) use options::TransportOptions;
use refusal::CODE_BYE;
use tls::Credentials;

/// How long the peers of one socket may take to hear goodbye.
const GOODBYE_MAX: Duration = Duration::from_millis(500);

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
        /// As of a message.
        permit: Permit,
    },
    /// A member has a snapshot to send.
    Snapshot {
        /// Who.
        from: NodeId,
        /// What it says.
        read: RecvStream,
        /// What it is told.
        write: SendStream,
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
pub(crate) struct Transport {
    network: Arc<Network>,
    endpoints: Vec<Endpoint>,
    runtime: Handle,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Transport {
    /// Listens, and dials the others from now on. `runtime` is a tokio runtime with time and I/O.
    /// Blocks on the TLS files.
    ///
    /// # Errors
    /// `Listen` and `PeerTls`: the operator acts.
    pub(crate) fn start(
        options: TransportOptions,
        identity: Arc<Identity>,
        receiver: Arc<dyn Receiver>,
        metrics: Arc<PeerMetrics>,
        runtime: Handle,
    ) -> Result<Self, StartError> {
        let sockets = endpoint::bind(&options.listen)?;
        Self::start_on(sockets, options, identity, receiver, metrics, runtime)
    }

    /// As [`Transport::start`], on sockets that are open.
    fn start_on(
        sockets: Vec<UdpSocket>,
        options: TransportOptions,
        identity: Arc<Identity>,
        receiver: Arc<dyn Receiver>,
        metrics: Arc<PeerMetrics>,
        runtime: Handle,
    ) -> Result<Self, StartError> {
        let credentials = Credentials::load(options.tls.clone());
        let credentials = credentials.map_err(|what| StartError::PeerTls { what })?;
        warn_of_open_network(&options);
        let sides = credentials.sides();
        let entered = runtime.enter();
        let endpoints = endpoint::listening(sockets, &sides.server, &options.limits)?;
        let dialing = endpoint::dialing();
        let network = Network::new(options, credentials, dialing, identity, receiver, metrics);
        drop(entered);
        let transport = Self {
            network: Arc::new(network),
            endpoints,
            runtime,
            tasks: Mutex::default(),
        };
        transport.spawn_all();
        Ok(transport)
    }

    /// Queues a message. Never blocks; where there is no connection, or the queue is full, it is
    /// dropped and counted.
    pub(crate) fn send(&self, to: NodeId, message: Message) {
        self.network.send(to, message);
    }

    /// Queues a confirmation for every connection of the peer called `to`. Never blocks; may be
    /// lost.
    pub(crate) fn confirm(&self, to: String, confirmation: Confirmation) {
        self.network.confirm(&to, &confirmation);
    }

    /// This member is born: peers have ids from now on, and get messages. Says so to all. The first
    /// call counts.
    pub(crate) fn born(&self, record: &BirthRecord) {
        for peer in self.network.born(record) {
            self.spawn(dial::dial_for_ever(Arc::clone(&self.network), peer));
        }
    }

    /// The way on which a snapshot goes to a member.
    pub(crate) fn snapshot_streams(&self, to: NodeId) -> SnapshotStreams {
        SnapshotStreams {
            network: Arc::clone(&self.network),
            to,
        }
    }

    /// Where peers are heard.
    pub(crate) fn local_addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.endpoints.iter().map(Endpoint::local_addr);
        addresses.filter_map(Result::ok).collect()
    }

    /// Says goodbye to all peers and ends. What still waits to be sent is dropped.
    pub(crate) async fn close(self) {
        self.end();
        for endpoint in self.all_endpoints() {
            // A peer that does not answer has a while to; the others know at once.
            let _ = timeout(GOODBYE_MAX, endpoint.wait_idle()).await;
        }
    }

    fn spawn_all(&self) {
        let network = &self.network;
        for endpoint in &self.endpoints {
            self.spawn(endpoint::accept_for_ever(
                Arc::clone(network),
                endpoint.clone(),
            ));
        }
        for peer in network.all_peers() {
            self.spawn(dial::dial_for_ever(Arc::clone(network), peer));
        }
        if network.credentials.are_files() {
            self.spawn(endpoint::refresh_for_ever(
                Arc::clone(network),
                self.endpoints.clone(),
            ));
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task = self.runtime.spawn(task).abort_handle();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.push(task);
    }

    fn end(&self) {
        // Before the tasks: the first reason of a connection's end is the one that is told.
        for endpoint in self.all_endpoints() {
            endpoint.close(CODE_BYE, b"this member stops");
        }
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        for task in tasks.drain(..) {
            task.abort();
        }
        self.network.forget();
    }

    fn all_endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        let dialing = self.network.dialing.iter().flatten();
        self.endpoints.iter().chain(dialing)
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.end();
    }
}

/// Identity keys prove who speaks, but whoever reaches the port may listen to a founding cluster.
fn warn_of_open_network(options: &TransportOptions) {
    let is_open = options.listen.iter().any(|at| !at.ip().is_loopback());
    if options.tls == PeerTls::SelfMade && is_open {
        warn!(
            "peers are not asked for certificates: until the cluster is born, whoever knows \
             --initial-cluster and its token and reaches the peer port can take a member's place; \
             see --peer-cert-file and --peer-trusted-ca-file"
        );
    }
}

/// The way on which a snapshot goes to a member: whatever connection there is when it is opened.
pub(crate) struct SnapshotStreams {
    network: Arc<Network>,
    to: NodeId,
}

impl Streams for SnapshotStreams {
    type Read = RecvStream;
    type Write = SendStream;

    async fn open(&self) -> Result<(RecvStream, SendStream), String> {
        let link = self.network.link_to(self.to);
        link.ok_or("it is not connected")?.open_snapshot().await
    }
}
