//! Members: what reaches them, and what they do.

use std::time::Duration;

use quorate_core::codec::{decode_message, encode_message};
use quorate_core::raft::MessageBody;
use quorate_core::{Input, NodeId, Output, PeerFault};
use xxhash_rust::xxh3::xxh3_64;

use super::World;
use super::marking::Marking;
use crate::check::{Verdict, Violation};
use crate::clock::{Time, nanos};
use crate::disk::Pace;
use crate::event::Event;
use crate::fates::Place;
use crate::fault::Fault;
use crate::mark::Mark;
use crate::network::Packet;
use crate::node::{Caller, Life, LogTask};
use crate::rng::Purpose;

impl World {
    pub(super) fn deliver(
        &mut self,
        to: usize,
        from: usize,
        kind: u8,
        packet: &Packet,
        sent: Time,
    ) -> Verdict {
        self.see_delivery(from, to, kind, packet, sent);
        if self.network.was_reset(from, to, sent) {
            self.fates.count(Fault::N11);
            return Ok(());
        }
        if let Some(fault) = self.network.cut(self.now, from, to, kind) {
            self.fates.count(fault);
            return Ok(());
        }
        // M8: what was asked for in chaos deposes nobody afterwards.
        let is_over = self.heal.as_ref().is_some_and(|heal| !heal.hands_over());
        if is_over && kind == TIMEOUT_NOW {
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
        self.watchdog.hears(self.now, to, from);
        let is_late = self.heal.as_ref().is_some_and(|heal| heal.is_late(sent));
        self.checks.hears(to, from_id, &message.body, is_late);
        let before = self.checks.before(&process.replica, &message);
        let heard = Marking::hears(from_id, &message, &process.replica);
        process.replica.step(
            local,
            Input::Receive {
                from: from_id,
                message,
            },
        );
        let raft = process.replica.raft();
        self.marking.heard(self.now, (from, to), heard, raft);
        self.checks.after(to, before, &process.replica)?;
        self.take_turn(to)
    }

    /// A replica absorbs an input, and is polled now or soon.
    pub(crate) fn input(&mut self, seat: usize, input: Input) -> Verdict {
        self.absorb(seat, input);
        self.take_turn(seat)
    }

    pub(super) fn absorb(&mut self, seat: usize, input: Input) {
        let local = self.nodes[seat].clock.read(self.now);
        let Some(process) = self.nodes[seat].process_mut() else {
            return;
        };
        self.log.line(self.now, self.trace.steps(), &[seat], || {
            crate::log::describe_input(seat, &input)
        });
        self.checks.absorbs(seat, &input, &process.replica);
        process.replica.step(local, input);
    }

    pub(super) fn take_turn(&mut self, seat: usize) -> Verdict {
        let mut turn = self.options.turn;
        if self.ponders && seat == self.nodes.len() - 1 {
            turn += Duration::from_micros(self.fates.dials.scale(Fault::P6, 20_000));
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

    pub(super) fn turn_of(&mut self, seat: usize, incarnation: u64) -> Verdict {
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
                    self.fates.count(Fault::P2);
                    self.marking.marks.add(Mark::CrashBetweenEffects);
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
        self.cancelled_are_answered(seat)?;
        self.maybe_stop(seat)
    }

    /// Whoever has lost patience was told at once how things stand.
    fn cancelled_are_answered(&mut self, seat: usize) -> Verdict {
        let Some(process) = self.nodes[seat].process_mut() else {
            return Ok(());
        };
        let cancelled = std::mem::take(&mut process.cancelled);
        let open = cancelled
            .iter()
            .find(|id| process.requests.contains_key(id));
        open.map_or(Ok(()), |request| {
            let what = format!("n{seat} did not answer {request} when it was cancelled");
            Err(Violation::new("V8", &[seat], what))
        })
    }

    /// P10: whoever was asked to stop and is done has told everybody, and goes.
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
        self.mark_output(seat, &output);
        match output {
            Output::Persist(write) => {
                self.see_write(seat, &write);
                self.checks.persists(seat, &write)?;
                self.trace.event(self.now, 100, seat as u64, write.seq.0);
                if let Some(last) = write.install {
                    return self.install(seat, last, write);
                }
                if let Some(process) = self.nodes[seat].process_mut() {
                    process.backlog.push_back(LogTask::Append(write));
                }
                self.kick_log(seat)
            }
            Output::TrimLog { below } => {
                self.checks.trims(seat, below);
                if let Some(process) = self.nodes[seat].process_mut() {
                    process.backlog.push_back(LogTask::Trim(below));
                }
                self.kick_log(seat)
            }
            Output::Send { to, message } => {
                if let Some(process) = self.nodes[seat].process_mut()
                    && let MessageBody::ReadIndex { nonce, .. } = message.body
                {
                    process.nonce = nonce;
                }
                if let Some(process) = self.nodes[seat].process() {
                    self.scene.leaves(seat, to, &message);
                    if matches!(message.body, MessageBody::TimeoutNow)
                        && let Some(to) = self.seat_of(to)
                    {
                        let last = process.replica.raft().last();
                        self.checks.hands_over(seat, to, last)?;
                    }
                    self.checks.sends(seat, to, &process.replica, &message)?;
                }
                let bytes = encode_message(&message);
                self.trace
                    .event(self.now, 101, seat as u64, xxh3_64(&bytes));
                self.send(seat, to, kind_of(&message.body), bytes.into());
                Ok(())
            }
            Output::Checkpoint(changes) => self.checkpoint(seat, changes),
            Output::SendSnapshot { to } => self.send_snapshot(seat, to),
            Output::DropSnapshot { last } => self.drop_snapshot(seat, last),
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

    fn send(&mut self, from: usize, to: NodeId, kind: u8, packet: Packet) {
        let to = self.seat_of(to).expect("members send to members");
        let replays = self.fates.counters.of(Fault::N4);
        let arrivals = self.network.send(self.now, from, to, kind, &mut self.fates);
        if self.fates.counters.of(Fault::N4) > replays {
            self.marking
                .replays(from, to, kind, arrivals.times().last());
        }
        self.see_sent(from, to, kind, &packet, arrivals.times().is_empty());
        for &at in arrivals.times() {
            let (packet, sent) = (packet.clone(), self.now);
            self.queue.push(
                at,
                Event::Deliver {
                    to,
                    from,
                    kind,
                    packet,
                    sent,
                },
            );
        }
        if let Some(how) = arrivals.spoiled {
            // Whatever it is taken for, nobody ever sees it: only that reading it ends.
            let _ = decode_message(&spoiled(&packet, how));
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

    pub(super) fn set_alarm(&mut self, seat: usize) {
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
            let at = self.oversleep(seat, number, at);
            self.queue.push(at, Event::Alarm { seat, number });
        }
    }

    /// C7: when the timer of this number fires, which should at `due`.
    fn oversleep(&mut self, seat: usize, number: u64, due: Time) -> Time {
        if !self.fates.dials.on(Fault::C7) {
            return due;
        }
        let mut draw = self.seed.draw(Purpose::Alarm, seat as u64, number);
        let is_late = draw.percent(self.fates.dials.scale(Fault::C7, 20));
        if !self
            .fates
            .strikes(Fault::C7, Place::Node(seat), number, is_late)
        {
            return due;
        }
        let unit = nanos(self.options.unit());
        let late = due + Duration::from_nanos(draw.skewed(unit / 8).min(2 * unit));
        self.watchdog.oversleeps(seat, late);
        late
    }

    pub(super) fn alarm(&mut self, seat: usize, number: u64) -> Verdict {
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
}

const TIMEOUT_NOW: u8 = 6;

/// N13: a packet with one bit flipped.
fn spoiled(packet: &[u8], how: u64) -> Vec<u8> {
    let mut bytes = packet.to_vec();
    let place = usize::try_from(how >> 3).unwrap_or(0) % bytes.len().max(1);
    if let Some(byte) = bytes.get_mut(place) {
        *byte ^= 1 << (how & 7);
    }
    bytes
}

/// The kind of a message, as N12 tells them apart.
pub(super) fn kind_of(body: &MessageBody) -> u8 {
    match body {
        MessageBody::PreVote { .. } => 0,
        MessageBody::PreVoteReply { .. } => 1,
        MessageBody::Vote { .. } => 2,
        MessageBody::VoteReply { .. } => 3,
        MessageBody::Append { .. } => 4,
        MessageBody::AppendReply { .. } => 5,
        MessageBody::TimeoutNow => TIMEOUT_NOW,
        MessageBody::Propose { .. } => 7,
        MessageBody::ProposeRefused { .. } => 8,
        MessageBody::ReadIndex { .. } => 9,
        MessageBody::ReadIndexReply { .. } => 10,
    }
}
