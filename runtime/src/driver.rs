//! The loop that owns the replica: inbox in, outputs out, nothing decided.

use std::sync::Arc;

use quorate_core::store::{Changes, Command, Filter, Header, Query, Response, SliceId};
use quorate_core::{
    BirthRecord, Duration, Input, Instant, NodeId, Output, Replica, RequestError, Revision, WatchId,
};
use tokio::sync::oneshot;
use tracing::{debug, error, warn};

use crate::callers::Callers;
use crate::checkpoint::CheckpointMail;
use crate::clock::Clock;
use crate::config::Options;
use crate::error::Fatal;
use crate::inbox::Inbox;
use crate::metrics::Metrics;
use crate::streams::Streams;
use crate::view::View;
use crate::wal::LogMail;
use crate::watcher::{WatchEnd, Watcher};

/// Outputs handled before the inbox is looked at again: a long list of lagging watchers does not
/// keep a write waiting.
const OUTPUTS_PER_ROUND: usize = 1024;

/// How long a member may take to stop. What is missing then is the last checkpoint, and the log has
/// what it would have held.
const STOP_MAX: Duration = Duration::from_secs(120);

/// What the driver and all handles have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) inbox: Inbox<Mail>,
    pub(crate) id: NodeId,
    pub(crate) birth: BirthRecord,
    pub(crate) metrics: Metrics,
    pub(crate) watch_credit: u32,
}

/// The answer to a request.
pub(crate) type Reply = oneshot::Sender<Result<Response, RequestError>>;

/// What a watch begins with, or how it ended before that.
pub(crate) type Started = oneshot::Sender<Result<(Header, Watcher), WatchEnd>>;

/// What can come to the driver.
pub(crate) enum Mail {
    /// From a client.
    Propose { command: Command, reply: Reply },
    /// From a client.
    Read { query: Query, reply: Reply },
    /// From a client.
    Watch {
        filter: Filter,
        since: Option<Revision>,
        credit: u32,
        started: Started,
    },
    /// A watcher has read on.
    Credit { watch: WatchId, events: u32 },
    /// A watcher is gone.
    Unwatch { watch: WatchId },
    /// Somebody wants to see the member as it is.
    View { reply: oneshot::Sender<View> },
    /// An operator asks the leader to hand over.
    Transfer { to: NodeId },
    /// From another thread of this member, already in core's words.
    Input(Input),
    /// Another thread of this member is dead.
    Fatal(Fatal),
    /// Finish and end.
    Shutdown,
}

/// The threads the driver hands work to.
#[derive(Clone)]
pub(crate) struct Workers {
    pub(crate) log: Arc<Inbox<LogMail>>,
    pub(crate) checkpoints: Arc<Inbox<CheckpointMail>>,
    pub(crate) history: Arc<Inbox<SliceId>>,
}

/// A worker that takes nothing more is dead; its last words are in the driver's inbox.
impl Workers {
    fn write(&self, mail: LogMail) {
        let _ = self.log.send(mail);
    }

    fn checkpoint(&self, changes: Changes) {
        let mail = CheckpointMail::Write(Box::new(changes));
        let _ = self.checkpoints.send(mail);
    }

    fn read(&self, slice: SliceId) {
        let _ = self.history.send(slice);
    }
}

/// Owns the replica. Lives on a thread of its own: an answer then takes one wake-up each at the
/// driver, the log and the driver again, whatever the async threads are busy with.
pub(crate) struct Driver {
    replica: Replica,
    clock: Clock,
    shared: Arc<Shared>,
    workers: Workers,
    callers: Callers,
    streams: Streams,
    /// When the checkpoint in flight began, and when somebody is told that it takes long.
    checkpoint: Option<(Instant, Instant)>,
    checkpoint_patience: Duration,
    leader: Option<NodeId>,
    /// When it was asked to stop: since then core finishes what is begun.
    stop: Option<Instant>,
}

impl Driver {
    pub(crate) fn new(
        replica: Replica,
        clock: Clock,
        shared: Arc<Shared>,
        workers: Workers,
        options: &Options,
    ) -> Self {
        Self {
            replica,
            clock,
            callers: Callers::new(options.request_timeout),
            streams: Streams::new(Arc::clone(&shared)),
            shared,
            workers,
            checkpoint: None,
            checkpoint_patience: options.checkpoint_patience,
            leader: None,
            stop: None,
        }
    }

    /// Runs until the replica has shut down.
    ///
    /// # Errors
    /// What stopped it before. The replica is dropped then: what it has not said it never says.
    pub(crate) fn run(mut self) -> Result<(), Fatal> {
        let mut batch = Vec::new();
        let mut more = true;
        loop {
            let until = if more {
                Some(self.clock.now())
            } else {
                self.deadline()
            };
            let until = until.and_then(|at| self.clock.moment(at));
            self.shared.inbox.receive(&mut batch, until);

            let now = self.clock.now();
            for mail in batch.drain(..) {
                self.take(now, mail)?;
            }
            if self.replica.deadline().is_some_and(|at| at <= now) {
                self.replica.step(now, Input::Deadline);
            }
            more = self.handle_outputs(now);
            for request in self.callers.time_out(now) {
                self.replica.step(now, Input::Cancel { request });
            }
            self.watch_checkpoint(now);
            self.shared.metrics.paused(self.clock.now().since(now));
            if self.is_over(now)? {
                return Ok(());
            }
        }
    }

    /// When to go on though nothing arrives.
    fn deadline(&self) -> Option<Instant> {
        let checkpoint = self.checkpoint.map(|(_, complain)| complain);
        let stop = self.stop.map(|since| since + STOP_MAX);
        let replica = self.replica.deadline();
        [replica, self.callers.deadline(), checkpoint, stop]
            .into_iter()
            .flatten()
            .min()
    }

    fn take(&mut self, now: Instant, mail: Mail) -> Result<(), Fatal> {
        let input = match mail {
            Mail::Propose { command, reply } => Input::Propose {
                request: self.callers.add(now, reply),
                command,
            },
            Mail::Read { query, reply } => Input::Read {
                request: self.callers.add(now, reply),
                query,
            },
            Mail::Watch {
                filter,
                since,
                credit,
                started,
            } => {
                self.shared.metrics.store.watch_requests.inc();
                Input::Watch {
                    watch: self.streams.add(credit, started),
                    filter,
                    since,
                    credit,
                }
            }
            Mail::Credit { watch, events } => Input::Credit { watch, events },
            Mail::Unwatch { watch } => {
                self.streams.remove(watch);
                Input::Unwatch { watch }
            }
            Mail::View { reply } => {
                let _ = reply.send(self.view());
                return Ok(());
            }
            Mail::Transfer { to } => Input::Transfer { to },
            Mail::Input(input) => {
                let over = matches!(
                    input,
                    Input::Checkpointed { .. } | Input::CheckpointFailed { .. }
                );
                self.checkpoint = self.checkpoint.filter(|_| !over);
                input
            }
            Mail::Fatal(fatal) => return Err(fatal),
            Mail::Shutdown => {
                self.stop.get_or_insert(now);
                Input::Shutdown
            }
        };
        self.replica.step(now, input);
        Ok(())
    }

    /// Whether there may be more to do at once.
    fn handle_outputs(&mut self, now: Instant) -> bool {
        for _ in 0..OUTPUTS_PER_ROUND {
            let Some(output) = self.replica.poll(now) else {
                return false;
            };
            self.handle(now, output);
        }
        true
    }

    fn handle(&mut self, now: Instant, output: Output) {
        match output {
            Output::Persist(write) => self.workers.write(LogMail::Write(write)),
            Output::TrimLog { below } => self.workers.write(LogMail::Trim(below)),
            Output::Checkpoint(changes) => {
                assert!(self.checkpoint.is_none(), "two checkpoints in flight");
                self.checkpoint = Some((now, now + self.checkpoint_patience));
                self.workers.checkpoint(changes);
            }
            Output::ReadHistory { slice } => self.workers.read(slice),
            Output::Reply { request, result } => {
                if matches!(&result, Err(error) if !matches!(error, RequestError::Store { .. })) {
                    self.shared.metrics.raft.failed.inc();
                }
                self.callers.answer(request, result);
            }
            Output::Watching { watch, header } => self.streams.begin(watch, header),
            Output::Notify { watches, event } => self.streams.notify(&watches, event),
            Output::WatchEnd {
                watch,
                reason,
                resume,
                header,
            } => {
                let end = WatchEnd {
                    reason,
                    resume,
                    header,
                };
                self.streams.end(watch, end);
            }
            // There is no transport yet: a single member talks to nobody. A message may be lost.
            Output::Send { to, message } => debug!(%to, ?message, "no transport"),
            Output::Fault { peer, fault } => warn!(%peer, ?fault, "a peer broke the rules"),
        }
    }

    fn view(&mut self) -> View {
        let view = View::of(&self.replica);
        let metrics = &self.shared.metrics.raft;
        if view.status.leader != self.leader && view.status.leader.is_some() {
            metrics.leader_changes.inc();
            self.leader = view.status.leader;
        }
        metrics.show(&view.status, self.shared.inbox.len());
        let watchers = self.streams.len();
        self.shared.metrics.store.show(&view.stats, watchers);
        view
    }

    /// A stuck checkpoint cannot be helped, only told: the log grows meanwhile.
    fn watch_checkpoint(&mut self, now: Instant) {
        if let Some((since, complain)) = self.checkpoint
            && complain <= now
        {
            let seconds = now.since(since).as_secs();
            error!(
                seconds,
                "the checkpoint in flight does not end: is the disk well?"
            );
            self.checkpoint = Some((since, now + self.checkpoint_patience));
        }
    }

    /// Whether everything that was begun is done.
    fn is_over(&self, now: Instant) -> Result<bool, Fatal> {
        let Some(since) = self.stop else {
            return Ok(false);
        };
        let seconds = now.since(since).as_secs();
        if self.replica.is_finished() {
            Ok(true)
        } else if now.since(since) < STOP_MAX {
            Ok(false)
        } else {
            Err(Fatal::Stuck { seconds })
        }
    }
}
