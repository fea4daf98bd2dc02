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
use quorate_runtime::{Fatal, Node, Running, StartError};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::app::App;
use crate::args::Options;
use crate::http::{BindError, Listeners};
use crate::logging::LogLevel;

/// How long clients get to take what is already theirs when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// How long to wait for a leader before a member says again who it is.
const ANNOUNCE_PAUSE: Duration = Duration::from_millis(20);

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
    /// Takes the addresses, opens the data directory, and waits until the member can serve: whoever
    /// connects meanwhile waits too.
    ///
    /// # Errors
    /// See [`ServeError`]. Nothing was changed then.
    pub async fn start(options: &Options, log_level: LogLevel) -> Result<Self, ServeError> {
        let listeners = Listeners::bind(&options.listen)?;
        let (node, mut running) = quorate_runtime::start(runtime_options(options)).await?;
        info!(
            member = %node.id(),
            cluster = format_args!("{:x}", node.cluster_id()),
            data_dir = %options.data_dir.display(),
            "the member runs"
        );
        tokio::select! {
            () = announce(&node, options) => {}
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
/// is called and reached.
async fn announce(node: &Node, options: &Options) {
    loop {
        let Ok(view) = node.view().await else {
            return;
        };
        let settings = Settings {
            history_age: options.history_age,
            history_bytes: options.history_bytes,
            history_events: options.history_events,
            ..view.settings.clone()
        };
        let name = &options.cluster.name;
        let urls = &options.advertise_client_urls;
        let published = view.members.get(&node.id());
        let operation = if settings != view.settings {
            Operation::Configure(settings)
        } else if published.is_none_or(|known| known.name != *name || known.client_urls != *urls) {
            Operation::Publish(Publish {
                member: node.id(),
                name: name.clone(),
                client_urls: urls.clone(),
            })
        } else if view.status.leader.is_none() {
            tokio::time::sleep(ANNOUNCE_PAUSE).await;
            continue;
        } else {
            return;
        };
        let command = Command {
            client: None,
            operation,
        };
        match node.propose(command).await {
            Ok(_) => {}
            Err(RequestError::Stopping) => return,
            Err(error) => {
                debug!(%error, "waiting for a leader");
                tokio::time::sleep(ANNOUNCE_PAUSE).await;
            }
        }
    }
}

fn runtime_options(options: &Options) -> quorate_runtime::Options {
    let core = Config {
        heartbeat_interval: options.heartbeat_interval,
        election_timeout: options.election_timeout,
        checkpoint_bytes: options.checkpoint_bytes,
        checkpoint_interval: options.checkpoint_interval,
        ..Config::default()
    };
    let base = quorate_runtime::Options::new(&options.data_dir);
    quorate_runtime::Options {
        name: options.cluster.name.clone(),
        token: options.cluster.token.clone(),
        peer_urls: options.cluster.peer_urls.clone(),
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
