//! The segments of a log: those it is in, those that stand ready, those to be used again.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;

use super::disk::Disk;
use super::error::WalError;
use super::files::Files;
use super::list::List;
use super::record::Position;
use super::segment::{Cut, Listed, Live, generation_of, segment_name};
use super::small;
use super::writer::WalLimits;
use crate::ids::{Index, LogId};

/// The list of segments as it is on disk, and the files beyond it.
///
/// Invariants: every segment written to is in the list on disk; generations rise from the first
/// live one to the last that stands ready, and `generation` is above all there are.
#[derive(Debug)]
pub(super) struct Pool {
    limits: WalLimits,
    /// The segments the log is in, the one being written last; never none once the log is made.
    live: VecDeque<Live>,
    /// Segments in the list, after the live ones, that nothing was written to yet.
    ready: VecDeque<Listed>,
    /// Files out of the list, to be used again; all of the usual length.
    spare: Vec<String>,
    /// The generation of the next segment.
    generation: u64,
    /// After damage: the index through which the log must be repaired.
    pub(super) held: Option<Index>,
}

impl Pool {
    /// The pool of a log, of which `files` are the names of all there are.
    pub(super) fn new(
        limits: WalLimits,
        live: Vec<Live>,
        ready: Vec<Listed>,
        held: Option<Index>,
        files: &[String],
    ) -> Self {
        let mut pool = Self {
            limits,
            live: live.into(),
            ready: ready.into(),
            spare: Vec::new(),
            generation: 1,
            held,
        };
        // Above that of any file there is: whatever these still say is of an older one.
        let found = files.iter().filter_map(|name| generation_of(name));
        let listed = pool.listed().map(|listed| listed.generation);
        if let Some(highest) = found.chain(listed).max() {
            pool.generation = highest + 1;
        }
        pool
    }

    /// The segment being written.
    pub(super) fn tail(&self) -> Listed {
        self.live.back().expect("a log has a segment").listed
    }

    /// Remembers that an entry of `index` is in the segment being written.
    pub(super) fn note(&mut self, index: Index) {
        let live = self.live.back_mut().expect("a log has a segment");
        live.last = live.last.max(index);
    }

    /// All segments in the list, in order.
    pub(super) fn listed(&self) -> impl Iterator<Item = &Listed> {
        let live = self.live.iter().map(|live| &live.listed);
        live.chain(&self.ready)
    }

    /// Makes the first segment that stands ready the one being written, from `start` on.
    pub(super) fn enter_next(&mut self, start: Position) {
        let listed = self.ready.pop_front().expect("a segment stands ready");
        self.live.push_back(Live {
            listed,
            start,
            last: Index::ZERO,
        });
    }

    /// Makes sure that as many segments stand ready as the limits say.
    pub(super) fn prepare<F: Files>(&mut self, disk: &mut Disk<F>) -> Result<(), WalError> {
        while self.ready.len() < self.limits.ready_segments {
            self.add(disk, self.limits.segment_bytes)?;
        }
        Ok(())
    }

    /// Makes sure that the segment to be entered next has at least `bytes`.
    pub(super) fn prepare_one<F: Files>(
        &mut self,
        disk: &mut Disk<F>,
        bytes: u64,
    ) -> Result<(), WalError> {
        let bytes = bytes.max(self.limits.segment_bytes);
        if self.ready.front().is_some_and(|next| next.bytes >= bytes) {
            return Ok(());
        }
        // The order in the list is the order of the log: a larger one replaces those ready.
        let small = mem::take(&mut self.ready);
        if let Err(error) = self.add(disk, bytes) {
            self.ready = small;
            return Err(error);
        }
        self.retire(disk, small)
    }

    /// Takes the segments out of the list that come before the one being written and hold no entry
    /// from `below` on.
    pub(super) fn trim<F: Files>(
        &mut self,
        disk: &mut Disk<F>,
        below: Index,
    ) -> Result<(), WalError> {
        let old = self.live.iter().take_while(|live| live.last < below);
        // Term and vote of the last one are nowhere else, nor is the end of the log.
        let old = old.count().min(self.live.len() - 1);
        if old == 0 {
            return Ok(());
        }
        let kept = self.live.split_off(old);
        let dropped = mem::replace(&mut self.live, kept);
        if let Err(error) = self.store(disk) {
            let kept = mem::replace(&mut self.live, dropped);
            self.live.extend(kept);
            return Err(error);
        }
        self.retire(disk, dropped.into_iter().map(|live| live.listed))
    }

    /// Takes all live segments out of the list and enters the next one, as if the log stood at
    /// `start`.
    pub(super) fn restart<F: Files>(
        &mut self,
        disk: &mut Disk<F>,
        start: Position,
    ) -> Result<(), WalError> {
        self.prepare_one(disk, 0)?;
        let dropped = mem::take(&mut self.live);
        let held = self.held;
        self.heal(start.last);
        self.enter_next(start);
        if let Err(error) = self.store(disk) {
            let entered = mem::replace(&mut self.live, dropped);
            self.ready.push_front(entered[0].listed);
            self.held = held;
            return Err(error);
        }
        self.retire(disk, dropped.into_iter().map(|live| live.listed))
    }

    /// Gives up what follows `cut` in the segment being written, and goes on in a new one.
    pub(super) fn give_up<F: Files>(
        &mut self,
        disk: &mut Disk<F>,
        cut: Cut,
    ) -> Result<(), WalError> {
        assert!(self.ready.is_empty(), "segments ready after damage");
        let tail = self.live.back_mut().expect("a log has a segment");
        let uncut = tail.listed.cut.replace(cut);
        if let Err(error) = self.add(disk, self.limits.segment_bytes) {
            let tail = self.live.back_mut().expect("a log has a segment");
            tail.listed.cut = uncut;
            return Err(error);
        }
        self.enter_next(cut.then);
        Ok(())
    }

    /// The log is whole once it is as long as it was.
    pub(super) fn heal(&mut self, last: LogId) {
        self.held = self.held.filter(|&held| last.index < held);
    }

    /// Puts the list on disk.
    pub(super) fn store<F: Files>(&mut self, disk: &mut Disk<F>) -> Result<(), WalError> {
        let list = List {
            start: self
                .live
                .front()
                .map_or_else(Position::default, |live| live.start),
            segments: self.listed().copied().collect(),
            held: self.held,
        };
        let mut stored = list.store(&mut disk.files);
        if stored == Err(WalError::Full)
            && let Some(spare) = self.spare.pop()
        {
            // A full disk must not keep the log from giving up segments.
            disk.remove(&spare)?;
            stored = list.store(&mut disk.files);
        }
        disk.note(stored)
    }

    /// Removes what is not in the list, and what is left of a replacement. Nothing that an earlier
    /// process left is used again: damage may be in it that this one has not seen.
    pub(super) fn sweep<F: Files>(&mut self, disk: &mut Disk<F>) -> Result<(), WalError> {
        let names = disk.files.list().map_err(|error| WalError::of("", error));
        let known: Vec<u64> = self.listed().map(|listed| listed.generation).collect();
        self.spare.clear();
        for name in disk.note(names)? {
            let unlisted = generation_of(&name).is_some_and(|g| !known.contains(&g));
            if unlisted || small::is_leftover(&name) {
                disk.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Adds a segment to those that stand ready, and to the list.
    fn add<F: Files>(&mut self, disk: &mut Disk<F>, bytes: u64) -> Result<(), WalError> {
        let name = segment_name(self.generation);
        let spare = self.spare.pop_if(|_| bytes == self.limits.segment_bytes);
        match spare {
            Some(spare) => disk.rename(&spare, &name)?,
            None => disk.allocate(&name, bytes)?,
        }
        self.ready.push_back(Listed {
            generation: self.generation,
            bytes,
            cut: None,
        });
        self.generation += 1;
        disk.sync(&name)?;
        disk.sync_dir()?;
        if let Err(error) = self.store(disk) {
            self.ready.pop_back();
            self.retire_file(disk, name)?;
            return Err(error);
        }
        Ok(())
    }

    /// Takes files out of use that are no longer in the list.
    fn retire<F: Files>(
        &mut self,
        disk: &mut Disk<F>,
        listed: impl IntoIterator<Item = Listed>,
    ) -> Result<(), WalError> {
        for listed in listed {
            let name = segment_name(listed.generation);
            if listed.cut.is_some() {
                // A place that cannot be read would be in the way again: a log that happened to
                // end before it could not be told from one that is lost there.
                disk.remove(&name)?;
            } else {
                self.retire_file(disk, name)?;
            }
        }
        Ok(())
    }

    fn retire_file<F: Files>(&mut self, disk: &mut Disk<F>, name: String) -> Result<(), WalError> {
        let whole = disk.files.len(&name) == Ok(self.limits.segment_bytes);
        if whole && self.spare.len() < self.limits.spare_segments {
            self.spare.push(name);
            Ok(())
        } else {
            disk.remove(&name)
        }
    }
}
