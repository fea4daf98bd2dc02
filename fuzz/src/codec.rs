//! Messages and writes as bytes.

use arbitrary::{Arbitrary, Result, Unstructured};
use quorate_core::codec::{
    DecodeError, HEADER_BYTES, VERSION, decode_message, decode_write, encode_message, encode_write,
    frame_bytes,
};
use quorate_core::raft::{Entries, Entry, Message, MessageBody};
use quorate_core::{Index, LogId, Write};

/// Bytes of any kind are a message, a write, or refused; and what is encoded is decoded again.
pub fn codec(data: &[u8]) {
    any_bytes(data);
    // Checksums keep most bytes from the decoder proper: a frame around them is let in.
    for tag in [b'm', b'w'] {
        any_bytes(&framed(tag, data));
    }
    // Bytes that end too early are no input.
    let _ = round_trip(&mut Unstructured::new(data));
}

fn any_bytes(bytes: &[u8]) {
    let whole = frame_bytes(bytes);
    if let Ok(message) = decode_message(bytes) {
        assert_eq!(whole, Ok(Some(bytes.len())), "a frame of another length");
        assert_eq!(decode_message(&encode_message(&message)), Ok(message));
    }
    if let Ok(write) = decode_write(bytes) {
        assert_eq!(whole, Ok(Some(bytes.len())), "a frame of another length");
        assert_eq!(decode_write(&encode_write(&write)), Ok(write));
    }
}

/// A frame that is right in all but perhaps its body.
fn framed(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![VERSION, tag];
    let length = u32::try_from(body.len()).expect("fuzzed bytes are few");
    frame.extend_from_slice(&length.to_le_bytes());
    let sum = crc32c::crc32c_append(crc32c::crc32c(&frame), body);
    frame.extend_from_slice(&sum.to_le_bytes());
    frame.extend_from_slice(body);
    assert_eq!(frame_bytes(&frame), Ok(Some(frame.len())));
    frame
}

fn round_trip(u: &mut Unstructured<'_>) -> Result<()> {
    let (place, mask): (usize, u8) = u.arbitrary()?;
    if u.arbitrary()? {
        let mut message = Message::arbitrary(u)?;
        if let MessageBody::Append {
            previous, entries, ..
        } = &mut message.body
        {
            *entries = in_a_row(previous, entries);
        }
        let bytes = encode_message(&message);
        assert_eq!(decode_write(&bytes), Err(DecodeError::Tag { found: b'm' }));
        broken(&bytes, place, mask, decode_message);
        assert_eq!(decode_message(&bytes), Ok(message));
    } else {
        let mut write = Write::arbitrary(u)?;
        write.entries = in_a_row(&mut LogId::arbitrary(u)?, &write.entries);
        let bytes = encode_write(&write);
        assert_eq!(
            decode_message(&bytes),
            Err(DecodeError::Tag { found: b'w' })
        );
        broken(&bytes, place, mask, decode_write);
        assert_eq!(decode_write(&bytes), Ok(write));
    }
    Ok(())
}

/// The same entries with the ids that [`Entries`] promises, after `previous`.
fn in_a_row(previous: &mut LogId, entries: &Entries) -> Entries {
    // Leaves room above for the indexes of the entries.
    previous.index.0 >>= 1;
    let mut last = *previous;
    let follow = |entry: &Entry| {
        last = LogId {
            term: last.term.max(entry.id.term),
            index: Index(last.index.0 + 1),
        };
        Entry {
            id: last,
            ..entry.clone()
        }
    };
    entries.iter().map(follow).collect()
}

/// Nothing but the frame itself passes for it: not what is cut, longer, or has a byte changed.
fn broken<T>(
    frame: &[u8],
    place: usize,
    mask: u8,
    decode: impl Fn(&[u8]) -> std::result::Result<T, DecodeError>,
) {
    let place = place % frame.len();
    let cut = decode(&frame[..place]).err();
    assert_eq!(cut, Some(DecodeError::Truncated), "cut to {place} bytes");
    let mut bytes = frame.to_vec();
    bytes.push(mask);
    assert_eq!(decode(&bytes).err(), Some(DecodeError::TooLong));
    bytes.pop();
    bytes[place] ^= mask.max(1);
    let error = decode(&bytes).err();
    assert!(error.is_some(), "byte {place} of {} changed", frame.len());
    if place >= HEADER_BYTES {
        assert_eq!(error, Some(DecodeError::Checksum));
    }
}
