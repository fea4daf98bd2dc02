//! What quorate does better than etcd on purpose (DESIGN.md §8), each as a test.

use crate::client::Client;
use crate::harness::Served;

#[tokio::test]
async fn a_stream_from_a_past_index_goes_on_to_live_events() {
    let server = Served::start(&[]).await;
    for value in 0..3 {
        server
            .ask("PUT", "/v2/keys/a", &format!("value={value}"))
            .await;
    }
    let mut stream = server.client().await;
    let head = stream
        .open("/v2/keys/a?wait=true&stream=true&waitIndex=1")
        .await;
    assert_eq!((head.status, head.index()), (200, 3));
    server.ask("PUT", "/v2/keys/a", "value=3").await;
    for index in 1..=4 {
        let event = stream.piece().await.expect("an event");
        assert!(event.contains(&format!(
            "\"value\":\"{}\",\"modifiedIndex\":{index}",
            index - 1
        )));
    }
}

#[tokio::test]
async fn the_removal_of_the_watched_node_arrives_once() {
    let server = Served::start(&[]).await;
    server.ask("PUT", "/v2/keys/a", "value=0").await;
    let mut stream = server.client().await;
    stream.open("/v2/keys/a?wait=true&stream=true").await;
    server.ask("DELETE", "/v2/keys/a", "").await;
    server.ask("PUT", "/v2/keys/a", "value=1").await;
    let first = stream.piece().await.expect("an event");
    let second = stream.piece().await.expect("an event");
    assert!(first.starts_with("{\"action\":\"delete\""), "{first}");
    assert!(second.starts_with("{\"action\":\"set\""), "{second}");
}

#[tokio::test]
async fn hidden_keys_reach_no_recursive_watch_from_above() {
    let server = Served::start(&[]).await;
    server.ask("PUT", "/v2/keys/d/_h", "value=1").await;
    let mut live = server.client().await;
    live.open("/v2/keys/d?wait=true&recursive=true").await;
    let mut past = server.client().await;
    past.open("/v2/keys/d?wait=true&recursive=true&waitIndex=1")
        .await;
    server.ask("PUT", "/v2/keys/d/_h", "value=2").await;
    server.ask("PUT", "/v2/keys/d/seen", "value=3").await;
    for mut watch in [live, past] {
        let event = watch.piece().await.expect("an event");
        assert!(event.contains("\"key\":\"/d/seen\""), "{event}");
    }
}

#[tokio::test]
async fn a_removed_directory_is_no_parent_of_names_that_begin_like_it() {
    let server = Served::start(&[]).await;
    server.ask("PUT", "/v2/keys/foo", "dir=true").await;
    server.ask("DELETE", "/v2/keys/foo?dir=true", "").await;
    let mut watch = server.client().await;
    watch.open("/v2/keys/foobar?wait=true&waitIndex=1").await;
    server.ask("PUT", "/v2/keys/foobar", "value=1").await;
    let event = watch.piece().await.expect("an event");
    assert!(event.contains("\"key\":\"/foobar\""), "{event}");
}

#[tokio::test]
async fn a_wait_with_quorum_waits() {
    let server = Served::start(&[]).await;
    server.ask("PUT", "/v2/keys/a", "value=1").await;
    let mut watch = server.client().await;
    watch.open("/v2/keys/a?wait=true&quorum=true").await;
    server.ask("PUT", "/v2/keys/a", "value=2").await;
    let event = watch.piece().await.expect("an event");
    assert!(event.starts_with("{\"action\":\"set\""), "{event}");
}

#[tokio::test]
async fn a_refused_write_counts_as_failed() {
    let server = Served::start(&[]).await;
    server.ask("PUT", "/v2/keys/a", "value=1").await;
    server.ask("PUT", "/v2/keys/d", "dir=true").await;
    // etcd counts all of these as successes.
    server.ask("DELETE", "/v2/keys/a?prevValue=2", "").await;
    server.ask("DELETE", "/v2/keys/d?prevIndex=2", "").await;
    server.ask("PUT", "/v2/keys/?prevIndex=1", "value=1").await;
    server
        .ask("PUT", "/v2/keys/d?prevExist=true", "value=1")
        .await;
    let stats = server.ask("GET", "/v2/stats/store", "").await.body;
    for expected in [
        "\"compareAndDeleteSuccess\":0,\"compareAndDeleteFail\":2",
        "\"compareAndSwapSuccess\":0,\"compareAndSwapFail\":1",
        "\"updateSuccess\":0,\"updateFail\":1",
        "\"setsSuccess\":2,\"setsFail\":0",
    ] {
        assert!(stats.contains(expected), "{expected} not in {stats}");
    }
}

#[tokio::test]
async fn history_is_far_longer_than_1000_events() {
    const EVENTS: usize = 3000;
    let server = Served::start(&[]).await;
    write_many(&server, EVENTS, 1).await;
    let mut stream = server.client().await;
    let head = stream
        .open("/v2/keys/?wait=true&stream=true&recursive=true&waitIndex=1")
        .await;
    assert_eq!(head.status, 200);
    for index in 1..=EVENTS {
        let event = stream.piece().await.expect("an event");
        assert!(
            event.contains(&format!("\"modifiedIndex\":{index},")),
            "{event}"
        );
    }
}

#[tokio::test]
async fn a_watcher_that_falls_behind_is_told_where_to_go_on() {
    let server = Served::start(&["--history-events=10"]).await;
    let mut slow = Client::connect_narrow(server.address).await;
    slow.open("/v2/keys/?wait=true&stream=true&recursive=true")
        .await;
    // More than its connection holds, so most of it can only be read from history, which is short.
    write_many(&server, 2000, 8000).await;
    let mut last = 0;
    let told = loop {
        let piece = slow.piece().await.expect("a last word");
        if piece.starts_with("{\"errorCode\"") {
            break piece;
        }
        last += 1;
        assert!(
            piece.contains(&format!("\"modifiedIndex\":{last},")),
            "a gap before {last}"
        );
    };
    assert!(last < 2000);
    let cause = format!("the requested history has been cleared [1991/{}]", last + 1);
    assert!(told.contains("\"errorCode\":401"), "{told}");
    assert!(told.contains(&cause), "{told}");
    assert_eq!(slow.piece().await, None, "nothing follows");
}

/// Writes keys `/n` with values of so many bytes, over a few connections, in any order.
async fn write_many(server: &Served, count: usize, bytes: usize) {
    const CONNECTIONS: usize = 20;
    let address = server.address;
    let form = format!("value={}", "x".repeat(bytes));
    let writers = (0..CONNECTIONS).map(|writer| {
        let form = form.clone();
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            for _ in 0..count / CONNECTIONS {
                let answer = client
                    .ask("PUT", &format!("/v2/keys/{writer}"), &form)
                    .await;
                assert!(matches!(answer.status, 200 | 201), "{answer:?}");
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("a writer ends");
    }
}
