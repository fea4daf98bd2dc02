//! The directory of a log, and whether it can still be trusted.

use alloc::string::String;

use super::error::WalError;
use super::files::{FileError, Files};

/// [`Files`] that fail once and for all: after a write or a sync that failed it is unknown what is
/// durable, and a second try may lie (SIMULATION.md D11).
#[derive(Debug)]
pub(super) struct Disk<F> {
    pub(super) files: F,
    failed: bool,
}

impl<F: Files> Disk<F> {
    pub(super) const fn new(files: F) -> Self {
        Self {
            files,
            failed: false,
        }
    }

    /// # Errors
    /// `Failed`: it failed before.
    pub(super) const fn check(&self) -> Result<(), WalError> {
        if self.failed {
            Err(WalError::Failed)
        } else {
            Ok(())
        }
    }

    /// Passes `result` on, and remembers a failure. No room is none: nothing was begun.
    pub(super) fn note<T>(&mut self, result: Result<T, WalError>) -> Result<T, WalError> {
        let failed = result.as_ref().is_err_and(|e| *e != WalError::Full);
        self.failed |= failed;
        result
    }

    pub(super) fn allocate(&mut self, name: &str, bytes: u64) -> Result<(), WalError> {
        match self.files.allocate(name, bytes) {
            Err(FileError::Full) => Err(WalError::Full),
            result => self.finish(name, result),
        }
    }

    /// Writes into what was allocated: here no room is a failure too.
    pub(super) fn write(&mut self, name: &str, at: u64, bytes: &[u8]) -> Result<(), WalError> {
        let result = self.files.write_at(name, at, bytes);
        self.finish(name, result)
    }

    pub(super) fn sync(&mut self, name: &str) -> Result<(), WalError> {
        let result = self.files.sync(name);
        self.finish(name, result)
    }

    pub(super) fn sync_dir(&mut self) -> Result<(), WalError> {
        let result = self.files.sync_dir();
        self.finish("", result)
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> Result<(), WalError> {
        let result = self.files.rename(from, to);
        self.finish(from, result)
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&mut self, name: &str) -> Result<(), WalError> {
        match self.files.remove(name) {
            Err(FileError::NotFound) => Ok(()),
            result => self.finish(name, result),
        }
    }

    fn finish(&mut self, name: &str, result: Result<(), FileError>) -> Result<(), WalError> {
        let file = String::from(name);
        self.note(result.map_err(|error| WalError::File { file, error }))
    }
}
