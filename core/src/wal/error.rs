//! Why there is no log to write to, or no file to trust.

use alloc::string::String;
use core::fmt;

use super::files::FileError;

/// Why the log, a slice or a small file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalError {
    /// There is no room for another segment. Nothing of the write is on disk, the log is as it was:
    /// the driver says so to the replica and tries again when there is room.
    Full,
    /// The file system failed. After a write or a sync nothing may be tried again: the driver drops
    /// the replica (SIMULATION.md D11).
    File {
        /// Which file; empty for the directory itself.
        file: String,
        /// How.
        error: FileError,
    },
    /// The file system failed before: this log is over.
    Failed,
    /// A file that must be there is not. The operator puts it back, or replaces the member.
    Missing {
        /// Which file.
        file: String,
    },
    /// A file is not as it was written, and what it said cannot be told from the rest. The operator
    /// puts it back, or replaces the member.
    Damaged {
        /// Which file.
        file: String,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// Another version of the program wrote the file. The operator starts that one.
    Version {
        /// Which file.
        file: String,
        /// Which version.
        found: u16,
    },
    /// There is a log already: it must be recovered, not created.
    Exists,
}

impl WalError {
    /// What failed on `file`, as it looks to someone who reads or allocates: no room is no failure.
    pub(super) fn of(file: &str, error: FileError) -> Self {
        match error {
            FileError::Full => Self::Full,
            FileError::NotFound => Self::Missing { file: file.into() },
            FileError::Other(_) => Self::File {
                file: file.into(),
                error,
            },
        }
    }

    pub(super) fn damaged(file: &str, offset: u64, what: &'static str) -> Self {
        Self::Damaged {
            file: file.into(),
            offset,
            what,
        }
    }
}

impl fmt::Display for WalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(f, "no room left on the disk for the log"),
            Self::File { file, error } if file.is_empty() => write!(f, "directory: {error}"),
            Self::File { file, error } => write!(f, "{file}: {error}"),
            Self::Failed => write!(f, "the log failed before"),
            Self::Missing { file } => write!(f, "{file}: is missing"),
            Self::Damaged { file, offset, what } => {
                write!(f, "{file}: damaged at byte {offset}: {what}")
            }
            Self::Version { file, found } => write!(f, "{file}: has unknown version {found}"),
            Self::Exists => write!(f, "there is a log already"),
        }
    }
}

impl core::error::Error for WalError {}
