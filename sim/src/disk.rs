//! Disks by the sector: what is written is volatile until a sync that covers it has completed.
//!
//! A node's program sees its writes at once (`view`). The platters (`media`) follow when the job
//! that made them completes in virtual time; a crash in between plays only a part of the job's
//! operations, and of what no sync covered keeps any subset of the sectors, some of them torn.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use quorate_core::wal::{FileError, Files};

use crate::fates::Here;
use crate::fault::{Fault, Kind};
use crate::rng::Draw;

/// What disks can do.
pub const FAULTS: &[Kind] = &[
    Kind {
        fault: Fault::D1,
        what: "a sync takes up to a second",
        gap: 0,
    },
    Kind {
        fault: Fault::D2,
        what: "a sync stalls for up to 30 s",
        gap: 0,
    },
    Kind {
        fault: Fault::D3,
        what: "a crash loses what was not synced",
        gap: 0,
    },
    Kind {
        fault: Fault::D4,
        what: "a sector is torn by a crash",
        gap: 0,
    },
    Kind {
        fault: Fault::D5,
        what: "of what was not synced, later sectors survive a crash and earlier ones do not",
        gap: 0,
    },
    Kind {
        fault: Fault::D12,
        what: "a disk is full at allocation, for a while",
        gap: 20,
    },
    Kind {
        fault: Fault::D15,
        what: "one node's disk is slow for the whole run",
        gap: 0,
    },
];

/// What disks can do to what is durable, where others hold it, too.
pub const DAMAGE: &[Kind] = &[
    Kind {
        fault: Fault::D6,
        what: "a bit of a durable record of the log is flipped while its node is down",
        gap: 0,
    },
    Kind {
        fault: Fault::D7,
        what: "durable records of the log, one after the other, read as zeros",
        gap: 0,
    },
    Kind {
        fault: Fault::D8,
        what: "over a durable record of the log, another one was written",
        gap: 0,
    },
];

/// What disks and streams can do to snapshots.
pub const LATER: &[Kind] = &[Kind {
    fault: Fault::D14,
    what: "a snapshot that was received is cut, or not what was sent",
    gap: 0,
}];

/// What disks can do, at last.
pub const LATEST: &[Kind] = &[
    Kind {
        fault: Fault::D10,
        what: "a sector of the log cannot be read until it is written, or tables for a snapshot",
        gap: 0,
    },
    Kind {
        fault: Fault::D9,
        what: "a durable record of the log was never written: what was there before is there",
        gap: 0,
    },
    Kind {
        fault: Fault::D11,
        what: "a sync fails: what it covered is dropped, and no later sync brings it back",
        gap: 0,
    },
    Kind {
        fault: Fault::D13,
        what: "a crash loses names of files whose directory was not synced",
        gap: 0,
    },
];

/// What a crash never tears apart, unless D4 is on.
pub const SECTOR: usize = 512;

/// Where the log says how far it had come when it rested.
const SEALS: &str = "wal.seals";

type Inode = u64;

/// The disk of one node.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// As the program sees it.
    view: View,
    /// As it is.
    media: Media,
    /// What the job under way has done so far.
    job: Job,
    inodes: Inode,
    /// D10: sectors that cannot be read until they are written.
    unreadable: BTreeSet<(Inode, usize)>,
    /// D12.
    full: bool,
}

/// The operations of one job of a node's program, in order.
pub type Job = Vec<Operation>;

/// One operation on a disk.
#[derive(Clone, Debug)]
pub enum Operation {
    /// A file of zeros is made.
    Allocate {
        /// The file.
        inode: Inode,
        /// Its name.
        name: String,
        /// How long it is.
        bytes: usize,
    },
    /// Bytes are written.
    Write {
        /// The file.
        inode: Inode,
        /// Where.
        offset: usize,
        /// What.
        bytes: Vec<u8>,
    },
    /// A file becomes durable.
    Sync(Inode),
    /// Names become durable.
    SyncNames,
    /// A file gets another name.
    Rename(String, String),
    /// A name goes.
    Remove(String),
}

#[derive(Clone, Debug, Default)]
struct View {
    names: BTreeMap<String, Inode>,
    files: BTreeMap<Inode, Vec<u8>>,
}

#[derive(Clone, Debug, Default)]
struct Media {
    /// As they are after a crash that loses all it may.
    names: BTreeMap<String, Inode>,
    /// Changes of names that no sync has covered, in order.
    volatile_names: Vec<NameChange>,
    files: BTreeMap<Inode, Platter>,
    writes: u64,
}

#[derive(Clone, Debug)]
enum NameChange {
    Add(String, Inode),
    Rename(String, String),
    Remove(String),
}

#[derive(Clone, Debug, Default)]
struct Platter {
    bytes: Vec<u8>,
    /// How much of it a sync has made durable: the length, too, is volatile until then.
    synced_len: usize,
    /// The sectors no sync has covered: what they held before, and in what order they were written.
    volatile: BTreeMap<usize, (u64, Vec<u8>)>,
    /// D11: those of them that no sync will cover, unless they are written again.
    dropped: BTreeSet<usize>,
    writes: u64,
    /// What was written in one piece, is durable, and was not written over.
    records: Vec<Written>,
    /// The same, not durable yet.
    unsynced: Vec<Written>,
}

/// Something that was written in one piece.
#[derive(Clone, Debug)]
struct Written {
    /// When, among all that was written to the disk.
    number: u64,
    range: Range<usize>,
    /// What was there before.
    before: Rc<[u8]>,
}

/// A handle for the program.
#[derive(Clone, Debug)]
pub struct SimFiles(Rc<RefCell<Disk>>);

impl SimFiles {
    /// The files on `disk`.
    #[must_use]
    pub const fn new(disk: Rc<RefCell<Disk>>) -> Self {
        Self(disk)
    }
}

impl Disk {
    /// Takes what the program has done since the last call: a job that is under way from now on.
    pub fn take_job(&mut self) -> Job {
        std::mem::take(&mut self.job)
    }

    /// The job is complete: what it wrote is on the platters, what it synced is durable.
    pub fn complete(&mut self, job: Job) {
        for operation in job {
            self.media.play(operation);
        }
    }

    /// D12: allocation fails from now on, or no longer.
    pub const fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    /// Whether allocation fails.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.full
    }

    /// The node stops in the midst of `jobs`, and loses power or only its process. Afterwards the
    /// program sees what survived, all of it durable.
    pub fn crash(&mut self, jobs: Vec<Job>, power: bool, here: Here<'_>, draw: &mut Draw) {
        self.job.clear();
        self.media.stop(jobs, power, here, draw);
        let bytes = |(&inode, platter): (&Inode, &Platter)| (inode, platter.bytes.clone());
        self.view = View {
            names: self.media.names.clone(),
            files: self.media.files.iter().map(bytes).collect(),
        };
    }

    /// What a power cut in the midst of `jobs` would leave: a disk to read, and to write on as far
    /// as a start does. What is written there is never durable.
    #[must_use]
    pub fn after_power_cut(&self, jobs: Vec<Job>, here: Here<'_>, draw: &mut Draw) -> Self {
        let mut media = self.media.without_records();
        media.stop(jobs, true, here, draw);
        let bytes = |(inode, platter): (Inode, Platter)| (inode, platter.bytes);
        Self {
            view: View {
                names: media.names,
                files: media.files.into_iter().map(bytes).collect(),
            },
            inodes: self.inodes,
            unreadable: self.unreadable.clone(),
            ..Self::default()
        }
    }

    /// D11: one of the syncs of this job fails, and its program ends there. The program after it
    /// reads what was written, which is not durable, and will not be by a sync alone.
    pub fn fail(&mut self, job: Job, draw: &mut Draw) {
        self.job.clear();
        let is_sync =
            |operation: &Operation| matches!(operation, Operation::Sync(_) | Operation::SyncNames);
        let syncs = job.iter().filter(|operation| is_sync(operation)).count();
        let mut left = draw.place(syncs.max(1));
        for operation in job {
            if is_sync(&operation) && left == 0 {
                if let Operation::Sync(inode) = operation
                    && let Some(platter) = self.media.files.get_mut(&inode)
                {
                    platter.dropped.extend(platter.volatile.keys());
                    platter.unsynced.clear();
                }
                return;
            }
            left -= usize::from(is_sync(&operation));
            self.media.play(operation);
        }
    }

    /// D6 to D10: a durable record of the log is no longer what was written, on a disk whose node
    /// is down. Never the last one before it is sealed: to lose that is to lose what nobody can
    /// miss (SIMULATION.md §3, the fault atlas). Whether there was one to damage.
    pub fn damage(&mut self, fault: Fault, draw: &mut Draw) -> bool {
        let in_log = |name: &str| {
            let number = name.strip_prefix("wal.");
            number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let segments = self.media.names.iter().filter(|(name, _)| in_log(name));
        let inodes: Vec<Inode> = segments.map(|(_, &inode)| inode).collect();
        let mut records: Vec<(u64, Inode, Written)> = inodes
            .iter()
            .filter_map(|inode| Some((inode, self.media.files.get(inode)?)))
            .flat_map(|(&inode, platter)| {
                let records = platter.records.iter();
                records.map(move |record| (record.number, inode, record.clone()))
            })
            .collect();
        records.sort_unstable_by_key(|&(number, ..)| number);
        let Some(last) = records.pop() else {
            return false;
        };
        if fault == Fault::D10 {
            return self.cannot_read(&records, last, draw);
        }
        if self.sealed() > Some(last.0) {
            records.push(last);
        }
        if records.is_empty() {
            return false;
        }
        let recent = records.len().saturating_sub(6);
        let pick = |draw: &mut Draw| {
            let from = if draw.percent(60) { recent } else { 0 };
            from + draw.place(records.len() - from)
        };
        let at = pick(draw);
        let (_, inode, Written { range, before, .. }) = records[at].clone();
        let (_, from, other) = records[pick(draw)].clone();
        let other = self.media.files[&from].bytes[other.range].to_vec();
        let platter = self.media.files.get_mut(&inode).expect("it has records");
        if fault == Fault::D7 {
            // A run of them: what follows in the file goes, too.
            let run = records[at..].iter().take(1 + draw.place(3));
            for (.., record) in run.filter(|(_, file, _)| *file == inode) {
                platter.bytes[record.range.clone()].fill(0);
            }
        }
        let record = &mut platter.bytes[range];
        let length = other.len().min(record.len());
        if fault == Fault::D6 {
            record[draw.place(record.len())] ^= 1 << draw.below(8);
        } else if fault == Fault::D8 && record[..length] != other[..length] {
            record[..length].copy_from_slice(&other[..length]);
        } else if fault == Fault::D9 {
            record.copy_from_slice(&before);
        } else {
            record.fill(0);
        }
        let bytes = platter.bytes.clone();
        self.view.files.insert(inode, bytes);
        true
    }

    /// When the log was last sealed, among all that was written, as far as that is durable.
    fn sealed(&self) -> Option<u64> {
        let seals = self.media.files.get(self.media.names.get(SEALS)?)?;
        seals.records.iter().map(|seal| seal.number).max()
    }

    /// D10: a sector before the `last` record of the log cannot be read. One after it is not of the
    /// log: a file that is used again holds records of its earlier use.
    fn cannot_read(
        &mut self,
        records: &[(u64, Inode, Written)],
        (_, inode, last): (u64, Inode, Written),
        draw: &mut Draw,
    ) -> bool {
        let own = records.iter().filter(|(_, file, _)| *file == inode);
        let before: BTreeSet<usize> = own
            .flat_map(|(.., record)| sectors(&record.range))
            .filter(|&sector| sector < last.range.start / SECTOR)
            .collect();
        let bad = before.iter().nth(draw.place(before.len().max(1)));
        bad.is_some_and(|&sector| self.unreadable.insert((inode, sector)))
    }

    /// D10: the first of these bytes that cannot be read.
    fn unreadable_in(&self, inode: Inode, range: &Range<usize>) -> Option<usize> {
        let bad = sectors(range).find(|&sector| self.unreadable.contains(&(inode, sector)));
        bad.map(|sector| sector * SECTOR)
    }

    fn inode(&self, name: &str) -> Result<Inode, FileError> {
        self.view
            .names
            .get(name)
            .copied()
            .ok_or(FileError::NotFound)
    }

    fn file(&self, name: &str) -> Result<&Vec<u8>, FileError> {
        Ok(&self.view.files[&self.inode(name)?])
    }
}

impl Files for SimFiles {
    fn list(&self) -> Result<Vec<String>, FileError> {
        Ok(self.0.borrow().view.names.keys().cloned().collect())
    }

    fn len(&self, name: &str) -> Result<u64, FileError> {
        Ok(self.0.borrow().file(name)?.len() as u64)
    }

    fn allocate(&mut self, name: &str, bytes: u64) -> Result<(), FileError> {
        let disk = &mut *self.0.borrow_mut();
        if disk.full {
            return Err(FileError::Full);
        }
        disk.inodes += 1;
        let (inode, bytes) = (disk.inodes, place(bytes));
        if let Some(replaced) = disk.view.names.insert(name.to_owned(), inode) {
            disk.view.files.remove(&replaced);
        }
        disk.view.files.insert(inode, vec![0; bytes]);
        let name = name.to_owned();
        disk.job.push(Operation::Allocate { inode, name, bytes });
        Ok(())
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<(), FileError> {
        let disk = self.0.borrow();
        let offset = place(offset);
        let range = offset..offset + buffer.len();
        if let Some(at) = disk.unreadable_in(disk.inode(name)?, &range) {
            return Err(FileError::Other(format!("{name} cannot be read at {at}")));
        }
        let part = disk.file(name)?.get(range);
        let part = part.ok_or_else(|| FileError::Other(format!("{name} ends before {offset}")))?;
        buffer.copy_from_slice(part);
        Ok(())
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), FileError> {
        let disk = &mut *self.0.borrow_mut();
        let inode = disk.inode(name)?;
        let offset = place(offset);
        let file = disk.view.files.get_mut(&inode).expect("named files exist");
        let Some(part) = file.get_mut(offset..offset + bytes.len()) else {
            return Err(FileError::Other(format!("{name} was not allocated so far")));
        };
        part.copy_from_slice(bytes);
        for sector in sectors(&(offset..offset + bytes.len())) {
            disk.unreadable.remove(&(inode, sector));
        }
        let bytes = bytes.to_vec();
        disk.job.push(Operation::Write {
            inode,
            offset,
            bytes,
        });
        Ok(())
    }

    fn sync(&mut self, name: &str) -> Result<(), FileError> {
        let disk = &mut *self.0.borrow_mut();
        let inode = disk.inode(name)?;
        disk.job.push(Operation::Sync(inode));
        Ok(())
    }

    fn sync_dir(&mut self) -> Result<(), FileError> {
        self.0.borrow_mut().job.push(Operation::SyncNames);
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), FileError> {
        let disk = &mut *self.0.borrow_mut();
        let inode = disk.view.names.remove(from).ok_or(FileError::NotFound)?;
        if let Some(replaced) = disk.view.names.insert(to.to_owned(), inode) {
            disk.view.files.remove(&replaced);
        }
        disk.job
            .push(Operation::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), FileError> {
        let disk = &mut *self.0.borrow_mut();
        let inode = disk.view.names.remove(name).ok_or(FileError::NotFound)?;
        disk.view.files.remove(&inode);
        disk.job.push(Operation::Remove(name.to_owned()));
        Ok(())
    }
}

/// The sectors that hold these bytes.
const fn sectors(range: &Range<usize>) -> Range<usize> {
    range.start / SECTOR..range.end.div_ceil(SECTOR)
}

/// What a crash does to sectors that no sync has covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// The machine goes on: what its program wrote is written out, in its time.
    Stays,
    /// All were written out just in time.
    Nothing,
    /// None were.
    All,
    /// Those written first were.
    Tail,
    /// Any of them were.
    Some,
}

impl Loss {
    fn draw(here: &Here<'_>, draw: &mut Draw) -> Self {
        let most = if here.allow(Fault::D5) { 6 } else { 3 };
        match draw.below(most) {
            0 => Self::Nothing,
            1 => Self::All,
            2 => Self::Tail,
            _ => Self::Some,
        }
    }
}

impl Media {
    /// The same, but for what is known of records that may be damaged.
    fn without_records(&self) -> Self {
        let files = self.files.iter();
        let files = files.map(|(&inode, platter)| (inode, platter.without_records()));
        Self {
            names: self.names.clone(),
            volatile_names: self.volatile_names.clone(),
            files: files.collect(),
            writes: self.writes,
        }
    }

    /// Whoever writes stops in the midst of `jobs`, and loses power or not.
    fn stop(&mut self, jobs: Vec<Job>, power: bool, mut here: Here<'_>, draw: &mut Draw) {
        for mut job in jobs {
            // Any prefix of what it was doing took place; mostly some of it.
            let done = draw.place(job.len() + 1);
            job.truncate(done);
            job.into_iter().for_each(|operation| self.play(operation));
        }
        let loss = if power && here.allow(Fault::D3) {
            for fault in [Fault::D3, Fault::D4, Fault::D5] {
                if here.allow(fault) {
                    here.remember(fault);
                }
            }
            Loss::draw(&here, draw)
        } else {
            Loss::Stays
        };
        self.crash(loss, &mut here, draw);
    }

    fn play(&mut self, operation: Operation) {
        match operation {
            Operation::Allocate { inode, name, bytes } => {
                let platter = Platter {
                    bytes: vec![0; bytes],
                    ..Platter::default()
                };
                self.files.insert(inode, platter);
                self.volatile_names.push(NameChange::Add(name, inode));
            }
            Operation::Write {
                inode,
                offset,
                bytes,
            } => {
                // A file that was removed meanwhile may be written to no more.
                if let Some(platter) = self.files.get_mut(&inode) {
                    self.writes += 1;
                    let before = Rc::from(&platter.bytes[offset..offset + bytes.len()]);
                    platter.write(offset, &bytes);
                    platter.note(self.writes, offset, &bytes, before);
                }
            }
            Operation::Sync(inode) => {
                if let Some(platter) = self.files.get_mut(&inode) {
                    let dropped = &platter.dropped;
                    platter
                        .volatile
                        .retain(|sector, _| dropped.contains(sector));
                    let durable = std::mem::take(&mut platter.unsynced);
                    platter.records.extend(durable);
                    platter.synced_len = platter.bytes.len();
                }
            }
            Operation::SyncNames => {
                for change in std::mem::take(&mut self.volatile_names) {
                    self.rename(change);
                }
                self.collect();
            }
            Operation::Rename(from, to) => {
                self.volatile_names.push(NameChange::Rename(from, to));
            }
            Operation::Remove(name) => self.volatile_names.push(NameChange::Remove(name)),
        }
    }

    fn rename(&mut self, change: NameChange) {
        match change {
            NameChange::Add(name, inode) => {
                self.names.insert(name, inode);
            }
            NameChange::Rename(from, to) => {
                if let Some(inode) = self.names.remove(&from) {
                    self.names.insert(to, inode);
                }
            }
            NameChange::Remove(name) => {
                self.names.remove(&name);
            }
        }
    }

    /// Forgets files that have no name, nor will have one.
    fn collect(&mut self) {
        let named: Vec<_> = self.names.values().copied().collect();
        if self.volatile_names.is_empty() && named.len() < self.files.len() {
            self.files.retain(|inode, _| named.contains(inode));
        }
    }

    fn crash(&mut self, loss: Loss, here: &mut Here<'_>, draw: &mut Draw) {
        // A journalling file system keeps the order of changes of names.
        let changes = std::mem::take(&mut self.volatile_names);
        let kept = match loss {
            Loss::Stays | Loss::Nothing => changes.len(),
            Loss::All => 0,
            Loss::Tail | Loss::Some => draw.place(changes.len() + 1),
        };
        let kept = if here.strikes(
            Fault::D13,
            here.dials().on(Fault::D13) && kept < changes.len(),
        ) {
            kept
        } else {
            changes.len()
        };
        for change in changes.into_iter().take(kept) {
            self.rename(change);
        }
        self.collect();
        for platter in self.files.values_mut() {
            platter.crash(loss, here, draw);
        }
    }
}

impl Platter {
    fn without_records(&self) -> Self {
        Self {
            bytes: self.bytes.clone(),
            synced_len: self.synced_len,
            volatile: self.volatile.clone(),
            dropped: self.dropped.clone(),
            writes: self.writes,
            ..Self::default()
        }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            let range = sector * SECTOR..((sector + 1) * SECTOR).min(self.bytes.len());
            let before = &self.bytes[range];
            self.dropped.remove(&sector);
            self.writes += 1;
            let order = self.writes;
            self.volatile
                .entry(sector)
                .or_insert_with(|| (order, before.to_vec()));
        }
        self.bytes[offset..end].copy_from_slice(bytes);
    }

    /// Remembers a record that was written. Zeros only wipe.
    fn note(&mut self, number: u64, offset: usize, bytes: &[u8], before: Rc<[u8]>) {
        let range = offset..offset + bytes.len();
        let apart = |old: &Written| old.range.end <= range.start || range.end <= old.range.start;
        self.records.retain(apart);
        self.unsynced.retain(apart);
        if bytes.iter().any(|&byte| byte != 0) {
            self.unsynced.push(Written {
                number,
                range,
                before,
            });
        }
    }

    fn crash(&mut self, loss: Loss, here: &mut Here<'_>, draw: &mut Draw) {
        self.unsynced.clear();
        if loss == Loss::Stays {
            self.volatile
                .retain(|sector, _| self.dropped.contains(sector));
            self.synced_len = self.bytes.len();
            return;
        }
        let volatile = std::mem::take(&mut self.volatile);
        let dropped = std::mem::take(&mut self.dropped);
        let orders: Vec<_> = volatile.values().map(|(order, _)| *order).collect();
        // Of a tail, everything from some write on is lost.
        let mut sorted = orders.clone();
        sorted.sort_unstable();
        let lost_from = match loss {
            Loss::Tail if !sorted.is_empty() => sorted[draw.place(sorted.len())],
            Loss::All => 0,
            Loss::Stays | Loss::Nothing | Loss::Tail | Loss::Some => u64::MAX,
        };
        let torn_at = lost_from;
        for (sector, (order, before)) in volatile {
            let start = sector * SECTOR;
            let lost = order >= lost_from || (loss == Loss::Some && draw.percent(50));
            let lost = lost || dropped.contains(&sector);
            // The sector at which power failed may hold something of both.
            let torn = here.allow(Fault::D4)
                && !dropped.contains(&sector)
                && (order == torn_at || (loss == Loss::Some && draw.one_in(4)));
            if torn {
                here.count(Fault::D4);
                let at = draw.place(before.len());
                let old = if draw.percent(75) {
                    at..before.len()
                } else {
                    0..at
                };
                self.bytes[start + old.start..start + old.end].copy_from_slice(&before[old]);
            } else if lost {
                let fault = if loss == Loss::Some {
                    Fault::D5
                } else {
                    Fault::D3
                };
                here.count(fault);
                self.bytes[start..start + before.len()].copy_from_slice(&before);
            }
        }
        let keeps_len = loss == Loss::Nothing || (loss == Loss::Some && draw.percent(50));
        if !keeps_len && self.synced_len < self.bytes.len() {
            self.bytes.truncate(self.synced_len);
        }
        self.synced_len = self.bytes.len();
    }
}

/// How long jobs on one node's disk take.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    base: Duration,
    slow: bool,
}

impl Pace {
    /// The pace of one node for the whole run; `slow` where D15 struck it.
    #[must_use]
    pub fn new(slow: bool, draw: &mut Draw) -> Self {
        Self {
            base: Duration::from_micros(draw.between(50, 2_000)),
            slow,
        }
    }

    /// D15 is over.
    pub const fn heal(&mut self) {
        self.slow = false;
    }

    /// How long a job takes that syncs.
    pub fn sync_latency(&self, here: &mut Here<'_>, draw: &mut Draw) -> Duration {
        let mut latency = self.read_latency(here, draw);
        let dials = here.dials();
        let stalls = dials.on(Fault::D2) && draw.below(100_000) < dials.scale(Fault::D2, 200);
        if here.strikes(Fault::D2, stalls) {
            latency += Duration::from_millis(draw.between(1_000, 30_000));
        }
        latency
    }

    /// How long a job takes that only reads: nothing stalls it.
    pub fn read_latency(&self, here: &mut Here<'_>, draw: &mut Draw) -> Duration {
        let mut latency = self.base + Duration::from_micros(draw.skewed(100));
        if self.slow {
            latency *= 20;
        }
        let is_late = draw.percent(here.dials().scale(Fault::D1, 40));
        if here.strikes(Fault::D1, is_late) {
            latency += Duration::from_millis(draw.skewed(80).min(1_000));
        }
        latency
    }
}

fn place(number: u64) -> usize {
    usize::try_from(number).expect("simulated files are small")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fates::{Fates, Place};
    use crate::fault::Dials;
    use crate::rng::{Purpose, Seed};

    fn read(files: &SimFiles, name: &str) -> Result<Vec<u8>, FileError> {
        let mut bytes = vec![0; place(files.len(name)?)];
        files.read_at(name, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// Writes `1`s durably, then `2`s without a sync, then crashes.
    fn crashed(seed: u64, dials: &Dials) -> Vec<u8> {
        let mut fates = Fates::of_chance(dials.clone());
        let disk = Rc::new(RefCell::new(Disk::default()));
        let mut files = SimFiles::new(disk.clone());
        let write = |files: &mut SimFiles, byte: u8| {
            files
                .write_at("f", 0, &[byte; 4 * SECTOR])
                .expect("allocated");
        };
        files.allocate("f", 4 * SECTOR as u64).expect("room");
        write(&mut files, 1);
        files.sync("f").expect("there");
        files.sync_dir().expect("there");
        let job = disk.borrow_mut().take_job();
        disk.borrow_mut().complete(job);
        write(&mut files, 2);
        assert_eq!(
            read(&files, "f"),
            Ok(vec![2; 4 * SECTOR]),
            "seen before it is durable"
        );
        let job = disk.borrow_mut().take_job();
        disk.borrow_mut().complete(job);
        let mut draw = Seed::new(seed).draw(Purpose::DiskCrash, 0, 0);
        disk.borrow_mut()
            .crash(Vec::new(), true, fates.at(Place::Node(0), 0), &mut draw);
        read(&files, "f").expect("its name is durable")
    }

    #[test]
    fn a_crash_keeps_whole_sectors_in_any_mixture() {
        let dials = Dials::off().with(&[(Fault::D3, 100), (Fault::D5, 100)]);
        let mut mixtures = BTreeSet::new();
        for seed in 0..200 {
            let bytes = crashed(seed, &dials);
            let sectors: Vec<u8> = bytes.chunks(SECTOR).map(|sector| sector[0]).collect();
            assert!(
                bytes
                    .chunks(SECTOR)
                    .all(|s| s.iter().all(|&byte| byte == s[0]))
            );
            mixtures.insert(sectors);
        }
        assert_eq!(mixtures.len(), 16, "every subset happens");
    }

    #[test]
    fn a_torn_sector_holds_something_of_both() {
        let dials = Dials::off().with(&[(Fault::D3, 100), (Fault::D4, 100), (Fault::D5, 100)]);
        let torn = |bytes: Vec<u8>| bytes.chunks(SECTOR).any(|s| s.iter().any(|&b| b != s[0]));
        assert!((0..50).any(|seed| torn(crashed(seed, &dials))));
    }

    #[test]
    fn without_the_fault_nothing_is_lost() {
        assert!((0..20).all(|seed| crashed(seed, &Dials::off()) == vec![2; 4 * SECTOR]));
    }

    #[test]
    fn a_job_cut_short_took_place_up_to_some_operation() {
        let mut seen = BTreeSet::new();
        for seed in 0..100 {
            let disk = Rc::new(RefCell::new(Disk::default()));
            let mut files = SimFiles::new(disk.clone());
            files.allocate("f", 1).expect("room");
            files.sync("f").expect("there");
            files.sync_dir().expect("there");
            files.write_at("f", 0, &[1]).expect("allocated");
            files.sync("f").expect("there");
            let job = disk.borrow_mut().take_job();
            let mut fates = Fates::of_chance(Dials::off().with(&[(Fault::D3, 100)]));
            let mut draw = Seed::new(seed).draw(Purpose::DiskCrash, 0, 0);
            disk.borrow_mut()
                .crash(vec![job], true, fates.at(Place::Node(0), 0), &mut draw);
            seen.insert(read(&files, "f").ok());
        }
        let whole = [None, Some(vec![0]), Some(vec![1])];
        assert!(
            whole.iter().all(|outcome| seen.contains(outcome)),
            "{seen:?}"
        );
    }

    #[test]
    fn a_sector_that_cannot_be_read_can_be_once_it_is_written() {
        let disk = Rc::new(RefCell::new(Disk::default()));
        let mut files = SimFiles::new(disk.clone());
        files.allocate("wal.1", 4 * SECTOR as u64).expect("room");
        for sector in 0..4 {
            let at = sector * SECTOR as u64;
            files
                .write_at("wal.1", at, &[7; SECTOR])
                .expect("allocated");
        }
        files.sync("wal.1").expect("there");
        files.sync_dir().expect("there");
        let job = disk.borrow_mut().take_job();
        disk.borrow_mut().complete(job);
        let mut draw = Seed::new(1).draw(Purpose::Damage, 0, 0);
        assert!(disk.borrow_mut().damage(Fault::D10, &mut draw));
        let reads = |files: &SimFiles| -> Vec<bool> {
            let sectors = (0..4).map(|sector| sector * SECTOR as u64);
            let reads = sectors.map(|at| files.read_at("wal.1", at, &mut [0; SECTOR]).is_ok());
            reads.collect()
        };
        let bad = reads(&files).iter().position(|&is_read| !is_read);
        let bad = bad.expect("one of them");
        assert!(bad < 3, "the last record is spared");
        assert!(read(&files, "wal.1").is_err());
        files
            .write_at("wal.1", (bad * SECTOR) as u64, &[8])
            .expect("allocated");
        assert_eq!(reads(&files), [true; 4]);
    }
}
