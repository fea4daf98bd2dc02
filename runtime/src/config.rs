//! What the caller decides about one member.

use std::path::PathBuf;

use quorate_core::wal::WalLimits;
use quorate_core::{Config, Duration};

/// Everything [`start`](crate::start) needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything is kept. Nothing is read or written outside it.
    pub data_dir: PathBuf,
    /// This member's name, `--name`. Counts when a directory is formatted; afterwards the birth
    /// record holds it.
    pub name: String,
    /// `--initial-cluster-token`. Counts when a directory is formatted.
    pub token: String,
    /// Where peers reach this member. Counts when a directory is formatted.
    pub peer_urls: Vec<String>,
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
        Self {
            data_dir: data_dir.into(),
            name: "default".to_owned(),
            token: "etcd-cluster".to_owned(),
            peer_urls: vec!["http://localhost:2380".to_owned()],
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
