//! A snapshot that arrives. One at a time; its stream may break off, and another go on.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_core::snapshot::{
    Assembly, Part, SnapshotFrame, SnapshotHeader, SnapshotRefusal, SnapshotReply,
};
use quorate_core::store::SliceId;
use quorate_core::wal::slice;
use quorate_core::{Input, LogId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::task;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::build::{BuildError, Built, Places};
use super::frames::{FrameError, read_frame, write_reply};
use super::source::Summary;
use crate::background;
use crate::directory::Layout;
use crate::driver::Mail;
use crate::error::StartError;
use crate::files::sync_directory;
use crate::inbox::Inbox;
use crate::tables::Tables;

/// Parts that wait for the disk.
const PARTS_AHEAD: usize = 4;

/// How long a stream may bring nothing.
const READ_MAX: Duration = Duration::from_secs(30);

/// How long a snapshot whose stream broke off is kept.
const DETACHED_MAX: Duration = Duration::from_secs(60);

/// What arrives at this member.
pub(crate) struct Incoming {
    layout: Layout,
    inbox: Arc<Inbox<Mail>>,
    /// Held by the thread that builds one, to the last file it removes: the next one goes to the
    /// same places.
    building: Arc<Mutex<()>>,
    /// Never held while the disk works: async tasks take it.
    state: Mutex<State>,
}

struct State {
    /// The generation of tables in use.
    generation: u64,
    stage: Stage,
    /// Whether slices that are here already need not be sent: not after a snapshot with them came
    /// to nothing.
    is_trusting: bool,
    /// The last one that became the state of this member.
    installed: Option<LogId>,
    /// Counts streams and snapshots: who comes late finds another number.
    number: u64,
}

enum Stage {
    Idle,
    /// A stream brings it, under this number.
    Attached(u64),
    /// Its stream broke off.
    Detached(Job),
    /// It is whole, and waits for the replica.
    Whole(Whole),
    /// Its files are put in their place, or removed.
    Closing,
}

/// A snapshot that is being built.
struct Job {
    assembly: Assembly,
    parts: mpsc::Sender<Part>,
    built: oneshot::Receiver<Result<Built, BuildError>>,
}

struct Whole {
    last: LogId,
    summary: Summary,
    tables: Tables,
    slices: Vec<String>,
}

/// The tables that were switched to.
#[derive(Debug)]
pub(crate) struct Installed {
    pub(crate) tables: Tables,
    pub(crate) directory: PathBuf,
    pub(crate) summary: Summary,
    /// Where the ones before are; of no use any more.
    pub(crate) superseded: PathBuf,
}

/// Why a stream ended.
enum Ended {
    /// Everything is here: the sender is told.
    Whole,
    Broken(String),
    Refused(SnapshotRefusal, String),
}

impl Incoming {
    /// Nothing yet. `generation` is that of the tables in use.
    pub(crate) fn new(layout: Layout, generation: u64, inbox: Arc<Inbox<Mail>>) -> Self {
        Self {
            layout,
            inbox,
            building: Arc::default(),
            state: Mutex::new(State {
                generation,
                stage: Stage::Idle,
                is_trusting: true,
                installed: None,
                number: 0,
            }),
        }
    }

    /// Serves one stream from its first byte to its end.
    pub(crate) async fn serve(
        self: Arc<Self>,
        peer: String,
        mut read: impl AsyncRead + Unpin,
        mut write: impl AsyncWrite + Unpin,
    ) {
        let ended = match self.attach(&mut read).await {
            Ok((number, mut job)) => {
                let ended = receive(&mut job, &mut read, &mut write).await;
                self.detach(number, job, ended).await
            }
            Err(ended) => ended,
        };
        let reply = match ended {
            Ended::Whole => SnapshotReply::Received,
            Ended::Refused(reason @ SnapshotRefusal::Busy, what) => {
                debug!(peer, what, "a snapshot has to wait");
                SnapshotReply::Refused(reason)
            }
            Ended::Refused(reason, what) => {
                warn!(peer, ?reason, what, "a snapshot is refused");
                SnapshotReply::Refused(reason)
            }
            Ended::Broken(what) => {
                info!(peer, what, "the stream of a snapshot broke off");
                return;
            }
        };
        let _ = write_reply(&mut write, &reply).await;
    }

    /// Reads the header, and finds or begins the snapshot it speaks of.
    async fn attach(
        self: &Arc<Self>,
        read: &mut (impl AsyncRead + Unpin),
    ) -> Result<(u64, Job), Ended> {
        let header = match next(read).await? {
            SnapshotFrame::Header(header) => header,
            SnapshotFrame::Slice { .. } | SnapshotFrame::Rows(_) | SnapshotFrame::End { .. } => {
                let what = "it does not begin with a header";
                return Err(Ended::Refused(SnapshotRefusal::Damaged, what.to_owned()));
            }
        };
        let (header, have) = self.look_up(header).await?;
        let mut state = self.lock();
        // The sender had not heard of it yet.
        if state.installed.is_some_and(|last| last >= header.last) {
            return Err(Ended::Whole);
        }
        let job = match std::mem::replace(&mut state.stage, Stage::Idle) {
            Stage::Detached(job) if *job.assembly.header() == header => job,
            // What broke off is given up for what is here now.
            Stage::Detached(_) | Stage::Idle => self.begin(&state, header, have)?,
            busy @ (Stage::Attached(_) | Stage::Whole(_) | Stage::Closing) => {
                state.stage = busy;
                let what = "another one is on its way".to_owned();
                return Err(Ended::Refused(SnapshotRefusal::Busy, what));
            }
        };
        state.number += 1;
        let number = state.number;
        state.stage = Stage::Attached(number);
        Ok((number, job))
    }

    /// Which of the slices are here already.
    async fn look_up(&self, header: SnapshotHeader) -> Result<(SnapshotHeader, Vec<u32>), Ended> {
        let history = self.layout.history().path().to_owned();
        let looked = task::spawn_blocking(move || {
            let have = slices_here(&history, &header);
            (header, have)
        });
        let gone = |_| Ended::Broken("this member ends".to_owned());
        looked.await.map_err(gone)
    }

    fn begin(&self, state: &State, header: SnapshotHeader, have: Vec<u32>) -> Result<Job, Ended> {
        let places = self.places(state.generation + 1);
        let have = match state.is_trusting {
            true => have,
            false => Vec::new(),
        };
        info!(last = %header.last, slices = header.slices.len(), "a snapshot begins to arrive");
        let assembly = Assembly::new(header.clone(), have);
        let assembly =
            assembly.map_err(|what| Ended::Refused(SnapshotRefusal::Damaged, what.to_owned()))?;
        let (parts, receiver) = mpsc::channel(PARTS_AHEAD);
        let (done, built) = oneshot::channel();
        let building = Arc::clone(&self.building);
        let building = background::spawn("quorate-build", move || {
            let _turn = building.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever waited may be gone: then nobody knows of what was built.
            if let Err(Ok(_)) = done.send(places.build(&header, receiver)) {
                places.clear();
            }
        });
        building.map_err(|error| Ended::Refused(SnapshotRefusal::Busy, error.to_string()))?;
        Ok(Job {
            assembly,
            parts,
            built,
        })
    }

    /// A stream has ended, and with it perhaps the snapshot.
    async fn detach(self: &Arc<Self>, number: u64, job: Job, ended: Ended) -> Ended {
        match ended {
            Ended::Broken(what) => {
                self.leave(number, Stage::Detached(job));
                let incoming = Arc::clone(self);
                task::spawn(async move {
                    tokio::time::sleep(DETACHED_MAX).await;
                    incoming.give_up(number);
                });
                Ended::Broken(what)
            }
            Ended::Refused(reason, what) => {
                let Job { parts, built, .. } = job;
                // The thread that builds ends with the channel to it, and may know better.
                drop(parts);
                let what = match built.await {
                    Ok(Err(error)) if reason == SnapshotRefusal::Disk => error.what,
                    Ok(Ok(_) | Err(_)) | Err(_) => what,
                };
                self.leave(number, Stage::Idle);
                Ended::Refused(reason, what)
            }
            Ended::Whole => {
                let header = job.assembly.header().clone();
                match job.built.await {
                    Ok(Ok(built)) => {
                        self.arrived(number, header.last, built);
                        Ended::Whole
                    }
                    Ok(Err(BuildError { refusal, what })) => {
                        // It may be one of our own slices that is not what it should be.
                        self.lock().is_trusting = refusal != SnapshotRefusal::Damaged;
                        self.leave(number, Stage::Idle);
                        Ended::Refused(refusal, what)
                    }
                    Err(_) => {
                        self.leave(number, Stage::Idle);
                        let what = "the thread that builds it is gone".to_owned();
                        Ended::Refused(SnapshotRefusal::Disk, what)
                    }
                }
            }
        }
    }

    fn arrived(&self, number: u64, last: LogId, built: Built) {
        let Built {
            store,
            tables,
            slices,
        } = built;
        let summary = Summary::from(&*store);
        self.leave(
            number,
            Stage::Whole(Whole {
                last,
                summary,
                tables,
                slices,
            }),
        );
        let input = Input::SnapshotReceived { store };
        let _ = self.inbox.send(Mail::Input(input));
    }

    /// Makes the snapshot the state of this member, on disk: its slices first, then its tables, in
    /// one step. Blocks. Can be tried again.
    ///
    /// # Errors
    /// The disk.
    ///
    /// # Panics
    /// Where there is no such snapshot: core installs what arrived.
    pub(crate) fn install(&self, last: LogId) -> Result<Installed, StartError> {
        let (whole, before) = {
            let mut state = self.lock();
            let Stage::Whole(whole) = std::mem::replace(&mut state.stage, Stage::Closing) else {
                panic!("{last} never arrived");
            };
            (whole, state.generation)
        };
        assert_eq!(whole.last, last, "another snapshot arrived");
        let generation = before + 1;
        let places = self.places(generation);
        let switched = self.switch(&places, &whole.slices, generation);
        let mut state = self.lock();
        if let Err(error) = switched {
            state.stage = Stage::Whole(whole);
            return Err(error);
        }
        state.stage = Stage::Idle;
        state.generation = generation;
        state.installed = Some(last);
        state.is_trusting = true;
        Ok(Installed {
            tables: whole.tables,
            directory: places.tables,
            summary: whole.summary,
            superseded: self.layout.tables(before),
        })
    }

    fn switch(&self, places: &Places, slices: &[String], to: u64) -> Result<(), StartError> {
        let moved = move_slices(places, slices);
        moved.map_err(|error| StartError::io("move slices to", &places.history, error))?;
        self.layout.set_generation(to)?;
        // What stays is removed before the next snapshot, or at the next start.
        let _ = fs::remove_dir_all(&places.incoming);
        Ok(())
    }

    /// The snapshot as of `last` is of no use. Blocks.
    pub(crate) fn discard(&self, last: LogId) {
        let (places, whole) = {
            let mut state = self.lock();
            if !matches!(&state.stage, Stage::Whole(whole) if whole.last == last) {
                return;
            }
            let whole = std::mem::replace(&mut state.stage, Stage::Closing);
            (self.places(state.generation + 1), whole)
        };
        info!(%last, "a snapshot is of no use");
        // Closes its tables.
        drop(whole);
        places.clear();
        self.lock().stage = Stage::Idle;
    }

    /// Nobody went on with it.
    fn give_up(&self, number: u64) {
        let mut state = self.lock();
        if state.number == number && matches!(state.stage, Stage::Detached(_)) {
            info!("a snapshot that broke off is given up");
            // The thread that builds it removes what it wrote.
            state.stage = Stage::Idle;
        }
    }

    fn leave(&self, number: u64, stage: Stage) {
        let mut state = self.lock();
        if matches!(state.stage, Stage::Attached(other) if other == number) {
            state.stage = stage;
        }
    }

    fn places(&self, generation: u64) -> Places {
        Places {
            tables: self.layout.tables(generation),
            incoming: self.layout.incoming(),
            history: self.layout.history().path().to_owned(),
            room: self.layout.room(),
        }
    }

    /// Nothing under this lock stops half-way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incoming({})", self.lock().generation)
    }
}

/// Takes what the stream brings, until it ends one way or another.
async fn receive(
    job: &mut Job,
    read: &mut (impl AsyncRead + Unpin),
    write: &mut (impl AsyncWrite + Unpin),
) -> Ended {
    if let Err(error) = write_reply(write, &job.assembly.resume()).await {
        return Ended::Broken(error.to_string());
    }
    loop {
        let frame = match next(read).await {
            Ok(frame) => frame,
            Err(ended) => return ended,
        };
        let part = match job.assembly.accept(frame) {
            Ok(part) => part,
            Err(what) => return Ended::Refused(SnapshotRefusal::Damaged, what.to_owned()),
        };
        let is_end = part == Part::End;
        if job.parts.send(part).await.is_err() {
            // It says itself why it ended.
            return Ended::Refused(SnapshotRefusal::Disk, "it cannot be written".to_owned());
        }
        if is_end {
            return Ended::Whole;
        }
    }
}

async fn next(read: &mut (impl AsyncRead + Unpin)) -> Result<SnapshotFrame, Ended> {
    match timeout(READ_MAX, read_frame(read)).await {
        Ok(Ok(frame)) => Ok(frame),
        Ok(Err(error @ FrameError::Broken(_))) => Err(Ended::Broken(error.to_string())),
        Ok(Err(error @ FrameError::Damaged(_))) => {
            Err(Ended::Refused(SnapshotRefusal::Damaged, error.to_string()))
        }
        Err(_) => Err(Ended::Broken("it brings nothing".to_owned())),
    }
}

/// Which of the header's slices are in `history`, by name and length: all are read and summed up in
/// the end. Blocks.
fn slices_here(history: &Path, header: &SnapshotHeader) -> Vec<u32> {
    let is_here = |id: SliceId, bytes: u64| {
        let path = history.join(slice::file_name(id));
        fs::metadata(path).is_ok_and(|file| file.len() == bytes)
    };
    let slices = (0..).zip(&header.slices);
    let have = slices.filter(|(_, slice)| slice.bytes.is_some_and(|b| is_here(slice.id, b)));
    have.map(|(place, _)| place).collect()
}

/// Moves slices that arrived to those of this member. A second time, those already there are passed
/// over.
fn move_slices(places: &Places, slices: &[String]) -> io::Result<()> {
    for name in slices {
        let moved = fs::rename(places.incoming.join(name), places.history.join(name));
        match moved {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::metadata(places.history.join(name))?;
            }
            moved => moved?,
        }
    }
    sync_directory(&places.history)
}
