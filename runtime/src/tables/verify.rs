//! Are the files of the table store what it wrote? Asked before it opens them, since it does not
//! ask itself: a damaged manifest may open as wrong data, a missing journal makes old values win, a
//! missing `current` makes it delete everything (DEPENDENCIES.md, all measured).
//!
//! The layout, as fjall 3.1 and lsm-tree 3.1 write it:
//!
//! ```text
//! version                  "FJL" 3
//! lock                     empty
//! 0.jnl                    zeros or nothing: no change ever goes through the journal
//! keyspaces/0, keyspaces/1 its own catalogue, and our one keyspace, each with
//!   current                manifest number (8 bytes), its xxh3-128 (16), 0: all little-endian
//!   v<number>              the manifest: which tables, and the xxh3-128 of each
//!   tables/<id>            the tables
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tracing::warn;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::error::Damage;
use crate::error::StartError;

const VERSION: &[u8] = b"FJL\x03";
/// The catalogue, and the one keyspace made when the directory was formatted.
const KEYSPACES: [&str; 2] = ["0", "1"];
const JOURNAL: &str = "0.jnl";
/// A manifest number, a sum, and the kind of the sum.
const CURRENT_BYTES: usize = 8 + 16 + 1;

/// Checks every file of the store in `directory` against the sums the store itself keeps, and mends
/// the two whose only right content is known: the lock and the journal are empty.
///
/// Reads everything once; what the scan that follows needs is then in memory.
pub(crate) fn verify(directory: &Path) -> Result<(), StartError> {
    let version = directory.join("version");
    if read(&version)? != VERSION {
        return Err(Damage::new(&version, None, "not the version file of this table store").into());
    }
    for name in KEYSPACES {
        verify_keyspace(&directory.join("keyspaces").join(name))?;
    }
    for name in names(&directory.join("keyspaces"))? {
        if !KEYSPACES.contains(&name.as_str()) && !name.starts_with('.') {
            let path = directory.join("keyspaces").join(name);
            return Err(Damage::new(&path, None, "the table store did not make this").into());
        }
    }
    for name in names(directory)? {
        let known = ["version", "lock", "keyspaces", JOURNAL].contains(&name.as_str());
        if !known && !name.starts_with('.') {
            let path = directory.join(name);
            return Err(Damage::new(&path, None, "the table store did not make this").into());
        }
    }
    mend_empty(&directory.join("lock"))?;
    mend_empty(&directory.join(JOURNAL))
}

/// Checks one keyspace down to its tables.
fn verify_keyspace(directory: &Path) -> Result<(), StartError> {
    let current = directory.join("current");
    let pointer = read(&current)?;
    if pointer.len() != CURRENT_BYTES || pointer[24] != 0 {
        return Err(Damage::new(&current, None, "not a pointer to a manifest").into());
    }
    let number = u64::from_le_bytes(array(&pointer, 0));
    let sum = u128::from_le_bytes(array(&pointer, 8));

    let path = directory.join(format!("v{number}"));
    let manifest = read(&path)?;
    if xxh3_128(&manifest) != sum {
        let what = format!("its checksum is not the one in {}", current.display());
        return Err(Damage::new(&path, None, what).into());
    }
    let Some(tables) = listed_tables(&manifest) else {
        return Err(Damage::new(&path, None, "a manifest of a kind unknown here").into());
    };
    for (id, sum) in &tables {
        let path = directory.join("tables").join(id.to_string());
        if file_sum(&path)? != *sum {
            return Err(Damage::new(&path, None, "its checksum is not the one it had").into());
        }
    }
    // A table that is not listed is the rest of a checkpoint or compaction that was cut off: the
    // store deletes it. Anything else it would stumble over.
    for name in names(&directory.join("tables"))? {
        let is_table = name.parse::<u64>().is_ok();
        if !is_table && !name.starts_with("._") && name != ".DS_Store" {
            let path = directory.join("tables").join(name);
            return Err(Damage::new(&path, None, "the table store did not make this").into());
        }
    }
    Ok(())
}

/// The tables a manifest lists, with their sums. `None` where it does not read as one.
///
/// The file is an archive of named sections: the last 38 bytes say where the table of contents
/// begins, which says where section `tables` is. In it: the number of levels; for each the number
/// of runs; for each the number of tables; for each id, kind of sum (0), sum, sequence number.
fn listed_tables(manifest: &[u8]) -> Option<BTreeMap<u64, u128>> {
    let mut trailer = Cursor(manifest.get(manifest.len().checked_sub(38)?..)?);
    if trailer.take(4)? != b"SFA!" {
        return None;
    }
    trailer.take(2 + 16)?;
    let contents = usize::try_from(trailer.u64()?).ok()?;

    let mut contents = Cursor(manifest.get(contents..)?);
    if contents.take(4)? != b"TOC!" {
        return None;
    }
    let mut section = None;
    for _ in 0..contents.u32()? {
        let begin = usize::try_from(contents.u64()?).ok()?;
        let length = usize::try_from(contents.u64()?).ok()?;
        let name_length = contents.u16()?;
        if contents.take(name_length.into())? == b"tables" {
            section = manifest.get(begin..begin.checked_add(length)?);
        }
    }

    let mut section = Cursor(section?);
    let mut tables = BTreeMap::new();
    for _ in 0..section.u8()? {
        for _ in 0..section.u8()? {
            for _ in 0..section.u32()? {
                let id = section.u64()?;
                if section.u8()? != 0 {
                    return None;
                }
                tables.insert(id, section.u128()?);
                section.u64()?;
            }
        }
    }
    section.0.is_empty().then_some(tables)
}

/// Makes `path` an empty file if it is missing or has anything in it. A sparse file of zeros, as
/// the store makes its journal, is as good as empty.
fn mend_empty(path: &Path) -> Result<(), StartError> {
    let sound = match File::open(path) {
        Ok(file) => {
            let found = file
                .metadata()
                .map_err(|e| StartError::io("look at", path, e))?;
            // A file without blocks is a hole, and reads as zeros.
            found.blocks() == 0 || all_zero(file).map_err(|e| StartError::io("read", path, e))?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(StartError::io("open", path, error)),
    };
    if !sound {
        warn!(path = %path.display(), "mended: this file must be there, and empty");
        File::create(path)
            .and_then(|file| file.sync_all())
            .map_err(|e| StartError::io("mend", path, e))?;
    }
    Ok(())
}

fn all_zero(mut file: File) -> io::Result<bool> {
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(true),
            length if block[..length].iter().any(|&byte| byte != 0) => return Ok(false),
            _ => {}
        }
    }
}

/// The xxh3-128 of a file.
fn file_sum(path: &Path) -> Result<u128, StartError> {
    let mut file = File::open(path).map_err(|error| missing_or("open", path, error))?;
    let mut hasher = Xxh3::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file
            .read(&mut block)
            .map_err(|e| StartError::io("read", path, e))?
        {
            0 => return Ok(hasher.digest128()),
            length => hasher.update(&block[..length]),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, StartError> {
    fs::read(path).map_err(|error| missing_or("read", path, error))
}

fn names(directory: &Path) -> Result<Vec<String>, StartError> {
    let list = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    };
    list().map_err(|error| missing_or("list", directory, error))
}

fn missing_or(doing: &'static str, path: &Path, error: io::Error) -> StartError {
    if error.kind() == io::ErrorKind::NotFound {
        Damage::missing(path).into()
    } else {
        StartError::io(doing, path, error)
    }
}

fn array<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
    bytes[from..from + N]
        .try_into()
        .expect("the length was checked")
}

/// Reads little-endian numbers from the front; `None` past the end.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.number().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.number().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.number().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.number().map(u64::from_le_bytes)
    }

    fn u128(&mut self) -> Option<u128> {
        self.number().map(u128::from_le_bytes)
    }
}
