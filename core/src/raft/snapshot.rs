//! State that travels whole, to a member that lags behind the log (Raft §7).

use crate::ids::{LogId, NodeId};
use crate::raft::clock::Anchor;
use crate::raft::membership::Configurations;
use crate::raft::role::{Answer, RoleState};
use crate::raft::{Configuration, Raft};
use crate::time::{ClusterTime, Instant};

/// What Raft must know of a snapshot that was received.
#[derive(Clone, Debug)]
pub struct SnapshotHead {
    /// The last entry it contains.
    pub last: LogId,
    /// The stamp of that entry.
    pub stamp: ClusterTime,
    /// Who votes, as of that entry.
    pub configuration: Configuration,
}

impl Raft {
    /// Puts a snapshot in the place of the log, if that helps: whether it did. What a snapshot
    /// holds is committed, whoever sent it and in whatever term.
    ///
    /// The caller's state is that of the snapshot from now on; the disk is told by the next write
    /// ([`Write::install`](crate::Write::install)).
    pub fn install(&mut self, now: Instant, head: SnapshotHead) -> bool {
        let SnapshotHead {
            last,
            stamp,
            configuration,
        } = head;
        if last.index <= self.committed || self.is_leader() || self.stopping {
            return false;
        }
        if self.log.id_at(last.index) == Some(last) {
            // Raft figure 13, step 6: the log has all of it, and more. It only was not known to be
            // committed.
            self.commit_to(last.index);
            return false;
        }
        if last.term > self.hard_state.term {
            self.become_follower(now, last.term);
        }
        let agreed = self.committed;
        self.log.restart(last, stamp);
        self.configurations = Configurations::new(configuration);
        self.durability.install(last, agreed);
        self.anchor = Anchor { stamp, at: now };
        (self.committed, self.delivered) = (last.index, last.index);
        self.applied = last;
        self.trimming.needless_below = last.index.next();
        match &mut self.role {
            RoleState::Follower(Some(following)) => {
                // What is committed is in every leader's log (Raft §5.4).
                following.matched = last.index;
                following.acknowledged = following.acknowledged.min(self.durability.persisted());
                // It was of another log.
                following.answer = following.answer.filter(|answer| *answer == Answer::Matched);
            }
            RoleState::Follower(None) => {}
            // It asked for votes with another log.
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                self.become_follower(now, self.hard_state.term);
            }
            RoleState::Leader(_) => unreachable!("a leader has the log that others lack"),
        }
        self.check_invariants();
        true
    }

    /// Whether a snapshot was installed that the disk does not know yet.
    #[must_use]
    pub fn is_installing(&self) -> bool {
        self.durability.must_install() || self.durability.persisted() < self.log.start().index
    }

    /// A snapshot through `last` is on its way to `to`: what follows it stays in the log.
    pub fn snapshot_started(&mut self, to: NodeId, last: LogId) {
        if let RoleState::Leader(leadership) = &mut self.role
            && let Some(progress) = leadership.progress.get_mut(&to)
        {
            progress.on_snapshot_started(last.index);
        }
    }

    /// The snapshot through `last` has reached `to`, or has not: then another is asked for.
    pub fn snapshot_sent(&mut self, to: NodeId, last: LogId, delivered: bool) {
        let start = self.log.start().index;
        if let RoleState::Leader(leadership) = &mut self.role
            && let Some(progress) = leadership.progress.get_mut(&to)
        {
            progress.on_snapshot_sent(last.index, delivered, start);
        }
        self.maybe_trim();
    }
}
