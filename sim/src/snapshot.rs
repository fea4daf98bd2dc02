//! Snapshots as they travel: the rows of the tables, and the files of the slices they list. What is
//! sent next, and where to go on after a break, core says ([`quorate_core::snapshot`]).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::rc::Rc;

use quorate_core::snapshot::{
    Assembly, Cursor, Part, SliceFile, SnapshotFrame, SnapshotHeader, SnapshotReply,
};
use quorate_core::store::{SliceId, Store, Value};
use quorate_core::wal::{FileError, Files, slice};
use xxhash_rust::xxh3::Xxh3;

use crate::disk::SimFiles;
use crate::rng::Draw;
use crate::tables::{Rows, SLICE_PART, Tables, read_slice};

/// The least that goes into one frame, if there is as much.
const FRAME_BYTES: usize = 2_048;

/// About how many frames a large snapshot has.
const FRAMES: usize = 30;

/// A snapshot on its way, or beside the tables of who received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// The tables.
    pub tables: Tables,
    /// The files of the slices, by name.
    files: Vec<(String, Vec<u8>)>,
}

impl Parcel {
    /// The tables as they are, with the slices they list.
    ///
    /// # Errors
    /// A slice that is listed and not there.
    pub fn pack(tables: &Tables, disk: &SimFiles) -> Result<Self, FileError> {
        let read = |&id: &SliceId| {
            let name = slice::file_name(id);
            let length = usize::try_from(disk.len(&name)?).expect("slices are small");
            let mut bytes = vec![0; length];
            disk.read_at(&name, 0, &mut bytes)?;
            Ok((name, bytes))
        };
        Ok(Self {
            tables: tables.clone(),
            files: tables.slices.iter().map(read).collect::<Result<_, _>>()?,
        })
    }

    /// What it is, as its sender says first of all.
    fn header(&self) -> SnapshotHeader {
        let mut hash = Xxh3::new();
        for (key, row) in self.tables.rows.iter() {
            hash.update(key);
            hash.update(row);
        }
        let slices = self.tables.slices.iter().zip(&self.files);
        let slices = slices.map(|(&id, (_, bytes))| SliceFile {
            id,
            bytes: Some(bytes.len() as u64),
        });
        SnapshotHeader {
            last: self.tables.applied,
            hash: hash.digest128(),
            slices: slices.collect(),
        }
    }

    /// How much has to travel, in bytes.
    fn bytes(&self) -> usize {
        let rows = self.tables.rows.iter();
        let rows: usize = rows.map(|(key, row)| key.len() + row.len()).sum();
        let files: usize = self.files.iter().map(|(_, bytes)| bytes.len()).sum();
        rows + files
    }

    /// D14: another one than was sent. Whether it is: what is empty cannot be damaged.
    pub fn damage(&mut self, draw: &mut Draw) -> bool {
        let before = self.clone();
        if !self.files.is_empty() && draw.percent(40) {
            let place = draw.place(self.files.len());
            let bytes = &mut self.files[place].1;
            match draw.below(3) {
                0 => drop(self.files.remove(place)),
                1 => bytes.truncate(draw.place(bytes.len())),
                _ => flip(bytes, draw),
            }
        } else {
            let rows = Rc::make_mut(&mut self.tables.rows);
            let keys: Vec<Vec<u8>> = rows.keys().cloned().collect();
            if keys.is_empty() {
                return false;
            }
            let key = draw.pick(&keys);
            match draw.below(3) {
                0 => drop(rows.remove(key)),
                1 => drop(rows.split_off(key)),
                _ => flip(rows.get_mut(key).expect("one of the keys"), draw),
            }
        }
        *self != before
    }

    /// Puts the slices on the disk of who received them; those that are there already are equal.
    ///
    /// # Errors
    /// A full disk.
    pub fn unpack(&self, disk: &mut SimFiles) -> Result<(), FileError> {
        for (name, bytes) in &self.files {
            let is_there = slice::id_of(name).is_some_and(|id| read_slice(disk, id).is_ok());
            if is_there {
                continue;
            }
            // In one piece: a checkpoint may be about to list a slice of that name.
            disk.allocate(SLICE_PART, bytes.len() as u64)?;
            disk.write_at(SLICE_PART, 0, bytes)?;
            disk.sync(SLICE_PART)?;
            disk.rename(SLICE_PART, name)?;
        }
        disk.sync_dir()
    }

    /// The store in it, if it is whole: the set hash proves the rows, and each slice itself.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, disk: &SimFiles) -> Result<Store, String> {
        let store = Store::load(self.tables.rows.iter()).map_err(|error| error.to_string())?;
        let listed: BTreeSet<SliceId> = store.slices().map(|info| info.id).collect();
        for id in listed {
            if read_slice(disk, id).is_err() {
                return Err(format!("the slice {id} cannot be read"));
            }
        }
        Ok(store)
    }
}

/// A snapshot as its sender holds it.
#[derive(Clone, Debug)]
pub struct Source {
    parcel: Rc<Parcel>,
    header: SnapshotHeader,
    have: Vec<u32>,
    cursor: Cursor,
    frame_bytes: usize,
}

impl Source {
    /// All of `parcel`, from the beginning.
    #[must_use]
    pub fn new(parcel: Rc<Parcel>) -> Self {
        let header = parcel.header();
        Self {
            frame_bytes: FRAME_BYTES.max(parcel.bytes() / FRAMES),
            cursor: header.next(0, &[]),
            have: Vec::new(),
            header,
            parcel,
        }
    }

    /// What is sent.
    #[must_use]
    pub const fn parcel(&self) -> &Rc<Parcel> {
        &self.parcel
    }

    /// What it is.
    #[must_use]
    pub const fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// Goes on as the receiver says.
    ///
    /// # Panics
    /// Where it does not say from where on.
    pub fn resume(&mut self, reply: SnapshotReply) {
        let SnapshotReply::From { cursor, have } = reply else {
            panic!("to a header the answer is where to go on: {reply:?}");
        };
        (self.cursor, self.have) = (cursor, have);
    }

    /// The next frame.
    ///
    /// # Panics
    /// After the last one.
    pub fn frame(&mut self) -> SnapshotFrame {
        match self.cursor.clone() {
            Cursor::Slice { place, offset } => self.next_piece(place, offset),
            Cursor::Rows { after, count } => self.next_rows(after, count),
            Cursor::End => panic!("nothing comes after the end"),
        }
    }

    fn next_piece(&mut self, place: u32, offset: u64) -> SnapshotFrame {
        let (_, bytes) = &self.parcel.files[place as usize];
        let from = usize::try_from(offset).expect("slices are small");
        let rest = &bytes[from..];
        let piece = &rest[..rest.len().min(self.frame_bytes)];
        self.cursor = if piece.len() == rest.len() {
            self.header.next(place + 1, &self.have)
        } else {
            let offset = offset + piece.len() as u64;
            Cursor::Slice { place, offset }
        };
        SnapshotFrame::Slice {
            place,
            offset,
            bytes: Value::new(piece),
        }
    }

    fn next_rows(&mut self, after: Option<Value>, count: u64) -> SnapshotFrame {
        let from = after
            .as_ref()
            .map_or(Bound::Unbounded, |key| Bound::Excluded(key.to_vec()));
        let mut rows = Vec::new();
        let mut bytes = 0;
        for (key, row) in self.parcel.tables.rows.range((from, Bound::Unbounded)) {
            if bytes >= self.frame_bytes {
                break;
            }
            bytes += key.len() + row.len();
            rows.push((Value::new(key), Value::new(row)));
        }
        let Some((last, _)) = rows.last() else {
            self.cursor = Cursor::End;
            return SnapshotFrame::End { rows: count };
        };
        self.cursor = Cursor::Rows {
            after: Some(last.clone()),
            count: count + rows.len() as u64,
        };
        SnapshotFrame::Rows(rows)
    }
}

/// A snapshot as it arrives. What has come stays when its stream breaks off.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The transfer that brings it; none does after a break.
    pub transfer: Option<u64>,
    assembly: Assembly,
    files: BTreeMap<SliceId, Vec<u8>>,
    rows: Rows,
}

impl Incoming {
    /// The beginning of what `header` says, of which the slices on `disk` need not be sent.
    ///
    /// # Errors
    /// How the header contradicts itself.
    pub fn new(header: SnapshotHeader, disk: &SimFiles) -> Result<Self, &'static str> {
        let slices = (0..).zip(&header.slices);
        let here = slices.filter(|(_, slice)| read_slice(disk, slice.id).is_ok());
        let have = here.map(|(place, _)| place).collect();
        Ok(Self {
            transfer: None,
            assembly: Assembly::new(header, have)?,
            files: BTreeMap::new(),
            rows: Rows::new(),
        })
    }

    /// What it is, and how far it has come.
    #[must_use]
    pub const fn assembly(&self) -> &Assembly {
        &self.assembly
    }

    /// Whether anything of it has come.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        !self.files.is_empty() || !self.rows.is_empty()
    }

    /// The slices it lists: those that are here already must stay.
    pub fn slices(&self) -> impl Iterator<Item = SliceId> + '_ {
        let slices = &self.assembly.header().slices;
        slices.iter().map(|slice| slice.id)
    }

    /// Takes the next frame in. Returns whether that was the last one.
    ///
    /// # Errors
    /// How it is not what comes next.
    pub fn accept(&mut self, frame: SnapshotFrame) -> Result<bool, &'static str> {
        match self.assembly.accept(frame)? {
            Part::Slice { id, bytes, .. } => {
                self.files.entry(id).or_default().extend_from_slice(&bytes);
            }
            Part::Rows(rows) => {
                let rows = rows.into_iter();
                self.rows
                    .extend(rows.map(|(key, row)| (key.to_vec(), row.to_vec())));
            }
            Part::End => return Ok(true),
        }
        Ok(false)
    }

    /// What came.
    #[must_use]
    pub fn into_parcel(self) -> Parcel {
        let tables = Tables {
            applied: self.assembly.header().last,
            slices: self.slices().collect(),
            rows: Rc::new(self.rows),
        };
        let files = self.files.into_iter();
        let files = files.map(|(id, bytes)| (slice::file_name(id), bytes));
        Parcel {
            tables,
            files: files.collect(),
        }
    }
}

fn flip(bytes: &mut [u8], draw: &mut Draw) {
    if !bytes.is_empty() {
        bytes[draw.place(bytes.len())] ^= 1 << draw.below(8);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use quorate_core::{ChangeId, Index, LogId, Revision, Term};

    use super::*;
    use crate::disk::Disk;

    fn parcel() -> Parcel {
        let slices = [1, 9].map(|revision| ChangeId {
            revision: Revision(revision),
            sub: 0,
        });
        let rows = (0..200_u8).map(|key| (vec![key], vec![key; 100]));
        let files = slices.map(|id| (slice::file_name(id), vec![7; 5_000]));
        Parcel {
            tables: Tables {
                rows: Rc::new(rows.collect()),
                applied: LogId {
                    term: Term(2),
                    index: Index(50),
                },
                slices: slices.into(),
            },
            files: files.into(),
        }
    }

    /// Lets `frames` frames travel, if there are so many. Returns whether that was all.
    fn travels(source: &mut Source, incoming: &mut Incoming, frames: usize) -> bool {
        (0..frames).any(|_| incoming.accept(source.frame()).expect("what comes next"))
    }

    #[test]
    fn what_is_sent_arrives_wherever_its_stream_breaks_off() {
        let sent = Rc::new(parcel());
        let files = SimFiles::new(Rc::new(RefCell::new(Disk::default())));
        for frames in 0.. {
            let mut source = Source::new(sent.clone());
            let begun = Incoming::new(source.header().clone(), &files);
            let mut incoming = begun.expect("an honest header");
            assert!(!incoming.has_begun());
            if travels(&mut source, &mut incoming, frames) {
                assert!(
                    frames > 10,
                    "a snapshot of {frames} frames breaks off nowhere"
                );
                break;
            }
            let mut source = Source::new(sent.clone());
            source.resume(incoming.assembly().resume());
            assert!(travels(&mut source, &mut incoming, usize::MAX));
            assert_eq!(incoming.into_parcel(), *sent, "broken off after {frames}");
        }
    }

    #[test]
    fn what_repeats_or_leaves_out_is_refused() {
        let mut source = Source::new(Rc::new(parcel()));
        let files = SimFiles::new(Rc::new(RefCell::new(Disk::default())));
        let begun = Incoming::new(source.header().clone(), &files);
        let mut incoming = begun.expect("an honest header");
        let first = source.frame();
        assert!(incoming.clone().accept(source.frame()).is_err());
        assert_eq!(incoming.accept(first.clone()), Ok(false));
        assert!(incoming.accept(first).is_err());
    }
}
