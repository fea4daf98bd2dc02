//! Rows: what the tables hold, as one vocabulary for the set hash, for checkpoints and for loading.
//!
//! A row is named by a [`RowKey`], whose encoding is a table's prefix byte and a key in big-endian
//! order, so that encoded keys sort as the tables do. The prefixes are in every data directory and
//! never change their meaning.

use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use xxhash_rust::xxh3::xxh3_128;

use super::bytes::Value;
use super::command::Settings;
use super::event::Event;
use super::history::{SliceId, SliceInfo};
use super::keyspace::{DirectoryRow, KeyRow};
use super::lease::LeaseRow;
use super::request::{Answer, Session};
use crate::ids::{ChangeId, LeaseId, LogId, NodeId, Revision};
use crate::raft::Configuration;
use crate::time::ClusterTime;

/// The version of the encoding of rows. A store of another version is refused.
pub(super) const FORMAT: u16 = 1;

/// Names a row: its table and its key there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKey {
    /// What there is once: see [`Head`].
    Head,
    /// The replicated settings.
    Settings,
    /// Who votes, as of the last entry applied.
    Configuration,
    /// What a member published of itself.
    Member(NodeId),
    /// Table `cur`: a key that is there.
    Key(Value),
    /// Table `cur`: a key that is gone, until history forgets it.
    Tombstone(Value),
    /// Table `dir`.
    Directory(Value),
    /// Table `lease`.
    Lease(LeaseId),
    /// Table `req`: the answer to an opaque request id.
    Opaque(Value),
    /// Table `req`: the answer to a numbered request, by session and sequence.
    Numbered(u64, u64),
    /// Table `req`: a session.
    Session(u64),
    /// Table `hist`: a closed slice, whose events are in a file of their own.
    Slice(SliceId),
    /// Table `hist`: an event of the open slice. Last, so that a checkpoint can append them.
    Event(ChangeId),
}

impl RowKey {
    /// The key as the tables on disk know it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encode_into(&mut bytes);
        bytes
    }

    /// Reads a key back; `None` where it is none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&prefix, key) = bytes.split_first()?;
        Some(match prefix {
            1 if key.is_empty() => Self::Head,
            2 if key.is_empty() => Self::Settings,
            3 if key.is_empty() => Self::Configuration,
            4 => Self::Member(NodeId(u64_of(key)?)),
            5 => Self::Key(Value::new(key)),
            6 => Self::Tombstone(Value::new(key)),
            7 => Self::Directory(Value::new(key)),
            8 => Self::Lease(LeaseId(u64_of(key)?)),
            9 => Self::Opaque(Value::new(key)),
            10 => {
                let (client, sequence) = key.split_at_checked(8)?;
                Self::Numbered(u64_of(client)?, u64_of(sequence)?)
            }
            11 => Self::Session(u64_of(key)?),
            12 => Self::Slice(change_of(key)?),
            13 => Self::Event(change_of(key)?),
            _ => return None,
        })
    }

    fn encode_into(&self, bytes: &mut Vec<u8>) {
        let mut put = |prefix: u8, parts: &[&[u8]]| {
            bytes.push(prefix);
            for part in parts {
                bytes.extend_from_slice(part);
            }
        };
        match self {
            Self::Head => put(1, &[]),
            Self::Settings => put(2, &[]),
            Self::Configuration => put(3, &[]),
            Self::Member(node) => put(4, &[&node.0.to_be_bytes()]),
            Self::Key(key) => put(5, &[key]),
            Self::Tombstone(key) => put(6, &[key]),
            Self::Directory(key) => put(7, &[key]),
            Self::Lease(lease) => put(8, &[&lease.0.to_be_bytes()]),
            Self::Opaque(id) => put(9, &[id]),
            Self::Numbered(client, sequence) => {
                put(10, &[&client.to_be_bytes(), &sequence.to_be_bytes()]);
            }
            Self::Session(client) => put(11, &[&client.to_be_bytes()]),
            Self::Slice(id) => put(12, &[&id.revision.0.to_be_bytes(), &id.sub.to_be_bytes()]),
            Self::Event(id) => put(13, &[&id.revision.0.to_be_bytes(), &id.sub.to_be_bytes()]),
        }
    }
}

fn u64_of(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn change_of(bytes: &[u8]) -> Option<ChangeId> {
    let (revision, sub) = bytes.split_at_checked(8)?;
    Some(ChangeId {
        revision: Revision(u64_of(revision)?),
        sub: u32::from_be_bytes(sub.try_into().ok()?),
    })
}

/// What a row holds. Cheap to clone: whatever is large is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// Of [`RowKey::Head`].
    Head(Arc<Head>),
    /// Of [`RowKey::Settings`].
    Settings(Arc<Settings>),
    /// Of [`RowKey::Configuration`].
    Configuration(Arc<Configuration>),
    /// Of [`RowKey::Member`].
    Member(Arc<super::Member>),
    /// Of [`RowKey::Key`].
    Key(KeyRow),
    /// Of [`RowKey::Tombstone`]: the change that removed the key.
    Tombstone(ChangeId),
    /// Of [`RowKey::Directory`].
    Directory(DirectoryRow),
    /// Of [`RowKey::Lease`].
    Lease(LeaseRow),
    /// Of [`RowKey::Opaque`] and [`RowKey::Numbered`].
    Answer(Arc<Answer>),
    /// Of [`RowKey::Session`].
    Session(Session),
    /// Of [`RowKey::Slice`].
    Slice(Arc<SliceInfo>),
    /// Of [`RowKey::Event`].
    Event(Arc<Event>),
}

// A million keys: see PERFORMANCE.md on resident memory.
const _: () = assert!(size_of::<KeyRow>() <= 56 && size_of::<Row>() <= 64);

impl Row {
    /// The row as the tables on disk hold it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encode_into(&mut bytes);
        bytes
    }

    /// Reads back the row of `key`; `None` where the bytes are none, or more than one.
    #[must_use]
    pub fn decode(key: &RowKey, bytes: &[u8]) -> Option<Self> {
        Some(match key {
            RowKey::Head => Self::Head(Arc::new(whole(bytes)?)),
            RowKey::Settings => Self::Settings(Arc::new(whole(bytes)?)),
            RowKey::Configuration => Self::Configuration(Arc::new(whole(bytes)?)),
            RowKey::Member(_) => Self::Member(Arc::new(whole(bytes)?)),
            RowKey::Key(_) => Self::Key(whole(bytes)?),
            RowKey::Tombstone(_) => Self::Tombstone(whole(bytes)?),
            RowKey::Directory(_) => Self::Directory(whole(bytes)?),
            RowKey::Lease(_) => Self::Lease(whole(bytes)?),
            RowKey::Opaque(_) | RowKey::Numbered(..) => Self::Answer(Arc::new(whole(bytes)?)),
            RowKey::Session(_) => Self::Session(whole(bytes)?),
            RowKey::Slice(_) => Self::Slice(Arc::new(whole(bytes)?)),
            RowKey::Event(_) => Self::Event(Arc::new(whole(bytes)?)),
        })
    }

    fn encode_into(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Head(row) => append(&**row, bytes),
            Self::Settings(row) => append(&**row, bytes),
            Self::Configuration(row) => append(&**row, bytes),
            Self::Member(row) => append(&**row, bytes),
            Self::Key(row) => append(row, bytes),
            Self::Tombstone(row) => append(row, bytes),
            Self::Directory(row) => append(row, bytes),
            Self::Lease(row) => append(row, bytes),
            Self::Answer(row) => append(&**row, bytes),
            Self::Session(row) => append(row, bytes),
            Self::Slice(row) => append(&**row, bytes),
            Self::Event(row) => append(&**row, bytes),
        }
    }
}

/// What there is once. Its own hash is part of the state's, all but the field that holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The version of the encoding of all rows.
    pub format: u16,
    /// The last entry applied.
    pub applied: LogId,
    /// Cluster time: the stamp of that entry.
    pub clock: ClusterTime,
    /// The store's counter.
    pub revision: Revision,
    /// The oldest v2 index that history still answers for.
    pub oldest: Revision,
    /// The state's hash, by which a load is checked. Zero while it is computed.
    pub hash: u128,
}

/// What one row adds to the set hash, and how long its canonical encoding is. `scratch` saves the
/// allocation; what is in it does not matter.
///
/// The length of the key is hashed after it: where a key ends and a row begins must not be a guess.
pub(super) fn weigh(key: &RowKey, row: &Row, scratch: &mut Vec<u8>) -> (u128, u64) {
    scratch.clear();
    key.encode_into(scratch);
    let key_length = scratch.len() as u64;
    row.encode_into(scratch);
    let length = scratch.len() as u64;
    scratch.extend_from_slice(&key_length.to_le_bytes());
    (xxh3_128(scratch), length)
}

/// What a row adds that is encoded already.
pub(super) fn weigh_encoded(key: &RowKey, row: &[u8], scratch: &mut Vec<u8>) -> u128 {
    scratch.clear();
    key.encode_into(scratch);
    let key_length = scratch.len() as u64;
    scratch.extend_from_slice(row);
    scratch.extend_from_slice(&key_length.to_le_bytes());
    xxh3_128(scratch)
}

fn append<T: Serialize>(row: &T, bytes: &mut Vec<u8>) {
    postcard::serialize_with_flavor(row, Appending(bytes))
        .expect("numbers, strings and sequences of known length encode");
}

fn whole<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (row, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(row)
}

/// Lets postcard write behind what is there already.
struct Appending<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Appending<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The encoding of keys is in every data directory.
    #[test]
    fn keys_encode_in_order_and_decode_to_themselves() {
        let id = ChangeId {
            revision: Revision(0x0102),
            sub: 3,
        };
        let keys = [
            RowKey::Head,
            RowKey::Settings,
            RowKey::Configuration,
            RowKey::Member(NodeId(7)),
            RowKey::Key(Value::from("/a!")),
            RowKey::Key(Value::from("/a/b")),
            RowKey::Tombstone(Value::from("/")),
            RowKey::Directory(Value::from("/a")),
            RowKey::Lease(LeaseId(u64::MAX)),
            RowKey::Opaque(Value::default()),
            RowKey::Numbered(1, 256),
            RowKey::Numbered(256, 1),
            RowKey::Session(5),
            RowKey::Slice(id),
            RowKey::Event(id),
        ];
        assert!(keys.is_sorted());
        let encoded: Vec<_> = keys.iter().map(RowKey::encode).collect();
        assert!(encoded.is_sorted());
        assert_eq!(encoded[14], [13, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 3]);
        for (key, bytes) in keys.iter().zip(&encoded) {
            assert_eq!(RowKey::decode(bytes).as_ref(), Some(key));
        }
        for bad in [&[][..], &[0], &[14], &[1, 0], &[8, 1], &[10, 0], &[13, 0]] {
            assert_eq!(RowKey::decode(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_row_with_something_behind_it_is_no_row() {
        let key = RowKey::Tombstone(Value::from("/a"));
        let mut bytes = Row::Tombstone(ChangeId::ZERO).encode();
        assert!(Row::decode(&key, &bytes).is_some());
        bytes.push(0);
        assert_eq!(Row::decode(&key, &bytes), None);
    }
}
