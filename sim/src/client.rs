//! Clients: each does one thing at a time, and watches several things all the time.
//!
//! A client that loses its answer knows nothing of the outcome; with a request id it asks again, at
//! another node. What it does with answers follows from them alone, so that checks on or off make
//! no difference.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_core::store::{Body, ClientRequest, Consistency, Event, Filter, Response, Value};
use quorate_core::{EndReason, NodeId, RequestError, Revision, WatchId};
use serde::{Deserialize, Serialize};

use crate::check::linearizability::Asked;
use crate::fates::Here;
use crate::fault::{Dials, Fault, Kind};
use crate::options::Options;
use crate::rng::{Draw, Purpose, Seed};
use crate::workload::{Memory, Wish, wish};

/// What clients do.
pub const FAULTS: &[Kind] = &[
    Kind {
        fault: Fault::K2,
        what: "a client repeats a request, under the same id, at another node",
        gap: 0,
    },
    Kind {
        fault: Fault::K3,
        what: "a request reaches its node twice",
        gap: 0,
    },
    Kind {
        fault: Fault::K9,
        what: "a client asks any node, not the one that last led",
        gap: 0,
    },
];

/// What clients do, too.
pub const LATER: &[Kind] = &[
    Kind {
        fault: Fault::K1,
        what: "a client gives up before it can be answered: it does not know the outcome",
        gap: 0,
    },
    Kind {
        fault: Fault::K4,
        what: "a client dies: its request, its session and its watches are left behind",
        gap: 10,
    },
    Kind {
        fault: Fault::K5,
        what: "a watcher reads for a second before it asks for more",
        gap: 0,
    },
    Kind {
        fault: Fault::K6,
        what: "a watch is cut, and resumed at any node",
        gap: 4,
    },
    Kind {
        fault: Fault::K7,
        what: "all watches are cut at once, and resumed at once",
        gap: 15,
    },
    Kind {
        fault: Fault::K8,
        what: "a value is a hundred times as large as others",
        gap: 0,
    },
];

/// Open watches of one client; one more closes the oldest.
const STREAMS_MAX: usize = 4;

/// K5: so long the slowest watchers read.
const SLOWEST_MILLIS: u64 = 1_000;

/// So often an operation is tried.
const ATTEMPTS_MAX: u64 = 12;

/// One client.
#[derive(Debug)]
pub struct Client {
    /// Which.
    pub number: usize,
    /// Operations begun.
    pub begun: u64,
    /// What it waits for.
    pub pending: Option<Pending>,
    /// Its watches, by stream.
    pub streams: BTreeMap<u64, Stream>,
    memory: Memory,
    /// Of its numbered requests: the last one.
    sequence: u64,
    /// K4: so often it died.
    lives: u64,
    /// The node it asks first.
    favourite: usize,
    /// The client apart: it does not give up a request that it may repeat, and repeats no other.
    is_persistent: bool,
}

/// An operation without an answer yet.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Its number, unique in the run.
    pub operation: u64,
    /// What is asked.
    pub asked: Asked,
    /// Which try.
    pub attempt: u64,
    /// The node asked.
    pub seat: usize,
}

impl Pending {
    /// Whether it carries a request id, and so may be repeated.
    #[must_use]
    pub fn is_named(&self) -> bool {
        matches!(&self.asked, Asked::Write(command) if command.client.is_some())
    }
}

/// One stream of events, over any number of watches.
#[derive(Clone, Debug)]
pub struct Stream {
    /// What it wants.
    pub filter: Filter,
    /// Where it goes on; `None` is now.
    pub next: Option<Revision>,
    /// One event is enough.
    pub once: bool,
    /// How often it was opened.
    pub opened: u64,
    /// The watch that is open now, and where.
    pub open: Option<(WatchId, usize)>,
    /// Events that may still come before it says that it has read on.
    pub credit: u32,
    /// How much it takes at a time, and how long it reads.
    pub pace: (u32, Duration),
}

/// What a client does next.
#[derive(Clone, Debug)]
pub enum Step {
    /// Asks `seat`.
    Ask {
        /// Whom.
        seat: usize,
        /// After that long.
        after: Duration,
    },
    /// It is over: known, or unknown for good.
    Over,
}

impl Client {
    /// A client that has done nothing yet.
    #[must_use]
    pub fn new(number: usize, options: &Options) -> Self {
        Self {
            number,
            begun: 0,
            pending: None,
            streams: BTreeMap::new(),
            memory: Memory::default(),
            sequence: 0,
            lives: 0,
            favourite: number % options.members,
            is_persistent: number == options.clients,
        }
    }

    /// Draws what it wants next.
    pub fn wants(
        &mut self,
        seed: Seed,
        options: &Options,
        dials: &Dials,
        paths: &[quorate_core::store::Path],
    ) -> Wanted {
        let number = self.begun + 1;
        let client = self.number as u64;
        let mut draw = seed.draw(Purpose::Workload, client, number);
        let name = self.name(options, number, &mut draw);
        let mix = &options.mix;
        let mut wish = wish(mix, paths, client, number, &self.memory, name, &mut draw);
        let mut apart = seed.draw(Purpose::Wish, client, number);
        if apart.percent(dials.scale(Fault::K8, 20)) {
            wish.swell(apart.place(4_000));
        }
        let name = format!("{client}.{number}");
        wish.vary(&self.memory, &name, &options.settings, &mut apart);
        let (mut seat, mut pace) = (self.favourite, (1_000, Duration::ZERO));
        match &wish {
            Wish::Watch { .. } => {
                let take = *draw.pick(&[1, 2, 10, 1_000]);
                let slow = *draw.pick(&[0, 1, 20, SLOWEST_MILLIS]);
                pace = (take, Duration::from_millis(slow));
                if slow == SLOWEST_MILLIS && !dials.on(Fault::K5) {
                    pace.1 = Duration::ZERO;
                }
            }
            Wish::Write(_) | Wish::Read(_) => {
                let is_local = matches!(&wish, Wish::Read(query)
                    if matches!(query.consistency, Consistency::Local { .. }));
                let strays = is_local || draw.one_in(10);
                if strays || draw.percent(dials.scale(Fault::K9, 95)) {
                    seat = draw.place(options.members);
                }
            }
        }
        Wanted {
            number,
            seat,
            pace,
            wish,
        }
    }

    /// Begins what it wants: an operation, which is pending then, or a stream, which is to be
    /// opened.
    pub fn begin(&mut self, wanted: Wanted) -> Begun {
        self.begun = wanted.number;
        let operation = ((self.number as u64) << 32) | self.begun;
        let seat = wanted.seat;
        let asked = match wanted.wish {
            Wish::Watch {
                filter,
                since,
                once,
            } => {
                let stream = Stream {
                    filter,
                    next: since,
                    once,
                    opened: 0,
                    open: None,
                    credit: 0,
                    pace: wanted.pace,
                };
                self.streams.insert(operation, stream);
                let oldest = self.streams.first_key_value().map(|(&oldest, _)| oldest);
                let closed = oldest
                    .filter(|_| self.streams.len() > STREAMS_MAX)
                    .and_then(|oldest| Some((oldest, self.streams.remove(&oldest)?)));
                return Begun::Stream {
                    opened: operation,
                    closed,
                };
            }
            Wish::Write(command) => Asked::Write(command),
            Wish::Read(query) => Asked::Read(query),
        };
        self.pending = Some(Pending {
            operation,
            asked,
            attempt: 1,
            seat,
        });
        Begun::Operation { seat }
    }

    /// The answer to the try under way. `true` where it is over for the client.
    pub fn answered(
        &mut self,
        result: &Result<Response, RequestError>,
        seat_of: impl Fn(NodeId) -> Option<usize>,
        options: &Options,
        here: Here<'_>,
        draw: &mut Draw,
    ) -> Step {
        match result {
            Ok(response) => {
                self.learn(response);
                Step::Over
            }
            Err(RequestError::Store { header, .. }) => {
                self.memory.revision = self.memory.revision.max(header.revision);
                Step::Over
            }
            Err(RequestError::NotLeader { leader }) => {
                self.favourite = match leader.and_then(seat_of) {
                    Some(seat) => seat,
                    None => draw.place(options.members),
                };
                self.again(options.config.heartbeat_interval, draw)
            }
            Err(RequestError::Busy | RequestError::DiskFull | RequestError::Stopping) => {
                self.again(options.config.heartbeat_interval * 2, draw)
            }
            Err(RequestError::Dropped) => self.lost(options, here, draw),
        }
    }

    /// The try under way ended without an answer: its outcome is unknown.
    pub fn lost(&mut self, options: &Options, mut here: Here<'_>, draw: &mut Draw) -> Step {
        let Some(pending) = &self.pending else {
            return Step::Over;
        };
        self.favourite = draw.place(options.members);
        let persists = self.is_persistent;
        let repeatable = match &pending.asked {
            Asked::Write(command) => command.client.is_some() && (persists || draw.percent(80)),
            Asked::Read(_) => draw.percent(50),
        };
        let is_elsewhere = |draw: &mut Draw| draw.percent(here.dials().scale(Fault::K2, 100));
        if pending.is_named() && options.members > 1 {
            let is_elsewhere = is_elsewhere(draw);
            if here.strikes(Fault::K2, is_elsewhere) {
                let others = draw.place(options.members - 1);
                self.favourite = (pending.seat + 1 + others) % options.members;
            }
        }
        if repeatable {
            self.again(options.config.heartbeat_interval, draw)
        } else {
            Step::Over
        }
    }

    /// The node did not take the request in at all.
    pub fn refused(&mut self, options: &Options, draw: &mut Draw) -> Step {
        self.favourite = draw.place(options.members);
        self.again(options.config.heartbeat_interval, draw)
    }

    /// K4: what it waited for and knew is gone; it goes on as another.
    pub fn dies(&mut self) {
        self.pending = None;
        self.memory = Memory::default();
        self.sequence = 0;
        self.lives += 1;
    }

    /// An event came for `stream`. Returns what follows.
    pub fn notified(&mut self, stream: u64, event: &Event) -> Read {
        let Some(state) = self.streams.get_mut(&stream) else {
            return Read::On;
        };
        let index = event.id.index();
        state.next = Some(index.next());
        state.credit = state.credit.saturating_sub(1);
        self.memory.revision = self.memory.revision.max(index);
        if state.once {
            return Read::Enough;
        }
        if state.credit == 0 {
            Read::Pause(state.pace.1)
        } else {
            Read::On
        }
    }

    /// A watch of `stream` ended. Whether it is to be opened again.
    pub fn ended(&mut self, stream: u64, reason: EndReason, resume: Revision) -> bool {
        let Some(state) = self.streams.get_mut(&stream) else {
            return false;
        };
        state.open = None;
        match reason {
            EndReason::Stopping | EndReason::HistoryLost => {
                state.next = Some(resume);
                true
            }
            // What was cleared is gone, and too many are too many.
            EndReason::Cleared { .. } | EndReason::Busy => {
                self.streams.remove(&stream);
                false
            }
        }
    }

    fn again(&mut self, after: Duration, draw: &mut Draw) -> Step {
        let Some(pending) = &mut self.pending else {
            return Step::Over;
        };
        // Whoever probes for progress asks anew, of whom it chooses.
        let is_over = match self.is_persistent {
            true => !pending.is_named(),
            false => pending.attempt >= ATTEMPTS_MAX,
        };
        if is_over {
            return Step::Over;
        }
        pending.attempt += 1;
        pending.seat = self.favourite;
        Step::Ask {
            seat: self.favourite,
            after: after * u32::try_from(draw.between(1, 3)).expect("small"),
        }
    }

    fn name(&mut self, options: &Options, number: u64, draw: &mut Draw) -> Option<ClientRequest> {
        if !draw.percent(options.mix.named) {
            return None;
        }
        let client = self.number as u64 + (self.lives << 16);
        if draw.percent(30) {
            let text = format!("{client}:{number}");
            return Some(ClientRequest::Opaque(Value::from(text.as_str())));
        }
        let acked = self.sequence.saturating_sub(draw.below(3));
        self.sequence += 1;
        Some(ClientRequest::Numbered {
            client,
            sequence: self.sequence,
            acked,
        })
    }

    fn learn(&mut self, response: &Response) {
        self.memory.revision = self.memory.revision.max(response.header.revision);
        let mut saw = |path, node: &quorate_core::store::NodeState| {
            if let Some(value) = &node.value {
                self.memory.saw(path, value, node.modified.index());
            }
        };
        match &response.body {
            Body::Done => {}
            Body::Changed(event) => saw(&event.path, &event.node),
            Body::Found(tree) => {
                saw(&tree.path, &tree.node);
                for child in &tree.children {
                    saw(&child.path, &child.node);
                }
            }
        }
    }
}

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// Its so-many-th wish.
    pub number: u64,
    /// The node to ask first. A watch is opened anywhere.
    pub seat: usize,
    /// Of a watcher: how much it takes at a time, and how long it reads.
    pub pace: (u32, Duration),
    /// What.
    pub wish: Wish,
}

impl Wanted {
    /// K5: whether it watches, and is slow.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        let slowest = Duration::from_millis(SLOWEST_MILLIS);
        matches!(self.wish, Wish::Watch { .. }) && self.pace.1 >= slowest
    }
}

/// What a client begins.
#[derive(Clone, Debug)]
pub enum Begun {
    /// An operation at this node.
    Operation {
        /// Which.
        seat: usize,
    },
    /// A stream; perhaps another is closed for it.
    Stream {
        /// The new one.
        opened: u64,
        /// The old one.
        closed: Option<(u64, Stream)>,
    },
}

/// What a watcher does after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Waits for the next.
    On,
    /// Has what it wanted.
    Enough,
    /// Reads for that long before it asks for more.
    Pause(Duration),
}

/// The bytes that stand for an answer in the trace.
#[must_use]
pub fn digest(result: &Result<Response, RequestError>) -> u64 {
    let text = match result {
        Ok(Response { header, body }) => match body {
            Body::Changed(event) => format!("{}:{}", header.applied, event.id),
            Body::Done => format!("{}", header.applied),
            Body::Found(tree) => format!("{}:{}", header.applied, tree.children.len()),
        },
        Err(RequestError::Store { header, error }) => format!("{}:{error}", header.applied),
        Err(error) => error.to_string(),
    };
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}
