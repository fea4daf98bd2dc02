//! Every file of a member's directory is damaged in every way, one at a time. The next start gives
//! exactly what was acknowledged, or refuses and names the file: never anything else, and no panic.

use std::fs;
use std::path::PathBuf;
use std::time::Duration as StdDuration;

use quorate_core::EndReason;

use super::*;
use crate::testing::{Damages, Scratch, files_below};

/// So many bytes of a big file are flipped, one at a time.
const SAMPLED: u64 = 24;

struct Sample {
    scratch: Scratch,
    contents: Contents,
    history: Vec<(Revision, String, String)>,
}

/// Several checkpoints, closed slices, entries after the last checkpoint.
async fn sample(kill: bool) -> Sample {
    let scratch = Scratch::new();
    let mut expected = Contents::new();
    let (node, running) = open(scratch.path()).await;
    slice_finely(&node).await;
    fill(&node, 0, 150, &mut expected).await;
    running.stop().await.expect("an orderly end");
    let (node, running) = open(scratch.path()).await;
    fill(&node, 1, 40, &mut expected).await;
    let history = history(&node).await;
    if kill {
        sealed(scratch.path()).await;
        running.kill().await;
    } else {
        running.stop().await.expect("an orderly end");
    }
    Sample {
        scratch,
        contents: expected,
        history,
    }
}

/// Waits until the log rests: before that, damage to its last batch cannot be told from a torn
/// write that nobody was told of.
async fn sealed(directory: &FilePath) {
    let seals = directory.join("wal/wal.seals");
    let read = || fs::read(&seals).expect("readable");
    let mut before = read();
    let mut quiet = 0;
    while quiet < 10 {
        tokio::time::sleep(StdDuration::from_millis(10)).await;
        let now = read();
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
    }
}

async fn check(sample: &Sample, file: &PathBuf, damage: Damages) -> Option<String> {
    let copy = Scratch::copy_of(sample.scratch.path());
    damage.apply(&copy.path().join(file));
    match try_open(copy.path()).await {
        Ok((node, running)) => {
            assert_eq!(
                contents(&node).await,
                sample.contents,
                "{file:?} {damage:?}"
            );
            assert_eq!(history(&node).await, sample.history, "{file:?} {damage:?}");
            running.kill().await;
            None
        }
        Err(error) => Some(error.to_string()),
    }
}

async fn check_all(sample: &Sample) {
    let (mut refused, mut survived) = (0, 0);
    for file in files_below(sample.scratch.path()) {
        let name = file
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        for damage in Damages::of(&sample.scratch.path().join(&file), SAMPLED) {
            match check(sample, &file, damage).await {
                None => survived += 1,
                Some(words) => {
                    // A pointer that leads nowhere is told by where it leads.
                    let pointed = name == "current" && words.contains("/v")
                        || name == "CURRENT" && words.contains("tables.");
                    assert!(
                        words.contains(&name) || pointed,
                        "{file:?} {damage:?}: {words}"
                    );
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 300, "only {refused} damages were refused");
    assert!(survived > 20, "only {survived} damages were survived");
}

#[tokio::test]
async fn of_a_stopped_member() {
    check_all(&sample(false).await).await;
}

#[tokio::test]
async fn of_a_killed_member() {
    check_all(&sample(true).await).await;
}

/// Without tables, the log tells everything if it reaches back to the beginning.
#[tokio::test]
async fn lost_tables_are_made_anew_from_a_whole_log() {
    for lost in ["tables.1", "tables.1/keyspaces", "tables.1/version"] {
        let scratch = Scratch::new();
        let mut expected = Contents::new();
        let (node, running) = open(scratch.path()).await;
        fill(&node, 0, 10, &mut expected).await;
        running.stop().await.expect("an orderly end");
        Damages::Delete.apply(&scratch.path().join(lost));
        // What an earlier try left behind is in nobody's way.
        fs::create_dir_all(scratch.path().join("tables.2/keyspaces")).expect("made");
        for round in 0..3 {
            let (node, running) = open(scratch.path()).await;
            assert_eq!(contents(&node).await, expected, "{lost}");
            fill(&node, round, 10, &mut expected).await;
            running.stop().await.expect("an orderly end");
        }
        let aside = scratch.path().join("tables.1.damaged");
        assert_eq!(aside.exists(), lost != "tables.1");
    }
}

/// A slice that is lost for good can be done without, if an operator says so.
#[tokio::test]
async fn a_lost_slice_is_told_to_those_who_need_it() {
    let sample = sample(false).await;
    let name = "history/slice.00000000000000000001.0";
    let slice = sample.scratch.path().join(name);
    Damages::Delete.apply(&slice);
    let error = try_open(sample.scratch.path()).await.map(drop);
    let error = error.expect_err("a slice is missing").to_string();
    assert!(error.contains(name) && error.contains(".lost"), "{error}");

    fs::write(sample.scratch.path().join(format!("{name}.lost")), b"").expect("written");
    let (node, _running) = open(sample.scratch.path()).await;
    assert_eq!(contents(&node).await, sample.contents);
    let filter = Filter {
        path: Path::root(),
        recursive: true,
    };
    let (_, mut watcher) = node.watch(filter, Some(Revision(1))).await.expect("begun");
    let Some(WatchItem::End(end)) = watcher.next().await else {
        panic!("events out of nothing");
    };
    assert_eq!(end.reason, EndReason::HistoryLost);
}

/// A log of another time beside the tables is no log of theirs.
#[tokio::test]
async fn an_old_copy_of_the_log_is_refused() {
    let scratch = Scratch::new();
    let (node, running) = open(scratch.path()).await;
    fill(&node, 0, 10, &mut Contents::new()).await;
    running.stop().await.expect("an orderly end");
    let old = Scratch::copy_of(&scratch.path().join("wal"));
    let (node, running) = open(scratch.path()).await;
    fill(&node, 1, 10, &mut Contents::new()).await;
    running.stop().await.expect("an orderly end");
    fs::remove_dir_all(scratch.path().join("wal")).expect("removed");
    fs::rename(old.path(), scratch.path().join("wal")).expect("moved");
    let error = try_open(scratch.path())
        .await
        .map(drop)
        .expect_err("two times in one");
    assert!(error.to_string().contains("wal"), "{error}");
}
