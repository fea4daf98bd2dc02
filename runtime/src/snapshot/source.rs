//! A checkpoint held still while it is sent: the tables as they were, and the files of the slices
//! they list.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use quorate_core::LogId;
use quorate_core::snapshot::{Cursor, SliceFile, SnapshotFrame, SnapshotHeader};
use quorate_core::store::{Changes, SliceInfo, Store, Value};
use quorate_core::wal::slice;

use crate::files::Directory;
use crate::tables::{View, ViewRows};

/// What a checkpoint contains, in short.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    last: LogId,
    hash: u128,
    slices: Vec<Arc<SliceInfo>>,
}

impl Summary {
    /// The last entry it contains.
    pub(crate) const fn last(&self) -> LogId {
        self.last
    }
}

impl From<&Store> for Summary {
    fn from(store: &Store) -> Self {
        Self {
            last: store.applied(),
            hash: store.hash(),
            slices: store.slices().cloned().collect(),
        }
    }
}

impl From<&Changes> for Summary {
    fn from(changes: &Changes) -> Self {
        Self {
            last: changes.applied,
            hash: changes.hash,
            slices: changes.slices.clone(),
        }
    }
}

/// A checkpoint to be sent. Reading it blocks.
#[derive(Debug)]
pub(crate) struct Source {
    header: SnapshotHeader,
    /// Open, so that a later checkpoint may unlink them.
    files: Vec<Option<File>>,
    view: View,
}

impl Source {
    /// The checkpoint `summary`, which is in the tables now.
    ///
    /// # Errors
    /// A file of it cannot be opened.
    pub(crate) fn open(summary: &Summary, view: View, history: &Directory) -> Result<Self, String> {
        let mut slices = Vec::new();
        let mut files = Vec::new();
        for info in &summary.slices {
            let path = history.path().join(slice::file_name(info.id));
            let opened = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
            let (bytes, file) = match opened {
                Ok((bytes, file)) => (Some(bytes), Some(file)),
                // As somebody has decided, or the member would not run.
                Err(error) if error.kind() == ErrorKind::NotFound => (None, None),
                Err(error) => return Err(format!("{}: {error}", path.display())),
            };
            slices.push(SliceFile { id: info.id, bytes });
            files.push(file);
        }
        let header = SnapshotHeader {
            last: summary.last,
            hash: summary.hash,
            slices,
        };
        Ok(Self {
            header,
            files,
            view,
        })
    }

    /// What it is.
    pub(crate) const fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// Its frames from `cursor` on, without the slices that the receiver has.
    pub(super) fn frames(&self, cursor: Cursor, have: Vec<u32>) -> Frames<'_> {
        Frames {
            source: self,
            have,
            cursor,
            rows: None,
        }
    }

    /// The piece of a slice at `offset`.
    fn piece(&self, place: u32, offset: u64) -> Result<Value, String> {
        let at = usize::try_from(place).map_err(|e| e.to_string())?;
        let file = self.files.get(at).and_then(Option::as_ref);
        let length = self.header.slices.get(at).and_then(|slice| slice.bytes);
        let (Some(file), Some(length)) = (file, length) else {
            return Err(format!("there is no slice {place}"));
        };
        let left = length.saturating_sub(offset);
        let bytes = usize::try_from(left)
            .map_or(SnapshotFrame::BYTES, |left| left.min(SnapshotFrame::BYTES));
        let mut piece = vec![0; bytes];
        let read = file.read_exact_at(&mut piece, offset);
        read.map_err(|error| format!("slice {place}: {error}"))?;
        Ok(Value::new(&piece))
    }
}

/// The frames of a snapshot, one after the other. Ends after `End`, or after an error.
pub(super) struct Frames<'a> {
    source: &'a Source,
    have: Vec<u32>,
    cursor: Cursor,
    rows: Option<ViewRows>,
}

impl Frames<'_> {
    fn next_piece(&mut self, place: u32, offset: u64) -> Result<SnapshotFrame, String> {
        let bytes = self.source.piece(place, offset)?;
        if bytes.is_empty() {
            return Err(format!("slice {place} has nothing at {offset}"));
        }
        let end = offset + bytes.len() as u64;
        let at = usize::try_from(place).map_err(|e| e.to_string())?;
        let is_whole = self.source.header.slices[at].bytes == Some(end);
        self.cursor = match is_whole {
            true => self.source.header.next(place + 1, &self.have),
            false => Cursor::Slice { place, offset: end },
        };
        Ok(SnapshotFrame::Slice {
            place,
            offset,
            bytes,
        })
    }

    fn next_rows(&mut self, after: Option<Value>, count: u64) -> Result<SnapshotFrame, String> {
        let view = &self.source.view;
        let rows = self
            .rows
            .get_or_insert_with(|| view.rows_after(after.as_deref()));
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < SnapshotFrame::BYTES
            && let Some(row) = rows.next()
        {
            let (key, row) = row.map_err(|error| error.what)?;
            bytes += key.len() + row.len();
            batch.push((Value::new(&key), Value::new(&row)));
        }
        let Some((last, _)) = batch.last() else {
            self.cursor = Cursor::End;
            return Ok(SnapshotFrame::End { rows: count });
        };
        self.cursor = Cursor::Rows {
            after: Some(last.clone()),
            count: count + batch.len() as u64,
        };
        Ok(SnapshotFrame::Rows(batch))
    }
}

impl Iterator for Frames<'_> {
    type Item = Result<SnapshotFrame, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let frame = match self.cursor.clone() {
            Cursor::Slice { place, offset } => self.next_piece(place, offset),
            Cursor::Rows { after, count } => self.next_rows(after, count),
            Cursor::End => return None,
        };
        if frame.is_err() {
            self.cursor = Cursor::End;
        }
        Some(frame)
    }
}
