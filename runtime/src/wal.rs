//! The thread that writes the log: one batch, one sync at a time; what arrives meanwhile is the
//! next.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_core::wal::{Wal, WalError};
use quorate_core::{Index, Input, LogId, Write};
use tracing::{error, info, warn};

use crate::checkpoint::CheckpointMail;
use crate::driver::{Mail, Shared};
use crate::error::Fatal;
use crate::files::Directory;
use crate::inbox::Inbox;
use crate::metrics::gauge;
use crate::reserve::Reserve;
use crate::snapshot::Incoming;

/// How often a full disk is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// What the log thread is asked to do.
#[derive(Debug)]
pub(crate) enum LogMail {
    /// Make this durable.
    Write(Write),
    /// What is below is no longer needed.
    Trim(Index),
    /// The checkpoint thread met a full disk.
    NoRoom,
}

/// Owns the log.
pub(crate) struct Writer {
    log: Wal<Directory>,
    inbox: Arc<Inbox<LogMail>>,
    driver: Arc<Shared>,
    reserve: Reserve,
    incoming: Arc<Incoming>,
    checkpoints: Arc<Inbox<CheckpointMail>>,
    /// The snapshot that was last switched to: a write that installs it may be tried again.
    installed: Option<LogId>,
    /// Writes not on disk: more than one batch only while the disk is full.
    waiting: Vec<Write>,
    /// The replica was told that there is no room.
    full: bool,
}

impl Writer {
    pub(crate) fn new(
        log: Wal<Directory>,
        inbox: Arc<Inbox<LogMail>>,
        driver: Arc<Shared>,
        reserve: Reserve,
        incoming: Arc<Incoming>,
        checkpoints: Arc<Inbox<CheckpointMail>>,
    ) -> Self {
        Self {
            log,
            inbox,
            driver,
            reserve,
            incoming,
            checkpoints,
            installed: None,
            waiting: Vec::new(),
            full: false,
        }
    }

    /// Runs until the inbox is closed and everything in it is done.
    ///
    /// # Errors
    /// The disk failed a write or a sync: nothing more may be written or acknowledged.
    pub(crate) fn run(mut self) -> Result<(), Fatal> {
        if let Err(error) = self.reserve.hold() {
            warn!(%error, "no room for the reserve");
            self.declare_full();
        }
        let mut batch = Vec::new();
        while self.receive(&mut batch) {
            let mut trim = None;
            for mail in batch.drain(..) {
                match mail {
                    LogMail::Write(write) => self.waiting.push(write),
                    LogMail::Trim(below) => trim = trim.max(Some(below)),
                    LogMail::NoRoom => self.declare_full(),
                }
            }
            // First, since it may make the room that the writes need.
            if let Some(below) = trim {
                self.trim(below)?;
            }
            self.write()?;
            self.heal()?;
        }
        Ok(())
    }

    fn receive(&self, batch: &mut Vec<LogMail>) -> bool {
        let until = self.full.then(|| Instant::now() + RETRY);
        self.inbox.receive(batch, until)
    }

    fn write(&mut self) -> Result<(), Fatal> {
        let Some(last) = self.waiting.last() else {
            return Ok(());
        };
        let through = last.seq;
        let begun = Instant::now();
        let mut outcome = self.append()?;
        if outcome == Err(WalError::Full) && !self.full {
            // The room in reserve is for this batch; the next one is refused by core.
            self.declare_full();
            outcome = self.append()?;
        }
        match outcome {
            Ok(()) => {
                self.count(begun.elapsed());
                self.waiting.clear();
                self.tell(Input::Persisted { through });
                self.prepare()
            }
            Err(WalError::Full) => Ok(()),
            Err(error) => Err(fatal(&error)),
        }
    }

    /// Writes what waits. A snapshot becomes the state of this member before the log is told.
    fn append(&mut self) -> Result<Result<(), WalError>, Fatal> {
        let last = self.waiting.iter().find_map(|write| write.install);
        if let Some(last) = last
            && self.installed != Some(last)
        {
            match self.incoming.install(last) {
                Ok(installed) => {
                    let mail = CheckpointMail::Replace(Box::new(installed));
                    let _ = self.checkpoints.send(mail);
                    self.installed = Some(last);
                }
                Err(error) if error.is_full() => return Ok(Err(WalError::Full)),
                Err(error) => return Err(Fatal::Log(error.to_string())),
            }
        }
        Ok(self.log.append_all(&self.waiting))
    }

    /// Has the next segment stand ready, now that nobody waits: so a full disk strikes here.
    fn prepare(&mut self) -> Result<(), Fatal> {
        match self.log.prepare() {
            Ok(()) => Ok(()),
            Err(WalError::Full) => {
                self.declare_full();
                Ok(())
            }
            Err(error) => Err(fatal(&error)),
        }
    }

    fn trim(&mut self, below: Index) -> Result<(), Fatal> {
        match self.log.trim(below) {
            // Without room for a new list of segments they stay: the next trim tries again.
            Ok(()) | Err(WalError::Full) => Ok(()),
            Err(error) => Err(fatal(&error)),
        }
    }

    fn declare_full(&mut self) {
        if !mem::replace(&mut self.full, true) {
            error!("the disk is full: writes are refused, reads go on");
            self.reserve.release();
            self.driver.metrics.log.full.set(1);
            self.tell(Input::DiskFull(true));
        }
    }

    /// There is room again once nothing waits, a segment stands ready and the reserve is back.
    fn heal(&mut self) -> Result<(), Fatal> {
        if !self.full || !self.waiting.is_empty() {
            return Ok(());
        }
        match self.log.prepare() {
            Ok(()) if self.reserve.hold().is_ok() => {
                info!("there is room on the disk again");
                self.full = false;
                self.driver.metrics.log.full.set(0);
                self.tell(Input::DiskFull(false));
                Ok(())
            }
            Ok(()) | Err(WalError::Full) => Ok(()),
            Err(error) => Err(fatal(&error)),
        }
    }

    fn tell(&self, input: Input) {
        // A driver that is gone has no use for it.
        let _ = self.driver.inbox.send(Mail::Input(input));
    }

    fn count(&self, took: Duration) {
        let metrics = &self.driver.metrics.log;
        metrics.disk_bytes.set(gauge(self.log.disk_bytes()));
        metrics.sync_seconds.observe(took.as_secs_f64());
        let entries: usize = self.waiting.iter().map(|write| write.entries.len()).sum();
        metrics
            .batch_entries
            .observe(f64::from(u32::try_from(entries).unwrap_or(u32::MAX)));
    }
}

fn fatal(error: &WalError) -> Fatal {
    Fatal::Log(error.to_string())
}
