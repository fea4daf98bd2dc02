//! Births of static clusters, before the run itself: disks that are wiped, members that crash at
//! every step, confirmations that come late, twice or never (DESIGN.md §4).
//!
//! These machines have no world in common with the replicas, and so a small one of their own.
//! Whatever is under way waits in a list, and the seed picks what happens next: every order can
//! occur, and letters outlive the disks that wrote them.
//!
//! Now and then an old disk is put back after its place was taken (P8). That is a known limit: two
//! clusters may then claim one disk, and not all are born. What still holds is looked at.

use std::collections::{BTreeMap, BTreeSet};

use quorate_core::time::{Duration, Instant};
use quorate_core::{
    Birth, BirthError, BirthInput, BirthOutput, BirthRecord, BirthState, Confirmation, DiskId,
    Founder,
};

use crate::check::{Verdict, Violation, ensure};
use crate::fault::{Fault, Kind};
use crate::mark::{Mark, Marks};
use crate::rng::{Draw, Purpose, Seed};

/// So many clusters are founded in each run.
const CLUSTERS: u64 = 12;

/// After the last fault: so many rounds, in each of which everyone asks again and all arrives.
const QUIET_ROUNDS: u64 = 16;

/// How long a member waits before it asks again.
const INTERVAL: Duration = Duration::from_secs(1);

/// The property: members are born with one record or told why not, and nobody is born with a
/// record that some disk of it never held.
const ID: &str = "birth";

/// Founds clusters as `seed` will have it. Returns what happened, and what came of it.
pub fn found(seed: Seed, marks: &mut Marks) -> (Founded, Verdict) {
    let mut founded = Founded::default();
    for cluster in 0..CLUSTERS {
        let mut draw = seed.draw(Purpose::Birth, cluster, 0);
        let mut founding = Founding::new(&mut draw);
        founding.returns = seed.draw(Purpose::Birth, cluster, 1).one_in(4);
        let verdict = founding.run(&mut draw);
        founded.events += founding.events;
        founded.wiped += founding.wipes - founding.wipes_left;
        founded.returned += u64::from(founding.returned);
        let mut told = founding.members.iter().flat_map(|member| &member.errors);
        let refused = told.any(|error| matches!(error, BirthError::NotFounded { .. }));
        marks.add_if(refused, Mark::EmptyRefused);
        if verdict.is_err() {
            return (founded, verdict);
        }
    }
    (founded, Ok(()))
}

/// What happened when clusters were founded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Founded {
    /// Events.
    pub events: u64,
    /// Disks that were wiped.
    pub wiped: u64,
    /// P8: disks that were put back.
    pub returned: u64,
}

/// What can happen to clusters that are founded, in every run.
pub const FAULTS: &[Kind] = &[Kind {
    fault: Fault::P8,
    what: "while a cluster is founded, an old disk is put back after its place was taken",
    gap: 0,
}];

/// A cluster that is being founded.
#[derive(Debug)]
struct Founding {
    members: Vec<Member>,
    listed: BTreeSet<String>,
    /// What was ever said: it may arrive at any time, again, or never.
    letters: Vec<Letter>,
    wipes: u64,
    wipes_left: u64,
    crashes_left: u64,
    /// P8: disks that were taken out, and where they had been.
    shelf: Vec<(usize, Founder, BirthState)>,
    /// P8: one of those may be put back; whether that has happened.
    returns: bool,
    returned: bool,
    /// Every record that was ever on a disk.
    held: BTreeSet<(DiskId, u128)>,
    now: Instant,
    events: u64,
}

#[derive(Debug)]
struct Member {
    birth: Birth,
    own: Founder,
    disk: BirthState,
    writing: Option<BirthState>,
    /// Answers to its challenges that are on their way.
    answers: Vec<(u64, Founder)>,
    challenges: u64,
    /// The disk that each peer last proved to have.
    met: BTreeMap<String, DiskId>,
    /// What it serves with.
    born: Option<BirthRecord>,
    errors: BTreeSet<BirthError>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Letter {
    from: usize,
    disk: DiskId,
    to: usize,
    confirmation: Confirmation,
}

impl Founding {
    fn new(draw: &mut Draw) -> Self {
        let size = *draw.pick(&[1, 2, 2, 3, 3, 3, 4, 5]);
        let now = Instant(1);
        let founders: Vec<_> = (0..size).map(|place| founder(place, 0)).collect();
        let listed: BTreeSet<_> = founders.iter().map(|own| own.name.clone()).collect();
        let member = |own: Founder| Member {
            birth: start(&own, &listed, BirthState::default(), now),
            own,
            disk: BirthState::default(),
            writing: None,
            answers: Vec::new(),
            challenges: 0,
            met: BTreeMap::new(),
            born: None,
            errors: BTreeSet::new(),
        };
        let members = founders.into_iter().map(member).collect();
        let wipes = *draw.pick(&[0, 1, 1, 2, 3]);
        Self {
            members,
            listed,
            letters: Vec::new(),
            wipes,
            wipes_left: wipes,
            crashes_left: draw.below(4),
            shelf: Vec::new(),
            returns: false,
            returned: false,
            held: BTreeSet::new(),
            now,
            events: 0,
        }
    }

    fn run(&mut self, draw: &mut Draw) -> Verdict {
        for place in 0..self.members.len() {
            self.poll(place)?;
        }
        for _ in 0..draw.below(150) {
            self.happen(draw)?;
            self.is_sound()?;
        }
        for _ in 0..QUIET_ROUNDS {
            self.quiet_round()?;
            self.is_sound()?;
        }
        self.is_complete()
    }

    /// One thing of all that can.
    fn happen(&mut self, draw: &mut Draw) -> Verdict {
        self.events += 1;
        let place = draw.place(self.members.len());
        match draw.below(20) {
            0 if self.wipes_left > 0 && draw.one_in(2) => {
                self.wipes_left -= 1;
                // One that others know to be born is missed the most.
                let born = (0..self.members.len()).find(|&place| self.members[place].disk.born);
                let place = born.filter(|_| draw.percent(50)).unwrap_or(place);
                let formatted = self.wipes - self.wipes_left;
                let member = &mut self.members[place];
                let own = std::mem::replace(&mut member.own, founder(place, formatted));
                let disk = std::mem::take(&mut member.disk);
                self.shelf.push((place, own, disk));
                self.restart(place)
            }
            0 if self.returns && !self.shelf.is_empty() => {
                let (place, own, disk) = self.shelf.remove(draw.place(self.shelf.len()));
                let member = &mut self.members[place];
                (member.own, member.disk) = (own, disk);
                self.returned = true;
                self.restart(place)
            }
            1 if self.crashes_left > 0 => {
                self.crashes_left -= 1;
                // The write in flight may have been done, and nobody was told.
                if draw.percent(50) {
                    self.write(place);
                }
                self.restart(place)
            }
            2 => {
                self.now = self.now + INTERVAL;
                self.members[place].birth.step(BirthInput::Deadline);
                self.poll(place)
            }
            3..8 => {
                self.challenge(place, draw.place(self.members.len()));
                Ok(())
            }
            8..11 => {
                let answers = self.members[place].answers.len();
                if answers == 0 {
                    return Ok(());
                }
                let nth = draw.place(answers);
                self.answer(place, nth)
            }
            11..14 => self.persist(place),
            _ if self.letters.is_empty() => Ok(()),
            _ => {
                // Mostly what was said last; now and then what has long been overtaken.
                let count = self.letters.len();
                let recent = count.saturating_sub(6);
                let nth = if draw.percent(60) {
                    recent + draw.place(count - recent)
                } else {
                    draw.place(count)
                };
                let letter = self.letters[nth].clone();
                self.arrive(letter)
            }
        }
    }

    /// Everyone asks again, and everything arrives.
    fn quiet_round(&mut self) -> Verdict {
        self.now = self.now + INTERVAL;
        let mut heard = self.letters.len();
        for place in 0..self.members.len() {
            self.events += 1;
            for other in 0..self.members.len() {
                let peer = &self.members[other].own;
                if self.members[place].met.get(&peer.name) != Some(&peer.disk) {
                    self.challenge(place, other);
                }
            }
            while !self.members[place].answers.is_empty() {
                self.answer(place, 0)?;
            }
            self.members[place].birth.step(BirthInput::Deadline);
            self.poll(place)?;
            // A record, and that all have confirmed it.
            self.persist(place)?;
            self.persist(place)?;
            // Answers ask nothing, so there is an end to them.
            while heard < self.letters.len() {
                let letter = self.letters[heard].clone();
                heard += 1;
                self.arrive(letter)?;
            }
        }
        Ok(())
    }

    fn challenge(&mut self, place: usize, other: usize) {
        if place == other {
            return;
        }
        let peer = self.members[other].own.clone();
        let member = &mut self.members[place];
        member.challenges += 1;
        member.answers.push((member.challenges, peer));
    }

    fn answer(&mut self, place: usize, nth: usize) -> Verdict {
        let member = &mut self.members[place];
        let (challenge, founder) = member.answers.remove(nth);
        member.met.insert(founder.name.clone(), founder.disk);
        member
            .birth
            .step(BirthInput::Handshake { challenge, founder });
        self.poll(place)
    }

    fn arrive(&mut self, letter: Letter) -> Verdict {
        let Letter {
            from,
            disk,
            to,
            confirmation,
        } = letter;
        self.members[to].birth.step(BirthInput::Confirm {
            from: name(from),
            disk,
            confirmation,
        });
        self.poll(to)
    }

    fn persist(&mut self, place: usize) -> Verdict {
        if !self.write(place) {
            return Ok(());
        }
        self.members[place].birth.step(BirthInput::Persisted);
        self.poll(place)
    }

    /// The write in flight reaches the disk; whether there was one.
    fn write(&mut self, place: usize) -> bool {
        let member = &mut self.members[place];
        let Some(state) = member.writing.take() else {
            return false;
        };
        member.disk = state;
        if let Some(record) = &member.disk.record {
            self.held.insert((member.own.disk, record.hash()));
        }
        true
    }

    fn restart(&mut self, place: usize) -> Verdict {
        let member = &mut self.members[place];
        member.birth = start(&member.own, &self.listed, member.disk.clone(), self.now);
        member.writing = None;
        member.answers.clear();
        member.challenges = 0;
        member.met.clear();
        member.born = None;
        self.poll(place)
    }

    fn poll(&mut self, place: usize) -> Verdict {
        while let Some(output) = self.members[place].birth.poll(self.now) {
            let member = &mut self.members[place];
            match output {
                BirthOutput::Persist(state) => {
                    assert!(member.writing.is_none(), "two writes in flight");
                    let was_born = member.disk.born;
                    let same = member.disk.record == state.record;
                    ensure(!was_born || same, ID, &[place], || {
                        format!("born with {:?}, it writes {state:?}", member.disk.record)
                    })?;
                    member.writing = Some(state);
                }
                BirthOutput::Send { to, confirmation } => {
                    let on_disk = member.disk.record.as_ref().map(BirthRecord::hash);
                    let born = member.disk.born || !confirmation.born;
                    let said = on_disk == Some(confirmation.hash) && born;
                    ensure(said, ID, &[place], || {
                        format!(
                            "n{place} says {confirmation:?}; its disk has {:?}",
                            member.disk
                        )
                    })?;
                    let letter = Letter {
                        from: place,
                        disk: member.own.disk,
                        to: place_of(&to),
                        confirmation,
                    };
                    self.letters.push(letter);
                }
                BirthOutput::Born(record) => {
                    let disk = &member.disk;
                    let knows = disk.born && disk.record.as_ref() == Some(&record);
                    ensure(knows, ID, &[place], || {
                        format!("n{place} serves with {record:?}; its disk has {disk:?}")
                    })?;
                    member.born = Some(record);
                }
                BirthOutput::Error(error) => {
                    member.errors.insert(error);
                }
            }
        }
        Ok(())
    }

    /// Nobody serves with a record that some disk in it never held, and no two with different
    /// records that share a disk: unless an old disk was put back, which nobody can know (P8).
    fn is_sound(&self) -> Verdict {
        let born = |member: &Member| member.born.clone();
        let born: BTreeSet<_> = self.members.iter().filter_map(born).collect();
        for record in &born {
            let hash = record.hash();
            let held = |founder: &&Founder| !self.held.contains(&(founder.disk, hash));
            let missing = record.founders.iter().find(held);
            ensure(missing.is_none(), ID, &[], || {
                format!("born with {record:?}, which {missing:?} never held")
            })?;
            if self.returned {
                continue;
            }
            for other in born.iter().filter(|other| *other != record) {
                let shared = record.founders.iter().find(|one| other.names(one.disk));
                ensure(shared.is_none(), ID, &[], || {
                    format!("{shared:?} is in two clusters: {record:?} and {other:?}")
                })?;
            }
        }
        Ok(())
    }

    /// With one wipe at most: everybody is born with one record, but for whom it leaves out, and
    /// those are told.
    fn is_complete(&self) -> Verdict {
        if self.wipes - self.wipes_left > 1 || self.returned {
            return Ok(());
        }
        let Some(record) = self.members.iter().find_map(|member| member.born.as_ref()) else {
            let waiting: Vec<_> = self.members.iter().map(|m| m.birth.waiting_for()).collect();
            let what = format!("nobody is born; they wait for {waiting:?}");
            return Err(Violation::new(ID, &[], what));
        };
        for (place, member) in self.members.iter().enumerate() {
            let left_out = BirthError::NotFounded {
                member: member.own.name.clone(),
            };
            let right = if record.names(member.own.disk) {
                member.born.as_ref() == Some(record) && member.birth.waiting_for().is_empty()
            } else {
                member.born.is_none() && member.errors.contains(&left_out)
            };
            ensure(right, ID, &[place], || {
                let (born, errors) = (&member.born, &member.errors);
                format!("others are born with {record:?}; n{place} has {born:?} and {errors:?}")
            })?;
        }
        Ok(())
    }
}

fn name(place: usize) -> String {
    format!("n{place}")
}

fn place_of(name: &str) -> usize {
    name[1..].parse().expect("n and a number")
}

/// A member whose disk has been formatted `formatted` times before.
fn founder(place: usize, formatted: u64) -> Founder {
    Founder {
        name: name(place),
        peer_urls: Vec::new(),
        disk: DiskId(u128::from(formatted) + 100 * (1 + place as u128)),
        key: [0; 32],
    }
}

fn start(own: &Founder, listed: &BTreeSet<String>, state: BirthState, now: Instant) -> Birth {
    Birth::new(
        "sim".to_owned(),
        own.clone(),
        listed.clone(),
        state,
        INTERVAL,
        now,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_clusters_are_founded_and_some_without_a_wiped_disk() {
        let mut marks = Marks::default();
        for seed in (0..50).chain([900_659, 900_937, 900_978]) {
            assert_eq!(found(Seed::new(seed), &mut marks).1, Ok(()), "seed {seed}");
        }
    }

    #[test]
    fn a_record_that_a_disk_never_held_is_seen() {
        let mut founding = Founding::new(&mut Seed::new(1).draw(Purpose::Birth, 0, 0));
        let founders = vec![founder(0, 0), founder(1, 0)];
        founding.members[0].born = Some(BirthRecord::new("sim".to_owned(), founders));
        let verdict = founding.is_sound();
        assert_eq!(crate::check::id_of(&verdict), ID);
    }
}
