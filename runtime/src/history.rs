//! Closed slices of history: immutable files, and the thread that reads them back for watches.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_core::Input;
use quorate_core::store::{
    ClosedSlice, Event, HistoryLost, Row, RowKey, SliceEvents, SliceId, SliceInfo, SliceSum,
};
use quorate_core::wal::{FileError, Files, WalError, slice};
use tracing::{error, warn};

use crate::directory::wal_error;
use crate::driver::{Mail, Shared};
use crate::error::{Damage, Fatal, StartError};
use crate::files::Directory;
use crate::inbox::Inbox;

/// What an operator can do about a slice beyond restoring it.
const LOST: &str = "Nothing was changed. Restore this file from a backup; or, to go on without \
    this part of history (watches that ask for it will be told so; no key is lost), create an \
    empty file of the same name with .lost at its end";

/// Reads slices for watches that lag, apart from the checkpoint thread: a long checkpoint must not
/// hold up a reader.
pub(crate) struct Reader {
    files: Directory,
    inbox: Arc<Inbox<SliceId>>,
    driver: Arc<Shared>,
}

impl Reader {
    pub(crate) fn new(files: Directory, inbox: Arc<Inbox<SliceId>>, driver: Arc<Shared>) -> Self {
        Self {
            files,
            inbox,
            driver,
        }
    }

    /// Runs until the inbox is closed. A slice that cannot be read costs the watches that need it.
    pub(crate) fn run(self) -> Result<(), Fatal> {
        let mut batch = Vec::new();
        while self.inbox.receive(&mut batch, None) {
            for slice in batch.drain(..) {
                let events = read(&self.files, slice).map_err(|what| {
                    error!(%slice, what, "a slice of history is lost");
                    HistoryLost
                });
                let input = Input::HistoryRead { slice, events };
                let _ = self.driver.inbox.send(Mail::Input(input));
            }
        }
        Ok(())
    }
}

/// Writes a closed slice, durably. Says how many bytes it has.
pub(crate) fn write(files: &mut Directory, closed: &ClosedSlice) -> Result<u64, WalError> {
    let records: Vec<Vec<u8>> = closed
        .events
        .iter()
        .map(|event| Row::Event(Arc::clone(event)).encode())
        .collect();
    slice::write(files, closed.info.id, &records)?;
    files.close(&slice::file_name(closed.info.id));
    Ok(records.iter().map(|record| record.len() as u64).sum())
}

/// Removes slices that are not in `kept`: dropped from history, or never listed by a checkpoint.
pub(crate) fn remove_others<'a>(
    files: &mut Directory,
    kept: impl IntoIterator<Item = &'a Arc<SliceInfo>>,
) -> Result<(), WalError> {
    let kept: Vec<String> = kept
        .into_iter()
        .map(|info| slice::file_name(info.id))
        .collect();
    let mut removed = false;
    for name in files.list().map_err(|e| failed("", e))? {
        // What is no slice at all is not ours to remove, but for what a cut-off write left behind.
        let stem = name.strip_suffix(".new").or(name.strip_suffix(".lost"));
        let is_slice = slice::id_of(stem.unwrap_or(&name)).is_some();
        let is_kept = kept.iter().any(|kept| *kept == name || name == lost(kept));
        if is_slice && !is_kept {
            files.remove(&name).map_err(|e| failed(&name, e))?;
            removed = true;
        }
    }
    if removed {
        files.sync_dir().map_err(|e| failed("", e))?;
    }
    Ok(())
}

/// What each slice file adds up to (`None`: to nothing), or why it cannot be read.
pub(crate) type Survey = BTreeMap<SliceId, Result<Option<SliceSum>, WalError>>;

/// Reads every slice there is, whether or not it counts: the tables, which tell, are read
/// meanwhile.
///
/// # Errors
/// The directory cannot be read.
pub(crate) fn survey(files: &Directory) -> Result<Survey, StartError> {
    let names = files.list();
    let names = names.map_err(|error| wal_error(files.path(), failed("", error)))?;
    let ids = names.iter().filter_map(|name| slice::id_of(name));
    let sum = |id| slice::read(files, id).map(|records| SliceSum::of(records.iter()));
    Ok(ids.map(|id| (id, sum(id))).collect())
}

/// Checks that every slice of `kept` is there and is what the tables say.
///
/// # Errors
/// `Damaged`, unless an operator has said that the slice may be lost.
pub(crate) fn verify<'a>(
    files: &Directory,
    mut survey: Survey,
    kept: impl IntoIterator<Item = &'a Arc<SliceInfo>>,
) -> Result<(), StartError> {
    for info in kept {
        let name = slice::file_name(info.id);
        if files.len(&lost(&name)).is_ok() {
            warn!(slice = %info.id, "this slice of history is lost, as somebody has decided");
            continue;
        }
        let path = files.path().join(&name);
        let mut error = match survey.remove(&info.id) {
            Some(Ok(Some(sum))) if info.adds_up_to(&sum) => continue,
            Some(Ok(_)) => Damage::new(&path, None, "not the slice that the tables list").into(),
            Some(Err(error)) => wal_error(files.path(), error),
            None => Damage::missing(&path).into(),
        };
        if let StartError::Damaged(damage) = &mut error {
            damage.advice = LOST;
        }
        return Err(error);
    }
    Ok(())
}

fn read(files: &Directory, id: SliceId) -> Result<SliceEvents, String> {
    let records = slice::read(files, id).map_err(|error| error.to_string())?;
    let events = decode(&records).ok_or("a record in it is no event")?;
    Ok(events.into())
}

fn decode(records: &slice::SliceRecords) -> Option<Vec<Arc<Event>>> {
    let decode = |record| match Row::decode(&RowKey::Event(SliceId::ZERO), record)? {
        Row::Event(event) => Some(event),
        // A key of an event decodes to an event.
        Row::Head(_)
        | Row::Settings(_)
        | Row::Configuration(_)
        | Row::Member(_)
        | Row::Key(_)
        | Row::Tombstone(_)
        | Row::Directory(_)
        | Row::Lease(_)
        | Row::Answer(_)
        | Row::Session(_)
        | Row::Slice(_) => None,
    };
    records.iter().map(decode).collect()
}

fn failed(file: &str, error: FileError) -> WalError {
    WalError::File {
        file: file.to_owned(),
        error,
    }
}

/// The file that says that somebody has decided to go on without this slice.
pub(crate) fn lost(name: &str) -> String {
    format!("{name}.lost")
}
