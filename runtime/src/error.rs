//! What goes wrong outside core, by whose turn it is.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a member did not start. Nothing in its directory was changed.
#[derive(Debug, Error)]
pub enum StartError {
    /// Another process uses the directory. The operator ends it, or names another directory.
    #[error(
        "{} is in use by another process: stop that one first, or choose another --data-dir",
        .path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The directory is etcd's. The operator moves the data through etcd's own API.
    #[error(
        "{path} is a data directory of etcd (it holds {found:?}), whose files quorate does not \
         read. To move the keys: start etcd on it once more, read them all with \
         `curl http://127.0.0.1:2379/v2/keys/?recursive=true`, start quorate with another \
         --data-dir, and PUT each key (and its ttl) there. Values and directories come along; \
         indexes, history, members and users do not",
        path = .path.display()
    )]
    Etcd {
        /// The directory.
        path: PathBuf,
        /// What tells it.
        found: String,
    },
    /// The directory holds what is not quorate's. The operator names another one.
    #[error(
        "{} holds {found:?}, which is not quorate's: choose an empty --data-dir",
        .path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// The first thing found.
        found: String,
    },
    /// There is nothing there, and nobody said that a new member shall be made.
    #[error(
        "{} is empty or missing: is the right disk mounted? A member cannot be added to an \
         existing cluster in this version; to make a member of a new one there, start with \
         --initial-cluster-state new",
        .path.display()
    )]
    Unformatted {
        /// The directory.
        path: PathBuf,
    },
    /// Written by another version. The operator takes the program that fits.
    #[error(
        "{} was written in format {found}; this program reads format {known}: use the version of \
         quorate that wrote it",
        .path.display()
    )]
    OtherVersion {
        /// The file that says so.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What is understood here.
        known: u32,
    },
    /// The others founded the cluster with another disk in this member's place: this one was wiped
    /// or replaced meanwhile. The operator removes the old member and adds this one.
    #[error(
        "the cluster was founded without the disk that {member} has now: its data directory was \
         wiped or replaced. Its place is not given back with the name: use `member remove` for the \
         old {member}, then `member add`"
    )]
    NotFounded {
        /// What this member is called.
        member: String,
    },
    /// The caller's list of founders lacks this member. The operator names it there.
    #[error("--initial-cluster does not name this member, {member:?}")]
    NotListed {
        /// What this member is called.
        member: String,
    },
    /// Something is damaged or missing. The operator restores or replaces the member.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The system said no. The operator sees to permissions, mounts and space.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The table store said no though its files are sound.
    #[error("cannot open the tables in {}: {what}", .path.display())]
    Tables {
        /// The directory.
        path: PathBuf,
        /// The store's answer.
        what: String,
    },
    /// Nobody can be heard at this address. The operator frees it, or names another one.
    #[error("cannot listen for peers on {address} (UDP): {source}; see --listen-peer-urls")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The certificates for peers are not as they should be. The operator mends the files.
    #[error("TLS between peers: {what}")]
    PeerTls {
        /// Which file, and what is wrong with it.
        what: String,
    },
}

impl StartError {
    /// Whether there was no room.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }

    /// Wraps the system's answer.
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}

/// A file that is not what this member wrote.
#[derive(Debug, Error)]
#[error("{}{}: {what}. {advice}", .path.display(), at(*.offset))]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where in it, if that is known.
    pub offset: Option<u64>,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub advice: &'static str,
}

/// What to do about damage no file of which can be done without.
pub(crate) const RESTORE: &str = "Nothing was changed. Restore the whole data directory from a \
    backup, or, in a cluster of several members, remove this member and add it again with an empty \
    directory";

impl Damage {
    /// Damage that only a backup or another member can undo.
    pub(crate) fn new(path: &Path, offset: Option<u64>, what: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            offset,
            what: what.into(),
            advice: RESTORE,
        }
    }

    /// A file that should be there.
    pub(crate) fn missing(path: &Path) -> Self {
        Self::new(path, None, "missing")
    }
}

fn at(offset: Option<u64>) -> String {
    offset.map_or_else(String::new, |offset| format!(" at byte {offset}"))
}

/// Why a running member stopped by itself. What it acknowledged is on its disk; starting again
/// verifies it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fatal {
    /// The disk failed a write or a sync of the log. It must not be tried again: nobody knows what
    /// of it is on disk (SIMULATION.md D11).
    #[error("the log could not be written, so this member stops: {0}")]
    Log(String),
    /// A thread panicked: a bug. The member stops rather than to go on with half of its parts.
    #[error("the {thread} thread panicked, so this member stops: {message}")]
    Panic {
        /// Which.
        thread: &'static str,
        /// What it said.
        message: String,
    },
    /// The last checkpoint did not end in time. Nothing is lost: the log has it all.
    #[error("the last checkpoint did not end within {seconds} s; the log holds what it would have")]
    Stuck {
        /// How long it was waited for.
        seconds: u64,
    },
}
