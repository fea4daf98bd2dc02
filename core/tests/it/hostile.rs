//! A member among peers that say anything: it may accuse them, it may be led astray, but it never
//! panics and never breaks what it promised its own disk.

use quorate_core::raft::{AppendOutcome, Configuration, Entry, MessageBody, Payload};
use quorate_core::rng::Rng;
use quorate_core::time::{ClusterTime, Duration};
use quorate_core::{Index, LogId, NodeId, Term};

use crate::cluster::Cluster;

#[test]
fn no_message_makes_it_panic() {
    for seed in 0..400 {
        let mut rng = Rng::new(seed);
        let mut cluster = Cluster::new(3, 0);
        cluster.members.retain(|&node, _| node == NodeId(1));
        for _ in 0..400 {
            step(&mut cluster, &mut rng);
        }
    }
}

fn step(cluster: &mut Cluster, rng: &mut Rng) {
    let now = cluster.now;
    let own = cluster.raft(1).hard_state().term.0;
    match rng.below(20) {
        0 => {
            cluster.pass(Duration::from_millis(rng.below(1500)));
            let now = cluster.now;
            cluster.raft_mut(NodeId(1)).expect("runs").tick(now);
        }
        1..4 => drop(cluster.poll(NodeId(1))),
        4..6 => drop(cluster.persist(NodeId(1))),
        6 => drop(cluster.propose(1)),
        7 => drop(cluster.read(1, rng.below(9))),
        8 => {
            let to = NodeId(rng.below(4));
            cluster.raft_mut(NodeId(1)).expect("runs").transfer(now, to);
        }
        9 => {
            let is_full = rng.below(2) == 0;
            cluster
                .raft_mut(NodeId(1))
                .expect("runs")
                .disk_full(now, is_full);
        }
        10 => {
            let below = Index(rng.below(10));
            let raft = cluster.raft_mut(NodeId(1)).expect("runs");
            raft.trim(below);
            raft.unreachable(NodeId(2));
        }
        _ => {
            // Mostly of the present term, or it would mostly be ignored.
            let term = (own + rng.below(3)).saturating_sub(rng.below(2));
            let term = if rng.below(500) == 0 {
                u64::MAX - rng.below(2)
            } else {
                term
            };
            let last = cluster.raft(1).last();
            cluster.inject(2 + rng.below(2), 1, term, any_body(rng, last, term));
        }
    }
}

fn any_body(rng: &mut Rng, last: LogId, term: u64) -> MessageBody {
    match rng.below(12) {
        0 => MessageBody::PreVote {
            last: any_id(rng, last),
        },
        1 => MessageBody::PreVoteReply {
            granted: rng.below(2) == 0,
        },
        2 => MessageBody::Vote {
            last: any_id(rng, last),
            transfer: rng.below(2) == 0,
        },
        3 => MessageBody::VoteReply {
            granted: rng.below(4) > 0,
        },
        4 => MessageBody::TimeoutNow,
        5..8 => {
            let through = any_id(rng, last).index;
            let hint = any_id(rng, last);
            let outcome = match rng.below(4) {
                0 | 1 => AppendOutcome::Matched { through },
                2 => AppendOutcome::Conflict {
                    refused: through,
                    hint,
                },
                _ => AppendOutcome::Repairing { through },
            };
            MessageBody::AppendReply {
                outcome,
                round: rng.below(3),
            }
        }
        _ => {
            let previous = any_id(rng, last);
            let mut id = previous;
            let entries = (0..rng.below(4))
                .map(|_| any_entry(rng, &mut id, term))
                .collect();
            let committed = any_id(rng, last).index;
            MessageBody::Append {
                previous,
                entries,
                committed,
                round: rng.below(3),
            }
        }
    }
}

/// Near the end of the log, mostly.
fn any_id(rng: &mut Rng, last: LogId) -> LogId {
    let index = (last.index.0 + rng.below(2)).saturating_sub(rng.below(4));
    let term = (last.term.0 + rng.below(2)).saturating_sub(rng.below(2));
    match rng.below(30) {
        0 => LogId::ZERO,
        1 => LogId {
            term: Term(term),
            index: Index(u64::MAX - rng.below(2)),
        },
        2..5 => LogId {
            term: Term(term),
            index: Index(index),
        },
        _ => last,
    }
}

fn any_entry(rng: &mut Rng, id: &mut LogId, term: u64) -> Entry {
    let skip = u64::from(rng.below(40) == 0);
    id.index = Index(id.index.0.saturating_add(1 + skip));
    id.term = if rng.below(4) == 0 {
        Term(rng.below(term.max(1)) + 1)
    } else {
        Term(term)
    };
    let payload = match rng.below(12) {
        0 => {
            let voters = (0..rng.below(3)).map(|_| NodeId(1 + rng.below(5)));
            Payload::Configuration(Configuration::of(voters).into())
        }
        1 => Payload::Expire {
            limit: 1,
            until: ClusterTime(rng.next_u64()),
        },
        _ => Payload::Empty,
    };
    let stamp = ClusterTime(if rng.below(20) == 0 {
        u64::MAX
    } else {
        id.index.0
    });
    Entry {
        id: *id,
        stamp,
        payload,
    }
}
