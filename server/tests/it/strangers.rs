//! Who reaches the peer port and is no member.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, write};

#[tokio::test]
async fn members_of_another_token_are_refused_and_counted() {
    let cluster = Cluster::start(3, &[]).await;
    let scratch = crate::harness::Scratch::new();
    let peers = format!("m0=http://{},m9=http://127.0.0.1:1", cluster.peers(0));
    let mut stranger = crate::process::command(
        &scratch.join("data"),
        &[
            "--name=m9",
            "--listen-peer-urls=http://127.0.0.1:0",
            "--initial-advertise-peer-urls=http://127.0.0.1:1",
            "--initial-cluster-token=another",
            &format!("--initial-cluster={peers}"),
        ],
    );
    let stranger = stranger.stderr(std::process::Stdio::null()).spawn();
    let mut stranger = stranger.expect("the program runs");
    let name = "quorate_peer_refused_total{reason=\"token\",by=\"this\"}";
    let counted = || async { cluster.counts(0, name).await.then_some(()) };
    cluster.until(name, counted).await;
    stranger.kill().expect("killed");
    stranger.wait().expect("dead");
    write(&cluster, "k").await;
}

/// Datagrams that mean nothing, of which some look like the first of a connection.
fn throw(at: std::net::SocketAddr, end: &AtomicBool) -> u64 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let (mut datagram, mut thrown) = ([0_u8; 1200], 0_u64);
    while !end.load(Ordering::Relaxed) {
        for _ in 0..100 {
            thrown += 1;
            let (first, length) = match thrown % 3 {
                0 => (0xc3, 1200),
                1 => (0x40, 40),
                _ => (u8::try_from(thrown % 256).unwrap_or_default(), 300),
            };
            let seed = thrown.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
            datagram
                .iter_mut()
                .zip(seed.iter().cycle())
                .for_each(|(to, from)| *to = *from);
            datagram[0] = first;
            datagram[1..5].copy_from_slice(&[0, 0, 0, 1]);
            let _ = socket.send_to(&datagram[..length], at);
        }
        thread::sleep(Duration::from_millis(10));
    }
    thrown
}

#[tokio::test]
async fn garbage_on_the_peer_port_disturbs_no_client() {
    let cluster = Cluster::start(3, &[]).await;
    let leader = cluster.leader().await;
    let end = Arc::new(AtomicBool::new(false));
    let (at, told) = (cluster.peers(leader), Arc::clone(&end));
    let throwing = thread::spawn(move || throw(at, &told));
    let mut client = cluster.client(leader).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        let answer = client.ask("PUT", "/v2/keys/k", "value=x").await;
        assert!(matches!(answer.status, 200 | 201), "{}", answer.body);
    }
    end.store(true, Ordering::Relaxed);
    assert!(throwing.join().expect("no panic") > 0);
    assert_eq!(cluster.leader().await, leader, "nobody was missed");
}
