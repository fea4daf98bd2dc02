//! Room held in reserve for when the disk is full.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use crate::files::Room;

const BLOCK_BYTES: usize = 1 << 20;

/// A file of zeros that is given back when the disk is full, so that what is begun (a segment, a
/// checkpoint) can be finished, and made again once there is room.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    bytes: u64,
    room: Room,
}

impl Reserve {
    pub(crate) fn new(path: PathBuf, bytes: u64, room: Room) -> Self {
        Self { path, bytes, room }
    }

    /// Makes sure that the reserve is there.
    ///
    /// # Errors
    /// `StorageFull`, or whatever else the system says; then there is no reserve.
    pub(crate) fn hold(&self) -> io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|found| found.len() == self.bytes) {
            return Ok(());
        }
        self.fill().inspect_err(|_| self.release())
    }

    /// Gives the room back.
    pub(crate) fn release(&self) {
        // A reserve that is not there is as good as one given back.
        let _ = fs::remove_file(&self.path);
    }

    fn fill(&self) -> io::Result<()> {
        self.room.check()?;
        let mut file = File::create(&self.path)?;
        let zeros = vec![0; BLOCK_BYTES];
        let mut left = self.bytes;
        while left > 0 {
            let piece = usize::try_from(left).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES));
            file.write_all(&zeros[..piece])?;
            left -= piece as u64;
        }
        // Not synced: the file system has set the room aside, and nobody reads these zeros.
        Ok(())
    }
}
