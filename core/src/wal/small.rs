//! Small files, replaced whole: `version`, the identity, the birth record, the list of segments.
//!
//! One frame, owned by the file's name: a flipped byte anywhere in it shows, a cut, an appended
//! byte, and a file that was given another's name.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use xxhash_rust::xxh3::xxh3_64;

use super::error::WalError;
use super::files::{FileError, Files};
use super::frame;

/// The longest small file, in bytes. A longer one is damaged.
pub const BYTES_MAX: usize = 16 << 20;

/// Replaces the file `name` by one that says `body`, or makes it. When this returns it is durable;
/// a crash before leaves the old one or the new one (SIMULATION.md D13).
///
/// # Errors
/// `Full`: nothing has changed. `File`: the directory cannot be trusted to keep anything.
pub fn store<F: Files>(files: &mut F, name: &str, body: &[u8]) -> Result<(), WalError> {
    let mut bytes = Vec::with_capacity(frame::HEADER_BYTES + body.len() + frame::ALIGNMENT);
    frame::append(&mut bytes, owner(name), body);
    assert!(bytes.len() <= BYTES_MAX, "{name} is not small");
    replace(files, name, &bytes)
}

/// What the file `name` says.
///
/// # Errors
/// `Missing`, `Damaged`: the operator acts. `File`: it cannot be read.
pub fn load<F: Files>(files: &F, name: &str) -> Result<Vec<u8>, WalError> {
    let bytes = read(files, name, BYTES_MAX)?;
    match frame::parse(&bytes, owner(name), 0) {
        Some(frame) if frame.end == bytes.len() => Ok(frame.body.to_vec()),
        Some(frame) => Err(WalError::damaged(
            name,
            frame.end as u64,
            "something follows its end",
        )),
        None => Err(WalError::damaged(name, 0, "its checksum does not match")),
    }
}

/// Whether `name` is what a replacement leaves behind if it is cut short; nobody needs it.
pub(super) fn is_leftover(name: &str) -> bool {
    name.ends_with(SUFFIX)
}

const SUFFIX: &str = ".new";

/// Puts a file of exactly `bytes` in place of `name`, durably and at once.
pub(super) fn replace<F: Files>(files: &mut F, name: &str, bytes: &[u8]) -> Result<(), WalError> {
    let new: String = format!("{name}{SUFFIX}");
    let failed = |error| WalError::File {
        file: new.clone(),
        error,
    };
    match files.allocate(&new, bytes.len() as u64) {
        Ok(()) => {}
        Err(FileError::Full) => return Err(WalError::Full),
        Err(error) => return Err(failed(error)),
    }
    files.write_at(&new, 0, bytes).map_err(failed)?;
    files.sync(&new).map_err(failed)?;
    files.rename(&new, name).map_err(failed)?;
    files.sync_dir().map_err(|error| WalError::File {
        file: String::new(),
        error,
    })
}

/// All of a file that is at most `bytes_max` long.
pub(super) fn read<F: Files>(files: &F, name: &str, bytes_max: usize) -> Result<Vec<u8>, WalError> {
    let length = files.len(name).map_err(|e| WalError::of(name, e))?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > bytes_max {
        return Err(WalError::damaged(
            name,
            bytes_max as u64,
            "it is longer than such a file can be",
        ));
    }
    let mut bytes = vec![0; length];
    files
        .read_at(name, 0, &mut bytes)
        .map_err(|e| WalError::of(name, e))?;
    Ok(bytes)
}

fn owner(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::MemoryFiles;

    #[test]
    fn every_flip_and_cut_is_seen() {
        let mut files = MemoryFiles::new();
        store(&mut files, "identity", b"somebody").expect("there is room");
        assert_eq!(load(&files, "identity"), Ok(b"somebody".to_vec()));
        let length = files.bytes("identity").len();
        for at in 0..length {
            let mut flipped = files.clone();
            flipped.flip("identity", at, 0x04);
            let mut cut = files.clone();
            cut.cut("identity", at);
            for files in [flipped, cut] {
                let error = load(&files, "identity").expect_err("it is damaged");
                assert!(matches!(error, WalError::Damaged { file, .. } if file == "identity"));
            }
        }
        let mut longer = files.clone();
        longer.cut("identity", length + 1);
        let error = WalError::damaged("identity", length as u64, "something follows its end");
        assert_eq!(load(&longer, "identity"), Err(error));
    }

    #[test]
    fn a_file_under_another_name_is_not_that_file() {
        let mut files = MemoryFiles::new();
        store(&mut files, "version", b"1").expect("there is room");
        files.rename("version", "birth").expect("it is there");
        assert!(matches!(
            load(&files, "birth"),
            Err(WalError::Damaged { .. })
        ));
        let file = "version".into();
        assert_eq!(load(&files, "version"), Err(WalError::Missing { file }));
    }

    /// SIMULATION.md D13: the old one or the new one, never neither.
    #[test]
    fn a_crash_leaves_the_old_or_the_new() {
        let mut found = [0; 2];
        for changes in 0..6 {
            for kept in 0..16 {
                let mut files = MemoryFiles::new();
                store(&mut files, "birth", &[1; 700]).expect("there is room");
                files.fail_after(Some(changes));
                let stored = store(&mut files, "birth", &[2; 700]);
                let mut bits = kept;
                files.crash(|| {
                    bits = bits >> 1 | (bits & 1) << 3;
                    bits & 1 == 1
                });
                let body = load(&files, "birth").expect("one of the two");
                assert!(body == [1; 700] || body == [2; 700]);
                assert!(stored.is_err() || body == [2; 700], "it was durable");
                found[usize::from(body[0]) - 1] += 1;
            }
        }
        assert!(found.iter().all(|&count| count > 0), "{found:?}");
    }

    #[test]
    fn a_full_disk_changes_nothing() {
        let mut files = MemoryFiles::new();
        store(&mut files, "birth", b"old").expect("there is room");
        files.set_capacity(Some(files.used()));
        assert_eq!(store(&mut files, "birth", b"new"), Err(WalError::Full));
        assert_eq!(load(&files, "birth"), Ok(b"old".to_vec()));
    }
}
