//! Three members in one process, each with a directory and a UDP port of its own.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration as StdDuration, Instant as StdInstant};

use quorate_core::NodeId;

use super::*;
use crate::testing::Scratch;

/// How long anything may take before a test fails.
const PATIENCE: StdDuration = StdDuration::from_secs(30);

/// So long a member that cannot be born is watched not being born.
const WHILE: StdDuration = StdDuration::from_millis(700);

type Member = (Node, Running);

/// A cluster to be founded.
struct Trio {
    names: [&'static str; 3],
    listen: [SocketAddr; 3],
    scratch: Scratch,
}

impl Trio {
    fn new() -> Self {
        Self {
            names: ["a", "b", "c"],
            listen: [free_port(), free_port(), free_port()],
            scratch: Scratch::new(),
        }
    }

    fn directory(&self, place: usize) -> std::path::PathBuf {
        self.scratch.path().join(self.names[place])
    }

    fn options(&self, place: usize) -> Options {
        let pairs = self.names.iter().zip(&self.listen);
        let base = options(&self.directory(place));
        Options {
            name: self.names[place].to_owned(),
            cluster: pairs
                .map(|(name, listen)| ((*name).to_owned(), vec![format!("http://{listen}")]))
                .collect(),
            peer_listen: vec![self.listen[place]],
            core: Config {
                heartbeat_interval: Duration::from_millis(20),
                election_timeout: Duration::from_millis(200),
                ..base.core
            },
            ..base
        }
    }

    /// Starts a member, as soon as its directory and its port are free.
    async fn start(&self, place: usize) -> Result<Member, StartError> {
        let end = StdInstant::now() + PATIENCE;
        loop {
            match start_in(self.options(place), Room::default()).await {
                // Whoever was asked to stop before its birth, and its socket, may take a moment.
                Err(StartError::InUse { .. } | StartError::Listen { .. }) => pause().await,
                started => return started,
            }
            assert!(StdInstant::now() < end, "it is still in use");
        }
    }

    async fn start_all(&self) -> [Member; 3] {
        let all = async { tokio::join!(self.start(0), self.start(1), self.start(2)) };
        let (a, b, c) = tokio::time::timeout(PATIENCE, all).await.expect("a birth");
        [a, b, c].map(|member| member.expect("born"))
    }
}

/// A UDP port of 127.0.0.1 that nobody has, and no other test of this process was given.
fn free_port() -> SocketAddr {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("an address");
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        if given.insert(address.port()) {
            return address;
        }
    }
}

async fn pause() {
    tokio::time::sleep(StdDuration::from_millis(5)).await;
}

/// The place of the leader that all of `members` know.
async fn leader(members: &[Member]) -> usize {
    let end = StdInstant::now() + PATIENCE;
    loop {
        let mut known = BTreeSet::new();
        for (node, _) in members {
            known.insert(node.view().await.expect("it runs").status.leader);
        }
        let ids: Vec<NodeId> = members.iter().map(|(node, _)| node.id()).collect();
        if let (1, Some(Some(leader))) = (known.len(), known.first())
            && let Some(place) = ids.iter().position(|id| id == leader)
        {
            return place;
        }
        assert!(StdInstant::now() < end, "no leader: {known:?}");
        pause().await;
    }
}

/// Writes through whoever leads.
async fn write(members: &[Member], key: &str, value: &str) {
    let end = StdInstant::now() + PATIENCE;
    loop {
        let place = leader(members).await;
        match put(&members[place].0, key, value).await {
            Ok(_) => return,
            Err(error) => assert!(StdInstant::now() < end, "{error}"),
        }
    }
}

/// Waits until all of `members` have applied the same.
async fn agree(members: &[Member]) {
    let end = StdInstant::now() + PATIENCE;
    loop {
        let mut states = BTreeSet::new();
        for (node, _) in members {
            let status = node.view().await.expect("it runs").status;
            states.insert((status.applied, status.revision, status.state_hash));
        }
        if states.len() == 1 {
            return;
        }
        assert!(StdInstant::now() < end, "they differ: {states:?}");
        pause().await;
    }
}

async fn local(node: &Node, key: &str) -> (Option<String>, Option<Duration>) {
    let query = Query {
        path: path(key),
        recursive: false,
        consistency: Consistency::Local {
            at_least: Revision::ZERO,
        },
    };
    let (response, age) = node.read_aged(query).await.expect("it is there");
    let Body::Found(tree) = response.body else {
        panic!("a question was answered by {response:?}");
    };
    (tree.node.value.map(|value| value.to_string()), age)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_are_born_agree_and_start_again() {
    let trio = Trio::new();
    let members = trio.start_all().await;
    let births: BTreeSet<_> = members
        .iter()
        .map(|(node, _)| node.birth().hash())
        .collect();
    assert_eq!(births.len(), 1, "one cluster");
    let ids: Vec<_> = members.iter().map(|(node, _)| node.id()).collect();
    write(&members, "/k", "one").await;
    agree(&members).await;
    for (node, _) in &members {
        let (value, age) = local(node, "/k").await;
        assert_eq!(value.as_deref(), Some("one"));
        assert!(age.expect("a leader was heard") < PATIENCE);
    }
    let first = leader(&members).await;
    let text = members[first].0.metrics().encode();
    assert!(
        !text.contains("etcd_server_leader_changes_seen_total 0"),
        "{text}"
    );
    let view = members[first].0.view().await.expect("it runs");
    assert_eq!(view.traffic.followers.len(), 2);

    // One is killed: the others go on, and it catches up.
    let [a, b, c] = members;
    c.1.kill().await;
    let two = [a, b];
    write(&two, "/k", "two").await;
    let [a, b] = two;
    let members = [a, b, trio.start(2).await.expect("it is born already")];
    agree(&members).await;
    assert_eq!(local(&members[2].0, "/k").await.0.as_deref(), Some("two"));

    // All are stopped, one after the other, and all come back.
    for (_, running) in members {
        running.stop().await.expect("an orderly end");
    }
    let members = trio.start_all().await;
    let again: Vec<_> = members.iter().map(|(node, _)| node.id()).collect();
    assert_eq!(again, ids);
    write(&members, "/k", "three").await;
    agree(&members).await;
    assert_eq!(local(&members[1].0, "/k").await.0.as_deref(), Some("three"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_born_while_one_is_missing_or_wiped() {
    let trio = Trio::new();
    let early = async { tokio::join!(trio.start(0), trio.start(2)) };
    assert!(
        tokio::time::timeout(WHILE, early).await.is_err(),
        "b is missing"
    );
    // What c had when a met it is gone. Nobody served with it, so nothing is lost.
    let end = StdInstant::now() + PATIENCE;
    while std::fs::remove_dir_all(trio.directory(2)).is_err() {
        assert!(StdInstant::now() < end, "c does not stop");
        pause().await;
    }
    let members = trio.start_all().await;
    write(&members, "/k", "v").await;
    agree(&members).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_wiped_after_the_birth_is_told_what_to_do() {
    let trio = Trio::new();
    let [a, b, c] = trio.start_all().await;
    c.1.stop().await.expect("an orderly end");
    std::fs::remove_dir_all(trio.directory(2)).expect("wiped");
    let started = tokio::time::timeout(PATIENCE, trio.start(2)).await;
    let error = started
        .expect("an answer")
        .map(drop)
        .expect_err("another disk");
    let error = error.to_string();
    for words in ["that c has now", "member remove", "member add"] {
        assert!(error.contains(words), "{error}");
    }
    let two = [a, b];
    write(&two, "/k", "v").await;
    agree(&two).await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let trio = Trio::new();
    let _other = UdpSocket::bind(trio.listen[0]).expect("it was free");
    let started = start_in(trio.options(0), Room::default()).await;
    let error = started.map(drop).expect_err("not free");
    let port = trio.listen[0].port().to_string();
    assert!(error.to_string().contains(&port), "{error}");
}
