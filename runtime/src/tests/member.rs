//! A member does what it says, and what it said survives.

use std::task::{Context, Poll, Waker};

use quorate_core::EndReason;

use super::*;
use crate::testing::{Scratch, files_below};

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_stop() {
    let scratch = Scratch::new();
    let mut expected = Contents::new();
    for round in 0..3 {
        let (node, running) = open(scratch.path()).await;
        assert_eq!(contents(&node).await, expected, "round {round}");
        fill(&node, round, 30, &mut expected).await;
        assert_eq!(contents(&node).await, expected, "round {round}");
        running.stop().await.expect("an orderly end");
        let late = put(&node, "/late", "x").await;
        assert_eq!(late, Err(RequestError::Stopping));
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_kill() {
    let scratch = Scratch::new();
    let mut expected = Contents::new();
    for round in 0..5 {
        let (node, running) = open(scratch.path()).await;
        assert_eq!(contents(&node).await, expected, "round {round}");
        fill(&node, round, 77, &mut expected).await;
        running.kill().await;
    }
    let (node, _running) = open(scratch.path()).await;
    assert_eq!(contents(&node).await, expected);
}

#[tokio::test]
async fn history_is_read_back_from_its_slices() {
    let scratch = Scratch::new();
    let (node, running) = open(scratch.path()).await;
    slice_finely(&node).await;
    fill(&node, 0, 300, &mut Contents::new()).await;
    let before = history(&node).await;
    assert_eq!(before.len(), 300);
    running.stop().await.expect("an orderly end");

    let slices = files_below(&scratch.path().join("history")).len();
    assert!(slices > 10, "only {slices} slices were closed");
    let (node, running) = open(scratch.path()).await;
    assert_eq!(history(&node).await, before);
    fill(&node, 1, 100, &mut Contents::new()).await;
    let longer = history(&node).await;
    assert_eq!(longer.len(), 400);
    assert!(longer.starts_with(&before));
    running.kill().await;
    let (node, _running) = open(scratch.path()).await;
    assert_eq!(history(&node).await, longer);
}

#[tokio::test]
async fn checkpoints_write_what_changed_and_trim_the_log() {
    let scratch = Scratch::new();
    let (node, running) = open(scratch.path()).await;
    fill(&node, 0, 2000, &mut Contents::new()).await;
    let (done, bytes) = node.metrics().checkpoints();
    assert!(
        done > 3 && bytes > 10_000,
        "{done} checkpoints, {bytes} bytes"
    );
    let text = node.metrics().encode();
    assert!(text.contains("etcd_disk_wal_fsync_duration_seconds_count"));
    running.stop().await.expect("an orderly end");
    let log = files_below(&scratch.path().join("wal")).len();
    assert!(log < 8, "{log} files of the log are left");
}

#[tokio::test]
async fn a_watch_sees_every_event_once_however_slowly_it_reads() {
    let scratch = Scratch::new();
    let (node, running) = open(scratch.path()).await;
    slice_finely(&node).await;
    let filter = Filter {
        path: path("/d1"),
        recursive: true,
    };
    let (header, mut watcher) = node.watch(filter.clone(), None).await.expect("it stands");
    assert_eq!(header.member, node.id());
    let (_, mut once) = node.watch_once(filter, None).await.expect("it stands");
    // Far more than its credit.
    fill(&node, 0, 900, &mut Contents::new()).await;
    let mut last = Revision::ZERO;
    for _ in 0..300 {
        let Some(WatchItem::Event(notice)) = watcher.next().await else {
            panic!("the watch ended at {last}");
        };
        assert!(notice.event.id.index() > last);
        assert!(notice.event.path.starts_with(b"/d1/"));
        last = notice.event.id.index();
        let text = notice.rendered(|event| event.path.to_vec().into());
        assert_eq!(&text[..], &notice.event.path[..]);
    }
    let Some(WatchItem::Event(first)) = once.next().await else {
        panic!("no first event");
    };
    assert_eq!(first.event.id.index(), Revision(2));
    drop(once);

    running.stop().await.expect("an orderly end");
    let Some(WatchItem::End(end)) = watcher.next().await else {
        panic!("the watch did not end");
    };
    assert_eq!(end.reason, EndReason::Stopping);
    assert!(watcher.next().await.is_none());
}

#[tokio::test]
async fn a_dropped_watch_is_forgotten() {
    let scratch = Scratch::new();
    let (node, _running) = open(scratch.path()).await;
    let filter = Filter {
        path: Path::root(),
        recursive: true,
    };
    let mut watchers = Vec::new();
    for _ in 0..10 {
        watchers.push(node.watch(filter.clone(), None).await.expect("it stands").1);
    }
    assert_eq!(node.view().await.expect("it runs").status.pending.2, 10);
    watchers.truncate(3);
    assert_eq!(node.view().await.expect("it runs").status.pending.2, 3);
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(watchers[0].poll_next(&mut context), Poll::Pending));
}

#[tokio::test]
async fn a_stop_leaves_nobody_waiting() {
    let scratch = Scratch::new();
    let (node, running) = open(scratch.path()).await;
    let writers: Vec<_> = (0..50)
        .map(|n| {
            let node = node.clone();
            tokio::spawn(async move { put(&node, &format!("/k{n}"), "v").await })
        })
        .collect();
    tokio::task::yield_now().await;
    running.stop().await.expect("an orderly end");
    let mut done = Vec::new();
    for (n, writer) in writers.into_iter().enumerate() {
        match writer.await.expect("no panic") {
            Ok(_) => done.push(format!("/k{n}")),
            Err(
                RequestError::Stopping | RequestError::Dropped | RequestError::NotLeader { .. },
            ) => {}
            Err(other) => panic!("{other}"),
        }
    }
    let (node, _running) = open(scratch.path()).await;
    let found = contents(&node).await;
    for key in done {
        assert!(found.contains_key(&key), "{key} was acknowledged");
    }
}

#[tokio::test]
async fn the_view_and_the_metrics_tell_who_leads() {
    let scratch = Scratch::new();
    let (node, _running) = open(scratch.path()).await;
    fill(&node, 0, 3, &mut Contents::new()).await;
    let status = node.view().await.expect("it runs").status;
    assert_eq!(status.leader, Some(node.id()));
    assert_eq!(status.id, node.id());
    assert_eq!(status.revision, Revision(3));
    assert_ne!(node.cluster_id(), 0);
    assert_eq!(node.birth().founders[0].name, "default");
    let text = node.metrics().encode();
    for line in [
        "etcd_server_has_leader 1",
        "etcd_server_is_leader 1",
        "quorate_revision 3",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} not in {text}"
        );
    }
}
