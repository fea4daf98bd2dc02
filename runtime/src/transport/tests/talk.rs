use std::sync::Arc;

use quorate_core::raft::{Entry, MessageBody, Payload};
use quorate_core::{ClusterTime, Confirmation, Index, LogId, Term};
use tokio::time::timeout;

use super::*;
use crate::transport::dial::dial;
use crate::transport::refusal::Failure;

#[tokio::test(flavor = "multi_thread")]
async fn messages_arrive_in_order_both_ways() {
    let ([mut a, mut b], record) = pair();
    let (to_a, to_b) = (id(&record, &a), id(&record, &b));
    a.connected("b").await;
    b.connected("a").await;
    for round in 0..20 {
        for number in 1..=500 {
            a.send(to_b, round * 500 + number);
            b.send(to_a, round * 500 + number);
        }
        for number in 1..=500 {
            assert_eq!(b.next_message().await, (to_a, round * 500 + number));
            assert_eq!(a.next_message().await, (to_b, round * 500 + number));
        }
    }
    assert_eq!(a.metrics.connected.get(), 1);
    assert_eq!(a.dropped("raft", "full"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_message_arrives_whole() {
    let ([a, mut b], record) = pair();
    let to_b = id(&record, &b);
    a.connected("b").await;
    b.connected("a").await;
    let mut large = message(7);
    large.body = many_entries();
    a.transport().send(to_b, large.clone());
    a.send(to_b, 8);
    let arrived = b.next(|arrival| match arrival {
        Arrival::Message { message, .. } => Some(message),
        Arrival::Handshake { .. }
        | Arrival::Confirmation { .. }
        | Arrival::Snapshot { .. }
        | Arrival::Unreachable { .. } => None,
    });
    assert_eq!(arrived.await, large);
    assert_eq!(b.next_message().await.1, 8);
}

/// About 2 MiB on their way, more than a window before the hello.
fn many_entries() -> MessageBody {
    let entries = (2..200_000).map(|index| Entry {
        id: LogId {
            term: Term(1),
            index: Index(index),
        },
        stamp: ClusterTime(u64::MAX >> 8),
        payload: Payload::Empty,
    });
    MessageBody::Append {
        previous: LogId {
            term: Term(1),
            index: Index(1),
        },
        entries: entries.collect(),
        committed: Index(1),
        round: 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_peer_is_told_of_and_found_again() {
    let ([mut a, mut b], record) = born(["a", "b"]);
    let to_b = id(&record, &b);
    still_talk(&mut a, &mut b, &record).await;
    for _ in 0..3 {
        b.stop().await;
        assert_eq!(a.next_unreachable().await, to_b);
        assert!(!a.is_connected("b"));
        a.send(to_b, 9);
        assert!(a.dropped("send", "unconnected") > 0);
        b.start();
        b.transport().born(&record);
        still_talk(&mut a, &mut b, &record).await;
    }
}

/// A machine that loses its power says no goodbye, and nobody takes its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_vanishes_is_told_of() {
    let (mut a, mut b) = pair_dialed_by_b(1, 2);
    a.limits().keep_alive = Duration::from_millis(50);
    a.limits().idle_max = Duration::from_millis(500);
    let record = record(&[&a, &b]);
    let to_b = id(&record, &b);
    start_born(&mut [&mut a], &record);
    let power = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    {
        let _on = power.enter();
        start_born(&mut [&mut b], &record);
    }
    still_talk(&mut a, &mut b, &record).await;
    power.shutdown_background();
    assert_eq!(a.next_unreachable().await, to_b);
    b.transport = None;
    start_born(&mut [&mut b], &record);
    still_talk(&mut a, &mut b, &record).await;
}

/// A process that was killed says no goodbye; its successor need not wait for anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_process_replaces_its_old_connection() {
    for (disk_a, disk_b) in [(1, 2), (2, 1)] {
        let (mut a, mut b) = pair_dialed_by_b(disk_a, disk_b);
        let record = record(&[&a, &b]);
        start_born(&mut [&mut a, &mut b], &record);
        still_talk(&mut a, &mut b, &record).await;
        let old = b.transport.take().expect("started");
        b.start();
        b.transport().born(&record);
        until(|| old.network.all_peers()[0].member().is_none()).await;
        still_talk(&mut a, &mut b, &record).await;
    }
}

/// Only B knows where the other is.
fn pair_dialed_by_b(disk_a: u128, disk_b: u128) -> (Member, Member) {
    let mut a = Member::new("a").with_disk(disk_a);
    let mut b = Member::new("b").with_disk(disk_b);
    a.expects(&b.me());
    b.knows(&[&a.me()]);
    (a, b)
}

/// Two members with a connection that no other one replaces, which may lose messages.
fn pair() -> ([Member; 2], BirthRecord) {
    let (mut a, mut b) = pair_dialed_by_b(1, 2);
    let record = record(&[&a, &b]);
    start_born(&mut [&mut a, &mut b], &record);
    ([a, b], record)
}

fn start_born(members: &mut [&mut Member], record: &BirthRecord) {
    for member in members {
        member.start();
        member.transport().born(record);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_connections_the_one_dialed_from_the_lower_disk_stays() {
    for (disk_a, disk_b) in [(1, 2), (2, 1)] {
        let (mut a, mut b) = pair_dialed_by_b(disk_a, disk_b);
        let record = record(&[&a, &b]);
        start_born(&mut [&mut a, &mut b], &record);
        still_talk(&mut a, &mut b, &record).await;
        let network = &a.transport().network;
        let peer = &network.all_peers()[0];
        let second = dial(network, peer, "127.0.0.1", b.address()).await;
        if disk_a < disk_b {
            let second = second.expect("it is the better one");
            let held = peer.member().expect("connected");
            assert!(Arc::ptr_eq(&held, &second) && held.dialed);
            let run = tokio::spawn(second.run());
            let of_b = &b.transport().network.all_peers()[0];
            until(|| of_b.member().is_some_and(|link| !link.dialed)).await;
            still_talk(&mut a, &mut b, &record).await;
            run.abort();
        } else {
            let refused = second.map(|_| ()).expect_err("the other one is better");
            assert_eq!(refused, Failure::Duplicate);
            let held = peer.member().expect("connected");
            assert!(!held.dialed && held.connection.close_reason().is_none());
            still_talk(&mut a, &mut b, &record).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_dial_at_once_end_with_one_connection() {
    for _ in 0..10 {
        let ([mut a, mut b], record) = born(["a", "b"]);
        let [of_a, of_b] = [&a, &b].map(|m| Arc::clone(&m.transport().network.all_peers()[0]));
        // One of them dialed and the other accepted, or they would not be one.
        until(|| match (of_a.member(), of_b.member()) {
            (Some(one), Some(other)) => one.dialed != other.dialed,
            (None | Some(_), None | Some(_)) => false,
        })
        .await;
        still_talk(&mut a, &mut b, &record).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_read_delays_nobody() {
    let (mut a, mut b) = pair_dialed_by_b(1, 2);
    let mut c = Member::new("c");
    a.expects(&c.me());
    c.knows(&[&a.me()]);
    for member in [&mut a, &mut b, &mut c] {
        member.limits().waiting_bytes = 1 << 10;
        member.limits().queue_messages = 200;
    }
    let record = record(&[&a, &b, &c]);
    start_born(&mut [&mut a, &mut b, &mut c], &record);
    let [to_a, to_b, to_c] = [&a, &b, &c].map(|member| id(&record, member));
    a.connected("b").await;
    a.connected("c").await;
    c.connected("a").await;
    // Nobody takes what comes to B: at last its reader, the streams and the queue are full.
    let mut number = 0;
    let full = timeout(PATIENCE, async {
        while a.dropped("raft", "full") == 0 {
            for _ in 0..1000 {
                number += 1;
                let mut large = message(number);
                large.body = MessageBody::Append {
                    previous: LogId::ZERO,
                    entries: some_entries(),
                    committed: Index(0),
                    round: 0,
                };
                a.transport().send(to_b, large);
            }
            a.send(to_c, number);
            assert_eq!(c.next_message().await, (to_a, number));
        }
    });
    full.await.expect("it fills up");
    for _ in 0..50 {
        a.transport().send(to_b, message(1));
        a.send(to_c, 5);
        assert_eq!(c.next_message().await, (to_a, 5));
    }
    assert!(b.arrived.len() < 100, "only what has room waits");
    assert_eq!(c.dropped("raft", "full"), 0);
}

fn some_entries() -> Arc<[Entry]> {
    let entries = (1..20).map(|index| Entry {
        id: LogId {
            term: Term(1),
            index: Index(index),
        },
        stamp: ClusterTime(1),
        payload: Payload::Empty,
    });
    entries.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_messages_travel_beside_the_others() {
    let ([a, mut b], record) = pair();
    let to_a = id(&record, &a);
    a.connected("b").await;
    b.connected("a").await;
    let link = a.transport().network.all_peers()[0].member();
    let link = link.expect("connected");
    for number in 1..=500 {
        link.send_by(Lane::Forward, message(number));
    }
    let mut numbers = Vec::new();
    for _ in 0..500 {
        let (from, number) = b.next_message().await;
        assert_eq!(from, to_a);
        numbers.push(number);
    }
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(1..=500), "each once, in any order");
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_messages_that_nobody_takes_hold_up_nothing() {
    let (mut a, mut b) = pair_dialed_by_b(1, 2);
    b.limits().waiting_bytes = 1 << 10;
    let record = record(&[&a, &b]);
    start_born(&mut [&mut a, &mut b], &record);
    let (to_a, to_b) = (id(&record, &a), id(&record, &b));
    a.connected("b").await;
    b.connected("a").await;
    let link = a.transport().network.all_peers()[0].member();
    let link = link.expect("connected");
    for number in 1..=1000 {
        link.send_by(Lane::Forward, message(number));
    }
    until(|| b.dropped("received", "full") > 0).await;
    a.send(to_b, 4711);
    let found = async { while b.next_message().await != (to_a, 4711) {} };
    timeout(PATIENCE, found).await.expect("it arrives");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_meet_confirm_and_are_born_on_one_connection() {
    let (mut a, mut b) = pair_dialed_by_b(1, 2);
    let record = record(&[&a, &b]);
    a.start();
    b.start();
    assert_eq!(a.next_handshake().await.1, b.me());
    assert_eq!(b.next_handshake().await.1, a.me());
    a.connected("b").await;
    b.connected("a").await;
    let said = confirmation(&record);
    a.transport().confirm("b".to_owned(), said.clone());
    let expected = ("a".to_owned(), a.me().disk, said);
    assert_eq!(next_confirmation(&mut b).await, expected);

    // Nobody has an id yet.
    let (to_a, to_b) = (id(&record, &a), id(&record, &b));
    a.send(to_b, 1);
    assert_eq!(a.dropped("send", "unknown"), 1);
    a.transport().born(&record);
    // B is not born: it does not know who that is.
    a.send(to_b, 2);
    until(|| b.dropped("received", "not_a_member") == 1).await;
    b.transport().born(&record);
    b.send(to_a, 3);
    assert_eq!(a.next_message().await, (to_b, 3));
    a.send(to_b, 4);
    assert_eq!(b.next_message().await, (to_a, 4));
}

fn confirmation(record: &BirthRecord) -> Confirmation {
    Confirmation {
        hash: record.hash(),
        record: Some(record.clone()),
        born: false,
    }
}

/// Who confirms, and what.
async fn next_confirmation(member: &mut Member) -> (String, DiskId, Confirmation) {
    member
        .next(|arrival| match arrival {
            Arrival::Confirmation {
                from,
                disk,
                confirmation,
                permit,
            } => {
                drop(permit);
                Some((from, disk, confirmation))
            }
            Arrival::Message { .. }
            | Arrival::Handshake { .. }
            | Arrival::Snapshot { .. }
            | Arrival::Unreachable { .. } => None,
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_member_may_ask_and_is_answered_but_sends_no_messages() {
    let ([mut a, mut b, mut c], record) = born(["a", "b", "c"]);
    let to_a = id(&record, &a);
    still_talk(&mut a, &mut b, &record).await;
    b.stop().await;
    let mut wiped = Member::new("b");
    wiped.knows(&[&a.me()]);
    wiped.start();
    let question = Confirmation {
        hash: 5,
        record: None,
        born: false,
    };
    wiped.connected("a").await;
    wiped.transport().confirm("a".to_owned(), question.clone());
    let expected = ("b".to_owned(), wiped.me().disk, question.clone());
    assert_eq!(next_confirmation(&mut a).await, expected);
    let answer = Confirmation {
        born: true,
        ..confirmation(&record)
    };
    a.transport().confirm("b".to_owned(), answer.clone());
    assert_eq!(next_confirmation(&mut wiped).await.2, answer);

    // Whatever it claims to be, its disk is no founder's.
    wiped.transport().born(&record);
    wiped.send(to_a, 1);
    until(|| a.dropped("received", "not_a_member") == 1).await;
    assert!(!a.is_connected("b"));
    // Nor does it stand in the way of others, and of the founder if it comes back.
    still_talk(&mut a, &mut c, &record).await;
    b.start();
    b.transport().born(&record);
    still_talk(&mut a, &mut b, &record).await;
    wiped.transport().confirm("a".to_owned(), question.clone());
    assert_eq!(next_confirmation(&mut a).await.2, question);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_turns_out_at_birth_to_be_none_of_the_record_gives_way() {
    let mut a = Member::new("a");
    let mut other = Member::new("b");
    let mut b = Member::new("b");
    a.knows(&[&b.me()]);
    other.knows(&[&a.me()]);
    b.knows(&[&a.me()]);
    let record = record(&[&a, &b]);
    a.start();
    other.start();
    a.connected("b").await;
    a.transport().born(&record);
    assert!(!a.is_connected("b"));
    b.start();
    b.transport().born(&record);
    still_talk(&mut a, &mut b, &record).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_names_or_addresses_of_either_family() {
    let mut b = Member::new("b");
    let mut a = Member::new("a");
    b.expects(&a.me());
    // Of these the second may or may not exist here.
    b.options.listen = vec![
        "127.0.0.1:0".parse().expect("an address"),
        "[::1]:0".parse().expect("an address"),
    ];
    let started = Transport::start(
        b.options.clone(),
        Arc::clone(&b.identity),
        Arc::new(Inbox(b.arrive.clone())),
        Arc::clone(&b.metrics),
        Handle::current(),
    );
    b.transport = Some(started.expect("it starts"));
    let heard = b.transport().local_addresses();
    assert!(heard.iter().any(|address| address.is_ipv4()));
    for address in heard {
        // Not every system has a name for the other one.
        let url = match address {
            SocketAddr::V4(_) => format!("http://localhost:{}", address.port()),
            SocketAddr::V6(_) => format!("http://{address}"),
        };
        a.options.peers = [("b".to_owned(), vec!["http://nowhere".to_owned(), url])].into();
        a.start();
        a.connected("b").await;
        a.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_is_named() {
    let a = Member::new("a");
    let address = a.address();
    let mut options = a.options.clone();
    options.listen = vec![address];
    let started = Transport::start(
        options,
        Arc::clone(&a.identity),
        Arc::new(Inbox(a.arrive.clone())),
        Arc::clone(&a.metrics),
        Handle::current(),
    );
    let error = started.map(|_| ()).expect_err("it is in use").to_string();
    assert!(error.contains(&address.to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn challenges_rise_with_each_connection() {
    let (mut a, mut b) = pair_dialed_by_b(1, 2);
    let mut last = 0;
    a.start();
    for _ in 0..3 {
        b.start();
        let (challenge, founder) = a.next_handshake().await;
        assert_eq!(founder, b.me());
        assert!(challenge > last, "{challenge} after {last}");
        last = challenge;
        b.stop().await;
    }
}
