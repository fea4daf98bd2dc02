//! A snapshot on its way from one member to another: what it consists of, in which order, and where
//! to go on after a break (DESIGN.md §6).
//!
//! ```text
//! sender    Header                    Slice … Slice  Rows … Rows  End
//! receiver          From(cursor)                                       Received
//! ```
//!
//! First the header, and the receiver says from where on it wants the rest: from the beginning, or
//! from where the last stream broke off, if this is the same snapshot. Then the files of closed
//! slices, oldest first, in pieces; then the rows of the tables, in order of their keys. Each frame
//! has a checksum; the whole is proved by the set hash when the receiver loads it.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::LogId;
use crate::store::{SliceId, Value};

/// What a snapshot is. Two with equal headers are equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct SnapshotHeader {
    /// The last entry it contains.
    pub last: LogId,
    /// The hash of the state.
    pub hash: u128,
    /// The closed slices of history that the state lists, oldest first.
    pub slices: Vec<SliceFile>,
}

/// The file of a closed slice of history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct SliceFile {
    /// Which slice.
    pub id: SliceId,
    /// Its length in bytes; `None` where the sender has lost it, as somebody there has decided.
    pub bytes: Option<u64>,
}

/// What the sender says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum SnapshotFrame {
    /// First of all.
    Header(SnapshotHeader),
    /// The next piece of a slice's file.
    Slice {
        /// Which of the header's.
        place: u32,
        /// Where in the file it begins.
        offset: u64,
        /// What it is.
        bytes: Value,
    },
    /// The next rows, ascending by key.
    Rows(Vec<(Value, Value)>),
    /// That was all.
    End {
        /// How many rows there are in all.
        rows: u64,
    },
}

/// What the receiver says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum SnapshotReply {
    /// Go on from here.
    From {
        /// Here.
        cursor: Cursor,
        /// Slices that need not be sent: the receiver has them. Places in the header, ascending.
        have: Vec<u32>,
    },
    /// It is whole and verified; whether it is installed shows in what the receiver says as a
    /// member.
    Received,
    /// It cannot be taken.
    Refused(SnapshotRefusal),
}

/// Why a snapshot is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum SnapshotRefusal {
    /// Another one is on its way already.
    Busy,
    /// It did not follow the rules, or what arrived is not what the header promised.
    Damaged,
    /// The receiver's disk is full, or failed.
    Disk,
}

/// How far a snapshot has arrived.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Cursor {
    /// The next byte is this one of this slice's file.
    Slice {
        /// Which of the header's.
        place: u32,
        /// Where.
        offset: u64,
    },
    /// The next row is the first one after this key.
    Rows {
        /// The last key that arrived; `None` is before the first.
        after: Option<Value>,
        /// How many rows arrived.
        count: u64,
    },
    /// Everything is here.
    End,
}

/// What to do with the frame that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Append these bytes to the slice's file.
    Slice {
        /// Which slice.
        id: SliceId,
        /// What.
        bytes: Value,
        /// Whether that completes it.
        is_last: bool,
    },
    /// Put these rows into the tables.
    Rows(Vec<(Value, Value)>),
    /// Verify it, and load it.
    End,
}

impl SnapshotFrame {
    /// About how many bytes of files or rows go into one frame. A single larger row goes alone.
    pub const BYTES: usize = 256 << 10;
}

impl SnapshotHeader {
    /// The most slices that a snapshot may list: far more than any history has.
    pub const SLICES_MAX: usize = 1 << 16;

    /// The place of the first slice from `place` on that is to be sent, or the first row.
    #[must_use]
    pub fn next(&self, place: u32, have: &[u32]) -> Cursor {
        let from = usize::try_from(place).unwrap_or(usize::MAX);
        let mut slices = (place..).zip(self.slices.get(from..).unwrap_or_default());
        let wanted = slices.find(|(place, slice)| {
            slice.bytes.is_some_and(|bytes| bytes > 0) && have.binary_search(place).is_err()
        });
        match wanted {
            Some((place, _)) => Cursor::Slice { place, offset: 0 },
            None => Cursor::Rows {
                after: None,
                count: 0,
            },
        }
    }
}

/// A snapshot as it arrives: accepts what comes next, and nothing else.
///
/// Invariant: everything before `cursor` was accepted once.
#[derive(Clone, Debug)]
pub struct Assembly {
    header: SnapshotHeader,
    have: Vec<u32>,
    cursor: Cursor,
}

impl Assembly {
    /// The beginning of the snapshot `header`, of whose slices those at `have` are here already.
    ///
    /// # Errors
    /// How the header contradicts itself.
    pub fn new(header: SnapshotHeader, mut have: Vec<u32>) -> Result<Self, &'static str> {
        if header.slices.len() > SnapshotHeader::SLICES_MAX {
            return Err("more slices than a history has");
        }
        if header
            .slices
            .windows(2)
            .any(|pair| pair[0].id >= pair[1].id)
        {
            return Err("slices out of order");
        }
        have.sort_unstable();
        let cursor = header.next(0, &have);
        Ok(Self {
            header,
            have,
            cursor,
        })
    }

    /// What it is.
    #[must_use]
    pub const fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// Where the sender is to go on.
    #[must_use]
    pub fn resume(&self) -> SnapshotReply {
        SnapshotReply::From {
            cursor: self.cursor.clone(),
            have: self.have.clone(),
        }
    }

    /// Takes the next frame in.
    ///
    /// # Errors
    /// How it is not what comes next; nothing was accepted then.
    pub fn accept(&mut self, frame: SnapshotFrame) -> Result<Part, &'static str> {
        match frame {
            SnapshotFrame::Header(_) => Err("a second header"),
            SnapshotFrame::Slice {
                place,
                offset,
                bytes,
            } => self.accept_slice(place, offset, bytes),
            SnapshotFrame::Rows(rows) => self.accept_rows(rows),
            SnapshotFrame::End { rows } => match self.cursor {
                Cursor::Rows { count, .. } if count == rows => {
                    self.cursor = Cursor::End;
                    Ok(Part::End)
                }
                Cursor::Rows { .. } | Cursor::Slice { .. } | Cursor::End => {
                    Err("an end before everything is here")
                }
            },
        }
    }

    fn accept_slice(
        &mut self,
        place: u32,
        offset: u64,
        bytes: Value,
    ) -> Result<Part, &'static str> {
        let next = Cursor::Slice { place, offset };
        if self.cursor != next || bytes.is_empty() {
            return Err("not the piece of a slice that comes next");
        }
        let at = usize::try_from(place).map_err(|_| "no such slice")?;
        let SliceFile { id, bytes: length } = self.header.slices[at];
        let end = offset + bytes.len() as u64;
        let length = length.expect("a cursor is at a slice that is sent");
        if end > length {
            return Err("a slice longer than its header says");
        }
        let is_last = end == length;
        self.cursor = match is_last {
            true => self.header.next(place + 1, &self.have),
            false => Cursor::Slice { place, offset: end },
        };
        Ok(Part::Slice { id, bytes, is_last })
    }

    fn accept_rows(&mut self, rows: Vec<(Value, Value)>) -> Result<Part, &'static str> {
        let Cursor::Rows { after, count } = &mut self.cursor else {
            return Err("rows where something else comes next");
        };
        let keys = rows.iter().map(|(key, _)| Some(key));
        let before = core::iter::once(after.as_ref()).chain(keys.clone());
        if rows.is_empty() || before.zip(keys).any(|(before, key)| before >= key) {
            return Err("rows that do not ascend");
        }
        *count += rows.len() as u64;
        *after = rows.last().map(|(key, _)| key.clone());
        Ok(Part::Rows(rows))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::ids::{ChangeId, Revision};

    fn slice(revision: u64, bytes: Option<u64>) -> SliceFile {
        let id = ChangeId {
            revision: Revision(revision),
            sub: 0,
        };
        SliceFile { id, bytes }
    }

    fn header() -> SnapshotHeader {
        SnapshotHeader {
            last: LogId::ZERO,
            hash: 7,
            slices: vec![
                slice(1, Some(4)),
                slice(5, None),
                slice(9, Some(3)),
                slice(12, Some(2)),
            ],
        }
    }

    fn piece(place: u32, offset: u64, bytes: &[u8]) -> SnapshotFrame {
        SnapshotFrame::Slice {
            place,
            offset,
            bytes: Value::new(bytes),
        }
    }

    fn rows(keys: &[&str]) -> SnapshotFrame {
        let row = |key: &&str| (Value::from(*key), Value::new(&[0]));
        SnapshotFrame::Rows(keys.iter().map(row).collect())
    }

    #[test]
    fn everything_is_accepted_once_and_in_order() {
        let mut assembly = Assembly::new(header(), vec![2]).expect("a sound header");
        let frames = [
            piece(0, 0, b"ab"),
            piece(0, 2, b"cd"),
            piece(3, 0, b"yz"),
            rows(&["a", "b"]),
            rows(&["c"]),
            SnapshotFrame::End { rows: 3 },
        ];
        for (at, frame) in frames.iter().enumerate() {
            for (other, wrong) in frames.iter().enumerate() {
                if other != at {
                    // Rows later than the next ones look like them; the set hash tells.
                    let skips = matches!((frame, wrong), (SnapshotFrame::Rows(_), _))
                        && matches!(wrong, SnapshotFrame::Rows(_));
                    let mut copy = assembly.clone();
                    assert!(skips || copy.accept(wrong.clone()).is_err(), "{at} {other}");
                }
            }
            assert!(assembly.accept(frame.clone()).is_ok(), "{at}");
        }
        assert!(assembly.accept(SnapshotFrame::End { rows: 3 }).is_err());
    }

    #[test]
    fn the_end_of_a_slice_is_told() {
        let mut assembly = Assembly::new(header(), vec![2]).expect("a sound header");
        let last = |part| match part {
            Ok(Part::Slice { is_last, .. }) => is_last,
            Ok(Part::Rows(_) | Part::End) | Err(_) => panic!("not a slice"),
        };
        assert!(!last(assembly.accept(piece(0, 0, b"abc"))));
        assert!(assembly.accept(piece(0, 3, b"de")).is_err(), "too long");
        assert!(last(assembly.accept(piece(0, 3, b"d"))));
    }

    #[test]
    fn a_broken_stream_goes_on_where_it_ended() {
        let mut assembly = Assembly::new(header(), vec![]).expect("a sound header");
        assembly
            .accept(piece(0, 0, b"ab"))
            .expect("the first piece");
        let cursor = Cursor::Slice {
            place: 0,
            offset: 2,
        };
        let have = vec![];
        assert_eq!(assembly.resume(), SnapshotReply::From { cursor, have });
        for frame in [piece(0, 2, b"cd"), piece(2, 0, b"xyz"), piece(3, 0, b"yz")] {
            assembly.accept(frame).expect("the next piece");
        }
        assembly.accept(rows(&["a", "b"])).expect("rows");
        let SnapshotReply::From { cursor, .. } = assembly.resume() else {
            panic!("it goes on");
        };
        let after = Some(Value::from("b"));
        assert_eq!(cursor, Cursor::Rows { after, count: 2 });
    }

    #[test]
    fn a_header_that_contradicts_itself_is_refused() {
        let mut header = header();
        header.slices.swap(0, 1);
        assert!(Assembly::new(header, vec![]).is_err());
    }

    #[test]
    fn rows_that_do_not_ascend_are_refused() {
        let mut assembly = Assembly::new(header(), vec![0, 2, 3]).expect("a sound header");
        assert!(assembly.accept(rows(&["b", "a"])).is_err());
        assert!(assembly.accept(rows(&["a", "a"])).is_err());
        assert!(assembly.accept(rows(&[])).is_err());
        assembly.accept(rows(&["a", "b"])).expect("rows");
        assert!(assembly.accept(rows(&["b", "c"])).is_err());
        assert!(assembly.accept(SnapshotFrame::End { rows: 3 }).is_err());
    }
}
