//! Slices of history: immutable files of records that mean nothing here.
//!
//! One frame that names the slice, one for each record, and one with a hash over all of them. The
//! store fills them (DESIGN.md §6); they are written before the checkpoint that lists them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use xxhash_rust::xxh3::xxh3_128;

use super::error::WalError;
use super::files::Files;
use super::{frame, small};
use crate::ids::{ChangeId, Revision};

/// The longest slice file, in bytes. A longer one is damaged.
pub const BYTES_MAX: usize = 1 << 30;

const VERSION: u16 = 1;
const PREFIX: &str = "slice.";

/// version: u16, nothing: u16, sub: u32, revision: u64, records: u64.
const HEADER_BYTES: usize = 24;

/// The name of the file of slice `id`.
#[must_use]
pub fn file_name(id: ChangeId) -> String {
    format!("{PREFIX}{:020}.{}", id.revision.0, id.sub)
}

/// Which slice the file `name` holds; `None` where it is no slice's.
#[must_use]
pub fn id_of(name: &str) -> Option<ChangeId> {
    let (revision, sub) = name.strip_prefix(PREFIX)?.split_once('.')?;
    let id = ChangeId {
        revision: Revision(revision.parse().ok()?),
        sub: sub.parse().ok()?,
    };
    (file_name(id) == name).then_some(id)
}

/// Writes slice `id`. When this returns it is durable under its name; a crash before leaves nothing
/// of that name, or all of it.
///
/// # Errors
/// `Full`: nothing has changed. `File`: the directory cannot be trusted to keep anything.
pub fn write<F: Files>(
    files: &mut F,
    id: ChangeId,
    records: &[impl AsRef<[u8]>],
) -> Result<(), WalError> {
    let mut header = [0; HEADER_BYTES];
    header[..2].copy_from_slice(&VERSION.to_le_bytes());
    header[4..8].copy_from_slice(&id.sub.to_le_bytes());
    header[8..16].copy_from_slice(&id.revision.0.to_le_bytes());
    header[16..].copy_from_slice(&(records.len() as u64).to_le_bytes());

    let framed = |bytes: usize| bytes + frame::HEADER_BYTES + frame::ALIGNMENT;
    let records_bytes: usize = records.iter().map(|r| framed(r.as_ref().len())).sum();
    let mut bytes = Vec::with_capacity(framed(HEADER_BYTES) + records_bytes + framed(16));
    frame::append(&mut bytes, owner(id), &header);
    for record in records {
        frame::append(&mut bytes, owner(id), record.as_ref());
    }
    let hash = xxh3_128(&bytes);
    frame::append(&mut bytes, owner(id), &hash.to_le_bytes());
    assert!(bytes.len() <= BYTES_MAX, "slice {id} is too long");
    small::replace(files, &file_name(id), &bytes)
}

/// Reads slice `id` back, all of it checked.
///
/// # Errors
/// `Missing`, `Damaged`, `Version`: the slice is lost, as far as this program is concerned. `File`:
/// it cannot be read.
pub fn read<F: Files>(files: &F, id: ChangeId) -> Result<SliceRecords, WalError> {
    let name = file_name(id);
    let bytes = small::read(files, &name, BYTES_MAX)?;
    let damaged = |at: usize, what| WalError::damaged(&name, at as u64, what);
    let frame_at =
        |at| frame::parse(&bytes, owner(id), at).ok_or_else(|| damaged(at, "its checksum fails"));

    let header = frame_at(0)?;
    let count = check_header(&name, id, header.body)?;
    let mut at = header.end;
    let mut spans = Vec::new();
    for _ in 0..count {
        let record = frame_at(at)?;
        let begin = at + frame::HEADER_BYTES;
        spans.push(begin..begin + record.body.len());
        at = record.end;
    }
    let footer = frame_at(at)?;
    if footer.body != xxh3_128(&bytes[..at]).to_le_bytes() {
        return Err(damaged(at, "the hash over all of it does not match"));
    }
    if footer.end != bytes.len() {
        return Err(damaged(footer.end, "something follows its end"));
    }
    Ok(SliceRecords { bytes, spans })
}

/// The records of a slice, in the order written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceRecords {
    bytes: Vec<u8>,
    spans: Vec<Range<usize>>,
}

impl SliceRecords {
    /// Each record's bytes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.spans.iter().map(|span| &self.bytes[span.clone()])
    }
}

/// How many records follow.
fn check_header(name: &str, id: ChangeId, header: &[u8]) -> Result<u64, WalError> {
    let damaged = |what| WalError::damaged(name, 0, what);
    let header: &[u8; HEADER_BYTES] = header
        .try_into()
        .map_err(|_| damaged("its header has a wrong length"))?;
    let found = u16::from_le_bytes([header[0], header[1]]);
    if found != VERSION {
        return Err(WalError::Version {
            file: name.into(),
            found,
        });
    }
    if header[4..8] != id.sub.to_le_bytes() || header[8..16] != id.revision.0.to_le_bytes() {
        return Err(damaged("it is another slice"));
    }
    let count = header[16..].try_into().expect("eight bytes are left");
    Ok(u64::from_le_bytes(count))
}

/// Frames of one slice do not pass in another. Revision and sub share no bits in practice; where
/// they do, the header still tells the slices apart.
fn owner(id: ChangeId) -> u64 {
    id.revision.0 ^ u64::from(id.sub).rotate_right(16)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::wal::MemoryFiles;

    const ID: ChangeId = ChangeId {
        revision: Revision(300),
        sub: 2,
    };

    fn written() -> MemoryFiles {
        let mut files = MemoryFiles::new();
        let records = [b"one".to_vec(), vec![], vec![7; 100]];
        write(&mut files, ID, &records).expect("there is room");
        files
    }

    #[test]
    fn what_was_written_is_read() {
        let read = read(&written(), ID).expect("it is whole");
        let records: Vec<&[u8]> = read.iter().collect();
        assert_eq!(records, [b"one".as_slice(), b"", &[7; 100]]);
    }

    #[test]
    fn every_flip_and_cut_is_seen() {
        let files = written();
        let name = file_name(ID);
        for at in 0..files.bytes(&name).len() {
            let mut flipped = files.clone();
            flipped.flip(&name, at, 0x40);
            let mut cut = files.clone();
            cut.cut(&name, at);
            for files in [flipped, cut] {
                let error = read(&files, ID).expect_err("it is damaged");
                assert!(matches!(error, WalError::Damaged { file, .. } if file == name));
            }
        }
        let mut longer = files.clone();
        longer.cut(&name, files.bytes(&name).len() + 8);
        assert!(read(&longer, ID).is_err());
    }

    #[test]
    fn one_slice_does_not_pass_for_another() {
        let mut files = written();
        let other = ChangeId { sub: 3, ..ID };
        files
            .rename(&file_name(ID), &file_name(other))
            .expect("it is there");
        assert!(matches!(read(&files, other), Err(WalError::Damaged { .. })));
        let file = file_name(ID);
        assert_eq!(read(&files, ID), Err(WalError::Missing { file }));
    }

    #[test]
    fn names_tell_the_slice() {
        assert_eq!(file_name(ID), "slice.00000000000000000300.2");
        assert_eq!(id_of(&file_name(ID)), Some(ID));
        for name in ["slice.300.2", "slice.00000000000000000300.02", "wal.seals"] {
            assert_eq!(id_of(name), None, "{name}");
        }
    }
}
