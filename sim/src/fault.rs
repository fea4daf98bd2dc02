//! Kinds of faults: each has an id of SIMULATION.md §3, a dial and a counter.
//!
//! The kinds of one family stand in tables at the top of the file that makes them happen. P10 is
//! ours: a process that is stopped in order.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::rng::Draw;

/// One kind of fault, by its id in SIMULATION.md §3.
#[expect(missing_docs, reason = "the tables of the families say what each is")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Fault {
    N1,
    N2,
    N3,
    N4,
    N5,
    N6,
    N7,
    N8,
    N9,
    N10,
    N12,
    N14,
    D1,
    D2,
    D3,
    D4,
    D5,
    D12,
    D15,
    C1,
    C2,
    C3,
    C6,
    P1,
    P2,
    P3,
    P4,
    P5,
    P6,
    C5,
    D6,
    D7,
    D8,
    P7,
    P10,
    M8,
    N11,
    D14,
    K2,
    K3,
    K9,
    D10,
    K1,
    K4,
    K5,
    K6,
    K7,
    K8,
    C4,
    C7,
    D9,
    D11,
    D13,
    N13,
    P8,
}

/// How many kinds there are.
pub const KINDS: usize = Fault::P8 as usize + 1;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = kinds().map(|kind| kind.fault);
        let found = all.find(|fault| fault.to_string() == text);
        found.ok_or_else(|| format!("no fault `{text}`"))
    }
}

/// A row in the table of a family.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its id.
    pub fault: Fault,
    /// What happens.
    pub what: &'static str,
    /// For faults that strike now and then: the mean time between two at full intensity, in longest
    /// election timeouts. Zero for those that are a property of every message, sync or clock.
    pub gap: u64,
}

/// Kinds of SIMULATION.md that need what core does not have yet: changes of the members, and a
/// second version of a format.
pub const NOT_YET: [&str; 8] = ["M1", "M2", "M3", "M4", "M5", "M6", "M7", "P9"];

/// All kinds, family by family, and then those that came later: a run draws its dials in this
/// order, so that what is appended leaves those of a kept seed as they were.
pub fn kinds() -> impl Iterator<Item = &'static Kind> {
    crate::network::FAULTS
        .iter()
        .chain(crate::disk::FAULTS)
        .chain(crate::clock::FAULTS)
        .chain(crate::process::FAULTS)
        .chain(crate::clock::LATER)
        .chain(crate::disk::DAMAGE)
        .chain(crate::process::LATER)
        .chain(crate::network::LATER)
        .chain(crate::disk::LATER)
        .chain(crate::client::FAULTS)
        .chain(crate::disk::LATEST)
        .chain(crate::client::LATER)
        .chain(crate::clock::LATEST)
        .chain(crate::network::LATEST)
        .chain(crate::birth::FAULTS)
}

/// How strong each kind is in this run, in percent of its range; zero is off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "BTreeMap<Fault, u64>", try_from = "BTreeMap<Fault, u64>")]
pub struct Dials([u64; KINDS]);

impl Dials {
    /// All off.
    #[must_use]
    pub const fn off() -> Self {
        Self([0; KINDS])
    }

    /// Swarm (SIMULATION.md §4): a random half of the kinds is off, the others have an intensity of
    /// their own.
    #[must_use]
    pub fn swarm(draw: &mut Draw) -> Self {
        let mut dials = Self::off();
        for kind in kinds() {
            let on = draw.percent(50);
            // Low intensities are as telling as high ones: a cluster that cannot commit for long
            // shows little.
            let intensity = draw.between(1, 10) * draw.between(1, 10);
            if on {
                dials.set(kind.fault, intensity);
            }
        }
        dials
    }

    /// Turns one.
    pub const fn set(&mut self, fault: Fault, percent: u64) {
        assert!(percent <= 100, "an intensity over 100 %");
        self.0[fault as usize] = percent;
    }

    /// These, with some turned.
    #[must_use]
    pub fn with(mut self, turned: &[(Fault, u64)]) -> Self {
        for &(fault, percent) in turned {
            self.set(fault, percent);
        }
        self
    }

    /// How strong; zero is off.
    #[must_use]
    pub const fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    /// Whether it happens at all.
    #[must_use]
    pub const fn on(&self, fault: Fault) -> bool {
        self.of(fault) > 0
    }

    /// `full` at full intensity, less at less; zero when off.
    #[must_use]
    pub const fn scale(&self, fault: Fault, full: u64) -> u64 {
        full * self.of(fault) / 100
    }
}

impl From<Dials> for BTreeMap<Fault, u64> {
    fn from(dials: Dials) -> Self {
        let on = kinds().filter(|kind| dials.on(kind.fault));
        on.map(|kind| (kind.fault, dials.of(kind.fault))).collect()
    }
}

impl TryFrom<BTreeMap<Fault, u64>> for Dials {
    type Error = String;

    fn try_from(turned: BTreeMap<Fault, u64>) -> Result<Self, String> {
        if let Some((fault, percent)) = turned.iter().find(|&(_, &percent)| percent > 100) {
            return Err(format!("{fault} at {percent} %"));
        }
        let turned: Vec<_> = turned.into_iter().collect();
        Ok(Self::off().with(&turned))
    }
}

impl fmt::Display for Dials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for kind in kinds().filter(|kind| self.on(kind.fault)) {
            let space = if first { "" } else { " " };
            write!(f, "{space}{}={}", kind.fault, self.of(kind.fault))?;
            first = false;
        }
        if first { write!(f, "none") } else { Ok(()) }
    }
}

/// How often each kind happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters([u64; KINDS]);

impl Default for Counters {
    fn default() -> Self {
        Self([0; KINDS])
    }
}

impl Counters {
    /// One more.
    pub const fn count(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    /// How often this one did.
    #[must_use]
    pub const fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine += theirs;
        }
    }

    /// All together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut space = "";
        for kind in kinds().filter(|kind| self.0[kind.fault as usize] > 0) {
            write!(f, "{space}{}={}", kind.fault, self.0[kind.fault as usize])?;
            space = " ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_stands_in_one_table() {
        let mut ids: Vec<_> = kinds().map(|kind| kind.fault).collect();
        assert_eq!(ids.len(), KINDS);
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), KINDS);
    }
}
