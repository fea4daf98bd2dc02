//! One connection with one peer: what is written to it, and what is read.
//!
//! | first byte | stream | what |
//! |---|---|---|
//! | `h` | the dialer's first, both ways | the hello |
//! | `r` | one way, one for each side, for as long as the connection lasts | frames back to back |
//! | `f` | one way, one for each message | a forwarded message |
//! | `s` | both ways, one for each attempt to send a snapshot | its frames and replies |
//!
//! The `r` stream carries messages and [`Control`] frames in one order: a member says that it is
//! born before it sends its first message. What an `s` stream carries is read elsewhere, at a lower
//! priority than `r`.
//!
//! Memory is bounded: a stream that is not read holds at most its window, all streams of one
//! connection together [`RECEIVE_BYTES`]; what was read waits against permits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use quorate_core::codec::{self, HEADER_BYTES, TAG_MESSAGE};
use quorate_core::raft::{Entry, Message, MessageBody};
use quorate_core::{Confirmation, DiskId};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use super::network::Network;
use super::peer::Peer;
use super::queue::Queue;
use super::refusal::{About, CODE_BYE, CODE_UNWANTED, Failure};
use super::{Arrival, Lane, lane};
use crate::metrics::PeerLabel;

/// Unread bytes that one stream may hold.
pub(super) const STREAM_BYTES: u32 = 8 << 20;
/// Unread bytes that all streams of one connection may hold.
pub(super) const RECEIVE_BYTES: u32 = 24 << 20;
/// Bytes sent and not yet acknowledged.
pub(super) const SEND_BYTES: u64 = 24 << 20;
/// Streams of forwarded messages at a time, and room for `r`.
pub(super) const STREAMS_ONE_WAY: u32 = 66;
/// The hello's, and snapshots'.
pub(super) const STREAMS_BOTH_WAYS: u32 = 4;

/// Forwarded messages under way at a time.
const FORWARDS: usize = 64;
/// Bytes of forwarded messages under way: far below [`SEND_BYTES`], so `r` always has room.
const FORWARD_BYTES: usize = 4 << 20;
/// The longest frame beside messages, and all of one peer's that wait for the driver: a record of a
/// few members.
pub(super) const CONTROL_BYTES: usize = 1 << 20;
/// The longest forwarded message that is taken. A request is at most the 10 MiB that a client may
/// send, and its path.
const FORWARD_BYTES_MAX: usize = 16 << 20;
/// Above the default of 0, for what must not wait.
const PRIORITY_RAFT: i32 = 1;
/// Below it, for what can wait.
const PRIORITY_SNAPSHOT: i32 = -1;
/// Messages encoded for one write, about.
const WRITE_BYTES: usize = 1 << 20;
/// Frames up to this are copied together; longer ones travel in the buffer they were encoded into.
const SMALL_BYTES: usize = 4 << 10;
/// What is taken from a stream at once.
const READ_BYTES: usize = 1 << 20;
/// What a message weighs besides its entries.
const FIXED_BYTES: usize = 128;
const ROUND_TRIP_INTERVAL: Duration = Duration::from_secs(1);

const TAG_CONTROL: u8 = b'c';

const _: () = assert!(STREAMS_ONE_WAY as usize > FORWARDS);
const _: () = assert!(STREAM_BYTES as u64 + (FORWARD_BYTES as u64) < SEND_BYTES);
const _: () = assert!(STREAM_BYTES < RECEIVE_BYTES);

/// What a stream is for: its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Hello,
    Raft,
    Forward,
    Snapshot,
}

impl Kind {
    pub(super) const fn byte(self) -> u8 {
        match self {
            Self::Hello => b'h',
            Self::Raft => b'r',
            Self::Forward => b'f',
            Self::Snapshot => b's',
        }
    }

    fn of(byte: u8) -> Option<Self> {
        let all = [Self::Hello, Self::Raft, Self::Forward, Self::Snapshot];
        all.into_iter().find(|kind| kind.byte() == byte)
    }
}

/// What members say beside messages. Variants are only ever appended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Control {
    Confirm(Confirmation),
    /// The sender is born since it said hello.
    Born {
        cluster: u128,
    },
}

/// What waits for the `r` stream.
#[derive(Debug)]
enum Item {
    Message(Message),
    Control(Control),
}

/// A connection whose peer has proved who it is.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) network: Arc<Network>,
    pub(super) peer: Arc<Peer>,
    pub(super) connection: Connection,
    pub(super) disk: DiskId,
    pub(super) key: [u8; 32],
    /// The peer's process.
    pub(super) run: u64,
    /// Whether this member dialed.
    pub(super) dialed: bool,
    pub(super) challenge: u64,
    /// The hash of the record the peer is born with, once it has said so.
    pub(super) cluster: OnceLock<u128>,
    raft: Queue<Item>,
    forwards: Queue<Message>,
    /// Whether the peer's `r` stream is there: a second one is none of this protocol.
    is_read: AtomicBool,
}

/// What a [`Link`] is made of.
pub(super) struct Proved {
    pub(super) peer: Arc<Peer>,
    pub(super) connection: Connection,
    pub(super) disk: DiskId,
    pub(super) key: [u8; 32],
    pub(super) run: u64,
    pub(super) dialed: bool,
    pub(super) challenge: u64,
    pub(super) cluster: Option<u128>,
}

impl Link {
    pub(super) fn new(network: Arc<Network>, proved: Proved) -> Self {
        let limits = &network.limits;
        let (items, bytes) = (limits.queue_messages, limits.queue_bytes);
        // Who proved nothing was not worth more.
        let window = VarInt::from_u32(RECEIVE_BYTES);
        proved.connection.set_receive_window(window);
        Self {
            network,
            peer: proved.peer,
            connection: proved.connection,
            disk: proved.disk,
            key: proved.key,
            run: proved.run,
            dialed: proved.dialed,
            challenge: proved.challenge,
            cluster: proved.cluster.map(OnceLock::from).unwrap_or_default(),
            raft: Queue::new(items, bytes),
            forwards: Queue::new(items, bytes),
            is_read: AtomicBool::new(false),
        }
    }

    /// Queues a message, or drops and counts it.
    pub(super) fn send(&self, message: Message) {
        self.send_by(lane(&message.body), message);
    }

    pub(super) fn send_by(&self, lane: Lane, message: Message) {
        let bytes = weight(&message);
        let (is_queued, queue) = match lane {
            Lane::Raft => (self.raft.push(Item::Message(message), bytes), "raft"),
            Lane::Forward => (self.forwards.push(message, bytes), "forward"),
        };
        if !is_queued {
            self.network.count_drop(queue, "full");
        }
    }

    /// Queues what is no message, or drops and counts it.
    pub(super) fn control(&self, control: Control) {
        let bytes = match &control {
            Control::Confirm(confirmation) => {
                let founders = confirmation.record.iter().map(|r| r.founders.len());
                FIXED_BYTES * (1 + founders.sum::<usize>())
            }
            Control::Born { .. } => FIXED_BYTES,
        };
        if !self.raft.push(Item::Control(control), bytes) {
            self.network.count_drop("control", "full");
        }
    }

    /// Opens a stream for a snapshot.
    pub(super) async fn open_snapshot(&self) -> Result<(RecvStream, SendStream), String> {
        let opened = self.connection.open_bi().await;
        let (mut write, read) = opened.map_err(|error| error.to_string())?;
        let _ = write.set_priority(PRIORITY_SNAPSHOT);
        let begun = write.write_all(&[Kind::Snapshot.byte()]).await;
        begun.map_err(|error| error.to_string())?;
        Ok((read, write))
    }

    /// Lives as long as the connection.
    pub(super) async fn run(self: Arc<Self>) {
        let mut tasks = JoinSet::new();
        // Dropped before the tasks are: a stream that one of them leaves half-written would end as
        // if it were whole.
        let _guard = CloseOnDrop(self.connection.clone());
        tasks.spawn(Arc::clone(&self).write_raft());
        tasks.spawn(Arc::clone(&self).write_forwards());
        tasks.spawn(Arc::clone(&self).accept_one_way());
        tasks.spawn(Arc::clone(&self).accept_both_ways());
        let failure = tokio::select! {
            failure = first_failure(&mut tasks) => failure,
            error = self.connection.closed() => error.into(),
            failure = self.measure() => failure,
        };
        match &failure {
            Failure::Refused(refusal) => refusal.close(&self.connection),
            Failure::RefusedByPeer(_) | Failure::Duplicate | Failure::Lost(_) => {}
        }
        let about = About::Peer(self.peer.name.clone());
        self.network.complaints.hear(about, &failure);
        self.network.unregister(&self, &failure);
    }

    /// Shows the round trip time, for ever.
    async fn measure(&self) -> Failure {
        let label = PeerLabel {
            peer: self.peer.name.clone(),
        };
        let family = &self.network.metrics.round_trip;
        let gauge = family.get_or_create(&label).clone();
        let mut ticks = interval(ROUND_TRIP_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            gauge.set(self.connection.rtt().as_secs_f64());
        }
    }

    /// Everything that waits goes out in one write.
    async fn write_raft(self: Arc<Self>) -> Result<(), Failure> {
        let mut stream = self.connection.open_uni().await?;
        // It fails only on a stream that is closed, as the next write will tell.
        let _ = stream.set_priority(PRIORITY_RAFT);
        let mut chunks = vec![Bytes::copy_from_slice(&[Kind::Raft.byte()])];
        loop {
            stream.write_all_chunks(&mut chunks).await?;
            let items = self.raft.take(WRITE_BYTES).await;
            chunks = self.encode(items);
        }
    }

    fn encode(&self, items: Vec<Item>) -> Vec<Bytes> {
        let counts = &self.peer.counts;
        let mut chunks = Vec::new();
        let mut small = Vec::new();
        for item in items {
            let frame = match &item {
                Item::Message(message) => {
                    counts.sent.inc();
                    codec::encode_message(message)
                }
                Item::Control(control) => codec::encode_frame(TAG_CONTROL, control),
            };
            counts.sent_bytes.inc_by(count(frame.len()));
            if frame.len() <= SMALL_BYTES {
                small.extend_from_slice(&frame);
                continue;
            }
            if !small.is_empty() {
                chunks.push(Bytes::from(std::mem::take(&mut small)));
            }
            chunks.push(Bytes::from(frame));
        }
        if !small.is_empty() {
            chunks.push(Bytes::from(small));
        }
        chunks
    }

    /// Each forwarded message on a stream of its own, and only so many at a time.
    async fn write_forwards(self: Arc<Self>) -> Result<(), Failure> {
        let room = Arc::new(Semaphore::new(FORWARD_BYTES));
        let mut tasks = JoinSet::new();
        loop {
            for message in self.forwards.take(WRITE_BYTES).await {
                let frame = codec::encode_message(&message);
                let bytes = frame.len().clamp(FORWARD_BYTES / FORWARDS, FORWARD_BYTES);
                let permit = acquire(&room, bytes, FORWARD_BYTES).await?;
                self.peer.counts.sent.inc();
                self.peer.counts.sent_bytes.inc_by(count(frame.len()));
                tasks.spawn(forward(self.connection.clone(), frame, permit));
                // What became of one is nobody's matter: it may be lost.
                while tasks.try_join_next().is_some() {}
            }
        }
    }

    async fn accept_one_way(self: Arc<Self>) -> Result<(), Failure> {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                stream = self.connection.accept_uni() => {
                    tasks.spawn(Arc::clone(&self).serve_one_way(stream?));
                }
                Some(ended) = tasks.join_next() => flat(ended)?,
            }
        }
    }

    async fn serve_one_way(self: Arc<Self>, mut stream: RecvStream) -> Result<(), Failure> {
        match kind(&mut stream).await? {
            Some(Kind::Raft) if self.is_read.swap(true, Ordering::Relaxed) => {
                Err(Failure::malformed("a second stream for messages"))
            }
            Some(Kind::Raft) => self.read_raft(stream).await,
            Some(Kind::Forward) => match self.read_forward(stream).await {
                // One message less.
                Err(Failure::Lost(_)) => Ok(()),
                result => result,
            },
            Some(Kind::Hello | Kind::Snapshot) | None => {
                Err(Failure::malformed("a stream of no known kind"))
            }
        }
    }

    async fn accept_both_ways(self: Arc<Self>) -> Result<(), Failure> {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                streams = self.connection.accept_bi() => {
                    let (send, receive) = streams?;
                    tasks.spawn(Arc::clone(&self).serve_both_ways(send, receive));
                }
                Some(ended) = tasks.join_next() => flat(ended)?,
            }
        }
    }

    async fn serve_both_ways(
        self: Arc<Self>,
        write: SendStream,
        mut read: RecvStream,
    ) -> Result<(), Failure> {
        match kind(&mut read).await? {
            Some(Kind::Snapshot) => {
                if let Some(from) = self.network.member(&self) {
                    let arrival = Arrival::Snapshot { from, read, write };
                    self.network.receiver.receive(arrival);
                } else {
                    self.network.count_drop("received", "not_a_member");
                }
                Ok(())
            }
            Some(Kind::Hello | Kind::Raft | Kind::Forward) | None => {
                Err(Failure::malformed("a stream of no known kind"))
            }
        }
    }

    async fn read_raft(&self, mut stream: RecvStream) -> Result<(), Failure> {
        let mut buffer = BytesMut::new();
        loop {
            while let Some(frame) = cut(&mut buffer)? {
                self.take_frame(&frame).await?;
            }
            match stream.read_chunk(READ_BYTES, true).await? {
                Some(chunk) => buffer.extend_from_slice(&chunk.bytes),
                None => return Err(Failure::Lost("the peer ended its stream".to_owned())),
            }
        }
    }

    /// Waits while too much of this peer's waits for the driver. Nothing is read from it meanwhile.
    async fn take_frame(&self, frame: &[u8]) -> Result<(), Failure> {
        self.peer.counts.received_bytes.inc_by(count(frame.len()));
        match codec::frame_tag(frame) {
            Some(TAG_MESSAGE) => {
                let message = codec::decode_message(frame).map_err(wrong)?;
                let all = self.network.limits.waiting_bytes;
                let permit = acquire(&self.peer.waiting, weight(&message), all).await?;
                self.deliver(message, permit);
                Ok(())
            }
            Some(TAG_CONTROL) => {
                let control = codec::decode_frame(TAG_CONTROL, frame).map_err(wrong)?;
                self.take_control(control, frame.len()).await
            }
            Some(_) | None => Err(Failure::malformed("a frame of no known kind")),
        }
    }

    async fn take_control(&self, control: Control, bytes: usize) -> Result<(), Failure> {
        match control {
            Control::Confirm(confirmation) => {
                let room = &self.peer.waiting_controls;
                let permit = acquire(room, bytes, CONTROL_BYTES).await?;
                self.network.receiver.receive(Arrival::Confirmation {
                    from: self.peer.name.clone(),
                    disk: self.disk,
                    confirmation,
                    permit,
                });
                Ok(())
            }
            Control::Born { cluster } => {
                if *self.cluster.get_or_init(|| cluster) != cluster {
                    return Err(Failure::malformed("born twice"));
                }
                self.network.check_cluster(Some(cluster))
            }
        }
    }

    /// Hands a message to the driver if it is a member's, or drops and counts it.
    fn deliver(&self, message: Message, permit: OwnedSemaphorePermit) {
        if let Some(from) = self.network.member(self) {
            self.peer.counts.received.inc();
            self.network.receiver.receive(Arrival::Message {
                from,
                message,
                permit,
            });
        } else {
            self.network.count_drop("received", "not_a_member");
        }
    }

    /// A forwarded message for which there is no room is lost: it would hold up what the peer sends
    /// besides.
    async fn read_forward(&self, mut stream: RecvStream) -> Result<(), Failure> {
        let mut header = [0; HEADER_BYTES];
        stream.read_exact(&mut header).await?;
        let length = codec::frame_bytes(&header).map_err(wrong)?;
        let length = length.ok_or_else(|| Failure::malformed("half a header"))?;
        if length > FORWARD_BYTES_MAX {
            let words = format!("a forwarded message of {length} bytes");
            return Err(Failure::malformed(words));
        }
        let permits = permits(length, self.network.limits.waiting_bytes);
        let waiting = Arc::clone(&self.peer.waiting_forwards);
        let Ok(permit) = waiting.try_acquire_many_owned(permits) else {
            let _ = stream.stop(CODE_UNWANTED);
            self.network.count_drop("received", "full");
            return Ok(());
        };
        let mut frame = header.to_vec();
        frame.resize(length, 0);
        stream.read_exact(&mut frame[HEADER_BYTES..]).await?;
        let message = codec::decode_message(&frame).map_err(wrong)?;
        self.peer.counts.received_bytes.inc_by(count(length));
        self.deliver(message, permit);
        Ok(())
    }
}

async fn kind(stream: &mut RecvStream) -> Result<Option<Kind>, Failure> {
    let mut kind = [0];
    stream.read_exact(&mut kind).await?;
    Ok(Kind::of(kind[0]))
}

/// Sends one message on a stream of its own. Its permit is back once the peer's system has it all.
async fn forward(connection: Connection, frame: Vec<u8>, permit: OwnedSemaphorePermit) {
    let Ok(mut stream) = connection.open_uni().await else {
        return;
    };
    let kind = Bytes::copy_from_slice(&[Kind::Forward.byte()]);
    let mut chunks = [kind, Bytes::from(frame)];
    if stream.write_all_chunks(&mut chunks).await.is_ok() {
        let _ = stream.finish();
        let _ = stream.stopped().await;
    } else {
        // Dropped, it would end as if it were whole.
        let _ = stream.reset(CODE_UNWANTED);
    }
    drop(permit);
}

/// The frame at the front of `buffer`, if all of it is there.
fn cut(buffer: &mut BytesMut) -> Result<Option<BytesMut>, Failure> {
    let length = codec::frame_bytes(buffer).map_err(wrong)?;
    if length > Some(CONTROL_BYTES) && codec::frame_tag(buffer) != Some(TAG_MESSAGE) {
        return Err(Failure::malformed("a frame that is too long for its kind"));
    }
    match length {
        Some(length) if length <= buffer.len() => Ok(Some(buffer.split_to(length))),
        Some(_) | None => Ok(None),
    }
}

fn wrong(error: codec::DecodeError) -> Failure {
    Failure::malformed(format!("what it sent {error}"))
}

/// About how many bytes a message takes, in memory and on its way.
fn weight(message: &Message) -> usize {
    let parts: usize = match &message.body {
        MessageBody::Append { entries, .. } => entries.iter().map(Entry::weight).sum(),
        MessageBody::Propose { requests } => {
            let commands = requests.iter().map(|request| request.command.weight());
            commands.sum()
        }
        MessageBody::ProposeRefused { tickets } => size_of::<u64>() * tickets.len(),
        MessageBody::PreVote { .. }
        | MessageBody::PreVoteReply { .. }
        | MessageBody::Vote { .. }
        | MessageBody::VoteReply { .. }
        | MessageBody::AppendReply { .. }
        | MessageBody::TimeoutNow
        | MessageBody::ReadIndex { .. }
        | MessageBody::ReadIndexReply { .. } => 0,
    };
    FIXED_BYTES + parts
}

/// Permits for so many bytes; for more than there are in all, all of them.
async fn acquire(
    room: &Arc<Semaphore>,
    bytes: usize,
    all: usize,
) -> Result<OwnedSemaphorePermit, Failure> {
    let permits = permits(bytes, all);
    let acquired = Arc::clone(room).acquire_many_owned(permits).await;
    acquired.map_err(|_| Failure::Lost("this member ends".to_owned()))
}

fn permits(bytes: usize, all: usize) -> u32 {
    u32::try_from(bytes.min(all)).unwrap_or(u32::MAX)
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

async fn first_failure(tasks: &mut JoinSet<Result<(), Failure>>) -> Failure {
    while let Some(ended) = tasks.join_next().await {
        if let Err(failure) = flat(ended) {
            return failure;
        }
    }
    Failure::Lost("nothing is left of it".to_owned())
}

fn flat(ended: Result<Result<(), Failure>, JoinError>) -> Result<(), Failure> {
    ended.unwrap_or_else(|error| Err(Failure::Lost(format!("a task of it ended: {error}"))))
}

/// Closes a connection that nobody attends to any more.
struct CloseOnDrop(Connection);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        // Nothing happens where it is closed already.
        self.0.close(CODE_BYE, b"the other side is done with it");
    }
}
