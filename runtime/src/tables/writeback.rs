//! Large tables reach the disk in steps.
//!
//! The store syncs a table once, when it is whole. What other files of this disk want written
//! meanwhile, the log above all, would wait behind all of it.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// So much of a table waits to be written at most, about.
const STEP_BYTES: usize = 2 << 20;

/// Syncs the table that is being written after every [`STEP_BYTES`].
pub(super) struct Writeback {
    /// Where the tables are.
    tables: PathBuf,
    /// Bytes since the last step.
    waiting: usize,
}

impl Writeback {
    /// For the keyspace in `directory`.
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            tables: directory.join("tables"),
            waiting: 0,
        }
    }

    /// Takes note of so many bytes more.
    ///
    /// # Errors
    /// The sync.
    pub(super) fn wrote(&mut self, bytes: usize) -> io::Result<()> {
        self.waiting += bytes;
        if self.waiting < STEP_BYTES {
            return Ok(());
        }
        self.waiting = 0;
        match newest(&self.tables)? {
            // The store removes tables that a compaction has replaced.
            Some(path) => match File::open(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                opened => opened?.sync_data(),
            },
            None => Ok(()),
        }
    }
}

/// The table that was begun last: names are numbers, and grow.
fn newest(tables: &Path) -> io::Result<Option<PathBuf>> {
    let mut last = None;
    for entry in fs::read_dir(tables)? {
        let name = entry?.file_name();
        let number: Option<u64> = name.to_str().and_then(|name| name.parse().ok());
        last = last.max(number);
    }
    Ok(last.map(|number| tables.join(number.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn the_newest_table_has_the_greatest_number() {
        let scratch = Scratch::new();
        assert_eq!(newest(scratch.path()).expect("a directory"), None);
        for name in ["9", "10", "tmp", "a9"] {
            fs::write(scratch.path().join(name), b"").expect("written");
        }
        let path = newest(scratch.path()).expect("a directory");
        assert_eq!(path, Some(scratch.path().join("10")));
    }
}
