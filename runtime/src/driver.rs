//! The loop that owns the replica: inbox in, outputs out, nothing decided.

use std::sync::Arc;

use quorate_core::store::{Changes, Command, Filter, Header, Query, SliceId};
use quorate_core::{
    BirthRecord, Duration, Input, Instant, LogId, NodeId, Output, PeerFault, Replica, RequestError,
    Revision, WatchId,
};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::birth::Peers;
use crate::callers::{Callers, Reply};
use crate::checkpoint::CheckpointMail;
use crate::clock::Clock;
use crate::config::Options;
use crate::error::Fatal;
use crate::inbox::Inbox;
use crate::metrics::Metrics;
use crate::snapshot::{Snapshots, Source};
use crate::streams::Streams;
use crate::traffic::Traffic;
use crate::transport::{Arrival, Transport};
use crate::view::View;
use crate::wal::LogMail;
use crate::watcher::{WatchEnd, Watcher};

/// Outputs handled before the inbox is looked at again: a long list of lagging watchers does not
/// keep a write waiting.
const OUTPUTS_PER_ROUND: usize = 1024;

/// How long a member may take to stop. What is missing then is the last checkpoint, and the log has
/// what it would have held.
const STOP_MAX: Duration = Duration::from_secs(120);

/// After a complaint about peers, so long nothing more is said about them: a hostile one could fill
/// the log of this process otherwise.
const FAULT_PAUSE: Duration = Duration::from_secs(10);

/// What the driver and all handles have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) inbox: Arc<Inbox<Mail>>,
    pub(crate) id: NodeId,
    pub(crate) birth: BirthRecord,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) watch_credit: u32,
}

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
    /// From the transport.
    Arrival(Arrival),
    /// The checkpoint to be sent to this member, or why there is none.
    Held {
        to: NodeId,
        source: Result<Source, String>,
    },
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

    fn hold(&self, to: NodeId) {
        let _ = self.checkpoints.send(CheckpointMail::Hold(to));
    }

    fn discard(&self, last: LogId) {
        let _ = self.checkpoints.send(CheckpointMail::Discard(last));
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
    peers: Peers,
    snapshots: Snapshots,
    traffic: Traffic,
    /// When the next fault of a peer is told, and how many were not.
    faults: (Instant, u64),
    /// Who leads, and since when that is known.
    leader: (Option<NodeId>, Instant),
    /// When it was asked to stop: since then core finishes what is begun.
    stop: Option<Instant>,
}

impl Driver {
    pub(crate) fn new(
        replica: Replica,
        clock: Clock,
        shared: Arc<Shared>,
        workers: Workers,
        peers: Peers,
        snapshots: Snapshots,
        options: &Options,
    ) -> Self {
        Self {
            peers,
            snapshots,
            traffic: Traffic::default(),
            faults: (Instant::default(), 0),
            leader: (None, clock.now()),
            replica,
            clock,
            callers: Callers::new(options.request_timeout),
            streams: Streams::new(Arc::clone(&shared)),
            shared,
            workers,
            checkpoint: None,
            checkpoint_patience: options.checkpoint_patience,
            stop: None,
        }
    }

    /// Runs until the replica has shut down. Its last messages may still be on their way then: in
    /// the transport, which is to be closed.
    ///
    /// # Errors
    /// What stopped it before. The replica is dropped then: what it has not said it never says.
    pub(crate) fn run(mut self) -> Result<Option<Transport>, Fatal> {
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
            for request in self.callers.time_out(now) {
                self.replica.step(now, Input::Cancel { request });
            }
            more = self.handle_outputs(now);
            self.watch_leader(now);
            self.watch_checkpoint(now);
            self.shared.metrics.paused(self.clock.now().since(now));
            if self.is_over(now)? {
                return Ok(self.peers.into_transport());
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
                let _ = reply.send(self.view(now));
                return Ok(());
            }
            Mail::Arrival(arrival) => {
                self.arrive(now, arrival);
                return Ok(());
            }
            Mail::Held { to, source } => self.send_snapshot(to, source),
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

    fn arrive(&mut self, now: Instant, arrival: Arrival) {
        match arrival {
            Arrival::Message {
                from,
                message,
                permit,
            } => {
                self.traffic.on_receive(now, from, &message);
                self.replica.step(now, Input::Receive { from, message });
                // Only now is there room for the next one.
                drop(permit);
            }
            Arrival::Unreachable { peer } => {
                self.traffic.on_unreachable(peer);
                self.replica.step(now, Input::Unreachable { peer });
            }
            Arrival::Snapshot { from, read, write } => {
                let name = self.name_of(from);
                self.snapshots.receive(name, read, write);
            }
            Arrival::Handshake { .. } | Arrival::Confirmation { .. } => {
                self.peers.take(arrival);
                self.peers.answer(now);
            }
        }
    }

    /// Has a snapshot sent; what comes of it is told when it has.
    fn send_snapshot(&mut self, to: NodeId, source: Result<Source, String>) -> Input {
        let prepared = source.and_then(|source| {
            let streams = self.peers.snapshot_streams(to);
            Ok((source, streams.ok_or("there is no way to it")?))
        });
        let name = self.name_of(to);
        match prepared {
            Ok((source, streams)) => {
                let last = source.header().last;
                info!(%to, name, %last, "a snapshot is sent");
                self.snapshots.send(to, name, source, streams);
                Input::SnapshotStarted { to, last }
            }
            Err(what) => {
                warn!(%to, name, what, "no snapshot can be sent");
                Input::SnapshotSent {
                    to,
                    last: LogId::ZERO,
                    delivered: false,
                }
            }
        }
    }

    fn name_of(&self, node: NodeId) -> String {
        let founder = self.shared.birth.founder(node);
        founder.map_or_else(|| "a stranger".to_owned(), |founder| founder.name.clone())
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
            Output::SendSnapshot { to } => self.workers.hold(to),
            Output::DropSnapshot { last } => self.workers.discard(last),
            Output::ReadHistory { slice } => self.workers.read(slice),
            Output::Reply { request, result } => {
                if matches!(&result, Err(error) if !matches!(error, RequestError::Store { .. })) {
                    self.shared.metrics.raft.failed.inc();
                }
                let age = || self.replica.raft().age(now);
                self.callers.answer(request, result, age);
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
            Output::Send { to, message } => {
                self.traffic.on_send(now, to, &message);
                self.peers.send(to, message);
            }
            Output::Fault { peer, fault } => self.on_fault(now, peer, &fault),
        }
    }

    fn on_fault(&mut self, now: Instant, peer: NodeId, fault: &PeerFault) {
        self.shared.metrics.raft.faults.inc();
        let (next, untold) = &mut self.faults;
        if *next > now {
            *untold += 1;
            return;
        }
        let untold = *untold;
        let name = self.name_of(peer);
        warn!(%peer, name, %fault, untold, "a peer broke the rules");
        self.faults = (now + FAULT_PAUSE, 0);
    }

    /// Counts changes of the leader as they happen, not when somebody asks.
    fn watch_leader(&mut self, now: Instant) {
        let leader = self.replica.raft().leader();
        if leader == self.leader.0 {
            return;
        }
        self.leader = (leader, now);
        self.traffic.on_leader_change();
        let term = self.replica.raft().hard_state().term;
        match leader {
            Some(leader) => {
                self.shared.metrics.raft.leader_changes.inc();
                let name = self.name_of(leader);
                info!(%leader, name, %term, "there is a leader");
            }
            None => info!(%term, "there is no leader"),
        }
    }

    fn view(&self, now: Instant) -> View {
        let (_, since) = self.leader;
        let view = View::of(&self.replica, now.since(since), &self.traffic);
        let metrics = &self.shared.metrics.raft;
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
