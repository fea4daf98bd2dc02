//! The wire format: every variant's bytes held still, and nothing arbitrary bytes can do.

use std::fmt::Write as _;
use std::sync::Arc;
use std::{env, fs};

use proptest::prelude::*;
use quorate_core::codec::{
    DecodeError, FRAME_BYTES_MAX, HEADER_BYTES, decode_message, decode_snapshot,
    decode_snapshot_reply, decode_write, encode_message, encode_snapshot, encode_snapshot_reply,
    encode_write, frame_bytes,
};
use quorate_core::raft::{
    AppendOutcome, Configuration, Entry, Forwarded, Message, MessageBody, Payload,
};
use quorate_core::rng::Rng;
use quorate_core::snapshot::{
    Cursor, SliceFile, SnapshotFrame, SnapshotHeader, SnapshotRefusal, SnapshotReply,
};
use quorate_core::store::{
    Append, ClientRequest, Command, Compare, Content, Delete, Operation, Path, Publish, Put, Scope,
    Settings, Value, When,
};
use quorate_core::{
    ChangeId, ClusterTime, DiskId, Duration, HardState, Index, LogId, NodeId, Revision, Term,
    Write, WriteSeq,
};

fn id(term: u64, index: u64) -> LogId {
    LogId {
        term: Term(term),
        index: Index(index),
    }
}

fn message(body: MessageBody) -> Message {
    Message {
        birth: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10,
        from_disk: DiskId(1),
        to_disk: DiskId(u128::MAX),
        term: Term(300),
        body,
    }
}

/// One of each variant.
fn bodies() -> Vec<(&'static str, MessageBody)> {
    let matched = AppendOutcome::Matched { through: Index(9) };
    let conflict = AppendOutcome::Conflict {
        refused: Index(9),
        hint: id(2, 5),
    };
    let repairing = AppendOutcome::Repairing { through: Index(9) };
    let reply = |outcome| MessageBody::AppendReply { outcome, round: 4 };
    let append = MessageBody::Append {
        previous: id(2, 6),
        entries: payloads()
            .into_iter()
            .map(|(_, p)| p)
            .zip(7..)
            .map(entry)
            .collect(),
        committed: Index(5),
        round: 4,
    };
    let (_, numbered) = commands().pop().expect("one with a number");
    let propose = MessageBody::Propose {
        requests: vec![Forwarded {
            ticket: 300,
            command: numbered.into(),
        }],
    };
    vec![
        ("PreVote", MessageBody::PreVote { last: id(2, 5) }),
        ("PreVoteReply", MessageBody::PreVoteReply { granted: true }),
        (
            "Vote",
            MessageBody::Vote {
                last: id(2, 5),
                transfer: true,
            },
        ),
        ("VoteReply", MessageBody::VoteReply { granted: false }),
        ("Append", append),
        ("AppendReply Matched", reply(matched)),
        ("AppendReply Conflict", reply(conflict)),
        ("AppendReply Repairing", reply(repairing)),
        ("TimeoutNow", MessageBody::TimeoutNow),
        ("Propose", propose),
        (
            "ProposeRefused",
            MessageBody::ProposeRefused {
                tickets: vec![7, 300],
            },
        ),
        (
            "ReadIndex",
            MessageBody::ReadIndex {
                nonce: u64::MAX,
                counts: true,
            },
        ),
        (
            "ReadIndexReply",
            MessageBody::ReadIndexReply {
                nonce: 300,
                index: Index(9),
            },
        ),
    ]
}

fn entry((payload, index): (Payload, u64)) -> Entry {
    Entry {
        id: id(3, index),
        stamp: ClusterTime(1_000_000 * index),
        payload,
    }
}

fn payloads() -> Vec<(&'static str, Payload)> {
    let configuration = Configuration {
        voters: [NodeId(1), NodeId(2)].into(),
        outgoing: [NodeId(3)].into(),
        learners: [NodeId(4)].into(),
    };
    let mut payloads = vec![
        ("Empty", Payload::Empty),
        (
            "Expire",
            Payload::Expire {
                limit: 256,
                until: ClusterTime(300),
            },
        ),
        (
            "Renew",
            Payload::Renew {
                since: ClusterTime(300),
            },
        ),
        (
            "Configuration",
            Payload::Configuration(Arc::new(configuration)),
        ),
    ];
    let commands = commands().into_iter();
    payloads.extend(commands.map(|(name, c)| (name, Payload::Command(Arc::new(c)))));
    payloads
}

fn commands() -> Vec<(&'static str, Command)> {
    let path = || Path::root().child(b"a").child(b"b");
    let value = || Value::from("v");
    let put = |content, when, ttl| {
        Operation::Put(Put {
            path: path(),
            content,
            when,
            ttl,
        })
    };
    let delete = |scope| {
        Operation::Delete(Delete {
            path: path(),
            scope,
        })
    };
    let compare = || Compare {
        value: Some(value()),
        modified: Some(Revision(8)),
    };
    let numbered = ClientRequest::Numbered {
        client: 1,
        sequence: 3,
        acked: 2,
    };
    let plain = |operation| Command {
        client: None,
        operation,
    };
    let named = |client| Command {
        client: Some(client),
        operation: put(Content::Value(value()), When::Always, None),
    };
    let ttl = Some(Duration::new(5, 6));
    let append = Append {
        directory: path(),
        value: None,
        ttl,
    };
    let publish = Publish {
        member: NodeId(1),
        name: "n".into(),
        client_urls: vec!["http://127.0.0.1:2379".into()],
    };
    vec![
        (
            "Put Value Always",
            plain(put(Content::Value(value()), When::Always, ttl)),
        ),
        (
            "Put Directory Missing",
            plain(put(Content::Directory, When::Missing, None)),
        ),
        (
            "Put Kept Exists",
            plain(put(Content::Kept, When::Exists, ttl)),
        ),
        (
            "Put Value Matches",
            plain(put(Content::Value(value()), When::Matches(compare()), None)),
        ),
        ("Append", plain(Operation::Append(append))),
        ("Delete Key", plain(delete(Scope::Key))),
        (
            "Delete EmptyDirectory",
            plain(delete(Scope::EmptyDirectory)),
        ),
        ("Delete Tree", plain(delete(Scope::Tree))),
        ("Delete Matches", plain(delete(Scope::Matches(compare())))),
        (
            "Configure",
            plain(Operation::Configure(Settings::default())),
        ),
        ("Publish", plain(Operation::Publish(publish))),
        ("Opaque", named(ClientRequest::Opaque(Value::from("id")))),
        ("Numbered", named(numbered)),
    ]
}

fn snapshot_frames() -> Vec<(&'static str, SnapshotFrame)> {
    let slice = |revision, bytes| SliceFile {
        id: ChangeId {
            revision: Revision(revision),
            sub: 1,
        },
        bytes,
    };
    let header = SnapshotHeader {
        last: id(3, 300),
        hash: u128::MAX,
        slices: vec![slice(2, Some(300)), slice(9, None)],
    };
    let bytes = Value::from("bytes");
    let rows = vec![(Value::from("a"), Value::from("1"))];
    let (place, offset) = (1, 300);
    vec![
        ("Header", SnapshotFrame::Header(header)),
        (
            "Slice",
            SnapshotFrame::Slice {
                place,
                offset,
                bytes,
            },
        ),
        ("Rows", SnapshotFrame::Rows(rows)),
        ("End", SnapshotFrame::End { rows: 300 }),
    ]
}

fn snapshot_replies() -> Vec<(&'static str, SnapshotReply)> {
    let from = |cursor| SnapshotReply::From {
        cursor,
        have: vec![0, 300],
    };
    let slice = Cursor::Slice {
        place: 1,
        offset: 300,
    };
    let rows = Cursor::Rows {
        after: Some(Value::from("a")),
        count: 300,
    };
    let refused = SnapshotReply::Refused;
    vec![
        ("From Slice", from(slice)),
        ("From Rows", from(rows)),
        ("From End", from(Cursor::End)),
        ("Received", SnapshotReply::Received),
        ("Refused Busy", refused(SnapshotRefusal::Busy)),
        ("Refused Damaged", refused(SnapshotRefusal::Damaged)),
        ("Refused Disk", refused(SnapshotRefusal::Disk)),
    ]
}

fn write(payload: Payload) -> Write {
    Write {
        seq: WriteSeq(400),
        hard_state: HardState {
            term: Term(3),
            vote: Some(NodeId(2)),
        },
        entries: [entry((payload, 7))].into(),
        install: None,
    }
}

/// These bytes are on disks and between members of two versions. A difference here is a new
/// [`VERSION`](quorate_core::codec::VERSION), or a mistake.
#[test]
fn the_bytes_stay_what_they_are() {
    let mut text = String::new();
    let mut line = |name: &str, bytes: &[u8]| {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{name}: {hex}").unwrap();
    };
    for (name, body) in bodies() {
        line(name, &encode_message(&message(body)));
    }
    for (name, payload) in payloads() {
        line(&format!("Write {name}"), &encode_write(&write(payload)));
    }
    let install = Write {
        entries: [].into(),
        install: Some(id(3, 9)),
        ..write(Payload::Empty)
    };
    line("Write install", &encode_write(&install));
    for (name, frame) in snapshot_frames() {
        line(&format!("Snapshot {name}"), &encode_snapshot(&frame));
    }
    for (name, reply) in snapshot_replies() {
        line(&format!("Reply {name}"), &encode_snapshot_reply(&reply));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/codec.txt");
    if env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(path, &text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(path).unwrap());
}

#[test]
fn every_variant_comes_back() {
    for (name, body) in bodies() {
        let message = message(body);
        assert_eq!(
            decode_message(&encode_message(&message)),
            Ok(message),
            "{name}"
        );
    }
    for (name, payload) in payloads() {
        let write = write(payload);
        assert_eq!(decode_write(&encode_write(&write)), Ok(write), "{name}");
    }
    for (name, frame) in snapshot_frames() {
        assert_eq!(
            decode_snapshot(&encode_snapshot(&frame)),
            Ok(frame),
            "{name}"
        );
    }
    for (name, reply) in snapshot_replies() {
        let bytes = encode_snapshot_reply(&reply);
        assert_eq!(decode_snapshot_reply(&bytes), Ok(reply), "{name}");
    }
}

#[test]
fn every_flipped_byte_is_refused() {
    for (name, body) in bodies() {
        let bytes = encode_message(&message(body));
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x20;
            let error = decode_message(&bytes).expect_err(name);
            match at {
                0 => assert_eq!(error, DecodeError::Version { found: 0x21 }),
                2..6 => assert!(error != DecodeError::Malformed, "{name} at {at}: {error}"),
                _ => assert_eq!(error, DecodeError::Checksum, "{name} at {at}"),
            }
        }
    }
}

#[test]
fn every_cut_is_refused_and_a_stream_can_be_cut_into_frames() {
    for (name, body) in bodies() {
        let mut bytes = encode_message(&message(body));
        for length in 0..bytes.len() {
            let cut = &bytes[..length];
            assert_eq!(decode_message(cut), Err(DecodeError::Truncated), "{name}");
            let known = (length >= HEADER_BYTES - 4).then_some(bytes.len());
            assert_eq!(frame_bytes(cut), Ok(known), "{name} of {length}");
        }
        bytes.push(0);
        assert_eq!(decode_message(&bytes), Err(DecodeError::TooLong), "{name}");
        assert_eq!(frame_bytes(&bytes), Ok(Some(bytes.len() - 1)), "{name}");
    }
}

#[test]
fn a_frame_says_what_it_is_and_how_long() {
    let bytes = encode_write(&write(Payload::Empty));
    let found = b'w';
    assert_eq!(decode_message(&bytes), Err(DecodeError::Tag { found }));

    let mut bytes = encode_message(&message(MessageBody::TimeoutNow));
    let length = u32::try_from(FRAME_BYTES_MAX - HEADER_BYTES + 1).unwrap();
    bytes[2..6].copy_from_slice(&length.to_le_bytes());
    assert_eq!(decode_message(&bytes), Err(DecodeError::TooLong));
    assert_eq!(frame_bytes(&bytes[..6]), Err(DecodeError::TooLong));
    assert_eq!(frame_bytes(&[2]), Err(DecodeError::Version { found: 2 }));
}

/// Entries that leave a gap, or whose terms fall, never reach Raft.
#[test]
fn entries_that_do_not_follow_are_malformed() {
    let entries = |ids: &[LogId]| {
        let entry = |&id| Entry {
            id,
            ..entry((Payload::Empty, 1))
        };
        ids.iter().map(entry).collect()
    };
    for (previous, ids) in [
        (id(2, 6), &[id(2, 8)][..]),
        (id(2, 6), &[id(2, 6)]),
        (id(2, 6), &[id(1, 7)]),
        (id(2, 6), &[id(2, 7), id(2, 9)]),
        (id(2, 6), &[id(3, 7), id(2, 8)]),
        (id(2, u64::MAX), &[id(2, 0)]),
    ] {
        let append = message(MessageBody::Append {
            previous,
            entries: entries(ids),
            committed: Index(0),
            round: 0,
        });
        let found = decode_message(&encode_message(&append));
        assert_eq!(found, Err(DecodeError::Malformed), "{previous} {ids:?}");
    }
}

/// A message of random content.
fn any_message(rng: &mut Rng) -> Message {
    let mut pick = |from: usize| usize::try_from(rng.below(from as u64)).unwrap();
    let (_, mut body) = bodies().swap_remove(pick(bodies().len()));
    if let MessageBody::Append {
        previous, entries, ..
    } = &mut body
    {
        let mut after = *previous;
        let all = payloads();
        let count = pick(6);
        let drawn = (0..count).map(|_| {
            after = id(after.term.0 + pick(2) as u64, after.index.0 + 1);
            Entry {
                id: after,
                stamp: ClusterTime(pick(1 << 40) as u64),
                payload: all[pick(all.len())].1.clone(),
            }
        });
        *entries = drawn.collect();
    }
    Message {
        term: Term(rng.next_u64() >> rng.below(64)),
        ..message(body)
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(seed: u64) {
        let message = any_message(&mut Rng::new(seed));
        prop_assert_eq!(decode_message(&encode_message(&message)), Ok(message));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = frame_bytes(&bytes);
        let _ = (decode_message(&bytes), decode_write(&bytes));
    }

    /// As bytes from a peer with a bug: the checksum is right, the content is not.
    #[test]
    fn arbitrary_bodies_never_panic(seed: u64, at: usize, with: Vec<u8>, write: bool) {
        let mut bytes = if write {
            encode_write(&self::write(payloads().swap_remove(at % payloads().len()).1))
        } else {
            encode_message(&any_message(&mut Rng::new(seed)))
        };
        let at = HEADER_BYTES + at % (bytes.len() - HEADER_BYTES);
        for (byte, with) in bytes[at..].iter_mut().zip(with) {
            *byte = with;
        }
        let sum = crc(&bytes);
        bytes[6..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
        if let Ok(message) = decode_message(&bytes) {
            prop_assert_eq!(decode_message(&encode_message(&message)), Ok(message));
        }
        if let Ok(write) = decode_write(&bytes) {
            prop_assert_eq!(decode_write(&encode_write(&write)), Ok(write));
        }
    }
}

/// The checksum once more, bit by bit: CRC-32C as in RFC 3720.
fn crc(frame: &[u8]) -> u32 {
    let covered = frame[..6].iter().chain(&frame[HEADER_BYTES..]);
    !covered.fold(u32::MAX, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            if sum & 1 == 1 {
                sum >> 1 ^ 0x82f6_3b78
            } else {
                sum >> 1
            }
        })
    })
}
