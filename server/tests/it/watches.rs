//! Watches as their clients see them.

use std::time::{Duration, Instant};

use crate::client::Client;
use crate::harness::Served;

#[tokio::test]
async fn headers_come_before_the_first_event() {
    let server = Served::start(&[]).await;
    let mut poll = server.client().await;
    let head = poll.open("/v2/keys/a?wait=true").await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header("Transfer-Encoding"), Some("chunked"));
    assert!(poll.is_quiet().await);
    server.ask("PUT", "/v2/keys/a", "value=1").await;
    assert!(poll.piece().await.expect("the event").ends_with("}}\n"));
    assert_eq!(
        poll.piece().await,
        None,
        "a long poll is over after one event"
    );
    let again = poll.ask("GET", "/v2/keys/a", "").await;
    assert_eq!(again.status, 200, "the connection goes on");
}

#[tokio::test]
async fn all_watchers_of_a_key_get_every_event_once_and_in_order() {
    const WATCHERS: usize = 100;
    const EVENTS: usize = 20;
    let server = Served::start(&[]).await;
    let mut streams = Vec::new();
    for _ in 0..WATCHERS {
        let mut stream = server.client().await;
        stream.open("/v2/keys/a?wait=true&stream=true").await;
        streams.push(stream);
    }
    for value in 0..EVENTS {
        server
            .ask("PUT", "/v2/keys/a", &format!("value={value}"))
            .await;
    }
    for stream in &mut streams {
        for index in 1..=EVENTS {
            let event = stream.piece().await.expect("an event");
            let expected = format!("\"modifiedIndex\":{index},\"createdIndex\":{index}");
            assert!(event.contains(&expected), "{event}");
        }
    }
    watchers_become(&server, WATCHERS).await;
    drop(streams);
    watchers_become(&server, 0).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_delays_nobody() {
    let server = Served::start(&[]).await;
    let mut stalled = Client::connect_narrow(server.address).await;
    stalled.open("/v2/keys/a?wait=true&stream=true").await;
    let mut reader = server.client().await;
    reader.open("/v2/keys/a?wait=true&stream=true").await;
    let form = format!("value={}", "x".repeat(10_000));
    for _ in 0..500 {
        assert!(server.ask("PUT", "/v2/keys/a", &form).await.status < 300);
        reader.piece().await.expect("the event at once");
    }
    // What it missed is still there for it.
    for index in 1..=500 {
        let event = stalled.piece().await.expect("an event");
        assert!(
            event.contains(&format!("\"modifiedIndex\":{index},")),
            "event {index}"
        );
    }
}

#[tokio::test]
async fn a_server_that_stops_tells_streams_where_to_go_on_and_breaks_polls() {
    let server = Served::start(&[]).await;
    server.ask("PUT", "/v2/keys/a", "value=1").await;
    let mut stream = server.client().await;
    stream.open("/v2/keys/a?wait=true&stream=true").await;
    let mut poll = server.client().await;
    poll.open("/v2/keys/a?wait=true").await;
    server.stop().await;
    let told = stream.piece().await.expect("a last word");
    assert!(told.starts_with("{\"errorCode\":400"), "{told}");
    assert!(
        told.contains("waitIndex=2") && told.ends_with("\"index\":2}\n"),
        "{told}"
    );
    assert_eq!(stream.piece().await, None);
    assert!(poll.is_closed().await, "cut off, to be asked again");
}

async fn watchers_become(server: &Served, count: usize) {
    let expected = format!("\"watchers\":{count}}}");
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let stats = server.ask("GET", "/v2/stats/store", "").await.body;
        if stats.ends_with(&expected) {
            return;
        }
        assert!(Instant::now() < end, "{expected} not in {stats}");
        tokio::task::yield_now().await;
    }
}
