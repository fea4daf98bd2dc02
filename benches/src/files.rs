//! Directories under core's log: one in memory, one on a real disk.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use quorate_core::wal::{FileError, Files};

/// Files in memory, where a sync costs nothing: what is left is what the log itself costs.
#[derive(Debug, Default)]
pub struct MemoryDirectory(BTreeMap<String, Vec<u8>>);

impl MemoryDirectory {
    fn file(&self, name: &str) -> Result<&[u8], FileError> {
        let file = self.0.get(name).ok_or(FileError::NotFound)?;
        Ok(file)
    }
}

impl Files for MemoryDirectory {
    fn list(&self) -> Result<Vec<String>, FileError> {
        Ok(self.0.keys().cloned().collect())
    }

    fn len(&self, name: &str) -> Result<u64, FileError> {
        Ok(self.file(name)?.len() as u64)
    }

    fn allocate(&mut self, name: &str, bytes: u64) -> Result<(), FileError> {
        self.0.insert(name.into(), vec![0; place(bytes)]);
        Ok(())
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<(), FileError> {
        let rest = self.file(name)?.get(place(offset)..).unwrap_or_default();
        let bytes = rest.get(..buffer.len());
        let bytes = bytes.ok_or_else(|| FileError::Other("the file ends before".into()))?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), FileError> {
        let file = self.0.get_mut(name).ok_or(FileError::NotFound)?;
        let begin = place(offset);
        file[begin..begin + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self, _name: &str) -> Result<(), FileError> {
        Ok(())
    }

    fn sync_dir(&mut self) -> Result<(), FileError> {
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), FileError> {
        let file = self.0.remove(from).ok_or(FileError::NotFound)?;
        self.0.insert(to.into(), file);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), FileError> {
        self.0.remove(name).map(drop).ok_or(FileError::NotFound)
    }
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("memory is addressable")
}

/// A directory of its own on a real disk, where a sync is an fdatasync. Removed when dropped.
#[derive(Debug)]
pub struct TempDirectory {
    path: PathBuf,
    open: BTreeMap<String, File>,
}

impl TempDirectory {
    /// A new one, empty.
    ///
    /// # Errors
    /// If there is no room for it, or no permission.
    pub fn new() -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("quorate-bench-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path)?;
        Ok(Self {
            path,
            open: BTreeMap::new(),
        })
    }

    /// Where it is.
    #[must_use]
    pub const fn path(&self) -> &PathBuf {
        &self.path
    }

    fn file(&mut self, name: &str) -> Result<&File, FileError> {
        if !self.open.contains_key(name) {
            let path = self.path.join(name);
            let file = File::options().read(true).write(true).open(path);
            self.open.insert(name.into(), file.map_err(failed)?);
        }
        Ok(&self.open[name])
    }
}

impl Drop for TempDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Files for TempDirectory {
    fn list(&self) -> Result<Vec<String>, FileError> {
        let names = fs::read_dir(&self.path).map_err(failed)?;
        let name = |entry: io::Result<fs::DirEntry>| {
            Ok(entry.map_err(failed)?.file_name().to_string_lossy().into())
        };
        names.map(name).collect()
    }

    fn len(&self, name: &str) -> Result<u64, FileError> {
        Ok(fs::metadata(self.path.join(name)).map_err(failed)?.len())
    }

    fn allocate(&mut self, name: &str, bytes: u64) -> Result<(), FileError> {
        self.open.remove(name);
        // Written, as the runtime does: blocks that were written before are synced faster.
        fs::write(self.path.join(name), vec![0; place(bytes)]).map_err(failed)?;
        self.file(name)?.sync_all().map_err(failed)
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<(), FileError> {
        let file = File::open(self.path.join(name)).map_err(failed)?;
        file.read_exact_at(buffer, offset).map_err(failed)
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), FileError> {
        self.file(name)?.write_all_at(bytes, offset).map_err(failed)
    }

    fn sync(&mut self, name: &str) -> Result<(), FileError> {
        self.file(name)?.sync_data().map_err(failed)
    }

    fn sync_dir(&mut self) -> Result<(), FileError> {
        File::open(&self.path)
            .and_then(|directory| directory.sync_all())
            .map_err(failed)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), FileError> {
        self.open.remove(from);
        self.open.remove(to);
        fs::rename(self.path.join(from), self.path.join(to)).map_err(failed)
    }

    fn remove(&mut self, name: &str) -> Result<(), FileError> {
        self.open.remove(name);
        fs::remove_file(self.path.join(name)).map_err(failed)
    }
}

fn failed(error: io::Error) -> FileError {
    if error.kind() == io::ErrorKind::NotFound {
        FileError::NotFound
    } else {
        FileError::Other(error.to_string())
    }
}
