//! Snapshots on their way from one member to another, and how they take the place of tables.

use std::rc::Rc;
use std::time::Duration;

use quorate_core::codec::{
    decode_snapshot, decode_snapshot_reply, encode_snapshot, encode_snapshot_reply,
};
use quorate_core::snapshot::SnapshotFrame;
use quorate_core::{Input, LogId, NodeId, Write};

use super::World;
use crate::check::{Verdict, Violation};
use crate::clock::nanos;
use crate::disk::{Pace, SimFiles};
use crate::event::Event;
use crate::fates::Place;
use crate::fault::Fault;
use crate::network::SNAPSHOT;
use crate::node::{LogTask, Storing};
use crate::rng::{Draw, Purpose};
use crate::snapshot::{Incoming, Parcel, Source};
use crate::tables::remove_slices;

/// So often a stream that is cut waits for the network before it gives up.
const STALLS_MAX: u32 = 3;

/// The names of looks at forked disks around installs.
const INSTALLS: u64 = 1 << 40;

/// A snapshot on its way.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    from: usize,
    /// The process that sends it: when that is gone, so is the snapshot.
    sender: u64,
    to: usize,
    receiver: u64,
    /// What travels, once it was begun.
    source: Option<Source>,
    /// The receiver has said from where on it wants it.
    attached: bool,
    pieces: u64,
    /// How long one takes.
    pace: Duration,
    stalls: u32,
    /// It has arrived, and is being put on disk.
    arrived: bool,
}

impl Transfer {
    /// Whence, whither, whether it has arrived, and what it holds, once it was begun.
    pub(super) fn seen(&self) -> (usize, usize, bool, Option<LogId>) {
        (self.from, self.to, self.arrived, self.last())
    }

    /// The last entry that it contains, once it was begun.
    fn last(&self) -> Option<LogId> {
        let source = self.source.as_ref();
        source.map(|source| source.header().last)
    }
}

impl World {
    /// A leader wants a member to have a snapshot.
    pub(super) fn send_snapshot(&mut self, from: usize, to: NodeId) -> Verdict {
        let to = self.seat_of(to).expect("members send to members");
        self.snapshots += 1;
        let number = self.snapshots;
        let mut draw = self.seed.draw(Purpose::Snapshot, number, 0);
        let transfer = Transfer {
            from,
            sender: self.nodes[from].incarnation,
            to,
            receiver: self.nodes[to].incarnation,
            source: None,
            attached: false,
            pieces: 0,
            // 50 kB/s to 50 MB/s, in pieces of about 2 kB.
            pace: Duration::from_nanos(2_048_000_000 / (50 << draw.below(11))),
            stalls: 0,
            arrived: false,
        };
        self.transfers.insert(number, transfer);
        let at = self.now + self.disk_latency(from, Pace::read_latency);
        self.queue.push(at, Event::Piece { transfer: number });
        Ok(())
    }

    /// The next piece of a snapshot has reached its receiver, or should have.
    pub(super) fn piece(&mut self, number: u64) -> Verdict {
        let Some(transfer) = self.transfers.get(&number).cloned() else {
            return Ok(());
        };
        let Transfer { from, to, .. } = transfer;
        if !self.is(from, transfer.sender) {
            self.end_transfer(number);
            return Ok(());
        }
        let paused = self.nodes[from]
            .paused_until
            .max(self.nodes[to].paused_until);
        if paused > self.now {
            self.queue.push(paused, Event::Piece { transfer: number });
            return Ok(());
        }
        if transfer.source.is_none() {
            return self.begin_transfer(number);
        }
        if transfer.arrived || !self.is(to, transfer.receiver) || self.is_storing(to) {
            return self.fail_transfer(number);
        }
        let cut = self.network.cut(self.now, from, to, SNAPSHOT);
        let cut = cut.or_else(|| self.network.cut(self.now, to, from, SNAPSHOT));
        let state = self.transfers.get_mut(&number).expect("seen above");
        if let Some(fault) = cut {
            self.fates.count(fault);
            state.stalls += 1;
            if state.stalls > STALLS_MAX {
                return self.fail_transfer(number);
            }
            let at = self.now + self.options.unit() / 4;
            self.queue.push(at, Event::Piece { transfer: number });
            return Ok(());
        }
        state.pieces += 1;
        if transfer.attached {
            self.take_frame(number)
        } else {
            self.attach(number)
        }
    }

    /// The header has reached the receiver, who says from where on it wants the rest.
    fn attach(&mut self, number: u64) -> Verdict {
        let transfer = self.transfers.get_mut(&number).expect("its header came");
        let source = transfer.source.as_mut().expect("it was begun");
        let node = &mut self.nodes[transfer.to];
        let files = SimFiles::new(node.disk.clone());
        let process = node.process_mut().expect("it was seen to run");
        let held = process.incoming.take();
        if held.as_ref().is_some_and(|held| held.transfer.is_some()) {
            // Another one is on its way.
            process.incoming = held;
            return self.fail_transfer(number);
        }
        let SnapshotFrame::Header(header) =
            over_the_wire(SnapshotFrame::Header(source.header().clone()))
        else {
            unreachable!("a header stays one");
        };
        let held = held.filter(|held| *held.assembly().header() == header);
        let resumes = held.as_ref().is_some_and(Incoming::has_begun);
        let incoming = held.map_or_else(|| Incoming::new(header, &files), Ok);
        let mut incoming = incoming.map_err(|what| {
            let what = format!("n{} refuses an honest header: {what}", transfer.to);
            Violation::new("R15", &[transfer.to], what)
        })?;
        incoming.transfer = Some(number);
        let reply = encode_snapshot_reply(&incoming.assembly().resume());
        source.resume(decode_snapshot_reply(&reply).expect("what was encoded"));
        process.incoming = Some(incoming);
        transfer.attached = true;
        self.marking.resumed(resumes);
        self.schedule_piece(number);
        Ok(())
    }

    /// The next frame has reached the receiver.
    fn take_frame(&mut self, number: u64) -> Verdict {
        let transfer = self.transfers.get_mut(&number).expect("its frame came");
        let (to, source) = (transfer.to, transfer.source.as_mut().expect("it was begun"));
        let process = self.nodes[to].process_mut().expect("it was seen to run");
        let incoming = process.incoming.as_mut().expect("it is attached");
        let frame = over_the_wire(source.frame());
        let is_whole = incoming.accept(frame).map_err(|what| {
            let what = format!("n{to} refuses what comes next: {what}");
            Violation::new("R15", &[to], what)
        })?;
        if !is_whole {
            self.schedule_piece(number);
            return Ok(());
        }
        transfer.arrived = true;
        let sent = source.parcel().clone();
        let received = process.incoming.take().expect("seen above").into_parcel();
        // Whoever receives it may crash before it says that it has it.
        let limit = self.now + self.options.unit() * 4;
        self.queue.push(limit, Event::Piece { transfer: number });
        let mut draw = self.seed.draw(Purpose::Snapshot, number, 1);
        let damages = draw.percent(self.fates.dials.scale(Fault::D14, 80));
        let place = Place::Snapshot(number);
        if self.fates.allow(Fault::D14, place, 0, damages) {
            let mut damaged = received.clone();
            if damaged.damage(&mut draw) {
                self.fates.remember_one(Fault::D14, place, 0);
                return self.put_on_disk(to, number, Rc::new(damaged), sent, true);
            }
        }
        self.put_on_disk(to, number, Rc::new(received), sent, false)
    }

    /// The tables as they are now begin to travel.
    fn begin_transfer(&mut self, number: u64) -> Verdict {
        let mut draw = self.seed.draw(Purpose::Snapshot, number, 2);
        let Transfer {
            from, sender, to, ..
        } = self.transfers[&number];
        let node = &self.nodes[from];
        let parcel = Parcel::pack(&node.tables, &SimFiles::new(node.disk.clone()));
        let parcel = parcel.map_err(|error| {
            let what = format!("n{from} lists a slice that it has not: {error:?}");
            Violation::new("R15", &[from], what)
        })?;
        let fails = self.heal.is_none() && draw.percent(4);
        let place = Place::Snapshot(number);
        // Its sender finds that it cannot read its own tables.
        let fails = self.fates.strikes(Fault::D10, place, 1, fails);
        if parcel.tables.rows.is_empty() || fails || self.nodes[to].process().is_none() {
            return self.fail_transfer(number);
        }
        let (to_id, last) = (self.nodes[to].id, parcel.tables.applied);
        let receiver = self.nodes[to].incarnation;
        let state = self.transfers.get_mut(&number).expect("it is begun");
        state.receiver = receiver;
        state.source = Some(Source::new(Rc::new(parcel)));
        self.schedule_piece(number);
        self.input(from, Input::SnapshotStarted { to: to_id, last })?;
        if !self.is(from, sender) {
            self.end_transfer(number);
        }
        Ok(())
    }

    fn schedule_piece(&mut self, number: u64) {
        let transfer = &self.transfers[&number];
        let mut draw = self
            .seed
            .draw(Purpose::Snapshot, number, 8 + transfer.pieces);
        let (from, to) = (transfer.from, transfer.to);
        let sent = self.now + transfer.pace;
        let at = self.network.stream(sent, from, to, &mut draw);
        self.queue.push(at, Event::Piece { transfer: number });
    }

    /// Its stream is over; what has come waits for another one.
    fn end_transfer(&mut self, number: u64) -> Option<Transfer> {
        let transfer = self.transfers.remove(&number)?;
        let process = self.nodes[transfer.to].process_mut();
        let incoming = process.and_then(|process| process.incoming.as_mut());
        if let Some(incoming) = incoming.filter(|incoming| incoming.transfer == Some(number)) {
            incoming.transfer = None;
        }
        Some(transfer)
    }

    /// It came to nothing, and its sender learns of that sooner or later.
    fn fail_transfer(&mut self, number: u64) -> Verdict {
        let Some(transfer) = self.end_transfer(number) else {
            return Ok(());
        };
        let mut draw = self.seed.draw(Purpose::Snapshot, number, 3);
        let after = Duration::from_nanos(draw.below(nanos(self.options.unit()) / 2));
        let last = transfer.last().unwrap_or(LogId::ZERO);
        self.tell(
            transfer.from,
            transfer.sender,
            transfer.to,
            last,
            false,
            after,
        );
        Ok(())
    }

    fn tell(
        &mut self,
        seat: usize,
        incarnation: u64,
        peer: usize,
        last: LogId,
        delivered: bool,
        after: Duration,
    ) {
        self.queue.push(
            self.now + after,
            Event::SnapshotTold {
                seat,
                incarnation,
                peer,
                last,
                delivered,
            },
        );
    }

    pub(super) fn snapshot_told(
        &mut self,
        seat: usize,
        incarnation: u64,
        peer: usize,
        last: LogId,
        delivered: bool,
    ) -> Verdict {
        if !self.is(seat, incarnation) {
            return Ok(());
        }
        let to = self.nodes[peer].id;
        self.input(
            seat,
            Input::SnapshotSent {
                to,
                last,
                delivered,
            },
        )
    }

    /// N11: whatever travels between these two does not any more.
    pub(super) fn reset_transfers(&mut self, one: usize, other: usize) -> Verdict {
        let between = |transfer: &Transfer| {
            let ends = (transfer.from, transfer.to);
            !transfer.arrived && (ends == (one, other) || ends == (other, one))
        };
        let numbers = self.transfers.iter().filter(|(_, t)| between(t));
        let numbers: Vec<u64> = numbers.map(|(&number, _)| number).collect();
        for number in numbers {
            self.fail_transfer(number)?;
        }
        Ok(())
    }

    /// Whether a member sends a snapshot that has begun to travel.
    pub(super) fn is_sending(&self, seat: usize) -> bool {
        let mut transfers = self.transfers.values();
        transfers.any(|t| t.from == seat && t.source.is_some() && !t.arrived)
    }

    /// Whether a snapshot is being put on disk: one at a time, or a slice that both hold would be
    /// counted on before it is durable.
    fn is_storing(&self, seat: usize) -> bool {
        let process = self.nodes[seat].process();
        process.is_some_and(|process| !process.storing.is_empty())
    }

    /// A snapshot has arrived: its slices are put on disk, and its rows beside the tables.
    fn put_on_disk(
        &mut self,
        seat: usize,
        number: u64,
        parcel: Rc<Parcel>,
        sent: Rc<Parcel>,
        is_damaged: bool,
    ) -> Verdict {
        let node = &mut self.nodes[seat];
        let incarnation = node.incarnation;
        let mut files = SimFiles::new(node.disk.clone());
        let full = parcel.unpack(&mut files).is_err();
        let job = node.disk.borrow_mut().take_job();
        let process = node.process_mut().expect("it was seen to run");
        process.storing.push(Storing {
            number,
            job,
            parcel,
            sent,
            is_damaged,
            full,
        });
        let latency = self.disk_latency(seat, Pace::sync_latency) * 4;
        self.burn_within(seat, latency, 1 << 41);
        self.queue.push(
            self.now + latency,
            Event::SnapshotStored {
                seat,
                incarnation,
                number,
            },
        );
        Ok(())
    }

    /// It is durable there, and is looked at closely.
    pub(super) fn snapshot_stored(
        &mut self,
        seat: usize,
        incarnation: u64,
        number: u64,
    ) -> Verdict {
        if !self.is(seat, incarnation) {
            return Ok(());
        }
        let node = &mut self.nodes[seat];
        let disk = node.disk.clone();
        let process = node.process_mut().expect("it is this incarnation");
        let place = process.storing.iter().position(|s| s.number == number);
        let Some(place) = place else {
            return Ok(());
        };
        let Storing {
            job,
            parcel,
            sent,
            is_damaged,
            full,
            ..
        } = process.storing.remove(place);
        disk.borrow_mut().complete(job);
        if full {
            return self.fail_transfer(number);
        }
        let store = match parcel.verify(&SimFiles::new(disk)) {
            Ok(_) if parcel.tables.rows != sent.tables.rows => {
                let what = format!("n{seat} takes a damaged snapshot for a whole one");
                return Err(Violation::new("D14", &[seat], what));
            }
            Ok(store) => store,
            Err(_) if is_damaged => {
                self.fates.count(Fault::D14);
                return self.fail_transfer(number);
            }
            Err(what) => {
                let what = format!("n{seat} refuses a snapshot that is whole: {what}");
                return Err(Violation::new("R15", &[seat], what));
            }
        };
        self.checks.received(seat, &store, &parcel.tables.rows)?;
        let mut draw = self.seed.draw(Purpose::Snapshot, number, 4);
        self.acknowledge(number, &mut draw);
        let comes_again = draw.percent(self.fates.dials.scale(Fault::N4, 60));
        let place = Place::Snapshot(number);
        if self.fates.allow(Fault::N4, place, 0, comes_again) {
            self.fates.remember_one(Fault::N4, place, 0);
            // It comes once more, when it is old.
            let after = draw.skewed(nanos(self.options.unit()) * 12);
            self.parcels.push(sent);
            let at = self.now + Duration::from_nanos(after);
            let parcel = self.parcels.len() - 1;
            self.queue.push(at, Event::SnapshotAgain { seat, parcel });
        }
        let process = self.nodes[seat].process_mut().expect("it is up");
        process.received.push(parcel);
        let store = Box::new(store);
        self.input(seat, Input::SnapshotReceived { store })
    }

    /// The receiver says that it has it all; not every time its sender hears of it.
    fn acknowledge(&mut self, number: u64, draw: &mut Draw) {
        let Some(transfer) = self.transfers.get(&number).cloned() else {
            return;
        };
        let Transfer { from, to, .. } = transfer;
        if let Some(fault) = self.network.cut(self.now, to, from, SNAPSHOT) {
            // It is given up when its time is over.
            self.fates.count(fault);
            return;
        }
        self.end_transfer(number);
        let at = self.network.stream(self.now, to, from, draw);
        let last = transfer.last().expect("it was sent");
        let after = at.since(self.now);
        self.tell(from, transfer.sender, to, last, true, after);
    }

    /// N4: an old snapshot arrives once more.
    pub(super) fn snapshot_again(&mut self, seat: usize, parcel: usize) -> Verdict {
        if self.nodes[seat].process().is_none() || self.is_storing(seat) {
            return Ok(());
        }
        self.fates.count(Fault::N4);
        self.snapshots += 1;
        let parcel = self.parcels[parcel].clone();
        self.put_on_disk(seat, self.snapshots, parcel.clone(), parcel, false)
    }

    /// What was received is of no use.
    pub(super) fn drop_snapshot(&mut self, seat: usize, last: LogId) -> Verdict {
        self.take_received(seat, last)?;
        self.sweep_slices(seat);
        Ok(())
    }

    /// The log shall begin anew after a snapshot: that has to be in the place of the tables first.
    pub(super) fn install(&mut self, seat: usize, last: LogId, write: Write) -> Verdict {
        let parcel = self.take_received(seat, last)?;
        let incarnation = self.nodes[seat].incarnation;
        let process = self.nodes[seat].process_mut().expect("it just spoke");
        assert!(
            process.checkpoint.is_none() && process.switching.is_none(),
            "the tables are being written"
        );
        process.switching = Some((parcel, write));
        let latency = self.disk_latency(seat, Pace::sync_latency) * 2;
        self.queue
            .push(self.now + latency, Event::Switched { seat, incarnation });
        self.burn_within(seat, latency, 1 << 38);
        self.look_at_forks(INSTALLS | (2 * self.installed))
    }

    /// P2: a crash while something is done that takes so long; `what` keeps its draws apart.
    fn burn_within(&mut self, seat: usize, latency: Duration, what: u64) {
        let node = &self.nodes[seat];
        let (incarnation, count) = (node.incarnation, what | node.jobs);
        let mut draw = self
            .seed
            .draw(Purpose::Fault, what | seat as u64, node.jobs);
        let burns = draw.percent(self.fates.dials.scale(Fault::P2, 20));
        let place = Place::Node(seat);
        if self.fates.allow(Fault::P2, place, count, burns) {
            self.fates.remember_one(Fault::P2, place, count);
            let at = self.now + Duration::from_nanos(draw.below(nanos(latency)));
            self.queue.push(at, Event::Burn { seat, incarnation });
        }
    }

    /// They are, durably: now the log.
    pub(super) fn switched(&mut self, seat: usize, incarnation: u64) -> Verdict {
        if !self.is(seat, incarnation) {
            return Ok(());
        }
        let burns = self.fates.dials.scale(Fault::P2, 40);
        let jobs = self.nodes[seat].jobs;
        let mut draw = self
            .seed
            .draw(Purpose::Fault, (1 << 35) | seat as u64, jobs);
        let count = (1 << 35) | jobs;
        let node = &mut self.nodes[seat];
        let process = node.process_mut().expect("it is this incarnation");
        let Some((parcel, write)) = process.switching.take() else {
            return Ok(());
        };
        process.backlog.push_back(LogTask::Append(write));
        // P2: between the two is where it hurts.
        let (burns, place) = (draw.percent(burns), Place::Node(seat));
        if self.fates.allow(Fault::P2, place, count, burns) {
            self.fates.remember_one(Fault::P2, place, count);
            process.log_fuse = true;
        }
        self.marking.installed(seat, process);
        node.tables = parcel.tables.clone();
        self.installed += 1;
        self.checks.switched(seat, parcel.tables.applied);
        self.see_installed(seat, parcel.tables.applied);
        self.sweep_slices(seat);
        let count = INSTALLS | (2 * self.installed + 1);
        self.kick_log(seat)?;
        self.look_at_forks(count)
    }

    /// Unlinks the slices that nothing lists.
    pub(super) fn sweep_slices(&self, seat: usize) {
        let node = &self.nodes[seat];
        let removed = remove_slices(&mut SimFiles::new(node.disk.clone()), &node.kept_slices());
        removed.expect("unlinking does not fail here");
        let job = node.disk.borrow_mut().take_job();
        node.disk.borrow_mut().complete(job);
    }

    fn take_received(&mut self, seat: usize, last: LogId) -> Result<Rc<Parcel>, Violation> {
        let process = self.nodes[seat].process_mut().expect("it just spoke");
        let place = process
            .received
            .iter()
            .position(|parcel| parcel.tables.applied == last);
        let place = place.ok_or_else(|| {
            let what = format!("n{seat} speaks of a snapshot of {last}, which it was never given");
            Violation::new("R15", &[seat], what)
        })?;
        Ok(process.received.remove(place))
    }
}

/// What arrives of a frame is what the codec makes of it.
fn over_the_wire(frame: SnapshotFrame) -> SnapshotFrame {
    decode_snapshot(&encode_snapshot(&frame)).expect("what was encoded")
}
