//! Replicas that are stepped and polled in any order.

mod forge;
mod member;

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Result, Unstructured};
use quorate_core::raft::Message;
use quorate_core::{
    BirthRecord, DiskId, Duration, Founder, Index, Input, Instant, LogId, NodeId, Term,
};

use member::Member;

/// How many things happen at most: what matters shows early, and a target must be fast.
const ACTS_MAX: usize = 600;

/// Messages on their way at most; older ones are lost.
const LETTERS_MAX: usize = 64;

/// Three members, or one alone, and whatever can happen to them.
///
/// Nothing panics, and what each driver is owed holds: see `member.rs`. Unless messages are forged,
/// terms have one leader, equal entries are applied everywhere, and nobody is found at fault.
pub fn raft(data: &[u8]) {
    let mut u = Unstructured::new(data);
    // Bytes that end too early end the run, no more.
    let _ = World::new(&mut u).and_then(|mut world| world.run(&mut u));
}

/// One thing that happens.
#[derive(Debug, Arbitrary)]
enum Act {
    /// A member absorbs an input.
    Step { at: u8, input: Input },
    /// A driver polls, so often.
    Poll { at: u8, times: u8 },
    /// The write in flight is on disk.
    Persist { at: u8 },
    /// A message arrives, and perhaps will again.
    Deliver { letter: u8, again: bool },
    /// A message is lost.
    Lose { letter: u8 },
    /// A message that nobody sent arrives.
    Forge { at: u8, from: NodeId, body: Message },
    /// Time passes.
    Pass { millis: u16 },
    /// The checkpoint in flight ends.
    EndCheckpoint { at: u8, done: bool },
    /// A slice of history is read back, or is lost.
    ReadHistory { at: u8, found: bool },
    /// Power is cut and comes back; some of the log may be damaged.
    Restart { at: u8, damaged: u8 },
    /// Disks and messages have time for all they have to do.
    Settle { rounds: u8 },
    /// A snapshot that a member was asked to send arrives, or does not.
    Snapshot { at: u8, fate: u8 },
}

/// A message on its way.
#[derive(Clone, Debug)]
struct Letter {
    from: NodeId,
    to: NodeId,
    message: Message,
}

/// The members, and what is between them.
struct World {
    members: Vec<Member>,
    letters: Vec<Letter>,
    now: Instant,
    /// No message is forged.
    is_honest: bool,
    leaders: BTreeMap<Term, NodeId>,
    /// What was applied at an index, and the state that made.
    applied: BTreeMap<Index, (LogId, u128)>,
}

impl World {
    fn new(u: &mut Unstructured<'_>) -> Result<Self> {
        let is_honest = u.arbitrary()?;
        let count = if u.ratio(1_u8, 8_u8)? { 1 } else { 3 };
        let founders = (1..=count).map(|disk: u8| Founder {
            name: format!("m{disk}"),
            peer_urls: Vec::new(),
            disk: DiskId(disk.into()),
            key: [disk; 32],
        });
        let birth = BirthRecord::new("fuzz".into(), founders.collect());
        let now = Instant(1);
        let members = birth.nodes().zip(u.arbitrary::<[u64; 3]>()?);
        let members = members.map(|((node, _), seed)| Member::new(&birth, node, seed, now));
        Ok(Self {
            members: members.collect(),
            letters: Vec::new(),
            now,
            is_honest,
            leaders: BTreeMap::new(),
            applied: BTreeMap::new(),
        })
    }

    fn run(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        for _ in 0..ACTS_MAX {
            if u.is_empty() {
                break;
            }
            let act = u.arbitrary()?;
            self.act(act);
            if self.is_honest {
                self.check_agreement();
            }
        }
        Ok(())
    }

    fn act(&mut self, act: Act) {
        let now = self.now;
        match act {
            Act::Step { at, input } => self.member(at).step(now, input),
            Act::Poll { at, times } => {
                let at = self.place(at);
                self.poll(at, times.into());
            }
            Act::Persist { at } => self.member(at).persist(now),
            Act::Deliver { letter, again } => {
                if let Some(letter) = self.take_letter(letter) {
                    if again {
                        self.letters.push(letter.clone());
                    }
                    self.deliver(letter);
                }
            }
            Act::Lose { letter } => {
                self.take_letter(letter);
            }
            Act::Forge { at, from, body } => {
                if !self.is_honest {
                    let at = self.place(at);
                    let (from, message) = forge::forge(&self.members, at, from, body);
                    self.members[at].receive(now, from, message);
                }
            }
            Act::Pass { millis } => self.now = now + Duration::from_millis(millis.into()),
            Act::EndCheckpoint { at, done } => self.member(at).end_checkpoint(now, done),
            Act::ReadHistory { at, found } => self.member(at).read_history(now, found),
            Act::Restart { at, damaged } => self.member(at).restart(now, damaged % 4),
            Act::Snapshot { at, fate } => {
                let at = self.place(at);
                self.snapshot(at, fate);
            }
            Act::Settle { rounds } => {
                for _ in 0..rounds % 8 {
                    self.settle();
                }
            }
        }
    }

    /// A tenth of a second in which disks and messages do all they have to.
    fn settle(&mut self) {
        self.now = self.now + Duration::from_millis(100);
        for at in 0..self.members.len() {
            self.poll(at, usize::MAX);
            self.members[at].persist(self.now);
            self.members[at].read_history(self.now, true);
            self.poll(at, usize::MAX);
            self.snapshot(at, u8::MAX);
        }
        for letter in std::mem::take(&mut self.letters) {
            self.deliver(letter);
        }
    }

    /// Polls a member until it has nothing to do, or so often.
    fn poll(&mut self, at: usize, times: usize) {
        for _ in 0..times {
            let Some(sent) = self.members[at].poll(self.now, self.is_honest) else {
                break;
            };
            self.letters.extend(sent);
        }
        let excess = self.letters.len().saturating_sub(LETTERS_MAX);
        self.letters.drain(..excess);
    }

    fn deliver(&mut self, letter: Letter) {
        let Letter { from, to, message } = letter;
        let now = self.now;
        let receiver = self.members.iter_mut().find(|member| member.id() == to);
        receiver
            .expect("messages go to members")
            .receive(now, from, message);
    }

    /// One of the snapshots that member `at` was asked to send. One in four never starts, one in
    /// four breaks off.
    fn snapshot(&mut self, at: usize, fate: u8) {
        let now = self.now;
        let Some((to, snapshot)) = self.members[at].take_wanted() else {
            return;
        };
        let last = snapshot.last;
        let starts = !fate.is_multiple_of(4);
        let sender = &mut self.members[at];
        if starts {
            sender.driver(now, Input::SnapshotStarted { to, last });
        }
        let receiver = self.members.iter_mut().find(|member| member.id() == to);
        let receiver = receiver.expect("snapshots go to members");
        let delivered = starts && fate % 4 != 1 && receiver.receive_snapshot(now, snapshot);
        let sent = Input::SnapshotSent {
            to,
            last,
            delivered,
        };
        self.members[at].driver(now, sent);
    }

    fn take_letter(&mut self, letter: u8) -> Option<Letter> {
        let count = self.letters.len();
        (count > 0).then(|| self.letters.remove(usize::from(letter) % count))
    }

    fn place(&self, at: u8) -> usize {
        usize::from(at) % self.members.len()
    }

    fn member(&mut self, at: u8) -> &mut Member {
        let at = self.place(at);
        &mut self.members[at]
    }

    /// Election Safety and State Machine Safety (Raft figure 3).
    fn check_agreement(&mut self) {
        for member in &self.members {
            if let Some(term) = member.leads() {
                let leader = *self.leaders.entry(term).or_insert(member.id());
                assert_eq!(leader, member.id(), "two leaders of term {term}");
            }
            let state = member.state();
            let first = *self.applied.entry(state.0.index).or_insert(state);
            assert_eq!(first, state, "members differ at {}", state.0.index);
        }
    }
}
