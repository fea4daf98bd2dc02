//! A log that something happened to while nobody looked.

use arbitrary::Arbitrary;
use quorate_core::wal::{Files as _, MemoryFiles, Wal, WalError};

use super::Life;
use super::state::{State, WriteKind};

/// One thing that happens to a file.
#[derive(Debug, Arbitrary)]
pub(super) enum Ruin {
    /// A byte changes.
    Flip { file: u8, place: u16, mask: u8 },
    /// A range becomes zeros.
    Zero { file: u8, place: u16, bytes: u16 },
    /// A range cannot be read.
    Hide { file: u8, place: u16, bytes: u16 },
    /// The file is cut, or grows.
    Cut { file: u8, bytes: u16 },
    /// The file is gone.
    Lose { file: u8 },
}

/// Ruins the log of `life`, reads what is left and goes on from there by `writes`. Returns whether
/// it does go on: the log may be refused.
pub(super) fn examine(life: &mut Life, ruins: &[Ruin], writes: &[Option<WriteKind>]) -> bool {
    let mut files = life.files.clone();
    for ruin in ruins {
        ruin.happen(&mut files);
    }
    let is_hidden = ruins.iter().any(|ruin| matches!(ruin, Ruin::Hide { .. }));
    let before = files.list();
    let (mut wal, recovered) = match Wal::recover(files, life.limits) {
        Ok(found) => found,
        Err(WalError::Missing { file } | WalError::Damaged { file, .. }) => {
            assert!(!file.is_empty() && !ruins.is_empty(), "refuses {file}");
            return false;
        }
        Err(WalError::File { .. }) if is_hidden => return false,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(wal.files().list(), before, "recovery changes nothing");
    // One ruin cannot take what the log says and all that vouches for it; several may.
    let is_certain = ruins.is_empty() || (ruins.len() == 1 && life.is_sealed);
    let states = &life.states;
    let place = states.iter().rposition(|state| state.is_at(&recovered));
    let place = place.unwrap_or_else(|| panic!("a write that never was: {recovered:#?}"));
    let known = &states[place];
    if is_certain {
        assert_eq!(known.seq, life.last().seq, "the last write is forgotten");
    }
    match &recovered.damage {
        None => {
            assert!(
                states.iter().any(|state| state.is_in(&recovered)),
                "wrong: {recovered:#?} is none of {states:#?}",
            );
            assert!(
                !is_certain || life.last().is_in(&recovered),
                "lost without a word: {recovered:#?}, not {:#?}",
                life.last(),
            );
            assert_eq!(recovered.held, known.held, "another debt");
        }
        Some(damage) => {
            assert!(!ruins.is_empty(), "no damage was done: {damage:?}");
            let is_true = states.iter().any(|state| state.begins_with(&recovered));
            assert!(is_true, "wrong beside {damage:?}: {recovered:#?}");
            assert_eq!(damage.held, known.last().index, "held another length");
            let end = recovered.entries.last().map_or(recovered.start, |e| e.id);
            match recovered.held {
                Some(held) => assert!(end.index < held, "nothing is to be repaired"),
                None => assert!(known.is_in(&recovered), "said to be whole: {recovered:#?}"),
            }
            assert!(recovered.held >= known.held, "a debt is forgotten");
        }
    }
    wal.resume().expect("the rest of the disk is well");
    life.states.truncate(place + 1);
    life.states.push(State::from(recovered));
    go_on(wal, life, writes);
    true
}

/// What was recovered can be written on to, and nothing that was given up comes back.
fn go_on(mut wal: Wal<MemoryFiles>, life: &mut Life, writes: &[Option<WriteKind>]) {
    let files = wal.files_mut();
    for name in files.list().expect("memory") {
        files.set_unreadable(&name, 0..0);
    }
    for kind in writes {
        let mut next = life.last().clone();
        let write = match kind {
            Some(kind) => next.write(kind),
            None => next.seal(),
        };
        wal.append(&write).expect("there is room");
        let again = Wal::recover(wal.into_files(), life.limits);
        let (reopened, found) = again.expect("a log that was just written");
        assert_eq!(found.damage, None);
        assert_eq!(State::from(found), next);
        life.states.push(next);
        life.is_sealed = kind.is_none();
        wal = reopened;
    }
    life.files = wal.into_files();
}

impl Ruin {
    fn happen(&self, files: &mut MemoryFiles) {
        let file = match self {
            Self::Flip { file, .. }
            | Self::Zero { file, .. }
            | Self::Hide { file, .. }
            | Self::Cut { file, .. }
            | Self::Lose { file } => usize::from(*file),
        };
        let names = files.list().expect("memory");
        let Some(name) = names.get(file % names.len().max(1)) else {
            return;
        };
        let length = files.bytes(name).len();
        let range = |place: u16, bytes: u16| {
            let begin = usize::from(place) % length.max(1);
            begin..(begin + usize::from(bytes)).min(length)
        };
        match *self {
            Self::Flip { place, mask, .. } if length > 0 => {
                files.flip(name, usize::from(place) % length, mask.max(1));
            }
            Self::Flip { .. } => {}
            Self::Zero { place, bytes, .. } => files.zero(name, range(place, bytes)),
            Self::Hide { place, bytes, .. } => {
                let range = range(place, bytes);
                // Gone for good: where it can be read again it is another sector.
                files.zero(name, range.clone());
                files.set_unreadable(name, range.start as u64..range.end as u64);
            }
            Self::Cut { bytes, .. } => files.cut(name, usize::from(bytes) % (length + 16)),
            Self::Lose { .. } => files.lose(name),
        }
    }
}
