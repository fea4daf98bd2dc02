//! What the caller decides about one member.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use quorate_core::wal::WalLimits;
use quorate_core::{Config, Duration};

use crate::transport::PeerTls;

/// Everything [`start`](crate::start) needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything is kept. Nothing is read or written outside it.
    pub data_dir: PathBuf,
    /// This member's name, `--name`, which must be in `cluster`. Counts until the member is born;
    /// afterwards the birth record holds it, as it does the next two.
    pub name: String,
    /// `--initial-cluster-token`. Counts until the member is born.
    pub token: String,
    /// All founders by name, this member included, each with the URLs where peers reach it. Counts
    /// until the member is born.
    pub cluster: BTreeMap<String, Vec<String>>,
    /// Where peers are heard, by UDP. A member that is alone listens nowhere.
    pub peer_listen: Vec<SocketAddr>,
    /// How members prove that the network may be theirs.
    pub peer_tls: PeerTls,
    /// Whether a missing or empty directory becomes a new member's: `--initial-cluster-state new`.
    /// Otherwise it is refused, since it may be the wrong one, or a disk that was not mounted.
    pub format: bool,
    /// The limits and timeouts of core.
    pub core: Config,
    /// The sizes of the log's files.
    pub wal: WalLimits,
    /// Bytes held in reserve, given back to the file system when the disk is full so that what is
    /// begun can be finished. Zero: none.
    pub reserve_bytes: u64,
    /// Requests that wait for the driver. Reached: `Busy`.
    pub inbox_max: usize,
    /// How long a request waits for its answer; then it ends as `Dropped`: its outcome is unknown.
    pub request_timeout: Duration,
    /// Events that may wait in a watcher that does not read. Reached: nothing more is sent to it
    /// until it has read half of them; what it misses stays in history meanwhile.
    pub watch_credit: u32,
    /// A checkpoint that takes longer than this is complained about, again and again.
    pub checkpoint_patience: Duration,
}

impl Options {
    /// The defaults for a single member in `data_dir`, which is formatted if it is empty.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let name = "default".to_owned();
        let peer_urls = vec!["http://localhost:2380".to_owned()];
        Self {
            data_dir: data_dir.into(),
            cluster: BTreeMap::from([(name.clone(), peer_urls)]),
            name,
            token: "etcd-cluster".to_owned(),
            peer_listen: Vec::new(),
            peer_tls: PeerTls::SelfMade,
            format: true,
            core: Config::default(),
            wal: WalLimits::default(),
            reserve_bytes: 64 << 20,
            inbox_max: 65_536,
            request_timeout: Duration::from_secs(10),
            watch_credit: 64,
            checkpoint_patience: Duration::from_secs(60),
        }
    }

    /// Asserts how the limits relate.
    ///
    /// # Panics
    /// Where a limit is zero that must not be: the caller checks what an operator typed.
    pub fn check(&self) {
        self.core.check();
        self.wal.check();
        assert!(self.inbox_max > 0, "no requests");
        assert!(self.watch_credit > 0, "watchers that see nothing");
        assert!(!self.request_timeout.is_zero(), "no time for an answer");
    }
}
