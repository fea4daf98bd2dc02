//! Snapshots as they travel: the rows of the tables, and the files of the slices they list.

use std::collections::BTreeSet;
use std::rc::Rc;

use quorate_core::store::{SliceId, Store};
use quorate_core::wal::{FileError, Files, slice};

use crate::disk::SimFiles;
use crate::rng::Draw;
use crate::tables::{Tables, read_slice};

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

    /// How much has to travel, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
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
            let part = "slice.part";
            disk.allocate(part, bytes.len() as u64)?;
            disk.write_at(part, 0, bytes)?;
            disk.sync(part)?;
            disk.rename(part, name)?;
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

fn flip(bytes: &mut [u8], draw: &mut Draw) {
    if !bytes.is_empty() {
        bytes[draw.place(bytes.len())] ^= 1 << draw.below(8);
    }
}
