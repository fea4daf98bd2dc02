//! Virtual time, one heap of events, and all that they happen to.

use std::sync::Arc;
use std::time::Duration;

use quorate_core::codec::{decode_message, encode_message};
use quorate_core::raft::{Message, MessageBody};
use quorate_core::store::{Command, Operation, Path};
use quorate_core::wal::WalLimits;
use quorate_core::{
    BirthRecord, EndReason, Index, Input, LogId, NodeId, Output, PeerFault, Replica, RequestError,
    RequestId, Revision, Term, WatchId,
};
use xxhash_rust::xxh3::xxh3_64;

use crate::check::durability::Image;
use crate::check::linearizability::Asked;
use crate::check::{Checks, Verdict, Violation};
use crate::client::{Begun, Client, Pending, Read, Step, digest};
use crate::clock::{Clock, Time, grain, nanos};
use crate::disk::{Pace, SimFiles};
use crate::event::Event;
use crate::fault::{Counters, Dials, Fault, kinds};
use crate::heal::Heal;
use crate::log::Log;
use crate::network::{Network, Packet};
use crate::node::{
    Caller, Checkpointing, Life, LogTask, Node, Process, Waiting, birth, put_rows, read_slice,
    recover, remove_slices, write_slices,
};
use crate::options::{Options, Profile};
use crate::process;
use crate::queue::Queue;
use crate::rng::{Draw, Purpose, Seed};
use crate::trace::Trace;

/// A run that takes more steps than this goes round in circles.
const STEPS_MAX: u64 = 20_000_000;

/// A cluster, its clients, and everything between them.
#[derive(Debug)]
pub struct World {
    pub(crate) seed: Seed,
    /// The knobs.
    pub options: Options,
    /// The faults that still happen.
    pub(crate) dials: Dials,
    pub(crate) birth: BirthRecord,
    pub(crate) limits: WalLimits,
    /// True time.
    pub now: Time,
    pub(crate) queue: Queue<Event>,
    /// What happened.
    pub trace: Trace,
    pub(crate) network: Network,
    pub(crate) nodes: Vec<Node>,
    /// The clients; the last one only configures and probes.
    pub(crate) clients: Vec<Client>,
    paths: Vec<Path>,
    /// What must hold.
    pub checks: Checks,
    /// How often each fault happened.
    pub counters: Counters,
    /// Operations begun.
    pub issued: u64,
    requests: u64,
    watches: u64,
    pub(crate) heal: Option<Heal>,
    pub(crate) finished: bool,
    /// Lines for people, if anyone reads them.
    pub log: Log,
}

impl World {
    /// The world of a run, about to begin.
    #[must_use]
    pub fn new(options: Options, checks: bool, log: Log) -> Self {
        let seed = Seed::new(options.run.seed);
        let members = options.members;
        let birth = birth(members);
        let limits = WalLimits {
            segment_bytes: options.segment_bytes,
            ready_segments: 1,
            spare_segments: 1,
        };
        let slow = seed.draw(Purpose::DiskLatency, u64::MAX, 0).place(members);
        let ids: Vec<NodeId> = birth.nodes().map(|(id, _)| id).collect();
        let nodes = ids.iter().enumerate().map(|(seat, &id)| {
            let mut draw = seed.draw(Purpose::Clock, seat as u64, 0);
            let clock = Clock::new(Time(0), &options.dials, &mut draw);
            let slow = options.dials.on(Fault::D15) && seat == slow;
            let mut draw = seed.draw(Purpose::DiskLatency, seat as u64, 0);
            Node::formatted(id, clock, Pace::new(slow, &mut draw), limits)
        });
        let mut world = Self {
            seed,
            dials: options.dials.clone(),
            limits,
            now: Time(0),
            queue: Queue::new(),
            trace: Trace::new(),
            network: Network::new(seed, members, &options.dials, options.unit()),
            nodes: nodes.collect(),
            clients: (0..=options.clients)
                .map(|n| Client::new(n, &options))
                .collect(),
            paths: options.mix.paths(seed),
            checks: Checks::new(checks, members, grain(&options.dials)),
            counters: Counters::default(),
            issued: 0,
            requests: 0,
            watches: 0,
            heal: None,
            finished: false,
            log,
            birth,
            options,
        };
        world.begin();
        world
    }

    /// Runs until the end, or until something does not hold.
    ///
    /// # Errors
    /// What does not hold.
    pub fn run(&mut self, until: Option<u64>) -> Verdict {
        if self.trace.steps() == 0 {
            let (events, verdict) = crate::birth::found(self.seed);
            self.trace.event(self.now, 105, 0, events);
            if self.checks.are_on() {
                verdict?;
            }
        }
        while !self.finished && until.is_none_or(|until| self.trace.steps() < until) {
            self.step()?;
        }
        Ok(())
    }

    /// The next event.
    fn step(&mut self) -> Verdict {
        let Some((time, event)) = self.queue.pop() else {
            return Err(Violation::new(
                "V1",
                &[],
                "nothing will ever happen again".to_owned(),
            ));
        };
        if self.trace.steps() > STEPS_MAX {
            let what = format!("{} steps and no end", self.trace.steps());
            return Err(Violation::new("V1", &[], what));
        }
        assert!(time >= self.now, "time goes back");
        self.now = time;
        // P5: what is meant for a node that stands still waits, in order.
        if let Some(seat) = event.seat()
            && self.nodes[seat].paused_until > time
        {
            let until = self.nodes[seat].paused_until;
            self.queue.push(until, event);
            return Ok(());
        }
        let (kind, place) = event.place();
        self.trace.event(time, kind, place, event.payload());
        self.handle(event)
    }

    fn begin(&mut self) {
        for seat in 0..self.nodes.len() {
            self.queue.push(Time(0), Event::Start { seat });
        }
        for client in 0..self.options.clients {
            self.queue.push(Time(0), Event::Begin { client });
        }
        for (number, kind) in kinds().enumerate() {
            if kind.gap > 0 && self.dials.on(kind.fault) {
                self.schedule_strike(number, 0);
            }
        }
        if self.options.run.profile == Profile::LeaderKiller {
            self.queue.push(
                Time(0) + self.options.unit() * 2,
                Event::KillLeader { count: 0 },
            );
        }
        self.schedule_fork(0);
        let configure = Operation::Configure(self.options.settings.clone());
        self.ask_apart(configure, 0);
    }

    fn handle(&mut self, event: Event) -> Verdict {
        match event {
            Event::Deliver {
                to,
                from,
                kind,
                packet,
            } => self.deliver(to, from, kind, &packet),
            Event::Alarm { seat, number } => self.alarm(seat, number),
            Event::Turn { seat, incarnation } => self.turn_of(seat, incarnation),
            Event::LogDone {
                seat,
                incarnation,
                job,
            } => self.log_done(seat, incarnation, job),
            Event::LogRetry { seat, incarnation } => {
                if self.is(seat, incarnation) {
                    self.kick_log(seat)
                } else {
                    Ok(())
                }
            }
            Event::CheckpointDone { seat, incarnation } => self.checkpoint_done(seat, incarnation),
            Event::SliceRead {
                seat,
                incarnation,
                slice,
            } => {
                if !self.is(seat, incarnation) {
                    return Ok(());
                }
                let files = SimFiles::new(self.nodes[seat].disk.clone());
                let events = read_slice(&files, slice);
                self.input(seat, Input::HistoryRead { slice, events })
            }
            Event::Start { seat } => self.start(seat),
            Event::Started { seat, incarnation } => self.started(seat, incarnation),
            Event::FailStart { seat, incarnation } => {
                if self.nodes[seat].incarnation == incarnation {
                    self.counters.count(Fault::P3);
                    self.crash(seat, Some(Duration::from_millis(1)));
                }
                Ok(())
            }
            Event::Burn { seat, incarnation } => {
                if self.is(seat, incarnation) && self.heal.is_none() {
                    self.counters.count(Fault::P2);
                    self.crash_for_a_while(seat);
                }
                Ok(())
            }
            Event::Stopped { seat, incarnation } => {
                if self.is(seat, incarnation) && self.heal.is_none() {
                    self.crash_for_a_while(seat);
                }
                Ok(())
            }
            Event::GaveUp { seat, peer } => {
                let peer = self.nodes[peer].id;
                self.input(seat, Input::Unreachable { peer })
            }
            Event::Strike { number, count } => self.strike(number, count),
            Event::KillLeader { count } => self.kill_leader(count),
            Event::Unfull { seat } => {
                self.nodes[seat].disk.borrow_mut().set_full(false);
                Ok(())
            }
            Event::Begin { client } => self.client_begins(client),
            Event::Arrive {
                client,
                operation,
                attempt,
            } => self.arrive(client, operation, attempt),
            Event::Answer {
                client,
                operation,
                attempt,
                result,
            } => self.answer(client, operation, attempt, &result),
            Event::Lose {
                client,
                operation,
                attempt,
            } => self.lose(client, operation, attempt, false),
            Event::Timeout {
                client,
                operation,
                attempt,
            } => self.lose(client, operation, attempt, true),
            Event::Open { client, stream } => self.open_stream(client, stream),
            Event::Credit {
                client,
                stream,
                watch,
            } => self.grant(client, stream, watch),
            Event::Fork { count } => self.fork(count),
            Event::Heal => {
                self.begin_heal();
                Ok(())
            }
            Event::Tick => self.heal_tick(),
        }
    }
}

/// Members: what reaches them and what they do.
impl World {
    fn deliver(&mut self, to: usize, from: usize, kind: u8, packet: &Packet) -> Verdict {
        if let Some(fault) = self.network.cut(self.now, from, to, kind) {
            self.counters.count(fault);
            return Ok(());
        }
        // M8: what was asked for in chaos deposes nobody afterwards.
        if self.heal.is_some() && kind == TIMEOUT_NOW {
            return Ok(());
        }
        let message = match decode_message(packet) {
            Ok(message) => message,
            Err(error) => {
                let what = format!("a message of n{from} to n{to} is refused: {error}");
                return Err(Violation::new("codec", &[from, to], what));
            }
        };
        let from_id = self.nodes[from].id;
        let local = self.nodes[to].clock.read(self.now);
        let Some(process) = self.nodes[to].process_mut() else {
            return Ok(());
        };
        let what = || format!("n{to} < n{from} @{} {:?}", message.term, message.body);
        self.log
            .line(self.now, self.trace.steps(), &[to, from], what);
        let before = self.checks.before(&process.replica, &message);
        process.replica.step(
            local,
            Input::Receive {
                from: from_id,
                message,
            },
        );
        self.checks.after(to, before, &process.replica)?;
        self.take_turn(to)
    }

    /// A replica absorbs an input, and is polled now or soon.
    pub(crate) fn input(&mut self, seat: usize, input: Input) -> Verdict {
        self.absorb(seat, input);
        self.take_turn(seat)
    }

    fn absorb(&mut self, seat: usize, input: Input) {
        let local = self.nodes[seat].clock.read(self.now);
        let Some(process) = self.nodes[seat].process_mut() else {
            return;
        };
        self.log.line(self.now, self.trace.steps(), &[seat], || {
            format!("n{seat} < {input:?}")
        });
        process.replica.step(local, input);
    }

    fn take_turn(&mut self, seat: usize) -> Verdict {
        let mut turn = self.options.turn;
        // P6: one node thinks slowly, and so takes in much at a time.
        if self.dials.on(Fault::P6) && seat == self.nodes.len() - 1 {
            self.counters.count(Fault::P6);
            turn += Duration::from_micros(self.dials.scale(Fault::P6, 20_000));
        }
        let incarnation = self.nodes[seat].incarnation;
        let Some(process) = self.nodes[seat].process_mut() else {
            return Ok(());
        };
        self.checks.observe(self.now, seat, &process.replica)?;
        if turn.is_zero() {
            return self.turn(seat);
        }
        if !process.turn_pending {
            process.turn_pending = true;
            self.queue
                .push(self.now + turn, Event::Turn { seat, incarnation });
        }
        Ok(())
    }

    fn turn_of(&mut self, seat: usize, incarnation: u64) -> Verdict {
        if !self.is(seat, incarnation) {
            return Ok(());
        }
        if let Some(process) = self.nodes[seat].process_mut() {
            process.turn_pending = false;
        }
        self.turn(seat)
    }

    /// Polls a replica until there is nothing left to do.
    fn turn(&mut self, seat: usize) -> Verdict {
        let incarnation = self.nodes[seat].incarnation;
        loop {
            let local = self.nodes[seat].clock.read(self.now);
            let Some(process) = self.nodes[seat].process_mut() else {
                return Ok(());
            };
            let output = process.replica.poll(local);
            self.checks.observe(self.now, seat, &process.replica)?;
            let Some(output) = output else {
                break;
            };
            if let Some(fuse) = &mut process.fuse {
                if *fuse == 0 {
                    self.counters.count(Fault::P2);
                    self.crash_for_a_while(seat);
                    return Ok(());
                }
                *fuse -= 1;
            }
            self.output(seat, output)?;
            if !self.is(seat, incarnation) {
                return Ok(());
            }
        }
        self.set_alarm(seat);
        self.maybe_stop(seat)
    }

    /// P9: whoever was asked to stop and is done has told everybody, and goes.
    fn maybe_stop(&mut self, seat: usize) -> Verdict {
        let Some(process) = self.nodes[seat].process() else {
            return Ok(());
        };
        if !process.is_finished() {
            return Ok(());
        }
        // A question that nobody waits for any more may stay without an answer.
        let is_open = |caller: &Caller| {
            let current = self.current(caller.client, caller.operation, caller.attempt);
            current.is_some()
        };
        let open = process.requests.iter().find(|(_, caller)| is_open(caller));
        if let Some((request, _)) = open {
            let what = format!("n{seat} has stopped and never answered {request}");
            return Err(Violation::new("L3", &[seat], what));
        }
        if let Some(watch) = process.watches.keys().next() {
            let what = format!("n{seat} has stopped and never ended {watch}");
            return Err(Violation::new("W5", &[seat], what));
        }
        self.crash_for_a_while(seat);
        Ok(())
    }

    fn output(&mut self, seat: usize, output: Output) -> Verdict {
        let step = self.trace.steps();
        self.log.line(self.now, step, &[seat], || {
            crate::log::describe(seat, &output)
        });
        match output {
            Output::Persist(write) => {
                self.checks.persists(seat, &write)?;
                self.trace.event(self.now, 100, seat as u64, write.seq.0);
                if let Some(process) = self.nodes[seat].process_mut() {
                    process.backlog.push_back(LogTask::Append(write));
                }
                self.kick_log(seat)
            }
            Output::TrimLog { below } => {
                if let Some(process) = self.nodes[seat].process_mut() {
                    process.backlog.push_back(LogTask::Trim(below));
                }
                self.kick_log(seat)
            }
            Output::Send { to, message } => {
                if let Some(process) = self.nodes[seat].process() {
                    self.checks.sends(seat, to, &process.replica, &message)?;
                }
                let bytes = encode_message(&message);
                self.trace
                    .event(self.now, 101, seat as u64, xxh3_64(&bytes));
                self.send(seat, to, kind_of(&message.body), bytes.into());
                Ok(())
            }
            Output::Checkpoint(changes) => self.checkpoint(seat, changes),
            Output::ReadHistory { slice } => {
                let incarnation = self.nodes[seat].incarnation;
                let at = self.now + self.disk_latency(seat, Pace::read_latency);
                self.queue.push(
                    at,
                    Event::SliceRead {
                        seat,
                        incarnation,
                        slice,
                    },
                );
                Ok(())
            }
            Output::Reply { request, result } => self.reply(seat, request, result),
            Output::Watching { watch, header } => {
                self.checks.streams.begins(watch, header.revision);
                if let Some((client, stream)) = self.watcher(seat, watch)
                    && let Some(state) = self.clients[client].streams.get_mut(&stream)
                {
                    state.next.get_or_insert(header.revision.next());
                }
                Ok(())
            }
            Output::Notify { watches, event } => {
                self.trace
                    .event(self.now, 102, seat as u64, event.id.index().0);
                for watch in watches {
                    self.notify(seat, watch, &event)?;
                }
                Ok(())
            }
            Output::WatchEnd {
                watch,
                reason,
                resume,
                ..
            } => self.watch_ends(seat, watch, reason, resume),
            Output::Fault {
                fault: PeerFault::WrongIdentity,
                ..
            } if self.expects_strangers(seat) => Ok(()),
            Output::Fault { peer, fault } => {
                // All peers here are honest.
                let what = format!("n{seat} accuses {peer}: {fault}");
                Err(Violation::new("peer-fault", &[seat], what))
            }
        }
    }

    fn expects_strangers(&mut self, seat: usize) -> bool {
        let process = self.nodes[seat].process_mut().expect("it just spoke");
        let expected = process.strangers > 0;
        process.strangers = process.strangers.saturating_sub(1);
        expected
    }

    /// P7: a message of another cluster, or from or to a disk that was replaced. It must change
    /// nothing (DESIGN.md §4).
    fn stranger(&mut self, seat: usize, draw: &mut Draw) -> Verdict {
        let from = draw.place(self.nodes.len());
        let (from_id, own) = (self.nodes[from].id, self.nodes[seat].id);
        let local = self.nodes[seat].clock.read(self.now);
        let disk = |id| self.birth.founder(id).expect("all are founders").disk;
        let (mut from_disk, mut to_disk) = (disk(from_id), disk(own));
        let mut birth = self.birth.hash();
        match draw.below(3) {
            0 => birth ^= 1,
            1 => from_disk.0 ^= 1 << 64,
            _ => to_disk.0 ^= 1 << 64,
        }
        let Some(process) = self.nodes[seat].process_mut() else {
            return Ok(());
        };
        let raft = process.replica.raft();
        let last = LogId {
            term: raft.hard_state().term.next(),
            index: Index(raft.last().index.0 + 9),
        };
        let (transfer, entries) = (true, [].into());
        let append = MessageBody::Append {
            previous: raft.last(),
            entries,
            committed: raft.last().index,
            round: 0,
        };
        let vote = MessageBody::Vote { last, transfer };
        let bodies = [
            vote,
            append,
            MessageBody::TimeoutNow,
            MessageBody::PreVote { last },
        ];
        let message = Message {
            birth,
            from_disk,
            to_disk,
            term: Term(raft.hard_state().term.0 + draw.below(3)),
            body: draw.pick(&bodies).clone(),
        };
        let before = self.checks.strange(&process.replica);
        let from = from_id;
        process.strangers += 1;
        let input = Input::Receive { from, message };
        process.replica.step(local, input);
        let after = self.checks.strange(&process.replica);
        if before != after {
            let what = format!("n{seat} was {before:?} and, after a stranger spoke, is {after:?}");
            return Err(Violation::new("P7", &[seat], what));
        }
        self.take_turn(seat)
    }

    fn send(&mut self, from: usize, to: NodeId, kind: u8, packet: Packet) {
        let to = self.seat_of(to).expect("members send to members");
        let arrivals = self
            .network
            .send(self.now, from, to, kind, &mut self.counters);
        for &at in arrivals.times() {
            let packet = packet.clone();
            self.queue.push(
                at,
                Event::Deliver {
                    to,
                    from,
                    kind,
                    packet,
                },
            );
        }
        if arrivals.noticed {
            let at = self.now + Duration::from_millis(5);
            self.queue.push(
                at,
                Event::GaveUp {
                    seat: from,
                    peer: to,
                },
            );
        }
    }

    fn set_alarm(&mut self, seat: usize) {
        let now = self.now;
        let node = &mut self.nodes[seat];
        let Life::Up(process) = &mut node.life else {
            return;
        };
        let Some(deadline) = process.replica.deadline() else {
            return;
        };
        // What is due already was done when polled: a clock with coarse steps may tie.
        let at = node.clock.when(deadline).max(Time(now.0 + 1_000));
        let (set, number) = &mut process.alarm;
        if set.is_none_or(|set| set <= now || at < set) {
            *number += 1;
            *set = Some(at);
            let number = (node.incarnation << 32) | *number;
            self.queue.push(at, Event::Alarm { seat, number });
        }
    }

    fn alarm(&mut self, seat: usize, number: u64) -> Verdict {
        let incarnation = self.nodes[seat].incarnation;
        let Some(process) = self.nodes[seat].process_mut() else {
            return Ok(());
        };
        if (incarnation << 32) | process.alarm.1 != number {
            return Ok(());
        }
        process.alarm.0 = None;
        self.input(seat, Input::Deadline)
    }

    /// The thread of the log begins what waits for it, if it is idle.
    fn kick_log(&mut self, seat: usize) -> Verdict {
        let node = &mut self.nodes[seat];
        let Life::Up(process) = &mut node.life else {
            return Ok(());
        };
        if process.writing.is_some() {
            return Ok(());
        }
        match process.take_log_tasks(&node.disk, node.jobs) {
            Ok(false) => Ok(()),
            Ok(true) => {
                let incarnation = node.incarnation;
                let job = node.jobs;
                let burns = std::mem::take(&mut process.log_fuse);
                let latency = self.disk_latency(seat, Pace::sync_latency);
                if burns {
                    // P2: in the midst of a write.
                    let mut draw =
                        self.seed
                            .draw(Purpose::Fault, (1 << 34) | seat as u64, incarnation);
                    let at = self.now + Duration::from_nanos(draw.below(nanos(latency)));
                    self.queue.push(at, Event::Burn { seat, incarnation });
                }
                self.queue.push(
                    self.now + latency,
                    Event::LogDone {
                        seat,
                        incarnation,
                        job,
                    },
                );
                Ok(())
            }
            Err(error) => {
                let what = format!("the log of n{seat} fails: {error}");
                Err(Violation::new("wal", &[seat], what))
            }
        }
    }

    fn log_done(&mut self, seat: usize, incarnation: u64, job: u64) -> Verdict {
        if !self.is(seat, incarnation) {
            return Ok(());
        }
        let disk = self.nodes[seat].disk.clone();
        let process = self.nodes[seat]
            .process_mut()
            .expect("it is this incarnation");
        let Some(writing) = process.writing.take_if(|writing| writing.number == job) else {
            return Ok(());
        };
        disk.borrow_mut().complete(writing.job);
        let changed = writing.full != process.disk_full;
        process.disk_full = writing.full;
        self.checks.durable(seat, &writing.writes);
        if changed {
            self.absorb(seat, Input::DiskFull(writing.full));
        }
        if writing.full {
            self.counters.count(Fault::D12);
            let at = self.now + Duration::from_millis(50);
            self.queue.push(at, Event::LogRetry { seat, incarnation });
        }
        if let Some(last) = writing.writes.last() {
            let through = last.seq;
            self.input(seat, Input::Persisted { through })?;
        } else if changed {
            self.take_turn(seat)?;
        }
        if writing.full || !self.is(seat, incarnation) {
            Ok(())
        } else {
            self.kick_log(seat)
        }
    }

    fn checkpoint(&mut self, seat: usize, changes: quorate_core::store::Changes) -> Verdict {
        let jobs = self.nodes[seat].jobs;
        let mut draw = self.seed.draw(Purpose::Checkpoint, seat as u64, jobs);
        let node = &mut self.nodes[seat];
        let incarnation = node.incarnation;
        let mut files = SimFiles::new(node.disk.clone());
        let full = write_slices(&mut files, &changes).is_err();
        let job = node.disk.borrow_mut().take_job();
        let fails = full || draw.percent(if self.heal.is_some() { 0 } else { 5 });
        let process = node
            .process_mut()
            .expect("only a running member checkpoints");
        assert!(
            process.checkpoint.is_none(),
            "one checkpoint in flight at most"
        );
        process.checkpoint = Some(Checkpointing {
            job,
            changes,
            fails,
        });
        let at = self.now + self.disk_latency(seat, Pace::sync_latency) * 4;
        self.queue
            .push(at, Event::CheckpointDone { seat, incarnation });
        Ok(())
    }

    fn checkpoint_done(&mut self, seat: usize, incarnation: u64) -> Verdict {
        if !self.is(seat, incarnation) {
            return Ok(());
        }
        let node = &mut self.nodes[seat];
        let process = node.process_mut().expect("it is this incarnation");
        let Checkpointing {
            job,
            changes,
            fails,
        } = process
            .checkpoint
            .take()
            .expect("a checkpoint was in flight");
        node.disk.borrow_mut().complete(job);
        if fails {
            return self.input(seat, Input::CheckpointFailed { changes });
        }
        put_rows(&mut node.tables, &changes);
        let kept = changes.slices.iter().map(|info| info.id).collect();
        let removed = remove_slices(&mut SimFiles::new(node.disk.clone()), &kept);
        removed.expect("unlinking does not fail here");
        let job = node.disk.borrow_mut().take_job();
        node.disk.borrow_mut().complete(job);
        let applied = changes.applied;
        self.input(seat, Input::Checkpointed { applied })
    }

    fn disk_latency(
        &mut self,
        seat: usize,
        latency: fn(&Pace, &Dials, &mut Draw, &mut Counters) -> Duration,
    ) -> Duration {
        let node = &mut self.nodes[seat];
        node.jobs += 1;
        let mut draw = self.seed.draw(Purpose::DiskLatency, seat as u64, node.jobs);
        latency(&node.pace, &self.dials, &mut draw, &mut self.counters)
    }

    pub(crate) fn is(&self, seat: usize, incarnation: u64) -> bool {
        self.nodes[seat].incarnation == incarnation && self.nodes[seat].process().is_some()
    }

    pub(crate) fn seat_of(&self, id: NodeId) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == id)
    }
}

/// Processes: starts, crashes, and other strokes of fate.
impl World {
    fn start(&mut self, seat: usize) -> Verdict {
        let lost = self.heal.as_ref().is_some_and(|heal| heal.is_lost(seat));
        if lost || !matches!(self.nodes[seat].life, Life::Down) {
            return Ok(());
        }
        let node = &mut self.nodes[seat];
        node.paused_until = Time(0);
        let incarnation = node.incarnation;
        let mut draw = self.seed.draw(Purpose::Replica, seat as u64, incarnation);
        let wall = node.clock.wall_error();
        let mut clock_draw = self.seed.draw(Purpose::Clock, seat as u64, incarnation + 1);
        node.clock = Clock::new(self.now, &self.dials, &mut clock_draw);
        node.clock.jump(wall);
        let (birth, id, limits) = (&self.birth, node.id, self.limits);
        if node.impaired {
            // What is given up needs a new segment: whoever starts it has made room.
            node.disk.borrow_mut().set_full(false);
        }
        let (impaired, own) = (node.impaired, draw.next_u64());
        match recover(birth, id, &node.disk, &node.tables, limits, impaired, own) {
            Ok((opening, wal)) => {
                let job = node.disk.borrow_mut().take_job();
                let (opening, wal) = (Box::new(opening), Box::new(wal));
                node.life = Life::Starting { job, opening, wal };
            }
            Err(what) => {
                let what = format!("n{seat} cannot start from its own disk: {what}");
                return Err(Violation::new("R11", &[seat], what));
            }
        }
        let latency = self.disk_latency(seat, Pace::read_latency)
            + self.disk_latency(seat, Pace::sync_latency);
        if draw.percent(self.dials.scale(Fault::P3, 60)) {
            let at = self.now + Duration::from_nanos(draw.below(nanos(latency)));
            self.queue.push(at, Event::FailStart { seat, incarnation });
        } else {
            self.queue
                .push(self.now + latency, Event::Started { seat, incarnation });
        }
        Ok(())
    }

    fn started(&mut self, seat: usize, incarnation: u64) -> Verdict {
        let node = &mut self.nodes[seat];
        if node.incarnation != incarnation {
            return Ok(());
        }
        let Life::Starting { job, opening, wal } = std::mem::replace(&mut node.life, Life::Down)
        else {
            return Ok(());
        };
        node.disk.borrow_mut().complete(job);
        let applied = opening.store.applied();
        let (held, start) = (opening.hard_state, opening.log_start);
        let (entries, owed) = (&opening.entries, opening.held);
        self.checks
            .restarted(self.now, seat, held, start, entries, applied, owed)?;
        let local = node.clock.read(self.now);
        let replica = Replica::new(self.options.config.clone(), *opening, local);
        node.life = Life::Up(Box::new(Process::new(replica, *wal)));
        if self.log.is_on() {
            self.log.line(self.now, self.trace.steps(), &[seat], || {
                format!("n{seat} starts: {held:?}, log after {start}, applied {applied}")
            });
        }
        self.take_turn(seat)
    }

    /// Crashes a node, which starts again after `downtime`, if at all.
    pub(crate) fn crash(&mut self, seat: usize, downtime: Option<Duration>) {
        let incarnation = self.nodes[seat].incarnation;
        let mut draw = self.seed.draw(Purpose::DiskCrash, seat as u64, incarnation);
        self.log.line(self.now, self.trace.steps(), &[seat], || {
            format!("n{seat} crashes")
        });
        let node = &mut self.nodes[seat];
        let Waiting { callers, watchers } = node.crash(&self.dials, &mut draw, &mut self.counters);
        self.damage(seat, incarnation);
        let node = &mut self.nodes[seat];
        node.paused_until = Time(0);
        self.trace
            .event(self.now, 103, seat as u64, node.incarnation);
        for Caller {
            client,
            operation,
            attempt,
        } in callers
        {
            // A connection that breaks is noticed by some; others wait until they lose patience.
            if draw.percent(50) {
                let at = self.now + Duration::from_millis(draw.below(20));
                self.queue.push(
                    at,
                    Event::Lose {
                        client,
                        operation,
                        attempt,
                    },
                );
            }
        }
        for (watch, (client, stream)) in watchers {
            self.checks.streams.drops(watch);
            if let Some(state) = self.clients[client].streams.get_mut(&stream) {
                state.open = None;
                let at = self.now + Duration::from_millis(draw.between(1, 500));
                self.queue.push(at, Event::Open { client, stream });
            }
        }
        if let Some(downtime) = downtime {
            self.queue.push(self.now + downtime, Event::Start { seat });
        }
    }

    /// D6, D7, D8: what a node that is down finds on its disk when it comes back. A majority is
    /// spared, so that what is committed is somewhere.
    fn damage(&mut self, seat: usize, incarnation: u64) {
        for fault in [Fault::D6, Fault::D7, Fault::D8] {
            let others = self.nodes.iter().enumerate();
            let impaired = others.filter(|(other, node)| *other != seat && node.is_impaired());
            let most = (self.nodes.len() - 1) / 2;
            let mut draw = self.seed.draw(
                Purpose::Damage,
                seat as u64,
                (incarnation << 8) | fault as u64,
            );
            if impaired.count() < most && draw.percent(self.dials.scale(fault, 60)) {
                let node = &mut self.nodes[seat];
                if node.disk.borrow_mut().damage(fault, &mut draw) {
                    self.counters.count(fault);
                    node.impaired = true;
                }
            }
        }
    }

    fn crash_for_a_while(&mut self, seat: usize) {
        let incarnation = self.nodes[seat].incarnation;
        let mut draw = self
            .seed
            .draw(Purpose::Fault, (1 << 32) | seat as u64, incarnation);
        let downtime = process::downtime(self.options.unit(), &mut draw);
        self.crash(seat, Some(downtime));
    }

    fn schedule_strike(&mut self, number: usize, count: u64) {
        let kind = kinds().nth(number).expect("a kind of the tables");
        let mut draw = self.seed.draw(Purpose::Fault, number as u64, 2 * count);
        let intensity = self.dials.of(kind.fault);
        if intensity > 0 {
            let gap = process::gap(kind, intensity, self.options.unit(), &mut draw);
            self.queue
                .push(self.now + gap, Event::Strike { number, count });
        }
    }

    fn strike(&mut self, number: usize, count: u64) -> Verdict {
        if self.heal.is_some() {
            return Ok(());
        }
        self.schedule_strike(number, count + 1);
        let kind = kinds().nth(number).expect("a kind of the tables");
        let fault = kind.fault;
        let mut draw = self.seed.draw(Purpose::Fault, number as u64, 2 * count + 1);
        let seat = draw.place(self.nodes.len());
        self.log.line(self.now, self.trace.steps(), &[seat], || {
            format!("{fault} strikes n{seat}")
        });
        let unit = self.options.unit();
        let hears = |world: &Self, seat: usize| world.nodes[seat].paused_until <= world.now;
        match fault {
            Fault::P1 if self.nodes[seat].process().is_some() => {
                self.counters.count(fault);
                self.crash_for_a_while(seat);
            }
            Fault::P2 => {
                let seat = self.leader().filter(|_| draw.percent(60)).unwrap_or(seat);
                let (effects, at_log) = (draw.below(12), draw.percent(50));
                if let Some(process) = self.nodes[seat].process_mut() {
                    if at_log {
                        process.log_fuse = true;
                    } else {
                        process.fuse = Some(effects);
                    }
                }
            }
            Fault::P4 => {
                self.counters.count(fault);
                for seat in 0..self.nodes.len() {
                    let downtime = Duration::from_nanos(draw.below(nanos(unit)));
                    if !matches!(self.nodes[seat].life, Life::Down) {
                        self.crash(seat, Some(downtime));
                    }
                }
            }
            Fault::P5 if self.nodes[seat].process().is_some() => {
                self.counters.count(fault);
                self.nodes[seat].paused_until = self.now + process::pause(unit, &mut draw);
            }
            Fault::C5 => {
                let seat = self.leader().filter(|_| draw.percent(60)).unwrap_or(seat);
                if self.nodes[seat].process().is_none() {
                    return Ok(());
                }
                self.counters.count(fault);
                // Longer than it takes to elect another, mostly.
                let span = process::pause(unit, &mut draw) + unit;
                let until = self.now + span;
                self.nodes[seat].clock.suspend(self.now, until);
                self.nodes[seat].paused_until = until;
                // It does not know how long it was gone, and nobody can tell it at once.
                let told = until + Duration::from_nanos(draw.below(2 * nanos(unit)));
                match draw.below(3) {
                    0 => {}
                    1 => self.network.cut_off(seat, self.now, told),
                    _ => self.network.clog(seat, told),
                }
            }
            Fault::P7 if hears(self, seat) => {
                self.counters.count(fault);
                return self.stranger(seat, &mut draw);
            }
            Fault::P9 if hears(self, seat) => {
                let incarnation = self.nodes[seat].incarnation;
                let Some(process) = self.nodes[seat].process_mut() else {
                    return Ok(());
                };
                if !process.stopping {
                    process.stopping = true;
                    self.counters.count(fault);
                    let at = self.now + unit * 4;
                    self.queue.push(at, Event::Stopped { seat, incarnation });
                    return self.input(seat, Input::Shutdown);
                }
            }
            Fault::P1 | Fault::P5 | Fault::P7 | Fault::P9 => {}
            Fault::M8 => {
                let to = self.nodes[seat].id;
                if let Some(leader) = self.leader().filter(|&seat| hears(self, seat)) {
                    self.counters.count(fault);
                    return self.input(leader, Input::Transfer { to });
                }
            }
            Fault::C1 | Fault::C2 => {
                self.counters.count(fault);
                let mean = *draw.pick(&[1_000_000_000, 1 << 55]);
                let by = draw.skewed(mean);
                let by = i64::try_from(by).unwrap_or(i64::MAX);
                self.nodes[seat]
                    .clock
                    .jump(if fault == Fault::C1 { by } else { -by });
            }
            Fault::C3 => {
                self.counters.count(fault);
                let now = self.now;
                self.nodes[seat]
                    .clock
                    .change_rate(now, &self.dials, &mut draw);
                if let Some(process) = self.nodes[seat].process_mut() {
                    process.alarm.0 = None;
                }
                self.set_alarm(seat);
            }
            Fault::D12 => {
                self.nodes[seat].disk.borrow_mut().set_full(true);
                let until = self.now + Duration::from_nanos(draw.skewed(2 * nanos(unit)));
                self.queue.push(until, Event::Unfull { seat });
            }
            Fault::N6 | Fault::N7 | Fault::N8 | Fault::N9 | Fault::N12 | Fault::N14 => {
                self.network
                    .strike(fault, self.now, &mut draw, &mut self.counters);
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
            | Fault::D6
            | Fault::D7
            | Fault::D8
            | Fault::D15
            | Fault::C6
            | Fault::P3
            | Fault::P6 => unreachable!("{fault} does not strike now and then"),
        }
        Ok(())
    }

    /// T4: every 2 E the leader goes.
    fn kill_leader(&mut self, count: u64) -> Verdict {
        if self.heal.is_some() {
            return Ok(());
        }
        let unit = self.options.unit();
        self.checks.churned(self.now, unit * 20)?;
        if let Some(seat) = self.leader() {
            self.counters.count(Fault::P1);
            let mut draw = self.seed.draw(Purpose::Fault, 1 << 33, count);
            let downtime = Duration::from_nanos(draw.between(nanos(unit) / 4, nanos(unit)));
            self.crash(seat, Some(downtime));
        }
        let count = count + 1;
        self.queue
            .push(self.now + unit * 2, Event::KillLeader { count });
        Ok(())
    }

    /// Who leads the latest term, of those that run.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leaders = self.nodes.iter().enumerate().filter_map(|(seat, node)| {
            let raft = node.process()?.replica.raft();
            raft.is_leader().then(|| (raft.hard_state().term, seat))
        });
        leaders.max().map(|(_, seat)| seat)
    }

    fn schedule_fork(&mut self, count: u64) {
        let mut draw = self.seed.draw(Purpose::Fork, count, 0);
        let after = draw.skewed(nanos(self.options.unit()) * self.options.fork_every);
        self.queue.push(
            self.now + Duration::from_nanos(after),
            Event::Fork { count },
        );
    }

    /// R11: what if all lost power now?
    fn fork(&mut self, count: u64) -> Verdict {
        if self.heal.is_some() {
            return Ok(());
        }
        self.schedule_fork(count + 1);
        if !self.checks.are_on() {
            return Ok(());
        }
        let mut images = Vec::new();
        for (seat, node) in self.nodes.iter().enumerate() {
            let mut draw = self.seed.draw(Purpose::Fork, count, seat as u64 + 1);
            let (disk, tables) = node.fork(&self.dials, &mut draw, &mut Counters::default());
            let (birth, limits) = (&self.birth, self.limits);
            let opening = recover(birth, node.id, &disk, &tables, limits, node.impaired, 0);
            match opening {
                Ok((opening, _)) => images.push(
                    Image::recovered(
                        opening.hard_state,
                        opening.store.applied(),
                        opening.log_start,
                        &opening.entries,
                    )
                    .owing(opening.held),
                ),
                Err(what) => {
                    let what = format!("n{seat} could not start after a power cut: {what}");
                    return Err(Violation::new("R11", &[seat], what));
                }
            }
        }
        self.checks.forked(&images)
    }
}

/// Clients: their operations and streams.
impl World {
    fn client_begins(&mut self, client: usize) -> Verdict {
        if self.heal.is_some() || self.issued >= self.options.operations {
            return Ok(());
        }
        self.issued += 1;
        if self.issued == self.options.operations {
            self.queue.push(self.now, Event::Heal);
        }
        match self.clients[client].begin(self.seed, &self.options, &self.paths) {
            Begun::Operation { .. } => {
                let pending = self.clients[client].pending.clone().expect("just begun");
                self.checks.witness.asks(pending.operation, pending.asked);
                self.ask(client, Duration::ZERO);
            }
            Begun::Stream { opened, closed } => {
                if let Some((stream, state)) = closed {
                    self.checks.streams.forgets(stream);
                    if let Some((watch, seat)) = state.open
                        && let Some(process) = self.nodes[seat].process_mut()
                        && process.watches.remove(&watch).is_some()
                    {
                        self.input(seat, Input::Unwatch { watch })?;
                    }
                }
                self.queue.push(
                    self.now,
                    Event::Open {
                        client,
                        stream: opened,
                    },
                );
                self.schedule_begin(client);
            }
        }
        Ok(())
    }

    /// The client apart from the others asks for `operation`.
    pub(crate) fn ask_apart(&mut self, operation: Operation, seat: usize) {
        let client = self.options.clients;
        self.clients[client].begun += 1;
        let number = ((client as u64) << 32) | self.clients[client].begun;
        let command = Arc::new(Command {
            client: None,
            operation,
        });
        let asked = Asked::Write(command);
        self.checks.witness.asks(number, asked.clone());
        self.clients[client].pending = Some(Pending {
            operation: number,
            asked,
            attempt: 1,
            seat,
            request: None,
        });
        self.ask(client, Duration::ZERO);
    }

    fn ask(&mut self, client: usize, after: Duration) {
        let Some(pending) = &self.clients[client].pending else {
            return;
        };
        let (operation, attempt) = (pending.operation, pending.attempt);
        let mut draw = self.seed.draw(Purpose::ClientLink, operation, 2 * attempt);
        let way = Duration::from_micros(draw.between(50, 1_000));
        let at = self.now + after + way;
        self.queue.push(
            at,
            Event::Arrive {
                client,
                operation,
                attempt,
            },
        );
        // Whoever probes for progress waits until the time for that is over.
        let probes = client == self.options.clients;
        let at = at + self.options.patience * if probes { 100 } else { 1 };
        self.queue.push(
            at,
            Event::Timeout {
                client,
                operation,
                attempt,
            },
        );
    }

    fn arrive(&mut self, client: usize, operation: u64, attempt: u64) -> Verdict {
        let Some(pending) = self.current(client, operation, attempt) else {
            return Ok(());
        };
        let (seat, asked) = (pending.seat, pending.asked.clone());
        if self.nodes[seat].paused_until > self.now {
            let until = self.nodes[seat].paused_until;
            self.queue.push(
                until,
                Event::Arrive {
                    client,
                    operation,
                    attempt,
                },
            );
            return Ok(());
        }
        self.requests += 1;
        let request = RequestId(self.requests);
        let Some(process) = self.nodes[seat].process_mut() else {
            let mut draw = self
                .seed
                .draw(Purpose::ClientLink, operation, 2 * attempt + 1);
            let step = self.clients[client].refused(&self.options, &mut draw);
            return self.follow(client, operation, step);
        };
        process.requests.insert(
            request,
            Caller {
                client,
                operation,
                attempt,
            },
        );
        if let Some(pending) = &mut self.clients[client].pending {
            pending.request = Some(request);
        }
        match asked {
            Asked::Write(command) => {
                self.checks.witness.hands_in(operation);
                let command = (*command).clone();
                self.input(seat, Input::Propose { request, command })
            }
            Asked::Read(query) => self.input(seat, Input::Read { request, query }),
        }
    }

    fn reply(
        &mut self,
        seat: usize,
        request: RequestId,
        result: Result<quorate_core::store::Response, RequestError>,
    ) -> Verdict {
        let process = self.nodes[seat].process_mut().expect("it just replied");
        let Some(Caller {
            client,
            operation,
            attempt,
        }) = process.requests.remove(&request)
        else {
            let what = format!("n{seat} answers {request}, which is not open: {result:?}");
            return Err(Violation::new("L3", &[seat], what));
        };
        self.trace
            .event(self.now, 104, seat as u64, digest(&result));
        let not_done = matches!(
            result,
            Err(RequestError::NotLeader { .. }
                | RequestError::Busy
                | RequestError::DiskFull
                | RequestError::Stopping)
        );
        if not_done && self.checks.are_on() {
            self.checks.witness.refuses(operation)?;
        }
        let mut draw = self
            .seed
            .draw(Purpose::ClientLink, operation, 2 * attempt + 1);
        let at = self.now + Duration::from_micros(draw.between(50, 1_000));
        let result = Box::new(result);
        self.queue.push(
            at,
            Event::Answer {
                client,
                operation,
                attempt,
                result,
            },
        );
        Ok(())
    }

    fn answer(
        &mut self,
        client: usize,
        operation: u64,
        attempt: u64,
        result: &Result<quorate_core::store::Response, RequestError>,
    ) -> Verdict {
        let Some(pending) = self.current(client, operation, attempt) else {
            return Ok(());
        };
        let seat = pending.seat;
        if self.checks.are_on() {
            let Checks {
                witness,
                ledger,
                model,
                ..
            } = &mut self.checks;
            witness.answers(operation, seat, result, ledger, model)?;
        }
        let mut draw = self
            .seed
            .draw(Purpose::ClientLink, operation, (1 << 32) | attempt);
        let ids: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        let seat_of = |id| ids.iter().position(|&node| node == id);
        let step = self.clients[client].answered(result, seat_of, &self.options, &mut draw);
        if client == self.options.clients && result.is_ok() {
            self.probe_answered();
        }
        self.follow(client, operation, step)
    }

    fn lose(&mut self, client: usize, operation: u64, attempt: u64, patience: bool) -> Verdict {
        let Some(pending) = self.current(client, operation, attempt) else {
            return Ok(());
        };
        let (seat, request) = (pending.seat, pending.request);
        if let Some(request) = request.filter(|_| patience)
            && matches!(pending.asked, Asked::Read(_))
            && let Some(process) = self.nodes[seat].process_mut()
            && process.requests.contains_key(&request)
        {
            self.input(seat, Input::Cancel { request })?;
        }
        let mut draw = self
            .seed
            .draw(Purpose::ClientLink, operation, (1 << 33) | attempt);
        let step = self.clients[client].lost(&self.options, &mut draw);
        self.follow(client, operation, step)
    }

    fn follow(&mut self, client: usize, operation: u64, step: Step) -> Verdict {
        match step {
            Step::Ask { after, .. } => self.ask(client, after),
            Step::Over => {
                self.checks.witness.closes(operation);
                self.clients[client].pending = None;
                if client < self.options.clients {
                    self.schedule_begin(client);
                }
            }
        }
        Ok(())
    }

    fn schedule_begin(&mut self, client: usize) {
        let begun = self.clients[client].begun;
        let mut draw = self
            .seed
            .draw(Purpose::ClientLink, client as u64, (1 << 40) | begun);
        let mean = nanos(self.options.think);
        let think = if draw.percent(self.options.mix.bursts) {
            draw.below(2_000_000)
        } else {
            draw.skewed(mean)
        };
        self.queue.push(
            self.now + Duration::from_nanos(think),
            Event::Begin { client },
        );
    }

    fn current(&self, client: usize, operation: u64, attempt: u64) -> Option<&Pending> {
        let pending = self.clients[client].pending.as_ref()?;
        (pending.operation == operation && pending.attempt == attempt).then_some(pending)
    }

    fn open_stream(&mut self, client: usize, stream: u64) -> Verdict {
        let Some(state) = self.clients[client].streams.get_mut(&stream) else {
            return Ok(());
        };
        if state.open.is_some() {
            return Ok(());
        }
        state.opened += 1;
        self.watches += 1;
        let watch = WatchId(self.watches);
        let mut draw = self.seed.draw(Purpose::Watcher, stream, state.opened);
        let seat = draw.place(self.nodes.len());
        let (filter, since, credit) = (state.filter.clone(), state.next, state.pace.0);
        let Some(process) = self.nodes[seat].process_mut() else {
            let at = self.now + Duration::from_millis(draw.between(20, 500));
            self.queue.push(at, Event::Open { client, stream });
            return Ok(());
        };
        process.watches.insert(watch, (client, stream));
        self.checks
            .streams
            .opens(stream, watch, seat, &filter, since);
        if let Some(state) = self.clients[client].streams.get_mut(&stream) {
            state.open = Some((watch, seat));
            state.credit = credit;
        }
        self.input(
            seat,
            Input::Watch {
                watch,
                filter,
                since,
                credit,
            },
        )
    }

    fn watcher(&self, seat: usize, watch: WatchId) -> Option<(usize, u64)> {
        self.nodes[seat].process()?.watches.get(&watch).copied()
    }

    fn notify(
        &mut self,
        seat: usize,
        watch: WatchId,
        event: &quorate_core::store::Event,
    ) -> Verdict {
        self.checks.notified(watch, event)?;
        let Some((client, stream)) = self.watcher(seat, watch) else {
            return Ok(());
        };
        match self.clients[client].notified(stream, event) {
            Read::On => {}
            Read::Enough => {
                self.clients[client].streams.remove(&stream);
                self.checks.streams.forgets(stream);
                if let Some(process) = self.nodes[seat].process_mut() {
                    process.watches.remove(&watch);
                }
                self.absorb(seat, Input::Unwatch { watch });
            }
            Read::Pause(pause) => {
                // Once chaos has ended, nobody is slow.
                let pause = if self.heal.is_some() {
                    Duration::ZERO
                } else {
                    pause
                };
                let at = self.now + pause;
                self.queue.push(
                    at,
                    Event::Credit {
                        client,
                        stream,
                        watch,
                    },
                );
            }
        }
        Ok(())
    }

    fn grant(&mut self, client: usize, stream: u64, watch: WatchId) -> Verdict {
        let Some(state) = self.clients[client].streams.get_mut(&stream) else {
            return Ok(());
        };
        let Some((open, seat)) = state.open else {
            return Ok(());
        };
        if open != watch {
            return Ok(());
        }
        state.credit = state.pace.0;
        let events = state.pace.0;
        self.input(seat, Input::Credit { watch, events })
    }

    fn watch_ends(
        &mut self,
        seat: usize,
        watch: WatchId,
        reason: EndReason,
        resume: Revision,
    ) -> Verdict {
        self.checks.watch_ends(watch, reason, resume)?;
        let process = self.nodes[seat].process_mut().expect("it just spoke");
        let Some((client, stream)) = process.watches.remove(&watch) else {
            return Ok(());
        };
        if self.clients[client].ended(stream, reason, resume) {
            let at = self.now + Duration::from_millis(20);
            self.queue.push(at, Event::Open { client, stream });
        } else {
            self.checks.streams.forgets(stream);
        }
        Ok(())
    }
}

const TIMEOUT_NOW: u8 = 6;

/// The kind of a message, as N12 tells them apart.
fn kind_of(body: &MessageBody) -> u8 {
    match body {
        MessageBody::PreVote { .. } => 0,
        MessageBody::PreVoteReply { .. } => 1,
        MessageBody::Vote { .. } => 2,
        MessageBody::VoteReply { .. } => 3,
        MessageBody::Append { .. } => 4,
        MessageBody::AppendReply { .. } => 5,
        MessageBody::TimeoutNow => TIMEOUT_NOW,
    }
}
