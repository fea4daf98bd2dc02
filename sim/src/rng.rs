//! All randomness of a run: one seed, one named generator, one stream per purpose and entity.
//!
//! A draw is keyed by its content, never by the order of calls: leaving out one client operation
//! does not reshuffle the delays of all other messages, on which shrinking depends (SIMULATION.md
//! §1). Only `next_u64` of the generator is used: ranges and picks are ours, since those of `rand`
//! may change between versions.

use rand::rngs::ChaCha12Rng;
use rand::{Rng, SeedableRng};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

/// What a number is drawn for. The numbers name streams: they are never reused, only appended to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Knobs of the run: cluster size, limits, dials of the faults.
    Options = 1,
    /// What becomes of one message on one link.
    Message = 2,
    /// When the next fault of a kind strikes, and what it does.
    Fault = 3,
    /// How long one job of a disk takes.
    DiskLatency = 4,
    /// What a crash leaves on one disk.
    DiskCrash = 5,
    /// The clocks of one node.
    Clock = 6,
    /// The generator inside one incarnation of a replica.
    Replica = 7,
    /// The next operation of one client.
    Workload = 8,
    /// The way of one request to a node and back.
    ClientLink = 9,
    /// The reading pace of one watcher.
    Watcher = 10,
    /// When to look at forked disks.
    Fork = 11,
    /// What one checkpoint does.
    Checkpoint = 12,
    /// Keys and their spread.
    Keys = 13,
    /// Who belongs to the core that is healed first.
    Heal = 14,
    /// How clusters are founded.
    Birth = 15,
    /// What becomes of durable records while a node is down.
    Damage = 16,
    /// How one snapshot travels.
    Snapshot = 17,
    /// What becomes of one request on its way, besides how long it takes.
    Request = 18,
    /// How a message is spoiled.
    Spoil = 19,
    /// How late one timer fires.
    Alarm = 20,
    /// What one wish of a client is like, besides what it asks for.
    Wish = 21,
}

/// The seed of a run.
#[derive(Clone, Copy, Debug)]
pub struct Seed {
    number: u64,
    key: [u8; 32],
}

impl Seed {
    /// The seed `number`.
    #[must_use]
    pub fn new(number: u64) -> Self {
        let mut key = [0; 32];
        for (half, salt) in key.chunks_exact_mut(16).zip(1..) {
            half.copy_from_slice(&xxh3_128_with_seed(&number.to_le_bytes(), salt).to_le_bytes());
        }
        Self { number, key }
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The stream of `purpose` for one entity and its `sequence`-th occasion.
    #[must_use]
    pub fn draw(&self, purpose: Purpose, entity: u64, sequence: u64) -> Draw {
        let mut name = [0; 16];
        name[..8].copy_from_slice(&entity.to_le_bytes());
        name[8..].copy_from_slice(&sequence.to_le_bytes());
        let mut stream = ChaCha12Rng::from_seed(self.key);
        stream.set_stream(xxh3_64_with_seed(&name, purpose as u64));
        Draw(stream)
    }
}

/// One stream of numbers.
#[derive(Debug)]
pub struct Draw(ChaCha12Rng);

impl Draw {
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`.
    ///
    /// # Panics
    /// Where `bound` is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing is below zero");
        // The high half of a widening product: biased by less than bound / 2^64.
        let product = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(product >> 64).expect("the high half of 128 bits fits 64")
    }

    /// A number from `least` through `most`.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        assert!(least <= most, "empty range {least}..={most}");
        least + self.below(most - least + 1)
    }

    /// A place in something of `len` parts.
    pub fn place(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("a place below a usize")
    }

    /// True `percent` times in a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// True once in `many`.
    pub fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    /// One of `choices`.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.place(choices.len())]
    }

    /// A place, as often as its weight says.
    ///
    /// # Panics
    /// Where all weights are zero.
    pub fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut rest = self.below(weights.iter().sum());
        for (place, &weight) in weights.iter().enumerate() {
            if rest < weight {
                return place;
            }
            rest -= weight;
        }
        unreachable!("the rest is below the sum of the weights")
    }

    /// A number around `mean` with a long tail, up to 12 times the mean. From a table, since
    /// logarithms differ between machines (SIMULATION.md §1.5).
    pub fn skewed(&mut self, mean: u64) -> u64 {
        // Quantiles of the exponential distribution at 1/32, 3/32, … 31/32, in thousandths; the
        // last step is drawn out into a tail.
        const QUANTILES: [u64; 16] = [
            32, 98, 170, 247, 330, 421, 521, 632, 757, 898, 1_065, 1_263, 1_511, 1_846, 2_360,
            3_466,
        ];
        let place = self.place(QUANTILES.len());
        let base = QUANTILES[place];
        let factor = if place == QUANTILES.len() - 1 && self.one_in(4) {
            self.between(base, 12_000)
        } else {
            base
        };
        let scaled = u128::from(mean) * u128::from(factor) / 1_000;
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_a_function_of_its_name() {
        let seed = Seed::new(1);
        let first = |purpose, entity, sequence| seed.draw(purpose, entity, sequence).next_u64();
        assert_eq!(first(Purpose::Message, 2, 3), first(Purpose::Message, 2, 3));
        assert_ne!(first(Purpose::Message, 2, 3), first(Purpose::Message, 3, 2));
        assert_ne!(first(Purpose::Message, 2, 3), first(Purpose::Fault, 2, 3));
        assert_ne!(
            first(Purpose::Message, 2, 3),
            Seed::new(2).draw(Purpose::Message, 2, 3).next_u64()
        );
    }

    /// What every version and machine must draw: a kept seed means nothing otherwise.
    #[test]
    fn the_streams_are_the_ones_they_always_were() {
        let mut draw = Seed::new(42).draw(Purpose::Message, 7, 9);
        let got = [draw.next_u64(), draw.next_u64(), draw.next_u64()];
        assert_eq!(
            got,
            [
                8_408_959_579_507_469_123,
                12_694_898_134_808_207_131,
                14_694_649_881_303_787_145
            ]
        );
    }

    #[test]
    fn numbers_stay_in_their_ranges() {
        let mut draw = Seed::new(3).draw(Purpose::Options, 0, 0);
        for _ in 0..1000 {
            assert!((5..=7).contains(&draw.between(5, 7)));
            assert!(draw.skewed(1000) <= 12_000);
            assert!([1, 3].contains(&draw.weighted(&[0, 2, 0, 1])));
        }
    }
}
