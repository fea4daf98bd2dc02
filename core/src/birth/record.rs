//! What a cluster is founded on, and the names that follow from it.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

use crate::ids::{DiskId, NodeId};
use crate::raft::Configuration;

/// One of the disks a cluster is founded on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Founder {
    /// Its name in `--initial-cluster`; unique there.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// The data directory it was formatted with.
    pub disk: DiskId,
    /// The public half of its identity key (Ed25519).
    pub key: [u8; 32],
}

/// What all founders confirmed: who they are. Never changed once born; member ids and the cluster
/// id are functions of it.
///
/// Invariant: founders are in order of their names, which differ.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BirthRecord {
    /// `--initial-cluster-token`.
    pub token: String,
    /// The founders.
    pub founders: Vec<Founder>,
}

impl BirthRecord {
    /// The record of `founders`, in any order.
    ///
    /// # Panics
    /// Where there is none, or two share a name: the caller checks what an operator typed.
    #[must_use]
    pub fn new(token: String, mut founders: Vec<Founder>) -> Self {
        founders.sort();
        assert!(!founders.is_empty(), "a cluster without members");
        assert!(
            founders.windows(2).all(|pair| pair[0].name < pair[1].name),
            "a name twice"
        );
        Self { token, founders }
    }

    /// Names this record in every message.
    #[must_use]
    pub fn hash(&self) -> u128 {
        xxh3_128(&self.encode())
    }

    /// The cluster's id; never zero.
    #[must_use]
    pub fn cluster_id(&self) -> u64 {
        xxh3_64_with_seed(&self.encode(), 0x1d).max(1)
    }

    /// Whether `disk` is one of those the cluster is founded on.
    #[must_use]
    pub fn names(&self, disk: DiskId) -> bool {
        self.founders.iter().any(|founder| founder.disk == disk)
    }

    /// Whether the invariant holds, of a record that a peer sent.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let mut pairs = self.founders.windows(2);
        !self.founders.is_empty() && pairs.all(|pair| pair[0].name < pair[1].name)
    }

    /// The id of the founder on `disk`, if there is one.
    #[must_use]
    pub fn node_of(&self, disk: DiskId) -> Option<NodeId> {
        self.nodes()
            .find(|(_, founder)| founder.disk == disk)
            .map(|(node, _)| node)
    }

    /// The founder called `node`.
    #[must_use]
    pub fn founder(&self, node: NodeId) -> Option<&Founder> {
        self.nodes()
            .find(|&(id, _)| id == node)
            .map(|(_, founder)| founder)
    }

    /// All founders with their ids, in order of their names.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Founder)> {
        let record = self.encode();
        self.founders.iter().zip(1..).map(move |(founder, seat)| {
            (
                NodeId(xxh3_64_with_seed(&record, seat << 8).max(1)),
                founder,
            )
        })
    }

    /// Everyone votes.
    #[must_use]
    pub fn configuration(&self) -> Configuration {
        Configuration::of(self.nodes().map(|(node, _)| node))
    }

    fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("a record of strings and numbers encodes")
    }
}
