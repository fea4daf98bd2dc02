//! What tests of this crate share: scratch directories, and ways to damage a file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_core::{DiskId, Founder};

/// A directory of its own, gone when dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        // Memory where there is some: these tests sync thousands of times, and damage by hand.
        let shm = Path::new("/dev/shm");
        let base = if shm.is_dir() {
            shm.to_owned()
        } else {
            std::env::temp_dir()
        };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("quorate-test-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a scratch directory");
        Self(path)
    }

    pub(crate) fn copy_of(from: &Path) -> Self {
        let copy = Self::new();
        copy_tree(from, &copy.0).expect("copied");
        copy
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Somebody who could found a cluster.
pub(crate) fn founder(name: &str) -> Founder {
    Founder {
        name: name.to_owned(),
        peer_urls: Vec::new(),
        disk: DiskId(1),
        key: [1; 32],
    }
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let found = entry.metadata()?;
        if found.is_dir() {
            fs::create_dir(&target)?;
            copy_tree(&entry.path(), &target)?;
        } else if found.blocks() == 0 {
            // Keeps holes holes: the table store's journal is 64 MiB of nothing.
            File::create(&target)?.set_len(found.len())?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// All files below `root`, relative to it, in order.
pub(crate) fn files_below(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(root).expect("below").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Files up to this length are damaged at every byte.
const SMALL_BYTES: u64 = 256;

/// One thing done to one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damages {
    Flip { at: u64, mask: u8 },
    Cut { to: u64 },
    Delete,
}

impl Damages {
    /// Flips of every byte of a small file and of about `sampled` bytes of a big one, cuts, and
    /// deletion.
    pub(crate) fn of(file: &Path, sampled: u64) -> Vec<Self> {
        let length = fs::metadata(file).expect("there").len();
        let small = length <= SMALL_BYTES;
        let step = if small { 1 } else { length.div_ceil(sampled) };
        let mut all = vec![Self::Delete];
        for (n, at) in (0..length)
            .step_by(usize::try_from(step).expect("small"))
            .enumerate()
        {
            // Another bit each time, and another place in the step.
            let shift = u32::try_from(n % 8).expect("below 8");
            let at = (at + (n as u64 * 7919) % step).min(length - 1);
            all.push(Self::Flip {
                at,
                mask: 1 << shift,
            });
        }
        if length > 0 {
            all.extend([0, length / 2, length - 1].map(|to| Self::Cut { to }));
        }
        all.dedup();
        all
    }

    pub(crate) fn apply(self, file: &Path) {
        let open = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(file)
                .expect("opens")
        };
        match self {
            Self::Flip { at, mask } => {
                let file = open();
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).expect("a byte");
                file.write_all_at(&[byte[0] ^ mask], at).expect("flipped");
            }
            Self::Cut { to } => open().set_len(to).expect("cut"),
            Self::Delete if file.is_dir() => fs::remove_dir_all(file).expect("deleted"),
            Self::Delete => fs::remove_file(file).expect("deleted"),
        }
    }
}
