//! Which directories are taken, which are refused, and in which words.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use quorate_core::wal::small;

use super::*;
use crate::files::Directory;
use crate::testing::{Scratch, files_below};

async fn refusal(directory: &FilePath) -> StartError {
    match try_open(directory).await {
        Err(error) => error,
        Ok(_) => panic!("{} was taken", directory.display()),
    }
}

#[tokio::test]
async fn a_directory_in_use_is_refused() {
    let scratch = Scratch::new();
    let (_node, running) = open(scratch.path()).await;
    let error = refusal(scratch.path()).await;
    assert!(matches!(error, StartError::InUse { .. }), "{error}");
    running.stop().await.expect("an orderly end");
    open(scratch.path()).await;
}

#[tokio::test]
async fn empty_directories_are_formatted_if_that_is_wanted() {
    let scratch = Scratch::new();
    for name in ["there", "missing", "mounted"] {
        let directory = scratch.path().join(name);
        if name != "missing" {
            fs::create_dir(&directory).expect("made");
        }
        if name == "mounted" {
            fs::create_dir(directory.join("lost+found")).expect("made");
        }
        let mut existing = options(&directory);
        existing.format = false;
        let error = open_with(existing.clone(), Room::default()).await.map(drop);
        assert!(
            matches!(error, Err(StartError::Unformatted { .. })),
            "{error:?}"
        );
        let (node, running) = open(&directory).await;
        let id = node.id();
        running.stop().await.expect("an orderly end");
        let (node, running) = open_with(existing, Room::default())
            .await
            .expect("it is one now");
        assert_eq!(node.id(), id);
        running.stop().await.expect("an orderly end");
    }
}

#[tokio::test]
async fn what_is_not_ours_is_refused_and_left_alone() {
    for (name, expected) in [
        ("member", "etcd"),
        ("proxy", "etcd"),
        ("notes.txt", "notes.txt"),
    ] {
        let scratch = Scratch::new();
        fs::create_dir(scratch.path().join(name)).expect("made");
        let error = refusal(scratch.path()).await;
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(
            files_below(scratch.path()),
            Vec::<std::path::PathBuf>::new()
        );
    }
}

#[tokio::test]
async fn another_version_is_refused() {
    let scratch = Scratch::new();
    let (_node, running) = open(scratch.path()).await;
    running.stop().await.expect("an orderly end");
    let mut root = Directory::new(scratch.path().to_owned(), Room::default());
    small::store(&mut root, "version", &[99]).expect("written");
    let error = refusal(scratch.path()).await;
    assert!(matches!(error, StartError::OtherVersion { .. }), "{error}");
    assert!(error.to_string().contains("99"), "{error}");
}

/// A crash at any point of formatting: what is half made is made anew.
#[tokio::test]
async fn formatting_that_was_cut_off_begins_again() {
    let scratch = Scratch::new();
    let (_node, running) = open(scratch.path()).await;
    running.stop().await.expect("an orderly end");
    fs::write(scratch.path().join("formatting"), b"").expect("written");
    fs::remove_file(scratch.path().join("version")).expect("removed");
    fs::remove_file(scratch.path().join("birth")).expect("removed");
    // What is not ours stays.
    let found = scratch.path().join("lost+found/inode-17");
    fs::create_dir(scratch.path().join("lost+found")).expect("made");
    fs::write(&found, b"somebody's").expect("written");
    let (node, running) = open(scratch.path()).await;
    assert_eq!(contents(&node).await, Contents::new());
    running.stop().await.expect("an orderly end");
    assert!(!scratch.path().join("formatting").exists());
    assert_eq!(fs::read(found).expect("left alone"), b"somebody's");
    // A marker that outlived the version file means nothing.
    fs::write(scratch.path().join("formatting"), b"").expect("written");
    let (node, _running) = open(scratch.path()).await;
    put(&node, "/a", "b").await.expect("written");
}

/// The private key is in it, and everything clients store.
#[tokio::test]
async fn nobody_else_may_look_into_a_directory() {
    let scratch = Scratch::new();
    let made = scratch.path().join("made/here");
    let (_node, running) = open(&made).await;
    running.stop().await.expect("an orderly end");
    let mode = |path: &FilePath| fs::metadata(path).expect("there").permissions().mode();
    assert_eq!(mode(&made) & 0o077, 0);
    for name in [
        "identity",
        "wal",
        "wal/wal.0000000001",
        "history",
        "tables.1",
        "reserve",
    ] {
        assert_eq!(mode(&made.join(name)) & 0o077, 0, "{name}");
    }
}

#[tokio::test]
async fn leftovers_are_removed() {
    let scratch = Scratch::new();
    let (node, running) = open(scratch.path()).await;
    slice_finely(&node).await;
    fill(&node, 0, 50, &mut Contents::new()).await;
    running.stop().await.expect("an orderly end");
    let slice = files_below(&scratch.path().join("history"))
        .pop()
        .expect("a slice");
    let unlisted = scratch.path().join("history/slice.00000000000000099999.0");
    fs::copy(scratch.path().join("history").join(slice), &unlisted).expect("copied");
    fs::create_dir(scratch.path().join("tables.7")).expect("made");
    open(scratch.path()).await;
    assert!(!unlisted.exists());
    assert!(!scratch.path().join("tables.7").exists());
}
