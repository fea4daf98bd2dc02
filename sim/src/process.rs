//! When nodes crash, pause and start again.

use std::time::Duration;

use crate::clock::nanos;
use crate::fault::{Fault, Kind};
use crate::rng::Draw;

/// What can happen to processes.
pub const FAULTS: &[Kind] = &[
    Kind {
        fault: Fault::P1,
        what: "a node crashes",
        gap: 8,
    },
    Kind {
        fault: Fault::P2,
        what: "a node crashes between two effects of one step",
        gap: 8,
    },
    Kind {
        fault: Fault::P3,
        what: "a node crashes during recovery, again and again",
        gap: 0,
    },
    Kind {
        fault: Fault::P4,
        what: "all nodes lose power at one instant",
        gap: 25,
    },
    Kind {
        fault: Fault::P5,
        what: "a node stands still while its clock runs",
        gap: 8,
    },
    Kind {
        fault: Fault::P6,
        what: "one node has a slow processor",
        gap: 0,
    },
];

/// What can happen to processes, too, and what operators do to them.
pub const LATER: &[Kind] = &[
    Kind {
        fault: Fault::P7,
        what: "a node hears from a disk that was replaced, or from another cluster",
        gap: 4,
    },
    Kind {
        fault: Fault::P10,
        what: "a node is stopped in order, and started again (not of SIMULATION.md)",
        gap: 12,
    },
    Kind {
        fault: Fault::M8,
        what: "the leader is asked to hand over, to whomever",
        gap: 6,
    },
];

/// How long a crashed node stays down: mostly shorter than it takes to elect another leader, now
/// and then much longer.
pub fn downtime(unit: Duration, draw: &mut Draw) -> Duration {
    let mean = match draw.below(4) {
        0 => nanos(unit) / 20,
        1 | 2 => nanos(unit),
        _ => 5 * nanos(unit),
    };
    Duration::from_nanos(draw.skewed(mean))
}

/// How long a pause lasts: 1 ms to 60 s, seldom more than some election timeouts.
pub fn pause(unit: Duration, draw: &mut Draw) -> Duration {
    let mean = *draw.pick(&[10_000_000, nanos(unit) / 2, 2 * nanos(unit)]);
    Duration::from_nanos(draw.skewed(mean).clamp(1_000_000, 60_000_000_000))
}

/// The time until a fault of `kind` strikes again, at `intensity` percent.
pub fn gap(kind: &Kind, intensity: u64, unit: Duration, draw: &mut Draw) -> Duration {
    assert!(
        intensity > 0 && kind.gap > 0,
        "{} does not strike",
        kind.fault
    );
    let mean = u128::from(nanos(unit)) * u128::from(kind.gap) * 100 / u128::from(intensity);
    // Even up to twice the mean: faults come in bursts and leave windows of quiet.
    let most = u64::try_from(2 * mean).unwrap_or(u64::MAX);
    Duration::from_nanos(draw.below(most.max(1)))
}
