//! The real files under core's log, slices and small files: one directory each.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quorate_core::wal::{FileError, Files};

/// Zeros are written in pieces of this size.
const BLOCK_BYTES: usize = 1 << 20;

/// The mode of files: among them are the member's private key and everything its clients store.
pub(crate) const OWNER_ONLY: u32 = 0o600;

/// The mode of directories, for the same reason.
const OWNER_ONLY_DIRECTORY: u32 = 0o700;

/// A directory as core sees it.
///
/// Files written to stay open, so that a sync costs no look-up; reading is rare and opens anew.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    open: BTreeMap<String, File>,
    room: Room,
}

/// Whether new files may be made. Tests say no, and so play a full disk; otherwise the file system
/// alone decides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Room {
    gone: Arc<AtomicBool>,
}

impl Room {
    #[cfg(test)]
    pub(crate) fn set(&self, room: bool) {
        self.gone.store(!room, Ordering::SeqCst);
    }

    /// As the file system would.
    ///
    /// # Errors
    /// `StorageFull` while a test says so.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.gone.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Directory {
    /// The directory at `path`, which is there.
    pub(crate) fn new(path: PathBuf, room: Room) -> Self {
        Self {
            path,
            open: BTreeMap::new(),
            room,
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Closes a file that will not be written to again.
    pub(crate) fn close(&mut self, name: &str) {
        self.open.remove(name);
    }

    fn file(&mut self, name: &str) -> Result<&File, FileError> {
        if !self.open.contains_key(name) {
            let path = self.path.join(name);
            let file = OpenOptions::new().read(true).write(true).open(path);
            self.open.insert(name.to_owned(), file.map_err(file_error)?);
        }
        Ok(&self.open[name])
    }

    fn fill(&self, path: &Path, bytes: u64) -> io::Result<File> {
        self.room.check()?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(OWNER_ONLY)
            .open(path)?;
        // Written rather than reserved: overwriting written blocks syncs in two thirds of the time
        // (PERFORMANCE.md, limits of this machine), and cannot run out of room.
        let zeros = vec![0; BLOCK_BYTES];
        let mut left = bytes;
        while left > 0 {
            let piece = usize::try_from(left).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES));
            file.write_all(&zeros[..piece])?;
            left -= piece as u64;
        }
        file.sync_all()?;
        Ok(file)
    }
}

impl Files for Directory {
    fn list(&self) -> Result<Vec<String>, FileError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(file_error)? {
            let entry = entry.map_err(file_error)?;
            if entry.file_type().map_err(file_error)?.is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(names)
    }

    fn len(&self, name: &str) -> Result<u64, FileError> {
        let found = fs::metadata(self.path.join(name)).map_err(file_error)?;
        Ok(found.len())
    }

    fn allocate(&mut self, name: &str, bytes: u64) -> Result<(), FileError> {
        self.open.remove(name);
        let path = self.path.join(name);
        match self.fill(&path, bytes) {
            Ok(file) => {
                self.open.insert(name.to_owned(), file);
                Ok(())
            }
            Err(error) => {
                // What there was of it would only take away room.
                let _ = fs::remove_file(&path);
                Err(file_error(error))
            }
        }
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<(), FileError> {
        if let Some(file) = self.open.get(name) {
            return file.read_exact_at(buffer, offset).map_err(file_error);
        }
        let file = File::open(self.path.join(name)).map_err(file_error)?;
        file.read_exact_at(buffer, offset).map_err(file_error)
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), FileError> {
        let file = self.file(name)?;
        file.write_all_at(bytes, offset).map_err(file_error)
    }

    fn sync(&mut self, name: &str) -> Result<(), FileError> {
        self.file(name)?.sync_data().map_err(file_error)
    }

    fn sync_dir(&mut self) -> Result<(), FileError> {
        sync_directory(&self.path).map_err(file_error)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), FileError> {
        fs::rename(self.path.join(from), self.path.join(to)).map_err(file_error)?;
        self.open.remove(to);
        if let Some(file) = self.open.remove(from) {
            self.open.insert(to.to_owned(), file);
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), FileError> {
        self.open.remove(name);
        fs::remove_file(self.path.join(name)).map_err(file_error)
    }
}

/// Makes a directory that is not there, with all above it that are missing. They are durable once
/// their parents are synced.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(OWNER_ONLY_DIRECTORY)
        .create(path)
}

/// Makes creations, renames and removals in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The system's answer in core's words.
pub(crate) fn file_error(error: io::Error) -> FileError {
    let kind = error.kind();
    if kind == io::ErrorKind::NotFound {
        FileError::NotFound
    } else if [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&kind) {
        FileError::Full
    } else {
        FileError::Other(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    fn directory() -> (Scratch, Directory, Room) {
        let scratch = Scratch::new();
        let room = Room::default();
        let files = Directory::new(scratch.path().to_owned(), room.clone());
        (scratch, files, room)
    }

    #[test]
    fn what_is_written_is_read() {
        let (_scratch, mut files, _) = directory();
        files.allocate("a", 3 << 20).expect("room");
        files.write_at("a", 5, b"hello").expect("written");
        files.sync("a").expect("synced");
        files.rename("a", "b").expect("renamed");
        files.sync_dir().expect("synced");
        let mut buffer = [0; 7];
        files.read_at("b", 4, &mut buffer).expect("read");
        assert_eq!(&buffer, b"\0hello\0");
        assert_eq!(files.len("b"), Ok(3 << 20));
        assert_eq!(files.len("a"), Err(FileError::NotFound));
        assert_eq!(files.list(), Ok(vec!["b".to_owned()]));
        files.remove("b").expect("removed");
        assert_eq!(files.read_at("b", 0, &mut buffer), Err(FileError::NotFound));
    }

    #[test]
    fn an_allocation_takes_the_place_of_what_was_there() {
        let (_scratch, mut files, _) = directory();
        files.allocate("a", 9).expect("room");
        files.write_at("a", 0, b"old").expect("written");
        files.allocate("a", 4).expect("room");
        let mut buffer = [1; 4];
        files.read_at("a", 0, &mut buffer).expect("read");
        assert_eq!(buffer, [0; 4]);
        assert!(files.read_at("a", 1, &mut buffer).is_err(), "past the end");
    }

    #[test]
    fn a_full_disk_leaves_no_file_behind() {
        let (_scratch, mut files, room) = directory();
        room.set(false);
        assert_eq!(files.allocate("a", 9), Err(FileError::Full));
        assert_eq!(files.list(), Ok(vec![]));
        room.set(true);
        assert_eq!(files.allocate("a", 9), Ok(()));
    }
}
