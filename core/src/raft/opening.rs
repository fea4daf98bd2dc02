//! How a member begins.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::config::Config;
use crate::ids::{DiskId, Index, LogId, NodeId, WriteSeq};
use crate::output::HardState;
use crate::raft::clock::Anchor;
use crate::raft::durability::Durability;
use crate::raft::log::Log;
use crate::raft::membership::Configurations;
use crate::raft::retention::Trimming;
use crate::raft::role::RoleState;
use crate::raft::timers::Timers;
use crate::raft::{Configuration, Entry, Raft};
use crate::rng::Rng;
use crate::time::{ClusterTime, Instant};

/// What a member begins with: what its disk held.
#[derive(Clone, Debug)]
pub struct RaftOpening {
    /// Who it is.
    pub id: NodeId,
    /// The hash of the birth record.
    pub birth: u128,
    /// Everyone's disk, its own included.
    pub disks: BTreeMap<NodeId, DiskId>,
    /// The configuration in force at `log_start`.
    pub configuration: Configuration,
    /// Term and vote.
    pub hard_state: HardState,
    /// The place just before the first entry.
    pub log_start: LogId,
    /// The stamp there.
    pub start_stamp: ClusterTime,
    /// The log: contiguous from `log_start`, and on disk.
    pub entries: Vec<Entry>,
    /// The last entry in the tables: in the log, or `log_start`.
    pub applied: LogId,
    /// The last write on disk.
    pub persisted: WriteSeq,
    /// After damage: the highest index the log had held (DESIGN.md §6).
    pub held: Option<Index>,
    /// The whole future of its election timeouts.
    pub seed: u64,
}

impl Raft {
    /// Opens with what the disk held. The only voter of a cluster campaigns at once.
    ///
    /// # Panics
    /// Where the opening contradicts itself; recovery has checked it.
    #[must_use]
    pub fn new(config: &Config, opening: RaftOpening, now: Instant) -> Self {
        config.check();
        let log = Log::new(opening.log_start, opening.start_stamp, opening.entries);
        let last = log.last();
        let mut configurations = Configurations::new(opening.configuration);
        for index in log.first().0..=last.index.0 {
            let entry = log.get(Index(index)).expect("in the log");
            configurations.append_entry(entry);
        }
        // What a majority holds can be in the tables before its term is on this disk. Nothing was
        // said in that term, then: all that is said waits for the disk.
        let mut hard_state = opening.hard_state;
        if hard_state.term < last.term {
            assert_eq!(last, opening.log_start, "an entry of a term never seen");
            hard_state = HardState {
                term: last.term,
                vote: None,
            };
        }
        assert_eq!(
            log.id_at(opening.applied.index),
            Some(opening.applied),
            "the log does not hold what was applied",
        );
        assert!(
            opening.disks.contains_key(&opening.id),
            "no disk of its own"
        );
        let persisted = last.index;
        let mut raft = Self {
            id: opening.id,
            birth: opening.birth,
            disks: opening.disks,
            config: config.clone(),
            rng: Rng::new(opening.seed),
            hard_state,
            role: RoleState::Follower(None),
            configurations,
            durability: Durability::new(opening.persisted, opening.hard_state, persisted),
            timers: Timers::default(),
            anchor: Anchor {
                stamp: log.last_stamp(),
                at: now,
            },
            log,
            committed: opening.applied.index,
            delivered: opening.applied.index,
            applied: opening.applied,
            held: opening.held.filter(|&held| held > persisted),
            trimming: Trimming::default(),
            heard: None,
            disk_full: false,
            stopping: false,
            closed: false,
            seal_due: false,
            lost: None,
            outputs: VecDeque::new(),
        };
        raft.arm_election(now);
        if raft.is_promotable() && raft.is_alone() {
            raft.pre_campaign(now);
        }
        raft
    }
}
