//! Records: what the frames of the log say.
//!
//! ```text
//! kind: u8 | voted: u8 | version: u16 | entries: u32
//! | sequence: u64 | term: u64 | vote: u64 | last term: u64 | last index: u64 | chain: u64
//! | the entries, postcard
//! ```
//!
//! Every record repeats the whole state of the log after it but for the entries: any one of them
//! that is left tells term, vote and how far the log had come (DESIGN.md §6).

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::frame;
use crate::codec;
use crate::ids::{Index, LogId, NodeId, Term, WriteSeq};
use crate::output::HardState;
use crate::raft::Entry;

/// The version of the format of the log.
pub(super) const VERSION: u16 = 1;

/// The bytes of a record before its entries.
const FIXED_BYTES: usize = 56;

/// The bytes of a record without entries, in its frame.
pub(super) const EMPTY_BYTES: usize = frame::HEADER_BYTES + FIXED_BYTES;

const _: () = assert!(EMPTY_BYTES.is_multiple_of(frame::ALIGNMENT));

/// A place in the log and all that is true there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// The last write up to here.
    pub(super) seq: WriteSeq,
    /// Term and vote after it.
    pub(super) hard_state: HardState,
    /// The last entry of the log as it stood here.
    pub(super) last: LogId,
    /// A hash over all batches up to here: a batch missing in the middle shows (SIMULATION.md D9).
    pub(super) chain: u64,
}

/// What a record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The header of a segment: how things stood at its beginning.
    Open,
    /// Writes that became durable together.
    Batch,
    /// The log goes on in the next segment. Durable before that one is written to.
    Close,
    /// In the file of seals: the log is durable up to here, and rests.
    Seal,
}

/// A record, read.
#[derive(Clone, Debug)]
pub(super) struct Record<'a> {
    pub(super) kind: Kind,
    /// The chain before it.
    pub(super) before: u64,
    /// How things stand after it.
    pub(super) after: Position,
    entry_count: u32,
    entries: &'a [u8],
}

/// Begins a record at the end of `buffer`; returns where. Entries follow, each by [`put_entry`].
pub(super) fn begin(buffer: &mut Vec<u8>) -> usize {
    let at = frame::begin(buffer);
    buffer.extend_from_slice(&[0; FIXED_BYTES]);
    at
}

/// Appends an entry to the record begun last.
pub(super) fn put_entry(buffer: &mut Vec<u8>, entry: &Entry) {
    codec::put_entry(buffer, entry);
}

/// Completes the record that began at `at` but for its place: see [`frame::stamp`]. `after` comes
/// with the chain before the record; the chain after it is returned.
pub(super) fn finish(
    buffer: &mut Vec<u8>,
    at: usize,
    kind: Kind,
    after: &Position,
    entry_count: u32,
) -> u64 {
    let mut fixed = [0; FIXED_BYTES];
    fixed[0] = match kind {
        Kind::Open => 0,
        Kind::Batch => 1,
        Kind::Close => 2,
        Kind::Seal => 3,
    };
    fixed[1] = u8::from(after.hard_state.vote.is_some());
    fixed[2..4].copy_from_slice(&VERSION.to_le_bytes());
    fixed[4..8].copy_from_slice(&entry_count.to_le_bytes());
    let words = [
        after.seq.0,
        after.hard_state.term.0,
        after.hard_state.vote.map_or(0, |node| node.0),
        after.last.term.0,
        after.last.index.0,
        after.chain,
    ];
    for (to, word) in fixed[8..].chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    let body = at + frame::HEADER_BYTES;
    buffer[body..body + FIXED_BYTES].copy_from_slice(&fixed);
    let chain = chain_after(kind, after.chain, &buffer[body..]);
    frame::pad(buffer, at);
    chain
}

/// A record without entries, for its place.
pub(super) fn empty(kind: Kind, at: &Position, owner: u64, offset: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(EMPTY_BYTES);
    begin(&mut bytes);
    finish(&mut bytes, 0, kind, at, 0);
    frame::stamp(&mut bytes, owner, offset);
    bytes
}

impl<'a> Record<'a> {
    /// The record in the body of a frame.
    ///
    /// # Errors
    /// What is wrong with it, though its checksum is right: a newer program wrote it, or a wrong
    /// one.
    pub(super) fn decode(body: &'a [u8]) -> Result<Self, &'static str> {
        let (fixed, entries) = body.split_at_checked(FIXED_BYTES).ok_or("short record")?;
        let kind = match fixed[0] {
            0 => Kind::Open,
            1 => Kind::Batch,
            2 => Kind::Close,
            3 => Kind::Seal,
            _ => return Err("record of an unknown kind"),
        };
        if u16::from_le_bytes([fixed[2], fixed[3]]) != VERSION {
            return Err("record of an unknown version");
        }
        let entry_count = u32::from_le_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
        let word = |number: usize| {
            let bytes = &fixed[8 * (number + 1)..8 * (number + 2)];
            u64::from_le_bytes(bytes.try_into().expect("eight bytes were asked for"))
        };
        let before = word(5);
        let after = Position {
            seq: WriteSeq(word(0)),
            hard_state: HardState {
                term: Term(word(1)),
                vote: (fixed[1] != 0).then(|| NodeId(word(2))),
            },
            last: LogId {
                term: Term(word(3)),
                index: Index(word(4)),
            },
            chain: chain_after(kind, before, body),
        };
        Ok(Self {
            kind,
            before,
            after,
            entry_count,
            entries,
        })
    }

    /// Its entries, in the order they were written: one that is not after the one before it
    /// supersedes all from its index on.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, &'static str> {
        let mut entries = Vec::new();
        let mut rest = self.entries;
        for _ in 0..self.entry_count {
            let (entry, more) = codec::take_entry(rest).map_err(|_| "entry that is malformed")?;
            entries.push(entry);
            rest = more;
        }
        if rest.is_empty() {
            Ok(entries)
        } else {
            Err("record with more in it than its entries")
        }
    }
}

/// Opening, closing and sealing say nothing new, so the chain passes them by: one that is damaged
/// costs nothing.
fn chain_after(kind: Kind, before: u64, body: &[u8]) -> u64 {
    match kind {
        Kind::Batch => xxh3_64_with_seed(body, before),
        Kind::Open | Kind::Close | Kind::Seal => before,
    }
}
