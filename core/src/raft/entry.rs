//! What the log is made of.

use alloc::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::LogId;
use crate::raft::membership::Configuration;
use crate::store::Command;
use crate::time::ClusterTime;

/// One entry. Cheap to clone: the payload is shared by the log, the disk and every peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Entry {
    /// Where it stands.
    pub id: LogId,
    /// Cluster time when its leader appended it. Never falls along the log.
    pub stamp: ClusterTime,
    /// What it says.
    pub payload: Payload,
}

/// What an entry says. Variants are only ever appended: their numbers are on every disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Payload {
    /// Nothing: a new leader's first entry, which commits what older terms left (Raft §5.4.2, §8).
    Empty,
    /// A request of a client.
    Command(Arc<Command>),
    /// Remove what was due by `until`, oldest deadline first, at most `limit` nodes.
    Expire {
        /// Bounds the work of one entry.
        limit: u32,
        /// Not after this entry's stamp. Before it where the leader holds back what is due later.
        until: ClusterTime,
    },
    /// Who votes from here on: in force on append (Raft §6).
    Configuration(Arc<Configuration>),
    /// As [`Empty`](Self::Empty), where older terms left what gives nodes a time to live: that time
    /// counts from this entry for all that was granted since then. Nobody was told of it before,
    /// unless an older leader committed it, and then a little more does no harm.
    Renew {
        /// The stamp of the first such entry.
        since: ClusterTime,
    },
}

/// An immutable batch of entries: contiguous indexes, terms that never fall.
pub type Entries = Arc<[Entry]>;

impl Entry {
    /// About how many bytes it takes, in memory and on its way: what the limits of
    /// [`Config`](crate::Config) count. The same on every member.
    #[must_use]
    pub fn weight(&self) -> usize {
        /// Ids, stamp, lengths and tags.
        const FIXED: usize = 64;
        FIXED + self.payload.weight()
    }
}

impl Payload {
    fn weight(&self) -> usize {
        match self {
            Self::Empty | Self::Expire { .. } | Self::Renew { .. } => 0,
            Self::Command(command) => command.weight(),
            Self::Configuration(configuration) => {
                configuration.members().count() * size_of::<u64>()
            }
        }
    }
}
