//! The thread that puts checkpoints into the table store.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use quorate_core::store::Changes;
use quorate_core::wal::WalError;
use quorate_core::{Input, LogId, NodeId};
use tracing::{debug, error, warn};

use crate::driver::{Mail, Shared};
use crate::error::Fatal;
use crate::files::{Directory, Room};
use crate::history;
use crate::inbox::Inbox;
use crate::metrics::gauge;
use crate::snapshot::{Incoming, Installed, Source, Summary};
use crate::tables::{Tables, TablesError};
use crate::wal::LogMail;

/// What the checkpoint thread is asked to do.
#[derive(Debug)]
pub(crate) enum CheckpointMail {
    /// Put these into the tables.
    Write(Box<Changes>),
    /// Hold the last checkpoint still, to be sent to this member.
    Hold(NodeId),
    /// A snapshot was installed: these are the tables now.
    Replace(Box<Installed>),
    /// A snapshot that was received, as of this entry, is of no use.
    Discard(LogId),
}

/// Owns the table store.
pub(crate) struct Checkpoints {
    /// `None` after it could not be opened anew: tried again with the next checkpoint.
    tables: Option<Tables>,
    directory: PathBuf,
    /// What is in the tables.
    summary: Summary,
    history: Directory,
    room: Room,
    incoming: Arc<Incoming>,
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
        summary: Summary,
        history: Directory,
        room: Room,
        incoming: Arc<Incoming>,
        inbox: Arc<Inbox<CheckpointMail>>,
        log: Arc<Inbox<LogMail>>,
        driver: Arc<Shared>,
    ) -> Self {
        Self {
            tables: Some(tables),
            directory,
            summary,
            history,
            room,
            incoming,
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
            for mail in batch.drain(..) {
                match mail {
                    CheckpointMail::Write(changes) => self.checkpoint(*changes),
                    CheckpointMail::Hold(to) => {
                        let source = self.hold();
                        let _ = self.driver.inbox.send(Mail::Held { to, source });
                    }
                    CheckpointMail::Replace(installed) => self.replace(*installed),
                    CheckpointMail::Discard(last) => self.incoming.discard(last),
                }
            }
        }
        Ok(())
    }

    fn checkpoint(&mut self, changes: Changes) {
        let input = match self.write(&changes) {
            Ok(()) => {
                self.summary = Summary::from(&changes);
                Input::Checkpointed {
                    applied: changes.applied,
                }
            }
            Err(failure) => {
                self.recover(&failure);
                Input::CheckpointFailed { changes }
            }
        };
        let _ = self.driver.inbox.send(Mail::Input(input));
    }

    /// The last checkpoint, as it is now.
    fn hold(&self) -> Result<Source, String> {
        let tables = self.tables.as_ref().ok_or("the tables are closed")?;
        if self.summary.last() == LogId::ZERO {
            return Err("there is no checkpoint yet".to_owned());
        }
        Source::open(&self.summary, tables.view(), &self.history)
    }

    /// The tables of a snapshot take the place of those before, which are removed.
    fn replace(&mut self, installed: Installed) {
        let Installed {
            tables,
            directory,
            summary,
            superseded,
        } = installed;
        // Closes those before.
        self.tables = Some(tables);
        self.directory = directory;
        self.summary = summary;
        if let Err(error) = fs::remove_dir_all(&superseded) {
            // The next start removes them.
            warn!(path = %superseded.display(), %error, "old tables stay for now");
        }
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
