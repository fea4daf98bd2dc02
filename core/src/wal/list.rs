//! The list of segments: without it one that is gone would never be missed.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::error::WalError;
use super::files::Files;
use super::record::{Position, VERSION};
use super::segment::Listed;
use super::small;
use crate::codec;
use crate::ids::Index;

/// Its name.
pub(super) const LIST: &str = "wal.segments";

/// Which segments are the log, in order; the first of them begins at `start`. Those after the one
/// written last stand ready and are empty.
///
/// A segment is listed before it is written to, and no longer listed before it is given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct List {
    pub(super) start: Position,
    pub(super) segments: Vec<Listed>,
    /// After damage: the highest index the log is known to have held, which it must hold again.
    pub(super) held: Option<Index>,
}

impl List {
    pub(super) fn load<F: Files>(files: &F) -> Result<Self, WalError> {
        let bytes = small::load(files, LIST)?;
        let malformed = || WalError::damaged(LIST, 0, "it does not make sense");
        let (version, body) = bytes.split_first_chunk().ok_or_else(malformed)?;
        let found = u16::from_le_bytes(*version);
        if found != VERSION {
            let file = LIST.into();
            return Err(WalError::Version { file, found });
        }
        let list: Self = codec::take(body).map_err(|_| malformed())?;
        let ascending = list
            .segments
            .windows(2)
            .all(|pair| pair[0].generation < pair[1].generation);
        let last_is_cut = list.segments.last().is_none_or(|last| last.cut.is_some());
        if ascending && !last_is_cut {
            Ok(list)
        } else {
            Err(malformed())
        }
    }

    pub(super) fn store<F: Files>(&self, files: &mut F) -> Result<(), WalError> {
        let mut bytes = Vec::from(VERSION.to_le_bytes());
        codec::put(&mut bytes, self);
        small::store(files, LIST, &bytes)
    }
}
