//! One member sends, another receives, over streams that break off, lie and cut corners.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use quorate_core::codec;
use quorate_core::snapshot::{SnapshotFrame, SnapshotRefusal, SnapshotReply};
use quorate_core::store::{
    Changes, Command, Content, Operation, Path, Put, Settings, Store, Value, When,
};
use quorate_core::wal::slice;
use quorate_core::{ClusterTime, Index, Input, LogId, Term};
use tokio::io::{AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};

use super::frames::read_reply;
use super::*;
use crate::config::Options;
use crate::directory::Home;
use crate::files::Room;
use crate::history;
use crate::recover::load;
use crate::tables::Tables;
use crate::testing::{Scratch, files_below};

fn at(index: u64) -> LogId {
    LogId {
        term: Term(1),
        index: Index(index),
    }
}

/// A member with a checkpoint of many keys, and closed slices of history.
struct Sender {
    _scratch: Scratch,
    home: Home,
    tables: Tables,
    summary: Summary,
    store: Store,
}

impl Sender {
    fn new(keys: u64) -> Self {
        let scratch = Scratch::new();
        let home = Home::open(&Options::new(scratch.path()), Room::default()).expect("made");
        let mut store = Store::new();
        let settings = Settings {
            slice_bytes: 20_000,
            ..Settings::default()
        };
        apply(&mut store, 1, Operation::Configure(settings));
        for key in 0..keys {
            let put = Put {
                path: Path::root().child(format!("key{key}").as_bytes()),
                content: Content::Value(Value::from(vec![b'v'; 300])),
                when: When::Always,
                ttl: None,
            };
            apply(&mut store, key + 2, Operation::Put(put));
        }
        let changes = store.take_changes();
        let tables = write(&home, &changes);
        let summary = Summary::from(&changes);
        Self {
            _scratch: scratch,
            home,
            tables,
            summary,
            store,
        }
    }

    fn source(&self) -> Source {
        let source = Source::open(&self.summary, self.tables.view(), &self.home.history());
        source.expect("all files are there")
    }
}

fn apply(store: &mut Store, index: u64, operation: Operation) {
    let command = Command {
        client: None,
        operation,
    };
    let applied = store.apply(at(index), ClusterTime(index), &command);
    applied.expect("nothing is refused");
}

fn write(home: &Home, changes: &Changes) -> Tables {
    for closed in &changes.closed {
        history::write(&mut home.history(), closed).expect("written");
    }
    let tables = Tables::open(&home.tables(1)).expect("opens");
    tables.ingest(changes.encode()).expect("ingested");
    tables
}

/// A member that has nothing yet.
struct Receiver {
    _scratch: Scratch,
    home: Home,
    room: Room,
    incoming: Arc<Incoming>,
    inbox: Arc<Inbox<Mail>>,
}

impl Receiver {
    fn new() -> Self {
        let scratch = Scratch::new();
        let room = Room::default();
        let home = Home::open(&Options::new(scratch.path()), room.clone()).expect("made");
        let inbox = Arc::new(Inbox::new(100));
        let incoming = Incoming::new((*home).clone(), 1, Arc::clone(&inbox));
        Self {
            _scratch: scratch,
            home,
            room,
            incoming: Arc::new(incoming),
            inbox,
        }
    }

    /// As after a restart of its process.
    fn restart(&mut self) {
        let generation = self.home.generation().expect("there");
        let incoming = Incoming::new((*self.home).clone(), generation, Arc::clone(&self.inbox));
        self.incoming = Arc::new(incoming);
    }

    /// The store that the driver was given, if it was.
    fn arrived(&self) -> Option<Box<Store>> {
        if self.inbox.len() == 0 {
            return None;
        }
        let mut mail = Vec::new();
        self.inbox.receive(&mut mail, None);
        assert_eq!(mail.len(), 1, "told once");
        match mail.pop() {
            Some(Mail::Input(Input::SnapshotReceived { store })) => Some(store),
            _ => panic!("something else came"),
        }
    }

    /// Its files that are of no member that has received nothing.
    fn leavings(&self) -> Vec<std::path::PathBuf> {
        self.leavings_of(2)
    }

    /// Its files that are of no member that has this generation of tables yet to receive.
    fn leavings_of(&self, generation: u64) -> Vec<std::path::PathBuf> {
        let files = files_below(self._scratch.path()).into_iter();
        let tables = format!("tables.{generation}");
        let is_left =
            |path: &std::path::PathBuf| path.starts_with("incoming") || path.starts_with(&tables);
        files.filter(is_left).collect()
    }
}

/// Streams to a receiver, each of which breaks off after so many bytes.
struct Cut {
    incoming: Arc<Incoming>,
    after: u64,
    sent: Arc<AtomicU64>,
}

impl Cut {
    fn never(receiver: &Receiver) -> Self {
        Self::after(receiver, u64::MAX)
    }

    fn after(receiver: &Receiver, bytes: u64) -> Self {
        Self {
            incoming: Arc::clone(&receiver.incoming),
            after: bytes,
            sent: Arc::default(),
        }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Streams for Cut {
    type Read = ReadHalf<DuplexStream>;
    type Write = Cutting;

    async fn open(&self) -> Result<(Self::Read, Self::Write), String> {
        let (ours, theirs) = tokio::io::duplex(8 << 10);
        let (read, write) = tokio::io::split(theirs);
        let incoming = Arc::clone(&self.incoming);
        tokio::spawn(incoming.serve("sender".to_owned(), read, write));
        let (read, inner) = tokio::io::split(ours);
        let write = Cutting {
            inner,
            left: self.after,
            sent: Arc::clone(&self.sent),
        };
        Ok((read, write))
    }
}

/// The writing half of a stream that breaks off.
struct Cutting {
    inner: WriteHalf<DuplexStream>,
    left: u64,
    sent: Arc<AtomicU64>,
}

impl AsyncWrite for Cutting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(room)];
        if bytes.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            self.left -= *count as u64;
            self.sent.fetch_add(*count as u64, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

async fn send(sender: &Sender, streams: &Cut) -> bool {
    send::send(Arc::new(sender.source()), streams, "receiver").await
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let builder = builder.worker_threads(2).enable_time();
    builder.build().expect("a runtime")
}

#[test]
fn a_snapshot_arrives_whole_and_becomes_the_state() {
    let (sender, receiver) = (Sender::new(600), Receiver::new());
    assert!(sender.summary.last() == at(601) && sender.source().header().slices.len() > 3);
    assert!(runtime().block_on(send(&sender, &Cut::never(&receiver))));
    let store = receiver.arrived().expect("the driver was told");
    assert_eq!(
        (store.applied(), store.hash()),
        (at(601), sender.store.hash())
    );

    assert_eq!(receiver.home.generation().expect("there"), 1, "not yet");
    let installed = receiver.incoming.install(at(601)).expect("installed");
    assert_eq!(receiver.home.generation().expect("there"), 2);
    assert_eq!(installed.summary.last(), at(601));
    let loaded = load(&installed.tables).expect("sound");
    assert_eq!(loaded.hash(), sender.store.hash());
    let survey = history::survey(&receiver.home.history()).expect("readable");
    history::verify(&receiver.home.history(), survey, loaded.slices()).expect("all slices");
}

#[test]
fn a_stream_that_breaks_off_is_gone_on_with() {
    let (sender, receiver) = (Sender::new(3000), Receiver::new());
    let whole = Cut::never(&Receiver::new());
    let runtime = runtime();
    // The receiver of this one is gone, and so tells nobody.
    assert!(runtime.block_on(send(&sender, &whole)));
    let cut = Cut::after(&receiver, whole.sent() / 3);
    assert!(runtime.block_on(send(&sender, &cut)));
    assert!(receiver.arrived().is_some());
    let more = cut.sent() as f64 / whole.sent() as f64;
    // A piece that was cut off is sent again, and the header each time.
    assert!(more < 1.5, "{more} times as much as without a break");
}

#[test]
fn streams_that_get_nowhere_are_given_up() {
    let (sender, receiver) = (Sender::new(10), Receiver::new());
    let cut = Cut::after(&receiver, 5);
    let delivered = runtime().block_on(async {
        tokio::time::timeout(std::time::Duration::from_secs(60), send(&sender, &cut)).await
    });
    assert_eq!(delivered, Ok(false));
    assert!(receiver.arrived().is_none());
}

#[test]
fn slices_that_are_here_are_not_sent_again() {
    let (sender, mut receiver) = (Sender::new(600), Receiver::new());
    let runtime = runtime();
    let first = Cut::never(&receiver);
    assert!(runtime.block_on(send(&sender, &first)));
    receiver.arrived().expect("arrived");
    receiver.incoming.install(at(601)).expect("installed");
    receiver.restart();
    let second = Cut::never(&receiver);
    assert!(runtime.block_on(send(&sender, &second)));
    let header = sender.source().header().clone();
    let slices: u64 = header
        .slices
        .iter()
        .map(|slice| slice.bytes.expect("there"))
        .sum();
    assert!(second.sent() + slices <= first.sent() + 100);
    receiver.arrived().expect("arrived again");

    // One of them is not what it should be: after that none is trusted.
    receiver.incoming.discard(at(601));
    let id = sender.source().header().slices[0].id;
    let path = receiver.home.history().path().join(slice::file_name(id));
    let mut bytes = std::fs::read(&path).expect("there");
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    assert!(!runtime.block_on(send(&sender, &Cut::never(&receiver))));
    assert!(runtime.block_on(send(&sender, &Cut::never(&receiver))));
}

/// A leader may ask for another one before it hears that the first was installed.
#[test]
fn what_is_installed_is_not_sent_again() {
    let (sender, receiver) = (Sender::new(600), Receiver::new());
    let runtime = runtime();
    assert!(runtime.block_on(send(&sender, &Cut::never(&receiver))));
    receiver.arrived().expect("arrived");
    receiver.incoming.install(at(601)).expect("installed");
    let again = Cut::never(&receiver);
    assert!(runtime.block_on(send(&sender, &again)), "it is there");
    assert!(again.sent() < 2000, "{} bytes", again.sent());
    assert!(receiver.arrived().is_none());
    assert_eq!(receiver.leavings_of(3), [] as [std::path::PathBuf; 0]);
}

#[test]
fn what_is_of_no_use_leaves_nothing_behind() {
    let (sender, receiver) = (Sender::new(100), Receiver::new());
    let runtime = runtime();
    for _ in 0..2 {
        assert!(runtime.block_on(send(&sender, &Cut::never(&receiver))));
        receiver.arrived().expect("arrived");
        assert_ne!(receiver.leavings(), [] as [std::path::PathBuf; 0]);
        receiver.incoming.discard(at(7));
        assert_ne!(
            receiver.leavings(),
            [] as [std::path::PathBuf; 0],
            "another one"
        );
        receiver.incoming.discard(at(101));
        assert_eq!(receiver.leavings(), [] as [std::path::PathBuf; 0]);
    }
}

#[test]
fn a_full_disk_refuses_and_a_new_start_sweeps() {
    let (sender, receiver) = (Sender::new(100), Receiver::new());
    receiver.room.set(false);
    let runtime = runtime();
    let source = sender.source();
    let start = source.header().next(0, &[]);
    let frames = source.frames(start, Vec::new());
    let mut frames: Vec<_> = frames.map(|frame| frame.expect("readable")).collect();
    frames.insert(0, SnapshotFrame::Header(source.header().clone()));
    let frames = frames.iter().map(codec::encode_snapshot).collect();
    let replies = runtime.block_on(converse(&receiver, frames));
    let refused = SnapshotReply::Refused(SnapshotRefusal::Disk);
    assert_eq!(replies.last(), Some(&refused));
    assert_eq!(receiver.leavings(), [] as [std::path::PathBuf; 0]);
    receiver.room.set(true);
    assert!(runtime.block_on(send(&sender, &Cut::never(&receiver))));
    receiver.home.remove_other_tables(1).expect("swept");
    assert_eq!(receiver.leavings(), [] as [std::path::PathBuf; 0]);
}

/// What the receiver says to these frames, of which the first ones are sent as they should be.
async fn converse(receiver: &Receiver, frames: Vec<Vec<u8>>) -> Vec<SnapshotReply> {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let (read, write) = tokio::io::split(theirs);
    let serving = tokio::spawn(Arc::clone(&receiver.incoming).serve("liar".into(), read, write));
    let (mut read, mut write) = tokio::io::split(ours);
    for frame in frames {
        // It may have heard enough.
        let _ = write.write_all(&frame).await;
    }
    let _ = write.shutdown().await;
    serving.await.expect("no panic");
    let mut replies = Vec::new();
    while let Ok(reply) = read_reply(&mut read).await {
        replies.push(reply);
    }
    replies
}

#[test]
fn lies_are_refused() {
    let sender = Sender::new(600);
    let source = sender.source();
    let header = source.header().clone();
    let first = codec::encode_snapshot(&SnapshotFrame::Header(header.clone()));
    let start = header.next(0, &[]);
    let frames: Vec<_> = source
        .frames(start, Vec::new())
        .map(|frame| frame.expect("readable"))
        .collect();
    let whole = |change: &dyn Fn(usize, SnapshotFrame) -> Option<SnapshotFrame>| {
        let frames = frames.iter().cloned().enumerate();
        let changed = frames.filter_map(|(at, frame)| change(at, frame));
        let mut all = vec![first.clone()];
        all.extend(changed.map(|frame| codec::encode_snapshot(&frame)));
        all
    };
    let mut lying = header.clone();
    lying.hash ^= 1;
    let mut other_hash = whole(&|_, frame| Some(frame));
    other_hash[0] = codec::encode_snapshot(&SnapshotFrame::Header(lying));
    let mut flipped = whole(&|_, frame| Some(frame));
    let middle = flipped[2].len() / 2;
    flipped[2][middle] ^= 1;
    let changed_row = whole(&|_, frame| match frame {
        SnapshotFrame::Rows(mut rows) => {
            let place = rows.len() / 2;
            rows[place].1 = Value::from("another");
            Some(SnapshotFrame::Rows(rows))
        }
        SnapshotFrame::Header(_) | SnapshotFrame::Slice { .. } | SnapshotFrame::End { .. } => {
            Some(frame)
        }
    });
    let changed_slice = whole(&|_, frame| match frame {
        SnapshotFrame::Slice {
            place: 1,
            offset,
            bytes,
        } => Some(SnapshotFrame::Slice {
            place: 1,
            offset,
            bytes: Value::from(vec![7; bytes.len()]),
        }),
        SnapshotFrame::Header(_)
        | SnapshotFrame::Slice { .. }
        | SnapshotFrame::Rows(_)
        | SnapshotFrame::End { .. } => Some(frame),
    });
    let lies = [
        ("no header", whole(&|_, frame| Some(frame)).split_off(1)),
        ("a header twice", vec![first.clone(), first.clone()]),
        ("another hash", other_hash),
        ("a flipped bit", flipped),
        ("a changed row", changed_row),
        ("a changed slice", changed_slice),
        (
            "a slice missing",
            whole(&|at, frame| (at != 1).then_some(frame)),
        ),
        ("noise", vec![b"GET / HTTP/1.1\r\n\r\n".to_vec()]),
    ];
    let runtime = runtime();
    for (lie, frames) in lies {
        let receiver = Receiver::new();
        let replies = runtime.block_on(converse(&receiver, frames));
        let refused = SnapshotReply::Refused(SnapshotRefusal::Damaged);
        assert_eq!(replies.last(), Some(&refused), "{lie}");
        assert!(receiver.arrived().is_none(), "{lie}");
        assert_eq!(receiver.leavings(), [] as [std::path::PathBuf; 0], "{lie}");
    }
}

#[test]
fn one_at_a_time() {
    let (sender, receiver) = (Sender::new(600), Receiver::new());
    let header = sender.source().header().clone();
    let first = codec::encode_snapshot(&SnapshotFrame::Header(header));
    runtime().block_on(async {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (read, write) = tokio::io::split(theirs);
        let incoming = Arc::clone(&receiver.incoming);
        let serving = tokio::spawn(incoming.serve("first".into(), read, write));
        let (mut read, mut write) = tokio::io::split(ours);
        write.write_all(&first).await.expect("taken");
        let reply = read_reply(&mut read).await;
        assert!(matches!(reply, Ok(SnapshotReply::From { .. })));
        let replies = converse(&receiver, vec![first.clone()]).await;
        assert_eq!(replies, [SnapshotReply::Refused(SnapshotRefusal::Busy)]);
        drop((read, write));
        serving.await.expect("no panic");
        // It broke off: another takes its place, from where it was.
        assert!(send(&sender, &Cut::never(&receiver)).await);
    });
    assert!(receiver.arrived().is_some());
}
