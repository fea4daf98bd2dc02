//! From a directory to the state a member opens with: everything verified, nothing guessed.

use std::path::Path;
use std::thread;

use quorate_core::store::Store;
use quorate_core::wal::{Recovered, Wal, WalError};
use quorate_core::{BirthRecord, Index, LogId, NodeId, Opening};
use tracing::{info, warn};

use crate::config::Options;
use crate::directory::{Home, wal_error};
use crate::error::{Damage, RESTORE, StartError};
use crate::files::Directory;
use crate::history;
use crate::identity::seed;
use crate::tables::{Tables, verify};

/// What a member starts with.
pub(crate) struct Start {
    pub(crate) opening: Opening,
    pub(crate) log: Wal<Directory>,
    pub(crate) tables: Tables,
    pub(crate) generation: u64,
}

/// Reads, checks and, where that loses nothing, repairs.
///
/// # Errors
/// Whatever cannot be trusted, by name; nothing that counts is changed then.
pub(crate) fn recover(
    home: &Home,
    birth: BirthRecord,
    node: NodeId,
    options: &Options,
) -> Result<Start, StartError> {
    let generation = home.generation()?;
    let directory = home.tables(generation);

    // The tables take longest; log and history are read meanwhile.
    let (tables, log, survey) = thread::scope(|scope| {
        let log = scope.spawn(|| Wal::recover(home.wal(), options.wal));
        let survey = scope.spawn(|| history::survey(&home.history()));
        let tables = open_tables(&directory);
        (
            tables,
            log.join().expect("recovery of the log does not panic"),
            survey.join().expect("reading history does not panic"),
        )
    });
    let (mut log, recovered) = log.map_err(|e| wal_error(home.wal().path(), e))?;

    let (store, tables, generation) = match tables {
        Ok((store, tables)) => (store, tables, generation),
        Err(StartError::Damaged(damage)) => rebuild(home, generation, &recovered, damage)?,
        Err(error) => return Err(error),
    };
    history::verify(&home.history(), survey?, store.slices())?;
    let fit = fit(home, &birth, &store, &recovered)?;

    // From here on files change.
    let at_log = |error: WalError| wal_error(home.wal().path(), error);
    log.resume().map_err(at_log)?;
    if fit == Fit::Superseded {
        log.reset(store.applied()).map_err(at_log)?;
    }
    home.remove_other_tables(generation)?;
    history::remove_others(&mut home.history(), store.slices())
        .map_err(|e| wal_error(home.history().path(), e))?;

    let applied = store.applied();
    let (log_start, entries) = match fit {
        Fit::Continues => (recovered.start, recovered.entries),
        Fit::Superseded => (applied, Vec::new()),
    };
    info!(
        %node,
        %applied,
        entries = entries.len(),
        hash = format_args!("{:032x}", store.hash()),
        "recovered"
    );
    let opening = Opening {
        birth,
        node,
        hard_state: recovered.hard_state,
        store,
        entries,
        log_start,
        persisted: log.persisted(),
        held: recovered.held.filter(|held| *held > applied.index),
        seed: seed(),
    };
    Ok(Start {
        opening,
        log,
        tables,
        generation,
    })
}

/// How the log goes with the tables.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// The log goes on from where the tables end.
    Continues,
    /// All that was ever in the log is in the tables: its entries can go.
    Superseded,
}

/// The store in the tables, checked before and after they are opened.
fn open_tables(directory: &Path) -> Result<(Store, Tables), StartError> {
    verify(directory)?;
    let refused = |what: String| StartError::Tables {
        path: directory.to_owned(),
        what,
    };
    let tables = Tables::open(directory).map_err(|error| refused(error.what))?;
    let store = load(&tables).map_err(|what| Damage::new(directory, None, what))?;
    Ok((store, tables))
}

/// The store in the tables, or what is wrong with them.
pub(crate) fn load(tables: &Tables) -> Result<Store, String> {
    let mut broken = None;
    let rows = tables.rows().map_while(|row| match row {
        Ok(row) => Some(row),
        Err(error) => {
            broken = Some(error.what);
            None
        }
    });
    let mut rows = rows.peekable();
    // Before the first checkpoint there are no rows, and the log reaches back to the beginning.
    let loaded = if rows.peek().is_none() {
        Ok(Store::new())
    } else {
        Store::load(rows)
    };
    match broken {
        Some(what) => Err(what),
        None => loaded.map_err(|error| error.to_string()),
    }
}

/// Without tables the log alone can tell everything, if it reaches back to the beginning.
fn rebuild(
    home: &Home,
    generation: u64,
    recovered: &Recovered,
    damage: Damage,
) -> Result<(Store, Tables, u64), StartError> {
    let whole = recovered.start == LogId::ZERO
        && recovered.damage.is_none()
        && recovered.held.is_none()
        && !recovered.entries.is_empty();
    if !whole {
        return Err(damage.into());
    }
    warn!(%damage, "the tables are made anew: the log reaches back to the beginning");
    // An earlier try that was cut off may have left some behind.
    home.remove_other_tables(generation)?;
    let next = generation + 1;
    let directory = home.tables(next);
    let tables = Tables::open(&directory).map_err(|error| StartError::Tables {
        path: directory,
        what: error.what,
    })?;
    home.set_generation(next)?;
    home.set_aside(generation)?;
    Ok((Store::new(), tables, next))
}

/// Whether log and tables go together; where they do not, this member cannot know what it
/// acknowledged.
fn fit(
    home: &Home,
    birth: &BirthRecord,
    store: &Store,
    recovered: &Recovered,
) -> Result<Fit, StartError> {
    let applied = store.applied();
    if let Some(torn) = &recovered.torn {
        info!(
            file = torn.file,
            offset = torn.offset,
            "the log ends in a write that was cut short"
        );
    }
    let alone = birth.founders.len() == 1;
    let lost = recovered.held.filter(|held| *held > applied.index);
    if let (Some(held), true) = (lost, alone) {
        return Err(lost_entries(home, recovered, applied, held).into());
    }
    if recovered.contains(applied) {
        return Ok(Fit::Continues);
    }
    if let Some(damage) = &recovered.damage
        && damage.held <= applied.index
    {
        warn!(
            file = damage.file,
            offset = damage.offset,
            what = damage.what,
            "damage in the log, below the checkpoint: nothing is lost"
        );
        return Ok(Fit::Superseded);
    }
    if alone && recovered.held.is_none() {
        // Only a snapshot from another member puts tables beside a log they did not come from.
        let what = format!(
            "the log here does not go on from the checkpoint in the tables ({applied}): one of the \
             two is a copy of another time"
        );
        return Err(Damage::new(home.wal().path(), None, what).into());
    }
    Ok(Fit::Superseded)
}

/// Entries that were acknowledged are gone, and there is no peer to have them from.
fn lost_entries(home: &Home, recovered: &Recovered, applied: LogId, held: Index) -> Damage {
    let wal = home.wal();
    let through = recovered
        .entries
        .last()
        .map_or(recovered.start, |entry| entry.id);
    let lost = format!(
        "entries ({}, {held}] were on disk and cannot be read",
        through.index.max(applied.index)
    );
    match &recovered.damage {
        Some(damage) => Damage {
            path: wal.path().join(&damage.file),
            offset: Some(damage.offset),
            what: format!("{}: {lost}", damage.what),
            advice: RESTORE,
        },
        None => Damage::new(wal.path(), None, lost),
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::wal;
    use quorate_core::{HardState, Term, WriteSeq};

    use super::*;
    use crate::files::Room;
    use crate::testing::Scratch;

    /// Tables of another time beside a log that is damaged where it holds no entries: what is
    /// between the two is lost, and only the tables' age tells.
    #[test]
    fn damage_does_not_excuse_tables_that_are_too_old() {
        let scratch = Scratch::new();
        let home = Home::open(&Options::new(scratch.path()), Room::default()).expect("made");
        let birth = BirthRecord::new("test".to_owned(), vec![crate::testing::founder("alone")]);
        let last = LogId {
            term: Term(1),
            index: Index(500),
        };
        let recovered = |held| Recovered {
            start: last,
            entries: Vec::new(),
            hard_state: HardState::default(),
            persisted: WriteSeq(9),
            held: None,
            damage: Some(wal::Damage {
                file: "wal.0000000001".to_owned(),
                offset: 72,
                held: Index(held),
                what: "a record that was durable is lost",
            }),
            torn: None,
        };
        let store = Store::new();
        let error = fit(&home, &birth, &store, &recovered(500));
        let error = error.map(drop).expect_err("500 entries are lost");
        assert!(error.to_string().contains("wal"), "{error}");
        assert!(fit(&home, &birth, &store, &recovered(0)).is_ok());
    }
}
