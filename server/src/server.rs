//! A member and the server in front of it, from start to orderly end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quorate_core::Config;
use quorate_core::RequestError;
use quorate_core::store::{Command, Operation, Publish, Settings};
use quorate_core::wal::WalLimits;
use quorate_runtime::{Fatal, Node, Running, StartError, View};
use tokio::sync::{oneshot, watch};
use tracing::{debug, info, warn};

use crate::app::App;
use crate::args::{Options, UsageError};
use crate::http::{BindError, Listeners};
use crate::logging::LogLevel;

/// How long clients get to take what is already theirs when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// How long to wait for a leader before a member says again who it is; twice as long each time.
const ANNOUNCE_PAUSE: Duration = Duration::from_millis(20);

/// The longest such wait.
const ANNOUNCE_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How many election timeouts clients wait for a leader at the start. Without one they are served
/// all the same then, what can be.
const LEADER_PATIENCE: u32 = 4;

/// A member that serves clients.
#[derive(Debug)]
pub struct Server {
    listeners: Listeners,
    app: Arc<App>,
    running: Running,
    connections_max: usize,
}

/// Why there is no server. The operator acts.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// What the command line says of a new cluster does not hold together.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// Clients cannot be served where they should be.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The member died.
    #[error(transparent)]
    Fatal(#[from] Fatal),
    /// The member would run out of files.
    #[error(
        "only {files} files may be open at once, and a member needs {least}: raise the limit \
         (ulimit -n, or LimitNOFILE= of systemd)"
    )]
    Files {
        /// How many may be open.
        files: usize,
        /// How many must.
        least: usize,
    },
    /// The system does not do what it is asked.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl Server {
    /// Takes the addresses, opens the data directory, and waits until the member can serve: until
    /// it is born, and then for a while until it knows a leader. Whoever connects meanwhile waits
    /// too. Dropping the future ends the member.
    ///
    /// # Errors
    /// See [`ServeError`]. Nothing was changed then, but for the record of a birth under way.
    pub async fn start(options: &Options, log_level: LogLevel) -> Result<Self, ServeError> {
        if !quorate_runtime::is_born(&options.data_dir) {
            options.cluster.check_founders()?;
        } else if options.cluster.is_given {
            info!("this member is born, so what --initial-... says does not count any more");
        }
        let listeners = Listeners::bind(&options.listen)?;
        let (node, mut running) = quorate_runtime::start(runtime_options(options)).await?;
        info!(
            member = %node.id(),
            cluster = format_args!("{:x}", node.cluster_id()),
            data_dir = %options.data_dir.display(),
            "the member runs"
        );
        let (tell, told) = oneshot::channel();
        tokio::spawn(announce(node.clone(), options.clone(), tell));
        tokio::select! {
            // Without a leader a member can still tell what it knows.
            _ = tokio::time::timeout(LEADER_PATIENCE * options.election_timeout, told) => {}
            ended = running.ended() => ended?,
        }
        let app = App::new(
            node,
            options.local_reads,
            options.value_bytes_max,
            log_level,
        );
        Ok(Self {
            listeners,
            app: Arc::new(app),
            running,
            connections_max: options.connections_max,
        })
    }

    /// Where clients are served.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.addresses()
    }

    /// Serves until `stop` is over, or the member dies; then clients get a little time to take what
    /// is theirs, and the member ends in order.
    ///
    /// # Errors
    /// What the member died of.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        for address in self.addresses()? {
            info!(%address, "serving clients");
        }
        let (tell, told) = watch::channel(false);
        let serving = self
            .listeners
            .serve(self.app, self.connections_max, told, GRACE);
        let serving = tokio::spawn(serving);
        tokio::select! {
            () = stop => info!("stopping"),
            ended = self.running.ended() => return Ok(ended?),
        }
        tell.send_replace(true);
        // The member answers what it has taken in and ends its watches, so connections end too.
        self.running.ask_to_stop();
        // A panic was reported where it happened.
        let _ = serving.await;
        Ok(self.running.ended().await?)
    }
}

/// Puts what the flags say into the log: limits that all members must share, and how this member
/// is called and reached. Says so on `done` when that is settled, or when another member leads.
async fn announce(node: Node, options: Options, done: oneshot::Sender<()>) {
    let mut done = Some(done);
    let mut pause = ANNOUNCE_PAUSE;
    while let Ok(view) = node.view().await {
        let leader = view.status.leader;
        let Some(operation) = unsaid(&node, &view, &options) else {
            if leader.is_some() {
                return;
            }
            tokio::time::sleep(ANNOUNCE_PAUSE).await;
            continue;
        };
        let command = Command {
            client: None,
            operation,
        };
        match node.propose(command).await {
            Ok(_) => continue,
            Err(RequestError::Stopping) => return,
            Err(error) => debug!(%error, "this member is not announced yet"),
        }
        if leader.is_some_and(|leader| leader != node.id()) {
            // Dropped, it tells as well.
            drop(done.take());
            pause = ANNOUNCE_PAUSE_MAX.min(2 * pause);
        }
        tokio::time::sleep(pause).await;
    }
}

/// What the flags say and the log does not.
fn unsaid(node: &Node, view: &View, options: &Options) -> Option<Operation> {
    let settings = Settings {
        history_age: options.history_age,
        history_bytes: options.history_bytes,
        history_events: options.history_events,
        ..view.settings.clone()
    };
    if settings != view.settings {
        return Some(Operation::Configure(settings));
    }
    let name = &options.cluster.name;
    let urls = &options.advertise_client_urls;
    let published = view.members.get(&node.id());
    if published.is_some_and(|known| known.name == *name && known.client_urls == *urls) {
        return None;
    }
    Some(Operation::Publish(Publish {
        member: node.id(),
        name: name.clone(),
        client_urls: urls.clone(),
    }))
}

fn runtime_options(options: &Options) -> quorate_runtime::Options {
    let core = Config {
        heartbeat_interval: options.heartbeat_interval,
        election_timeout: options.election_timeout,
        checkpoint_bytes: options.checkpoint_bytes,
        log_bytes_max: options.log_bytes_max,
        checkpoint_interval: options.checkpoint_interval,
        ..Config::default()
    };
    let base = quorate_runtime::Options::new(&options.data_dir);
    quorate_runtime::Options {
        name: options.cluster.name.clone(),
        token: options.cluster.token.clone(),
        cluster: options.cluster.members.clone(),
        peer_listen: options.cluster.listen.clone(),
        peer_tls: options.cluster.tls.clone(),
        format: options.cluster.may_format,
        // As long as etcd waits (api/v2.md §18).
        request_timeout: Duration::from_secs(5) + 2 * options.election_timeout,
        core,
        wal: WalLimits {
            segment_bytes: options.segment_bytes.next_multiple_of(8),
            ..base.wal
        },
        reserve_bytes: options.reserve_bytes,
        ..base
    }
}

/// Raises the number of files this process may have open as far as it may, and returns how many
/// connections that leaves room for, out of `wanted`.
///
/// # Errors
/// There would be too few for the member itself, which must not find out in the middle of a write.
pub fn room_for_connections(wanted: usize) -> Result<usize, ServeError> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let files = now.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let room = connections(files)?;
    if room < wanted {
        warn!(
            files,
            connections = room,
            "few files may be open, so few connections too"
        );
    }
    Ok(room.min(wanted))
}

/// How many of `files` may be connections.
fn connections(files: usize) -> Result<usize, ServeError> {
    /// Files that are no connections: the log, tables, history.
    const OTHER_FILES: usize = 512;
    const FILES_MIN: usize = 256;

    if files < FILES_MIN {
        return Err(ServeError::Files {
            files,
            least: FILES_MIN,
        });
    }
    Ok(files - OTHER_FILES.min(files / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_member_keeps_files_for_itself() {
        for (files, expected) in [(256, 128), (1024, 512), (20_000, 19_488)] {
            assert_eq!(connections(files).ok(), Some(expected), "{files}");
        }
        let error = connections(255).expect_err("too few").to_string();
        assert!(error.contains("ulimit -n"), "{error}");
    }
}
