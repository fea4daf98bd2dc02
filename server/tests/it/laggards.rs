//! Members that were away for longer than the log reaches back, and members whose disk was wiped.

use std::fs;

use crate::cluster::{Cluster, has, write, write_through};

/// So little log that a few writes are too much for it.
const SHORT_LOG: &[&str] = &[
    "--log-format=json",
    "--checkpoint-bytes=32KiB",
    "--log-retention-bytes=32KiB",
    "--wal-segment-bytes=1MiB",
];

/// A cluster of three, and one of its followers, which is down and needs a snapshot.
async fn with_laggard() -> (Cluster, usize) {
    behind(SHORT_LOG, "old", &"x".repeat(16 << 10)).await
}

/// The same; members have `flags`, one value is `old`, and `filler` makes the log long.
async fn behind(flags: &[&str], old: &str, filler: &str) -> (Cluster, usize) {
    let mut cluster = Cluster::start(3, flags).await;
    write(&cluster, old).await;
    let laggard = (cluster.leader().await + 1) % 3;
    has(&cluster, laggard, old).await;
    let reached = number(&cluster, laggard, "last").await;
    cluster.kill(laggard);
    outrun(&cluster, laggard, reached, filler).await;
    (cluster, laggard)
}

/// Writes, through both others, until the leader's log begins after `reached`.
async fn outrun(cluster: &Cluster, laggard: usize, reached: u64, filler: &str) {
    let write = || async {
        for other in [(laggard + 1) % 3, (laggard + 2) % 3] {
            write_through(cluster, other, filler).await;
        }
        let leader = cluster.leader().await;
        (number(cluster, leader, "first").await > reached + 1).then_some(())
    };
    cluster.until("a log that was trimmed", write).await;
    assert!(
        !all_logs(cluster).contains("a snapshot is sent"),
        "to one that is down"
    );
}

async fn number(cluster: &Cluster, place: usize, name: &str) -> u64 {
    cluster.raft(place, name).await.as_u64().expect(name)
}

fn all_logs(cluster: &Cluster) -> String {
    (0..3).map(|place| cluster.log(place)).collect()
}

/// Waits until all members have applied the same, and are byte for byte in one state.
async fn agree(cluster: &Cluster) {
    let state = |place| async move {
        let applied = cluster.raft(place, "applied").await;
        (applied, cluster.raft(place, "stateHash").await)
    };
    let same = || async {
        let first = state(0).await;
        (first == state(1).await && first == state(2).await).then_some(())
    };
    cluster.until("one state", same).await;
}

fn tables(cluster: &Cluster, place: usize) -> Vec<String> {
    let entries = fs::read_dir(cluster.data_dir(place)).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("tables.")).collect()
}

#[tokio::test]
async fn a_member_that_lags_behind_the_log_gets_a_snapshot() {
    let (mut cluster, laggard) = with_laggard().await;
    cluster.run(laggard);
    write(&cluster, "new").await;
    has(&cluster, laggard, "new").await;
    agree(&cluster).await;
    assert!(cluster.log(laggard).contains("a snapshot begins to arrive"));
    assert!(number(&cluster, laggard, "checkpointed").await > 0);

    // What it was told in the snapshot, and not by its own log.
    let past = "/v2/keys/k?wait=true&waitIndex=1";
    let event = cluster.ask(laggard, "GET", past, "").await;
    assert!(event.body.contains("\"value\":\"old\""), "{}", event.body);
    let none_of_old = || async { (tables(&cluster, laggard) == ["tables.2"]).then_some(()) };
    cluster.until("the old tables go", none_of_old).await;

    for _ in 0..2 {
        assert_eq!(
            cluster.stop(laggard).await,
            Some(0),
            "{}",
            cluster.log(laggard)
        );
        let since = cluster.log(laggard).len();
        cluster.run(laggard);
        has(&cluster, laggard, "new").await;
        agree(&cluster).await;
        assert!(
            !cluster.log(laggard)[since..].contains("snapshot"),
            "it lacks nothing"
        );
    }
    assert!(!all_logs(&cluster).contains("panicked"));
}

/// An event has the value before it, too; a snapshot has events, and what was answered to requests.
#[tokio::test]
async fn the_largest_values_there_may_be_reach_a_laggard() {
    let largest = (10 << 20) - "value=".len();
    let mut flags = SHORT_LOG.to_vec();
    flags.push("--max-request-bytes=10MiB");
    // One such entry takes a busy machine longer than the others may hear nothing.
    flags.push("--election-timeout=5000");
    let (mut cluster, laggard) = behind(&flags, &"o".repeat(largest), &"x".repeat(largest)).await;
    cluster.run(laggard);
    write(&cluster, "new").await;
    has(&cluster, laggard, "new").await;
    agree(&cluster).await;
    assert!(cluster.log(laggard).contains("a snapshot begins to arrive"));
}

#[tokio::test]
async fn a_receiver_that_is_killed_while_it_receives_begins_again() {
    let (mut cluster, laggard) = with_laggard().await;
    for words in [
        "connected with a peer",
        "a snapshot begins to arrive",
        "a snapshot begins to arrive",
    ] {
        let since = cluster.log(laggard).len();
        cluster.run(laggard);
        cluster.logs(laggard, since, words).await;
        cluster.kill(laggard);
    }
    cluster.run(laggard);
    write(&cluster, "new").await;
    has(&cluster, laggard, "new").await;
    agree(&cluster).await;
}

#[tokio::test]
async fn a_sender_that_is_killed_while_it_sends_is_replaced() {
    let (mut cluster, laggard) = with_laggard().await;
    let leader = cluster.leader().await;
    cluster.run(laggard);
    cluster
        .logs(laggard, 0, "a snapshot begins to arrive")
        .await;
    cluster.kill(leader);
    cluster.run(leader);
    write(&cluster, "new").await;
    has(&cluster, laggard, "new").await;
    agree(&cluster).await;
}

#[tokio::test]
async fn a_wiped_member_is_refused_under_its_old_name() {
    let mut cluster = Cluster::start(3, &["--log-format=json"]).await;
    write(&cluster, "one").await;
    let wiped = (cluster.leader().await + 1) % 3;
    cluster.kill(wiped);
    fs::remove_dir_all(cluster.data_dir(wiped)).expect("removed");
    for _ in 0..2 {
        let since = cluster.log(wiped).len();
        cluster.run(wiped);
        assert_eq!(cluster.ended(wiped).await, Some(1));
        let log = cluster.log(wiped);
        let last = log[since..].lines().last().unwrap_or_default();
        for words in [
            "quorate: ",
            "wiped or replaced",
            "`member remove`",
            "`member add`",
        ] {
            assert!(last.contains(words), "{words:?} not in {last:?}");
        }
    }
    write(&cluster, "two").await;
    let name = format!("m{wiped}");
    for place in (0..3).filter(|place| *place != wiped) {
        has(&cluster, place, "two").await;
        let log = cluster.log(place);
        let told = log
            .lines()
            .filter(|line| line.contains("founded without") && line.contains(&name));
        assert_eq!(told.count(), 1, "{log}");
    }
}
