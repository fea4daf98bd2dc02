//! The sections of the Raft paper and of Ongaro's thesis, each as a test under its number.

use quorate_core::raft::{
    AppendOutcome, Configuration, Entry, MessageBody, Payload, RaftOutput, Role,
};
use quorate_core::time::{ClusterTime, Duration};
use quorate_core::{Config, Index, LogId, NodeId, PeerFault, RequestError, RequestId, Term};

use crate::cluster::{Cluster, append, disk, disk_of, entry, id, matched, message, reply};

fn vote(last: LogId) -> MessageBody {
    MessageBody::Vote {
        last,
        transfer: false,
    }
}

fn has_fault(outputs: &[RaftOutput]) -> bool {
    outputs
        .iter()
        .any(|output| matches!(output, RaftOutput::Fault { .. }))
}

/// One member with a log of `terms`, in `term`; the other two are made up by the test.
fn one_of_three(term: u64, terms: &[u64]) -> Cluster {
    let mut cluster = Cluster::new(3, 0);
    cluster.members.clear();
    cluster.insert(NodeId(1), disk(term, terms));
    cluster
}

/// As `one_of_three`, but n1 leads `term + 1`.
fn leader_of_three(term: u64, terms: &[u64]) -> Cluster {
    let mut cluster = one_of_three(term, terms);
    cluster.timeout(1);
    cluster.poll_all();
    cluster.inject(2, 1, term + 1, MessageBody::PreVoteReply { granted: true });
    cluster.settle();
    cluster.inject(2, 1, term + 1, MessageBody::VoteReply { granted: true });
    assert!(cluster.raft(1).is_leader());
    cluster.poll_all();
    cluster
}

/// As `one_of_three`, and n1 follows n2 in `term`.
fn follower_of_two(term: u64, terms: &[u64]) -> Cluster {
    let mut cluster = one_of_three(term, terms);
    cluster.inject(2, 1, term, append(LogId::ZERO, &[], 0));
    cluster.settle();
    cluster.network.clear();
    assert_eq!(cluster.raft(1).leader(), Some(NodeId(2)));
    cluster
}

#[test]
fn s5_1_a_later_term_makes_a_follower_of_everyone() {
    for role in [
        Role::Follower,
        Role::PreCandidate,
        Role::Candidate,
        Role::Leader,
    ] {
        let mut cluster = match role {
            Role::Leader => leader_of_three(2, &[1, 2]),
            Role::Follower | Role::PreCandidate | Role::Candidate => one_of_three(3, &[1, 2]),
        };
        if role == Role::PreCandidate || role == Role::Candidate {
            cluster.timeout(1);
        }
        if role == Role::Candidate {
            cluster.inject(2, 1, 4, MessageBody::PreVoteReply { granted: true });
        }
        assert_eq!(cluster.raft(1).role(), role);
        cluster.inject(3, 1, 9, append(id(2, 2), &[], 0));
        assert_eq!(cluster.raft(1).role(), Role::Follower);
        assert_eq!(cluster.raft(1).hard_state().term, Term(9));
        assert_eq!(cluster.raft(1).leader(), Some(NodeId(3)));
    }
}

#[test]
fn s5_1_a_message_of_an_older_term_changes_nothing() {
    let old = [
        append(id(2, 2), &[entry(3, 2)], 2),
        vote(id(9, 2)),
        MessageBody::VoteReply { granted: true },
        matched(2),
        MessageBody::TimeoutNow,
        MessageBody::PreVoteReply { granted: false },
        MessageBody::PreVoteReply { granted: true },
        MessageBody::PreVote { last: id(9, 2) },
    ];
    for body in old {
        let mut cluster = one_of_three(5, &[1, 2]);
        let before = (
            cluster.raft(1).to_string(),
            cluster.raft(1).deadline(),
            cluster.log(1),
        );
        cluster.inject(2, 1, 3, body.clone());
        let after = (
            cluster.raft(1).to_string(),
            cluster.raft(1).deadline(),
            cluster.log(1),
        );
        assert_eq!(before, after, "{body}");
    }
}

#[test]
fn s5_1_one_whose_term_ran_ahead_tells_an_old_leader() {
    let mut cluster = one_of_three(5, &[1]);
    cluster.inject(2, 1, 3, append(id(1, 1), &[], 0));
    cluster.poll_all();
    let answer = cluster.network.pop_front().expect("an answer");
    assert_eq!((answer.to, answer.message.term), (NodeId(2), Term(5)));
}

#[test]
fn s5_2_a_vote_is_given_once_a_term() {
    let mut cluster = one_of_three(1, &[1]);
    cluster.inject(2, 1, 2, vote(id(1, 1)));
    cluster.settle();
    assert_eq!(cluster.disk(1).hard_state.vote, Some(NodeId(2)));
    cluster.inject(3, 1, 2, vote(id(1, 1)));
    cluster.poll_all();
    assert_eq!(
        cluster.sent(1, 3),
        [MessageBody::VoteReply { granted: false }]
    );
    // Asked again, it says the same again.
    cluster.inject(2, 1, 2, vote(id(1, 1)));
    cluster.poll_all();
    assert_eq!(
        cluster.sent(1, 2),
        [MessageBody::VoteReply { granted: true }]
    );

    // Also after a restart.
    cluster.crash(NodeId(1));
    cluster.restart(NodeId(1));
    cluster.network.clear();
    cluster.inject(3, 1, 2, vote(id(1, 1)));
    cluster.poll_all();
    assert_eq!(
        cluster.sent(1, 3),
        [MessageBody::VoteReply { granted: false }]
    );
}

#[test]
fn s5_2_no_vote_leaves_before_it_is_on_disk() {
    let mut cluster = one_of_three(1, &[1]);
    cluster.inject(2, 1, 2, vote(id(1, 1)));
    cluster.poll_all();
    assert_eq!(cluster.sent(1, 2), []);
    cluster.persist(NodeId(1));
    cluster.poll_all();
    assert_eq!(
        cluster.sent(1, 2),
        [MessageBody::VoteReply { granted: true }]
    );
}

#[test]
fn s5_2_a_candidate_needs_a_majority_and_its_own_vote_on_disk() {
    let mut cluster = Cluster::new(5, 0);
    let others: Vec<_> = (2..=5).map(NodeId).collect();
    others.iter().for_each(|&node| cluster.crash(node));
    cluster.timeout(1);
    cluster.poll_all();
    cluster.inject(2, 1, 1, MessageBody::PreVoteReply { granted: true });
    cluster.inject(3, 1, 1, MessageBody::PreVoteReply { granted: true });
    assert_eq!(cluster.raft(1).role(), Role::Candidate);
    cluster.poll_all();
    assert_eq!(cluster.sent(1, 2).len(), 1, "the pre-vote only");
    let granted = MessageBody::VoteReply { granted: true };
    for voter in [2, 3] {
        cluster.inject(voter, 1, 1, granted.clone());
    }
    cluster.persist(NodeId(1));
    assert_eq!(
        cluster.raft(1).role(),
        Role::Candidate,
        "nobody was asked by then"
    );
    cluster.inject(2, 1, 1, granted.clone());
    cluster.inject(2, 1, 1, granted.clone());
    assert_eq!(
        cluster.raft(1).role(),
        Role::Candidate,
        "two of five, one of them twice"
    );
    cluster.inject(3, 1, 1, granted);
    assert_eq!(cluster.raft(1).role(), Role::Leader);
}

#[test]
fn s5_2_a_candidate_that_hears_the_leader_of_its_term_follows() {
    let mut cluster = one_of_three(1, &[1]);
    cluster.timeout(1);
    cluster.inject(2, 1, 2, MessageBody::PreVoteReply { granted: true });
    cluster.settle();
    assert_eq!(cluster.raft(1).role(), Role::Candidate);
    cluster.inject(3, 1, 2, append(id(1, 1), &[], 0));
    assert_eq!(cluster.raft(1).leader(), Some(NodeId(3)));
    assert_eq!(
        cluster.raft(1).hard_state().vote,
        Some(NodeId(1)),
        "its vote stands"
    );
}

#[test]
fn s5_2_election_timeouts_are_random_within_one_and_two_times_the_least() {
    let config = Config::default();
    let least = config.election_timeout;
    let mut seen: Vec<u64> = Vec::new();
    for node in 1..=20 {
        let mut cluster = Cluster::new(3, 20);
        cluster.members.retain(|&id, _| id == NodeId(node));
        let deadline = cluster.deadline().expect("an election timer");
        assert!(deadline >= cluster.now + least && deadline < cluster.now + 2 * least);
        seen.push(deadline.0);
    }
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.len() > 15, "hardly random: {seen:?}");
}

#[test]
fn s5_2_two_leaders_of_one_term_are_a_fault() {
    let mut cluster = follower_of_two(3, &[1]);
    cluster.inject(3, 1, 3, append(id(1, 1), &[entry(2, 3)], 0));
    assert!(has_fault(&cluster.poll(NodeId(1))));
    assert_eq!(cluster.log(1), [id(1, 1)]);

    let mut cluster = leader_of_three(3, &[1]);
    cluster.inject(3, 1, 4, append(id(1, 1), &[entry(2, 4)], 0));
    assert!(has_fault(&cluster.poll(NodeId(1))));
    assert!(cluster.raft(1).is_leader());
}

#[test]
fn s5_3_a_follower_refuses_what_does_not_fit_and_hints_by_term() {
    // (its log, the previous entry of the append, where the logs may still agree)
    let cases: [(&[u64], LogId, LogId); 5] = [
        (&[1, 1], id(5, 2), id(2, 1)),
        (&[1, 1, 2, 2, 2], id(5, 3), id(4, 2)),
        (&[1, 1, 2, 2, 2], id(5, 1), id(2, 1)),
        (&[1, 1, 3, 3, 3], id(4, 2), id(2, 1)),
        (&[], id(1, 1), LogId::ZERO),
    ];
    for (terms, previous, hint) in cases {
        let mut cluster = one_of_three(9, terms);
        cluster.inject(2, 1, 9, append(previous, &[], 0));
        cluster.poll_all();
        let conflict = AppendOutcome::Conflict {
            refused: previous.index,
            hint,
        };
        assert_eq!(
            cluster.sent(1, 2),
            [reply(conflict, 0)],
            "{terms:?} {previous}"
        );
    }
}

#[test]
fn s5_3_a_leader_steps_back_one_term_at_a_time() {
    // (the hint, the previous entry of the next probe) of a leader whose log is 1 1 1 4 4 5, then 6
    let cases = [
        (id(4, 2), id(3, 1)),
        (id(2, 1), id(2, 1)),
        (id(5, 4), id(5, 4)),
        (id(5, 5), id(5, 4)),
        (id(3, 3), id(3, 1)),
        (LogId::ZERO, LogId::ZERO),
    ];
    for (hint, expected) in cases {
        let mut cluster = leader_of_three(5, &[1, 1, 1, 4, 4, 5]);
        cluster.network.clear();
        let conflict = AppendOutcome::Conflict {
            refused: Index(6),
            hint,
        };
        cluster.inject(2, 1, 6, reply(conflict, 0));
        cluster.poll_all();
        match &cluster.sent(1, 2)[..] {
            [
                MessageBody::Append {
                    previous, entries, ..
                },
            ] => {
                assert_eq!(*previous, expected, "{hint}");
                assert_eq!(
                    entries.len() as u64,
                    7 - expected.index.0,
                    "all that follows"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn s5_3_only_a_true_conflict_removes_entries() {
    let mut cluster = follower_of_two(3, &[1, 1, 2, 2]);
    for body in [
        append(LogId::ZERO, &[entry(1, 1)], 0),
        append(id(1, 1), &[entry(2, 1), entry(3, 2)], 0),
        append(id(2, 1), &[], 0),
    ] {
        cluster.inject(2, 1, 3, body);
        assert_eq!(cluster.log(1).len(), 4, "shorter, or repeated");
    }
    cluster.inject(2, 1, 3, append(id(2, 1), &[entry(3, 2), entry(4, 3)], 0));
    assert_eq!(cluster.log(1), [id(1, 1), id(2, 1), id(3, 2), id(4, 3)]);
    assert!(!has_fault(&cluster.poll(NodeId(1))));
}

#[test]
fn s5_3_what_is_committed_is_never_removed() {
    for body in [
        append(id(1, 1), &[entry(2, 3)], 0),
        append(id(2, 3), &[entry(3, 3)], 0),
        append(LogId::ZERO, &[entry(1, 3)], 0),
    ] {
        let mut cluster = one_of_three(2, &[1, 1, 2]);
        cluster.inject(2, 1, 2, append(id(3, 2), &[], 2));
        cluster.settle();
        assert_eq!(cluster.raft(1).committed(), Index(2));
        cluster.inject(3, 1, 3, body);
        assert!(has_fault(&cluster.poll(NodeId(1))));
        assert_eq!(cluster.log(1), [id(1, 1), id(2, 1), id(3, 2)]);
    }
}

#[test]
fn s5_3_what_a_leader_sent_it_cannot_take_back() {
    let mut cluster = follower_of_two(3, &[]);
    cluster.inject(2, 1, 3, append(LogId::ZERO, &[entry(1, 1), entry(2, 2)], 0));
    cluster.inject(2, 1, 3, append(id(1, 1), &[entry(2, 3)], 0));
    assert!(has_fault(&cluster.poll(NodeId(1))));
    assert_eq!(cluster.log(1), [id(1, 1), id(2, 2)]);
}

#[test]
fn s5_3_a_follower_commits_no_further_than_it_is_known_to_match() {
    // Entries 2 and 3 may be another leader's leavings: this one speaks of 1 only.
    let mut cluster = one_of_three(3, &[1, 1, 2]);
    cluster.inject(2, 1, 3, append(id(1, 1), &[], 3));
    assert_eq!(cluster.raft(1).committed(), Index(1));
    cluster.inject(2, 1, 3, append(id(1, 1), &[entry(2, 1)], 3));
    assert_eq!(cluster.raft(1).committed(), Index(2));
    cluster.inject(2, 1, 3, append(id(2, 1), &[entry(3, 3)], 2));
    assert_eq!(
        cluster.raft(1).committed(),
        Index(2),
        "no further than the leader says"
    );
}

#[test]
fn s5_3_a_follower_acknowledges_what_is_on_disk_and_known_to_match() {
    let mut cluster = follower_of_two(3, &[1, 2, 2]);
    cluster.inject(2, 1, 3, append(id(1, 1), &[], 0));
    cluster.poll_all();
    assert_eq!(
        cluster.sent(1, 2),
        [matched(1)],
        "the rest of its log may differ"
    );
    cluster.network.clear();
    cluster.inject(2, 1, 3, append(id(1, 1), &[entry(2, 3), entry(3, 3)], 0));
    cluster.poll_all();
    assert_eq!(cluster.sent(1, 2), [], "not yet on disk");
    cluster.inject(2, 1, 3, append(id(3, 3), &[], 0));
    cluster.poll_all();
    assert_eq!(
        cluster.sent(1, 2),
        [matched(1)],
        "a heartbeat is answered at once"
    );
    cluster.network.clear();
    cluster.persist(NodeId(1));
    cluster.poll_all();
    assert_eq!(cluster.sent(1, 2), [matched(3)]);
}

#[test]
fn s5_3_a_late_write_does_not_vouch_for_what_replaced_it() {
    let mut cluster = follower_of_two(2, &[1]);
    cluster.inject(2, 1, 2, append(id(1, 1), &[entry(2, 2), entry(3, 2)], 0));
    cluster.poll_all();
    cluster.inject(
        3,
        1,
        3,
        append(id(1, 1), &[entry(2, 3), entry(3, 3), entry(4, 3)], 0),
    );
    cluster.poll_all();
    cluster.persist(NodeId(1));
    assert_eq!(cluster.raft(1).persisted_index(), Index(1));
    cluster.poll_all();
    assert_eq!(
        cluster.sent(1, 3),
        [],
        "neither the term nor the entries are on disk"
    );
    cluster.persist(NodeId(1));
    cluster.poll_all();
    assert_eq!(cluster.sent(1, 3), [matched(4)]);
    assert_eq!(cluster.disk(1).last(), id(4, 3));
}

#[test]
fn s5_3_a_leader_never_counts_what_it_did_not_hear() {
    let mut cluster = leader_of_three(3, &[1]);
    cluster.inject(2, 1, 4, matched(3));
    assert!(
        has_fault(&cluster.poll(NodeId(1))),
        "past the end of its log"
    );
    cluster.inject(2, 1, 4, matched(2));
    assert_eq!(
        cluster.raft(1).committed(),
        Index(0),
        "one disk of three, its own not yet"
    );
    cluster.persist(NodeId(1));
    assert_eq!(cluster.raft(1).committed(), Index(2));
}

#[test]
fn s5_4_1_only_one_whose_log_is_as_new_gets_a_vote() {
    // (the voter's log, the candidate's last entry, granted)
    let cases: [(&[u64], LogId, bool); 6] = [
        (&[1, 1], id(2, 1), true),
        (&[1, 1], id(3, 1), true),
        (&[1, 1], id(1, 1), false),
        (&[1, 1], id(1, 2), true),
        (&[1, 2], id(9, 1), false),
        (&[], LogId::ZERO, true),
    ];
    for (terms, last, granted) in cases {
        let mut cluster = one_of_three(3, terms);
        cluster.inject(2, 1, 4, MessageBody::PreVote { last });
        cluster.inject(2, 1, 4, vote(last));
        cluster.settle();
        let votes: Vec<_> = cluster.disk(1).hard_state.vote.into_iter().collect();
        assert_eq!(
            votes,
            if granted { vec![NodeId(2)] } else { vec![] },
            "{terms:?} {last}"
        );
        assert_eq!(
            cluster.raft(1).hard_state().term,
            Term(4),
            "the term is seen in any case"
        );
    }
}

#[test]
fn s5_4_1_a_pre_vote_looks_at_the_log_as_a_vote_does() {
    for (last, granted) in [(id(2, 2), true), (id(1, 2), false), (id(9, 1), false)] {
        let mut cluster = one_of_three(3, &[1, 2]);
        cluster.inject(2, 1, 4, MessageBody::PreVote { last });
        cluster.poll_all();
        assert_eq!(
            cluster.sent(1, 2),
            [MessageBody::PreVoteReply { granted }],
            "{last}"
        );
        assert_eq!(
            cluster.raft(1).hard_state().term,
            Term(3),
            "a pre-vote changes nothing"
        );
    }
}

#[test]
fn s5_4_2_old_term_commits_only_with_a_current_entry() {
    // Figure 8: entry 2 of term 2 is on two of three disks, and still not committed.
    let mut cluster = leader_of_three(3, &[1, 2]);
    cluster.persist(NodeId(1));
    cluster.inject(2, 1, 4, matched(2));
    assert_eq!(cluster.raft(1).committed(), Index(0));
    // With the entry of its own term all before it are.
    cluster.inject(2, 1, 4, matched(3));
    assert_eq!(cluster.raft(1).committed(), Index(3));
    cluster.poll(NodeId(1));
    let committed = cluster.members[&NodeId(1)].committed.iter();
    let committed: Vec<_> = committed.map(|entry| entry.id).collect();
    assert_eq!(
        committed,
        [id(1, 1), id(2, 2), id(3, 4)],
        "in order, each once"
    );
}

#[test]
fn s5_4_2_a_new_leader_first_appends_an_entry_of_its_term() {
    let cluster = leader_of_three(3, &[1, 2]);
    assert_eq!(cluster.raft(1).last(), id(3, 4));
    let first = cluster.raft(1).entry(Index(3)).map(|entry| &entry.payload);
    assert_eq!(first, Some(&Payload::Empty));
}

#[test]
fn s5_5_a_crashed_member_catches_up() {
    let mut cluster = Cluster::new(3, 0);
    cluster.elect(1);
    cluster.crash(NodeId(3));
    for _ in 0..5 {
        cluster.propose(1).expect("leads");
        cluster.settle();
    }
    cluster.restart(NodeId(3));
    cluster.run(2 * cluster.config.heartbeat_interval);
    assert_eq!(
        cluster.members[&NodeId(3)].committed.len(),
        6,
        "all of it, from the first"
    );
    assert_eq!(cluster.log(3), cluster.log(1));
}

#[test]
fn s6_a_configuration_is_in_force_on_append_and_undone_with_its_entry() {
    let mut cluster = follower_of_two(3, &[1]);
    let before = cluster.raft(1).configuration().clone();
    let joint = Configuration {
        voters: [NodeId(1), NodeId(4)].into(),
        outgoing: before.voters.clone(),
        learners: [NodeId(5)].into(),
    };
    let mut change = entry(2, 3);
    change.payload = Payload::Configuration(joint.clone().into());
    cluster.inject(2, 1, 3, append(id(1, 1), &[change], 0));
    assert_eq!(*cluster.raft(1).configuration(), joint);
    // Also after a restart.
    cluster.settle();
    cluster.crash(NodeId(1));
    cluster.restart(NodeId(1));
    assert_eq!(*cluster.raft(1).configuration(), joint);
    cluster.inject(3, 1, 4, append(id(1, 1), &[entry(2, 4)], 0));
    assert_eq!(*cluster.raft(1).configuration(), before);
}

#[test]
fn s6_one_change_at_a_time_and_none_before_the_leader_has_committed() {
    let mut cluster = leader_of_three(3, &[1]);
    let now = cluster.now;
    let change = Payload::Configuration(Configuration::of([NodeId(1), NodeId(2)]).into());
    let raft = cluster.raft_mut(NodeId(1)).expect("runs");
    assert_eq!(raft.propose(now, change.clone()), Err(RequestError::Busy));
    cluster.persist(NodeId(1));
    cluster.inject(2, 1, 4, matched(2));
    let raft = cluster.raft_mut(NodeId(1)).expect("runs");
    assert_eq!(raft.propose(now, change.clone()), Ok(id(3, 4)));
    assert_eq!(raft.propose(now, change), Err(RequestError::Busy));
    // n3 is no member any more: it is told nothing, and its word does not count.
    cluster.network.clear();
    cluster.poll_all();
    assert_eq!(cluster.sent(1, 3), []);
    cluster.persist(NodeId(1));
    cluster.inject(3, 1, 4, matched(3));
    assert_eq!(cluster.raft(1).committed(), Index(2));
    cluster.inject(2, 1, 4, matched(3));
    assert_eq!(cluster.raft(1).committed(), Index(3));
}

#[test]
fn thesis_3_10_transfer_waits_until_the_target_has_caught_up() {
    let mut cluster = leader_of_three(3, &[1]);
    let now = cluster.now;
    cluster
        .raft_mut(NodeId(1))
        .expect("runs")
        .transfer(now, NodeId(2));
    assert_eq!(cluster.propose(1), Err(RequestError::Busy));
    cluster.poll_all();
    assert!(!cluster.sent(1, 2).contains(&MessageBody::TimeoutNow));
    cluster.inject(2, 1, 4, matched(2));
    cluster.poll_all();
    assert!(cluster.sent(1, 2).contains(&MessageBody::TimeoutNow));
    cluster.inject(2, 1, 4, matched(2));
    cluster.network.clear();
    cluster.poll_all();
    assert!(
        !cluster.sent(1, 2).contains(&MessageBody::TimeoutNow),
        "once"
    );
}

#[test]
fn thesis_3_10_the_target_campaigns_at_once_and_is_heard_in_spite_of_stickiness() {
    let mut cluster = Cluster::new(3, 0);
    cluster.elect(1);
    let now = cluster.now;
    cluster
        .raft_mut(NodeId(1))
        .expect("runs")
        .transfer(now, NodeId(3));
    cluster.settle();
    assert!(cluster.raft(3).is_leader(), "no time has passed");
    assert_eq!(cluster.raft(1).leader(), Some(NodeId(3)));
}

#[test]
fn thesis_3_10_a_transfer_to_a_dead_member_is_given_up() {
    let mut cluster = Cluster::new(3, 0);
    cluster.elect(1);
    cluster.crash(NodeId(3));
    let now = cluster.now;
    cluster
        .raft_mut(NodeId(1))
        .expect("runs")
        .transfer(now, NodeId(3));
    assert_eq!(cluster.propose(1), Err(RequestError::Busy));
    cluster.run(cluster.config.election_timeout);
    assert!(cluster.raft(1).is_leader());
    assert!(cluster.propose(1).is_ok());
}

#[test]
fn thesis_4_2_3_who_hears_a_leader_does_not_hear_a_candidate() {
    let mut cluster = follower_of_two(3, &[1]);
    cluster.inject(3, 1, 4, MessageBody::PreVote { last: id(1, 1) });
    cluster.inject(3, 1, 4, vote(id(1, 1)));
    cluster.poll_all();
    assert_eq!(cluster.sent(1, 3), []);
    assert_eq!(cluster.raft(1).hard_state().term, Term(3));
    // After the least election timeout it may be that the leader is gone.
    cluster.pass(cluster.config.election_timeout);
    cluster.inject(3, 1, 4, vote(id(1, 1)));
    cluster.settle();
    assert_eq!(cluster.sent(1, 3), []);
    assert_eq!(cluster.disk(1).hard_state.vote, Some(NodeId(3)));

    let mut cluster = leader_of_three(3, &[1]);
    cluster.inject(3, 1, 9, vote(id(9, 8)));
    assert!(
        cluster.raft(1).is_leader(),
        "a leader that checks its quorum is sticky, too"
    );
}

#[test]
fn thesis_6_2_a_leader_without_a_quorum_steps_down_within_an_election_timeout() {
    let mut cluster = Cluster::new(5, 0);
    cluster.elect(1);
    let timeout = cluster.config.election_timeout;
    cluster.run(3 * timeout);
    assert!(cluster.raft(1).is_leader());
    cluster.crash(NodeId(2));
    cluster.crash(NodeId(3));
    cluster.run(3 * timeout);
    assert!(cluster.raft(1).is_leader(), "three of five is a quorum");
    cluster.crash(NodeId(4));
    cluster.read(1, 1).expect("leads");
    cluster.run(timeout - Duration::from_millis(150));
    assert!(cluster.raft(1).is_leader());
    let outputs = cluster.run(Duration::from_millis(150));
    assert!(!cluster.raft(1).is_leader());
    assert!(outputs.contains(&(NodeId(1), RaftOutput::LostLeadership)));
    assert!(outputs.contains(&(
        NodeId(1),
        RaftOutput::ReadLost {
            request: RequestId(1)
        }
    )));
}

#[test]
fn thesis_6_4_a_read_waits_for_a_round_that_began_after_it() {
    let acknowledge = |round| reply(AppendOutcome::Matched { through: Index(2) }, round);
    let mut cluster = leader_of_three(3, &[1]);
    cluster.read(1, 1).expect("leads");
    cluster.poll_all();
    cluster.persist(NodeId(1));
    cluster.inject(2, 1, 4, acknowledge(0));
    assert_eq!(cluster.raft(1).committed(), Index(2));
    assert_eq!(
        ready(&cluster.poll(NodeId(1))),
        [],
        "the round begins with this poll"
    );
    cluster.inject(2, 1, 4, acknowledge(0));
    assert_eq!(
        ready(&cluster.poll(NodeId(1))),
        [],
        "an answer to an earlier message"
    );
    cluster.read(1, 2).expect("leads");
    cluster.inject(2, 1, 3, acknowledge(1));
    assert_eq!(
        ready(&cluster.poll(NodeId(1))),
        [],
        "an answer of an older term"
    );
    cluster.inject(2, 1, 4, acknowledge(1));
    assert_eq!(ready(&cluster.poll(NodeId(1))), [(RequestId(1), Index(2))]);
    cluster.inject(3, 1, 4, acknowledge(2));
    assert_eq!(ready(&cluster.poll(NodeId(1))), [(RequestId(2), Index(2))]);
    cluster.inject(2, 1, 4, acknowledge(3));
    assert!(has_fault(&cluster.poll(NodeId(1))), "no such round");
}

#[test]
fn thesis_6_4_no_round_before_an_entry_of_the_term_is_committed() {
    let mut cluster = leader_of_three(3, &[1]);
    cluster.network.clear();
    cluster.read(1, 1).expect("leads");
    cluster.poll_all();
    assert_eq!(cluster.sent(1, 2), [], "nothing asks yet");
    assert_eq!(cluster.raft(1).reads(), 1);
}

#[test]
fn thesis_9_6_a_member_that_was_cut_off_disturbs_nobody() {
    let mut cluster = Cluster::new(3, 0);
    cluster.elect(1);
    cluster.cut.insert(NodeId(3));
    cluster.run(Duration::from_secs(30));
    assert_eq!(cluster.raft(3).role(), Role::PreCandidate);
    assert_eq!(
        cluster.raft(3).hard_state().term,
        Term(1),
        "its term did not grow"
    );
    cluster.cut.clear();
    cluster.run(Duration::from_secs(5));
    assert!(cluster.raft(1).is_leader());
    assert_eq!(cluster.raft(1).hard_state().term, Term(1));
    assert_eq!(cluster.raft(3).leader(), Some(NodeId(1)));
}

#[test]
fn thesis_9_6_pre_votes_of_another_term_do_not_count() {
    let mut cluster = one_of_three(3, &[1]);
    cluster.timeout(1);
    cluster.inject(2, 1, 3, MessageBody::PreVoteReply { granted: true });
    cluster.inject(2, 1, 5, MessageBody::PreVoteReply { granted: true });
    assert_eq!(cluster.raft(1).role(), Role::PreCandidate);
    cluster.inject(2, 1, 4, MessageBody::PreVoteReply { granted: true });
    assert_eq!(cluster.raft(1).role(), Role::Candidate);
}

#[test]
fn thesis_10_2_1_a_leader_writes_while_it_sends_and_counts_itself_only_then() {
    let mut cluster = leader_of_three(3, &[1]);
    assert_eq!(
        cluster.members[&NodeId(1)].writing.len(),
        1,
        "not yet on disk"
    );
    assert_eq!(
        cluster.sent(1, 2),
        [append(id(1, 1), &[own_entry(&cluster)], 0)]
    );
    cluster.inject(2, 1, 4, matched(2));
    assert_eq!(cluster.raft(1).committed(), Index(0));
    // Two other disks are a quorum without its own.
    cluster.inject(3, 1, 4, matched(2));
    assert_eq!(cluster.raft(1).committed(), Index(2));
    assert_eq!(cluster.raft(1).persisted_index(), Index(1));
}

/// The questions that may be answered, and from which index on.
fn ready(outputs: &[RaftOutput]) -> Vec<(RequestId, Index)> {
    let mut ready = Vec::new();
    for output in outputs {
        if let RaftOutput::ReadReady { request, index } = output {
            ready.push((*request, *index));
        }
    }
    ready
}

fn own_entry(cluster: &Cluster) -> Entry {
    let raft = cluster.raft(1);
    raft.entry(raft.last().index).expect("in memory").clone()
}

#[test]
fn design_4_a_message_of_another_birth_or_disk_is_not_heard() {
    let body = || append(id(1, 1), &[entry(2, 9)], 2);
    let mut wrong_birth = message(2, 1, 9, body());
    wrong_birth.birth += 1;
    let mut wrong_sender = message(2, 1, 9, body());
    wrong_sender.from_disk = disk_of(NodeId(3));
    let mut wrong_receiver = message(2, 1, 9, body());
    wrong_receiver.to_disk = disk_of(NodeId(3));
    let cases = [
        (2, wrong_birth, PeerFault::WrongIdentity),
        (2, wrong_sender, PeerFault::WrongIdentity),
        (2, wrong_receiver, PeerFault::WrongIdentity),
        (1, message(1, 1, 9, body()), PeerFault::WrongIdentity),
        (7, message(7, 1, 9, body()), PeerFault::NotAMember),
    ];
    for (from, message, expected) in cases {
        let mut cluster = one_of_three(3, &[1]);
        let now = cluster.now;
        let raft = cluster.raft_mut(NodeId(1)).expect("runs");
        raft.receive(now, NodeId(from), message);
        let fault = RaftOutput::Fault {
            peer: NodeId(from),
            fault: expected,
        };
        assert_eq!(raft.poll(now), Some(fault));
        assert_eq!((raft.hard_state().term, raft.last()), (Term(3), id(1, 1)));
    }
}

#[test]
fn design_4_a_message_that_contradicts_itself_is_a_fault_and_nothing_else() {
    let mut early = entry(3, 3);
    early.stamp = ClusterTime::ZERO;
    let mut nobody = entry(2, 3);
    nobody.payload = Payload::Configuration(Configuration::default().into());
    let conflict = |refused, hint| {
        reply(
            AppendOutcome::Conflict {
                refused: Index(refused),
                hint,
            },
            0,
        )
    };
    let cases = [
        (3, append(id(1, 1), &[entry(3, 3)], 0)),
        (3, append(id(1, 1), &[entry(2, 3), entry(3, 2)], 0)),
        (3, append(id(1, 1), &[entry(2, 4)], 0)),
        (3, append(id(1, 4), &[], 0)),
        (3, append(id(0, 1), &[], 0)),
        (3, append(id(1, 0), &[], 0)),
        (3, append(id(1, 1), &[entry(2, 3), early.clone()], 0)),
        (3, append(id(1, 1), &[nobody], 0)),
        (3, append(id(u64::MAX, 1), &[], 0)),
        (3, append(id(1, 1), &[], u64::MAX)),
        (0, MessageBody::TimeoutNow),
        (u64::MAX, vote(id(1, 1))),
        (3, vote(id(1, 3))),
        (3, vote(id(u64::MAX, 1))),
        (3, matched(u64::MAX)),
        (3, conflict(3, id(3, 1))),
        (3, conflict(0, LogId::ZERO)),
        (
            3,
            reply(AppendOutcome::Repairing { through: Index(1) }, u64::MAX),
        ),
    ];
    for (term, body) in cases {
        let mut cluster = one_of_three(2, &[1]);
        cluster.inject(2, 1, term, body.clone());
        assert!(has_fault(&cluster.poll(NodeId(1))), "{body}");
        assert_eq!(cluster.log(1), [id(1, 1)]);
        assert_eq!(cluster.raft(1).hard_state().term, Term(2), "{body}");
    }
    // And one that only contradicts the receiver's log.
    let mut cluster = one_of_three(2, &[1, 1]);
    cluster.inject(2, 1, 3, append(id(2, 1), &[early], 0));
    assert!(has_fault(&cluster.poll(NodeId(1))));
    assert_eq!(cluster.log(1).len(), 2);
}

#[test]
fn design_6_a_damaged_member_neither_votes_nor_counts() {
    let mut cluster = Cluster::new(3, 0);
    cluster.members.clear();
    let mut damaged = disk(3, &[1]);
    damaged.held = Some(Index(3));
    cluster.insert(NodeId(1), damaged);
    cluster.timeout(1);
    assert_eq!(
        cluster.raft(1).role(),
        Role::Follower,
        "it does not campaign"
    );
    cluster.inject(2, 1, 4, MessageBody::PreVote { last: id(9, 3) });
    cluster.inject(2, 1, 4, vote(id(9, 3)));
    cluster.settle();
    assert_eq!(cluster.disk(1).hard_state.vote, None);

    let mut round_1 = append(id(1, 1), &[entry(2, 4)], 0);
    if let MessageBody::Append { round, .. } = &mut round_1 {
        *round = 1;
    }
    cluster.inject(2, 1, 4, round_1);
    cluster.poll_all();
    let repairing = |through| {
        reply(
            AppendOutcome::Repairing {
                through: Index(through),
            },
            0,
        )
    };
    assert_eq!(
        cluster.sent(1, 2),
        [repairing(1)],
        "it vouches for no round either"
    );
    cluster.network.clear();
    cluster.persist(NodeId(1));
    cluster.poll_all();
    assert_eq!(cluster.sent(1, 2), [repairing(2)]);
    cluster.network.clear();
    cluster.inject(2, 1, 4, append(id(2, 4), &[entry(3, 4)], 0));
    cluster.poll_all();
    assert_eq!(
        cluster.raft(1).repairing(),
        Some(Index(3)),
        "not before it is on disk"
    );
    cluster.persist(NodeId(1));
    cluster.poll_all();
    let whole = reply(AppendOutcome::Matched { through: Index(3) }, 1);
    assert_eq!(cluster.sent(1, 2), [whole]);
}

#[test]
fn design_6_a_leader_does_not_count_a_member_under_repair() {
    let mut cluster = leader_of_three(3, &[1]);
    cluster.persist(NodeId(1));
    cluster.inject(
        2,
        1,
        4,
        reply(AppendOutcome::Repairing { through: Index(2) }, 0),
    );
    assert_eq!(cluster.raft(1).committed(), Index(0));
    cluster.inject(2, 1, 4, matched(2));
    assert_eq!(cluster.raft(1).committed(), Index(2));
}

#[test]
fn ttl_contract_stamps_grow_from_the_last_entry_of_the_own_log() {
    let hour = Duration::from_secs(3600);
    let mut cluster = follower_of_two(3, &[1]);
    let mut far = entry(2, 3);
    far.stamp = ClusterTime(150_000_000_000);
    cluster.inject(2, 1, 3, append(id(1, 1), &[far], 0));
    assert_eq!(
        cluster.raft(1).cluster_time(cluster.now),
        ClusterTime(150_000_000_000)
    );
    cluster.settle();
    cluster.pass(hour);
    // That entry goes, and its stamp with it, and the hour that was counted from it.
    cluster.inject(3, 1, 4, append(id(1, 1), &[entry(2, 4)], 0));
    assert_eq!(cluster.raft(1).cluster_time(cluster.now), ClusterTime(2));
    cluster.pass(hour);
    let hour = u64::try_from(hour.as_nanos()).expect("fits");
    let estimate = cluster.raft(1).cluster_time(cluster.now).0;
    assert!(
        estimate < 2 + hour && estimate > hour - hour / 1000,
        "what is certain of an hour"
    );
    // After a restart nobody knows how long it was down.
    cluster.settle();
    cluster.crash(NodeId(1));
    cluster.restart(NodeId(1));
    assert_eq!(cluster.raft(1).cluster_time(cluster.now), ClusterTime(2));
}

#[test]
fn ttl_contract_a_leader_stamps_what_it_appends() {
    let mut cluster = Cluster::new(1, 0);
    cluster.settle();
    let mut last = ClusterTime::ZERO;
    for second in 1..=5 {
        cluster.pass(Duration::from_secs(1));
        let id = cluster.propose(1).expect("leads");
        let stamp = cluster.raft(1).entry(id.index).expect("appended").stamp;
        assert!(stamp > last && stamp.0 <= second * 1_000_000_000);
        assert_eq!(stamp, cluster.raft(1).cluster_time(cluster.now));
        last = stamp;
    }
}

/// What a member knows grows old from the last word of its leader on, or of its quorum.
#[test]
fn s6_4_a_local_read_knows_its_age() {
    let mut cluster = Cluster::new(3, 0);
    assert_eq!(cluster.raft(2).age(cluster.now), None);
    cluster.elect(1);
    for node in 1..=3 {
        assert_eq!(cluster.raft(node).age(cluster.now), Some(Duration::ZERO));
    }
    let span = Duration::from_millis(70);
    cluster.pass(span);
    for node in 1..=3 {
        assert_eq!(cluster.raft(node).age(cluster.now), Some(span), "n{node}");
    }
    // One follower is a quorum beside the leader.
    cluster.cut.insert(NodeId(3));
    cluster.run(Duration::from_secs(30));
    let young = cluster.config.heartbeat_interval;
    for node in 1..=2 {
        assert!(
            cluster.raft(node).age(cluster.now) <= Some(young),
            "n{node}"
        );
    }
    let old = Some(span + Duration::from_secs(30));
    assert_eq!(cluster.raft(3).age(cluster.now), old);
    // A leader that steps down was heard by nobody in the meantime.
    cluster.cut.insert(NodeId(2));
    cluster.run(Duration::from_secs(30));
    assert!(!cluster.raft(1).is_leader());
    let age = cluster.raft(1).age(cluster.now).expect("it was heard once");
    assert!(age <= Duration::from_secs(30) + young && age >= Duration::from_secs(29));
}
