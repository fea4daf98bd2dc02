//! What can be seen of a run, for a picture of it: messages, roles, writes, requests and faults,
//! each with its true time and its step.
//!
//! Recorded only where somebody asks for it; nothing that happens depends on it (SIMULATION.md X5).
//! The world tells what it does in `world/seen.rs`.

mod reel;
mod sight;

use std::collections::BTreeMap;

use quorate_core::{LogId, NodeId, raft};

pub use reel::Reel;
pub use sight::{
    Band, BandName, Change, HEARTBEAT, Job, MESSAGE_KINDS, Mark, Message, Notice, Operation,
    Outcome, Part, Progress, Sign, Standing, Transfer, Try, Writing,
};

use crate::clock::Time;
use crate::event::Event;
use crate::fault::Counters;

/// What becomes of what is seen.
#[derive(Debug, Default)]
pub enum Scene {
    /// Nobody looks.
    #[default]
    Off,
    /// It is kept.
    On(Box<Film>),
}

/// Which part of a run is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// What happened before is not kept, except how things stood.
    pub from: Time,
    /// The run ends here.
    pub to: Time,
}

impl Default for Span {
    fn default() -> Self {
        Self {
            from: Time(0),
            to: Time(u64::MAX),
        }
    }
}

/// All that is kept.
#[derive(Debug, Default)]
pub struct Film {
    pub(crate) span: Span,
    pub(crate) now: Time,
    pub(crate) step: u64,
    /// What is being handled.
    pub(crate) event: Option<Event>,
    /// The faults so far.
    pub(crate) counters: Counters,
    /// N10: so many messages were lost since their link was full.
    pub(crate) overflows: u64,
    /// What is about to be sent: from whom, to whom.
    pub(crate) leaving: Option<(usize, NodeId, raft::Message)>,
    /// Chaos has ended.
    pub(crate) is_healing: bool,
    /// Messages.
    pub messages: Reel<Message>,
    /// Roles and terms, with the reason of a crash.
    pub standings: Reel<Change<Standing>>,
    /// How far logs and stores have come, with what was cut off a log.
    pub progress: Reel<Change<Progress>>,
    /// What disks were given.
    pub writings: Reel<Writing>,
    /// Faults that last.
    pub bands: Reel<Band>,
    /// Moments.
    pub marks: Reel<Mark>,
    /// Snapshots.
    pub transfers: Reel<Transfer>,
    /// What watchers were told.
    pub notices: Reel<Notice>,
    /// Operations, by number.
    pub operations: BTreeMap<u64, Operation>,
    /// Entries of any log: what they say, and of which key.
    pub entries: BTreeMap<LogId, (String, String)>,
    /// How each node stood when it was last looked at.
    stood: BTreeMap<usize, (Standing, Progress)>,
    /// Bands that go on.
    open: BTreeMap<BandName, Band>,
    /// What disks are busy with, by what was handed over first.
    busy: BTreeMap<(usize, Job, u64), Writing>,
    /// Snapshots under way, by number.
    carried: BTreeMap<u64, Transfer>,
}

impl Scene {
    /// A scene of which this part is kept.
    #[must_use]
    pub fn of(span: Span) -> Self {
        Self::On(Box::new(Film {
            span,
            ..Film::default()
        }))
    }

    /// Whether somebody looks.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        matches!(self, Self::On(_))
    }

    /// An event is about to be handled.
    pub fn begins(&mut self, now: Time, step: u64, event: &Event) {
        if let Self::On(film) = self {
            (film.now, film.step) = (now, step);
            film.event = Some(event.clone());
        }
    }

    /// A node is about to send this: if it must not, that ends the run.
    pub fn leaves(&mut self, from: usize, to: NodeId, message: &raft::Message) {
        if let Self::On(film) = self {
            film.leaving = Some((from, to, message.clone()));
        }
    }

    /// What is kept, if somebody looks.
    #[must_use]
    pub fn film(&mut self) -> Option<&mut Film> {
        match self {
            Self::Off => None,
            Self::On(film) => Some(film),
        }
    }

    /// Whether what follows is still looked at.
    #[must_use]
    pub fn goes_on(&self, now: Time) -> bool {
        match self {
            Self::Off => true,
            Self::On(film) => now <= film.span.to,
        }
    }
}

impl Film {
    fn is_wanted(&self) -> bool {
        self.now >= self.span.from
    }

    /// A message came to an end.
    pub(crate) fn message(&mut self, message: Message) {
        if self.is_wanted() {
            self.messages.push(message);
        }
    }

    /// A watcher was told something.
    pub(crate) fn notice(&mut self, client: usize, seat: usize, text: String, index: u64) {
        if self.is_wanted() {
            let (at, step) = (self.now, self.step);
            self.notices.push(Notice {
                client,
                seat,
                at,
                step,
                text,
                index,
            });
        }
    }

    /// Something happened on a lane.
    pub(crate) fn mark(&mut self, sign: Sign, seat: Option<usize>, text: String) {
        let (at, step) = (self.now, self.step);
        self.marks.push(Mark {
            sign,
            seat,
            at,
            step,
            text,
        });
    }

    /// A node is this now. `why` is asked only where that is new.
    pub(crate) fn stands(&mut self, seat: usize, now: Standing, why: impl FnOnce() -> String) {
        let (at, step) = (self.now, self.step);
        let (stood, _) = self
            .stood
            .entry(seat)
            .or_insert((Standing::without(Part::Down), Progress::default()));
        if *stood == now {
            return;
        }
        *stood = now;
        self.standings.push(Change {
            seat,
            at,
            step,
            now,
            why: why(),
        });
        if now.part == Part::Down {
            self.drop_writes(seat);
        }
    }

    /// How far a node had come.
    pub(crate) fn came(&self, seat: usize) -> Progress {
        self.stood
            .get(&seat)
            .map_or_else(Progress::default, |s| s.1)
    }

    /// A node has come so far; what `cut` says was cut off its log.
    pub(crate) fn comes(&mut self, seat: usize, now: Progress, why: String) {
        let (at, step) = (self.now, self.step);
        if let Some((_, came)) = self.stood.get_mut(&seat)
            && *came != now
        {
            *came = now;
            if self.now >= self.span.from {
                self.progress.push(Change {
                    seat,
                    at,
                    step,
                    now,
                    why,
                });
            }
        }
    }

    /// A disk is given something. `name` tells it from others of its kind, in order.
    pub(crate) fn writes(
        &mut self,
        seat: usize,
        job: Job,
        name: u64,
        text: String,
        indexes: (u64, u64),
    ) {
        let (from, step) = (self.now, self.step);
        let writing = Writing {
            seat,
            job,
            from,
            to: None,
            step,
            ended: 0,
            text,
            indexes,
            durable: false,
        };
        self.busy.insert((seat, job, name), writing);
    }

    /// A disk is busy with the only job of its kind, for the state as of this entry, or no longer:
    /// `is_done` says whether that state is durable.
    pub(crate) fn works(
        &mut self,
        seat: usize,
        job: Job,
        of: Option<LogId>,
        is_done: impl FnOnce(u64) -> bool,
    ) {
        let busy = self.busy.get(&(seat, job, 0));
        match (busy, of) {
            (None, Some(of)) => {
                let index = of.index.0;
                let text = format!("{} {of}", job.name());
                self.writes(seat, job, 0, text, (index.saturating_sub(1), index));
            }
            (Some(writing), None) => {
                let done = is_done(writing.indexes.1);
                self.written(seat, job, 0, done);
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    /// What a disk was given up to `name` is over: durable, if `done`.
    pub(crate) fn written(&mut self, seat: usize, job: Job, name: u64, done: bool) {
        let names = (seat, job, 0)..=(seat, job, name);
        let over: Vec<_> = self.busy.range(names).map(|(&name, _)| name).collect();
        for name in over {
            if let Some(writing) = self.busy.remove(&name) {
                self.ends(writing, done);
            }
        }
    }

    fn ends(&mut self, mut writing: Writing, durable: bool) {
        writing.to = Some(self.now);
        writing.ended = self.step;
        writing.durable = durable;
        if self.is_wanted() {
            self.writings.push(writing);
        }
    }

    fn drop_writes(&mut self, seat: usize) {
        for job in [Job::Log, Job::Checkpoint, Job::Store, Job::Install] {
            self.written(seat, job, u64::MAX, false);
        }
    }

    /// These bands lie over nodes now, each until its time comes; all others end.
    pub(crate) fn covers(&mut self, lying: Vec<(BandName, Time, String)>) {
        let mut ended = std::mem::take(&mut self.open);
        for (name, to, text) in lying {
            let (fault, seat, _) = name;
            let from = self.now;
            let mut band = ended.remove(&name).unwrap_or(Band {
                seat,
                fault,
                from,
                to,
                text,
            });
            band.to = to;
            self.open.insert(name, band);
        }
        for (_, mut band) in ended {
            band.to = band.to.min(self.now);
            self.bands.push(band);
        }
    }

    /// These snapshots are under way: number, whence, whither, whether arrived, what they hold.
    pub(crate) fn carries(&mut self, under_way: Vec<(u64, usize, usize, bool, String)>) {
        let mut over = std::mem::take(&mut self.carried);
        for (number, from, to, arrived, text) in under_way {
            let (begun, step) = (self.now, self.step);
            let mut transfer = over.remove(&number).unwrap_or(Transfer {
                from,
                to,
                begun,
                ended: None,
                step,
                arrived: false,
                text: String::new(),
            });
            transfer.text = text;
            if arrived && !transfer.arrived {
                (transfer.arrived, transfer.ended) = (true, Some(self.now));
                transfer.step = self.step;
            }
            self.carried.insert(number, transfer);
        }
        for (_, mut transfer) in over {
            if !transfer.arrived {
                transfer.ended = Some(self.now);
                transfer.step = self.step;
            }
            self.transfers.push(transfer);
        }
    }

    /// A client wants something, if it did not before: what, and whether it changes anything.
    pub(crate) fn wants(
        &mut self,
        client: usize,
        number: u64,
        asked: impl FnOnce() -> (String, String, bool),
    ) {
        let (begun, step) = (self.now, self.step);
        self.operations.entry(number).or_insert_with(|| {
            let (asked, key, writes) = asked();
            Operation {
                client,
                number,
                begun,
                over: None,
                step,
                writes,
                asked,
                key,
                outcome: Outcome::Open,
                unsure: false,
                answer: String::new(),
                at: None,
                tries: Vec::new(),
            }
        });
    }

    /// The operation of this number: something happens to it.
    pub(crate) fn operation(&mut self, number: u64) -> Option<&mut Operation> {
        let step = self.step;
        let operation = self.operations.get_mut(&number)?;
        operation.step = step;
        Some(operation)
    }

    /// One try of the operation of this number, from 1.
    pub(crate) fn attempt(&mut self, number: u64, attempt: u64) -> Option<&mut Try> {
        let place = usize::try_from(attempt).ok()?.checked_sub(1)?;
        self.operation(number)?.tries.get_mut(place)
    }

    /// The run is over: what goes on goes on for ever.
    pub(crate) fn closes(&mut self) {
        for (_, writing) in std::mem::take(&mut self.busy) {
            self.writings.push(writing);
        }
        for (_, band) in std::mem::take(&mut self.open) {
            self.bands.push(band);
        }
        for (_, transfer) in std::mem::take(&mut self.carried) {
            self.transfers.push(transfer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    fn film() -> Film {
        let Scene::On(mut film) = Scene::of(Span::default()) else {
            panic!("it is on");
        };
        film.stands(0, Standing::without(Part::Starting), String::new);
        *film
    }

    #[test]
    fn the_last_things_are_kept_and_the_others_counted() {
        let mut reel = Reel::new(3);
        for number in 0..5 {
            reel.push(number);
        }
        assert_eq!(reel.iter().copied().collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(reel.dropped(), 2);
    }

    #[test]
    fn a_write_is_durable_or_lost_with_its_process() {
        let mut film = film();
        for name in 1..=3 {
            film.now = Time(name);
            film.writes(0, Job::Log, name, format!("w{name}"), (0, 0));
        }
        film.now = Time(9);
        film.written(0, Job::Log, 2, true);
        film.stands(0, Standing::without(Part::Down), || "P1".to_owned());
        let ends: Vec<_> = film
            .writings
            .iter()
            .map(|w| (w.from.0, w.durable))
            .collect();
        assert_eq!(ends, [(1, true), (2, true), (3, false)]);
        assert!(film.writings.iter().all(|w| w.to == Some(Time(9))));
    }

    #[test]
    fn a_band_lies_until_its_fault_ends() {
        let mut film = film();
        let lying = |until| vec![((Fault::N6, 0, Time(1)), Time(until), String::new())];
        film.now = Time(1);
        film.covers(lying(50));
        film.now = Time(7);
        film.covers(lying(60));
        film.now = Time(70);
        film.covers(Vec::new());
        film.covers(lying(99));
        film.now = Time(80);
        film.covers(Vec::new());
        let bands: Vec<_> = film.bands.iter().map(|b| (b.from.0, b.to.0)).collect();
        assert_eq!(bands, [(1, 60), (70, 80)]);
    }

    #[test]
    fn what_happened_before_the_span_is_left_out() {
        let mut film = film();
        film.span.from = Time(5);
        for at in [4, 5] {
            film.now = Time(at);
            film.notice(0, 0, String::new(), at);
        }
        assert_eq!(
            film.notices.iter().map(|n| n.index).collect::<Vec<_>>(),
            [5]
        );
    }
}
