//! The data directory: what is in it, who may use it, and making a new one.
//!
//! ```text
//! lock           held as long as a process uses the directory
//! version        written last when the directory is made: without it nothing else counts
//! identity       the disk's id and the member's key pair
//! birth          what this member knows of who founds the cluster, and whether it is born
//! CURRENT        which generation of tables counts
//! tables.<gen>/  the table store: the last checkpoint
//! wal/           the log since then, at least
//! history/       closed slices of history
//! incoming/      slices of a snapshot that arrives; its tables are of the next generation
//! reserve        room given back when the disk is full
//! ```

use std::fs::{self, File, TryLockError};
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use quorate_core::BirthState;
use quorate_core::wal::{FileError, Wal, WalError, small};
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::config::Options;
use crate::error::{Damage, StartError};
use crate::files::{Directory, Room, make_directory, sync_directory};
use crate::identity::Identity;
use crate::tables::Tables;

/// The format of the directory. Another number is another program's.
const FORMAT: u32 = 3;

const LOCK: &str = "lock";
const VERSION: &str = "version";
const FORMATTING: &str = "formatting";
const IDENTITY: &str = "identity";
const BIRTH: &str = "birth";
const CURRENT: &str = "CURRENT";
const WAL: &str = "wal";
const HISTORY: &str = "history";
const TABLES: &str = "tables.";
const RESERVE: &str = "reserve";
const INCOMING: &str = "incoming";

/// What the file system puts at the top of a disk. Not ours to touch.
const LOST_AND_FOUND: &str = "lost+found";

/// Where things are in a data directory. Whoever has no more than this knows only where.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    path: PathBuf,
    room: Room,
}

impl Layout {
    /// The generation of tables that counts.
    pub(crate) fn generation(&self) -> Result<u64, StartError> {
        self.load(CURRENT)
    }

    /// Makes `generation` the one that counts, durably.
    pub(crate) fn set_generation(&self, generation: u64) -> Result<(), StartError> {
        self.store(CURRENT, &generation)
    }

    /// Where a generation of tables is.
    pub(crate) fn tables(&self, generation: u64) -> PathBuf {
        self.path.join(format!("{TABLES}{generation}"))
    }

    /// The files of the log.
    pub(crate) fn wal(&self) -> Directory {
        Directory::new(self.path.join(WAL), self.room.clone())
    }

    /// The files of closed slices.
    pub(crate) fn history(&self) -> Directory {
        Directory::new(self.path.join(HISTORY), self.room.clone())
    }

    /// Where the slices of a snapshot go that is still arriving.
    pub(crate) fn incoming(&self) -> PathBuf {
        self.path.join(INCOMING)
    }

    /// The file that holds room in reserve.
    pub(crate) fn reserve(&self) -> PathBuf {
        self.path.join(RESERVE)
    }

    /// Whether there is room; for tests.
    pub(crate) fn room(&self) -> Room {
        self.room.clone()
    }

    fn load<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Result<T, StartError> {
        let body = small::load(&self.root(), name).map_err(|e| wal_error(&self.path, e))?;
        let malformed = || Damage::new(&self.path.join(name), None, "it does not make sense");
        match postcard::take_from_bytes(&body) {
            Ok((value, [])) => Ok(value),
            Ok(_) | Err(_) => Err(malformed().into()),
        }
    }

    fn store<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StartError> {
        let body = postcard::to_allocvec(value).expect("plain data encodes");
        small::store(&mut self.root(), name, &body).map_err(|e| wal_error(&self.path, e))
    }

    fn root(&self) -> Directory {
        Directory::new(self.path.clone(), self.room.clone())
    }
}

/// A data directory of this process: formatted, of this version, locked.
#[derive(Debug)]
pub(crate) struct Home {
    layout: Layout,
    /// Unlocked when dropped.
    _lock: File,
}

/// What a directory holds, by its names alone.
enum Contents {
    Nothing,
    /// Formatting began and did not end: nothing was ever acknowledged from here.
    HalfMade,
    Ours,
}

impl Home {
    /// Opens the directory, or makes it.
    ///
    /// # Errors
    /// Every reason but damage of the log and the tables. Nothing is changed then, but for a lock
    /// file in a directory that is ours.
    pub(crate) fn open(options: &Options, room: Room) -> Result<Self, StartError> {
        let path = &options.data_dir;
        // Looked at before a lock file is put there: it may be anybody's.
        match look(path)? {
            Contents::Ours => {}
            Contents::Nothing | Contents::HalfMade if options.format => {
                create_directory(path)?;
            }
            Contents::Nothing | Contents::HalfMade => {
                return Err(StartError::Unformatted { path: path.clone() });
            }
        }
        let home = Self {
            layout: Layout {
                path: path.clone(),
                room,
            },
            _lock: lock(path)?,
        };
        // And again: another process may have formatted it before it let go of the lock.
        match look(path)? {
            Contents::Ours => home.check_version()?,
            Contents::Nothing => home.format(options)?,
            Contents::HalfMade => {
                home.clear()?;
                home.format(options)?;
            }
        }
        home.remove_file(FORMATTING)?;
        Ok(home)
    }

    /// The identity, and what is known of the cluster's birth, checked against each other.
    pub(crate) fn identity(&self) -> Result<(Identity, BirthState), StartError> {
        let identity: Identity = self.load(IDENTITY)?;
        let state: BirthState = self.load(BIRTH)?;
        let key = identity
            .public_key()
            .ok_or_else(|| Damage::new(&self.path.join(IDENTITY), None, "not a key pair"))?;
        if state.born {
            let founder = state.record.as_ref().and_then(|record| {
                let node = record.node_of(identity.disk)?;
                record.founder(node)
            });
            if founder.is_none_or(|founder| founder.key != key) {
                let what = "it does not name this disk and its key";
                return Err(Damage::new(&self.path.join(BIRTH), None, what).into());
            }
        }
        Ok((identity, state))
    }

    /// Replaces what is known of the cluster's birth, durably.
    pub(crate) fn set_birth(&self, state: &BirthState) -> Result<(), StartError> {
        self.store(BIRTH, state)
    }

    /// Moves tables that are of no use aside, for whoever wants to look into them.
    pub(crate) fn set_aside(&self, generation: u64) -> Result<(), StartError> {
        let from = self.tables(generation);
        let mut to = from.clone();
        to.as_mut_os_string().push(".damaged");
        match fs::rename(&from, &to) {
            Ok(()) => self.sync(),
            // They are gone altogether.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StartError::io("rename", &from, error)),
        }
    }

    /// Deletes generations of tables that do not count, and slices that came with them: an
    /// installation was cut off.
    pub(crate) fn remove_other_tables(&self, current: u64) -> Result<(), StartError> {
        let incoming = self.incoming();
        match fs::remove_dir_all(&incoming) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StartError::io("remove", &incoming, error)),
        }
        for name in names(&self.path)? {
            let generation = name
                .strip_prefix(TABLES)
                .and_then(|n| n.parse::<u64>().ok());
            if generation.is_some_and(|generation| generation != current) {
                let path = self.path.join(name);
                fs::remove_dir_all(&path).map_err(|e| StartError::io("remove", &path, e))?;
            }
        }
        Ok(())
    }

    fn format(&self, options: &Options) -> Result<(), StartError> {
        info!(directory = %self.path.display(), "formatting");
        let at = |doing, path: &Path| {
            let path = path.to_owned();
            move |error| StartError::io(doing, &path, error)
        };
        let marker = self.path.join(FORMATTING);
        File::create(&marker).map_err(at("create", &marker))?;
        self.sync()?;
        for directory in [self.path.join(WAL), self.path.join(HISTORY), self.tables(1)] {
            make_directory(&directory).map_err(at("create", &directory))?;
        }
        Wal::create(self.wal(), options.wal).map_err(|e| wal_error(&self.path.join(WAL), e))?;
        let tables = self.tables(1);
        let opened = Tables::open(&tables);
        opened.map_err(|error| StartError::Tables {
            path: tables,
            what: error.what,
        })?;

        self.store(IDENTITY, &Identity::generate())?;
        // Not born yet, and not missing either: a file that is lost must not look like this.
        self.set_birth(&BirthState::default())?;
        self.set_generation(1)?;
        // Last: from here on the directory is a member's.
        self.store(VERSION, &FORMAT)
    }

    /// Removes what formatting left behind. Only what it makes: nothing else was there.
    fn clear(&self) -> Result<(), StartError> {
        for name in names(&self.path)? {
            let path = self.path.join(&name);
            if !is_ours(&name) || [LOCK, FORMATTING].contains(&&*name) {
                continue;
            }
            if path.is_dir() {
                fs::remove_dir_all(&path).map_err(|e| StartError::io("remove", &path, e))?;
            } else {
                self.remove_file(&name)?;
            }
        }
        Ok(())
    }

    fn check_version(&self) -> Result<(), StartError> {
        let found: u32 = self.load(VERSION)?;
        if found != FORMAT {
            return Err(StartError::OtherVersion {
                path: self.path.join(VERSION),
                found: found.to_string(),
                known: FORMAT,
            });
        }
        Ok(())
    }

    fn remove_file(&self, name: &str) -> Result<(), StartError> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Ok(()) => self.sync(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StartError::io("remove", &path, error)),
        }
    }

    fn sync(&self) -> Result<(), StartError> {
        sync_directory(&self.path).map_err(|e| StartError::io("sync", &self.path, e))
    }
}

impl Deref for Home {
    type Target = Layout;

    fn deref(&self) -> &Layout {
        &self.layout
    }
}

/// An error of the log or of a file like it, in `directory`.
pub(crate) fn wal_error(directory: &Path, error: WalError) -> StartError {
    match error {
        WalError::Full => StartError::io("write to", directory, io::ErrorKind::StorageFull.into()),
        WalError::File { file, error } => {
            let source = match error {
                FileError::NotFound => io::ErrorKind::NotFound.into(),
                FileError::Full => io::ErrorKind::StorageFull.into(),
                FileError::Other(text) => io::Error::other(text),
            };
            StartError::io("use", &directory.join(file), source)
        }
        WalError::Failed => StartError::io("use", directory, io::Error::other("failed before")),
        WalError::Missing { file } => Damage::missing(&directory.join(file)).into(),
        WalError::Damaged { file, offset, what } => {
            Damage::new(&directory.join(file), Some(offset), what).into()
        }
        WalError::Version { file, found } => StartError::OtherVersion {
            path: directory.join(file),
            found: found.to_string(),
            known: FORMAT,
        },
        WalError::Exists => StartError::Foreign {
            path: directory.to_owned(),
            found: "a log".to_owned(),
        },
    }
}

/// Whether the directory at `path` holds a member that is born: nothing of what its command line
/// says about a new cluster counts for it. Where it cannot be read, that shows when it is opened.
#[must_use]
pub fn is_born(path: &Path) -> bool {
    let root = Directory::new(path.to_owned(), Room::default());
    let body = small::load(&root, BIRTH).unwrap_or_default();
    postcard::from_bytes(&body).is_ok_and(|state: BirthState| state.born)
}

fn look(path: &Path) -> Result<Contents, StartError> {
    let names = match fs::exists(path) {
        Ok(false) => return Ok(Contents::Nothing),
        Ok(true) => names(path)?,
        Err(error) => return Err(StartError::io("look at", path, error)),
    };
    let has = |name: &str| names.iter().any(|found| found == name);
    if has(VERSION) {
        return Ok(Contents::Ours);
    }
    if has(FORMATTING) {
        return Ok(Contents::HalfMade);
    }
    // etcd 2 and 3 keep all of a member below `member`, and what a proxy knows below `proxy`.
    if let Some(found) = ["member", "proxy"].into_iter().find(|name| has(name)) {
        return Err(StartError::Etcd {
            path: path.to_owned(),
            found: found.to_owned(),
        });
    }
    let first = names
        .iter()
        .find(|name| !is_ours(name) && **name != LOST_AND_FOUND);
    match first {
        Some(found) => Err(StartError::Foreign {
            path: path.to_owned(),
            found: found.clone(),
        }),
        None if names
            .iter()
            .any(|name| name != LOCK && name != LOST_AND_FOUND) =>
        {
            Err(Damage::missing(&path.join(VERSION)).into())
        }
        None => Ok(Contents::Nothing),
    }
}

/// Whether a file of this name may be ours.
fn is_ours(name: &str) -> bool {
    let known = [
        LOCK, VERSION, FORMATTING, IDENTITY, BIRTH, CURRENT, WAL, HISTORY, RESERVE, INCOMING,
    ];
    let name = name.strip_suffix(".new").unwrap_or(name);
    known.contains(&name) || name.starts_with(TABLES)
}

fn names(path: &Path) -> Result<Vec<String>, StartError> {
    let at = |error| StartError::io("list", path, error);
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(at)? {
        names.push(
            entry
                .map_err(at)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    names.sort();
    Ok(names)
}

/// Makes the directory, if it is not there, durably.
fn create_directory(path: &Path) -> Result<(), StartError> {
    // Asked before: afterwards nobody can tell which were missing.
    let changed = parents_of_missing(path);
    make_directory(path).map_err(|e| StartError::io("create", path, e))?;
    for parent in changed {
        sync_directory(parent).map_err(|e| StartError::io("sync", parent, e))?;
    }
    Ok(())
}

/// The directories that change when `path` is made with all that is missing above it.
fn parents_of_missing(path: &Path) -> Vec<&Path> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing = path.ancestors().take_while(is_missing);
    missing
        .filter_map(Path::parent)
        .map(|parent| match parent.as_os_str().is_empty() {
            true => Path::new("."),
            false => parent,
        })
        .collect()
}

fn lock(path: &Path) -> Result<File, StartError> {
    let name = path.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&name)
        .map_err(|e| StartError::io("open", &name, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartError::InUse {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(StartError::io("lock", &name, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn every_directory_that_gets_a_new_entry_is_synced() {
        let scratch = Scratch::new();
        let top = scratch.path();
        let path = top.join("a/b/c");
        assert_eq!(
            parents_of_missing(&path),
            [&top.join("a/b"), &top.join("a"), top]
        );
        assert_eq!(parents_of_missing(top), Vec::<&Path>::new());
        let relative = Path::new("quorate-is-not-here/data");
        let changed = [Path::new("quorate-is-not-here"), Path::new(".")];
        assert_eq!(parents_of_missing(relative), changed);
    }
}
