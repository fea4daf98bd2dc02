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
