//! A command line that has been checked.

use std::path::PathBuf;
use std::time::Duration;

use super::UsageError;
use super::cluster::Cluster;
use super::flags::{Flags, LocalReads, LogFormat, LogLevel};
use super::urls::{Listen, client_urls, listens};
use crate::app::BODY_BYTES_MAX;

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
    /// Who founds the cluster, and how its members speak to each other.
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
    /// Bytes of log kept in memory for members that lag.
    pub log_bytes_max: usize,
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

impl Options {
    pub(super) fn check(flags: Flags, mut warnings: Vec<String>) -> Result<Self, UsageError> {
        check_unserved(&flags)?;
        check_timing(&flags)?;
        check_sizes(&flags)?;
        let listen = client_urls("listen-client-urls", &flags.listen_client_urls)?;
        let listen = listens("listen-client-urls", listen)?;
        let told = flags.advertise_client_urls.as_ref();
        let advertise_client_urls = match told {
            Some(urls) => client_urls("advertise-client-urls", urls)?,
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
            cluster: Cluster::check(&flags, &mut warnings)?,
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
            log_bytes_max: size("log-retention-bytes", flags.log_retention_bytes)?,
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
        (
            "max-request-bytes",
            flags.max_request_bytes,
            1..=BODY_BYTES_MAX as u64,
        ),
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
