//! A snapshot on its way to a peer: at a pace that leaves room for others, and again after a break.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use quorate_core::codec;
use quorate_core::snapshot::{Cursor, SnapshotFrame, SnapshotRefusal, SnapshotReply};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::frames::read_reply;
use super::source::Source;
use crate::background;

/// Frames read ahead of the stream.
const FRAMES_AHEAD: usize = 4;

/// Bytes a second: a follower that catches up must not cost the clients of its leader.
const PACE: f64 = 48.0 * 1024.0 * 1024.0;

/// How long the receiver may take to say anything: it loads and verifies what it was sent.
const REPLY_MAX: Duration = Duration::from_secs(120);

/// How long a stream may take nothing.
const WRITE_MAX: Duration = Duration::from_secs(20);

/// How long a receiver that takes nothing more may need to say why.
const LAST_WORDS_MAX: Duration = Duration::from_secs(2);

/// The pause after a receiver had no room: filling its disk again at once would take the room from
/// its log as well.
const NO_ROOM_PAUSE: Duration = Duration::from_secs(10);

/// The pause before a stream that broke off is opened again.
const PAUSE: Duration = Duration::from_millis(300);

/// So many streams in a row may break off without getting anywhere.
const FRUITLESS_MAX: u32 = 10;

/// A way to a peer, opened anew for each attempt.
pub(crate) trait Streams: Send + Sync {
    /// What is read from it.
    type Read: AsyncRead + Send + Unpin;
    /// What is written to it.
    type Write: AsyncWrite + Send + Unpin;

    /// Opens a stream for a snapshot.
    fn open(&self) -> impl Future<Output = Result<(Self::Read, Self::Write), String>> + Send;
}

/// How an attempt ended.
enum Ended {
    Delivered,
    Refused(SnapshotRefusal),
    /// The stream broke off; whether the receiver had got on since the last one did.
    Broken {
        got_on: bool,
        why: String,
    },
    /// The snapshot cannot be read here.
    Unreadable(String),
}

/// Sends `source`, as often as it takes. Whether the receiver has it all, and it was whole.
pub(crate) async fn send(source: Arc<Source>, streams: &impl Streams, peer: &str) -> bool {
    let last = source.header().last;
    let begun = Instant::now();
    let mut fruitless = 0;
    let mut reached = None;
    while fruitless < FRUITLESS_MAX {
        match attempt(&source, streams, &mut reached).await {
            Ended::Delivered => {
                info!(peer, %last, took = ?begun.elapsed(), "a snapshot has arrived");
                return true;
            }
            Ended::Refused(reason) => {
                info!(peer, %last, ?reason, "a snapshot is not taken");
                // Whoever asks again at once hears the same.
                sleep(pause_after(reason)).await;
                return false;
            }
            Ended::Unreadable(what) => {
                warn!(peer, %last, what, "a snapshot cannot be read");
                return false;
            }
            Ended::Broken { got_on, why } => {
                fruitless = if got_on { 0 } else { fruitless + 1 };
                info!(peer, %last, why, "a snapshot broke off");
                sleep(PAUSE).await;
            }
        }
    }
    warn!(peer, %last, "a snapshot does not get through");
    false
}

fn pause_after(reason: SnapshotRefusal) -> Duration {
    match reason {
        SnapshotRefusal::Disk => NO_ROOM_PAUSE,
        SnapshotRefusal::Busy | SnapshotRefusal::Damaged => PAUSE,
    }
}

async fn attempt(
    source: &Arc<Source>,
    streams: &impl Streams,
    reached: &mut Option<Cursor>,
) -> Ended {
    let mut got_on = false;
    match stream(source, streams, reached, &mut got_on).await {
        Ok(ended) => ended,
        Err(why) => Ended::Broken { got_on, why },
    }
}

async fn stream(
    source: &Arc<Source>,
    streams: &impl Streams,
    reached: &mut Option<Cursor>,
    got_on: &mut bool,
) -> Result<Ended, String> {
    let (mut read, mut write) = streams.open().await?;
    let header = SnapshotFrame::Header(source.header().clone());
    write_in_time(&mut write, &codec::encode_snapshot(&header)).await?;
    let first = timeout(REPLY_MAX, reply(&mut read)).await;
    let first = first.map_err(|_| "the receiver says nothing".to_owned())??;
    let SnapshotReply::From { cursor, have } = first else {
        return ended(first);
    };
    *got_on = reached.replace(cursor.clone()).as_ref() != Some(&cursor);

    let mut frames = read_ahead(Arc::clone(source), cursor, have);
    let mut pace = Pace::new();
    // One future for all the time: half a reply that was read must not be lost.
    let mut reply = pin!(reply(&mut read));
    loop {
        tokio::select! {
            // Only a refusal comes before the end.
            early = &mut reply => return ended(early?),
            frame = frames.recv() => match frame {
                Some(Ok(frame)) => {
                    pace.wait(frame.len()).await;
                    if let Err(why) = write_in_time(&mut write, &frame).await {
                        // Whoever refuses takes nothing more, and its reason may be on its way.
                        let words = timeout(LAST_WORDS_MAX, &mut reply).await;
                        return words.map_err(|_| why.clone())?.map_or(Err(why), ended);
                    }
                }
                Some(Err(what)) => return Ok(Ended::Unreadable(what)),
                None => break,
            },
        }
    }
    let last = timeout(REPLY_MAX, reply).await;
    ended(last.map_err(|_| "the receiver says nothing".to_owned())??)
}

fn ended(reply: SnapshotReply) -> Result<Ended, String> {
    match reply {
        SnapshotReply::Received => Ok(Ended::Delivered),
        SnapshotReply::Refused(reason) => Ok(Ended::Refused(reason)),
        SnapshotReply::From { .. } => Err("an answer to nothing".to_owned()),
    }
}

/// The encoded frames, read on a thread that may block.
fn read_ahead(
    source: Arc<Source>,
    cursor: Cursor,
    have: Vec<u32>,
) -> mpsc::Receiver<Result<Vec<u8>, String>> {
    let (sender, receiver) = mpsc::channel(FRAMES_AHEAD);
    let told = sender.clone();
    let reading = background::spawn("quorate-read", move || {
        for frame in source.frames(cursor, have) {
            let frame = frame.map(|frame| codec::encode_snapshot(&frame));
            // The stream broke off.
            if sender.blocking_send(frame).is_err() {
                return;
            }
        }
    });
    if let Err(error) = reading {
        let _ = told.try_send(Err(error.to_string()));
    }
    receiver
}

async fn reply(read: &mut (impl AsyncRead + Unpin)) -> Result<SnapshotReply, String> {
    read_reply(read).await.map_err(|error| error.to_string())
}

async fn write_in_time(write: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), String> {
    let written = timeout(WRITE_MAX, write.write_all(bytes)).await;
    let written = written.map_err(|_| "the receiver takes nothing".to_owned())?;
    written.map_err(|error| error.to_string())
}

/// Spreads bytes over time.
struct Pace {
    next: Instant,
}

impl Pace {
    fn new() -> Self {
        Self {
            next: Instant::now(),
        }
    }

    /// Waits until so many bytes may leave.
    async fn wait(&mut self, bytes: usize) {
        sleep_until(self.next).await;
        #[expect(
            clippy::cast_precision_loss,
            reason = "a frame is far below 2^52 bytes"
        )]
        let seconds = bytes as f64 / PACE;
        // What was not used while the disk was slow is gone.
        self.next = self.next.max(Instant::now()) + Duration::from_secs_f64(seconds);
    }
}
