//! Tables `cur` and `dir`: keys and directories (DESIGN.md §5).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::mem;
use core::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::bytes::Value;
use super::error::Refusal;
use super::ledger::Ledger;
use super::listing::{Level, below};
use super::path::Path;
use super::row::{Row, RowKey};
use crate::ids::{ChangeId, LeaseId, Revision};

/// Tombstones that leave the tables with one entry, once history has forgotten them: what a slice
/// forgets at once is spread over many entries.
const TOMBSTONES_RETIRED_MAX: usize = 256;

/// The changes that made a node and changed it last, without the padding of two [`ChangeId`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    created: Revision,
    modified: Revision,
    created_sub: u32,
    modified_sub: u32,
}

impl Changed {
    /// Made and changed by these.
    #[must_use]
    pub const fn new(created: ChangeId, modified: ChangeId) -> Self {
        Self {
            created: created.revision,
            modified: modified.revision,
            created_sub: created.sub,
            modified_sub: modified.sub,
        }
    }

    /// The change that brought the node into being.
    #[must_use]
    pub const fn created(self) -> ChangeId {
        ChangeId {
            revision: self.created,
            sub: self.created_sub,
        }
    }

    /// The last change to it.
    #[must_use]
    pub const fn modified(self) -> ChangeId {
        ChangeId {
            revision: self.modified,
            sub: self.modified_sub,
        }
    }
}

/// A key that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRow {
    /// When it was made and changed.
    pub changed: Changed,
    /// The number of changes since it was made, from 1.
    pub version: u64,
    /// Its lease. Never zero, which costs no room.
    pub lease: Option<NonZeroU64>,
    /// Its value.
    pub value: Value,
}

/// A directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryRow {
    /// When it was made and changed.
    pub changed: Changed,
    /// How many keys and directories are directly in it, hidden ones too.
    pub children: u64,
    /// Its lease. Never zero, which costs no room.
    pub lease: Option<NonZeroU64>,
    /// Whether it was asked for, or came as the parent of something.
    pub explicit: bool,
}

/// A node as the tables hold it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<'a> {
    Key(&'a KeyRow),
    Directory(&'a DirectoryRow),
}

/// A node that was taken out of the tables.
#[derive(Clone, Debug)]
pub(super) enum Taken {
    Key(KeyRow),
    Directory(DirectoryRow),
}

impl Taken {
    pub(super) fn found(&self) -> Found<'_> {
        match self {
            Self::Key(row) => Found::Key(row),
            Self::Directory(row) => Found::Directory(row),
        }
    }
}

impl Found<'_> {
    pub(super) fn changed(self) -> Changed {
        match self {
            Self::Key(row) => row.changed,
            Self::Directory(row) => row.changed,
        }
    }

    pub(super) fn lease(self) -> Option<LeaseId> {
        match self {
            Self::Key(row) => row.lease,
            Self::Directory(row) => row.lease,
        }
        .map(|id| LeaseId(id.get()))
    }
}

/// Keys, directories and the tombstones of keys.
///
/// Invariants: the root is a directory; the parent of every key and directory is a directory, whose
/// `children` counts them; no path is both; a key that is there has no tombstone; `graves` is
/// `tombstones` by the change that dug them.
#[derive(Clone, Debug)]
pub(super) struct Keyspace {
    keys: BTreeMap<Value, KeyRow>,
    directories: BTreeMap<Value, DirectoryRow>,
    tombstones: BTreeMap<Value, ChangeId>,
    graves: BTreeMap<ChangeId, Value>,
}

impl Keyspace {
    /// Nothing but the root.
    pub(super) fn new(ledger: &mut Ledger) -> Self {
        let mut keyspace = Self::empty();
        let root = DirectoryRow {
            changed: Changed::new(ChangeId::ZERO, ChangeId::ZERO),
            children: 0,
            lease: None,
            explicit: true,
        };
        keyspace.write_directory(ledger, Path::root().as_key(), root);
        keyspace
    }

    /// Not even the root.
    fn empty() -> Self {
        Self {
            keys: BTreeMap::new(),
            directories: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            graves: BTreeMap::new(),
        }
    }

    /// What was saved, in any order; fastest in that of the keys. The caller checks it with
    /// [`check`](Self::check).
    ///
    /// # Errors
    /// A key that is there twice, or whose tombstone is another's too.
    pub(super) fn restore(
        keys: Vec<(Value, KeyRow)>,
        directories: Vec<(Value, DirectoryRow)>,
        tombstones: Vec<(Value, ChangeId)>,
    ) -> Result<Self, Value> {
        let mut graves: Vec<_> = tombstones.iter().map(|(key, id)| (*id, key)).collect();
        graves.sort_unstable();
        if let Some(pair) = graves.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(pair[1].1.clone());
        }
        let graves = graves.into_iter().map(|(id, key)| (id, key.clone()));
        Ok(Self {
            graves: graves.collect(),
            keys: table(keys)?,
            directories: table(directories)?,
            tombstones: table(tombstones)?,
        })
    }

    /// Writes a key. A new one is counted in its parent, which is made if it is missing; `id` is
    /// the change in whose course all this happens.
    pub(super) fn put_key(&mut self, ledger: &mut Ledger, path: &Path, row: KeyRow, id: ChangeId) {
        assert!(!path.is_root() && !self.directories.contains_key(&**path));
        let key = path.as_key();
        let new = Row::Key(row.clone());
        let old = self.keys.insert(key.clone(), row);
        if old.is_none() {
            self.exhume(ledger, key);
            self.count_in(ledger, path, id);
        }
        ledger.change(RowKey::Key(key.clone()), old.map(Row::Key), Some(new));
    }

    /// Writes a directory, like [`put_key`](Self::put_key).
    pub(super) fn put_directory(
        &mut self,
        ledger: &mut Ledger,
        path: &Path,
        row: DirectoryRow,
        id: ChangeId,
    ) {
        assert!(!self.keys.contains_key(&**path), "a key is in the way");
        if !self.directories.contains_key(&**path) {
            self.count_in(ledger, path, id);
        }
        self.write_directory(ledger, path.as_key(), row);
    }

    /// Takes a node out with all that is below it: itself first, then the others in order of path.
    /// The caller buries the keys, once it knows the changes that removed them.
    pub(super) fn take(&mut self, ledger: &mut Ledger, path: &Path) -> Vec<(Path, Taken)> {
        let mut taken = Vec::new();
        if let Some(row) = self.keys.remove(&**path) {
            ledger.change(
                RowKey::Key(path.as_key().clone()),
                Some(Row::Key(row.clone())),
                None,
            );
            taken.push((path.clone(), Taken::Key(row)));
        } else {
            for key in self.subtree(path) {
                taken.push(self.take_one(ledger, key));
            }
        }
        assert!(!taken.is_empty(), "nothing to take at {path}");
        self.count_out(ledger, path);
        taken
    }

    /// Remembers that `id` removed a key.
    pub(super) fn bury(&mut self, ledger: &mut Ledger, path: &Path, id: ChangeId) {
        let key = path.as_key();
        let old = self.tombstones.insert(key.clone(), id);
        assert_eq!(old, None, "{path} is buried twice");
        self.graves.insert(id, key.clone());
        ledger.change(
            RowKey::Tombstone(key.clone()),
            None,
            Some(Row::Tombstone(id)),
        );
    }

    /// Forgets tombstones from before `floor`, a bounded number at a time.
    pub(super) fn retire_tombstones(&mut self, ledger: &mut Ledger, floor: ChangeId) {
        for _ in 0..TOMBSTONES_RETIRED_MAX {
            let Some(grave) = self
                .graves
                .first_entry()
                .filter(|grave| *grave.key() < floor)
            else {
                break;
            };
            let key = grave.get().clone();
            self.exhume(ledger, &key);
        }
    }

    /// The node at `path`, or the first thing on the way there that stops one.
    pub(super) fn find(&self, path: &Path) -> Result<Found<'_>, Refusal> {
        if let Some(row) = self.keys.get(&**path) {
            return Ok(Found::Key(row));
        }
        if let Some(row) = self.directories.get(&**path) {
            return Ok(Found::Directory(row));
        }
        if path
            .parent()
            .is_some_and(|parent| self.directories.contains_key(&*parent))
        {
            return Err(Refusal::NotFound(path.clone()));
        }
        // Which part of the way is missing, from the root down.
        let ancestors: Vec<_> = path.ancestors().collect();
        for ancestor in ancestors.into_iter().rev() {
            if self.keys.contains_key(&*ancestor) {
                return Err(Refusal::NotADirectory(ancestor));
            }
            if !self.directories.contains_key(&*ancestor) {
                return Err(Refusal::NotFound(ancestor));
            }
        }
        unreachable!("all directories above {path} are there, but not its parent")
    }

    /// What is directly in the directory at `path`, in order of names, hidden ones too. Costs the
    /// number of children, whatever is below them.
    pub(super) fn children<'a>(&'a self, path: &Path) -> impl Iterator<Item = (Value, Found<'a>)> {
        let mut keys = Level::new(&self.keys, path).peekable();
        let mut directories = Level::new(&self.directories, path).peekable();
        core::iter::from_fn(move || {
            let key_first = match (keys.peek(), directories.peek()) {
                (Some((key, _)), Some((directory, _))) => key < directory,
                (key, _) => key.is_some(),
            };
            if key_first {
                keys.next().map(|(key, row)| (key.clone(), Found::Key(row)))
            } else {
                let (key, row) = directories.next()?;
                Some((key.clone(), Found::Directory(row)))
            }
        })
    }

    /// How many keys are there.
    pub(super) fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// Every row of these tables.
    pub(super) fn rows(&self) -> impl Iterator<Item = (RowKey, Row)> {
        let keys = self.keys.iter();
        let tombstones = self.tombstones.iter();
        let directories = self.directories.iter();
        keys.map(|(key, row)| (RowKey::Key(key.clone()), Row::Key(row.clone())))
            .chain(
                tombstones.map(|(key, id)| (RowKey::Tombstone(key.clone()), Row::Tombstone(*id))),
            )
            .chain(
                directories.map(|(key, row)| {
                    (RowKey::Directory(key.clone()), Row::Directory(row.clone()))
                }),
            )
    }

    /// All nodes, keys first.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&Value, Found<'_>)> {
        let keys = self.keys.iter().map(|(key, row)| (key, Found::Key(row)));
        keys.chain(
            self.directories
                .iter()
                .map(|(key, row)| (key, Found::Directory(row))),
        )
    }

    /// The invariants of this type that rows from outside could break. Says the first that is
    /// broken.
    pub(super) fn check(&self) -> Result<(), (Value, &'static str)> {
        let mut counts: BTreeMap<&[u8], u64> = BTreeMap::new();
        // Neighbours mostly have one parent, which is looked up once for all of them.
        let mut family: (&[u8], u64) = (b"", 0);
        for (key, found) in self.nodes() {
            let broken = |what| Err((key.clone(), what));
            if Path::from_key(key.clone()).is_none() {
                return broken("not a clean path");
            }
            match (parent(key), found) {
                (None, Found::Directory(_)) => {}
                (None, Found::Key(_)) => return broken("the root is a key"),
                (Some(parent), _) if parent == family.0 => family.1 += 1,
                (Some(parent), _) if !self.directories.contains_key(parent) => {
                    return broken("its parent is not a directory");
                }
                (Some(parent), _) => {
                    let (before, count) = mem::replace(&mut family, (parent, 1));
                    *counts.entry(before).or_default() += count;
                }
            }
            if matches!(found, Found::Key(_)) && self.tombstones.contains_key(key) {
                return broken("a key has a tombstone");
            }
            if matches!(found, Found::Directory(_)) && self.keys.contains_key(key) {
                return broken("both a key and a directory");
            }
        }
        *counts.entry(family.0).or_default() += family.1;
        if !self.directories.contains_key(b"/".as_slice()) {
            return Err((Value::from("/"), "the root is missing"));
        }
        for (key, row) in &self.directories {
            if counts.get(&**key).copied().unwrap_or_default() != row.children {
                return Err((key.clone(), "its children do not add up"));
            }
        }
        Ok(())
    }

    /// Counts a new child in its parent, which is made, with all above it, if it is missing.
    fn count_in(&mut self, ledger: &mut Ledger, path: &Path, id: ChangeId) {
        for ancestor in path.ancestors() {
            assert!(!self.keys.contains_key(&*ancestor), "a key is in the way");
            let existing = self.directories.get(&*ancestor);
            let is_new = existing.is_none();
            // An implied parent: of this very change, and without an event (api/v2.md §7.3).
            let mut row = existing.cloned().unwrap_or(DirectoryRow {
                changed: Changed::new(id, id),
                children: 0,
                lease: None,
                explicit: false,
            });
            row.children += 1;
            self.write_directory(ledger, ancestor.as_key(), row);
            if !is_new {
                return;
            }
        }
    }

    fn count_out(&mut self, ledger: &mut Ledger, path: &Path) {
        let parent = path.parent().expect("the root is never taken out");
        let mut row = self.directories[&*parent].clone();
        assert!(row.children > 0, "{parent} counts no child but had {path}");
        row.children -= 1;
        self.write_directory(ledger, parent.as_key(), row);
    }

    fn write_directory(&mut self, ledger: &mut Ledger, key: &Value, row: DirectoryRow) {
        let new = Row::Directory(row.clone());
        let old = self.directories.insert(key.clone(), row);
        ledger.change(
            RowKey::Directory(key.clone()),
            old.map(Row::Directory),
            Some(new),
        );
    }

    fn exhume(&mut self, ledger: &mut Ledger, key: &Value) {
        if let Some(id) = self.tombstones.remove(key) {
            self.graves.remove(&id).expect("a tombstone has a grave");
            ledger.change(
                RowKey::Tombstone(key.clone()),
                Some(Row::Tombstone(id)),
                None,
            );
        }
    }

    /// A directory and all paths below it, in order.
    fn subtree(&self, path: &Path) -> Vec<Value> {
        let keys = below(&self.keys, path);
        let mut below: Vec<_> = keys
            .chain(below(&self.directories, path))
            .cloned()
            .collect();
        below.sort_unstable();
        let top = self
            .directories
            .get_key_value(&**path)
            .map(|(key, _)| key.clone());
        top.into_iter().chain(below).collect()
    }

    fn take_one(&mut self, ledger: &mut Ledger, key: Value) -> (Path, Taken) {
        let path = Path::from_key(key.clone()).expect("what is below a path is a path");
        if let Some(row) = self.keys.remove(&key) {
            ledger.change(RowKey::Key(key), Some(Row::Key(row.clone())), None);
            return (path, Taken::Key(row));
        }
        let row = self
            .directories
            .remove(&key)
            .expect("the path came from one of the tables");
        ledger.change(
            RowKey::Directory(key),
            Some(Row::Directory(row.clone())),
            None,
        );
        (path, Taken::Directory(row))
    }
}

/// A table of rows. Made at once it takes half the memory of one that grows row by row in order,
/// and a fraction of the time.
///
/// # Errors
/// A key that is there twice.
fn table<R>(mut rows: Vec<(Value, R)>) -> Result<BTreeMap<Value, R>, Value> {
    if !rows.is_sorted_by(|a, b| a.0 < b.0) {
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(pair) = rows.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(pair[0].0.clone());
        }
    }
    Ok(rows.into_iter().collect())
}

/// The path of the directory in which the clean path `key` is; the root is in none.
fn parent(key: &[u8]) -> Option<&[u8]> {
    if key == b"/" {
        return None;
    }
    let slash = key.iter().rposition(|&byte| byte == b'/')?;
    Some(&key[..slash.max(1)])
}
