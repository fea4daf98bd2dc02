//! From a disk to what a member starts from.

use std::cell::RefCell;
use std::rc::Rc;

use quorate_core::store::Store;
use quorate_core::wal::{Wal, WalError, WalLimits};
use quorate_core::{BirthRecord, LogId, NodeId, Opening};

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
    let broken = |what: String| Err(Refusal::Broken(what));
    let mut files = SimFiles::new(disk.clone());
    let store = if tables.rows.is_empty() {
        Store::new()
    } else {
        match Store::load(tables.rows.iter()) {
            Ok(store) => store,
            Err(error) => return broken(format!("the tables: {error}")),
        }
    };
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
    let applied = store.applied();
    let (mut log_start, mut entries) = (recovered.start, &recovered.entries[..]);
    if !recovered.contains(applied) {
        // What a majority holds can be in the tables before it is in the log here: all that is in
        // the log is older, or was never committed (DESIGN.md §6).
        if birth.founders.len() == 1 {
            return broken(format!(
                "the log does not go on from {applied}, which the tables hold"
            ));
        }
        wal.reset(applied).map_err(Refusal::of_log)?;
        (log_start, entries) = (applied, &[]);
    }
    for info in store.slices() {
        if read_slice(&files, info.id).is_err() {
            return broken(format!(
                "the slice {} is listed and cannot be read",
                info.id
            ));
        }
    }
    let kept = store.slices().map(|info| info.id).collect();
    if let Err(error) = remove_slices(&mut files, &kept) {
        return broken(format!("slices: {error}"));
    }
    let opening = Opening {
        birth: birth.clone(),
        node,
        hard_state: recovered.hard_state,
        store,
        entries: entries.to_vec(),
        log_start,
        persisted: wal.persisted(),
        held: recovered.held.filter(|held| *held > applied.index),
        seed,
    };
    Ok((opening, wal))
}
