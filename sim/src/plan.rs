//! A run spelled out: its knobs, every fault and every operation (SIMULATION.md §9).
//!
//! A seed is short and means another run as soon as the generator changes. A plan is long and keeps
//! its meaning: it says outright what the clients ask and when, and on which occasions faults
//! happen. What it leaves to the seed are particulars: how long a message takes that nothing
//! delays, which sectors a power cut leaves. They are drawn by the name of the occasion, so that
//! leaving one thing out does not change the others, on which [`shrink`](crate::shrink) depends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use quorate_core::Config;
use quorate_core::store::Settings;
use serde::{Deserialize, Serialize};

use crate::client::Wanted;
use crate::clock::Time;
use crate::fates::{Occasion, Place};
use crate::fault::{Dials, Fault, kinds};
use crate::options::{Options, Run};
use crate::world::KILLS;

/// The version of the form of a plan.
const FORMAT: u32 = 1;

/// A run, spelled out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    format: u32,
    /// The run it was made from; its seed decides about particulars.
    pub run: Run,
    /// Its knobs.
    pub knobs: Knobs,
    /// When chaos ends, and how.
    pub end: End,
    /// What happens, and to whom.
    pub faults: Vec<PlannedFault>,
    /// What clients do, in order.
    pub operations: Vec<PlannedOperation>,
}

/// How chaos ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// All faults stop, and the cluster must get on.
    Heal(Time),
    /// The run stops.
    Cut(Time),
}

/// The knobs of a run that do not only matter to those who draw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "named as in `Options`")]
pub struct Knobs {
    pub members: usize,
    pub clients: usize,
    pub patience: Duration,
    pub waits: u32,
    pub turn: Duration,
    pub segment_bytes: u64,
    pub fork_every: u64,
    /// Whether clusters are founded before the run.
    pub births: bool,
    pub dials: Dials,
    pub config: Config,
    pub settings: Settings,
}

/// A fault on its occasion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFault {
    /// When it happened. Only a fault that strikes now and then is told by this: the others happen
    /// when their occasion comes.
    pub at: Time,
    /// Which, where, and which time.
    pub fault: Occasion,
}

/// What a client begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedOperation {
    /// Not before.
    pub at: Time,
    /// Who.
    pub client: usize,
    /// What.
    pub wanted: Wanted,
}

impl Knobs {
    /// Those of `options`.
    #[must_use]
    pub fn of(options: &Options) -> Self {
        Self {
            members: options.members,
            clients: options.clients,
            patience: options.patience,
            waits: options.waits,
            turn: options.turn,
            segment_bytes: options.segment_bytes,
            fork_every: options.fork_every,
            births: options.births,
            dials: options.dials.clone(),
            config: options.config.clone(),
            settings: options.settings.clone(),
        }
    }

    fn options(&self, run: Run) -> Options {
        Options {
            members: self.members,
            clients: self.clients,
            patience: self.patience,
            waits: self.waits,
            turn: self.turn,
            segment_bytes: self.segment_bytes,
            fork_every: self.fork_every,
            births: self.births,
            dials: self.dials.clone(),
            config: self.config.clone(),
            settings: self.settings.clone(),
            ..Options::new(run)
        }
    }
}

impl Plan {
    /// A plan of what happened.
    #[must_use]
    pub fn new(
        options: &Options,
        end: End,
        faults: Vec<PlannedFault>,
        operations: Vec<PlannedOperation>,
    ) -> Self {
        Self {
            format: FORMAT,
            run: options.run,
            knobs: Knobs::of(options),
            end,
            faults,
            operations,
        }
    }

    /// The knobs of its run.
    #[must_use]
    pub fn options(&self) -> Options {
        self.knobs.options(self.run)
    }

    /// Reads what [`Display`](fmt::Display) wrote.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let plan: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if plan.format != FORMAT {
            return Err(format!("it has format {}, not {FORMAT}", plan.format));
        }
        let members = plan.knobs.members;
        if !(1..=7).contains(&members) {
            return Err(format!("{members} members; there can be one to seven"));
        }
        for operation in &plan.operations {
            let PlannedOperation { client, wanted, .. } = operation;
            if *client >= plan.knobs.clients || wanted.seat >= members {
                return Err(format!("client {client} asks n{}", wanted.seat));
            }
        }
        for PlannedFault { fault, .. } in &plan.faults {
            let is_there = match fault.place {
                Place::Node(seat) => seat < members,
                Place::Link(from, to) => from < members && to < members,
                Place::Cluster | Place::Request(_) | Place::Snapshot(_) => true,
            };
            if !is_there {
                return Err(format!("`{fault}` is none of {members} members'"));
            }
        }
        Ok(plan)
    }
}

/// JSON, with a line to each fault and each operation.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: Result<String, serde_json::Error>| value.map_err(|_| fmt::Error);
        writeln!(f, "{{\"format\": {},", self.format)?;
        writeln!(f, "\"run\": {},", text(serde_json::to_string(&self.run))?)?;
        writeln!(
            f,
            "\"knobs\": {},",
            text(serde_json::to_string_pretty(&self.knobs))?
        )?;
        writeln!(f, "\"end\": {},", text(serde_json::to_string(&self.end))?)?;
        list(f, "faults", &self.faults)?;
        writeln!(f, ",")?;
        list(f, "operations", &self.operations)?;
        writeln!(f, "}}")
    }
}

fn list(f: &mut fmt::Formatter<'_>, name: &str, items: &[impl Serialize]) -> fmt::Result {
    write!(f, "\"{name}\": [")?;
    for (place, item) in items.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        let item = serde_json::to_string(item).map_err(|_| fmt::Error)?;
        write!(f, "{comma}\n{item}")?;
    }
    write!(f, "]")
}

/// What a world follows that runs by a plan.
#[derive(Clone, Debug)]
pub struct Script {
    /// When chaos ends.
    pub end: End,
    /// The faults that strike now and then: when, the number of the kind, and which time.
    pub strikes: Vec<(Time, usize, u64)>,
    /// Kills of the leader: when, and which time.
    pub kills: Vec<(Time, u64)>,
    /// What each client still has to do.
    pub operations: BTreeMap<usize, VecDeque<PlannedOperation>>,
    victims: BTreeMap<(Fault, u64), usize>,
}

impl Script {
    /// That of `plan`.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let mut script = Self {
            end: plan.end,
            strikes: Vec::new(),
            kills: Vec::new(),
            operations: BTreeMap::new(),
            victims: BTreeMap::new(),
        };
        for &PlannedFault { at, fault } in &plan.faults {
            let Occasion {
                fault,
                place,
                count,
            } = fault;
            if let Place::Node(seat) = place {
                script.victims.insert((fault, count), seat);
            }
            let number = kinds().position(|kind| kind.fault == fault && kind.gap > 0);
            if fault == Fault::P1 && count >= KILLS {
                script.kills.push((at, count - KILLS));
            } else if let Some(number) = number.filter(|_| count < KILLS) {
                script.strikes.push((at, number, count));
            }
        }
        for operation in &plan.operations {
            let queue = script.operations.entry(operation.client).or_default();
            queue.push_back(operation.clone());
        }
        script
    }

    /// Whom a fault strikes that strikes now and then.
    #[must_use]
    pub fn victim(&self, fault: Fault, count: u64) -> usize {
        self.victims.get(&(fault, count)).copied().unwrap_or(0)
    }
}

/// The occasions of a plan.
#[must_use]
pub fn occasions(plan: &Plan) -> BTreeSet<Occasion> {
    plan.faults.iter().map(|planned| planned.fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Profile;
    use crate::run::{Look, planned, run_plan};

    fn look() -> Look {
        Look::default()
    }

    #[test]
    fn a_plan_is_the_run_it_was_made_from_and_is_read_back() {
        for profile in Profile::ALL {
            let run = Run { profile, seed: 5 };
            let (report, plan) = planned(run, look());
            assert_eq!(report.failure.map(|failure| failure.violation), None);
            let read = Plan::parse(&plan.to_string()).expect("it is a plan");
            assert!(read == plan, "{run} is not read back");
            let again = run_plan(&read, look());
            assert_eq!(
                again.failure.map(|failure| failure.violation),
                None,
                "{run}"
            );
            assert_eq!(again.hash, report.hash, "{run} is another run by its plan");
        }
    }

    #[test]
    fn what_is_left_out_of_a_plan_does_not_happen() {
        let run = "swarm:6".parse().expect("a run");
        let (report, mut plan) = planned(run, look());
        assert!(report.counters.total() > 0 && report.operations > 0);
        plan.faults.clear();
        plan.operations.truncate(7);
        plan.end = End::Cut(Time(9_000_000_000));
        let again = run_plan(&plan, look());
        assert_eq!(again.failure.map(|failure| failure.violation), None);
        assert_eq!(again.operations, 7);
        // What clients ask for may be large or read slowly; founding clusters is apart.
        let apart = [Fault::K5, Fault::K8, Fault::P8];
        for kind in kinds().filter(|kind| !apart.contains(&kind.fault)) {
            assert_eq!(again.counters.of(kind.fault), 0, "{}", kind.fault);
        }
    }

    #[test]
    fn a_plan_that_makes_no_sense_is_refused() {
        let (_, plan) = planned("tiny:1".parse().expect("a run"), look());
        let bad = |change: fn(&mut Plan)| {
            let mut plan = plan.clone();
            change(&mut plan);
            Plan::parse(&plan.to_string()).expect_err("it makes no sense")
        };
        bad(|plan| plan.format = 0);
        bad(|plan| plan.knobs.members = 0);
        bad(|plan| plan.knobs.clients = 0);
        bad(|plan| plan.operations[0].wanted.seat = 9);
        assert!(Plan::parse("").is_err() && Plan::parse("{}").is_err());
    }
}
