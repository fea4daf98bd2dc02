//! What clients are told while a part of the cluster is away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::blocking::ask;
use crate::cluster::Cluster;

/// As long as a member waits for a quorum (api/v2.md §18).
const REQUEST_TIMEOUT: Duration = Duration::from_millis(5600);

/// How much later than it should anything may be on a busy machine.
const SLACK: Duration = Duration::from_secs(2);

/// Runs what blocks, elsewhere.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

/// Asked for what needs a quorum, a member without one says so in time, as etcd does.
fn assert_refuses(address: SocketAddr, method: &str, form: &str) {
    let asked = Instant::now();
    let answer = ask(address, method, "/v2/keys/other", form).expect("an answer");
    let took = asked.elapsed();
    assert_eq!(answer.status, 500, "{answer:?}");
    let document = answer.document();
    assert_eq!(document["errorCode"], 300, "{answer:?}");
    assert_eq!(document["message"], "Raft Internal Error");
    assert_eq!(document["cause"], "etcdserver: request timed out");
    assert!(took <= REQUEST_TIMEOUT + SLACK, "{method} took {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_refuses_what_needs_a_quorum_and_tells_how_old_the_rest_is() {
    let mut cluster = Cluster::start(3, &[]).await;
    let leader = cluster.leader().await;
    let answer = cluster.ask(leader, "PUT", "/v2/keys/k", "value=1").await;
    assert_eq!(answer.status, 201, "{answer:?}");
    cluster.agreement().await;
    // The leader is left alone once, a follower the other time.
    for rest in [leader, (leader + 1) % 3] {
        let (one, other) = ((rest + 1) % 3, (rest + 2) % 3);
        cluster.put_to_sleep(one).await;
        cluster.kill(other);
        let address = cluster.addresses()[rest];
        let asked = ["GET", "PUT", "POST", "DELETE"].map(|method| {
            aside(move || {
                let form = if method == "GET" { "" } else { "value=2" };
                assert_refuses(address, method, form);
            })
        });
        let asked = asked.map(tokio::spawn);
        let age = || {
            aside(move || {
                let target = "/v2/keys/k?quorum=false";
                let answer = ask(address, "GET", target, "").expect("an answer");
                assert_eq!(
                    (answer.status, answer.field("value")),
                    (200, "1".to_owned())
                );
                answer.age.expect("an age")
            })
        };
        let (before, first) = (Instant::now(), age().await);
        for asked in asked {
            asked.await.expect("as expected");
        }
        let (second, passed) = (age().await, before.elapsed());
        assert!(second > first + 1000, "{first} ms, then {second} ms");
        assert!(
            u128::from(second - first) <= passed.as_millis(),
            "faster than time"
        );
        cluster.wake(one);
        cluster.run(other);
        cluster.serves(other).await;
        cluster.leader().await;
        cluster.agreement().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_slept_tells_nobody_of_the_past() {
    let cluster = Cluster::start(3, &[]).await;
    let old = cluster.leader().await;
    let addresses = cluster.addresses();
    let answer = cluster.ask(old, "PUT", "/v2/keys/k", "value=1").await;
    assert_eq!(answer.status, 201, "{answer:?}");
    cluster.put_to_sleep(old).await;
    // These wait in the sockets of the sleeping leader.
    let address = addresses[old];
    let reads: Vec<_> = (0..4)
        .map(|_| tokio::spawn(aside(move || ask(address, "GET", "/v2/keys/k", ""))))
        .collect();
    let writes: Vec<_> = (0..4)
        .map(|n| {
            let target = format!("/v2/keys/old-{n}");
            tokio::spawn(aside(move || ask(address, "PUT", &target, "value=1")))
        })
        .collect();
    let other = addresses[(old + 1) % 3];
    let slept = Instant::now();
    let written = aside(move || {
        loop {
            let answer = ask(other, "PUT", "/v2/keys/k", "value=2").expect("an answer");
            if answer.status == 200 {
                return answer.index();
            }
        }
    });
    let index = written.await;
    tokio::time::sleep(Duration::from_secs(3).saturating_sub(slept.elapsed())).await;
    cluster.wake(old);
    // A fresh one, the moment it wakes up.
    let fresh = aside(move || ask(address, "GET", "/v2/keys/k", ""));
    for read in reads.into_iter().chain([tokio::spawn(fresh)]) {
        let answer = read.await.expect("no panic").expect("an answer");
        match answer.status {
            200 => assert_eq!(answer.field("value"), "2", "stale: {answer:?}"),
            status => assert_eq!(status, 500, "{answer:?}"),
        }
    }
    cluster.leader().await;
    for (n, write) in writes.into_iter().enumerate() {
        let answer = write.await.expect("no panic").expect("an answer");
        let target = format!("/v2/keys/old-{n}");
        let found = aside(move || ask(other, "GET", &target, ""))
            .await
            .expect("an answer");
        match answer.status {
            201 => {
                assert_eq!(found.number("modifiedIndex"), answer.index(), "lost");
                assert!(answer.index() > index, "in the past");
            }
            status => assert_eq!(status, 500, "{answer:?}"),
        }
    }
    cluster.agreement().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_restarted_one_by_one_and_no_write_fails() {
    const ELECTION_TIMEOUT: Duration = Duration::from_millis(300);
    let mut cluster = Cluster::start(3, &[]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..6)
        .map(|place| {
            let (stop, address) = (Arc::clone(&stop), cluster.addresses()[place % 3]);
            thread::spawn(move || write_until(&stop, address, place))
        })
        .collect();
    let mut stopped = Vec::new();
    // The leader twice, wherever it is by then.
    for round in 0..3 {
        tokio::time::sleep(Duration::from_millis(700)).await; // the length of the load
        let place = match round {
            0 | 2 => cluster.leader().await,
            _ => (cluster.leader().await + 1) % 3,
        };
        let from = Instant::now();
        assert_eq!(cluster.stop(place).await, Some(0), "{}", cluster.log(place));
        stopped.push((place, from, Instant::now()));
        cluster.run(place);
        cluster.serves(place).await;
    }
    stop.store(true, Ordering::SeqCst);
    let addresses = cluster.addresses();
    let join = |writer: thread::JoinHandle<Vec<Write>>| writer.join().expect("no panic");
    let writes = aside(move || writers.into_iter().map(join).collect::<Vec<_>>()).await;
    let mut times = Vec::new();
    for (through, writes) in writes.iter().enumerate() {
        for write in writes {
            let own = stopped.iter().any(|&(place, from, to)| {
                place == through % 3 && write.ended >= from && write.began <= to + SLACK
            });
            match &write.failed {
                None => times.push(write.ended),
                // Its own member is away. What was in flight there was answered.
                Some(_) if own => {
                    let (address, target) = (addresses[through % 3], write.target.clone());
                    let found = aside(move || ask(address, "GET", &target, "")).await;
                    assert_eq!(found.expect("an answer").status, 404, "{write:?}");
                }
                Some(_) => panic!("through {}: {write:?}", through % 3),
            }
        }
    }
    times.sort();
    let pauses = times.windows(2).map(|two| two[1] - two[0]);
    let longest = pauses.max().expect("writes");
    assert!(times.len() > 100, "{} writes: no load", times.len());
    assert!(
        longest < ELECTION_TIMEOUT,
        "nothing was written for {longest:?}: leadership was not handed over"
    );
    cluster.agreement().await;
}

/// What came of one write.
#[derive(Debug)]
struct Write {
    target: String,
    began: Instant,
    ended: Instant,
    failed: Option<String>,
}

fn write_until(stop: &AtomicBool, address: SocketAddr, place: usize) -> Vec<Write> {
    let mut writes = Vec::new();
    for number in 0_u64.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let began = Instant::now();
        let target = format!("/v2/keys/{place}/{number}");
        let result = ask(address, "PUT", &target, "value=1");
        let failed = match &result {
            Ok(answer) if answer.status == 201 => None,
            other => Some(format!("{other:?}")),
        };
        writes.push(Write {
            target,
            began,
            ended: Instant::now(),
            failed,
        });
        thread::park_timeout(Duration::from_millis(5));
    }
    writes
}
