//! Frames: bytes under a checksum that knows where they belong.
//!
//! ```text
//! magic: [u8; 4] | length of the body: u32 | owner, low half: u32 | crc32c: u32
//! | body | zeros to a multiple of 8
//! ```
//!
//! Numbers are little-endian. The checksum covers the owner (a segment's generation, a file's name)
//! and the offset in the file as well: recycled bytes, and a write that went to the wrong place,
//! never pass (SIMULATION.md D8).

use alloc::vec::Vec;
use core::ops::Range;

/// Every frame begins with this.
const MAGIC: [u8; 4] = *b"qrt1";

/// The bytes of a frame before its body.
pub(super) const HEADER_BYTES: usize = 16;

/// Frames begin at multiples of this, and are padded to it.
pub(super) const ALIGNMENT: usize = 8;

/// A whole frame, found where it belongs.
#[derive(Clone, Debug)]
pub(super) struct Frame<'a> {
    /// What it carries.
    pub(super) body: &'a [u8],
    /// Where the next one begins.
    pub(super) end: usize,
}

/// Begins a frame at the end of `buffer`; returns where. The caller appends the body.
pub(super) fn begin(buffer: &mut Vec<u8>) -> usize {
    let at = buffer.len();
    assert_eq!(at % ALIGNMENT, 0, "the frame before was not finished");
    buffer.extend_from_slice(&[0; HEADER_BYTES]);
    at
}

/// Pads the frame that began at `at` and is the last in `buffer`; returns its length.
pub(super) fn pad(buffer: &mut Vec<u8>, at: usize) -> usize {
    let body = u32::try_from(buffer.len() - at - HEADER_BYTES).expect("a body fits 32 bits");
    buffer.resize(buffer.len().next_multiple_of(ALIGNMENT), 0);
    buffer[at..at + 4].copy_from_slice(&MAGIC);
    buffer[at + 4..at + 8].copy_from_slice(&body.to_le_bytes());
    buffer.len() - at
}

/// Puts `frame`, which is padded, under its checksum for its place.
pub(super) fn stamp(frame: &mut [u8], owner: u64, offset: u64) {
    assert_eq!(frame[..4], MAGIC, "a frame that was not padded");
    frame[8..12].copy_from_slice(&low_half(owner));
    let sum = checksum(frame, owner, offset);
    frame[12..16].copy_from_slice(&sum.to_le_bytes());
}

/// Appends a whole frame to `file`, the bytes of a file of `owner` from its beginning.
pub(super) fn append(file: &mut Vec<u8>, owner: u64, body: &[u8]) {
    let at = begin(file);
    file.extend_from_slice(body);
    pad(file, at);
    stamp(&mut file[at..], owner, at as u64);
}

/// The frame at `at` of `file`, if there is a whole one of `owner`.
pub(super) fn parse(file: &[u8], owner: u64, at: usize) -> Option<Frame<'_>> {
    if !begins(file, owner, at) {
        return None;
    }
    let length = u32::from_le_bytes(file[at + 4..at + 8].try_into().ok()?);
    let body = span(at + HEADER_BYTES, usize::try_from(length).ok()?)?;
    let end = body.end.checked_next_multiple_of(ALIGNMENT)?;
    let frame = file.get(at..end)?;
    (frame[12..16] == checksum(frame, owner, at as u64).to_le_bytes()).then(|| Frame {
        body: &file[body],
        end,
    })
}

/// Where the frame at `at` of `file` ends by its own word: if it is none, where its header would.
pub(super) fn claimed_end(file: &[u8], owner: u64, at: usize) -> usize {
    let body = match file.get(at + 4..at + 8) {
        Some(&[a, b, c, d]) if begins(file, owner, at) => u32::from_le_bytes([a, b, c, d]),
        Some(_) | None => 0,
    };
    (at + HEADER_BYTES).saturating_add(usize::try_from(body).unwrap_or(usize::MAX))
}

/// Whether a frame of `owner` began at `at` of `file`, whole or not.
pub(super) fn begins(file: &[u8], owner: u64, at: usize) -> bool {
    let header = span(at, HEADER_BYTES).and_then(|header| file.get(header));
    header.is_some_and(|header| header[..4] == MAGIC && header[8..12] == low_half(owner))
}

fn span(at: usize, bytes: usize) -> Option<Range<usize>> {
    Some(at..at.checked_add(bytes)?)
}

/// Over owner, offset, owner again, length, and the body with its padding.
fn checksum(frame: &[u8], owner: u64, offset: u64) -> u32 {
    let mut place = [0; 24];
    place[..8].copy_from_slice(&owner.to_le_bytes());
    place[8..16].copy_from_slice(&offset.to_le_bytes());
    place[16..].copy_from_slice(&frame[4..12]);
    crc32c::crc32c_append(crc32c::crc32c(&place), &frame[HEADER_BYTES..])
}

fn low_half(owner: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = owner.to_le_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_counts_only_in_its_place() {
        let mut file = Vec::new();
        append(&mut file, 7, b"first");
        append(&mut file, 7, b"second, longer");
        let first = parse(&file, 7, 0).expect("it is there");
        assert_eq!((first.body, first.end), (b"first".as_slice(), 24));
        let second = parse(&file, 7, 24).expect("it is there");
        assert_eq!(
            (second.body, second.end),
            (b"second, longer".as_slice(), file.len())
        );

        assert!(parse(&file, 8, 0).is_none(), "another owner");
        assert!(parse(&file, 7 | 1 << 32, 0).is_none(), "another owner");
        assert!(parse(&file[24..], 7, 0).is_none(), "another offset");
        assert!(parse(&file, 7, 8).is_none() && parse(&file, 7, usize::MAX).is_none());
    }

    #[test]
    fn a_length_beyond_the_file_is_no_frame() {
        let mut file = Vec::new();
        append(&mut file, 7, b"first");
        for length in [6, 9, 1000, u32::MAX] {
            file[4..8].copy_from_slice(&length.to_le_bytes());
            assert!(parse(&file, 7, 0).is_none(), "{length}");
        }
    }
}
