//! Writing the log: append, trim, reset.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::mem;

use super::error::WalError;
use super::files::{FileError, Files};
use super::record::{self, EMPTY_BYTES, Kind, Position};
use super::recover::{Live, Recovered, Replayed, replay};
use super::segment::{Cut, List, Listed, SEALS, Seals, generation_of, segment_name};
use super::{frame, small};
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
/// acknowledged and cannot be mistaken for part of the log; every segment written to is in the list
/// on disk.
#[derive(Debug)]
pub struct Wal<F> {
    files: F,
    limits: WalLimits,
    /// The segments the log is in, the one being written last; never none.
    live: VecDeque<Live>,
    /// Segments in the list, after the live ones, that nothing was written to yet.
    ready: VecDeque<Listed>,
    /// Files out of the list, to be used again.
    spare: Vec<String>,
    /// The generation of the next segment.
    generation: u64,
    /// Where in the last live segment the log ends; zero before its header is written.
    offset: u64,
    position: Position,
    seals: Seals,
    held: Option<Index>,
    state: State,
    /// The record in the making; kept for its allocation.
    buffer: Vec<u8>,
}

/// Whether the log can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Recovered, with nothing on disk touched so far.
    Recovered {
        /// There is something after the end that was begun.
        torn: bool,
        /// What comes after the end was durable, and is given up.
        damaged: bool,
        /// The list names segments that are not there.
        stale: bool,
    },
    Writing,
    Failed,
}

impl<F: Files> Wal<F> {
    /// Makes an empty log. What an earlier call that was cut short left behind is removed.
    ///
    /// # Errors
    /// `Exists`; `Full`; `File`.
    pub fn create(files: F, limits: WalLimits) -> Result<Self, WalError> {
        limits.check();
        let mut wal = Self {
            files,
            limits,
            live: VecDeque::new(),
            ready: VecDeque::new(),
            spare: Vec::new(),
            generation: 1,
            offset: 0,
            position: Position::default(),
            seals: Seals::default(),
            held: None,
            state: State::Writing,
            buffer: Vec::new(),
        };
        match List::load(&wal.files) {
            Err(WalError::Missing { .. }) => {}
            Err(error @ WalError::File { .. }) => return Err(error),
            Ok(_) | Err(_) => return Err(WalError::Exists),
        }
        if Seals::load(&wal.files).newest.is_some() {
            // Only the list is gone. A log that was never finished has no seals.
            return Err(WalError::Exists);
        }
        wal.sweep()?;
        wal.seals.create(&mut wal.files)?;
        wal.add_ready(limits.segment_bytes)?;
        wal.enter_next();
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
            position,
            seals,
            stale,
        } = replay(&files)?;
        let wal = Self {
            generation: next_generation(&files, &live, &ready)?,
            files,
            limits,
            live: live.into(),
            ready: ready.into(),
            spare: Vec::new(),
            offset,
            position,
            seals,
            held: recovered.held,
            state: State::Recovered {
                torn: recovered.torn.is_some(),
                damaged: recovered.damage.is_some(),
                stale,
            },
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
        let State::Recovered {
            torn,
            damaged,
            stale,
        } = self.state
        else {
            return self.check();
        };
        let seals = self.seals.create(&mut self.files);
        seals.or_else(|error| self.end(error))?;
        if damaged {
            self.give_up_the_rest()?;
        } else {
            if torn {
                self.clear_the_rest()?;
            }
            // The end may have been read from memory that a power cut empties.
            let tail = self.tail_name();
            self.sync(&tail)?;
            self.sync_dir()?;
            if stale {
                self.store_list()?;
            }
        }
        // Only now: until the list was stored, what is out of it was the evidence of damage.
        self.sweep()?;
        self.state = State::Writing;
        Ok(())
    }

    /// Makes `write` durable. See [`append_all`](Self::append_all).
    ///
    /// # Errors
    /// As there.
    pub fn append(&mut self, write: &Write) -> Result<(), WalError> {
        self.append_all(core::slice::from_ref(write))
    }

    /// Makes all of `writes` durable, with one sync if they fit a segment. Those at or before
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
            let mut after = self.position;
            let mut highest = Index::ZERO;
            let mut count = 0;
            while let Some(write) = rest.peek() {
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
        while self.ready.len() < self.limits.ready_segments {
            self.add_ready(self.limits.segment_bytes)?;
        }
        Ok(())
    }

    /// Gives up segments that hold nothing but entries below `below`: they are in a checkpoint.
    ///
    /// # Errors
    /// `Full`: nothing is changed, and it can be tried again. All others are final.
    pub fn trim(&mut self, below: Index) -> Result<(), WalError> {
        self.resume()?;
        let old = self
            .live
            .iter()
            .take_while(|live| live.last < below)
            .count();
        // Term and vote of the last one are nowhere else, nor is the end of the log.
        let old = old.min(self.live.len() - 1);
        if old == 0 {
            return Ok(());
        }
        let dropped: Vec<Live> = self.live.drain(..old).collect();
        if let Err(error) = self.store_list() {
            for live in dropped.into_iter().rev() {
                self.live.push_front(live);
            }
            return Err(error);
        }
        self.retire(dropped.iter().map(|live| live.listed).collect())
    }

    /// Drops all entries: the log begins anew just after `start`, which is in the tables. Term, vote
    /// and the count of writes stay.
    ///
    /// # Errors
    /// `Full`: nothing is changed, and it can be tried again. All others are final.
    pub fn reset(&mut self, start: LogId) -> Result<(), WalError> {
        self.resume()?;
        if self.ready.is_empty() {
            self.add_ready(self.limits.segment_bytes)?;
        }
        let old = (
            mem::take(&mut self.live),
            self.offset,
            self.position,
            self.held,
        );
        self.position.last = start;
        self.held = self.held.filter(|&held| start.index < held);
        self.enter_next();
        if let Err(error) = self.store_list() {
            let fresh = self.live.pop_back().expect("a segment was entered");
            self.ready.push_front(fresh.listed);
            (self.live, self.offset, self.position, self.held) = old;
            return Err(error);
        }
        self.retire(old.0.iter().map(|live| live.listed).collect())
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
        self.listed().map(|listed| listed.bytes).sum()
    }

    /// The directory.
    pub const fn files(&self) -> &F {
        &self.files
    }

    /// The directory, to be used for other files of the member between calls.
    pub const fn files_mut(&mut self) -> &mut F {
        &mut self.files
    }

    /// The directory, when the log is no longer needed.
    pub fn into_files(self) -> F {
        self.files
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
        let tail = self.live.back().expect("a log has a segment").listed;
        let name = segment_name(tail.generation);
        if self.offset == 0 {
            let opening = record::empty(Kind::Open, &self.position, tail.generation, 0);
            self.write(&name, 0, &opening)?;
            self.offset = EMPTY_BYTES as u64;
        }
        frame::stamp(record, tail.generation, self.offset);
        self.write(&name, self.offset, record)?;
        self.sync(&name)?;

        let seals = is_empty && after.hard_state == self.position.hard_state;
        self.offset += record.len() as u64;
        self.position = after;
        self.held = self.held.filter(|&held| after.last.index < held);
        let live = self.live.back_mut().expect("a log has a segment");
        live.last = live.last.max(highest);
        assert!(
            self.offset + EMPTY_BYTES as u64 <= tail.bytes,
            "no room to close"
        );
        if seals {
            let sealed = self.seals.write(&mut self.files, &self.position);
            sealed.or_else(|error| self.fail(SEALS, error))?;
        }
        Ok(())
    }

    /// Closes the segment being written and goes on in the next, which has room for `bytes`.
    fn leave(&mut self, bytes: usize) -> Result<(), WalError> {
        let needed = room_for(bytes).max(self.limits.segment_bytes);
        if self.ready.front().is_none_or(|next| next.bytes < needed) {
            // The order in the list is the order of the log: a larger one replaces those ready.
            let small = mem::take(&mut self.ready);
            if let Err(error) = self.add_ready(needed) {
                self.ready = small;
                return Err(error);
            }
            self.retire(small.into())?;
        }
        let tail = self.live.back().expect("a log has a segment").listed;
        let name = segment_name(tail.generation);
        let closing = record::empty(Kind::Close, &self.position, tail.generation, self.offset);
        self.write(&name, self.offset, &closing)?;
        self.sync(&name)?;
        self.enter_next();
        Ok(())
    }

    /// Makes the first segment that stands ready the one being written.
    fn enter_next(&mut self) {
        let listed = self.ready.pop_front().expect("a segment stands ready");
        self.live.push_back(Live {
            listed,
            start: self.position,
            last: Index::ZERO,
        });
        self.offset = 0;
    }

    /// Adds a segment to those that stand ready, and to the list.
    fn add_ready(&mut self, bytes: u64) -> Result<(), WalError> {
        let listed = Listed {
            generation: self.generation,
            bytes,
            cut: None,
        };
        let name = segment_name(self.generation);
        let spare = self.spare.pop_if(|_| bytes == self.limits.segment_bytes);
        match spare {
            Some(spare) => self.rename(&spare, &name)?,
            None => match self.files.allocate(&name, bytes) {
                Ok(()) => {}
                Err(FileError::Full) => return Err(WalError::Full),
                Err(error) => return self.fail(&name, error),
            },
        }
        self.generation += 1;
        self.sync(&name)?;
        self.sync_dir()?;
        self.ready.push_back(listed);
        if let Err(error) = self.store_list() {
            self.ready.pop_back();
            self.retire_file(name)?;
            return Err(error);
        }
        Ok(())
    }

    /// Takes files out of use that are no longer in the list.
    fn retire(&mut self, listed: Vec<Listed>) -> Result<(), WalError> {
        for listed in listed {
            self.retire_file(segment_name(listed.generation))?;
        }
        Ok(())
    }

    fn retire_file(&mut self, name: String) -> Result<(), WalError> {
        let whole = self.files.len(&name) == Ok(self.limits.segment_bytes);
        if whole && self.spare.len() < self.limits.spare_segments {
            self.spare.push(name);
            return Ok(());
        }
        match self.files.remove(&name) {
            Ok(()) | Err(FileError::NotFound) => Ok(()),
            Err(error) => self.fail(&name, error),
        }
    }

    /// Takes out of use what is not in the list, and removes what was being replaced.
    fn sweep(&mut self) -> Result<(), WalError> {
        let names = self.files.list().or_else(|error| self.fail("", error))?;
        let known: Vec<u64> = self.listed().map(|listed| listed.generation).collect();
        self.spare.clear();
        for name in names {
            let unlisted = generation_of(&name).is_some_and(|g| !known.contains(&g));
            if unlisted {
                self.retire_file(name)?;
            } else if small::is_leftover(&name) {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Goes on in a new segment as things stood before the damage, but for term, vote and count.
    fn give_up_the_rest(&mut self) -> Result<(), WalError> {
        let cut = Cut {
            at: self.offset,
            then: self.position,
        };
        let tail = self.live.back_mut().expect("a log has a segment");
        let uncut = tail.listed.cut.replace(cut);
        if let Err(error) = self.add_ready(self.limits.segment_bytes) {
            let tail = self.live.back_mut().expect("a log has a segment");
            tail.listed.cut = uncut;
            return Err(error);
        }
        self.enter_next();
        Ok(())
    }

    /// Overwrites what follows the end of the log in its segment: what was begun there must never
    /// come back.
    fn clear_the_rest(&mut self) -> Result<(), WalError> {
        const PIECE_BYTES: u64 = 1 << 20;
        let tail = self.live.back().expect("a log has a segment").listed;
        let name = segment_name(tail.generation);
        let mut at = self.offset;
        while at < tail.bytes {
            let piece = (tail.bytes - at).min(PIECE_BYTES);
            let zeros = vec![0; usize::try_from(piece).expect("a piece fits memory")];
            self.write(&name, at, &zeros)?;
            at += piece;
        }
        Ok(())
    }

    fn store_list(&mut self) -> Result<(), WalError> {
        let list = List {
            start: self.live.front().map_or(self.position, |live| live.start),
            segments: self.listed().copied().collect(),
            held: self.held,
        };
        let mut stored = list.store(&mut self.files);
        if stored == Err(WalError::Full)
            && let Some(spare) = self.spare.pop()
        {
            // A full disk must not keep the log from giving up segments.
            self.remove(&spare)?;
            stored = list.store(&mut self.files);
        }
        stored.or_else(|error| self.end(error))
    }

    fn listed(&self) -> impl Iterator<Item = &Listed> {
        let live = self.live.iter().map(|live| &live.listed);
        live.chain(&self.ready)
    }

    fn tail_name(&self) -> String {
        let tail = self.live.back().expect("a log has a segment").listed;
        segment_name(tail.generation)
    }

    /// Whether a record of `bytes` fits what is left of the segment being written, with its end.
    fn fits_here(&self, bytes: usize) -> bool {
        let tail = self.live.back().expect("a log has a segment").listed;
        let opening = if self.offset == 0 { EMPTY_BYTES } else { 0 };
        self.offset + (opening + bytes + EMPTY_BYTES) as u64 <= tail.bytes
    }

    const fn fits_a_segment(&self, bytes: usize) -> bool {
        room_for(bytes) <= self.limits.segment_bytes
    }

    const fn check(&self) -> Result<(), WalError> {
        match self.state {
            State::Recovered { .. } | State::Writing => Ok(()),
            State::Failed => Err(WalError::Failed),
        }
    }

    fn write(&mut self, name: &str, at: u64, bytes: &[u8]) -> Result<(), WalError> {
        let written = self.files.write_at(name, at, bytes);
        written.or_else(|error| self.fail(name, error))
    }

    fn sync(&mut self, name: &str) -> Result<(), WalError> {
        self.files
            .sync(name)
            .or_else(|error| self.fail(name, error))
    }

    fn sync_dir(&mut self) -> Result<(), WalError> {
        self.files.sync_dir().or_else(|error| self.fail("", error))
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), WalError> {
        let renamed = self.files.rename(from, to);
        renamed.or_else(|error| self.fail(from, error))
    }

    fn remove(&mut self, name: &str) -> Result<(), WalError> {
        self.files
            .remove(name)
            .or_else(|error| self.fail(name, error))
    }

    /// The end of the log: what is durable is unknown now (SIMULATION.md D11).
    fn fail<T>(&mut self, file: &str, error: FileError) -> Result<T, WalError> {
        self.end(WalError::File {
            file: file.into(),
            error,
        })
    }

    fn end<T>(&mut self, error: WalError) -> Result<T, WalError> {
        if error != WalError::Full {
            self.state = State::Failed;
        }
        Err(error)
    }
}

/// The bytes of a segment that takes a record of `bytes`, its header and its end.
const fn room_for(bytes: usize) -> u64 {
    (bytes.next_multiple_of(frame::ALIGNMENT) + 2 * EMPTY_BYTES) as u64
}

/// Above that of any file there is: whatever these still say is of an older one.
fn next_generation<F: Files>(files: &F, live: &[Live], ready: &[Listed]) -> Result<u64, WalError> {
    let names = files.list().map_err(|error| WalError::of("", error))?;
    let found = names.iter().filter_map(|name| generation_of(name));
    let live = live.iter().map(|live| live.listed.generation);
    let ready = ready.iter().map(|listed| listed.generation);
    let highest = found.chain(live).chain(ready).max().unwrap_or(0);
    Ok(highest + 1)
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
