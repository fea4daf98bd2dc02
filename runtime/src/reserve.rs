//! Room held in reserve for when the disk is full.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::files::{OWNER_ONLY, Room};

const BLOCK_BYTES: usize = 1 << 20;

/// A file that is given back when the disk is full, so that what is begun (a segment, a checkpoint)
/// can be finished, and made again once there is room. Nobody reads it, and a power cut may take
/// it: it is neither written, where the file system can set room aside, nor synced.
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
        if self.bytes == 0 {
            self.release();
            return Ok(());
        }
        // A copy of the directory may have made a hole of it, which holds no room.
        let is_held = fs::metadata(&self.path)
            .is_ok_and(|found| found.len() == self.bytes && found.blocks() >= self.bytes / 512);
        if is_held {
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
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(OWNER_ONLY)
            .open(&self.path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, self.bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(file, self.bytes),
            result => Ok(result?),
        }
    }
}

fn write_zeros(mut file: File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; BLOCK_BYTES];
    let mut left = bytes;
    while left > 0 {
        let piece = usize::try_from(left).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES));
        file.write_all(&zeros[..piece])?;
        left -= piece as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn room_is_held_and_given_back() {
        let scratch = Scratch::new();
        let path = scratch.path().join("reserve");
        let room = Room::default();
        let held = || fs::metadata(&path).map_or(0, |found| found.blocks() * 512);
        let reserve = Reserve::new(path.clone(), 3 << 20, room.clone());
        reserve.hold().expect("room");
        assert!(held() >= 3 << 20);
        reserve.release();
        assert!(!path.exists());

        // A hole of the right length holds nothing.
        File::create(&path)
            .and_then(|file| file.set_len(3 << 20))
            .expect("made");
        reserve.hold().expect("room");
        assert!(held() >= 3 << 20);

        // Another size, then none.
        Reserve::new(path.clone(), 1 << 20, room.clone())
            .hold()
            .expect("room");
        assert_eq!(fs::metadata(&path).map_or(0, |found| found.len()), 1 << 20);
        Reserve::new(path.clone(), 0, room.clone())
            .hold()
            .expect("nothing to hold");
        assert!(!path.exists());

        room.set(false);
        assert!(reserve.hold().is_err());
        assert!(!path.exists());
    }

    #[test]
    fn zeros_do_where_room_cannot_be_set_aside() {
        let scratch = Scratch::new();
        let path = scratch.path().join("reserve");
        let file = File::create(&path).expect("made");
        write_zeros(file, (2 << 20) + 5).expect("written");
        assert_eq!(
            fs::metadata(&path).map_or(0, |found| found.len()),
            (2 << 20) + 5
        );
    }
}
