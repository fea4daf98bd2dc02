//! Birth under every order of events that a small cluster can have, and under random ones.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use quorate_core::rng::Rng;
use quorate_core::time::{Duration, Instant};
use quorate_core::{
    Birth, BirthError, BirthInput, BirthOutput, BirthRecord, BirthState, Confirmation, DiskId,
    Founder,
};
use xxhash_rust::xxh3::Xxh3;

/// Some members, their disks, and everything that was ever sent between them: it may arrive at any
/// time, in any order, again, or never.
#[derive(Clone)]
struct World {
    members: Vec<Member>,
    /// By digest.
    sent: BTreeMap<u64, Rc<Letter>>,
    wipes_left: u32,
    crashes_left: u32,
    /// How often a member challenges its peers in one life.
    challenges_max: u64,
    /// Answers and writes arrive at once: fewer orders, for larger clusters.
    is_prompt: bool,
    /// Every record that was ever on a disk.
    confirmable: BTreeSet<(DiskId, u128)>,
}

#[derive(Clone, Hash)]
struct Member {
    birth: Birth,
    founder: Founder,
    disk: BirthState,
    writing: Option<BirthState>,
    /// Challenges answered, whose answers are on their way.
    handshakes: Vec<(u64, Founder)>,
    challenges: u64,
    /// The disk each peer last proved to have.
    met: BTreeMap<String, DiskId>,
    /// It serves, with this record.
    born: Option<BirthRecord>,
    errors: BTreeSet<BirthError>,
}

#[derive(Hash)]
struct Letter {
    from: usize,
    disk: DiskId,
    to: usize,
    confirmation: Confirmation,
}

/// What can happen next.
#[derive(Clone)]
enum Event {
    /// One challenges another, which answers.
    Challenge(usize, usize),
    /// An answer arrives: of those on their way, this one.
    Answer(usize, usize),
    Arrive(Rc<Letter>),
    Persist(usize),
    Crash(usize),
    Wipe(usize),
}

const NOW: Instant = Instant(1);

impl World {
    fn new(size: usize, wipes: u32, crashes: u32, challenges_max: u64) -> Self {
        let founders: Vec<_> = (0..size).map(|place| founder(place, 0)).collect();
        let listed: BTreeSet<_> = founders
            .iter()
            .map(|founder| founder.name.clone())
            .collect();
        let members = founders.into_iter().map(|founder| Member {
            birth: start(&founder, &listed, BirthState::default()),
            founder,
            disk: BirthState::default(),
            writing: None,
            handshakes: Vec::new(),
            challenges: 0,
            met: BTreeMap::new(),
            born: None,
            errors: BTreeSet::new(),
        });
        let mut world = Self {
            members: members.collect(),
            sent: BTreeMap::new(),
            wipes_left: wipes,
            crashes_left: crashes,
            challenges_max,
            is_prompt: false,
            confirmable: BTreeSet::new(),
        };
        (0..size).for_each(|place| world.poll(place));
        world
    }

    /// Everything that can happen next and may matter.
    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for (place, member) in self.members.iter().enumerate() {
            for (other, peer) in self.members.iter().enumerate() {
                // Two on their way are enough to arrive in the wrong order; a third tells no more.
                let answers = member.handshakes.iter();
                let on_their_way = answers.filter(|(_, founder)| founder.name == peer.founder.name);
                let is_new = !member
                    .handshakes
                    .iter()
                    .any(|(_, founder)| *founder == peer.founder);
                if place != other
                    && member.challenges < self.challenges_max
                    && is_new
                    && on_their_way.count() < 2
                    && !self.is_met(place, other)
                {
                    events.push(Event::Challenge(place, other));
                }
            }
            events.extend((0..member.handshakes.len()).map(|nth| Event::Answer(place, nth)));
            if member.writing.is_some() {
                events.push(Event::Persist(place));
            }
            if self.crashes_left > 0 {
                events.push(Event::Crash(place));
            }
            if self.wipes_left > 0 {
                events.push(Event::Wipe(place));
            }
        }
        events.extend(self.sent.values().cloned().map(Event::Arrive));
        events
    }

    /// Whether it is a letter that changes nothing: most do, and this is cheap to see.
    fn is_idle(&self, event: &Event) -> bool {
        let Event::Arrive(letter) = event else {
            return false;
        };
        let birth = &self.members[letter.to].birth;
        let mut next = birth.clone();
        next.step(letter.input());
        digest(birth) == digest(&next)
    }

    /// Whether `other` proved its present disk to `place` already.
    fn is_met(&self, place: usize, other: usize) -> bool {
        let peer = &self.members[other].founder;
        self.members[place].met.get(&peer.name) == Some(&peer.disk)
    }

    fn happen(&mut self, event: Event) {
        let place = match event {
            Event::Challenge(place, other) => {
                let founder = self.members[other].founder.clone();
                let member = &mut self.members[place];
                member.challenges += 1;
                member.handshakes.push((member.challenges, founder));
                place
            }
            Event::Answer(place, nth) => {
                let member = &mut self.members[place];
                let (challenge, founder) = member.handshakes.remove(nth);
                member.met.insert(founder.name.clone(), founder.disk);
                member
                    .birth
                    .step(BirthInput::Handshake { challenge, founder });
                place
            }
            Event::Arrive(letter) => {
                self.members[letter.to].birth.step(letter.input());
                letter.to
            }
            Event::Persist(place) => {
                let member = &mut self.members[place];
                member.disk = member.writing.take().expect("only where there is a write");
                member.birth.step(BirthInput::Persisted);
                if let Some(record) = &member.disk.record {
                    self.confirmable
                        .insert((member.founder.disk, record.hash()));
                }
                place
            }
            Event::Crash(place) => {
                self.crashes_left -= 1;
                self.restart(place);
                place
            }
            Event::Wipe(place) => {
                let formatted = u128::from(self.wipes_left);
                self.wipes_left -= 1;
                let member = &mut self.members[place];
                member.founder = founder(place, formatted);
                member.disk = BirthState::default();
                member.born = None;
                self.restart(place);
                place
            }
        };
        self.poll(place);
        if self.is_prompt {
            let member = &self.members[place];
            if !member.handshakes.is_empty() {
                self.happen(Event::Answer(place, 0));
            } else if member.writing.is_some() {
                self.happen(Event::Persist(place));
            }
        }
    }

    fn restart(&mut self, place: usize) {
        let listed = (0..self.members.len()).map(name).collect();
        let member = &mut self.members[place];
        member.birth = start(&member.founder, &listed, member.disk.clone());
        member.writing = None;
        member.handshakes.clear();
        member.challenges = 0;
        member.met.clear();
        member.born = None;
    }

    fn poll(&mut self, place: usize) {
        while let Some(output) = self.members[place].birth.poll(NOW) {
            let member = &mut self.members[place];
            match output {
                BirthOutput::Persist(state) => {
                    assert!(member.writing.is_none(), "two writes in flight");
                    member.writing = Some(state);
                }
                BirthOutput::Send { to, confirmation } => {
                    let on_disk = member.disk.record.as_ref().expect("speaks of a record");
                    assert_eq!(
                        confirmation.hash,
                        on_disk.hash(),
                        "said before it is on disk"
                    );
                    let to = place_of(&to);
                    let disk = member.founder.disk;
                    let letter = Letter {
                        from: place,
                        disk,
                        to,
                        confirmation,
                    };
                    self.sent.insert(digest(&letter), Rc::new(letter));
                }
                BirthOutput::Born(record) => {
                    assert_eq!(member.disk.record.as_ref(), Some(&record));
                    assert!(member.disk.born, "serves before its disk knows");
                    member.born = Some(record);
                }
                BirthOutput::Error(error) => {
                    member.errors.insert(error);
                }
            }
        }
    }

    /// No two serve different clusters that share a disk, and nobody serves one that some disk has
    /// not confirmed.
    fn check(&self) {
        let born: Vec<_> = self
            .members
            .iter()
            .filter_map(|member| member.born.as_ref())
            .collect();
        for record in &born {
            for founder in &record.founders {
                let hash = BirthRecord::hash(record);
                let confirmed = self.confirmable.contains(&(founder.disk, hash));
                assert!(confirmed, "born without {}", founder.name);
            }
            for other in &born {
                let shares = record
                    .founders
                    .iter()
                    .any(|founder| other.names(founder.disk));
                assert!(record == other || !shares, "two clusters share a disk");
            }
        }
    }

    /// Names the state: equal ones have the same future.
    fn digest(&self) -> u64 {
        let left = (self.wipes_left, self.crashes_left);
        let sent: Vec<_> = self.sent.keys().collect();
        digest(&(&self.members, sent, left, &self.confirmable))
    }
}

impl Letter {
    fn input(&self) -> BirthInput {
        let (from, confirmation) = (name(self.from), self.confirmation.clone());
        BirthInput::Confirm {
            from,
            disk: self.disk,
            confirmation,
        }
    }
}

fn digest(value: &impl Hash) -> u64 {
    let mut hasher = Xxh3::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn name(place: usize) -> String {
    format!("n{place}")
}

fn place_of(name: &str) -> usize {
    name[1..].parse().expect("n and a number")
}

fn founder(place: usize, formatted: u128) -> Founder {
    Founder {
        name: name(place),
        peer_urls: Vec::new(),
        disk: DiskId(100 * (1 + place as u128) + formatted),
        key: [0; 32],
    }
}

fn start(own: &Founder, listed: &BTreeSet<String>, state: BirthState) -> Birth {
    let interval = Duration::from_secs(1);
    Birth::new(
        String::from("token"),
        own.clone(),
        listed.clone(),
        state,
        interval,
        Instant(0),
    )
}

/// Searches all orders of events, or that many states picked anywhere among them; returns how many.
fn search(start: World, states_max: usize) -> usize {
    let mut rng = Rng::new(1);
    let mut seen = BTreeSet::new();
    let mut open = vec![start];
    while !open.is_empty() && seen.len() < states_max {
        let nth = usize::try_from(rng.below(open.len() as u64)).expect("small");
        let world = open.swap_remove(nth);
        for event in world.events() {
            if world.is_idle(&event) {
                continue;
            }
            let mut next = world.clone();
            next.happen(event);
            if seen.insert(next.digest()) {
                next.check();
                open.push(next);
            }
        }
    }
    seen.len()
}

#[test]
fn two_members_are_safe_in_every_order() {
    let states = search(World::new(2, 1, 0, 2), usize::MAX);
    assert!(states > 5000, "hardly a search: {states} states");
}

#[test]
fn three_members_are_safe_in_many_orders() {
    let mut world = World::new(3, 1, 0, 3);
    world.is_prompt = true;
    assert!(search(world, 8_000) >= 8_000);
}

/// Any events, wipes among them; then whatever can still happen happens.
fn random(seed: u64, size: usize, wipes: u32) -> World {
    let mut rng = Rng::new(seed);
    let mut world = World::new(size, wipes, 2, u64::MAX);
    for _ in 0..rng.below(400) {
        pick(&mut world, &mut rng);
        world.check();
    }
    (world.wipes_left, world.crashes_left) = (0, 0);
    for _ in 0..2000 {
        pick(&mut world, &mut rng);
        world.check();
    }
    world
}

fn pick(world: &mut World, rng: &mut Rng) {
    let mut events = world.events();
    // What is told again and again must not drown the rest.
    let kind = rng.below(4);
    let is_letter = |event: &Event| matches!(event, Event::Arrive(_));
    if events.iter().any(|event| !is_letter(event)) && kind > 0 {
        events.retain(|event| !is_letter(event));
    }
    if rng.below(30) > 0 {
        events.retain(|event| !matches!(event, Event::Wipe(_)));
    }
    if !events.is_empty() {
        let nth = usize::try_from(rng.below(events.len() as u64)).expect("small");
        world.happen(events.swap_remove(nth));
    }
}

/// All are born with one record; but after a wipe that came too late, the wiped are told so, and
/// the others are born without them.
#[test]
fn everyone_is_born_or_told_why_not() {
    let mut too_late = 0;
    for seed in 0..300 {
        let size = 2 + usize::try_from(seed % 3).expect("small");
        let world = random(seed, size, 1);
        let born: BTreeSet<_> = world
            .members
            .iter()
            .filter_map(|member| member.born.clone())
            .collect();
        assert_eq!(born.len(), 1, "seed {seed}: one record");
        let record = born.first().expect("one");
        for member in &world.members {
            if record.names(member.founder.disk) {
                assert_eq!(
                    member.born.as_ref(),
                    Some(record),
                    "seed {seed}: {}",
                    member.founder.name
                );
                assert!(member.birth.waiting_for().is_empty());
            } else {
                let member_name = member.founder.name.clone();
                let error = BirthError::NotFounded {
                    member: member_name,
                };
                assert!(member.errors.contains(&error), "seed {seed}: it is told");
                assert_eq!(member.born, None);
                too_late += 1;
            }
        }
    }
    assert!(too_late > 10, "hardly ever too late: {too_late}");
}

#[test]
fn random_wipes_and_crashes_are_safe() {
    for seed in 1000..1200 {
        let size = 3 + usize::try_from(seed % 2).expect("small");
        random(seed, size, 3);
    }
}

#[test]
fn alone_it_is_born_by_itself_and_stays_so() {
    let mut world = World::new(1, 0, 1, 9);
    world.happen(Event::Persist(0));
    world.happen(Event::Persist(0));
    let born = world.members[0].born.clone().expect("born");
    world.happen(Event::Crash(0));
    assert_eq!(
        world.members[0].born,
        Some(born),
        "and again after a restart, with nothing to write"
    );
    assert!(world.members[0].writing.is_none());
}

#[test]
fn alone_it_is_born_though_it_crashed_between_its_two_writes() {
    let mut world = World::new(1, 0, 1, 9);
    world.happen(Event::Persist(0));
    world.happen(Event::Crash(0));
    world.happen(Event::Persist(0));
    assert!(world.members[0].born.is_some());
}

#[test]
fn it_names_whom_it_waits_for() {
    let mut world = World::new(3, 0, 0, 9);
    assert_eq!(world.members[0].birth.waiting_for(), ["n1", "n2"]);
    world.happen(Event::Challenge(0, 2));
    world.happen(Event::Answer(0, 0));
    assert_eq!(world.members[0].birth.waiting_for(), ["n1"]);
    world.happen(Event::Challenge(0, 1));
    world.happen(Event::Answer(0, 0));
    assert_eq!(
        world.members[0].birth.waiting_for(),
        ["n1", "n2"],
        "not confirmed"
    );
}

#[test]
fn an_older_handshake_that_ends_later_is_ignored() {
    let mut world = World::new(2, 1, 0, 9);
    world.happen(Event::Challenge(0, 1));
    world.happen(Event::Wipe(1));
    world.happen(Event::Challenge(0, 1));
    world.happen(Event::Answer(0, 1));
    world.happen(Event::Answer(0, 0));
    world.happen(Event::Persist(0));
    let record = world.members[0]
        .disk
        .record
        .clone()
        .expect("both are known");
    assert!(record.names(world.members[1].founder.disk));
}

#[test]
fn strangers_and_copies_are_named() {
    let listed = BTreeSet::from([name(0), name(1), name(2)]);
    let mut birth = start(&founder(0, 0), &listed, BirthState::default());
    birth.step(BirthInput::Handshake {
        challenge: 1,
        founder: founder(7, 0),
    });
    let mut copy = founder(1, 0);
    copy.disk = founder(0, 0).disk;
    birth.step(BirthInput::Handshake {
        challenge: 2,
        founder: copy,
    });
    let not_listed = BirthError::NotListed { member: name(7) };
    assert_eq!(birth.poll(NOW), Some(BirthOutput::Error(not_listed)));
    let same_disk = BirthError::SameDisk {
        members: [name(0), name(1)],
    };
    assert_eq!(birth.poll(NOW), Some(BirthOutput::Error(same_disk)));
    assert_eq!(birth.poll(NOW), None);
}

#[test]
fn a_confirmation_is_repeated_until_born() {
    let mut world = World::new(2, 0, 0, 9);
    for event in [
        Event::Challenge(0, 1),
        Event::Answer(0, 0),
        Event::Persist(0),
    ] {
        world.happen(event);
    }
    let birth = &mut world.members[0].birth;
    let due = birth.deadline().expect("asks again");
    assert_eq!(birth.poll(Instant(due.0 - 1)), None);
    assert!(matches!(birth.poll(due), Some(BirthOutput::Send { .. })));
    assert!(birth.deadline() > Some(due));
}

#[test]
fn made_up_disks_do_not_fill_the_memory() {
    let listed: BTreeSet<_> = (0..2).map(name).collect();
    let mut birth = start(&founder(0, 0), &listed, BirthState::default());
    let mut said = 0;
    for formatted in 0..1000 {
        let founder = founder(7, formatted);
        let challenge = 1;
        birth.step(BirthInput::Handshake { challenge, founder });
        while birth.poll(NOW).is_some() {
            said += 1;
        }
    }
    assert_eq!(said, 256);
}
