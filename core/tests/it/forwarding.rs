//! What a member that does not lead does for its clients.

use quorate_core::raft::{AppendOutcome, Entry, Forwarded, MessageBody, Payload};
use quorate_core::store::{ClientRequest, Command, Consistency, Path, Query};
use quorate_core::{ClusterTime, Config, Duration, Index, Input, RequestError, RequestId};

use crate::peers::{World, append, entry, id, set};

/// Member 0 of three, which follows member 1 in term 1 and has applied its first entry.
fn follower() -> World {
    follower_of_seed(1)
}

fn follower_of_seed(seed: u64) -> World {
    let mut world = World::open(3, |opening| opening.seed = seed);
    world.receive(1, 1, append(Default::default(), vec![entry(1, 1)], 1));
    world.poll();
    world.outputs.clear();
    world
}

/// The entry that such a request becomes.
fn entry_of(request: &Forwarded, index: u64, term: u64) -> Entry {
    Entry {
        id: id(index, term),
        stamp: ClusterTime(index << 40),
        payload: Payload::Command(request.command.clone()),
    }
}

fn read(world: &mut World, request: u64) {
    let query = Query {
        path: Path::root(),
        recursive: false,
        consistency: Consistency::Linearizable,
    };
    let request = RequestId(request);
    world.step(Input::Read { request, query });
}

/// The name of the last question to the leader, and how often there was one.
fn asked(world: &World) -> (Option<u64>, usize) {
    let nonces = world.sent().filter_map(|message| {
        let MessageBody::ReadIndex { nonce, .. } = message.body else {
            return None;
        };
        Some(nonce)
    });
    let nonces: Vec<_> = nonces.collect();
    (nonces.last().copied(), nonces.len())
}

fn outcomes(world: &World) -> Vec<(u64, Result<(), RequestError>)> {
    let replies = world.replies();
    replies
        .map(|(request, result)| (request.0, result.map_err(Clone::clone)))
        .collect()
}

#[test]
fn a_follower_passes_a_write_on_and_answers_when_it_is_applied() {
    let mut world = follower();
    world.propose(1, set("/a", None));
    world.propose(2, set("/b", None));
    world.poll();
    let requests = world.passed_on();
    assert_eq!(requests.len(), 2, "in one message");
    let entries = vec![entry_of(&requests[1], 2, 1), entry_of(&requests[0], 3, 1)];
    world.receive(1, 1, append(id(1, 1), entries, 2));
    world.poll();
    assert_eq!(outcomes(&world), [(2, Ok(()))]);
    world.receive(1, 1, append(id(3, 1), vec![], 3));
    world.poll();
    assert_eq!(outcomes(&world), [(2, Ok(())), (1, Ok(()))]);
    assert_eq!(world.replica.status().pending.0, 0);
}

/// The second attempt finds the answer to the first one.
#[test]
fn a_write_passed_on_to_two_leaders_is_done_once() {
    let mut world = follower();
    world.propose(1, set("/a", None));
    world.poll();
    let first = world.passed_on();
    world.receive(2, 2, append(id(1, 1), vec![entry(2, 2)], 2));
    world.poll();
    let second = world.passed_on();
    assert_eq!(first, second, "under the same name");
    let entries = vec![entry_of(&first[0], 3, 2), entry_of(&second[0], 4, 2)];
    world.receive(2, 2, append(id(2, 2), entries, 4));
    world.poll();
    assert_eq!(outcomes(&world), [(1, Ok(()))]);
    let store = world.replica.store();
    assert_eq!((store.applied(), store.revision().0), (id(4, 2), 3));
}

#[test]
fn what_is_refused_is_passed_on_again_after_a_heartbeat() {
    let mut world = follower();
    world.propose(1, set("/a", None));
    world.poll();
    let tickets = vec![world.passed_on()[0].ticket];
    world.outputs.clear();
    world.receive(1, 1, MessageBody::ProposeRefused { tickets });
    world.poll();
    assert_eq!(world.passed_on(), []);
    world.now = world.now + Config::default().heartbeat_interval;
    world.step(Input::Deadline);
    world.poll();
    assert_eq!(world.passed_on().len(), 1);
    assert_eq!(outcomes(&world), []);
}

#[test]
fn a_broken_connection_to_the_leader_has_all_passed_on_again() {
    let mut world = follower();
    world.propose(1, set("/a", None));
    read(&mut world, 2);
    world.poll();
    world.outputs.clear();
    let peer = world.node(2);
    world.step(Input::Unreachable { peer });
    world.poll();
    assert_eq!(
        (world.passed_on().len(), asked(&world).1),
        (0, 0),
        "not the leader"
    );
    let peer = world.node(1);
    world.step(Input::Unreachable { peer });
    world.poll();
    assert_eq!((world.passed_on().len(), asked(&world).1), (1, 1));
}

#[test]
fn who_loses_patience_learns_whether_it_may_have_been_done() {
    let mut world = World::open(3, |_| {});
    world.propose(1, set("/a", None));
    world.poll();
    let request = RequestId(1);
    world.step(Input::Cancel { request });
    world.receive(1, 1, append(Default::default(), vec![entry(1, 1)], 1));
    world.propose(2, set("/a", None));
    world.poll();
    let request = RequestId(2);
    world.step(Input::Cancel { request });
    world.poll();
    let not_done = Err(RequestError::NotLeader { leader: None });
    let unknown = Err(RequestError::Dropped);
    assert_eq!(outcomes(&world), [(1, not_done), (2, unknown)]);
}

/// Nothing of a term is said before the disk holds the term (SIMULATION.md R3).
#[test]
fn nothing_is_passed_on_in_a_term_that_may_be_forgotten() {
    let mut world = follower();
    world.disk = false;
    world.receive(2, 2, append(id(1, 1), vec![], 1));
    world.propose(1, set("/a", None));
    read(&mut world, 2);
    world.poll();
    assert_eq!((world.passed_on().len(), asked(&world).1), (0, 0));
    let through = world.writes().last().expect("the term").seq;
    world.step(Input::Persisted { through });
    world.poll();
    assert_eq!((world.passed_on().len(), asked(&world).1), (1, 1));
}

/// Whoever forwarded it may have become leader meanwhile.
#[test]
fn a_new_leader_proposes_what_it_would_have_passed_on() {
    let mut world = World::open(3, |_| {});
    world.propose(1, set("/a", None));
    world.poll();
    world.elect(&[1], 1);
    world.matched(1, 1, 2);
    assert_eq!(outcomes(&world), [(1, Ok(()))]);
}

#[test]
fn a_leader_takes_what_is_passed_on_and_refuses_what_it_cannot_take() {
    let mut world = World::leader();
    let request = |ticket| {
        let client = Some(ClientRequest::Opaque("id".into()));
        let command = Command {
            client,
            ..set("/a", None)
        };
        Forwarded {
            ticket,
            command: command.into(),
        }
    };
    let requests = vec![request(7)];
    world.receive(1, 1, MessageBody::Propose { requests });
    world.poll();
    assert_eq!(world.replica.status().last, id(2, 1));
    world.step(Input::DiskFull(true));
    let requests = vec![request(8), request(9)];
    world.receive(1, 1, MessageBody::Propose { requests });
    world.poll();
    let tickets = vec![8, 9];
    let refused = MessageBody::ProposeRefused { tickets };
    assert!(world.sent().any(|message| message.body == refused));
    assert_eq!(world.replica.status().last, id(2, 1));
}

/// Two attempts of a write without an id would be two writes.
#[test]
fn a_forwarded_write_without_an_id_is_a_fault() {
    let mut world = World::leader();
    let command = set("/a", None).into();
    let requests = vec![Forwarded { ticket: 1, command }];
    world.receive(1, 1, MessageBody::Propose { requests });
    world.poll();
    assert_eq!((world.faults(), world.replica.status().last), (1, id(1, 1)));
}

#[test]
fn a_follower_answers_from_the_index_its_leader_vouched_for() {
    let mut world = follower();
    read(&mut world, 1);
    world.poll();
    let (nonce, _) = asked(&world);
    read(&mut world, 2);
    world.poll();
    assert_eq!(asked(&world), (nonce, 1), "one round at a time");
    let nonce = nonce.expect("asked");
    let index = Index(2);
    let reply = |nonce| MessageBody::ReadIndexReply { nonce, index };
    world.receive(2, 1, reply(nonce));
    world.receive(1, 1, reply(nonce ^ 1));
    world.poll();
    assert_eq!(
        asked(&world).1,
        1,
        "neither a stranger nor an old answer counts"
    );
    world.receive(1, 1, reply(nonce));
    world.poll();
    assert_eq!(outcomes(&world), [], "the entry is not here yet");
    world.receive(1, 1, append(id(1, 1), vec![entry(2, 1)], 2));
    world.poll();
    assert_eq!(outcomes(&world), [(1, Ok(()))]);
    let next = asked(&world);
    assert_eq!(next.1, 2, "the second question has a round of its own");
    assert_ne!(next.0, Some(nonce));
}

/// What the process before was told, or did, must not be taken for this one's.
#[test]
fn each_process_of_a_member_names_what_it_asks_for_otherwise() {
    let names = |seed| {
        let mut world = follower_of_seed(seed);
        read(&mut world, 1);
        world.propose(2, set("/a", None));
        world.poll();
        let write = world.passed_on().remove(0);
        (asked(&world).0, write.command.client.clone())
    };
    let (first, second) = (names(1), names(2));
    assert_eq!(first, names(1), "drawn from the seed alone");
    assert_ne!(first.0, second.0);
    assert_ne!(first.1, second.1);
}

/// Its client knows of no id, and of no earlier attempt: the outcome is unknown to it.
#[test]
fn an_own_id_that_has_expired_is_an_unknown_outcome() {
    let mut world = follower();
    world.propose(1, set("/a", None));
    world.poll();
    let own = world.passed_on().remove(0);
    let Some(ClientRequest::Numbered { client, .. }) = own.command.client else {
        panic!("not named: {own:?}");
    };
    let later = Command {
        client: Some(ClientRequest::Numbered {
            client,
            sequence: 2,
            acked: 1,
        }),
        ..set("/b", None)
    };
    let later = Forwarded {
        ticket: 2,
        command: later.into(),
    };
    let entries = vec![entry_of(&later, 2, 1), entry_of(&own, 3, 1)];
    world.receive(1, 1, append(id(1, 1), entries, 3));
    world.poll();
    assert_eq!(outcomes(&world), [(1, Err(RequestError::Dropped))]);
}

/// A question outlives the leader it was put to.
#[test]
fn a_question_is_put_to_the_next_leader() {
    let mut world = World::leader();
    read(&mut world, 1);
    world.poll();
    world.receive(2, 2, append(id(1, 1), vec![entry(2, 2)], 2));
    world.poll();
    let nonce = asked(&world).0.expect("asked again");
    let index = Index(2);
    world.receive(2, 2, MessageBody::ReadIndexReply { nonce, index });
    world.poll();
    assert_eq!(outcomes(&world), [(1, Ok(()))]);
}

/// Member `from` asks for its clients, and says whether it remembers all its votes.
fn ask(world: &mut World, from: u8, counts: bool) {
    let nonce = 77;
    world.receive(from, 1, MessageBody::ReadIndex { nonce, counts });
    world.poll();
}

/// What the leader answered first.
fn answer(world: &World) -> Option<(u64, Index)> {
    let mut answers = world.sent().filter_map(|message| {
        let MessageBody::ReadIndexReply { nonce, index } = message.body else {
            return None;
        };
        Some((nonce, index))
    });
    answers.next()
}

/// Of three members the two of them are a quorum; of four they are not.
#[test]
fn a_question_is_a_round_where_who_asks_makes_a_quorum_with_its_leader() {
    let mut world = World::leader();
    ask(&mut world, 2, true);
    assert_eq!(answer(&world), Some((77, Index(1))));

    let mut world = World::leader_of(4);
    ask(&mut world, 3, true);
    assert_eq!(answer(&world), None);
    for peer in [1, 2] {
        let outcome = AppendOutcome::Matched { through: Index(1) };
        world.receive(peer, 1, MessageBody::AppendReply { outcome, round: 1 });
        world.poll();
    }
    assert_eq!(answer(&world), Some((77, Index(1))));
}

/// It may not know yet all that leaders before it have committed.
#[test]
fn a_question_is_no_round_before_the_leader_has_committed_in_its_term() {
    let mut world = World::open(3, |_| {});
    world.elect(&[1], 1);
    ask(&mut world, 2, true);
    assert_eq!(answer(&world), None);
    world.matched(1, 1, 1);
    assert_eq!(answer(&world), None, "asked before");
    ask(&mut world, 2, true);
    assert_eq!(answer(&world), Some((77, Index(1))));
}

#[test]
fn a_leader_vouches_for_a_peer_that_does_not_count_only_after_a_round() {
    let mut world = World::leader();
    ask(&mut world, 2, false);
    assert_eq!(answer(&world), None);
    let outcome = AppendOutcome::Matched { through: Index(1) };
    world.receive(1, 1, MessageBody::AppendReply { outcome, round: 1 });
    world.poll();
    assert_eq!(answer(&world), Some((77, Index(1))));
}

/// Who stops first finishes what others do for it, but not for ever.
#[test]
fn a_stopping_follower_waits_for_what_it_passed_on() {
    let mut world = follower();
    world.propose(1, set("/a", None));
    world.propose(2, set("/b", None));
    world.poll();
    let requests = world.passed_on();
    world.step(Input::Shutdown);
    world.propose(3, set("/c", None));
    world.receive(
        1,
        1,
        append(id(1, 1), vec![entry_of(&requests[0], 2, 1)], 2),
    );
    world.poll();
    let stopping = Err(RequestError::Stopping);
    assert_eq!(outcomes(&world), [(3, stopping.clone()), (1, Ok(()))]);
    assert!(!world.replica.is_finished());
    world.now = world.now + 2 * Config::default().election_timeout;
    world.step(Input::Deadline);
    world.poll();
    assert_eq!(
        outcomes(&world).last(),
        Some(&(2, Err(RequestError::Dropped)))
    );
    world.now = world.now + Duration::from_secs(1);
    world.poll();
    assert!(world.replica.is_finished());
}

/// A leader whose own disk hangs commits through the others, and so had better not lead.
#[test]
fn a_leader_whose_disk_hangs_hands_over() {
    let mut world = World::leader();
    world.disk = false;
    world.propose(1, set("/a", None));
    world.poll();
    let told = |world: &World| {
        let mut bodies = world.sent().map(|message| &message.body);
        bodies.any(|body| *body == MessageBody::TimeoutNow)
    };
    let beats = |world: &mut World, count: u32| {
        for _ in 0..count {
            world.now = world.now + Config::default().heartbeat_interval;
            for peer in [1, 2] {
                let outcome = AppendOutcome::Matched { through: Index(2) };
                world.receive(peer, 1, MessageBody::AppendReply { outcome, round: 0 });
            }
            world.step(Input::Deadline);
            world.poll();
        }
    };
    beats(&mut world, 9);
    assert_eq!(outcomes(&world), [(1, Ok(()))], "the others are a majority");
    assert!(!told(&world), "a slow disk is no reason");
    beats(&mut world, 2);
    assert!(told(&world));
}

/// A leader dies before it answers, the next one answers an election later and dies too: the log
/// says so, and whoever leads then ends the key no sooner than its client may expect.
#[test]
fn a_time_to_live_counts_from_the_answer_of_a_leader_that_is_gone() {
    const TTL: Duration = Duration::from_secs(10);
    const ELECTION: Duration = Duration::from_secs(2);
    let mut world = follower();
    let stamp = ClusterTime(1 << 40);
    let granting = Entry {
        id: id(2, 1),
        stamp,
        payload: Payload::Command(set("/a", Some(TTL)).into()),
    };
    world.receive(1, 1, append(id(1, 1), vec![granting], 1));
    world.poll();
    world.now = world.now + ELECTION;
    let first = Entry {
        id: id(3, 2),
        stamp: stamp + ELECTION,
        payload: Payload::Renew { since: stamp },
    };
    world.receive(2, 2, append(id(2, 1), vec![first], 3));
    world.poll();
    assert_eq!(world.replica.store().key_count(), 1, "answered now");
    let answered = world.now;

    world.elect(&[1], 3);
    while world.replica.store().key_count() > 0 {
        world.now = world.now + Duration::from_millis(50);
        let through = world.replica.status().last.index;
        let outcome = AppendOutcome::Matched { through };
        world.receive(1, 3, MessageBody::AppendReply { outcome, round: 0 });
        world.poll();
    }
    let lived = world.now.since(answered);
    assert!(lived >= TTL, "it lived {lived:?}");
    let longer = Config::default().election_timeout + Duration::from_millis(500);
    assert!(lived <= TTL + longer, "it lived {lived:?}");
}
