//! The store is damaged file by file; verification must name the file or mend it, and what opens
//! afterwards must hold what was ingested.

use std::collections::BTreeMap;
use std::fs;

use super::*;
use crate::testing::{Scratch, files_below};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

fn row(n: u32, round: u32) -> Change {
    let value = format!("value {n} of round {round}").into_bytes();
    (n.to_be_bytes().to_vec(), (n % 7 != round).then_some(value))
}

/// Two checkpoints, the second of which overwrites and removes.
fn fill(directory: &Path) -> Rows {
    let tables = Tables::open(directory).expect("a new store");
    let mut rows = Rows::new();
    for round in 0..3 {
        let changes: Vec<_> = (round * 50..round * 50 + 200)
            .map(|n| row(n, round))
            .collect();
        tables.ingest(changes.clone()).expect("ingested");
        for (key, value) in changes {
            match value {
                Some(value) => drop(rows.insert(key, value)),
                None => drop(rows.remove(&key)),
            }
        }
    }
    rows
}

fn load(directory: &Path) -> Result<Rows, TablesError> {
    let tables = Tables::open(directory)?;
    tables
        .rows()
        .map(|row| row.map(|(k, v)| (k.to_vec(), v.to_vec())))
        .collect()
}

#[test]
fn what_was_ingested_is_there_again() {
    let scratch = Scratch::new();
    let rows = fill(scratch.path());
    for _ in 0..3 {
        verify(scratch.path()).expect("sound");
        assert_eq!(load(scratch.path()).expect("opens"), rows);
    }
}

#[test]
fn reopened_it_goes_on() {
    let scratch = Scratch::new();
    fill(scratch.path());
    let tables = Tables::open(scratch.path())
        .expect("opens")
        .reopen()
        .expect("again");
    tables.ingest([row(1, 9)]).expect("ingested");
    let found = tables.rows().next().expect("a row").expect("readable");
    assert_eq!(&*found.1, b"value 1 of round 9");
}

#[test]
fn a_key_that_would_be_cut_is_refused() {
    let scratch = Scratch::new();
    let tables = Tables::open(scratch.path()).expect("a new store");
    let longest = (vec![7; KEY_BYTES_MAX], Some(vec![1]));
    tables.ingest([longest.clone()]).expect("it fits");
    assert!(tables.ingest([(vec![8; KEY_BYTES_MAX + 1], None)]).is_err());
    let tables = tables.reopen().expect("opens");
    let found: Vec<_> = tables
        .rows()
        .map(|row| row.expect("readable").0.len())
        .collect();
    assert_eq!(found, [KEY_BYTES_MAX]);
}

/// Each file: flipped here and there, cut, emptied, deleted.
#[test]
fn damage_is_named_or_mended() {
    let scratch = Scratch::new();
    let rows = fill(scratch.path());
    let mut refused = 0;
    for file in files_below(scratch.path()) {
        for damage in crate::testing::Damages::of(&scratch.path().join(&file), 40) {
            let copy = Scratch::copy_of(scratch.path());
            damage.apply(&copy.path().join(&file));
            match verify(copy.path()) {
                Ok(()) => assert_eq!(
                    load(copy.path()).expect("opens"),
                    rows,
                    "{file:?} {damage:?}"
                ),
                Err(error) => {
                    let text = error.to_string();
                    let name = file
                        .file_name()
                        .expect("a name")
                        .to_string_lossy()
                        .into_owned();
                    let by_pointer = name == "current" && text.contains("/v");
                    assert!(
                        text.contains(&name) || by_pointer,
                        "{file:?} {damage:?}: {text}"
                    );
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 100, "only {refused} damages were seen");
    assert!(fs::exists(scratch.path().join("0.jnl")).expect("readable"));
}
