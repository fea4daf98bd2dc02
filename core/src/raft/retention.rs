//! How much of the log stays in memory (DESIGN.md §6).

use crate::ids::Index;
use crate::raft::Raft;
use crate::raft::progress::Progress;
use crate::raft::role::RoleState;

/// Entries forgotten at a time, at least. All that a checkpoint makes needless would take a good
/// part of a second, in which nothing else is done.
const TRIM_MIN: u64 = 256;

/// How the log is being forgotten.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trimming {
    /// The caller needs nothing below.
    pub(super) needless_below: Index,
    /// The end of the log when some of it was forgotten last.
    last: Index,
    /// There is more to forget.
    is_under_way: bool,
}

impl Raft {
    /// The caller needs nothing of the log below `below`: it is in a durable checkpoint. What peers
    /// may still need stays, up to `Config::log_bytes_max`.
    pub fn trim(&mut self, below: Index) {
        self.trimming.needless_below = self.trimming.needless_below.max(below);
        self.maybe_trim();
    }

    /// Whether there is more to forget: when there is time for that, [`trim`](Self::trim) goes on.
    #[must_use]
    pub const fn is_trimming(&self) -> bool {
        self.trimming.is_under_way
    }

    /// Forgets some of what nobody needs, and beyond the limit of what only peers need.
    pub(super) fn maybe_trim(&mut self) {
        let unapplied = self.applied.index.next();
        let unwritten = self.durability.persisted().next();
        let own = self.trimming.needless_below.min(unapplied).min(unwritten);
        let wanted = self.wanted_by_peers();
        // A snapshot on its way is worth more log than a peer that may need one: without what
        // follows it, it would be sent in vain.
        let bytes_max = match self.is_sending_snapshot() {
            true => self.config.log_bytes_max.saturating_mul(2),
            false => self.config.log_bytes_max,
        };
        // More than has come meanwhile, so that it ends.
        let last = self.log.last().index;
        let news = match self.trimming.is_under_way {
            true => last.0.saturating_sub(self.trimming.last.0),
            false => 0,
        };
        self.trimming.last = last;
        self.trimming.is_under_way = true;
        for _ in 0..TRIM_MIN + 2 * news {
            let first = self.log.first();
            if first >= own || first >= wanted && self.log.bytes() <= bytes_max {
                self.trimming.is_under_way = false;
                break;
            }
            self.log.forget_first();
        }
        self.configurations.trim(self.log.start().index);
    }

    /// Whether a snapshot is on its way whose next entry is in the log.
    fn is_sending_snapshot(&self) -> bool {
        let start = self.log.start().index;
        match &self.role {
            RoleState::Leader(leadership) => {
                let mut sending = leadership.progress.values().filter_map(Progress::sending);
                sending.any(|last| last >= start)
            }
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => false,
        }
    }

    /// The first entry that some peer may need. Also one that was not heard from for long: if it
    /// comes back within the limit, the log is cheaper than a snapshot. Who does not lead does not
    /// know, but may lead next.
    fn wanted_by_peers(&self) -> Index {
        let configuration = self.configurations.in_force();
        if configuration.members().all(|node| node == self.id) {
            return Index(u64::MAX);
        }
        match &self.role {
            RoleState::Leader(leadership) => {
                let lowest = leadership.progress.values().map(Progress::matched).min();
                lowest.map_or(Index(u64::MAX), Index::next)
            }
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                Index::ZERO
            }
        }
    }
}
