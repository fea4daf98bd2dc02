//! A directory in memory, with a disk's bad habits. For tests, fuzzing and simulations.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::files::{FileError, Files};

/// What a disk writes or loses in one piece.
const SECTOR_BYTES: usize = 512;

/// [`Files`] in memory. Tells what was written from what is durable, so that a crash can be played.
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles {
    contents: BTreeMap<u64, Content>,
    next_content: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// What happened to names since the directory was synced.
    renames: Vec<Naming>,
    capacity: Option<u64>,
    /// So many more changes, then none.
    changes_left: Option<u64>,
    syncs: u64,
}

#[derive(Clone, Debug, Default)]
struct Content {
    written: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that the next sync writes.
    dirty: BTreeSet<usize>,
    /// Cannot be read, whatever the file is called.
    unreadable: Range<u64>,
}

impl Content {
    const fn is_unreadable(&self, begin: u64, end: u64) -> bool {
        self.unreadable.start < end && begin < self.unreadable.end
    }

    /// Makes a sector durable, as far as the durable length reaches.
    fn keep(&mut self, sector: usize) {
        let begin = sector * SECTOR_BYTES;
        let end = (begin + SECTOR_BYTES).min(self.durable.len());
        self.durable[begin..end].copy_from_slice(&self.written[begin..end]);
    }
}

#[derive(Clone, Debug)]
struct Naming {
    name: String,
    content: Option<u64>,
    /// The name it had before, gone in the same instant.
    from: Option<String>,
}

impl MemoryFiles {
    /// An empty directory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows `bytes` in all files together; `None` for any number.
    pub const fn set_capacity(&mut self, bytes: Option<u64>) {
        self.capacity = bytes;
    }

    /// Lets `changes` more calls that change something succeed. The one after them takes effect, as
    /// far as an unsynced change does, but fails, and so do all others: the moment for
    /// [`crash`](Self::crash).
    pub const fn fail_after(&mut self, changes: Option<u64>) {
        self.changes_left = changes;
    }

    /// Cuts the power. Of what was not synced `keep` decides what survives: each sector, each new
    /// length, and each change to a name.
    pub fn crash(&mut self, mut keep: impl FnMut() -> bool) {
        for naming in self.renames.drain(..) {
            if keep() {
                apply(&mut self.durable_names, &naming);
            }
        }
        self.names.clone_from(&self.durable_names);
        for content in self.contents.values_mut() {
            if content.written.len() != content.durable.len() && keep() {
                content.durable.resize(content.written.len(), 0);
            }
            for sector in core::mem::take(&mut content.dirty) {
                if sector * SECTOR_BYTES < content.durable.len() && keep() {
                    content.keep(sector);
                }
            }
            content.written.clone_from(&content.durable);
        }
        self.changes_left = None;
    }

    /// Changes one byte of what is durable, as rot does.
    ///
    /// # Panics
    /// Where there is no such file or byte.
    pub fn flip(&mut self, name: &str, offset: usize, mask: u8) {
        let content = self.content_mut(name);
        content.written[offset] ^= mask;
        content.durable[offset] ^= mask;
    }

    /// Zeroes a range of what is durable.
    ///
    /// # Panics
    /// Where there is no such file or range.
    pub fn zero(&mut self, name: &str, range: Range<usize>) {
        let content = self.content_mut(name);
        content.written[range.clone()].fill(0);
        content.durable[range].fill(0);
    }

    /// Cuts a file to `bytes`, or lengthens it by zeros.
    ///
    /// # Panics
    /// Where there is no such file.
    pub fn cut(&mut self, name: &str, bytes: usize) {
        let content = self.content_mut(name);
        content.written.resize(bytes, 0);
        content.durable.resize(bytes, 0);
    }

    /// Deletes a file behind its owner's back, durably.
    pub fn lose(&mut self, name: &str) {
        self.names.remove(name);
        self.durable_names.remove(name);
    }

    /// Makes a range of a file unreadable, until something there is written: a disk then maps
    /// another sector. An empty range makes all of it readable again.
    ///
    /// # Panics
    /// Where there is no such file.
    pub fn set_unreadable(&mut self, name: &str, range: Range<u64>) {
        self.content_mut(name).unreadable = range;
    }

    /// What is in a file now.
    ///
    /// # Panics
    /// Where there is no such file.
    #[must_use]
    pub fn bytes(&self, name: &str) -> &[u8] {
        &self.contents[&self.names[name]].written
    }

    /// How many syncs of files there were.
    #[must_use]
    pub const fn syncs(&self) -> u64 {
        self.syncs
    }

    /// Bytes in all files together.
    #[must_use]
    pub fn used(&self) -> u64 {
        let named = self.names.values().map(|content| &self.contents[content]);
        named.map(|content| content.written.len() as u64).sum()
    }

    fn content_mut(&mut self, name: &str) -> &mut Content {
        let content = self.contents.get_mut(&self.names[name]);
        content.expect("a name stands for a content")
    }

    fn content(&self, name: &str) -> Result<&Content, FileError> {
        let content = self.names.get(name).ok_or(FileError::NotFound)?;
        Ok(&self.contents[content])
    }

    fn name(&mut self, naming: Naming) {
        apply(&mut self.names, &naming);
        self.renames.push(naming);
    }

    /// Whether a change may succeed.
    fn change(&mut self) -> Result<(), FileError> {
        match &mut self.changes_left {
            None => Ok(()),
            Some(0) => Err(FileError::Other("the disk is gone".into())),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

impl Files for MemoryFiles {
    fn list(&self) -> Result<Vec<String>, FileError> {
        Ok(self.names.keys().cloned().collect())
    }

    fn len(&self, name: &str) -> Result<u64, FileError> {
        Ok(self.content(name)?.written.len() as u64)
    }

    fn allocate(&mut self, name: &str, bytes: u64) -> Result<(), FileError> {
        let replaced = self.len(name).unwrap_or(0);
        if let Some(capacity) = self.capacity
            && self.used() - replaced + bytes > capacity
        {
            return Err(FileError::Full);
        }
        let content = Content {
            written: vec![0; usize::try_from(bytes).map_err(|_| FileError::Full)?],
            ..Content::default()
        };
        self.contents.insert(self.next_content, content);
        self.name(Naming {
            name: name.into(),
            content: Some(self.next_content),
            from: None,
        });
        self.next_content += 1;
        self.change()
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<(), FileError> {
        let content = self.content(name)?;
        let end = offset + buffer.len() as u64;
        if content.is_unreadable(offset, end) {
            return Err(FileError::Other("unreadable sector".into()));
        }
        let range = usize::try_from(offset).ok().zip(usize::try_from(end).ok());
        let bytes = range.and_then(|(begin, end)| content.written.get(begin..end));
        let bytes = bytes.ok_or_else(|| FileError::Other("the file ends before".into()))?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), FileError> {
        self.content(name)?;
        let end = offset + bytes.len() as u64;
        let content = self.content_mut(name);
        if content.is_unreadable(offset, end) {
            content.unreadable = 0..0;
        }
        let begin = usize::try_from(offset).expect("memory is addressable");
        let end = begin + bytes.len();
        assert!(end <= content.written.len(), "{name}: a write past its end");
        content.written[begin..end].copy_from_slice(bytes);
        let sectors = begin / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES);
        content.dirty.extend(sectors);
        self.change()
    }

    /// One that fails forgets what it should have written, as systems do: it can be read until the
    /// power is cut, and no later sync writes it (SIMULATION.md D11).
    fn sync(&mut self, name: &str) -> Result<(), FileError> {
        self.content(name)?;
        let changed = self.change();
        let content = self.content_mut(name);
        let dirty = core::mem::take(&mut content.dirty);
        changed?;
        content.durable.resize(content.written.len(), 0);
        for sector in dirty {
            content.keep(sector);
        }
        self.syncs += 1;
        Ok(())
    }

    fn sync_dir(&mut self) -> Result<(), FileError> {
        self.change()?;
        self.durable_names.clone_from(&self.names);
        self.renames.clear();
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        self.contents.retain(|content, _| named.contains(content));
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), FileError> {
        self.content(from)?;
        self.name(Naming {
            name: to.into(),
            content: Some(self.names[from]),
            from: Some(from.into()),
        });
        self.change()
    }

    fn remove(&mut self, name: &str) -> Result<(), FileError> {
        self.content(name)?;
        self.name(Naming {
            name: name.into(),
            content: None,
            from: None,
        });
        self.change()
    }
}

fn apply(names: &mut BTreeMap<String, u64>, naming: &Naming) {
    if let Some(from) = &naming.from {
        names.remove(from);
    }
    match naming.content {
        Some(content) => names.insert(naming.name.clone(), content),
        None => names.remove(&naming.name),
    };
}
