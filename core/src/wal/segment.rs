//! Segments: their names, what the list says of them, and what can be read of them.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::error::WalError;
use super::files::{FileError, Files};
use super::frame;
use super::record::{Position, Record};
use crate::ids::Index;

const PREFIX: &str = "wal.";

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

/// A segment the log is in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live {
    pub(super) listed: Listed,
    /// How things stood at its beginning.
    pub(super) start: Position,
    /// The highest index of an entry in it; zero without one.
    pub(super) last: Index,
}

/// What can be read of a segment.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) name: String,
    pub(super) generation: u64,
    /// Its bytes; zeros where they cannot be read.
    pub(super) bytes: Vec<u8>,
    /// Where the pieces of [`PIECE_BYTES`] begin that cannot be read.
    unread: Vec<usize>,
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
        let whole = files.read_at(&name, 0, &mut bytes);
        let unread = whole.map_or_else(|_| read_pieces(files, &name, &mut bytes), |()| Vec::new());
        Ok(Self {
            name,
            generation: listed.generation,
            bytes,
            unread,
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

    /// Where the first byte is that cannot be read of what may be a record at `at`.
    pub(super) fn unread_at(&self, at: usize) -> Option<usize> {
        let end = frame::claimed_end(&self.bytes, self.generation, at);
        let mut unread = self.unread.iter().copied();
        unread.find(|&piece| piece < end && at < piece + PIECE_BYTES)
    }

    pub(super) fn damaged(&self, at: usize, what: &'static str) -> WalError {
        WalError::damaged(&self.name, at as u64, what)
    }
}

/// One sector that cannot be read is not the whole segment (SIMULATION.md D10). Returns where those
/// begin.
fn read_pieces<F: Files>(files: &F, name: &str, bytes: &mut [u8]) -> Vec<usize> {
    let mut unread = Vec::new();
    for (number, piece) in bytes.chunks_mut(PIECE_BYTES).enumerate() {
        let at = number * PIECE_BYTES;
        if files.read_at(name, at as u64, piece).is_err() {
            piece.fill(0);
            unread.push(at);
        }
    }
    unread
}
