//! What waits in a member.

use super::Replica;

/// How much waits in a member at one moment, beside the limits of [`Config`](crate::Config): for
/// the simulator's checks (SIMULATION.md B1, B4). Reading it changes nothing and walks nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// Writes without an answer, passed on or in the log: at most `proposals_max`.
    pub writes: usize,
    /// Questions without an answer: at most `reads_max`.
    pub reads: usize,
    /// Open watches: at most `watches_max`.
    pub watches: usize,
    /// Of a leader: the weight of its log that is not committed. Above `uncommitted_bytes_max` only
    /// by what it came to lead with, or by a single entry.
    pub uncommitted_bytes: usize,
    /// Messages that wait for the disk: some for each peer.
    pub held: usize,
}

impl Replica {
    /// How much waits.
    #[must_use]
    pub fn queues(&self) -> Queues {
        Queues {
            writes: self.writes(),
            reads: self.reads(),
            watches: self.watches.len(),
            uncommitted_bytes: self.raft.uncommitted_bytes(),
            held: self.raft.held_messages(),
        }
    }
}
