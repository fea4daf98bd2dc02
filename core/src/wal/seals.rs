//! The file of seals: how far the log had come when it last rested.
//!
//! It makes a loss at the very end of the log visible, where the log itself cannot tell it from a
//! write that never ended.

use alloc::vec;

use super::error::WalError;
use super::files::{FileError, Files};
use super::record::{self, Kind, Position, Record};
use super::{frame, small};

/// Its name.
pub(super) const SEALS: &str = "wal.seals";

/// Where the second of the two seals is: no sector, however large, holds both.
const SPACING: u64 = 4096;

/// The two seals, written in turn: one that is torn leaves the other.
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
            if files.read_at(SEALS, slot * SPACING, &mut bytes).is_err() {
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

    /// Makes the file, if it is not there in full, with the newest seal that [`load`](Self::load)
    /// saw.
    pub(super) fn create<F: Files>(&self, files: &mut F) -> Result<(), WalError> {
        if files.len(SEALS) == Ok(2 * SPACING) {
            return Ok(());
        }
        let mut bytes = vec![0; usize::try_from(2 * SPACING).expect("two pages")];
        if let Some(seal) = &self.newest {
            let slot = 1 - self.turn;
            let at = usize::try_from(slot * SPACING).expect("a page");
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
        files.write_at(SEALS, self.turn * SPACING, &bytes)?;
        files.sync(SEALS)?;
        self.newest = Some(*position);
        self.turn = 1 - self.turn;
        Ok(())
    }
}

/// A seal is read alone, as if its slot were a file.
fn owner_of_slot(slot: u64) -> u64 {
    u64::MAX - slot
}
