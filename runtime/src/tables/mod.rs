//! The table store: fjall, used only in the ways that were measured to be safe (DEPENDENCIES.md).
//!
//! Invariants: one keyspace, made when the directory is formatted and never dropped; written only
//! by ingestion, so the journal and the memtables stay empty; opened at a start only after
//! [`verify`](verify::verify); any error is final for the handle, which is then opened anew. That
//! takes no other look at the files: the member has in memory what they should hold, and its next
//! start looks.

mod verify;
mod writeback;

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fjall::compaction::Leveled;
use fjall::config::{FilterPolicy, FilterPolicyEntry, PinningPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, Readable, Slice, Snapshot};
pub(crate) use verify::verify;
use writeback::Writeback;

/// The one keyspace.
const STATE: &str = "state";
/// Target size of a table. The default of 64 MiB rewrote four times as much (measured).
const TABLE_BYTES: u64 = 8 << 20;
/// Tables in level 0 above which compaction is taken to be dead and the store is opened anew. It
/// must stay below 256: the manifest counts runs in one byte.
const LEVEL0_MAX: usize = 64;
const _: () = assert!(LEVEL0_MAX < 128);
/// The longest key: its length is stored in two bytes, unchecked. Whoever takes requests refuses
/// longer ones.
const KEY_BYTES_MAX: usize = 65_535;

/// An open table store. Blocks: never for an async thread.
pub(crate) struct Tables {
    directory: PathBuf,
    state: Keyspace,
    /// Runs compactions as long as it is there.
    database: Database,
}

/// What the store said. Final for this handle.
#[derive(Debug)]
pub(crate) struct TablesError {
    /// The disk is full.
    pub(crate) full: bool,
    /// In the store's words.
    pub(crate) what: String,
}

/// A row to write; without a value, to remove.
pub(crate) type Change = (Vec<u8>, Option<Vec<u8>>);

impl Tables {
    /// Makes an empty store in `directory`, or opens the one there. The caller has verified it.
    pub(crate) fn open(directory: &Path) -> Result<Self, TablesError> {
        let database = Database::builder(directory)
            // With two, one re-queues compactions in a loop while the other works (measured).
            .worker_threads(1)
            // Read once at start and by compactions: a cache would hold what is never read again.
            .cache_size(1 << 20)
            .open()?;
        let state = database.keyspace(STATE, options)?;
        Ok(Self {
            directory: directory.to_owned(),
            state,
            database,
        })
    }

    /// Closes and opens the store: after an error its compaction never runs again.
    pub(crate) fn reopen(self) -> Result<Self, TablesError> {
        let directory = self.directory.clone();
        drop(self);
        Self::open(&directory)
    }

    /// Writes `changes`, which ascend by key, atomically and durably. Says how many bytes of keys
    /// and values that were.
    pub(crate) fn ingest(
        &self,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<u64, TablesError> {
        let mut ingestion = self.state.start_ingestion()?;
        let mut writeback = Writeback::new(self.state.path());
        let mut bytes = 0;
        for (key, value) in changes {
            // The store would cut the length off, and the next start find other rows than these.
            if key.len() > KEY_BYTES_MAX {
                return Err(TablesError {
                    full: false,
                    what: format!("a key of {} bytes does not fit the tables", key.len()),
                });
            }
            let row = key.len() + value.as_ref().map_or(0, Vec::len);
            match value {
                Some(value) => ingestion.write(key, value)?,
                None => ingestion.write_tombstone(key)?,
            }
            bytes += row;
            writeback.wrote(row).map_err(fjall::Error::from)?;
        }
        ingestion.finish()?;
        Ok(bytes as u64)
    }

    /// All rows, ascending by key.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Result<(Slice, Slice), TablesError>> {
        self.state
            .iter()
            .map(|row| row.into_inner().map_err(TablesError::from))
    }

    /// What is in the store now, whatever is ingested later. Held for long it keeps the room of
    /// what was replaced since.
    pub(crate) fn view(&self) -> View {
        View {
            snapshot: self.database.snapshot(),
            state: self.state.clone(),
        }
    }

    /// Whether compaction has fallen so far behind that it must be dead.
    pub(crate) fn is_choked(&self) -> bool {
        self.level0() > LEVEL0_MAX
    }

    /// Tables that no compaction has touched yet.
    pub(crate) fn level0(&self) -> usize {
        self.state.l0_table_count()
    }

    /// Bytes of the tables.
    pub(crate) fn bytes(&self) -> u64 {
        self.state.disk_space()
    }

    /// Compactions that ended since the store was opened.
    pub(crate) fn compactions(&self) -> usize {
        self.database.compactions_completed()
    }
}

/// The store at one moment. Blocks, too.
pub(crate) struct View {
    snapshot: Snapshot,
    state: Keyspace,
}

/// Rows of a [`View`], ascending by key.
pub(crate) type ViewRows = Box<dyn Iterator<Item = Result<(Slice, Slice), TablesError>> + Send>;

impl View {
    /// The rows after this key, or all.
    pub(crate) fn rows_after(&self, after: Option<&[u8]>) -> ViewRows {
        let rows = match after {
            Some(key) => {
                let range = (Bound::Excluded(key), Bound::Unbounded);
                self.snapshot.range::<&[u8], _>(&self.state, range)
            }
            None => self.snapshot.iter(&self.state),
        };
        Box::new(rows.map(|row| row.into_inner().map_err(TablesError::from)))
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "View({})", self.snapshot.seqno())
    }
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tables({})", self.directory.display())
    }
}

impl From<fjall::Error> for TablesError {
    fn from(error: fjall::Error) -> Self {
        Self {
            full: is_full(&error),
            what: error.to_string(),
        }
    }
}

/// Follows the causes down to the system's answer.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && error.kind() == std::io::ErrorKind::StorageFull
        {
            return true;
        }
        cause = error.source();
    }
    false
}

fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .compaction_strategy(Arc::new(
            Leveled::default().with_table_target_size(TABLE_BYTES),
        ))
        // Only ever scanned: filters and pinned blocks would be memory without a reader.
        .filter_policy(FilterPolicy::all(FilterPolicyEntry::None))
        .filter_block_pinning_policy(PinningPolicy::all(false))
        .index_block_pinning_policy(PinningPolicy::all(false))
        .expect_point_read_hits(true)
}

#[cfg(test)]
mod tests;
