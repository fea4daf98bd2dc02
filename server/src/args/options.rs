//! A command line that has been checked.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::UsageError;
use super::flags::{ClusterState, Flags, LocalReads, LogFormat, LogLevel};

/// Smaller segments would be changed more often than written to.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;

/// Larger ones take longer to write in advance than anybody waits for a start.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// The same.
const RESERVE_BYTES_MAX: u64 = 64 << 30;

/// More only get in each other's way.
const WORKER_THREADS_MAX: u64 = 1024;

/// Everything the server needs to know to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who founds the cluster.
    pub cluster: Cluster,
    /// Where the data is.
    pub data_dir: PathBuf,
    /// Where clients are served.
    pub listen: Vec<Listen>,
    /// What clients are told, as URLs.
    pub advertise_client_urls: Vec<String>,
    /// Between heartbeats.
    pub heartbeat_interval: Duration,
    /// Without a leader before an election.
    pub election_timeout: Duration,
    /// The largest value, in bytes.
    pub value_bytes_max: usize,
    /// How long changes stay in history.
    pub history_age: Duration,
    /// How many bytes of history are kept.
    pub history_bytes: u64,
    /// How many events are kept; 0 is no limit.
    pub history_events: u64,
    /// Whether `quorum=false` is heeded.
    pub local_reads: LocalReads,
    /// Bytes of log that make a checkpoint due.
    pub checkpoint_bytes: usize,
    /// The age of a change that makes a checkpoint due.
    pub checkpoint_interval: Duration,
    /// Bytes of one segment of the log.
    pub segment_bytes: u64,
    /// Bytes held in reserve for when the disk is full.
    pub reserve_bytes: u64,
    /// Client connections open at once.
    pub connections_max: usize,
    /// Threads that serve clients; 0 is one for each core.
    pub worker_threads: usize,
    /// What is logged, in the words of `tracing`.
    pub log_level: &'static str,
    /// How it is logged.
    pub log_format: LogFormat,
    /// What to say once logging works.
    pub warnings: Vec<String>,
}

/// This member's place in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// This member's name.
    pub name: String,
    /// What it tells peers, as URLs.
    pub peer_urls: Vec<String>,
    /// `--initial-cluster-token`.
    pub token: String,
    /// Whether an empty data directory may be formatted.
    pub may_format: bool,
}

/// One URL to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// As it was given.
    pub url: String,
    /// What it stands for: `localhost` means 127.0.0.1 and ::1, the second where there is one.
    pub addresses: Vec<SocketAddr>,
}

impl Options {
    pub(super) fn check(flags: Flags, mut warnings: Vec<String>) -> Result<Self, UsageError> {
        check_unserved(&flags)?;
        check_timing(&flags)?;
        check_sizes(&flags)?;
        let listen = listen_urls("listen-client-urls", &flags.listen_client_urls)?;
        // Peers come later; what is said about them must be right already.
        listen_urls("listen-peer-urls", &flags.listen_peer_urls)?;
        let told = flags.advertise_client_urls.as_ref();
        let advertise_client_urls = match told {
            Some(urls) => split_urls("advertise-client-urls", urls)?,
            None => listen.iter().map(|listen| listen.url.clone()).collect(),
        };
        if told.is_none() && listen.iter().any(Listen::is_everywhere) {
            let text = "clients are told a URL that means every address: \
                        give --advertise-client-urls";
            warnings.push(text.to_owned());
        }
        let log_level = if flags.debug {
            "debug"
        } else {
            log_level(flags.log_level)
        };
        let default_dir = PathBuf::from(format!("{}.quorate", flags.name));
        Ok(Self {
            cluster: Cluster::check(&flags)?,
            data_dir: flags.data_dir.unwrap_or(default_dir),
            listen,
            advertise_client_urls,
            heartbeat_interval: flags.heartbeat_interval,
            election_timeout: flags.election_timeout,
            value_bytes_max: size("max-request-bytes", flags.max_request_bytes)?,
            history_age: flags.history_age,
            history_bytes: flags.history_bytes,
            history_events: flags.history_events,
            local_reads: flags.local_reads,
            checkpoint_bytes: size("checkpoint-bytes", flags.checkpoint_bytes)?,
            checkpoint_interval: flags.checkpoint_interval,
            segment_bytes: flags.wal_segment_bytes,
            reserve_bytes: flags.disk_reserve_bytes,
            connections_max: size("max-connections", flags.max_connections)?,
            worker_threads: size("worker-threads", flags.worker_threads)?,
            log_level,
            log_format: flags.log_format,
            warnings,
        })
    }
}

impl Cluster {
    fn check(flags: &Flags) -> Result<Self, UsageError> {
        if flags.name.is_empty() || flags.name.contains(['=', ',', '/', '\0']) {
            return Err(UsageError::new(
                "--name must not be empty nor contain '=', ',' or '/'",
            ));
        }
        let peer_urls = split_urls(
            "initial-advertise-peer-urls",
            &flags.initial_advertise_peer_urls,
        )?;
        if let Some(members) = &flags.initial_cluster {
            check_members(&flags.name, members)?;
        }
        Ok(Self {
            name: flags.name.clone(),
            peer_urls,
            token: flags.initial_cluster_token.clone(),
            may_format: flags.initial_cluster_state == ClusterState::New,
        })
    }
}

impl Listen {
    fn is_everywhere(&self) -> bool {
        self.addresses
            .iter()
            .any(|address| address.ip().is_unspecified())
    }
}

/// What is refused for now, in words that say so.
fn check_unserved(flags: &Flags) -> Result<(), UsageError> {
    let only = [
        ("cors", &flags.cors, "*"),
        ("host-whitelist", &flags.host_whitelist, "*"),
        ("proxy", &flags.proxy, "off"),
    ];
    for (flag, given, served) in only {
        if given != served {
            return Err(UsageError::new(format!(
                "--{flag}={given} is not served by this version of quorate, only --{flag}={served}"
            )));
        }
    }
    Ok(())
}

fn check_timing(flags: &Flags) -> Result<(), UsageError> {
    const ELECTION_MAX: Duration = Duration::from_secs(50);
    let (heartbeat, election) = (flags.heartbeat_interval, flags.election_timeout);
    if heartbeat.is_zero() || election < 5 * heartbeat || election > ELECTION_MAX {
        return Err(UsageError::new(format!(
            "--heartbeat-interval must be above 0, and --election-timeout at least five times as \
             long and at most 50000: they are {} and {} ms",
            heartbeat.as_millis(),
            election.as_millis()
        )));
    }
    if flags.checkpoint_bytes == 0 || flags.checkpoint_interval.is_zero() {
        return Err(UsageError::new(
            "--checkpoint-bytes and --checkpoint-interval must be above 0",
        ));
    }
    Ok(())
}

fn check_sizes(flags: &Flags) -> Result<(), UsageError> {
    let ranges = [
        (
            "wal-segment-bytes",
            flags.wal_segment_bytes,
            SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX,
        ),
        (
            "disk-reserve-bytes",
            flags.disk_reserve_bytes,
            0..=RESERVE_BYTES_MAX,
        ),
        ("max-request-bytes", flags.max_request_bytes, 1..=u64::MAX),
        ("max-connections", flags.max_connections, 1..=u64::MAX),
        (
            "worker-threads",
            flags.worker_threads,
            0..=WORKER_THREADS_MAX,
        ),
    ];
    for (flag, given, range) in ranges {
        if given < *range.start() {
            let least = range.start();
            return Err(UsageError::new(format!(
                "--{flag} must be at least {least}"
            )));
        }
        if given > *range.end() {
            let most = range.end();
            return Err(UsageError::new(format!("--{flag} must be at most {most}")));
        }
    }
    Ok(())
}

fn check_members(name: &str, members: &str) -> Result<(), UsageError> {
    let mut names = BTreeSet::new();
    for member in members.split(',').map(str::trim).filter(|m| !m.is_empty()) {
        let Some((name, url)) = member.split_once('=') else {
            return Err(UsageError::new(format!(
                "--initial-cluster: {member:?} is not NAME=URL"
            )));
        };
        check_url("initial-cluster", url)?;
        names.insert(name);
    }
    if !names.contains(name) {
        return Err(UsageError::new(format!(
            "--initial-cluster does not name this member, {name:?}"
        )));
    }
    if names.len() > 1 {
        return Err(UsageError::new(format!(
            "--initial-cluster names {} members: this version of quorate serves one, several come \
             with the next release",
            names.len()
        )));
    }
    Ok(())
}

fn listen_urls(flag: &str, urls: &str) -> Result<Vec<Listen>, UsageError> {
    let listen = |url: String| {
        let addresses = addresses(flag, &url)?;
        Ok(Listen { url, addresses })
    };
    split_urls(flag, urls)?.into_iter().map(listen).collect()
}

fn split_urls(flag: &str, urls: &str) -> Result<Vec<String>, UsageError> {
    let urls: Vec<String> = urls
        .split(',')
        .map(|url| url.trim().trim_end_matches('/').to_owned())
        .filter(|url| !url.is_empty())
        .collect();
    if urls.is_empty() {
        return Err(UsageError::new(format!("--{flag} names no URL")));
    }
    for url in &urls {
        check_url(flag, url)?;
    }
    Ok(urls)
}

/// Checks `http://host:port` and returns host and port.
fn check_url<'a>(flag: &str, url: &'a str) -> Result<(&'a str, u16), UsageError> {
    let wrong = |why: &str| Err(UsageError::new(format!("--{flag}: {url}: {why}")));
    let rest = match url.split_once("://") {
        Some(("http", rest)) => rest,
        Some(("https", _)) => return wrong("TLS is not served by this version of quorate"),
        Some(("unix" | "unixs", _)) => return wrong("unix sockets are not served"),
        Some(_) | None => return wrong("a URL must begin with http://"),
    };
    let Some((host, port)) = rest.rsplit_once(':') else {
        return wrong("a URL must have the form http://host:port");
    };
    if port.contains('/') || host.contains('/') {
        return wrong("a URL must not contain a path");
    }
    match port.parse() {
        Ok(port) if !host.is_empty() => Ok((host, port)),
        Ok(_) | Err(_) => wrong("a URL must have the form http://host:port"),
    }
}

fn addresses(flag: &str, url: &str) -> Result<Vec<SocketAddr>, UsageError> {
    let (host, port) = check_url(flag, url)?;
    let hosts = if host == "localhost" {
        vec![
            IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::from(Ipv6Addr::LOCALHOST),
        ]
    } else {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let Ok(host) = bare.parse() else {
            return Err(UsageError::new(format!(
                "--{flag}: {url}: listening needs an IP address or localhost, not a name"
            )));
        };
        vec![host]
    };
    Ok(hosts
        .into_iter()
        .map(|host| SocketAddr::new(host, port))
        .collect())
}

fn size(flag: &str, bytes: u64) -> Result<usize, UsageError> {
    usize::try_from(bytes).map_err(|_| UsageError::new(format!("--{flag}={bytes}: too large")))
}

const fn log_level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error | LogLevel::Panic | LogLevel::Fatal => "error",
    }
}
