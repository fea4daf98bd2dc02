//! The few things the log wants of a file system.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// One directory, and the files in it, by name. Blocking, and small on purpose: the simulator
/// implements it sector by sector (SIMULATION.md §2), the runtime on real files.
///
/// What is durable when:
/// - what is in a file, and its length: after [`sync`](Self::sync) of that file;
/// - that a file is there, is gone or has a new name: after [`sync_dir`](Self::sync_dir);
/// - before that any part of it may survive a crash or not, in units of a sector.
///
/// An implementation may keep files open between calls.
pub trait Files {
    /// The names of all files, in any order.
    ///
    /// # Errors
    /// Whatever the system says.
    fn list(&self) -> Result<Vec<String>, FileError>;

    /// The length of a file in bytes.
    ///
    /// # Errors
    /// `NotFound`, and whatever else the system says.
    fn len(&self, name: &str) -> Result<u64, FileError>;

    /// Makes a file of `bytes` zeros, in place of one that is there, and room for all of them: a
    /// later write into it never fails for want of room.
    ///
    /// # Errors
    /// `Full` leaves no file behind; whatever else the system says.
    fn allocate(&mut self, name: &str, bytes: u64) -> Result<(), FileError>;

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// `NotFound`; anything else, also where the file ends too early, means that this range cannot
    /// be read, though others may.
    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<(), FileError>;

    /// Writes all of `bytes` at `offset`, within what was allocated.
    ///
    /// # Errors
    /// Any error leaves the range undefined: nothing may be built on the file any more.
    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), FileError>;

    /// Makes what was written into the file durable (fdatasync).
    ///
    /// # Errors
    /// After any error it is unknown what is durable, and a second try may lie (SIMULATION.md D11).
    fn sync(&mut self, name: &str) -> Result<(), FileError>;

    /// Makes creations, renames and removals durable (fsync of the directory).
    ///
    /// # Errors
    /// As [`sync`](Self::sync).
    fn sync_dir(&mut self) -> Result<(), FileError>;

    /// Gives a file another name, in place of one that has it.
    ///
    /// # Errors
    /// `NotFound`, and whatever else the system says.
    fn rename(&mut self, from: &str, to: &str) -> Result<(), FileError>;

    /// Removes a file.
    ///
    /// # Errors
    /// `NotFound`, and whatever else the system says.
    fn remove(&mut self, name: &str) -> Result<(), FileError>;
}

impl<F: Files + ?Sized> Files for &mut F {
    fn list(&self) -> Result<Vec<String>, FileError> {
        (**self).list()
    }

    fn len(&self, name: &str) -> Result<u64, FileError> {
        (**self).len(name)
    }

    fn allocate(&mut self, name: &str, bytes: u64) -> Result<(), FileError> {
        (**self).allocate(name, bytes)
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<(), FileError> {
        (**self).read_at(name, offset, buffer)
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), FileError> {
        (**self).write_at(name, offset, bytes)
    }

    fn sync(&mut self, name: &str) -> Result<(), FileError> {
        (**self).sync(name)
    }

    fn sync_dir(&mut self) -> Result<(), FileError> {
        (**self).sync_dir()
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), FileError> {
        (**self).rename(from, to)
    }

    fn remove(&mut self, name: &str) -> Result<(), FileError> {
        (**self).remove(name)
    }
}

/// Why the file system did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileError {
    /// There is no such file.
    NotFound,
    /// There is no room.
    Full,
    /// Anything else, in the system's words.
    Other(String),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => write!(f, "no such file"),
            Self::Full => write!(f, "no room left on the disk"),
            Self::Other(text) => write!(f, "{text}"),
        }
    }
}

impl core::error::Error for FileError {}
