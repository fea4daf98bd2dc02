//! The machine that leads one member to its birth. Like [`Raft`](crate::raft::Raft) it has no disk
//! and no network of its own.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::record::{BirthRecord, Founder};
use crate::ids::DiskId;
use crate::time::{Duration, Instant};

/// Errors told apart. Reached: later ones are not said.
const REPORTED_MAX: usize = 256;

/// What must survive a crash: the record this member holds, and whether it is born with it.
///
/// Invariant: who is born has a record.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BirthState {
    /// The record it holds, and may have confirmed.
    pub record: Option<BirthRecord>,
    /// Whether all have confirmed it. Then it is never changed again.
    pub born: bool,
}

/// What members say to each other until they are born.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Confirmation {
    /// The hash of the record that the sender has on disk.
    pub hash: u128,
    /// That record, in answer to a confirmation of another one.
    pub record: Option<BirthRecord>,
    /// Whether the sender is born with it.
    pub born: bool,
}

/// What can happen to an unborn member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BirthInput {
    /// The clock reached [`Birth::deadline`].
    Deadline,
    /// A peer answered a challenge of this member with a proof of who it is. Nothing about a member
    /// is believed from anyone else.
    Handshake {
        /// The challenge answered: numbers rise in the order in which this process made them.
        challenge: u64,
        /// Who answered.
        founder: Founder,
    },
    /// A peer confirms a record.
    Confirm {
        /// What it is called.
        from: String,
        /// The disk it has proved to be.
        disk: DiskId,
        /// What it says.
        confirmation: Confirmation,
    },
    /// What [`BirthOutput::Persist`] asked for is on disk.
    Persisted,
}

/// What an unborn member asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BirthOutput {
    /// Replace what is on disk by this, atomically, and sync; then say [`BirthInput::Persisted`].
    /// One at a time.
    Persist(BirthState),
    /// Send this to the member called `to`; it may be lost.
    Send {
        /// To whom.
        to: String,
        /// What.
        confirmation: Confirmation,
    },
    /// This member is born, and its disk knows: it may serve.
    Born(BirthRecord),
    /// Something an operator must set right. Said once for each disk.
    Error(BirthError),
}

/// What an operator must set right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BirthError {
    /// The cluster is born, and not with this member's disk.
    NotFounded {
        /// What the member is called.
        member: String,
    },
    /// A peer has a name that is not listed.
    NotListed {
        /// What it is called.
        member: String,
    },
    /// Two members run on copies of one data directory.
    SameDisk {
        /// What they are called.
        members: [String; 2],
    },
}

/// One member on its way to birth.
///
/// Invariants: `held` is what is on disk or on its way there; once it is born it never changes;
/// nothing is said about a record that is not on disk; all in `confirmed` confirmed `held`.
#[derive(Clone, Debug, Hash)]
pub struct Birth {
    token: String,
    own: Founder,
    listed: BTreeSet<String>,
    /// Who the others are, first-hand, with the challenge that showed it; 0 is from before a
    /// restart.
    known: BTreeMap<String, (u64, Founder)>,
    held: BirthState,
    durable: BirthState,
    writing: Option<BirthState>,
    confirmed: BTreeSet<DiskId>,
    resend_interval: Duration,
    resend_at: Instant,
    reported: BTreeSet<(DiskId, BirthError)>,
    /// Whether `Born` was said.
    announced: bool,
    outputs: VecDeque<BirthOutput>,
}

impl Birth {
    /// The member `own` of a cluster of all those `listed`, itself included, with what its disk
    /// held. Confirmations are repeated every `resend_interval`.
    ///
    /// # Panics
    /// Where it is not listed itself: the caller checks what an operator typed.
    #[must_use]
    pub fn new(
        token: String,
        own: Founder,
        listed: BTreeSet<String>,
        state: BirthState,
        resend_interval: Duration,
        now: Instant,
    ) -> Self {
        assert!(listed.contains(&own.name), "{} is not listed", own.name);
        assert!(
            !state.born || state.record.is_some(),
            "born without a record"
        );
        let founders = state.record.iter().flat_map(|record| &record.founders);
        let known = founders
            .filter(|founder| founder.name != own.name && listed.contains(&founder.name))
            .map(|founder| (founder.name.clone(), (0, founder.clone())))
            .collect();
        let mut birth = Self {
            token,
            own,
            listed,
            known,
            held: state.clone(),
            durable: state,
            writing: None,
            confirmed: BTreeSet::new(),
            resend_interval,
            resend_at: now,
            reported: BTreeSet::new(),
            announced: false,
            outputs: VecDeque::new(),
        };
        birth.maybe_hold();
        // Alone it waits for nobody, whose word could be what makes it look again.
        birth.maybe_be_born();
        birth
    }

    /// Absorbs one input.
    pub fn step(&mut self, input: BirthInput) {
        match input {
            // What is due is computed when polled.
            BirthInput::Deadline => {}
            BirthInput::Handshake { challenge, founder } => self.on_handshake(challenge, founder),
            BirthInput::Confirm {
                from,
                disk,
                confirmation,
            } => {
                self.on_confirm(&from, disk, confirmation);
            }
            BirthInput::Persisted => self.on_persisted(),
        }
        assert!(
            !self.durable.born || self.held == self.durable,
            "changed after birth"
        );
    }

    /// The next thing to do.
    pub fn poll(&mut self, now: Instant) -> Option<BirthOutput> {
        if self.writing.is_none() && self.held != self.durable {
            self.writing = Some(self.held.clone());
            return Some(BirthOutput::Persist(self.held.clone()));
        }
        if let (true, false, Some(record)) =
            (self.durable.born, self.announced, &self.durable.record)
        {
            self.announced = true;
            return Some(BirthOutput::Born(record.clone()));
        }
        if self.is_asking() && self.resend_at <= now {
            self.resend_at = now + self.resend_interval;
            for to in self.others() {
                self.say(to, false);
            }
        }
        self.outputs.pop_front()
    }

    /// When to step [`BirthInput::Deadline`] if nothing else happens first.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.is_asking().then_some(self.resend_at)
    }

    /// Whom this member waits for: who was not met yet, or else who has not confirmed. Nobody, once
    /// it is born.
    #[must_use]
    pub fn waiting_for(&self) -> Vec<String> {
        if self.held.born {
            return Vec::new();
        }
        let unmet = self.others().filter(|name| !self.known.contains_key(name));
        let unmet: Vec<_> = unmet.collect();
        if !unmet.is_empty() {
            return unmet;
        }
        let unconfirmed = self.known.values().map(|(_, founder)| founder);
        unconfirmed
            .filter(|founder| !self.confirmed.contains(&founder.disk))
            .map(|founder| founder.name.clone())
            .collect()
    }

    /// A peer proved who it is.
    fn on_handshake(&mut self, challenge: u64, founder: Founder) {
        if let (true, Some(record)) = (self.held.born, &self.held.record) {
            if !record.names(founder.disk) {
                let member = founder.name;
                self.report(founder.disk, BirthError::NotFounded { member });
            }
            return;
        }
        if !self.listed.contains(&founder.name) {
            let member = founder.name;
            return self.report(founder.disk, BirthError::NotListed { member });
        }
        // One that claims this member's own name runs with the same flags on another machine.
        let namesake = [&self.own]
            .into_iter()
            .chain(self.known.values().map(|(_, other)| other));
        let twin = namesake
            .into_iter()
            .find(|other| other.disk == founder.disk && other.name != founder.name);
        if let Some(twin) = twin {
            let members = [twin.name.clone(), founder.name];
            return self.report(founder.disk, BirthError::SameDisk { members });
        }
        if founder.name == self.own.name {
            return;
        }
        // An older handshake that ends later speaks of an older disk.
        let newest = self
            .known
            .get(&founder.name)
            .map_or(0, |(newest, _)| *newest);
        if challenge > newest {
            self.known
                .insert(founder.name.clone(), (challenge, founder));
            self.maybe_hold();
        }
    }

    /// A peer says which record it has on disk.
    fn on_confirm(&mut self, from: &str, disk: DiskId, confirmation: Confirmation) {
        let Some(own) = &self.held.record else {
            return;
        };
        let is_same = confirmation.hash == own.hash();
        let is_question = confirmation.record.is_none() && !confirmation.born;
        if self.held.born {
            if !own.names(disk) {
                let member = String::from(from);
                self.report(disk, BirthError::NotFounded { member });
            }
            // The born ask nobody any more, but answer who still asks.
            if is_question {
                self.say(String::from(from), !is_same);
            }
        } else if is_same {
            if own.names(disk) && confirmation.born {
                // All have confirmed it to that peer.
                self.held.born = true;
            } else if own.names(disk) {
                self.confirmed.insert(disk);
                self.maybe_be_born();
            }
        } else if is_question {
            self.say(String::from(from), true);
        } else if let (true, Some(record)) = (confirmation.born, confirmation.record)
            && record.hash() == confirmation.hash
        {
            self.on_told_born(disk, record);
        }
    }

    /// A member on `disk` is born with `record`, which is not the one held here.
    fn on_told_born(&mut self, disk: DiskId, record: BirthRecord) {
        if !record.is_sound() || record.token != self.token {
            return;
        }
        if !record.names(self.own.disk) {
            let member = self.own.name.clone();
            return self.report(self.own.disk, BirthError::NotFounded { member });
        }
        // This disk had confirmed it, or nobody could be born with it; only then a peer was wiped
        // and the record replaced. Whoever is not in the record held now is not believed: its disk
        // is one that was replaced. If it is not, the next handshake shows that.
        let is_peer = self.held.record.as_ref().is_some_and(|own| own.names(disk));
        if is_peer {
            self.held = BirthState {
                record: Some(record),
                born: true,
            };
        }
    }

    fn on_persisted(&mut self) {
        let written = self.writing.take().expect("a write was asked for");
        self.durable = written;
        // What is new on disk is worth saying at once.
        self.resend_at = Instant::default();
        self.maybe_be_born();
    }

    /// Holds the record of all, once all are known; another one replaces it, and what was confirmed
    /// of the old one says nothing about it.
    fn maybe_hold(&mut self) {
        let are_known = self.others().all(|name| self.known.contains_key(&name));
        if self.held.born || !are_known {
            return;
        }
        let others = self.known.values().map(|(_, founder)| founder.clone());
        let founders = others.chain([self.own.clone()]).collect();
        let record = Some(BirthRecord::new(self.token.clone(), founders));
        if self.held.record != record {
            self.held = BirthState {
                record,
                born: false,
            };
            self.confirmed.clear();
        }
    }

    /// Is born when every disk has confirmed, its own by having the record. A majority would not
    /// do.
    fn maybe_be_born(&mut self) {
        let Some(record) = &self.held.record else {
            return;
        };
        let mut others = record
            .founders
            .iter()
            .filter(|founder| founder.disk != self.own.disk);
        let are_all = others.all(|founder| self.confirmed.contains(&founder.disk));
        if are_all && self.is_durable() {
            self.held.born = true;
        }
    }

    /// Says which record is on disk, and shows it where that is asked. Nothing where it is not on
    /// disk yet: the peer will ask again.
    fn say(&mut self, to: String, shown: bool) {
        let (true, Some(record)) = (self.is_durable(), &self.held.record) else {
            return;
        };
        let confirmation = Confirmation {
            hash: record.hash(),
            record: shown.then(|| record.clone()),
            born: self.held.born,
        };
        let output = BirthOutput::Send { to, confirmation };
        // An equal one that waits says it all.
        if !self.outputs.contains(&output) {
            self.outputs.push_back(output);
        }
    }

    fn report(&mut self, disk: DiskId, error: BirthError) {
        // Disks are made up at no cost; what is said of this member's own is always heard.
        let is_room = self.reported.len() < REPORTED_MAX || disk == self.own.disk;
        if is_room && self.reported.insert((disk, error.clone())) {
            self.outputs.push_back(BirthOutput::Error(error));
        }
    }

    /// Whether what it holds is on disk.
    fn is_durable(&self) -> bool {
        self.held == self.durable
    }

    /// Whether it asks the others to confirm what it holds.
    fn is_asking(&self) -> bool {
        self.is_durable() && self.held.record.is_some() && !self.held.born
    }

    fn others(&self) -> impl Iterator<Item = String> + use<> {
        let mut others = self.listed.clone();
        others.remove(&self.own.name);
        others.into_iter()
    }
}

impl fmt::Display for BirthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFounded { member } => write!(
                f,
                "the cluster was founded without the disk that {member} has now: \
                 use `member remove`, then `member add`",
            ),
            Self::NotListed { member } => write!(f, "{member} is not in --initial-cluster"),
            Self::SameDisk {
                members: [one, other],
            } => {
                write!(f, "{one} and {other} run on copies of one data directory")
            }
        }
    }
}

impl core::error::Error for BirthError {}
