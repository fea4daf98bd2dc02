//! The thread that puts checkpoints into the table store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use quorate_core::Input;
use quorate_core::store::Changes;
use quorate_core::wal::WalError;
use tracing::{debug, error, warn};

use crate::driver::{Mail, Shared};
use crate::error::Fatal;
use crate::files::{Directory, Room};
use crate::history;
use crate::inbox::Inbox;
use crate::metrics::gauge;
use crate::tables::{Tables, TablesError};
use crate::wal::LogMail;

/// What the checkpoint thread is asked to do.
#[derive(Debug)]
pub(crate) enum CheckpointMail {
    /// Put these into the tables.
    Write(Box<Changes>),
}

/// Owns the table store.
pub(crate) struct Checkpoints {
    /// `None` after it could not be opened anew: tried again with the next checkpoint.
    tables: Option<Tables>,
    directory: PathBuf,
    history: Directory,
    room: Room,
    inbox: Arc<Inbox<CheckpointMail>>,
    log: Arc<Inbox<LogMail>>,
    driver: Arc<Shared>,
}

/// Why there is no checkpoint.
#[derive(Debug)]
struct Failure {
    full: bool,
    what: String,
}

impl Checkpoints {
    pub(crate) fn new(
        tables: Tables,
        directory: PathBuf,
        history: Directory,
        room: Room,
        inbox: Arc<Inbox<CheckpointMail>>,
        log: Arc<Inbox<LogMail>>,
        driver: Arc<Shared>,
    ) -> Self {
        Self {
            tables: Some(tables),
            directory,
            history,
            room,
            inbox,
            log,
            driver,
        }
    }

    /// Runs until the inbox is closed and everything in it is done. No failure here is fatal: the
    /// log has it all.
    pub(crate) fn run(mut self) -> Result<(), Fatal> {
        let mut batch = Vec::new();
        while self.inbox.receive(&mut batch, None) {
            for CheckpointMail::Write(changes) in batch.drain(..) {
                let input = match self.write(&changes) {
                    Ok(()) => Input::Checkpointed {
                        applied: changes.applied,
                    },
                    Err(failure) => {
                        self.recover(&failure);
                        Input::CheckpointFailed { changes: *changes }
                    }
                };
                let _ = self.driver.inbox.send(Mail::Input(input));
            }
        }
        Ok(())
    }

    /// Slices first, durably; then the rows that list them, in one step; then what they no longer
    /// list goes.
    fn write(&mut self, changes: &Changes) -> Result<(), Failure> {
        let begun = Instant::now();
        self.room.check().map_err(|error| Failure {
            full: true,
            what: error.to_string(),
        })?;
        let metrics = &self.driver.metrics.checkpoint;
        for closed in &changes.closed {
            metrics
                .slice_bytes
                .inc_by(history::write(&mut self.history, closed)?);
        }
        let tables = match self.tables.take() {
            Some(tables) => tables,
            None => Tables::open(&self.directory)?,
        };
        // Kept also after an error: it is opened anew then, which wants the old one closed.
        let tables = self.tables.insert(tables);
        let bytes = tables.ingest(changes.encode())?;
        history::remove_others(&mut self.history, &changes.slices)?;

        let took = begun.elapsed();
        metrics.count(bytes, took);
        metrics.table_bytes.set(gauge(tables.bytes()));
        metrics.level0.set(gauge(tables.level0()));
        metrics.compactions.set(gauge(tables.compactions()));
        debug!(applied = %changes.applied, bytes, ?took, "checkpoint");
        if tables.is_choked() {
            warn!(
                level0 = tables.level0(),
                "compaction is behind: the tables are opened anew"
            );
            self.reopen();
        }
        Ok(())
    }

    /// After any error the handle is done for: its compaction never runs again.
    fn recover(&mut self, failure: &Failure) {
        error!(
            what = failure.what,
            "a checkpoint failed; the log keeps what it would have held"
        );
        self.driver.metrics.checkpoint.failed.inc();
        if failure.full {
            let _ = self.log.send(LogMail::NoRoom);
        }
        self.reopen();
    }

    fn reopen(&mut self) {
        self.driver.metrics.checkpoint.reopened.inc();
        let Some(tables) = self.tables.take() else {
            return;
        };
        match tables.reopen() {
            Ok(tables) => self.tables = Some(tables),
            Err(error) => error!(what = error.what, "the tables do not open"),
        }
    }
}

impl From<TablesError> for Failure {
    fn from(error: TablesError) -> Self {
        Self {
            full: error.full,
            what: error.what,
        }
    }
}

impl From<WalError> for Failure {
    fn from(error: WalError) -> Self {
        Self {
            full: error == WalError::Full,
            what: error.to_string(),
        }
    }
}
