//! One member: what its machine keeps when its process is gone, and the process while it runs.
//!
//! The process is the shipped `Replica` over the shipped log on a simulated disk; what the
//! runtime's threads do around them is done here, in virtual time.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use quorate_core::store::{Changes, SliceId};
use quorate_core::wal::{Wal, WalError, WalLimits};
use quorate_core::{
    BirthRecord, DiskId, Founder, Index, NodeId, Opening, Replica, RequestId, WatchId, Write,
    WriteSeq,
};

use crate::clock::{Clock, Time};
use crate::disk::{Disk, Job, Pace, SimFiles};
use crate::fates::Here;
use crate::rng::Draw;
use crate::snapshot::{Incoming, Parcel};
use crate::tables::Tables;

/// A member of the cluster.
#[derive(Debug)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its disk, which outlives it.
    pub disk: Rc<RefCell<Disk>>,
    /// Its tables, which outlive it.
    pub tables: Tables,
    /// Its clocks.
    pub clock: Clock,
    /// How fast its disk is.
    pub pace: Pace,
    /// Counts its processes: what was meant for an earlier one never reaches a later one.
    pub incarnation: u64,
    /// Counts its jobs: names the stream that tells how long each takes.
    pub jobs: u64,
    /// P5: nothing reaches it before.
    pub paused_until: Time,
    /// D6 to D10: its log was damaged, and may not be whole again.
    pub impaired: bool,
    /// Its process.
    pub life: Life,
}

/// Whether a process runs.
#[derive(Debug)]
pub enum Life {
    /// None.
    Down,
    /// Recovery has read the disk, and what it repairs is on its way there.
    Starting {
        /// What it writes.
        job: Job,
        /// What it found.
        opening: Box<Opening>,
        /// The log.
        wal: Box<Wal<SimFiles>>,
    },
    /// It runs.
    Up(Box<Process>),
}

/// A running member.
#[derive(Debug)]
pub struct Process {
    /// What decides.
    pub replica: Replica,
    /// The log, on a thread of its own.
    pub wal: Wal<SimFiles>,
    /// What waits for that thread.
    pub backlog: VecDeque<LogTask>,
    /// What that thread is doing.
    pub writing: Option<Writing>,
    /// The allocation of a segment failed; it is tried again.
    pub disk_full: bool,
    /// What the checkpoint thread is doing.
    pub checkpoint: Option<Checkpointing>,
    /// Slices of checkpoints that failed: there until the next one succeeds.
    pub abandoned: BTreeSet<SliceId>,
    /// The snapshot that arrives, or whose stream broke off.
    pub incoming: Option<Incoming>,
    /// Snapshots that are being put on disk, each with what that does to it.
    pub storing: Vec<Storing>,
    /// Snapshots in tables of their own, beside the current ones.
    pub received: Vec<Rc<Parcel>>,
    /// A received snapshot is taking the place of the tables; what the log is told then.
    pub switching: Option<(Rc<Parcel>, Write)>,
    /// When it will be woken, and a number that makes earlier alarms void.
    pub alarm: (Option<Time>, u64),
    /// It will poll soon (see `Options::turn`).
    pub turn_pending: bool,
    /// P2: so many effects from now, it crashes.
    pub fuse: Option<u64>,
    /// P2: it crashes in the midst of its next write to the log.
    pub log_fuse: bool,
    /// P10: it was asked to stop.
    pub stopping: bool,
    /// Requests taken in: they are numbered anew in each process.
    pub taken: u64,
    /// Requests whose callers have lost patience: the next time it is polled they are answered.
    pub cancelled: BTreeSet<RequestId>,
    /// What it last asked its leader under.
    pub nonce: u64,
    /// P7: so many messages it was given are to be complained about.
    pub strangers: u32,
    /// Whose answers are due: client and operation, by request.
    pub requests: BTreeMap<RequestId, Caller>,
    /// Whose events these are: client and stream, by watch.
    pub watches: BTreeMap<WatchId, (usize, u64)>,
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Which client.
    pub client: usize,
    /// Its operation.
    pub operation: u64,
    /// Which try of it.
    pub attempt: u64,
    /// Of a change: how it was handed in.
    pub handed: Option<u64>,
}

/// Who waited for a process that is gone.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    /// For answers.
    pub callers: Vec<Caller>,
    /// For events: watch, client and stream.
    pub watchers: Vec<(WatchId, (usize, u64))>,
}

/// Something for the log's thread to do.
#[derive(Debug)]
pub enum LogTask {
    /// Make it durable.
    Append(Write),
    /// Give up what is below.
    Trim(Index),
}

/// The job of the log's thread.
#[derive(Debug)]
pub struct Writing {
    /// Its number.
    pub number: u64,
    /// What it does to the disk.
    pub job: Job,
    /// What is durable afterwards.
    pub writes: Vec<Write>,
    /// The disk was full before all of them were written.
    pub full: bool,
    /// D11: its sync will fail.
    pub fails: bool,
}

/// A snapshot that arrived, on its way to the disk.
#[derive(Debug)]
pub struct Storing {
    /// Which transfer it came by.
    pub number: u64,
    /// What it does to the disk: slices of history.
    pub job: Job,
    /// What came.
    pub parcel: Rc<Parcel>,
    /// What was sent.
    pub sent: Rc<Parcel>,
    /// D14: that is something else.
    pub is_damaged: bool,
    /// The disk was full before all of it was written.
    pub full: bool,
}

/// The job of the checkpoint thread.
#[derive(Debug)]
pub struct Checkpointing {
    /// What it does to the disk: slices of history.
    pub job: Job,
    /// What it puts into the tables.
    pub changes: Changes,
    /// It will fail.
    pub fails: bool,
}

impl Node {
    /// A member with a formatted, empty disk.
    #[must_use]
    pub fn formatted(id: NodeId, clock: Clock, pace: Pace, limits: WalLimits) -> Self {
        let disk = Rc::new(RefCell::new(Disk::default()));
        let created = Wal::create(SimFiles::new(disk.clone()), limits);
        created.expect("an empty disk takes a new log");
        let job = disk.borrow_mut().take_job();
        disk.borrow_mut().complete(job);
        Self {
            id,
            disk,
            tables: Tables::default(),
            clock,
            pace,
            incarnation: 0,
            jobs: 0,
            paused_until: Time(0),
            impaired: false,
            life: Life::Down,
        }
    }

    /// The process, if it runs.
    #[must_use]
    pub fn process(&self) -> Option<&Process> {
        match &self.life {
            Life::Up(process) => Some(process),
            Life::Down | Life::Starting { .. } => None,
        }
    }

    /// The process, if it runs, to change it.
    pub fn process_mut(&mut self) -> Option<&mut Process> {
        match &mut self.life {
            Life::Up(process) => Some(process),
            Life::Down | Life::Starting { .. } => None,
        }
    }

    /// Whether its log was damaged and is not whole again: it neither votes nor counts.
    #[must_use]
    pub fn is_impaired(&self) -> bool {
        let whole = |process: &Process| process.replica.raft().repairing().is_none();
        self.impaired && !self.process().is_some_and(whole)
    }

    /// The process is gone, at once; of what it had not synced the disk keeps what it likes.
    /// Returns who waited for answers and for events.
    pub fn crash(&mut self, power: bool, here: Here<'_>, draw: &mut Draw) -> Waiting {
        self.impaired = self.is_impaired();
        let mut jobs = Vec::new();
        let mut waiting = Waiting::default();
        match std::mem::replace(&mut self.life, Life::Down) {
            Life::Down => {}
            Life::Starting { job, .. } => jobs.push(job),
            Life::Up(process) => {
                jobs.extend(process.writing.map(|writing| writing.job));
                if let Some(checkpoint) = process.checkpoint {
                    let written = draw.percent(50) && !checkpoint.fails;
                    if written {
                        // It was done, and had not said so yet.
                        self.disk.borrow_mut().complete(checkpoint.job);
                        self.tables.put(&checkpoint.changes);
                    } else {
                        jobs.push(checkpoint.job);
                    }
                }
                jobs.extend(process.storing.into_iter().map(|storing| storing.job));
                if let Some((parcel, _)) = process.switching
                    && draw.percent(50)
                {
                    self.tables = parcel.tables.clone();
                }
                waiting.callers.extend(process.requests.into_values());
                waiting.watchers.extend(process.watches);
            }
        }
        self.incarnation += 1;
        // Whoever starts it again has made room first.
        self.disk.borrow_mut().set_full(false);
        self.disk.borrow_mut().crash(jobs, power, here, draw);
        waiting
    }

    /// What a power cut at this moment would leave: a disk of its own, and tables.
    #[must_use]
    pub fn fork(&self, here: Here<'_>, draw: &mut Draw) -> (Rc<RefCell<Disk>>, Tables) {
        let mut jobs = Vec::new();
        let mut tables = self.tables.clone();
        match &self.life {
            Life::Down => {}
            Life::Starting { job, .. } => jobs.push(job.clone()),
            Life::Up(process) => {
                jobs.extend(process.writing.as_ref().map(|writing| writing.job.clone()));
                jobs.extend(process.checkpoint.as_ref().map(|c| c.job.clone()));
                jobs.extend(process.storing.iter().map(|storing| storing.job.clone()));
                if let Some((parcel, _)) = &process.switching
                    && draw.percent(50)
                {
                    tables = parcel.tables.clone();
                }
            }
        }
        let disk = self.disk.borrow().after_power_cut(jobs, here, draw);
        (Rc::new(RefCell::new(disk)), tables)
    }

    /// The slices of history that must stay on disk: those of the tables as they are, and as they
    /// may be soon.
    #[must_use]
    pub fn kept_slices(&self) -> BTreeSet<SliceId> {
        let mut kept = self.tables.slices.clone();
        if let Some(process) = self.process() {
            let storing = process.storing.iter().map(|storing| &storing.parcel);
            let switching = process.switching.iter().map(|(parcel, _)| parcel);
            for parcel in storing.chain(&process.received).chain(switching) {
                kept.extend(&parcel.tables.slices);
            }
            kept.extend(process.incoming.iter().flat_map(Incoming::slices));
            kept.extend(&process.abandoned);
            if let Some(checkpoint) = &process.checkpoint {
                kept.extend(checkpoint.changes.slices.iter().map(|info| info.id));
            }
        }
        kept
    }
}

impl Process {
    /// A member that was just opened.
    #[must_use]
    pub fn new(replica: Replica, wal: Wal<SimFiles>) -> Self {
        Self {
            replica,
            wal,
            backlog: VecDeque::new(),
            writing: None,
            disk_full: false,
            checkpoint: None,
            abandoned: BTreeSet::new(),
            incoming: None,
            storing: Vec::new(),
            received: Vec::new(),
            switching: None,
            alarm: (None, 0),
            turn_pending: false,
            fuse: None,
            log_fuse: false,
            stopping: false,
            taken: 0,
            cancelled: BTreeSet::new(),
            nonce: 0,
            strangers: 0,
            requests: BTreeMap::new(),
            watches: BTreeMap::new(),
        }
    }

    /// The log's thread takes what waits for it; what it has to do on the disk is left there as a
    /// job.
    ///
    /// # Errors
    /// Anything but a full disk: nothing else fails in this world.
    pub fn take_log_tasks(&mut self, disk: &RefCell<Disk>, number: u64) -> Result<bool, WalError> {
        let mut writes = Vec::new();
        while let Some(LogTask::Append(_)) = self.backlog.front() {
            if let Some(LogTask::Append(write)) = self.backlog.pop_front() {
                writes.push(write);
            }
        }
        let mut full = false;
        if writes.is_empty() {
            let Some(LogTask::Trim(below)) = self.backlog.pop_front() else {
                return Ok(false);
            };
            match self.wal.trim(below) {
                // The next checkpoint asks again.
                Ok(()) | Err(WalError::Full) => {}
                Err(error) => return Err(error),
            }
        } else {
            match self.wal.append_all(&writes) {
                Ok(()) => {}
                Err(WalError::Full) => full = true,
                Err(error) => return Err(error),
            }
            let done = self.wal.persisted();
            let left = writes.split_off(writes.partition_point(|write| write.seq <= done));
            for write in left.into_iter().rev() {
                self.backlog.push_front(LogTask::Append(write));
            }
            if !full {
                match self.wal.prepare() {
                    Ok(()) | Err(WalError::Full) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let job = disk.borrow_mut().take_job();
        self.writing = Some(Writing {
            number,
            job,
            writes,
            full,
            fails: false,
        });
        Ok(true)
    }

    /// P10: everything begun is finished.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.stopping
            && self.replica.is_finished()
            && self.writing.is_none()
            && self.checkpoint.is_none()
            && self.switching.is_none()
            && self.backlog.is_empty()
    }

    /// The last write that will be durable when the job in flight is.
    #[must_use]
    pub fn in_flight(&self) -> Option<WriteSeq> {
        Some(self.writing.as_ref()?.writes.last()?.seq)
    }
}

/// The record of a cluster of so many members. Their disks are numbered from 1.
#[must_use]
pub fn birth(members: usize) -> BirthRecord {
    let founder = |number: u8| Founder {
        name: format!("n{number}"),
        peer_urls: vec![format!("http://n{number}:2380")],
        disk: DiskId(u128::from(number)),
        key: [number; 32],
    };
    let last = u8::try_from(members).expect("a handful of members");
    BirthRecord::new("sim".to_owned(), (1..=last).map(founder).collect())
}
