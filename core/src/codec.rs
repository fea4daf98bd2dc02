//! [`Message`] and [`Write`] to bytes and back: versioned, checksummed, bounded.
//!
//! ```text
//! version: u8 | tag: u8 | length of the body: u32 | crc32c of all but itself: u32 | body: postcard
//! ```
//!
//! Numbers are little-endian. postcard does not describe itself: the numbers of enum variants are
//! the format, so variants are only ever appended, and golden bytes in the tests hold them still.
//! The length is checked before anything is allocated for it.

use alloc::vec::Vec;
use core::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ids::LogId;
use crate::output::Write;
use crate::raft::{Entry, Message, MessageBody};

/// The version this code writes, and the only one it reads.
pub const VERSION: u8 = 1;

/// The longest frame, header included, in bytes. Longer ones are refused unread.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// The bytes before a body.
pub const HEADER_BYTES: usize = 10;

/// The tag of the frame of a [`Message`].
pub const TAG_MESSAGE: u8 = b'm';
const TAG_WRITE: u8 = b'w';

/// Where the checksum stands in the header: all before it, and the body, is under it.
const CHECKSUM_AT: usize = 6;

/// Why bytes are not what they should be. The peer or the disk erred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// They end too early.
    Truncated,
    /// They say that they are longer than anything may be, or go on after their end.
    TooLong,
    /// The checksum does not match.
    Checksum,
    /// Another version wrote them.
    Version {
        /// Which.
        found: u8,
    },
    /// They are something else.
    Tag {
        /// What.
        found: u8,
    },
    /// They are whole, but mean nothing here: a newer program wrote them, or a wrong one.
    Malformed,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => write!(f, "ends too early"),
            Self::TooLong => write!(f, "is too long"),
            Self::Checksum => write!(f, "fails its checksum"),
            Self::Version { found } => write!(f, "has version {found}, not {VERSION}"),
            Self::Tag { found } => write!(f, "has the unexpected tag {found}"),
            Self::Malformed => write!(f, "is malformed"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// The bytes of `message`, in one allocation.
///
/// # Panics
/// Where they are more than [`FRAME_BYTES_MAX`]: `Config::batch_bytes_max` keeps them far below.
#[must_use]
pub fn encode_message(message: &Message) -> Vec<u8> {
    let entries = match &message.body {
        MessageBody::Append { entries, .. } => &entries[..],
        MessageBody::PreVote { .. }
        | MessageBody::PreVoteReply { .. }
        | MessageBody::Vote { .. }
        | MessageBody::VoteReply { .. }
        | MessageBody::AppendReply { .. }
        | MessageBody::TimeoutNow => &[],
    };
    encode(TAG_MESSAGE, message, size_hint(entries))
}

/// The message in `bytes`, all of them.
///
/// # Errors
/// The peer erred: see [`DecodeError`].
pub fn decode_message(bytes: &[u8]) -> Result<Message, DecodeError> {
    let message: Message = decode(TAG_MESSAGE, bytes)?;
    if let MessageBody::Append {
        previous, entries, ..
    } = &message.body
        && !is_run(Some(*previous), entries)
    {
        return Err(DecodeError::Malformed);
    }
    Ok(message)
}

/// The bytes of `write`, in one allocation.
///
/// # Panics
/// Where they are more than [`FRAME_BYTES_MAX`].
#[must_use]
pub fn encode_write(write: &Write) -> Vec<u8> {
    encode(TAG_WRITE, write, size_hint(&write.entries))
}

/// The write in `bytes`, all of them.
///
/// # Errors
/// Whoever kept them erred: see [`DecodeError`].
pub fn decode_write(bytes: &[u8]) -> Result<Write, DecodeError> {
    let write: Write = decode(TAG_WRITE, bytes)?;
    if is_run(None, &write.entries) {
        Ok(write)
    } else {
        Err(DecodeError::Malformed)
    }
}

/// The frame of `value` under a tag of the caller's, in one buffer: for what travels beside
/// messages on one stream.
///
/// # Panics
/// Where it is more than [`FRAME_BYTES_MAX`].
#[must_use]
pub fn encode_frame<T: Serialize>(tag: u8, value: &T) -> Vec<u8> {
    encode(tag, value, 0)
}

/// The value in `frame`, all of it, if it has that tag.
///
/// # Errors
/// The peer erred: see [`DecodeError`].
pub fn decode_frame<T: DeserializeOwned>(tag: u8, frame: &[u8]) -> Result<T, DecodeError> {
    decode(tag, frame)
}

/// The tag of a frame, if that much of it is there.
#[must_use]
pub fn frame_tag(bytes: &[u8]) -> Option<u8> {
    bytes.get(1).copied()
}

/// The length in bytes of the frame that begins with `bytes`, header included; `None` while too few
/// have arrived to tell. For a reader that cuts frames out of a stream.
///
/// # Errors
/// `Version` and `TooLong`: nothing that follows on the stream can be understood.
pub fn frame_bytes(bytes: &[u8]) -> Result<Option<usize>, DecodeError> {
    if let Some(&found) = bytes.first()
        && found != VERSION
    {
        return Err(DecodeError::Version { found });
    }
    let Some(length) = bytes.get(2..CHECKSUM_AT) else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(length.try_into().expect("four bytes were asked for"));
    match usize::try_from(length) {
        Ok(body) if body <= FRAME_BYTES_MAX - HEADER_BYTES => Ok(Some(HEADER_BYTES + body)),
        Ok(_) | Err(_) => Err(DecodeError::TooLong),
    }
}

/// Appends the bytes of `entry`, which tell their own end, to `buffer`.
pub(crate) fn put_entry(buffer: &mut Vec<u8>, entry: &Entry) {
    put(buffer, entry);
}

/// The entry at the front of `bytes`, and what follows it.
pub(crate) fn take_entry(bytes: &[u8]) -> Result<(Entry, &[u8]), DecodeError> {
    postcard::take_from_bytes(bytes).map_err(|_| DecodeError::Malformed)
}

/// Appends the postcard of `value` to `buffer`.
pub(crate) fn put<T: Serialize + ?Sized>(buffer: &mut Vec<u8>, value: &T) {
    postcard::serialize_with_flavor(value, Appending(buffer))
        .expect("numbers, bytes and sequences of known length encode");
}

/// The value that is all of `bytes`.
pub(crate) fn take<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, [..])) | Err(_) => Err(DecodeError::Malformed),
    }
}

fn encode<T: Serialize>(tag: u8, value: &T, hint: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + hint);
    bytes.extend_from_slice(&[VERSION, tag, 0, 0, 0, 0, 0, 0, 0, 0]);
    put(&mut bytes, value);
    assert!(
        bytes.len() <= FRAME_BYTES_MAX,
        "a frame of {} bytes",
        bytes.len()
    );
    let length = u32::try_from(bytes.len() - HEADER_BYTES).expect("FRAME_BYTES_MAX fits 32 bits");
    bytes[2..CHECKSUM_AT].copy_from_slice(&length.to_le_bytes());
    let sum = checksum(&bytes);
    bytes[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn decode<T: DeserializeOwned>(tag: u8, bytes: &[u8]) -> Result<T, DecodeError> {
    let length = frame_bytes(bytes)?.ok_or(DecodeError::Truncated)?;
    if bytes.len() < length {
        return Err(DecodeError::Truncated);
    }
    if bytes.len() > length {
        return Err(DecodeError::TooLong);
    }
    if bytes[CHECKSUM_AT..HEADER_BYTES] != checksum(bytes).to_le_bytes() {
        return Err(DecodeError::Checksum);
    }
    if bytes[1] != tag {
        return Err(DecodeError::Tag { found: bytes[1] });
    }
    take(&bytes[HEADER_BYTES..])
}

/// Whether `entries` are what [`Entries`](crate::raft::Entries) promises, and follow `previous`.
fn is_run(mut previous: Option<LogId>, entries: &[Entry]) -> bool {
    entries.iter().all(|entry| {
        let before = previous.replace(entry.id);
        before.is_none_or(|before| {
            before.index.0.checked_add(1) == Some(entry.id.index.0) && before.term <= entry.id.term
        })
    })
}

fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(
        crc32c::crc32c(&frame[..CHECKSUM_AT]),
        &frame[HEADER_BYTES..],
    )
}

/// About how many bytes a body with `entries` takes: seldom too few, so that the buffer rarely
/// grows, and little enough too many that the waste does not matter.
fn size_hint(entries: &[Entry]) -> usize {
    /// Numbers of at most ten bytes each, where a weight counts the eight they have in memory.
    const SLACK: usize = 32;
    let entries = entries.iter().map(|entry| SLACK + entry.weight());
    3 * SLACK + entries.sum::<usize>()
}

/// Lets postcard append to a buffer that has a header in it already.
struct Appending<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Appending<'_> {
    type Output = ();

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;
    use alloc::vec;

    use super::*;
    use crate::ids::{Index, Term, WriteSeq};
    use crate::output::HardState;
    use crate::raft::Payload;
    use crate::store::{Command, Content, Operation, Path, Put, Value, When};
    use crate::time::{ClusterTime, Duration};

    /// The bench of this is the buffer that never grows: one allocation for each message.
    #[test]
    fn the_buffer_is_large_enough_at_once() {
        let command = Command {
            client: None,
            operation: Operation::Put(Put {
                path: Path::root().child(&[b'k'; 200]),
                content: Content::Value(Value::from(vec![7; 5000])),
                when: When::Always,
                ttl: Some(Duration::MAX),
            }),
        };
        let entries: Vec<_> = (1..50)
            .map(|index| Entry {
                id: LogId {
                    term: Term(u64::MAX),
                    index: Index(index),
                },
                stamp: ClusterTime(u64::MAX),
                payload: Payload::Command(Arc::new(command.clone())),
            })
            .collect();
        let write = Write {
            seq: WriteSeq(u64::MAX),
            hard_state: HardState::default(),
            entries: entries.into(),
        };
        let hint = HEADER_BYTES + size_hint(&write.entries);
        let bytes = encode_write(&write);
        assert!(bytes.len() <= hint, "{} above {hint}", bytes.len());
        assert!(
            hint < bytes.len() * 21 / 20,
            "{} wastes {hint}",
            bytes.len()
        );
        assert_eq!(bytes.capacity(), hint, "one allocation");
        assert_eq!(decode_write(&bytes), Ok(write));
    }
}
