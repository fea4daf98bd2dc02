//! New tables from a snapshot, beside those in use. On a thread that may block.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_core::snapshot::{Part, SnapshotHeader, SnapshotRefusal};
use quorate_core::store::{SliceId, SliceInfo, SliceSum, Store, Value};
use quorate_core::wal::slice;
use tokio::sync::mpsc;

use crate::files::{Directory, OWNER_ONLY, Room, make_directory, sync_directory};
use crate::history;
use crate::recover::load;
use crate::tables::{Tables, TablesError};

/// Where things go.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// The new tables.
    pub(super) tables: PathBuf,
    /// The slices that arrive.
    pub(super) incoming: PathBuf,
    /// The slices of this member.
    pub(super) history: PathBuf,
    pub(super) room: Room,
}

/// A snapshot that has proved itself, and is not in use yet.
pub(super) struct Built {
    pub(super) store: Box<Store>,
    pub(super) tables: Tables,
    /// Its slices that this member did not have.
    pub(super) slices: Vec<String>,
}

/// Why there is none.
#[derive(Debug)]
pub(super) struct BuildError {
    /// What the sender is told.
    pub(super) refusal: SnapshotRefusal,
    pub(super) what: String,
}

impl Places {
    /// Builds the snapshot `header` from its parts, as they come.
    ///
    /// # Errors
    /// The disk, or that what came is not what the header promised. What was written is of no use
    /// then, and gone.
    pub(super) fn build(
        &self,
        header: &SnapshotHeader,
        mut parts: mpsc::Receiver<Part>,
    ) -> Result<Built, BuildError> {
        let built = self.prepare().map_err(disk).and_then(|()| {
            let first = self.write_slices(&mut parts)?;
            let tables = self.write_tables(first, &mut parts)?;
            self.verify(header, tables)
        });
        if built.is_err() {
            self.clear();
        }
        built
    }

    /// Removes what was written.
    pub(super) fn clear(&self) {
        // What stays is removed before the next snapshot, or at the next start.
        let _ = fs::remove_dir_all(&self.tables);
        let _ = fs::remove_dir_all(&self.incoming);
    }

    fn prepare(&self) -> io::Result<()> {
        self.room.check()?;
        for directory in [&self.tables, &self.incoming] {
            match fs::remove_dir_all(directory) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            make_directory(directory)?;
        }
        // Both are beside each other.
        self.tables.parent().map_or(Ok(()), sync_directory)
    }

    /// Writes slices until something else comes, which is returned.
    fn write_slices(&self, parts: &mut mpsc::Receiver<Part>) -> Result<Option<Part>, BuildError> {
        let mut open: Option<(SliceId, File)> = None;
        while let Some(part) = parts.blocking_recv() {
            let Part::Slice { id, bytes, is_last } = part else {
                sync_directory(&self.incoming).map_err(disk)?;
                return Ok(Some(part));
            };
            if open.as_ref().is_none_or(|(of, _)| *of != id) {
                let path = self.incoming.join(slice::file_name(id));
                let mut options = OpenOptions::new();
                let options = options.write(true).create_new(true).mode(OWNER_ONLY);
                open = Some((id, options.open(path).map_err(disk)?));
            }
            let (_, file) = open.as_mut().expect("it was just opened");
            file.write_all(&bytes).map_err(disk)?;
            if is_last {
                file.sync_all().map_err(disk)?;
                open = None;
            }
        }
        Ok(None)
    }

    /// Puts the rows into new tables, in one step.
    fn write_tables(
        &self,
        first: Option<Part>,
        parts: &mut mpsc::Receiver<Part>,
    ) -> Result<Tables, BuildError> {
        let tables = Tables::open(&self.tables)?;
        let mut rows = Rows {
            parts,
            next: first,
            batch: Vec::new().into_iter(),
            is_whole: false,
        };
        tables.ingest(&mut rows)?;
        if rows.is_whole {
            Ok(tables)
        } else {
            Err(damaged("the snapshot broke off"))
        }
    }

    fn verify(&self, header: &SnapshotHeader, tables: Tables) -> Result<Built, BuildError> {
        let store = load(&tables).map_err(damaged)?;
        if (store.applied(), store.hash()) != (header.last, header.hash) {
            return Err(damaged("another state than the header says"));
        }
        let mut slices = Vec::new();
        for info in store.slices() {
            if let Some(name) = self.verify_slice(header, info)? {
                slices.push(name);
            }
        }
        sync_directory(&self.incoming).map_err(disk)?;
        Ok(Built {
            store: Box::new(store),
            tables,
            slices,
        })
    }

    /// Whether the slice is here, and is what the tables say. Its name, if it came with the
    /// snapshot.
    fn verify_slice(
        &self,
        header: &SnapshotHeader,
        info: &Arc<SliceInfo>,
    ) -> Result<Option<String>, BuildError> {
        let name = slice::file_name(info.id);
        let said = header.slices.iter().find(|slice| slice.id == info.id);
        let said = said.ok_or_else(|| damaged(format!("no word of {name}")))?;
        if said.bytes.is_none() {
            let lost = history::lost(&name);
            let made = File::create(self.incoming.join(&lost));
            made.and_then(|file| file.sync_all()).map_err(disk)?;
            return Ok(Some(lost));
        }
        let is_new = self.incoming.join(&name).exists();
        // Where it came although there is one of that name, the new one takes its place.
        let directory: &Path = if is_new {
            &self.incoming
        } else {
            &self.history
        };
        let files = Directory::new(directory.to_owned(), self.room.clone());
        let records = slice::read(&files, info.id);
        let records = records.map_err(|error| damaged(error.to_string()))?;
        let sum = SliceSum::of(records.iter());
        if sum.is_none_or(|sum| !info.adds_up_to(&sum)) {
            return Err(damaged(format!("{name} is not the slice that is listed")));
        }
        Ok(is_new.then_some(name))
    }
}

/// The rows of a snapshot, one by one, as the tables take them.
struct Rows<'a> {
    parts: &'a mut mpsc::Receiver<Part>,
    next: Option<Part>,
    batch: std::vec::IntoIter<(Value, Value)>,
    /// The end has come.
    is_whole: bool,
}

impl Iterator for &mut Rows<'_> {
    type Item = (Vec<u8>, Option<Vec<u8>>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, row)) = self.batch.next() {
                return Some((key.to_vec(), Some(row.to_vec())));
            }
            match self.next.take().or_else(|| self.parts.blocking_recv())? {
                Part::Rows(rows) => self.batch = rows.into_iter(),
                Part::End => {
                    self.is_whole = true;
                    return None;
                }
                Part::Slice { .. } => return None,
            }
        }
    }
}

fn damaged(what: impl Into<String>) -> BuildError {
    BuildError {
        refusal: SnapshotRefusal::Damaged,
        what: what.into(),
    }
}

fn disk(error: impl std::fmt::Display) -> BuildError {
    BuildError {
        refusal: SnapshotRefusal::Disk,
        what: error.to_string(),
    }
}

impl From<TablesError> for BuildError {
    fn from(error: TablesError) -> Self {
        disk(error.what)
    }
}
