//! From a disk to what a member starts from.

use std::cell::RefCell;
use std::rc::Rc;

use quorate_core::raft::Entry;
use quorate_core::store::Store;
use quorate_core::wal::{Wal, WalError, WalLimits};
use quorate_core::{BirthRecord, HardState, Index, LogId, NodeId, Opening};

use crate::disk::{Disk, SimFiles};
use crate::tables::{Tables, read_slice, remove_slices};

/// Why a member does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// D12: no room for what the log needs first. It can be started once there is some.
    Full,
    /// Its disk cannot be started from: always a violation, since no fault here damages what
    /// nothing can be done about.
    Broken(String),
}

impl Refusal {
    fn of_log(error: WalError) -> Self {
        if error == WalError::Full {
            Self::Full
        } else {
            Self::Broken(format!("the log: {error}"))
        }
    }
}

/// A log that was read, and may be written to.
#[derive(Debug)]
pub struct Log {
    /// Its term and vote.
    pub hard_state: HardState,
    /// The entry before its first.
    pub start: LogId,
    /// All it holds after that.
    pub entries: Vec<Entry>,
    /// Through here it must hold what a leader has, before it counts again.
    pub held: Option<Index>,
    /// To go on with.
    pub wal: Wal<SimFiles>,
}

/// Reads a disk back as a start does, and repairs what it may; `impaired` where its log was
/// damaged.
///
/// # Errors
/// Why the member does not start.
pub fn recover(
    birth: &BirthRecord,
    node: NodeId,
    disk: &Rc<RefCell<Disk>>,
    tables: &Tables,
    limits: WalLimits,
    impaired: bool,
    seed: u64,
) -> Result<(Opening, Wal<SimFiles>), Refusal> {
    let store = if tables.rows.is_empty() {
        Store::new()
    } else {
        let loaded = Store::load(tables.rows.iter());
        loaded.map_err(|error| Refusal::Broken(format!("the tables: {error}")))?
    };
    let (applied, listed) = (
        store.applied(),
        store.slices().map(|info| info.id).collect(),
    );
    if (applied, &listed) != (tables.applied, &tables.slices) {
        let what = format!("the tables hold {applied} and {listed:?}, not {tables:?}");
        return Err(Refusal::Broken(what));
    }
    let log = recover_log(birth, disk, tables, limits, impaired)?;
    let opening = Opening {
        birth: birth.clone(),
        node,
        hard_state: log.hard_state,
        store,
        entries: log.entries,
        log_start: log.start,
        persisted: log.wal.persisted(),
        held: log.held,
        seed,
    };
    Ok((opening, log.wal))
}

/// As [`recover`], but for the tables: their rows are not read.
///
/// # Errors
/// As there.
pub fn recover_log(
    birth: &BirthRecord,
    disk: &Rc<RefCell<Disk>>,
    tables: &Tables,
    limits: WalLimits,
    impaired: bool,
) -> Result<Log, Refusal> {
    let broken = |what: String| Err(Refusal::Broken(what));
    let mut files = SimFiles::new(disk.clone());
    let (mut wal, recovered) = Wal::recover(files.clone(), limits).map_err(Refusal::of_log)?;
    if let Some(damage) = &recovered.damage
        && !impaired
    {
        return broken(format!("the log is damaged: {damage:?}"));
    }
    if tables.rows.is_empty() && recovered.start != LogId::ZERO {
        let start = recovered.start;
        return broken(format!(
            "the log begins after {start}, and there are no tables"
        ));
    }
    wal.resume().map_err(Refusal::of_log)?;
    let applied = tables.applied;
    let is_behind = !recovered.contains(applied);
    if is_behind {
        // What a majority holds can be in the tables before it is in the log here: all that is in
        // the log is older, or was never committed (DESIGN.md §6).
        if birth.founders.len() == 1 {
            return broken(format!(
                "the log does not go on from {applied}, which the tables hold"
            ));
        }
        wal.reset(applied).map_err(Refusal::of_log)?;
    }
    for &slice in &tables.slices {
        if read_slice(&files, slice).is_err() {
            return broken(format!("the slice {slice} is listed and cannot be read"));
        }
    }
    if let Err(error) = remove_slices(&mut files, &tables.slices) {
        return broken(format!("slices: {error}"));
    }
    let held = recovered.held.filter(|held| *held > applied.index);
    let (start, entries) = match is_behind {
        true => (applied, Vec::new()),
        false => (recovered.start, recovered.entries),
    };
    Ok(Log {
        hard_state: recovered.hard_state,
        start,
        entries,
        held,
        wal,
    })
}
