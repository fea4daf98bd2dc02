//! What clients ask for: every operation on keys, on few enough keys that they meet.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quorate_core::store::{
    Append, ClientRequest, Command, Compare, Consistency, Content, Delete, Filter, Operation, Path,
    Publish, Put, Query, Scope, Settings, Value, When,
};
use quorate_core::{NodeId, Revision};
use serde::{Deserialize, Serialize};

use crate::clock::nanos;
use crate::options::Profile;
use crate::rng::{Draw, Purpose, Seed};

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in SIMULATION.md §4")]
pub enum Kind {
    Get,
    StaleGet,
    List,
    ListAll,
    Set,
    Create,
    Update,
    SwapValue,
    SwapIndex,
    DropMatching,
    DeleteKey,
    DeleteEmpty,
    DeleteTree,
    MakeDirectory,
    Append,
    SetTtl,
    Refresh,
    DirectoryTtl,
    WatchOnce,
    WatchStream,
}

impl Kind {
    const ALL: [(Self, u64); 20] = [
        (Self::Get, 12),
        (Self::StaleGet, 5),
        (Self::List, 5),
        (Self::ListAll, 2),
        (Self::Set, 14),
        (Self::Create, 7),
        (Self::Update, 7),
        (Self::SwapValue, 6),
        (Self::SwapIndex, 6),
        (Self::DropMatching, 3),
        (Self::DeleteKey, 6),
        (Self::DeleteEmpty, 3),
        (Self::DeleteTree, 3),
        (Self::MakeDirectory, 3),
        (Self::Append, 6),
        (Self::SetTtl, 8),
        (Self::Refresh, 4),
        (Self::DirectoryTtl, 3),
        (Self::WatchOnce, 3),
        (Self::WatchStream, 4),
    ];
}

/// How often each kind is asked for, and on what.
#[derive(Clone, Debug)]
pub struct Mix {
    weights: [u64; Kind::ALL.len()],
    /// How many keys there are.
    pub keys: u64,
    /// How many times in a hundred a write carries a request id.
    pub named: u64,
    /// How many times in a hundred an operation comes in a burst.
    pub bursts: u64,
    ttl_max: Duration,
    /// TTLs are mostly one of these few.
    equal_ttls: bool,
}

impl Mix {
    /// The mix of one run: a random half of the kinds is off.
    #[must_use]
    pub fn new(profile: Profile, unit: Duration, draw: &mut Draw) -> Self {
        let mut weights = Kind::ALL.map(|(_, weight)| {
            let on = draw.percent(50);
            let strength = draw.between(1, 4);
            if on { weight * strength } else { 0 }
        });
        let mut favour = |kinds: &[(Kind, u64)]| {
            for &(kind, weight) in kinds {
                weights[kind as usize] = weight;
            }
        };
        // Without a write there is nothing to see.
        favour(&[(Kind::Set, 10)]);
        let mut ttl_max = unit * 8;
        match profile {
            Profile::TtlStorm | Profile::LeaderKiller => {
                let storm = [
                    (Kind::SetTtl, 60),
                    (Kind::Refresh, 20),
                    (Kind::DirectoryTtl, 15),
                ];
                favour(&storm);
                ttl_max = unit * 20;
            }
            Profile::WatchChurn => favour(&[(Kind::WatchStream, 25), (Kind::WatchOnce, 20)]),
            Profile::Lease => favour(&[(Kind::Get, 60), (Kind::Set, 20)]),
            Profile::LongQuiet => ttl_max = unit * 100,
            Profile::Swarm
            | Profile::Figure8
            | Profile::Powercut
            | Profile::Tiny
            | Profile::Snap
            | Profile::Stall
            | Profile::Drift
            | Profile::Whole => {}
        }
        Self {
            weights,
            keys: *draw.pick(&[1, 3, 10, 30, 100, 200]),
            named: *draw.pick(&[0, 20, 60, 100]),
            bursts: *draw.pick(&[0, 10, 50]),
            ttl_max,
            equal_ttls: draw.percent(50),
        }
    }

    /// The tree of keys and names in use: nested, hidden, and siblings that share a prefix.
    #[must_use]
    pub fn paths(&self, seed: Seed) -> Vec<Path> {
        const NAMES: [&str; 8] = ["foo", "foobar", "_x", "a", "a!", "b", "dir", "dir2"];
        let mut paths = Vec::new();
        for number in 0..self.keys {
            let mut draw = seed.draw(Purpose::Keys, number, 0);
            let mut path = Path::root();
            for _ in 0..draw.between(1, 5).min(draw.between(1, 5)) {
                path = path.child(draw.pick(&NAMES).as_bytes());
            }
            if self.keys > 30 && draw.percent(60) {
                path = path.child(format!("k{number}").as_bytes());
            }
            paths.push(path);
        }
        paths
    }

    fn ttl(&self, draw: &mut Draw) -> Duration {
        const TICK: u64 = 100_000_000;
        let ticks = nanos(self.ttl_max) / TICK;
        let chosen = if self.equal_ttls {
            *draw.pick(&[1, 5, ticks / 4 + 1])
        } else {
            draw.between(1, ticks.max(1))
                .min(draw.between(1, ticks.max(1)))
        };
        // Now and then nothing at all: gone at the next expiry.
        Duration::from_nanos(if draw.one_in(40) { 0 } else { chosen * TICK })
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((kind, _), weight) in Kind::ALL.iter().zip(self.weights) {
            if weight > 0 {
                write!(f, "{kind:?}={weight} ")?;
            }
        }
        write!(
            f,
            "keys={} named={}% ttl<={:?}",
            self.keys, self.named, self.ttl_max
        )
    }
}

/// What a client wants next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Wish {
    /// A change.
    Write(Arc<Command>),
    /// An answer.
    Read(Query),
    /// A watch.
    Watch {
        /// Of what.
        filter: Filter,
        /// From where on.
        since: Option<Revision>,
        /// Ended after the first event.
        once: bool,
    },
}

/// Values that are longer than this are K8's.
const VALUE_BYTES_MAX: usize = 30;

impl Wish {
    /// K8: makes what it writes longer by so many bytes, if it writes anything.
    pub fn swell(&mut self, bytes: usize) {
        let Self::Write(command) = self else {
            return;
        };
        if let Some(value) = value_of(&mut Arc::make_mut(command).operation) {
            let mut long = value.to_vec();
            long.push(b' ');
            long.resize(VALUE_BYTES_MAX + 1 + bytes, b'x');
            *value = Value::new(&long);
        }
    }

    /// Makes a rarer form of it, now and then: at the root, on both conditions of a comparison, a
    /// refresh that creates or compares; or what no honest client says, that it has the answer to
    /// what it asks; or a word of a member about itself, under a `name` of its own; or limits
    /// unlike the `settings` that the run began with.
    pub fn vary(&mut self, memory: &Memory, name: &str, settings: &Settings, draw: &mut Draw) {
        let at_root = draw.one_in(40);
        let command = match self {
            Self::Write(command) => Arc::make_mut(command),
            Self::Read(query) => {
                if at_root {
                    query.path = Path::root();
                }
                return;
            }
            Self::Watch { .. } => return,
        };
        if let Some(ClientRequest::Numbered {
            sequence, acked, ..
        }) = &mut command.client
            && draw.one_in(20)
        {
            *acked = *sequence + draw.below(3);
        }
        if draw.one_in(60) {
            command.operation = Operation::Publish(Publish {
                member: NodeId(1 + draw.below(3)),
                name: name.to_owned(),
                client_urls: vec![format!("https://{name}")],
            });
        }
        if draw.one_in(100) {
            let history_events = match draw.percent(50) {
                true => settings.history_events,
                false => draw.between(0, 200),
            };
            command.operation = Operation::Configure(Settings {
                history_events,
                history_bytes: settings.history_bytes + draw.below(10_000),
                requests_max: settings.requests_max + draw.below(3),
                ..settings.clone()
            });
        }
        match &mut command.operation {
            Operation::Put(put) => {
                if put.content == Content::Kept && draw.one_in(3) {
                    put.when = match draw.percent(50) {
                        true => When::Missing,
                        false => When::Matches(memory.compare(&put.path)),
                    };
                }
                if let When::Matches(compare) = &mut put.when {
                    memory.complete(&put.path, compare, draw);
                }
                if at_root {
                    put.path = Path::root();
                }
            }
            Operation::Append(append) => {
                if at_root {
                    append.directory = Path::root();
                }
            }
            Operation::Delete(delete) => {
                if let Scope::Matches(compare) = &mut delete.scope {
                    memory.complete(&delete.path, compare, draw);
                }
                if at_root {
                    delete.path = Path::root();
                }
            }
            Operation::Configure(_) | Operation::Publish(_) => {}
        }
    }

    /// K8: whether it writes such a value.
    #[must_use]
    pub fn is_large(&self) -> bool {
        let Self::Write(command) = self else {
            return false;
        };
        let mut operation = command.operation.clone();
        value_of(&mut operation).is_some_and(|value| value.len() > VALUE_BYTES_MAX)
    }
}

fn value_of(operation: &mut Operation) -> Option<&mut Value> {
    match operation {
        Operation::Put(Put {
            content: Content::Value(value),
            ..
        }) => Some(value),
        Operation::Append(append) => append.value.as_mut(),
        Operation::Put(_)
        | Operation::Delete(_)
        | Operation::Configure(_)
        | Operation::Publish(_) => None,
    }
}

/// What a client remembers of the answers it got.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    seen: BTreeMap<Path, (Value, Revision)>,
    /// The highest store index seen.
    pub revision: Revision,
}

impl Memory {
    /// Remembers a key.
    pub fn saw(&mut self, path: &Path, value: &Value, modified: Revision) {
        self.seen.insert(path.clone(), (value.clone(), modified));
    }

    /// The value that was last seen at `path`, or one that nobody writes.
    fn compare(&self, path: &Path) -> Compare {
        let seen = self.seen.get(path);
        Compare {
            value: Some(seen.map_or_else(|| "nobody".into(), |(value, _)| value.clone())),
            modified: None,
        }
    }

    /// Adds the condition that is not given, of a key that was seen: one of the two may be right
    /// and the other not.
    fn complete(&self, path: &Path, compare: &mut Compare, draw: &mut Draw) {
        if let Some((value, modified)) = self.seen.get(path)
            && draw.one_in(3)
        {
            compare.value.get_or_insert_with(|| value.clone());
            compare.modified.get_or_insert(*modified);
        }
    }
}

/// Draws what client number `client` wants as its `sequence`-th operation.
#[must_use]
pub fn wish(
    mix: &Mix,
    paths: &[Path],
    client: u64,
    sequence: u64,
    memory: &Memory,
    name: Option<ClientRequest>,
    draw: &mut Draw,
) -> Wish {
    let (kind, _) = Kind::ALL[draw.weighted(&mix.weights)];
    let path = choose(paths, draw);
    // Unique: a value seen names its writer.
    let value = Value::from(format!("{client}.{sequence}").as_str());
    let known = memory.seen.get(&path).cloned().filter(|_| draw.percent(80));
    let put = |path: Path, content, when, ttl| {
        Operation::Put(Put {
            path,
            content,
            when,
            ttl,
        })
    };
    let query = |path, recursive, consistency| {
        Wish::Read(Query {
            path,
            recursive,
            consistency,
        })
    };
    let above = path
        .parent()
        .filter(|parent| !parent.is_root())
        .unwrap_or_else(|| path.clone());
    let compare_value = Compare {
        value: Some(
            known
                .as_ref()
                .map_or_else(|| "nobody".into(), |known| known.0.clone()),
        ),
        modified: None,
    };
    let compare_index = Compare {
        value: None,
        modified: Some(known.map_or(Revision(1 + draw.below(9)), |known| known.1)),
    };
    let ttl = mix.ttl(draw);
    let short = draw.one_in(8).then_some(ttl);
    let operation = match kind {
        Kind::Get => return query(path, false, Consistency::Linearizable),
        Kind::StaleGet => {
            let at_least = if draw.percent(50) {
                memory.revision
            } else {
                Revision::ZERO
            };
            return query(path, draw.percent(20), Consistency::Local { at_least });
        }
        Kind::List => return query(above, false, Consistency::Linearizable),
        Kind::ListAll => {
            let from = if draw.percent(50) {
                Path::root()
            } else {
                above
            };
            return query(from, true, Consistency::Linearizable);
        }
        Kind::WatchOnce | Kind::WatchStream => {
            return watch(path, above, memory, kind == Kind::WatchOnce, draw);
        }
        Kind::Set => put(path, Content::Value(value), When::Always, short),
        Kind::Create => put(path, Content::Value(value), When::Missing, short),
        Kind::Update => put(path, Content::Value(value), When::Exists, short),
        Kind::SwapValue => put(
            path,
            Content::Value(value),
            When::Matches(compare_value),
            short,
        ),
        Kind::SwapIndex => put(
            path,
            Content::Value(value),
            When::Matches(compare_index),
            short,
        ),
        Kind::DropMatching => {
            let compare = if draw.percent(50) {
                compare_value
            } else {
                compare_index
            };
            Operation::Delete(Delete {
                path,
                scope: Scope::Matches(compare),
            })
        }
        Kind::DeleteKey => Operation::Delete(Delete {
            path,
            scope: Scope::Key,
        }),
        Kind::DeleteEmpty => Operation::Delete(Delete {
            path,
            scope: Scope::EmptyDirectory,
        }),
        Kind::DeleteTree => Operation::Delete(Delete {
            path: above,
            scope: Scope::Tree,
        }),
        Kind::MakeDirectory => {
            let when = if draw.percent(70) {
                When::Missing
            } else {
                When::Always
            };
            put(path, Content::Directory, when, short)
        }
        Kind::Append => {
            let value = draw.percent(90).then_some(value);
            Operation::Append(Append {
                directory: path,
                value,
                ttl: short,
            })
        }
        Kind::SetTtl => put(path, Content::Value(value), When::Always, Some(ttl)),
        Kind::Refresh => {
            let when = if draw.percent(60) {
                When::Exists
            } else {
                When::Always
            };
            put(path, Content::Kept, when, Some(ttl))
        }
        Kind::DirectoryTtl => {
            let when = if draw.percent(50) {
                When::Missing
            } else {
                When::Exists
            };
            put(above, Content::Directory, when, Some(ttl))
        }
    };
    Wish::Write(Arc::new(Command {
        client: name,
        operation,
    }))
}

fn watch(path: Path, above: Path, memory: &Memory, once: bool, draw: &mut Draw) -> Wish {
    let recursive = draw.percent(50);
    let path = match draw.below(4) {
        0 => Path::root(),
        1 => above,
        _ => path,
    };
    let now = memory.revision.0;
    let since = match draw.below(4) {
        0 => None,
        1 => Some(1 + draw.below(now.max(1))),
        2 => Some(now + draw.between(1, 20)),
        _ => Some(now.saturating_sub(draw.below(20)).max(1)),
    };
    Wish::Watch {
        filter: Filter { path, recursive },
        since: since.map(Revision),
        once,
    }
}

/// One of the paths, the first ones more often: the n-th about once in n times.
fn choose(paths: &[Path], draw: &mut Draw) -> Path {
    let end = draw.place(paths.len());
    let skewed = draw.place(end + 1);
    paths[skewed].clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_meet_and_the_first_ones_are_hot() {
        let mut draw = Seed::new(1).draw(Purpose::Workload, 0, 0);
        let mix = Mix {
            keys: 100,
            ..Mix::new(Profile::Swarm, Duration::from_secs(1), &mut draw)
        };
        let paths = mix.paths(Seed::new(1));
        assert_eq!(paths.len(), 100);
        let hits = (0..1000)
            .filter(|_| choose(&paths, &mut draw) == paths[0])
            .count();
        assert!(hits > 30, "{hits}");
    }

    #[test]
    fn every_kind_can_be_drawn() {
        for (place, (kind, _)) in Kind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, place);
        }
    }
}
