//! Times to live, while the leader is killed again and again.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::blocking::ask;
use crate::cluster::Cluster;

/// A key that has been given a time to live.
#[derive(Clone, Debug)]
struct Lease {
    target: String,
    index: u64,
    asked: Instant,
    answered: Instant,
    /// The last time it was seen, and when it was first asked for and gone.
    seen: Option<Instant>,
    gone: Option<(Instant, Instant)>,
}

/// Nobody sees a key end before its time, counted from the answer to the write, nor long after it.
/// `QUORATE_LEASES_SECONDS` is how long the leader is killed for once a second; keys live two
/// thirds of that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_live_as_long_as_they_were_given_through_changes_of_the_leader() {
    let seconds = std::env::var("QUORATE_LEASES_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(6);
    let ttl = Duration::from_secs(seconds * 2 / 3);
    let flags = ["--heartbeat-interval=20", "--election-timeout=200"];
    let mut cluster = Cluster::start(3, &flags).await;
    let addresses = cluster.addresses();
    let leases = Arc::new(Mutex::new(Vec::new()));
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..2)
        .map(|writer| {
            let (addresses, leases) = (addresses.clone(), Arc::clone(&leases));
            let stop = Arc::clone(&stop);
            thread::spawn(move || grant(writer, &addresses, ttl, &stop, &leases))
        })
        .collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut kills = 0;
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_secs(1)).await; // the length of the load, not a wait
        let leader = cluster.leader().await;
        cluster.kill(leader);
        cluster.run(leader);
        kills += 1;
    }
    stop.store(true, Ordering::SeqCst);
    let watched = tokio::task::spawn_blocking(move || {
        for writer in writers {
            writer.join().expect("no writer panics");
        }
    });
    watched.await.expect("no panic");
    let leases = leases.lock().expect("nobody panicked with it").clone();
    judge(&leases, ttl);
    assert!(
        kills >= 3 && leases.len() >= 10,
        "{kills} kills, {} keys",
        leases.len()
    );
}

/// Gives keys a time to live until told to stop, and looks after each until it is gone.
fn grant(
    writer: usize,
    addresses: &[SocketAddr],
    ttl: Duration,
    stop: &AtomicBool,
    ended: &Mutex<Vec<Lease>>,
) {
    let mut open: Vec<Lease> = Vec::new();
    for number in 0_usize.. {
        let address = addresses[number % addresses.len()];
        if !stop.load(Ordering::SeqCst) {
            let target = format!("/v2/keys/lease-{writer}-{number}");
            let form = format!("value=x&ttl={}", ttl.as_secs());
            let asked = Instant::now();
            let answer = ask(address, "PUT", &target, &form);
            let answered = Instant::now();
            if let Some(answer) = answer.ok().filter(|answer| answer.status == 201) {
                open.push(Lease {
                    target,
                    index: answer.index(),
                    asked,
                    answered,
                    seen: None,
                    gone: None,
                });
            }
        } else if open.is_empty() {
            return;
        }
        for lease in &mut open {
            // Those that are due are looked at all the time, others now and then.
            let age = lease.answered.elapsed();
            if age + Duration::from_millis(300) > ttl || number % 16 == 0 {
                look(address, lease);
            }
        }
        let gone = open.extract_if(.., |lease| lease.gone.is_some());
        ended.lock().expect("no writer panics").extend(gone);
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// Whether it is still there, linearizably.
fn look(address: SocketAddr, lease: &mut Lease) {
    let asked = Instant::now();
    let Ok(answer) = ask(address, "GET", &lease.target, "") else {
        return;
    };
    match answer.status {
        200 => lease.seen = Some(asked),
        404 => lease.gone = Some((asked, Instant::now())),
        status => assert_eq!(status, 500, "{answer:?}"),
    }
}

fn judge(leases: &[Lease], ttl: Duration) {
    /// How much longer than it was given a key may live: changes of the leader, the sweep, and a
    /// machine that has more to do.
    const LATE_MAX: Duration = Duration::from_secs(5);

    let mut latest = Duration::ZERO;
    let mut early = Vec::new();
    for lease in leases {
        let (asked, answered) = lease.gone.expect("all are gone");
        // It went before this answer, and not before it was last seen.
        let most = answered.duration_since(lease.answered);
        let least = lease
            .seen
            .unwrap_or(lease.answered)
            .duration_since(lease.asked);
        latest = latest.max(least);
        if most < ttl {
            let took = lease.answered - lease.asked;
            early.push((lease.index, took, most, asked.duration_since(lease.asked)));
        }
    }
    assert!(
        early.is_empty(),
        "ended early (index, put took, from answer, from sending): {early:?}"
    );
    assert!(latest <= ttl + LATE_MAX, "a key was seen for {latest:?}");
}
