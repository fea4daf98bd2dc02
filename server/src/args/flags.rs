//! The flags themselves, as clap sees them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};

use super::text;

/// A strongly consistent key-value store that speaks the etcd v2 API.
///
/// Every flag can also be given in the environment, as QUORATE_FLAG_NAME or ETCD_FLAG_NAME.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "quorate",
    version,
    args_override_self = true,
    disable_help_subcommand = true,
    after_help = "Without flags: one member on 127.0.0.1:2379, its data in default.quorate."
)]
pub(super) struct Flags {
    /// This member's name.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub name: String,

    /// Where the data is [default: NAME.quorate].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// URLs to serve clients on, separated by commas.
    #[arg(long, value_name = "URLS", default_value = "http://127.0.0.1:2379")]
    pub listen_client_urls: String,

    /// URLs told to clients [default: those listened on].
    #[arg(long, value_name = "URLS")]
    pub advertise_client_urls: Option<String>,

    /// URLs to hear peers on, separated by commas.
    #[arg(long, value_name = "URLS", default_value = "http://localhost:2380")]
    pub listen_peer_urls: String,

    /// URLs told to peers; those that --initial-cluster has for this member.
    #[arg(long, value_name = "URLS", default_value = "http://localhost:2380")]
    pub initial_advertise_peer_urls: String,

    /// The members a new cluster begins with, as NAME=URL, separated by commas [default: this one].
    #[arg(long, value_name = "MEMBERS")]
    pub initial_cluster: Option<String>,

    /// Whether the cluster is new or existing; only «new» formats an empty data directory.
    #[arg(long, value_name = "STATE", default_value = "new")]
    pub initial_cluster_state: ClusterState,

    /// What tells this cluster from others with the same members.
    #[arg(long, value_name = "TOKEN", default_value = "etcd-cluster")]
    pub initial_cluster_token: String,

    /// This member's certificate towards peers, in PEM.
    #[arg(long, value_name = "FILE")]
    pub peer_cert_file: Option<PathBuf>,

    /// Its private key, in PEM.
    #[arg(long, value_name = "FILE")]
    pub peer_key_file: Option<PathBuf>,

    /// Who may sign the certificates of peers, in PEM [default: whom this system trusts].
    #[arg(long, value_name = "FILE")]
    pub peer_trusted_ca_file: Option<PathBuf>,

    /// Whether peers must show a certificate.
    #[arg(
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = text::boolean,
    )]
    pub peer_client_cert_auth: bool,

    /// The common name that the certificate of every peer must have.
    #[arg(long, value_name = "NAME")]
    pub peer_cert_allowed_cn: Option<String>,

    /// Whether peers speak TLS with certificates made at start, which nobody checks.
    #[arg(
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = text::boolean,
    )]
    pub peer_auto_tls: bool,

    /// As --peer-trusted-ca-file with --peer-client-cert-auth: etcd 2's name for both.
    #[arg(long, value_name = "FILE", hide = true)]
    pub peer_ca_file: Option<PathBuf>,

    /// Milliseconds between heartbeats.
    #[arg(long, value_name = "MS", default_value = "100", value_parser = text::millis)]
    pub heartbeat_interval: Duration,

    /// Milliseconds without a leader before an election.
    #[arg(long, value_name = "MS", default_value = "1000", value_parser = text::millis)]
    pub election_timeout: Duration,

    /// The largest value a client may write, in bytes: up to 10 MiB.
    #[arg(long, value_name = "BYTES", default_value = "1572864", value_parser = text::bytes)]
    pub max_request_bytes: u64,

    /// How long changes stay in history.
    #[arg(long, value_name = "TIME", default_value = "72h", value_parser = text::duration)]
    pub history_age: Duration,

    /// How much history is kept.
    #[arg(long, value_name = "BYTES", default_value = "512MiB", value_parser = text::bytes)]
    pub history_bytes: u64,

    /// How many events are kept; 0 is no limit, 1000 is etcd's.
    #[arg(long, value_name = "COUNT", default_value = "0", value_parser = text::count)]
    pub history_events: u64,

    /// Whether reads with quorum=false are answered locally, or like all others.
    #[arg(long, value_name = "WHEN", default_value = "asked")]
    pub local_reads: LocalReads,

    /// Bytes of log after which a checkpoint is made.
    #[arg(long, value_name = "BYTES", default_value = "32MiB", value_parser = text::bytes)]
    pub checkpoint_bytes: u64,

    /// Bytes of log kept in memory for members that lag, beyond what no checkpoint holds; one that
    /// lags further gets a snapshot.
    #[arg(long, value_name = "BYTES", default_value = "128MiB", value_parser = text::bytes)]
    pub log_retention_bytes: u64,

    /// The longest a change waits for a checkpoint.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = text::duration)]
    pub checkpoint_interval: Duration,

    /// Bytes of one segment of the log; they are allocated whole, and ahead.
    #[arg(long, value_name = "BYTES", default_value = "16MiB", value_parser = text::bytes)]
    pub wal_segment_bytes: u64,

    /// Bytes held in reserve for when the disk is full.
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = text::bytes)]
    pub disk_reserve_bytes: u64,

    /// Client connections open at once; further ones wait.
    #[arg(long, value_name = "COUNT", default_value = "16384", value_parser = text::count)]
    pub max_connections: u64,

    /// Threads that serve clients; 0 is one for each core.
    #[arg(long, value_name = "COUNT", default_value = "0", value_parser = text::count)]
    pub worker_threads: u64,

    /// Origins that web pages may call from; only «*» is served.
    #[arg(long, value_name = "ORIGINS", default_value = "*")]
    pub cors: String,

    /// Host names clients may ask for; only «*» is served.
    #[arg(long, value_name = "HOSTS", default_value = "*")]
    pub host_whitelist: String,

    /// How much is logged.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: LogLevel,

    /// How it is logged: for people on a terminal, as JSON elsewhere.
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    pub log_format: LogFormat,

    /// Log everything (etcd's old spelling of --log-level debug).
    #[arg(
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = text::boolean,
    )]
    pub debug: bool,

    /// Whether to pass requests on instead of being a member; only «off» is served.
    #[arg(long, value_name = "MODE", default_value = "off")]
    pub proxy: String,

    /// How detailed the metrics are; there is one degree.
    #[arg(long, value_name = "DEGREE", default_value = "basic")]
    pub metrics: MetricsDegree,
}

/// `--initial-cluster-state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ClusterState {
    /// An empty data directory may be formatted.
    New,
    /// The data directory must be there.
    Existing,
}

/// `--local-reads`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LocalReads {
    /// A read with `quorum=false` is answered from this member's own state.
    Asked,
    /// Every read is linearizable.
    Never,
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// `--log-level`, in etcd's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
    Panic,
    Fatal,
}

/// `--metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum MetricsDegree {
    Basic,
    Extensive,
}
