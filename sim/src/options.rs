//! Every knob of a run, drawn from its seed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use quorate_core::Config;
use quorate_core::store::Settings;
use serde::{Deserialize, Serialize};

use crate::clock::nanos;
use crate::fault::{Dials, Fault};
use crate::rng::{Draw, Purpose, Seed};
use crate::workload::Mix;

/// Which faults and loads a run prefers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// A random half of everything is off, the rest has a strength of its own.
    #[default]
    Swarm,
    /// Leaders that crash after they appended, before what they appended is everywhere (Raft
    /// figure 8).
    Figure8,
    /// Many keys that live for a short while, many of them equally long.
    TtlStorm,
    /// Many watches, opened and cut all the time, and short history.
    WatchChurn,
    /// All nodes lose power, again and again.
    Powercut,
    /// All limits are one or two.
    Tiny,
    /// A long time with next to nothing to do.
    LongQuiet,
    /// The leader is killed every two election timeouts (SIMULATION.md T4).
    LeaderKiller,
    /// Leaders that do not know that they were gone, and many questions.
    Lease,
    /// Hardly any log is kept, and members lag behind it.
    Snap,
    /// Disks that hang for long, on a network without fault.
    Stall,
    /// Clocks that nobody can rely on: times to live mean nothing, all else still holds.
    Drift,
    /// Few operations of few clients, so that the whole store can be checked from outside at once
    /// (SIMULATION.md §8.2).
    Whole,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Swarm,
        Self::Figure8,
        Self::TtlStorm,
        Self::WatchChurn,
        Self::Powercut,
        Self::Tiny,
        Self::LongQuiet,
        Self::LeaderKiller,
        Self::Lease,
        Self::Snap,
        Self::Stall,
        Self::Drift,
        Self::Whole,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Swarm => "swarm",
            Self::Figure8 => "figure8",
            Self::TtlStorm => "ttl-storm",
            Self::WatchChurn => "watch-churn",
            Self::Powercut => "powercut",
            Self::Tiny => "tiny",
            Self::LongQuiet => "long-quiet",
            Self::LeaderKiller => "leader-killer",
            Self::Lease => "lease",
            Self::Snap => "snap",
            Self::Stall => "stall",
            Self::Drift => "drift",
            Self::Whole => "whole",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|profile| profile.name() == text);
        found.ok_or_else(|| {
            let names: Vec<_> = Self::ALL.into_iter().map(Self::name).collect();
            format!("no profile `{text}`; there are {}", names.join(", "))
        })
    }
}

/// A profile and a seed: the name of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Run {
    /// Its profile.
    pub profile: Profile,
    /// Its seed.
    pub seed: u64,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.profile, self.seed)
    }
}

impl From<Run> for String {
    fn from(run: Run) -> Self {
        run.to_string()
    }
}

impl TryFrom<String> for Run {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Run {
    type Err = String;

    /// `<profile>:<seed>`, or a seed of the swarm.
    fn from_str(text: &str) -> Result<Self, String> {
        let (profile, seed) = text.split_once(':').unwrap_or(("swarm", text));
        let seed = seed.parse().map_err(|_| format!("`{seed}` is no seed"))?;
        let profile = profile.parse()?;
        Ok(Self { profile, seed })
    }
}

/// The knobs of one run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name.
    pub run: Run,
    /// How many members, all of them voters.
    pub members: usize,
    /// How many clients.
    pub clients: usize,
    /// Chaos ends when the clients have asked for so much.
    pub operations: u64,
    /// The mean time between two operations of a client.
    pub think: Duration,
    /// How long a client waits for an answer.
    pub patience: Duration,
    /// So many times as long does it wait during chaos.
    pub waits: u32,
    /// Limits and timeouts of the members.
    pub config: Config,
    /// The replicated settings, asked for by the first operation.
    pub settings: Settings,
    /// Bytes of a WAL segment.
    pub segment_bytes: u64,
    /// The faults.
    pub dials: Dials,
    /// What clients ask for.
    pub mix: Mix,
    /// How long a member takes between an input and its outputs.
    pub turn: Duration,
    /// The mean time between two looks at forked disks (R11), in longest election timeouts; with 0
    /// they are looked at all the time.
    pub fork_every: u64,
    /// Whether clusters are founded before the run.
    pub births: bool,
}

impl Options {
    /// The knobs of `run`.
    #[must_use]
    pub fn new(run: Run) -> Self {
        let seed = Seed::new(run.seed);
        // Each concern has a stream of its own, so that a new knob leaves the others alone.
        let draw = |concern| seed.draw(Purpose::Options, run.profile as u64, concern);
        let config = config(run.profile, &mut draw(1));
        let unit = longest_election(&config);
        let mut size = draw(2);
        let members = *size.pick(&[1, 2, 3, 3, 3, 3, 4, 5, 5, 5]);
        let clients = usize::try_from(size.between(1, 16)).expect("up to 16");
        let operations = 300 + size.skewed(400).min(2_700);
        // With what clients wait for in vain, and the healing, about a minute and a half; at least
        // some 25 election timeouts.
        let length = Duration::from_secs(30).max(25 * unit);
        let think = nanos(length) * clients as u64 / operations;
        let mut options = Self {
            run,
            members,
            clients,
            operations,
            think: Duration::from_nanos(think),
            patience: unit * u32::try_from(size.between(1, 4)).expect("up to 4"),
            waits: waits(run.profile, &mut draw(8)),
            settings: settings(run.profile, &mut draw(3)),
            segment_bytes: *size.pick(&[4_096, 8_192, 16_384, 65_536]),
            dials: Dials::swarm(&mut draw(4)),
            mix: Mix::new(run.profile, unit, &mut draw(5)),
            turn: Duration::from_micros(*size.pick(&[0, 0, 20, 200])),
            fork_every: size.between(4, 14),
            births: true,
            config,
        };
        let log = log_bytes(run.profile, &mut draw(7));
        options.config.log_bytes_max = log.unwrap_or(options.config.log_bytes_max);
        // C4 has a profile of its own.
        options.dials.set(Fault::C4, 0);
        options.direct(&mut draw(6));
        if options.members == 1 && options.dials.on(Fault::D12) {
            // Who is alone with a full disk has nobody to hand over to: it refuses as soon as its
            // log needs a segment, which it should do before there is room again.
            options.segment_bytes = 4_096;
            options.dials.set(Fault::D12, 100);
        }
        options
    }

    /// The longest election timeout, E.
    #[must_use]
    pub fn unit(&self) -> Duration {
        longest_election(&self.config)
    }

    /// What a directed profile does to the swarm's knobs.
    fn direct(&mut self, draw: &mut Draw) {
        match self.run.profile {
            Profile::Swarm | Profile::TtlStorm | Profile::WatchChurn | Profile::Tiny => {}
            Profile::Figure8 => {
                self.members = *draw.pick(&[3, 5, 5]);
                self.dials = Dials::off().with(&[
                    (Fault::P2, 100),
                    (Fault::P1, draw.between(10, 100)),
                    (Fault::N1, draw.between(1, 30)),
                    (Fault::N2, draw.between(1, 50)),
                    (Fault::D3, 100),
                ]);
            }
            Profile::Powercut => {
                self.members = *draw.pick(&[1, 3, 5]);
                let dials = self.dials.clone();
                self.dials = dials.with(&[
                    (Fault::P4, 100),
                    // Who is alone with a full disk has nobody to hand over to.
                    (Fault::D12, if self.members == 1 { 100 } else { 20 }),
                    (Fault::D1, draw.between(10, 100)),
                    (Fault::D3, 100),
                    (Fault::D4, 100),
                    (Fault::D5, 100),
                ]);
            }
            Profile::LongQuiet => {
                self.operations = 60;
                self.clients = 2;
                self.think *= 10;
                self.dials = Dials::off().with(&[(Fault::C3, 100), (Fault::P1, 5)]);
            }
            Profile::Lease => {
                self.members = *draw.pick(&[3, 3, 5]);
                self.dials = Dials::off().with(&[
                    (Fault::N1, draw.between(1, 100)),
                    (Fault::C3, 100),
                    (Fault::C5, 100),
                    (Fault::P5, draw.between(1, 50)),
                ]);
            }
            Profile::Snap => {
                self.members = *draw.pick(&[3, 3, 4, 5]);
                self.config.checkpoint_bytes = *draw.pick(&[300, 1_000, 3_000]);
                let partition = *draw.pick(&[Fault::N6, Fault::N7, Fault::P1, Fault::P5]);
                let dials = self.dials.clone();
                self.dials = dials.with(&[
                    (partition, 100),
                    (Fault::P1, draw.between(10, 60)),
                    (Fault::N11, draw.between(0, 60)),
                    (Fault::D14, draw.between(0, 60)),
                    (Fault::D3, 100),
                ]);
            }
            Profile::Stall => {
                self.members = *draw.pick(&[3, 3, 5]);
                self.dials = Dials::off().with(&[
                    (Fault::D2, 100),
                    (Fault::C3, 100),
                    (Fault::P1, draw.between(0, 5)),
                    (Fault::K9, 100),
                ]);
            }
            Profile::Drift => {
                let drift = draw.between(10, 100);
                let dials = self.dials.clone();
                self.dials = dials.with(&[(Fault::C4, drift), (Fault::C6, 0)]);
            }
            Profile::Whole => {
                self.clients = self.clients.min(8);
                self.operations = draw.between(50, 200);
            }
            Profile::LeaderKiller => {
                self.members = *draw.pick(&[3, 5]);
                self.dials = Dials::off().with(&[
                    (Fault::C1, 50),
                    (Fault::C2, 50),
                    (Fault::C3, 100),
                    (Fault::D3, 100),
                ]);
            }
        }
    }
}

/// The longest election timeout of `config`.
#[must_use]
pub fn longest_election(config: &Config) -> Duration {
    2 * config.election_timeout
}

fn config(profile: Profile, draw: &mut Draw) -> Config {
    let heartbeat = Duration::from_millis(draw.between(20, 150));
    let tiny = profile == Profile::Tiny;
    // Half of the limits are as they ship, the others so low that rare paths become common.
    let mut low = |normal: usize, choices: &[usize]| {
        if tiny || draw.percent(50) {
            *draw.pick(if tiny { &choices[..2] } else { choices })
        } else {
            normal
        }
    };
    let shipped = Config::default();
    let mut config = Config {
        heartbeat_interval: heartbeat,
        batch_bytes_max: low(shipped.batch_bytes_max, &[1, 100, 1_000]),
        batch_entries_max: low(shipped.batch_entries_max, &[1, 2, 10]),
        uncommitted_bytes_max: low(shipped.uncommitted_bytes_max, &[400, 1_000, 10_000]),
        proposals_max: low(shipped.proposals_max, &[1, 2, 10]),
        reads_max: low(shipped.reads_max, &[1, 2, 10]),
        watches_max: low(shipped.watches_max, &[4, 8, 100]),
        watch_scan_max: low(shipped.watch_scan_max, &[1, 2, 10]),
        history_hot_bytes: low(shipped.history_hot_bytes, &[0, 1, 2_000]),
        checkpoint_bytes: low(20_000, &[500, 1_000, 5_000]),
        ..shipped
    };
    config.expiry_batch_max = *draw.pick(&[1, 2, 10, 256]);
    if tiny {
        config.expiry_batch_max = 1;
    }
    config.election_timeout = heartbeat * u32::try_from(draw.between(3, 10)).expect("small");
    config.seal_after = Duration::from_millis(draw.between(10, 300));
    config.checkpoint_interval = Duration::from_millis(draw.between(500, 60_000));
    config.check();
    config
}

/// How much log is kept for members that lag; `None` is as much as ships. An entry weighs some
/// hundred bytes.
fn log_bytes(profile: Profile, draw: &mut Draw) -> Option<usize> {
    let is_low = draw.percent(50);
    let low = *draw.pick(&[1, 500, 2_000, 10_000]);
    let entries = usize::try_from(draw.between(4, 20)).expect("a few");
    match profile {
        Profile::Snap => Some(entries * 120),
        Profile::LongQuiet => None,
        Profile::Swarm
        | Profile::Figure8
        | Profile::TtlStorm
        | Profile::WatchChurn
        | Profile::Powercut
        | Profile::Tiny
        | Profile::LeaderKiller
        | Profile::Lease
        | Profile::Drift
        | Profile::Stall
        | Profile::Whole => is_low.then_some(low),
    }
}

/// How much longer clients wait during chaos: in some runs until a snapshot has come, which hides
/// what became of what was asked before.
fn waits(profile: Profile, draw: &mut Draw) -> u32 {
    match profile {
        Profile::Snap => *draw.pick(&[1, 1, 10]),
        Profile::Swarm
        | Profile::Figure8
        | Profile::TtlStorm
        | Profile::WatchChurn
        | Profile::Powercut
        | Profile::LongQuiet
        | Profile::Tiny
        | Profile::LeaderKiller
        | Profile::Lease
        | Profile::Drift
        | Profile::Stall
        | Profile::Whole => 1,
    }
}

fn settings(profile: Profile, draw: &mut Draw) -> Settings {
    let shipped = Settings::default();
    let short = profile == Profile::WatchChurn || draw.percent(40);
    let history_events = match (short, draw.below(3)) {
        (false, _) | (true, 0) => 0,
        (true, _) => draw.between(1, 200),
    };
    Settings {
        history_events,
        history_bytes: if short {
            draw.between(1_000, 100_000)
        } else {
            shipped.history_bytes
        },
        history_age: if short && draw.percent(50) {
            Duration::from_secs(draw.between(1, 60))
        } else {
            shipped.history_age
        },
        slice_bytes: *draw.pick(&[200, 1_000, 10_000, shipped.slice_bytes]),
        request_age: Duration::from_secs(draw.between(1, 600)),
        requests_max: *draw.pick(&[1, 5, 50, shipped.requests_max]),
        request_bytes_max: shipped.request_bytes_max,
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "run {}: {} members, {} clients, {} operations, one every {:?} each, patience {:?}",
            self.run,
            self.members,
            self.clients,
            self.operations,
            self.think,
            self.patience * self.waits
        )?;
        writeln!(f, "faults: {}", self.dials)?;
        writeln!(f, "operations: {}", self.mix)?;
        writeln!(
            f,
            "turn {:?}, segments of {} bytes",
            self.turn, self.segment_bytes
        )?;
        writeln!(f, "{:?}", self.config)?;
        write!(f, "{:?}", self.settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_runs_are_read_back() {
        for profile in Profile::ALL {
            let run = Run { profile, seed: 7 };
            assert_eq!(run.to_string().parse(), Ok(run));
        }
        assert_eq!(
            "12".parse(),
            Ok(Run {
                profile: Profile::Swarm,
                seed: 12
            })
        );
        assert!("gale:1".parse::<Run>().is_err());
    }

    #[test]
    fn the_swarm_covers_sizes_and_leaves_about_half_of_the_faults_off() {
        let all: Vec<_> = (0..200)
            .map(|seed| {
                Options::new(Run {
                    profile: Profile::Swarm,
                    seed,
                })
            })
            .collect();
        for members in 1..=5 {
            assert!(all.iter().any(|options| options.members == members));
        }
        let on = |fault| all.iter().filter(|options| options.dials.on(fault)).count();
        for kind in crate::fault::kinds().filter(|kind| kind.fault != Fault::C4) {
            assert!((60..140).contains(&on(kind.fault)), "{}", kind.fault);
        }
    }
}
