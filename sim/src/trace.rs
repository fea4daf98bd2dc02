//! What happened, as one number: every event's kind, place, time and payload.

use std::fmt;

use xxhash_rust::xxh3::Xxh3;

use crate::clock::Time;

/// The hash of a run so far; equal runs have equal ones. Checks and printing do not feed it
/// (SIMULATION.md X5).
pub struct Trace {
    hasher: Xxh3,
    steps: u64,
}

impl Trace {
    /// Nothing happened yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            hasher: Xxh3::with_seed(0),
            steps: 0,
        }
    }

    /// Something of `kind` happened at `node`, with this payload.
    pub fn event(&mut self, now: Time, kind: u8, node: u64, payload: u64) {
        self.steps += 1;
        let mut line = [0; 25];
        line[0] = kind;
        line[1..9].copy_from_slice(&now.0.to_le_bytes());
        line[9..17].copy_from_slice(&node.to_le_bytes());
        line[17..].copy_from_slice(&payload.to_le_bytes());
        self.hasher.update(&line);
    }

    /// How many events.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// The hash.
    #[must_use]
    pub fn hash(&self) -> u128 {
        self.hasher.digest128()
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({} events, {:032x})", self.steps, self.hash())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_an_event_counts() {
        let hash = |time, kind, node, payload| {
            let mut trace = Trace::new();
            trace.event(Time(time), kind, node, payload);
            trace.hash()
        };
        let all = [
            hash(1, 1, 1, 1),
            hash(2, 1, 1, 1),
            hash(1, 2, 1, 1),
            hash(1, 1, 2, 1),
            hash(1, 1, 1, 2),
        ];
        for (place, one) in all.iter().enumerate() {
            assert!(!all[..place].contains(one));
        }
    }
}
