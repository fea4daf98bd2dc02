//! Writing the log: append, trim, reset.

use alloc::vec;
use alloc::vec::Vec;
use core::mem;

use super::disk::Disk;
use super::error::WalError;
use super::files::Files;
use super::frame;
use super::list::List;
use super::pool::Pool;
use super::record::{self, EMPTY_BYTES, Kind, Position};
use super::recover::{Recovered, Replayed, replay};
use super::seals::{SEALS, Seals};
use super::segment::{Cut, generation_of, segment_name};
use crate::ids::{Index, LogId, WriteSeq};
use crate::output::{HardState, Write};

/// Sizes of the log's files; simulations set them down to the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalLimits {
    /// Bytes of a segment. A larger batch gets a larger segment of its own.
    pub segment_bytes: u64,
    /// Segments that stand ready beyond the one being written. While they last, a full disk does
    /// not stop the log.
    pub ready_segments: usize,
    /// Segments no longer needed that are kept to be used again. Beyond: removed.
    pub spare_segments: usize,
}

impl WalLimits {
    /// The least `segment_bytes`: room for the header, the end, and one empty batch.
    pub const SEGMENT_BYTES_MIN: u64 = 3 * EMPTY_BYTES as u64;

    /// Asserts that the limits can work.
    ///
    /// # Panics
    /// Where `segment_bytes` is below the least, or not a multiple of 8, or none stands ready.
    pub fn check(&self) {
        assert!(
            self.segment_bytes >= Self::SEGMENT_BYTES_MIN
                && self.segment_bytes.is_multiple_of(frame::ALIGNMENT as u64),
            "segments of {} bytes",
            self.segment_bytes
        );
        assert!(self.ready_segments > 0, "no segment stands ready");
    }
}

impl Default for WalLimits {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            ready_segments: 1,
            spare_segments: 4,
        }
    }
}

/// The log of one member, on disk.
///
/// Invariants: everything up to `position` is durable; what is on disk after it was never
/// acknowledged and cannot be mistaken for part of the log.
#[derive(Debug)]
pub struct Wal<F> {
    disk: Disk<F>,
    limits: WalLimits,
    pool: Pool,
    /// Where in the segment being written the log ends; zero before its header is written.
    offset: u64,
    position: Position,
    seals: Seals,
    /// What is to be done before anything is written. None: the log was resumed.
    pending: Option<Pending>,
    /// The record in the making; kept for its allocation.
    buffer: Vec<u8>,
}

/// What recovery found and left as it was.
#[derive(Clone, Copy, Debug)]
struct Pending {
    /// Where the last write begins that was read. Nobody knows whether its sync succeeded.
    unsure: u64,
    /// There is something after the end that was begun.
    torn: bool,
    /// What comes after the end was durable, and is to be given up.
    damaged: bool,
    /// The list names segments that are not there.
    stale: bool,
}

impl<F: Files> Wal<F> {
    /// Makes an empty log. What an earlier call that was cut short left behind is removed.
    ///
    /// # Errors
    /// `Exists`; `Full`; `File`.
    pub fn create(files: F, limits: WalLimits) -> Result<Self, WalError> {
        limits.check();
        match List::load(&files) {
            // Where only the list is gone it must not look as if there had never been a log.
            Err(WalError::Missing { .. }) if !was_written(&files)? => {}
            Err(error @ WalError::File { .. }) => return Err(error),
            Ok(_) | Err(_) => return Err(WalError::Exists),
        }
        let names = files.list().map_err(|error| WalError::of("", error))?;
        let mut wal = Self {
            disk: Disk::new(files),
            limits,
            pool: Pool::new(limits, Vec::new(), Vec::new(), None, &names),
            offset: 0,
            position: Position::default(),
            seals: Seals::default(),
            pending: None,
            buffer: Vec::new(),
        };
        wal.pool.sweep(&mut wal.disk)?;
        wal.seals.create(&mut wal.disk.files)?;
        wal.pool.prepare_one(&mut wal.disk, 0)?;
        wal.pool.enter_next(wal.position);
        wal.prepare()?;
        Ok(wal)
    }

    /// Reads the log. Nothing on disk is changed before [`resume`](Self::resume) or the first call
    /// that writes.
    ///
    /// # Errors
    /// `Missing`, `Damaged`, `Version`: the log cannot be trusted, and was not touched. `File`: it
    /// cannot be read.
    pub fn recover(files: F, limits: WalLimits) -> Result<(Self, Recovered), WalError> {
        limits.check();
        let Replayed {
            recovered,
            live,
            ready,
            offset,
            unsure,
            position,
            seals,
            stale,
        } = replay(&files)?;
        let names = files.list().map_err(|error| WalError::of("", error))?;
        let wal = Self {
            disk: Disk::new(files),
            limits,
            pool: Pool::new(limits, live, ready, recovered.held, &names),
            offset,
            position,
            seals,
            pending: Some(Pending {
                unsure,
                torn: recovered.torn.is_some(),
                damaged: recovered.damage.is_some(),
                stale,
            }),
            buffer: Vec::new(),
        };
        Ok((wal, recovered))
    }

    /// Accepts what was recovered: makes durable what was only read, clears what follows the end,
    /// and gives damage up for good. To be called before anyone is told what the log holds.
    ///
    /// # Errors
    /// `Full`: can be tried again. All others are final.
    pub fn resume(&mut self) -> Result<(), WalError> {
        self.disk.check()?;
        let Some(pending) = self.pending else {
            return Ok(());
        };
        let made = self.seals.create(&mut self.disk.files);
        self.disk.note(made)?;
        if pending.damaged {
            let (at, then) = (self.offset, self.position);
            self.pool.give_up(&mut self.disk, Cut { at, then })?;
            self.offset = 0;
        } else {
            if pending.torn {
                self.clear_the_rest()?;
            }
            // The end may have been read from memory that a power cut empties. If the process
            // before this one ended of a failed sync, another sync alone would write nothing.
            self.write_again(pending.unsure)?;
            let tail = segment_name(self.pool.tail().generation);
            self.disk.sync(&tail)?;
            self.disk.sync_dir()?;
            if pending.stale {
                self.pool.store(&mut self.disk)?;
            }
        }
        // Only now: until the list was stored, what is out of it was the evidence of damage.
        self.pool.sweep(&mut self.disk)?;
        self.pending = None;
        Ok(())
    }

    /// Makes `write` durable. See [`append_all`](Self::append_all).
    ///
    /// # Errors
    /// As there.
    pub fn append(&mut self, write: &Write) -> Result<(), WalError> {
        self.append_all(core::slice::from_ref(write))
    }

    /// Makes all of `writes` durable, with one sync if they fit a segment and none of them installs
    /// a snapshot, which [resets](Self::reset) the log first. Those at or before
    /// [`persisted`](Self::persisted) are passed over, so a call that ended in `Full` can be
    /// repeated as it was.
    ///
    /// # Errors
    /// `Full`: whatever is after `persisted` is not on disk, and can be tried again. All others are
    /// final: it is unknown what is durable.
    ///
    /// # Panics
    /// Where the writes are not dense, or their entries leave a gap.
    pub fn append_all(&mut self, writes: &[Write]) -> Result<(), WalError> {
        self.resume()?;
        let done = self.position.seq;
        let mut rest = writes.iter().skip_while(|w| w.seq <= done).peekable();
        while rest.peek().is_some() {
            let mut buffer = mem::take(&mut self.buffer);
            buffer.clear();
            let at = record::begin(&mut buffer);
            let mut highest = Index::ZERO;
            let mut count = 0;
            if let Some(start) = rest.peek().and_then(|write| write.install) {
                self.reset(start)?;
            }
            let mut after = self.position;
            while let Some(write) = rest.peek() {
                if write.install.is_some() && after.seq != self.position.seq {
                    break;
                }
                let before = buffer.len();
                put_entries(&mut buffer, write);
                // All that is synced at once is one record, or a tear in the middle of it would
                // look like damage. So it must fit a segment, unless it is a single write.
                if after.seq != self.position.seq && !self.fits_a_segment(buffer.len()) {
                    buffer.truncate(before);
                    break;
                }
                highest = highest.max(advance(&mut after, write));
                count += u32::try_from(write.entries.len()).expect("a batch is bounded");
                rest.next();
            }
            after.chain = record::finish(&mut buffer, at, Kind::Batch, &after, count);
            let result = self.write_record(&mut buffer, after, highest, count == 0);
            self.buffer = buffer;
            result?;
        }
        Ok(())
    }

    /// Makes sure that segments stand ready. To be called between appends, so that these find them.
    ///
    /// # Errors
    /// `Full`: the log still works as long as what stands ready lasts. All others are final.
    pub fn prepare(&mut self) -> Result<(), WalError> {
        self.resume()?;
        self.pool.prepare(&mut self.disk)
    }

    /// Gives up segments that hold nothing but entries below `below`: they are in a checkpoint.
    ///
    /// # Errors
    /// `Full`: nothing is changed, and it can be tried again. All others are final.
    pub fn trim(&mut self, below: Index) -> Result<(), WalError> {
        self.resume()?;
        self.pool.trim(&mut self.disk, below)
    }

    /// Drops all entries: the log begins anew just after `start`, which is in the tables. Term,
    /// vote and the count of writes stay.
    ///
    /// # Errors
    /// `Full`: nothing is changed, and it can be tried again. All others are final.
    pub fn reset(&mut self, start: LogId) -> Result<(), WalError> {
        self.resume()?;
        let position = Position {
            last: start,
            ..self.position
        };
        self.pool.restart(&mut self.disk, position)?;
        self.position = position;
        self.offset = 0;
        Ok(())
    }

    /// The last write that is durable.
    #[must_use]
    pub const fn persisted(&self) -> WriteSeq {
        self.position.seq
    }

    /// Term and vote as they are on disk.
    #[must_use]
    pub const fn hard_state(&self) -> HardState {
        self.position.hard_state
    }

    /// The last entry of the log on disk.
    #[must_use]
    pub const fn last(&self) -> LogId {
        self.position.last
    }

    /// Bytes of all segments the log is in or has ready.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.pool.listed().map(|listed| listed.bytes).sum()
    }

    /// The directory.
    pub const fn files(&self) -> &F {
        &self.disk.files
    }

    /// The directory, to be used for other files of the member between calls.
    pub const fn files_mut(&mut self) -> &mut F {
        &mut self.disk.files
    }

    /// The directory, when the log is no longer needed.
    pub fn into_files(self) -> F {
        self.disk.files
    }

    /// Writes a padded record to its place and syncs it.
    fn write_record(
        &mut self,
        record: &mut [u8],
        after: Position,
        highest: Index,
        is_empty: bool,
    ) -> Result<(), WalError> {
        if !self.fits_here(record.len()) {
            self.leave(record.len())?;
        }
        let tail = self.pool.tail();
        let name = segment_name(tail.generation);
        if self.offset == 0 {
            let opening = record::empty(Kind::Open, &self.position, tail.generation, 0);
            self.disk.write(&name, 0, &opening)?;
            self.offset = EMPTY_BYTES as u64;
        }
        frame::stamp(record, tail.generation, self.offset);
        self.disk.write(&name, self.offset, record)?;
        self.disk.sync(&name)?;

        let seals = is_empty && after.hard_state == self.position.hard_state;
        self.offset += record.len() as u64;
        self.position = after;
        self.pool.note(highest);
        self.pool.heal(after.last);
        assert!(
            self.offset + EMPTY_BYTES as u64 <= tail.bytes,
            "no room to close {name}"
        );
        if seals {
            let sealed = self.seals.write(&mut self.disk.files, &self.position);
            self.disk.note(sealed.map_err(|error| WalError::File {
                file: SEALS.into(),
                error,
            }))?;
        }
        Ok(())
    }

    /// Closes the segment being written and goes on in the next, which has room for `bytes`.
    fn leave(&mut self, bytes: usize) -> Result<(), WalError> {
        self.pool.prepare_one(&mut self.disk, room_for(bytes))?;
        // The closing is durable before the next segment is used: it would be missed.
        let tail = self.pool.tail();
        let name = segment_name(tail.generation);
        let closing = record::empty(Kind::Close, &self.position, tail.generation, self.offset);
        self.disk.write(&name, self.offset, &closing)?;
        self.disk.sync(&name)?;
        self.pool.enter_next(self.position);
        self.offset = 0;
        Ok(())
    }

    /// Writes what the log has from `from` on in its last segment over itself.
    fn write_again(&mut self, from: u64) -> Result<(), WalError> {
        let name = segment_name(self.pool.tail().generation);
        let length = usize::try_from(self.offset - from).expect("it was read into memory before");
        let mut bytes = vec![0; length];
        let read = self.disk.files.read_at(&name, from, &mut bytes);
        self.disk.note(read.map_err(|e| WalError::of(&name, e)))?;
        self.disk.write(&name, from, &bytes)
    }

    /// Overwrites what follows the end of the log in its segment: what was begun there must never
    /// come back.
    fn clear_the_rest(&mut self) -> Result<(), WalError> {
        const PIECE_BYTES: u64 = 1 << 20;
        let tail = self.pool.tail();
        let name = segment_name(tail.generation);
        let mut at = self.offset;
        while at < tail.bytes {
            let piece = (tail.bytes - at).min(PIECE_BYTES);
            let zeros = vec![0; usize::try_from(piece).expect("a piece fits memory")];
            self.disk.write(&name, at, &zeros)?;
            at += piece;
        }
        Ok(())
    }

    /// Whether a record of `bytes` fits what is left of the segment being written, with its end.
    fn fits_here(&self, bytes: usize) -> bool {
        let opening = if self.offset == 0 { EMPTY_BYTES } else { 0 };
        self.offset + (opening + bytes + EMPTY_BYTES) as u64 <= self.pool.tail().bytes
    }

    const fn fits_a_segment(&self, bytes: usize) -> bool {
        room_for(bytes) <= self.limits.segment_bytes
    }
}

/// Whether any record of a log is there. A call of `create` that was cut short leaves none.
fn was_written<F: Files>(files: &F) -> Result<bool, WalError> {
    let names = files.list().map_err(|error| WalError::of("", error))?;
    let is_used = |generation| {
        let mut header = [0; frame::HEADER_BYTES];
        let read = files.read_at(&segment_name(generation), 0, &mut header);
        read.is_ok() && frame::begins(&header, generation, 0)
    };
    let sealed = Seals::load(files).newest.is_some();
    Ok(sealed
        || names
            .iter()
            .filter_map(|name| generation_of(name))
            .any(is_used))
}

/// The bytes of a segment that takes a record of `bytes`, its header and its end.
const fn room_for(bytes: usize) -> u64 {
    (bytes.next_multiple_of(frame::ALIGNMENT) + 2 * EMPTY_BYTES) as u64
}

fn put_entries(buffer: &mut Vec<u8>, write: &Write) {
    for entry in &*write.entries {
        record::put_entry(buffer, entry);
    }
}

/// How things stand after `write`, and the highest index in it.
fn advance(after: &mut Position, write: &Write) -> Index {
    assert_eq!(write.seq, after.seq.next(), "writes are dense");
    assert!(
        write.hard_state.term >= after.hard_state.term,
        "term falls from {} to {}",
        after.hard_state.term,
        write.hard_state.term
    );
    if let Some(first) = write.entries.first() {
        assert!(
            first.id.index <= after.last.index.next(),
            "a gap from {} to {}",
            after.last,
            first.id
        );
    }
    for pair in write.entries.windows(2) {
        assert_eq!(
            pair[1].id.index,
            pair[0].id.index.next(),
            "entries are contiguous"
        );
    }
    after.seq = write.seq;
    after.hard_state = write.hard_state;
    after.last = write.entries.last().map_or(after.last, |entry| entry.id);
    after.last.index
}
