//! What happens to whom: every fault of a run is decided here, by chance or by a plan.
//!
//! A fault happens on an occasion: at a place, for the so-many-th time. The seed says of each
//! occasion whether its fault happens there; a plan lists the occasions outright, so that one can
//! be left out without touching the others (SIMULATION.md §9, plan and shrink).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::fault::{Counters, Dials, Fault};

/// Where a fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The cluster as a whole.
    Cluster,
    /// The node at this seat.
    Node(usize),
    /// The link from one seat to another.
    Link(usize, usize),
    /// A client's request: its operation's number.
    Request(u64),
    /// A snapshot on its way, by its number.
    Snapshot(u64),
}

impl Place {
    /// The same place once the node at `gone` is no more; `None` where it was there.
    #[must_use]
    pub fn without(self, gone: usize) -> Option<Self> {
        let seat = |seat: usize| match seat {
            seat if seat == gone => None,
            seat => Some(seat - usize::from(seat > gone)),
        };
        Some(match self {
            Self::Node(at) => Self::Node(seat(at)?),
            Self::Link(from, to) => Self::Link(seat(from)?, seat(to)?),
            Self::Cluster | Self::Request(_) | Self::Snapshot(_) => self,
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("all"),
            Self::Node(seat) => write!(f, "n{seat}"),
            Self::Link(from, to) => write!(f, "n{from}>n{to}"),
            Self::Request(operation) => {
                write!(f, "c{}#{}", operation >> 32, operation & 0xffff_ffff)
            }
            Self::Snapshot(number) => write!(f, "s{number}"),
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is no place");
        let number = |text: &str, letter: char| {
            let digits = text.strip_prefix(letter);
            digits.and_then(|digits| digits.parse::<u64>().ok())
        };
        let seat = |text: &str| number(text, 'n').and_then(|seat| usize::try_from(seat).ok());
        if text == "all" {
            return Ok(Self::Cluster);
        }
        let place = if let Some((from, to)) = text.split_once('>') {
            seat(from)
                .zip(seat(to))
                .map(|(from, to)| Self::Link(from, to))
        } else if let Some((client, operation)) = text.split_once('#') {
            let operation = operation.parse::<u32>().ok();
            let request = |(client, number)| Self::Request((client << 32) | u64::from(number));
            number(client, 'c').zip(operation).map(request)
        } else {
            let node = seat(text).map(Self::Node);
            node.or_else(|| number(text, 's').map(Self::Snapshot))
        };
        place.ok_or_else(bad)
    }
}

/// An occasion for a fault to happen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Occasion {
    /// Which fault.
    pub fault: Fault,
    /// Where.
    pub place: Place,
    /// The so-many-th time: names the stream that its particulars are drawn from.
    pub count: u64,
}

impl fmt::Display for Occasion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.fault, self.place, self.count)
    }
}

impl From<Occasion> for String {
    fn from(occasion: Occasion) -> Self {
        occasion.to_string()
    }
}

impl TryFrom<String> for Occasion {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Occasion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is no fault, place and number");
        let mut words = text.split(' ');
        let mut word = || words.next().ok_or_else(bad);
        let (fault, place, count) = (word()?.parse()?, word()?.parse()?, word()?);
        let count = count.parse().map_err(|_| bad())?;
        match words.next() {
            None => Ok(Self {
                fault,
                place,
                count,
            }),
            Some(_) => Err(bad()),
        }
    }
}

/// Decides about the faults of one run, counts them, and remembers them where a plan is wanted.
#[derive(Clone, Debug)]
pub struct Fates {
    /// How strong each kind is.
    pub dials: Dials,
    /// How often each kind happened.
    pub counters: Counters,
    /// What happens; chance decides where nothing is planned.
    planned: Option<BTreeSet<Occasion>>,
    /// What happened and when, where it is remembered.
    happened: Option<Vec<(Time, Occasion)>>,
    /// True time.
    pub now: Time,
}

impl Fates {
    /// Chance, as the dials have it.
    #[must_use]
    pub fn of_chance(dials: Dials) -> Self {
        Self {
            dials,
            counters: Counters::default(),
            planned: None,
            happened: None,
            now: Time(0),
        }
    }

    /// Only these occasions.
    #[must_use]
    pub fn planned(dials: Dials, occasions: BTreeSet<Occasion>) -> Self {
        Self {
            planned: Some(occasions),
            ..Self::of_chance(dials)
        }
    }

    /// From now on what happens is remembered.
    pub fn remember(&mut self) {
        self.happened = Some(Vec::new());
    }

    /// What happened since, in order.
    #[must_use]
    pub fn happened(&self) -> &[(Time, Occasion)] {
        self.happened.as_deref().unwrap_or_default()
    }

    /// Whether `fault` may happen on this occasion: as `chance` had it, or as planned. Where it
    /// does, [`note`](Self::note) is to be told.
    #[must_use]
    pub fn allow(&self, fault: Fault, place: Place, count: u64, chance: bool) -> bool {
        match &self.planned {
            None => chance,
            Some(planned) => planned.contains(&Occasion {
                fault,
                place,
                count,
            }),
        }
    }

    /// A fault that was allowed shows its effect.
    pub fn note(&mut self, fault: Fault, place: Place, count: u64) {
        self.counters.count(fault);
        self.remember_one(fault, place, count);
    }

    /// A fault was allowed whose effects, if any, are counted as they show.
    pub fn remember_one(&mut self, fault: Fault, place: Place, count: u64) {
        if let Some(happened) = &mut self.happened {
            let occasion = Occasion {
                fault,
                place,
                count,
            };
            happened.push((self.now, occasion));
        }
    }

    /// Both at once: whether `fault` happens here, now.
    pub fn strikes(&mut self, fault: Fault, place: Place, count: u64, chance: bool) -> bool {
        let strikes = self.allow(fault, place, count, chance);
        if strikes {
            self.note(fault, place, count);
        }
        strikes
    }

    /// An effect of a fault that was decided about before.
    pub const fn count(&mut self, fault: Fault) {
        self.counters.count(fault);
    }

    /// All faults end.
    pub fn end(&mut self) {
        self.dials = Dials::off();
        self.planned = None;
    }

    /// What decides about one place at one time.
    pub const fn at(&mut self, place: Place, count: u64) -> Here<'_> {
        Here {
            fates: self,
            place,
            count,
        }
    }
}

/// The fates of one place at one time.
#[derive(Debug)]
pub struct Here<'a> {
    fates: &'a mut Fates,
    place: Place,
    count: u64,
}

impl Here<'_> {
    /// How strong each kind is.
    #[must_use]
    pub const fn dials(&self) -> &Dials {
        &self.fates.dials
    }

    /// [`Fates::allow`], where chance has it whenever the kind is on.
    #[must_use]
    pub fn allow(&self, fault: Fault) -> bool {
        let chance = self.fates.dials.on(fault);
        self.fates.allow(fault, self.place, self.count, chance)
    }

    /// [`Fates::note`].
    pub fn note(&mut self, fault: Fault) {
        self.fates.note(fault, self.place, self.count);
    }

    /// [`Fates::remember_one`].
    pub fn remember(&mut self, fault: Fault) {
        self.fates.remember_one(fault, self.place, self.count);
    }

    /// [`Fates::count`].
    pub const fn count(&mut self, fault: Fault) {
        self.fates.count(fault);
    }

    /// [`Fates::strikes`].
    pub fn strikes(&mut self, fault: Fault, chance: bool) -> bool {
        self.fates.strikes(fault, self.place, self.count, chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn occasions_are_read_back() {
        let places = [
            Place::Cluster,
            Place::Node(3),
            Place::Link(0, 2),
            Place::Request((7 << 32) | 9),
            Place::Snapshot(4),
        ];
        for place in places {
            let occasion = Occasion {
                fault: Fault::N12,
                place,
                count: 1 << 33,
            };
            assert_eq!(occasion.to_string().parse(), Ok(occasion));
        }
        for bad in [
            "",
            "N2",
            "N2 n0",
            "N2 x0 1",
            "N99 n0 1",
            "N2 n0>n 1",
            "N2 n0 1 2",
        ] {
            assert!(bad.parse::<Occasion>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_plan_overrules_chance_and_what_happens_is_remembered() {
        let occasion = Occasion {
            fault: Fault::N2,
            place: Place::Link(0, 1),
            count: 5,
        };
        let mut fates = Fates::planned(Dials::off(), BTreeSet::from([occasion]));
        fates.remember();
        assert!(fates.strikes(Fault::N2, Place::Link(0, 1), 5, false));
        assert!(!fates.strikes(Fault::N2, Place::Link(0, 1), 6, true));
        assert_eq!(fates.happened(), [(Time(0), occasion)]);
        assert_eq!(fates.counters.of(Fault::N2), 1);
        let mut fates = Fates::of_chance(Dials::off());
        assert!(fates.strikes(Fault::N2, Place::Link(0, 1), 6, true));
        assert_eq!(fates.happened(), []);
    }

    #[test]
    fn places_close_ranks_when_a_node_is_gone() {
        assert_eq!(Place::Link(0, 2).without(1), Some(Place::Link(0, 1)));
        assert_eq!(Place::Link(0, 2).without(2), None);
        assert_eq!(Place::Node(0).without(1), Some(Place::Node(0)));
        assert_eq!(Place::Cluster.without(0), Some(Place::Cluster));
    }
}
