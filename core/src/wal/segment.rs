//! The files of the log: segments, the list of them, and the file of seals.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::error::WalError;
use super::files::{FileError, Files};
use super::record::{self, Kind, Position, Record, VERSION};
use super::{frame, small};
use crate::codec;
use crate::ids::Index;

/// The list of segments.
pub(super) const LIST: &str = "wal.segments";

/// The file of seals.
pub(super) const SEALS: &str = "wal.seals";

const PREFIX: &str = "wal.";

/// Where the second of the two seals is: no sector, however large, holds both.
const SEAL_SPACING: u64 = 4096;

const SEALS_OWNER: u64 = u64::MAX;

/// What cannot be read at once is read in pieces of this many bytes.
const PIECE_BYTES: usize = 512;

/// The name of the segment of `generation`.
pub(super) fn segment_name(generation: u64) -> String {
    format!("{PREFIX}{generation:010}")
}

/// Which generation the file `name` is; `None` where it is no segment.
pub(super) fn generation_of(name: &str) -> Option<u64> {
    let generation = name.strip_prefix(PREFIX)?.parse().ok()?;
    (segment_name(generation) == name).then_some(generation)
}

/// Which segments are the log, in order; the first of them begins at `start`. Those after the one
/// written last stand ready and are empty.
///
/// A segment is listed before it is written to, and no longer listed before it is given up: without
/// the list a segment that is gone would never be missed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct List {
    pub(super) start: Position,
    pub(super) segments: Vec<Listed>,
    /// After damage: the highest index the log is known to have held, which it must hold again.
    pub(super) held: Option<Index>,
}

/// A segment in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    /// Its number: higher than that of any file used before, so that what a recycled file still
    /// says never counts.
    pub(super) generation: u64,
    /// Its length.
    pub(super) bytes: u64,
    /// Where the log leaves it, if not where it is closed.
    pub(super) cut: Option<Cut>,
}

/// Damage that was given up: the log leaves the segment at `at` and goes on in the next one as if
/// it stood at `then`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cut {
    pub(super) at: u64,
    pub(super) then: Position,
}

impl List {
    pub(super) fn load<F: Files>(files: &F) -> Result<Self, WalError> {
        let bytes = small::load(files, LIST)?;
        let malformed = || WalError::damaged(LIST, 0, "it does not make sense");
        let (version, body) = bytes.split_first_chunk().ok_or_else(malformed)?;
        let found = u16::from_le_bytes(*version);
        if found != VERSION {
            let file = LIST.into();
            return Err(WalError::Version { file, found });
        }
        let list: Self = codec::take(body).map_err(|_| malformed())?;
        let ascending = list
            .segments
            .windows(2)
            .all(|pair| pair[0].generation < pair[1].generation);
        let last_is_cut = list.segments.last().is_none_or(|last| last.cut.is_some());
        if ascending && !last_is_cut {
            Ok(list)
        } else {
            Err(malformed())
        }
    }

    pub(super) fn store<F: Files>(&self, files: &mut F) -> Result<(), WalError> {
        let mut bytes = Vec::from(VERSION.to_le_bytes());
        codec::put(&mut bytes, self);
        small::store(files, LIST, &bytes)
    }
}

/// What can be read of a segment.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) name: String,
    pub(super) generation: u64,
    /// Its bytes; zeros where they cannot be read.
    pub(super) bytes: Vec<u8>,
    /// Whether the file is gone.
    pub(super) missing: bool,
    /// Whether the file ends before it should.
    pub(super) short: bool,
}

impl Image {
    pub(super) fn read<F: Files>(files: &F, listed: &Listed) -> Result<Self, WalError> {
        let name = segment_name(listed.generation);
        let found = match files.len(&name) {
            Ok(length) => Some(length),
            Err(FileError::NotFound) => None,
            Err(error) => return Err(WalError::of(&name, error)),
        };
        let length = found.unwrap_or(0).min(listed.bytes);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        if files.read_at(&name, 0, &mut bytes).is_err() {
            read_pieces(files, &name, &mut bytes);
        }
        Ok(Self {
            name,
            generation: listed.generation,
            bytes,
            missing: found.is_none(),
            short: length < listed.bytes,
        })
    }

    /// The record at `at` and where the next one begins; `None` where there is no whole one.
    ///
    /// # Errors
    /// Its checksum is right, but it makes no sense.
    pub(super) fn record(&self, at: usize) -> Result<Option<(Record<'_>, usize)>, WalError> {
        let Some(frame) = frame::parse(&self.bytes, self.generation, at) else {
            return Ok(None);
        };
        let record = Record::decode(frame.body).map_err(|what| self.damaged(at, what))?;
        Ok(Some((record, frame.end)))
    }

    /// All whole records from `from` on, wherever they are.
    pub(super) fn records(
        &self,
        from: usize,
    ) -> impl Iterator<Item = Result<Record<'_>, WalError>> {
        (from..self.bytes.len())
            .step_by(frame::ALIGNMENT)
            .filter_map(|at| self.record(at).transpose())
            .map(|found| found.map(|(record, _)| record))
    }

    /// Whether anything of this generation was begun at or after `from`.
    pub(super) fn is_torn(&self, from: usize) -> bool {
        (from..self.bytes.len())
            .step_by(frame::ALIGNMENT)
            .any(|at| frame::begins(&self.bytes, self.generation, at))
    }

    pub(super) fn damaged(&self, at: usize, what: &'static str) -> WalError {
        WalError::damaged(&self.name, at as u64, what)
    }
}

/// One sector that cannot be read is not the whole segment (SIMULATION.md D10).
fn read_pieces<F: Files>(files: &F, name: &str, bytes: &mut [u8]) {
    for (number, piece) in bytes.chunks_mut(PIECE_BYTES).enumerate() {
        if files
            .read_at(name, (number * PIECE_BYTES) as u64, piece)
            .is_err()
        {
            piece.fill(0);
        }
    }
}

/// The file of seals: how far the log had come when it last rested, twice, written in turn. It makes
/// a loss at the very end of the log visible, where the log itself cannot tell it from a write that
/// never ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Seals {
    /// The newest seal.
    pub(super) newest: Option<Position>,
    /// Which of the two is to be overwritten next.
    turn: u64,
}

impl Seals {
    /// What can be read of it. Nothing is a legal answer: the file only adds to what the log knows.
    pub(super) fn load<F: Files>(files: &F) -> Self {
        let mut seals = Self::default();
        for slot in 0..2 {
            let mut bytes = vec![0; record::EMPTY_BYTES];
            if files
                .read_at(SEALS, slot * SEAL_SPACING, &mut bytes)
                .is_err()
            {
                continue;
            }
            let Some(frame) = frame::parse(&bytes, owner_of_slot(slot), 0) else {
                continue;
            };
            if let Ok(record) = Record::decode(frame.body)
                && record.kind == Kind::Seal
                && seals.newest.is_none_or(|seal| seal.seq < record.after.seq)
            {
                seals.newest = Some(record.after);
                seals.turn = 1 - slot;
            }
        }
        seals
    }

    /// Makes the file, if it is not there in full. Its seals, if any, were seen by [`load`](Self::load).
    pub(super) fn create<F: Files>(&self, files: &mut F) -> Result<(), WalError> {
        if files.len(SEALS) == Ok(2 * SEAL_SPACING) {
            return Ok(());
        }
        let mut bytes = vec![0; usize::try_from(2 * SEAL_SPACING).expect("two pages")];
        if let Some(seal) = &self.newest {
            let slot = 1 - self.turn;
            let at = usize::try_from(slot * SEAL_SPACING).expect("a page");
            let record = record::empty(Kind::Seal, seal, owner_of_slot(slot), 0);
            bytes[at..at + record.len()].copy_from_slice(&record);
        }
        small::replace(files, SEALS, &bytes)
    }

    /// Makes it durable that the log is durable up to `position`.
    pub(super) fn write<F: Files>(
        &mut self,
        files: &mut F,
        position: &Position,
    ) -> Result<(), FileError> {
        let bytes = record::empty(Kind::Seal, position, owner_of_slot(self.turn), 0);
        files.write_at(SEALS, self.turn * SEAL_SPACING, &bytes)?;
        files.sync(SEALS)?;
        self.newest = Some(*position);
        self.turn = 1 - self.turn;
        Ok(())
    }
}

/// A seal is read alone, as if its slot were a file.
fn owner_of_slot(slot: u64) -> u64 {
    SEALS_OWNER - slot
}
