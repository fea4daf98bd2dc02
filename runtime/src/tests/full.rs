//! A full disk: writes are refused, reads go on, nothing acknowledged is lost, and it heals.

use std::collections::BTreeSet;

use super::*;
use crate::testing::Scratch;

#[tokio::test]
async fn a_full_disk_refuses_writes_and_heals() {
    let scratch = Scratch::new();
    let room = Room::default();
    let mut options = options(scratch.path());
    options.core.checkpoint_bytes = 1 << 20;
    let (node, running) = open_with(options, room.clone()).await.expect("it starts");
    let mut expected = Contents::new();
    fill(&node, 0, 20, &mut expected).await;

    room.set(false);
    // What stands ready is used up first.
    let mut written = 0;
    let mut unknown = BTreeSet::new();
    let refused = loop {
        let (key, value) = (format!("/full/{written}"), "x".repeat(500));
        match put(&node, &key, &value).await {
            Ok(response) => {
                let Body::Changed(event) = response.body else {
                    panic!("a write was answered by {response:?}");
                };
                expected.insert(key, (value, event.id.index()));
                written += 1;
            }
            // It waits in the log, and will be there when there is room.
            Err(RequestError::Dropped) => {
                unknown.insert(key);
                written += 1;
            }
            Err(error) => break error,
        }
        assert!(written < 1000, "a full disk was never noticed");
    };
    assert_eq!(refused, RequestError::DiskFull);
    assert_eq!(contents(&node).await, expected, "reads go on");
    assert!(node.metrics().encode().contains("quorate_disk_full 1"));

    room.set(true);
    while put(&node, "/after", "again").await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fill(&node, 1, 20, &mut expected).await;
    running.stop().await.expect("an orderly end");

    let (node, _running) = open(scratch.path()).await;
    let mut found = contents(&node).await;
    found.retain(|key, _| key != "/after" && !unknown.contains(key));
    assert_eq!(found, expected);
}

#[tokio::test]
async fn checkpoints_that_fail_are_made_up_for() {
    let scratch = Scratch::new();
    let room = Room::default();
    let options = options(scratch.path());
    let (node, running) = open_with(options, room.clone()).await.expect("it starts");
    slice_finely(&node).await;
    let mut expected = Contents::new();
    fill(&node, 0, 50, &mut expected).await;
    room.set(false);
    let failed = || {
        let text = node.metrics().encode();
        !text.contains("quorate_checkpoints_failed_total 0")
    };
    // Refused or not: what counts is that a checkpoint is tried.
    let mut unknown = BTreeSet::new();
    for n in 0_u32.. {
        if failed() {
            break;
        }
        let (key, value) = (format!("/tried/{n}"), "y".repeat(300));
        match put(&node, &key, &value).await.map(|response| response.body) {
            Ok(Body::Changed(event)) => {
                expected.insert(key, (value, event.id.index()));
            }
            Err(RequestError::Dropped) => {
                unknown.insert(key);
            }
            Ok(_) | Err(_) => {}
        }
    }
    room.set(true);
    while put(&node, "/after", "again").await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fill(&node, 1, 200, &mut expected).await;
    let events = history(&node).await;
    running.stop().await.expect("an orderly end");

    let (node, _running) = open(scratch.path()).await;
    let mut found = contents(&node).await;
    found.retain(|key, _| key != "/after" && !unknown.contains(key));
    assert_eq!(found, expected);
    assert_eq!(history(&node).await, events);
}

#[tokio::test]
async fn a_stop_without_a_last_checkpoint_loses_nothing() {
    let scratch = Scratch::new();
    let room = Room::default();
    let mut options = options(scratch.path());
    options.core.checkpoint_bytes = 1 << 20;
    let (node, running) = open_with(options, room.clone()).await.expect("it starts");
    let mut expected = Contents::new();
    fill(&node, 0, 20, &mut expected).await;
    room.set(false);
    running.stop().await.expect("an orderly end");

    let (node, _running) = open(scratch.path()).await;
    assert_eq!(contents(&node).await, expected);
}

#[tokio::test]
async fn a_member_that_starts_on_a_full_disk_answers_reads_and_heals() {
    let scratch = Scratch::new();
    let (node, running) = open(scratch.path()).await;
    let mut expected = Contents::new();
    fill(&node, 0, 20, &mut expected).await;
    running.stop().await.expect("an orderly end");

    let room = Room::default();
    room.set(false);
    // A reserve of another size has to be made anew, for which there is no room.
    let mut options = options(scratch.path());
    options.reserve_bytes += 1;
    let (node, _running) = open_with(options, room.clone()).await.expect("it starts");
    assert_eq!(contents(&node).await, expected, "reads go on");
    while put(&node, "/n", "no").await != Err(RequestError::DiskFull) {
        tokio::task::yield_now().await;
    }
    room.set(true);
    while put(&node, "/after", "again").await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
