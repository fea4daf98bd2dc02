//! Snapshots, seen by one member: as the leader of one that lags, and as that one.

use quorate_core::raft::{AppendOutcome, Entry, MessageBody, Payload};
use quorate_core::store::{Filter, Path, Store};
use quorate_core::{
    Config, EndReason, Index, Input, LogId, NodeId, Output, RequestError, RequestId, Revision,
    WatchId,
};

use crate::peers::{World, append, entry, id, set};

/// The store of a leader that has applied so many entries of term 1.
fn store(entries: u64) -> Box<Store> {
    let mut store = Store::new();
    for index in 1..=entries {
        let Entry { id, stamp, payload } = entry(index, 1);
        let Payload::Command(command) = payload else {
            unreachable!("only commands");
        };
        store.apply(id, stamp, &command).expect("a set succeeds");
    }
    let configuration = World::open(3, |_| {}).birth.configuration();
    store.reconfigure(
        id(entries + 1, 1),
        entry(entries + 1, 1).stamp,
        &configuration.into(),
    );
    Box::new(store)
}

/// Member 0 of three, which follows member 1 in term 1 and has applied two entries.
fn follower() -> World {
    let mut world = World::open(3, |_| {});
    let entries = vec![entry(1, 1), entry(2, 1)];
    world.receive(1, 1, append(LogId::ZERO, entries, 2));
    world.poll();
    world.outputs.clear();
    world
}

fn dropped(world: &World) -> Vec<LogId> {
    let outputs = world.outputs.iter().filter_map(|output| {
        let Output::DropSnapshot { last } = output else {
            return None;
        };
        Some(*last)
    });
    outputs.collect()
}

fn acknowledged(world: &World) -> Option<Index> {
    let outcomes = world.sent().filter_map(|message| {
        let MessageBody::AppendReply { outcome, .. } = &message.body else {
            return None;
        };
        Some(outcome)
    });
    match outcomes.last()? {
        AppendOutcome::Matched { through } => Some(*through),
        AppendOutcome::Conflict { .. } | AppendOutcome::Repairing { .. } => None,
    }
}

#[test]
fn a_snapshot_takes_the_place_of_store_and_log() {
    let mut world = follower();
    world.disk = false;
    let received = store(8);
    let hash = received.hash();
    world.step(Input::SnapshotReceived { store: received });
    world.poll();
    let status = world.replica.status();
    assert_eq!(
        (status.applied, status.last, status.first),
        (id(9, 1), id(9, 1), Index(10))
    );
    assert_eq!(status.state_hash, hash);
    let write = world.writes().last().expect("the disk is told").clone();
    assert_eq!((write.install, write.entries.len()), (Some(id(9, 1)), 0));
    assert_eq!(acknowledged(&world), None, "before the disk has it");

    world.step(Input::Persisted { through: write.seq });
    world.poll();
    assert_eq!(acknowledged(&world), Some(Index(9)));
    world.receive(1, 1, append(id(9, 1), vec![entry(10, 1)], 10));
    world.poll();
    assert_eq!(world.replica.status().applied, id(10, 1));
    assert_eq!(dropped(&world), []);
}

/// A cluster whose configuration never changed has none in its log.
#[test]
fn without_a_configuration_in_the_log_the_founders_vote() {
    let mut world = follower();
    let mut received = Store::new();
    for index in 1..=8 {
        received.skip(id(index, 1), entry(index, 1).stamp);
    }
    let founders = world.birth.configuration();
    world.step(Input::SnapshotReceived {
        store: Box::new(received),
    });
    world.poll();
    let status = world.replica.status();
    assert_eq!((status.applied, status.configuration), (id(8, 1), founders));
}

/// Entries after a snapshot may arrive before it is on disk; they are written after it.
#[test]
fn what_follows_a_snapshot_is_written_after_it() {
    let mut world = follower();
    world.disk = false;
    world.receive(1, 1, append(id(2, 1), vec![entry(3, 1)], 2));
    world.poll();
    world.step(Input::SnapshotReceived { store: store(8) });
    world.poll();
    world.receive(1, 1, append(id(9, 1), vec![entry(10, 1)], 10));
    world.poll();
    let shown = |world: &World| {
        let last = world.writes().last().expect("a write");
        (last.seq, last.install, last.entries.len())
    };
    let first = shown(&world).0;
    assert_eq!(shown(&world), (first, None, 1), "one at a time");
    for expected in [
        (first.next(), Some(id(9, 1)), 0),
        (first.next().next(), None, 1),
    ] {
        let through = shown(&world).0;
        world.step(Input::Persisted { through });
        world.poll();
        assert_eq!(shown(&world), expected);
        assert!(acknowledged(&world).is_none_or(|index| index <= Index(9)));
    }
}

#[test]
fn a_snapshot_that_is_not_ahead_is_dropped() {
    let mut world = follower();
    world.step(Input::SnapshotReceived { store: store(1) });
    world.poll();
    assert_eq!(dropped(&world), [id(2, 1)]);
    assert_eq!(world.replica.status().applied, id(2, 1));
    assert_eq!(world.writes().count(), 0);
}

/// Raft figure 13, step 6: the log has it all, it only was not known to be committed.
#[test]
fn a_snapshot_that_the_log_contains_commits_it() {
    let mut world = follower();
    let entries = (3..=9).map(|index| entry(index, 1)).collect();
    world.receive(1, 1, append(id(2, 1), entries, 2));
    world.poll();
    world.step(Input::SnapshotReceived { store: store(5) });
    world.poll();
    let status = world.replica.status();
    assert_eq!((status.applied, status.last), (id(6, 1), id(9, 1)));
    assert_eq!(dropped(&world), [id(6, 1)]);
}

/// What this member had of another leader, and nobody committed, goes.
#[test]
fn a_snapshot_replaces_what_contradicts_it() {
    let mut world = World::open(3, |_| {});
    let entries = vec![entry(1, 1), entry(2, 1)];
    world.receive(1, 1, append(LogId::ZERO, entries, 2));
    let other = (3..=20).map(|index| entry(index, 2)).collect();
    world.receive(2, 2, append(id(2, 1), other, 2));
    world.poll();
    world.step(Input::SnapshotReceived { store: store(8) });
    world.poll();
    let status = world.replica.status();
    assert_eq!((status.applied, status.last), (id(9, 1), id(9, 1)));
    assert_eq!(status.persisted, Index(9));
}

/// The tables on disk are one or the other.
#[test]
fn a_snapshot_waits_for_the_checkpoint_in_flight() {
    let mut world = follower();
    world.now = world.now + Config::default().checkpoint_interval;
    let mut changes = None;
    while let Some(output) = world.replica.poll(world.now) {
        if let Output::Checkpoint(taken) = output {
            changes = Some(taken);
        }
    }
    let applied = changes.expect("a checkpoint is due").applied;
    world.step(Input::SnapshotReceived { store: store(8) });
    world.poll();
    assert_eq!(world.replica.status().applied, id(2, 1));
    world.step(Input::Checkpointed { applied });
    world.poll();
    assert_eq!(world.replica.status().applied, id(9, 1));
}

/// SIMULATION.md W10: a watch goes on with what the snapshot's history holds for it.
#[test]
fn watches_go_on_with_the_history_of_the_snapshot() {
    let mut world = follower();
    let filter = Filter {
        path: Path::root(),
        recursive: true,
    };
    world.step(Input::Watch {
        watch: WatchId(1),
        filter,
        since: None,
        credit: 100,
    });
    world.poll();
    world.step(Input::SnapshotReceived { store: store(8) });
    world.poll();
    let is_end = |output: &Output| matches!(output, Output::WatchEnd { .. });
    assert!(!world.outputs.iter().any(is_end));
    let events = world.outputs.iter().filter_map(|output| {
        let Output::Notify { event, .. } = output else {
            return None;
        };
        Some(event.id.index())
    });
    let expected: Vec<_> = (3..=8).map(Revision).collect();
    assert_eq!(events.collect::<Vec<_>>(), expected);
}

/// And it is told where that does not reach back far enough.
#[test]
fn a_watch_that_the_snapshot_has_no_history_for_is_ended() {
    use quorate_core::store::{Command, Operation, Settings};

    let mut world = follower();
    let filter = Filter {
        path: Path::root(),
        recursive: true,
    };
    world.step(Input::Watch {
        watch: WatchId(1),
        filter,
        since: None,
        credit: 100,
    });
    world.poll();
    let mut short = store(8);
    let settings = Settings {
        history_events: 2,
        ..Settings::default()
    };
    let operation = Operation::Configure(settings);
    let command = Command {
        client: None,
        operation,
    };
    for index in 10..30 {
        let stamp = entry(index, 1).stamp;
        short
            .apply(id(index, 1), stamp, &command)
            .expect("no refusal");
    }
    let oldest = short.oldest();
    assert!(oldest > Revision(3), "history was cut");
    world.step(Input::SnapshotReceived { store: short });
    world.poll();
    let ended = world.outputs.iter().find_map(|output| {
        let Output::WatchEnd { reason, resume, .. } = output else {
            return None;
        };
        Some((*reason, *resume))
    });
    assert_eq!(ended, Some((EndReason::Cleared { oldest }, Revision(3))));
}

/// What a deposed leader proposed may be in the snapshot, or never have been done.
#[test]
fn a_snapshot_hides_the_fate_of_a_proposal() {
    let mut world = World::leader();
    world.propose(1, set("/mine", None));
    world.poll();
    world.receive(2, 2, append(id(40, 2), vec![], 0));
    world.poll();
    world.step(Input::SnapshotReceived { store: store(8) });
    world.poll();
    let replies: Vec<_> = world.replies().collect();
    assert_eq!(replies, [(RequestId(1), Err(&RequestError::Dropped))]);
}

/// One with an id is passed on again, but it may be in the snapshot: whoever gives up waiting for
/// it is not told that it was not done.
#[test]
fn a_snapshot_hides_the_fate_of_a_proposal_with_an_id() {
    use quorate_core::store::{ClientRequest, Command};

    for stops in [false, true] {
        let mut world = World::leader();
        let client = Some(ClientRequest::Opaque("id".into()));
        let command = Command {
            client,
            ..set("/mine", None)
        };
        world.propose(1, command);
        world.poll();
        // Nobody leads whom it could be passed on to.
        world.receive(2, 2, MessageBody::PreVoteReply { granted: false });
        world.poll();
        world.step(Input::SnapshotReceived { store: store(8) });
        world.poll();
        assert_eq!((world.replies().count(), world.passed_on().len()), (0, 0));
        if stops {
            world.step(Input::Shutdown);
            world.now = world.now + 2 * Config::default().election_timeout;
            world.step(Input::Deadline);
        } else {
            let request = RequestId(1);
            world.step(Input::Cancel { request });
        }
        world.poll();
        let replies: Vec<_> = world.replies().collect();
        assert_eq!(replies, [(RequestId(1), Err(&RequestError::Dropped))]);
    }
}

/// A leader whose log begins after what member 2 has.
fn leader_of_a_laggard() -> (World, NodeId) {
    let mut world = World::open(3, |opening| {
        for index in 1..=50 {
            opening.store.skip(id(index, 1), entry(index, 1).stamp);
        }
        opening.log_start = id(50, 1);
        opening.hard_state.term = quorate_core::Term(1);
    });
    world.elect(&[1], 2);
    world.matched(1, 2, 51);
    lag(&mut world);
    let laggard = world.node(2);
    (world, laggard)
}

/// Member 2 says how far it has come.
fn lag(world: &mut World) {
    let outcome = AppendOutcome::Conflict {
        refused: Index(50),
        hint: id(3, 1),
    };
    world.receive(2, 2, MessageBody::AppendReply { outcome, round: 0 });
    world.poll();
}

fn snapshots_sent(world: &World) -> usize {
    let is_sent = |output: &&Output| matches!(output, Output::SendSnapshot { .. });
    world.outputs.iter().filter(is_sent).count()
}

fn heartbeat(world: &mut World) {
    world.now = world.now + Config::default().heartbeat_interval;
    world.step(Input::Deadline);
    let outcome = AppendOutcome::Matched { through: Index(51) };
    world.receive(1, 2, MessageBody::AppendReply { outcome, round: 0 });
    world.poll();
}

#[test]
fn a_laggard_is_sent_one_snapshot_and_another_if_that_failed() {
    let (mut world, laggard) = leader_of_a_laggard();
    assert_eq!(snapshots_sent(&world), 1);
    let (to, last) = (laggard, id(50, 1));
    world.step(Input::SnapshotStarted { to, last });
    heartbeat(&mut world);
    lag(&mut world);
    assert_eq!(snapshots_sent(&world), 1, "one at a time");
    world.step(Input::SnapshotSent {
        to,
        last,
        delivered: false,
    });
    for _ in 0..3 {
        heartbeat(&mut world);
        assert_eq!(snapshots_sent(&world), 1, "it may be down");
    }
    lag(&mut world);
    assert_eq!(snapshots_sent(&world), 2);
}

#[test]
fn after_a_snapshot_the_log_goes_on() {
    let (mut world, laggard) = leader_of_a_laggard();
    let (to, last) = (laggard, id(50, 1));
    world.step(Input::SnapshotStarted { to, last });
    world.step(Input::SnapshotSent {
        to,
        last,
        delivered: true,
    });
    world.outputs.clear();
    world.poll();
    let append = world.outputs.iter().find_map(|output| {
        let Output::Send { to, message } = output else {
            return None;
        };
        (*to == laggard).then_some(&message.body)
    });
    let Some(MessageBody::Append {
        previous, entries, ..
    }) = append
    else {
        panic!("not an append: {append:?}");
    };
    assert_eq!((*previous, entries.len()), (id(50, 1), 1));
    assert_eq!(snapshots_sent(&world), 0);
}
