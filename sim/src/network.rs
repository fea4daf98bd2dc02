//! Packets between nodes: what is lost, late, doubled or cut off.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Time, nanos};
use crate::fates::{Fates, Here, Place};
use crate::fault::{Fault, Kind};
use crate::rng::{Draw, Purpose, Seed};

/// What the network can do.
pub const FAULTS: &[Kind] = &[
    Kind {
        fault: Fault::N1,
        what: "delay with a long tail",
        gap: 0,
    },
    Kind {
        fault: Fault::N2,
        what: "a message is lost",
        gap: 0,
    },
    Kind {
        fault: Fault::N3,
        what: "a message comes twice",
        gap: 0,
    },
    Kind {
        fault: Fault::N4,
        what: "an old message comes again, much later, across terms and restarts",
        gap: 0,
    },
    Kind {
        fault: Fault::N5,
        what: "a message is overtaken by later ones",
        gap: 0,
    },
    Kind {
        fault: Fault::N6,
        what: "the nodes fall into two parts that do not hear each other",
        gap: 12,
    },
    Kind {
        fault: Fault::N7,
        what: "one node sends and cannot hear, or hears and cannot send",
        gap: 12,
    },
    Kind {
        fault: Fault::N8,
        what: "two halves both reach one node, but not each other",
        gap: 16,
    },
    Kind {
        fault: Fault::N9,
        what: "a node's links are clogged, and all arrives at the end",
        gap: 8,
    },
    Kind {
        fault: Fault::N10,
        what: "a link keeps only so many messages in flight",
        gap: 0,
    },
    Kind {
        fault: Fault::N12,
        what: "one kind of message from one node is dropped for a while",
        gap: 10,
    },
    Kind {
        fault: Fault::N14,
        what: "a link goes up and down faster than the election timeout",
        gap: 10,
    },
];

/// What the network can do, too.
pub const LATER: &[Kind] = &[Kind {
    fault: Fault::N11,
    what: "a connection is reset: what was on its way is lost, and both ends learn of it later",
    gap: 8,
}];

/// What the network can do, at last.
pub const LATEST: &[Kind] = &[Kind {
    fault: Fault::N13,
    what: "a byte of a message is flipped: it is refused, as QUIC refuses it, and read by nobody",
    gap: 0,
}];

/// One packet: what the codec made of a message.
pub type Packet = Arc<[u8]>;

/// How many kinds of messages there are, as N12 tells them apart; snapshots are the last.
pub const KINDS: u64 = 12;

/// The kind of what a snapshot travels in.
pub const SNAPSHOT: u8 = 11;

const MILLI: u64 = 1_000_000;

/// All links of a cluster.
#[derive(Debug)]
pub struct Network {
    seed: Seed,
    seats: usize,
    /// The longest election timeout: what the length of a partition is measured in.
    unit: Duration,
    /// Per directed link, `from * seats + to`.
    links: Vec<Link>,
    cuts: Vec<Cut>,
}

#[derive(Debug)]
struct Link {
    /// Messages sent so far: names the stream that decides the next one's fate.
    sent: u64,
    base: Duration,
    mean: Duration,
    /// Arrival times of what is in flight, for N10.
    flying: VecDeque<Time>,
    capacity: usize,
    clogged_until: Time,
    /// N11: what was sent before and has not arrived by then is lost.
    reset: Time,
}

/// Something between nodes that lets messages of some links through no more, for a while.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    pub(crate) fault: Fault,
    pub(crate) until: Time,
    /// Links that are cut.
    pub(crate) links: Vec<bool>,
    /// N12: only messages of this kind.
    pub(crate) kind: Option<u8>,
    /// N14: cut and whole in turns of this length.
    pub(crate) period: Option<Duration>,
    pub(crate) since: Time,
}

impl Network {
    /// The network of `seats` nodes.
    #[must_use]
    pub fn new(seed: Seed, seats: usize, fates: &mut Fates, unit: Duration) -> Self {
        let links = (0..seats * seats).map(|link| {
            let place = Place::Link(link / seats, link % seats);
            let mut draw = seed.draw(Purpose::Message, link as u64, 0);
            Link::new(fates.at(place, 0), &mut draw)
        });
        Self {
            seed,
            seats,
            unit,
            links: links.collect(),
            cuts: Vec::new(),
        }
    }

    /// Sends a packet of `kind`; returns when it arrives, once, never, or more than once.
    pub fn send(
        &mut self,
        now: Time,
        from: usize,
        to: usize,
        kind: u8,
        fates: &mut Fates,
    ) -> Arrivals {
        let name = from * self.seats + to;
        let link = &mut self.links[name];
        link.sent += 1;
        let mut draw = self.seed.draw(Purpose::Message, name as u64, link.sent);
        if let Some(fault) = self.cut(now, from, to, kind) {
            fates.count(fault);
            return Arrivals {
                noticed: draw.one_in(32),
                ..Arrivals::default()
            };
        }
        let link = &mut self.links[name];
        let mut here = fates.at(Place::Link(from, to), link.sent);
        let chance = |here: &Here<'_>, draw: &mut Draw, fault, full| {
            draw.percent(here.dials().scale(fault, full))
        };
        let is_lost = chance(&here, &mut draw, Fault::N2, 30);
        if here.strikes(Fault::N2, is_lost) {
            return Arrivals::default();
        }
        if here.dials().on(Fault::N13) {
            let mut spoils = self.seed.draw(Purpose::Spoil, name as u64, link.sent);
            let is_spoiled = spoils.percent(here.dials().scale(Fault::N13, 10));
            if here.strikes(Fault::N13, is_spoiled) {
                return Arrivals {
                    spoiled: Some(spoils.next_u64()),
                    ..Arrivals::default()
                };
            }
        }
        while link.flying.front().is_some_and(|&arrival| arrival <= now) {
            link.flying.pop_front();
        }
        if link.flying.len() >= link.capacity {
            here.count(Fault::N10);
            return Arrivals::default();
        }
        let mut arrivals = Arrivals::default();
        let mut at = link.arrival(now, &mut draw);
        let is_overtaken = chance(&here, &mut draw, Fault::N5, 50);
        if here.strikes(Fault::N5, is_overtaken) {
            at = at + Duration::from_nanos(draw.skewed(2 * nanos(link.base + link.mean)));
        }
        if link.clogged_until > at {
            here.count(Fault::N9);
            // Order is kept by the queue's insertion numbers.
            at = link.clogged_until;
        }
        link.flying.push_back(at);
        arrivals.push(at);
        let is_doubled = chance(&here, &mut draw, Fault::N3, 50);
        if here.strikes(Fault::N3, is_doubled) {
            arrivals.push(link.arrival(now, &mut draw).max(link.clogged_until));
        }
        let replays = here.dials().scale(Fault::N4, 200);
        let is_replayed = here.dials().on(Fault::N4) && draw.below(10_000) < replays;
        if here.strikes(Fault::N4, is_replayed) {
            arrivals.push(at + Duration::from_nanos(draw.skewed(nanos(self.unit) * 12)));
        }
        arrivals
    }

    /// Why a packet of `kind` cannot pass now.
    #[must_use]
    pub fn cut(&self, now: Time, from: usize, to: usize, kind: u8) -> Option<Fault> {
        let link = from * self.seats + to;
        self.cuts
            .iter()
            .find(|cut| cut.stops(now, link, kind))
            .map(|cut| cut.fault)
    }

    /// What lets messages of some links through no more.
    pub(crate) fn cuts(&self, now: Time) -> impl Iterator<Item = &Cut> {
        self.cuts.iter().filter(move |cut| cut.until > now)
    }

    /// Until when all links of `node` are clogged, if they are.
    pub(crate) fn clogged(&self, node: usize, now: Time) -> Option<Time> {
        let own = self.pairs().filter(|&(_, from, to)| {
            let is_own = from == node || to == node;
            is_own && from != to
        });
        let until = own.map(|(link, _, _)| self.links[link].clogged_until).min();
        until.filter(|&until| until > now)
    }

    /// Whether something keeps messages from passing now.
    #[must_use]
    pub fn is_disturbed(&self, now: Time) -> bool {
        let clogged = |link: &Link| link.clogged_until > now;
        self.cuts.iter().any(|cut| cut.until > now) || self.links.iter().any(clogged)
    }

    /// Whether a packet sent at `sent` was on its way when its connection was reset.
    #[must_use]
    pub fn was_reset(&self, from: usize, to: usize, sent: Time) -> bool {
        sent < self.links[from * self.seats + to].reset
    }

    /// N11: the connection between two nodes is reset.
    pub fn reset(&mut self, now: Time, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            self.links[from * self.seats + to].reset = now;
        }
    }

    /// When a piece of a stream that is sent now arrives: streams wait where messages are lost.
    pub fn stream(&self, now: Time, from: usize, to: usize, draw: &mut Draw) -> Time {
        let link = &self.links[from * self.seats + to];
        let way = link.base + Duration::from_nanos(draw.skewed(nanos(link.mean)));
        (now + way).max(link.clogged_until)
    }

    /// Makes a fault that strikes now and then happen, to `victim` or to whom it will, and
    /// returns whom.
    pub fn strike(
        &mut self,
        fault: Fault,
        now: Time,
        victim: Option<usize>,
        draw: &mut Draw,
    ) -> usize {
        self.cuts.retain(|cut| cut.until > now);
        // 1–100 E, mostly short.
        let held = Duration::from_nanos(draw.skewed(nanos(self.unit) * 6) + nanos(self.unit));
        let drawn = draw.place(self.seats);
        let node = victim.unwrap_or(drawn);
        let mut kind = None;
        let mut period = None;
        let links: Vec<bool> = match fault {
            Fault::N6 => {
                let side: Vec<bool> = match draw.below(3) {
                    0 => (0..self.seats).map(|seat| seat == node).collect(),
                    1 => (0..self.seats).map(|_| draw.percent(50)).collect(),
                    _ => self.halves(node),
                };
                self.links_where(|from, to| side[from] != side[to])
            }
            Fault::N7 => {
                let deaf = draw.percent(50);
                self.links_where(|from, to| if deaf { to == node } else { from == node })
            }
            Fault::N8 => {
                let side = self.halves(node);
                self.links_where(|from, to| side[from] != side[to] && from != node && to != node)
            }
            Fault::N9 => {
                let until = now + Duration::from_nanos(draw.between(MILLI, 5_000 * MILLI));
                self.clog(node, until);
                return node;
            }
            Fault::N12 => {
                kind = Some(u8::try_from(draw.below(KINDS)).expect("a few kinds"));
                self.links_where(|from, _| from == node)
            }
            Fault::N14 => {
                period = Some(Duration::from_nanos(
                    draw.between(MILLI, nanos(self.unit) / 2),
                ));
                let peer = (node + 1 + draw.place(self.seats - 1)) % self.seats;
                self.links_where(|from, to| {
                    (from, to) == (node, peer) || (from, to) == (peer, node)
                })
            }
            Fault::N1
            | Fault::N2
            | Fault::N3
            | Fault::N4
            | Fault::N5
            | Fault::N10
            | Fault::D1
            | Fault::D2
            | Fault::D3
            | Fault::D4
            | Fault::D5
            | Fault::D12
            | Fault::D15
            | Fault::C1
            | Fault::C2
            | Fault::C3
            | Fault::C6
            | Fault::P1
            | Fault::P2
            | Fault::P3
            | Fault::P4
            | Fault::P5
            | Fault::P6
            | Fault::C5
            | Fault::D6
            | Fault::D7
            | Fault::D8
            | Fault::P7
            | Fault::P10
            | Fault::M8
            | Fault::N11
            | Fault::D14
            | Fault::K2
            | Fault::K3
            | Fault::K9
            | Fault::D10
            | Fault::K1
            | Fault::K4
            | Fault::K5
            | Fault::K6
            | Fault::K7
            | Fault::K8
            | Fault::C4
            | Fault::C7
            | Fault::D9
            | Fault::D11
            | Fault::D13
            | Fault::N13
            | Fault::P8 => unreachable!("{fault} does not strike the network"),
        };
        self.cuts.push(Cut {
            fault,
            until: now + held,
            links,
            kind,
            period,
            since: now,
        });
        node
    }

    /// All faults end: every link is whole, fast and keeps what it is given.
    pub fn heal(&mut self) {
        self.cuts.clear();
        for link in &mut self.links {
            *link = Link {
                sent: link.sent,
                reset: link.reset,
                ..Link::quick()
            };
        }
    }

    /// Whatever `node` is sent or sends arrives then, and not before.
    pub fn clog(&mut self, node: usize, until: Time) {
        for (link, from, to) in self.pairs() {
            if from == node || to == node {
                self.links[link].clogged_until = until;
            }
        }
    }

    /// Cuts `node` off until then: what a machine that is suspended wakes up to.
    pub fn cut_off(&mut self, node: usize, now: Time, until: Time) {
        let links = self.links_where(|from, to| to == node || from == node);
        self.cuts.push(Cut {
            fault: Fault::N6,
            until,
            links,
            kind: None,
            period: None,
            since: now,
        });
    }

    /// Cuts `node` off for ever, in one direction or both, while the others are whole.
    pub fn isolate(&mut self, node: usize, hears: bool, speaks: bool) {
        let is_own = |from, to| (to == node && !hears) || (from == node && !speaks);
        self.cut_for_ever(Fault::N7, self.links_where(is_own));
    }

    /// Cuts the links between two nodes for ever, in both directions.
    pub fn part(&mut self, one: usize, other: usize) {
        let is_between = |from, to| [(one, other), (other, one)].contains(&(from, to));
        self.cut_for_ever(Fault::N8, self.links_where(is_between));
    }

    fn cut_for_ever(&mut self, fault: Fault, links: Vec<bool>) {
        self.cuts.push(Cut {
            fault,
            until: Time(u64::MAX),
            links,
            kind: None,
            period: None,
            since: Time(0),
        });
    }

    fn halves(&self, first: usize) -> Vec<bool> {
        (0..self.seats)
            .map(|seat| (seat + self.seats - first) % self.seats < self.seats.div_ceil(2))
            .collect()
    }

    fn links_where(&self, cut: impl Fn(usize, usize) -> bool) -> Vec<bool> {
        self.pairs().map(|(_, from, to)| cut(from, to)).collect()
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let seats = self.seats;
        (0..seats * seats).map(move |link| (link, link / seats, link % seats))
    }
}

impl Link {
    fn new(mut here: Here<'_>, draw: &mut Draw) -> Self {
        let mut link = Self::quick();
        let is_slow = here.dials().on(Fault::N1);
        if here.strikes(Fault::N1, is_slow) {
            let most = |full| here.dials().scale(Fault::N1, full);
            link.base = Duration::from_nanos(draw.below(1 + most(30 * MILLI)));
            link.mean = Duration::from_nanos(draw.below(1 + most(70 * MILLI)));
        }
        if here.allow(Fault::N10) {
            here.remember(Fault::N10);
            link.capacity = usize::try_from(draw.between(2, 20)).expect("up to 20");
        }
        link
    }

    fn quick() -> Self {
        Self {
            sent: 0,
            base: Duration::from_micros(200),
            mean: Duration::from_micros(50),
            flying: VecDeque::new(),
            capacity: usize::MAX,
            clogged_until: Time(0),
            reset: Time(0),
        }
    }

    fn arrival(&self, now: Time, draw: &mut Draw) -> Time {
        let mut tail = draw.skewed(nanos(self.mean));
        // Once in a while, a packet that every timeout has given up on.
        if nanos(self.mean) > MILLI && draw.one_in(500) {
            tail = draw.below(5_000 * MILLI);
        }
        now + self.base + Duration::from_nanos(tail)
    }
}

impl Cut {
    fn stops(&self, now: Time, link: usize, kind: u8) -> bool {
        let in_turn = self.period.is_none_or(|period| {
            (now.since(self.since).as_nanos() / period.as_nanos()).is_multiple_of(2)
        });
        now < self.until
            && self.links[link]
            && in_turn
            && self.kind.is_none_or(|dropped| dropped == kind)
    }
}

/// When a packet arrives: at most three times.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrivals {
    times: [Time; 3],
    len: usize,
    /// The transport notices that nothing arrives.
    pub noticed: bool,
    /// N13: what arrives is refused; a number that says how it is spoiled.
    pub spoiled: Option<u64>,
}

impl Arrivals {
    const fn push(&mut self, at: Time) {
        self.times[self.len] = at;
        self.len += 1;
    }

    /// The times, in no order.
    #[must_use]
    pub fn times(&self) -> &[Time] {
        &self.times[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Dials;

    fn network(dials: &Dials) -> (Network, Fates) {
        let mut fates = Fates::of_chance(dials.clone());
        let network = Network::new(Seed::new(1), 3, &mut fates, Duration::from_secs(1));
        (network, fates)
    }

    fn arrivals(dials: &Dials, count: usize) -> usize {
        let (mut network, mut fates) = network(dials);
        (0..count)
            .map(|_| network.send(Time(0), 0, 1, 0, &mut fates).times().len())
            .sum()
    }

    #[test]
    fn without_faults_everything_arrives_once() {
        assert_eq!(arrivals(&Dials::off(), 1000), 1000);
    }

    #[test]
    fn loss_and_duplication_are_as_strong_as_their_dials() {
        let lossy = Dials::off().with(&[(Fault::N2, 100)]);
        assert!((600..800).contains(&arrivals(&lossy, 1000)));
        let doubling = Dials::off().with(&[(Fault::N3, 100)]);
        assert!((1400..1600).contains(&arrivals(&doubling, 1000)));
    }

    #[test]
    fn a_one_way_cut_stops_one_way() {
        let (mut network, _) = network(&Dials::off());
        network.isolate(1, true, false);
        assert_eq!(network.cut(Time(9), 1, 0, 0), Some(Fault::N7));
        assert_eq!(network.cut(Time(9), 0, 1, 0), None);
        network.heal();
        assert_eq!(network.cut(Time(9), 1, 0, 0), None);
    }

    #[test]
    fn a_bridge_reaches_both_halves() {
        let (mut network, _) = network(&Dials::off());
        let mut draw = Seed::new(4).draw(Purpose::Fault, 0, 0);
        network.strike(Fault::N8, Time(0), None, &mut draw);
        let cut: Vec<_> = network
            .pairs()
            .filter(|&(link, ..)| network.cuts[0].stops(Time(1), link, 0))
            .collect();
        assert_eq!(cut.len(), 2, "one pair of nodes, both ways: {cut:?}");
    }
}
