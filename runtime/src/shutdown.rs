//! Starting the threads of a member, and ending them in order.

use std::any::Any;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, mpsc};
use std::thread::{self, Builder, JoinHandle};
use std::time::{Duration, Instant};

use quorate_core::{BirthRecord, BirthState, Replica};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::{error, info};

use crate::birth::{Peers, Surroundings};
use crate::checkpoint::Checkpoints;
use crate::clock::Clock;
use crate::config::Options;
use crate::directory::Home;
use crate::driver::{Driver, Mail, Shared, Workers};
use crate::error::{Fatal, StartError};
use crate::files::Room;
use crate::history::Reader;
use crate::inbox::Inbox;
use crate::metrics::Metrics;
use crate::node::Node;
use crate::recover::{Start, recover};
use crate::reserve::Reserve;
use crate::snapshot::{Incoming, Snapshots, Summary};
use crate::transport::Transport;
use crate::wal::Writer;

/// How long the workers may take to end after the driver: one write or one checkpoint, which a disk
/// that fails may hold up for ever. They are left behind then; the end of the process ends them.
const WORKERS_PATIENCE: Duration = Duration::from_secs(10);

/// How long the last messages may take to leave; then they are lost, as messages may be.
const FAREWELL: Duration = Duration::from_secs(3);

/// Starts the member in `options.data_dir`, which is made first if it is empty and may be.
///
/// When this returns the member is born and runs; alone, it leads within an election timeout. The
/// birth of several takes as long as the last of them takes to come; meanwhile it is said whom this
/// one waits for. Dropping the future ends the member, before its birth at once.
///
/// # Errors
/// See [`StartError`]: each says who has to do what.
///
/// # Panics
/// Where the limits contradict each other (see [`Options::check`]), or outside a tokio runtime with
/// time and I/O.
pub async fn start(options: Options) -> Result<(Node, Running), StartError> {
    start_in(options, Room::default()).await
}

/// As [`start`], where a test decides whether the disk is full.
pub(crate) async fn start_in(options: Options, room: Room) -> Result<(Node, Running), StartError> {
    options.check();
    let inbox = Arc::new(Inbox::new(options.inbox_max));
    let (ended, end) = oneshot::channel();
    let (started, start) = oneshot::channel();
    let path = options.data_dir.clone();
    let member = {
        let inbox = Arc::clone(&inbox);
        let runtime = Handle::current();
        move || {
            let result = live(&options, room, &inbox, &runtime, started);
            if let Err(fatal) = &result {
                error!(%fatal, "this member stops");
            }
            let _ = ended.send(result);
        }
    };
    // Whoever drops the future drops this, which ends what has begun.
    let running = Running { inbox, end };
    Builder::new()
        .name("quorate".to_owned())
        .spawn(member)
        .map_err(|e| StartError::io("start a thread for", &path, e))?;
    let started = start.await;
    let node = started.expect("the thread of a member says how its start ended")?;
    Ok((node, running))
}

/// A member that runs. Dropped, it is asked to stop, and nobody waits for it.
#[derive(Debug)]
pub struct Running {
    inbox: Arc<Inbox<Mail>>,
    end: oneshot::Receiver<Result<(), Fatal>>,
}

impl Running {
    /// Waits until the member has ended, by itself or after [`Running::ask_to_stop`]. Its directory
    /// is free then.
    ///
    /// # Errors
    /// What it ended of.
    ///
    /// # Panics
    /// Where it is asked again after it has told.
    pub async fn ended(&mut self) -> Result<(), Fatal> {
        (&mut self.end).await.unwrap_or_else(|_| {
            Err(Fatal::Panic {
                thread: "quorate",
                message: "it is gone without a word".to_owned(),
            })
        })
    }

    /// Asks it to take in nothing new, finish what is begun, make a last checkpoint and end.
    pub fn ask_to_stop(&self) {
        let _ = self.inbox.send(Mail::Shutdown);
    }

    /// Asks it to stop and waits until it has.
    ///
    /// # Errors
    /// As [`Running::ended`].
    pub async fn stop(mut self) -> Result<(), Fatal> {
        self.ask_to_stop();
        self.ended().await
    }

    /// Ends it as if the process were killed, and waits until its directory is free.
    #[cfg(test)]
    pub(crate) async fn kill(mut self) {
        let _ = self
            .inbox
            .send(Mail::Fatal(Fatal::Log("killed".to_owned())));
        let _ = self.ended().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.ask_to_stop();
    }
}

/// The life of a member, on its own thread, from a directory to an orderly end.
fn live(
    options: &Options,
    room: Room,
    inbox: &Arc<Inbox<Mail>>,
    runtime: &Handle,
    started: oneshot::Sender<Result<Node, StartError>>,
) -> Result<(), Fatal> {
    let clock = Clock::start();
    let metrics = Arc::new(Metrics::new());
    let prepared = prepare(options, room, inbox, &metrics, runtime, clock);
    let (home, start, peers) = match prepared {
        Ok(Some(prepared)) => prepared,
        Ok(None) => {
            info!("stopped before this member was born");
            return Ok(());
        }
        Err(error) => {
            let _ = started.send(Err(error));
            return Ok(());
        }
    };
    let shared = Arc::new(Shared {
        inbox: Arc::clone(inbox),
        id: start.opening.node,
        birth: start.opening.birth.clone(),
        metrics,
        watch_credit: options.watch_credit,
    });
    let _ = started.send(Ok(Node::new(Arc::clone(&shared))));
    run(home, start, peers, clock, options, &shared, runtime)
}

/// Opens the directory and brings the member to where it can run. `None` where it is asked to stop
/// before it is born; where it fails, the directory is free again.
fn prepare(
    options: &Options,
    room: Room,
    inbox: &Arc<Inbox<Mail>>,
    metrics: &Metrics,
    runtime: &Handle,
    clock: Clock,
) -> Result<Option<(Home, Start, Peers)>, StartError> {
    let home = Home::open(options, room)?;
    let (identity, state) = home.identity()?;
    let world = Surroundings {
        home: &home,
        options,
        identity: Arc::new(identity),
        inbox,
        metrics,
        runtime,
        clock,
    };
    let begun = begin(&world, state)?;
    Ok(begun.map(|(start, peers)| (home, start, peers)))
}

/// Brings the member to its birth, unless it has that behind it, and recovers it. `None` where it
/// is asked to stop before it is born.
fn begin(
    world: &Surroundings<'_>,
    state: BirthState,
) -> Result<Option<(Start, Peers)>, StartError> {
    let start = |record: BirthRecord| {
        let node = record.node_of(world.identity.disk);
        let node = node.expect("nobody is born with a record without its disk");
        recover(world.home, record, node, world.options)
    };
    if let (true, Some(record)) = (state.born, state.record.clone()) {
        // Peers wait outside: there is nobody to answer them before.
        let start = start(record)?;
        return Ok(Some((start, Peers::start(world, state)?)));
    }
    let mut peers = Peers::start(world, state)?;
    let Some(record) = peers.be_born(world)? else {
        return Ok(None);
    };
    Ok(Some((start(record)?, peers)))
}

/// The driver runs here, its workers beside it.
fn run(
    home: Home,
    start: Start,
    peers: Peers,
    clock: Clock,
    options: &Options,
    shared: &Arc<Shared>,
    runtime: &Handle,
) -> Result<(), Fatal> {
    let workers = Workers {
        // Bounded by core: one write, one checkpoint in flight, one read for each slice.
        log: Arc::new(Inbox::new(usize::MAX)),
        checkpoints: Arc::new(Inbox::new(usize::MAX)),
        history: Arc::new(Inbox::new(usize::MAX)),
    };
    let layout = (*home).clone();
    let incoming = Incoming::new(layout, start.generation, Arc::clone(&shared.inbox));
    let incoming = Arc::new(incoming);
    let log = Writer::new(
        start.log,
        Arc::clone(&workers.log),
        Arc::clone(shared),
        Reserve::new(home.reserve(), options.reserve_bytes, home.room()),
        Arc::clone(&incoming),
        Arc::clone(&workers.checkpoints),
    );
    let checkpoints = Checkpoints::new(
        start.tables,
        home.tables(start.generation),
        Summary::from(&start.opening.store),
        home.history(),
        home.room(),
        Arc::clone(&incoming),
        Arc::clone(&workers.checkpoints),
        Arc::clone(&workers.log),
        Arc::clone(shared),
    );
    let reader = Reader::new(
        home.history(),
        Arc::clone(&workers.history),
        Arc::clone(shared),
    );
    let threads = [
        spawn("log", shared, move || log.run()),
        spawn("checkpoint", shared, move || checkpoints.run()),
        spawn("history", shared, move || reader.run()),
    ];

    let result = {
        let (shared, workers) = (Arc::clone(shared), workers.clone());
        caught("driver", || {
            let replica = Replica::new(options.core.clone(), start.opening, clock.now());
            let inbox = Arc::clone(&shared.inbox);
            let snapshots = Snapshots::new(incoming, inbox, runtime.clone());
            let driver = Driver::new(replica, clock, shared, workers, peers, snapshots, options);
            if let Some(transport) = driver.run()? {
                farewell(transport, runtime);
            }
            Ok(())
        })
    };

    // Whoever still waits learns that there will be no answer.
    shared.inbox.abandon();
    match &result {
        Ok(()) => {
            workers.log.close();
            workers.checkpoints.close();
            workers.history.close();
        }
        // Nothing that was not acknowledged needs to be written any more.
        Err(_) => {
            workers.log.abandon();
            workers.checkpoints.abandon();
            workers.history.abandon();
        }
    }
    if end_in_time(&threads, WORKERS_PATIENCE) {
        for thread in threads {
            thread.join().expect("a worker's panic is caught in it");
        }
        drop(home);
    } else {
        error!("a disk does not answer: a thread of this member is left behind");
        // It may still write, so nobody else may have the directory before the process is gone.
        mem::forget(home);
    }
    info!("stopped");
    result
}

/// Lets the last messages leave, and closes the connections.
fn farewell(transport: Transport, runtime: &Handle) {
    let (done, ended) = mpsc::channel();
    // Where the runtime is gone this drops the transport, and with it the other end of the channel.
    runtime.spawn(async move {
        transport.close().await;
        let _ = done.send(());
    });
    let _ = ended.recv_timeout(FAREWELL);
}

/// Whether all of `threads` end before `patience` is over.
fn end_in_time(threads: &[JoinHandle<()>], patience: Duration) -> bool {
    const PAUSE: Duration = Duration::from_millis(2);
    let end = Instant::now() + patience;
    while threads.iter().any(|thread| !thread.is_finished()) {
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(PAUSE);
    }
    true
}

/// Runs a worker on a thread of its own. Its failure, or its panic, is the member's end.
fn spawn(
    name: &'static str,
    shared: &Arc<Shared>,
    body: impl FnOnce() -> Result<(), Fatal> + Send + 'static,
) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    let run = move || {
        if let Err(fatal) = caught(name, body) {
            let _ = shared.inbox.send(Mail::Fatal(fatal));
        }
    };
    Builder::new()
        .name(format!("quorate-{name}"))
        .spawn(run)
        .expect("the system gives a member its four threads")
}

fn caught(thread: &'static str, body: impl FnOnce() -> Result<(), Fatal>) -> Result<(), Fatal> {
    // What the body owned is dropped by the unwinding, and nothing else of it is seen again.
    panic::catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        Err(Fatal::Panic {
            thread,
            message: words(&*panic),
        })
    })
}

fn words(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
    words.unwrap_or("no words").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_hangs_is_not_waited_for() {
        let (let_go, held) = mpsc::channel::<()>();
        let threads = [
            thread::spawn(|| {}),
            thread::spawn(move || {
                let _ = held.recv();
            }),
        ];
        assert!(!end_in_time(&threads, Duration::from_millis(20)));
        drop(let_go);
        assert!(end_in_time(&threads, Duration::from_secs(60)));
    }
}
