//! Streams: the clients' watches, what they are told, and how they go on elsewhere.

use std::time::Duration;

use quorate_core::{EndReason, Input, Revision, WatchId};

use super::World;
use crate::check::{Verdict, Violation};
use crate::client::Read;
use crate::event::Event;
use crate::fault::Fault;
use crate::rng::{Draw, Purpose};
use crate::words;

impl World {
    pub(super) fn open_stream(&mut self, client: usize, stream: u64) -> Verdict {
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
        let once = state.once;
        self.mark_watch(seat, since);
        let Some(process) = self.nodes[seat].process_mut() else {
            let at = self.now + Duration::from_millis(draw.between(20, 500));
            self.queue.push(at, Event::Open { client, stream });
            return Ok(());
        };
        process.watches.insert(watch, (client, stream));
        self.see_watch(seat, watch, || words::watch(&filter, since));
        self.checks
            .streams
            .opens(stream, watch, seat, &filter, since, once);
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

    pub(super) fn watcher(&self, seat: usize, watch: WatchId) -> Option<(usize, u64)> {
        self.nodes[seat].process()?.watches.get(&watch).copied()
    }

    pub(super) fn notify(
        &mut self,
        seat: usize,
        watch: WatchId,
        event: &quorate_core::store::Event,
    ) -> Verdict {
        self.see_event(seat, watch, event);
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

    pub(super) fn grant(&mut self, client: usize, stream: u64, watch: WatchId) -> Verdict {
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

    pub(super) fn watch_ends(
        &mut self,
        seat: usize,
        watch: WatchId,
        reason: EndReason,
        resume: Revision,
    ) -> Verdict {
        self.see_watch(seat, watch, || format!("watch ends: {reason:?}"));
        self.checks.watch_ends(watch, reason, resume)?;
        let process = self.nodes[seat].process_mut().expect("it just spoke");
        let Some((client, stream)) = process.watches.remove(&watch) else {
            let what = format!("n{seat} ends {watch}, which is over or was given up");
            return Err(Violation::new("watch-end", &[seat], what));
        };
        if self.clients[client].ended(stream, reason, resume) {
            let at = self.now + Duration::from_millis(20);
            self.queue.push(at, Event::Open { client, stream });
        } else {
            self.checks.streams.forgets(stream);
        }
        Ok(())
    }

    /// K4, K6, K7: what befalls clients.
    pub(super) fn strike_clients(&mut self, fault: Fault, draw: &mut Draw) -> Verdict {
        let client = draw.place(self.options.clients);
        let (clients, slowest) = if fault == Fault::K7 {
            (0..self.options.clients, 20)
        } else {
            (client..client + 1, 500)
        };
        for client in clients {
            let streams: Vec<u64> = self.clients[client].streams.keys().copied().collect();
            let one = draw.place(streams.len().max(1));
            for (place, &stream) in streams.iter().enumerate() {
                if fault != Fault::K6 || place == one {
                    self.cut_stream(client, stream)?;
                    let at = self.now + Duration::from_millis(draw.between(1, slowest));
                    self.queue.push(at, Event::Open { client, stream });
                }
            }
        }
        if fault == Fault::K4 {
            self.dies(client);
        }
        Ok(())
    }

    /// A client's connection is gone, and the node that served its stream notices.
    fn cut_stream(&mut self, client: usize, stream: u64) -> Verdict {
        let state = self.clients[client].streams.get_mut(&stream);
        let Some((watch, seat)) = state.and_then(|state| state.open.take()) else {
            return Ok(());
        };
        self.checks.streams.drops(watch);
        let process = self.nodes[seat].process_mut();
        if process.is_some_and(|process| process.watches.remove(&watch).is_some()) {
            self.absorb(seat, Input::Unwatch { watch });
            if self.nodes[seat].paused_until <= self.now {
                return self.take_turn(seat);
            }
        }
        Ok(())
    }

    /// K4: a client dies, and another takes its place.
    fn dies(&mut self, client: usize) {
        let streams = std::mem::take(&mut self.clients[client].streams);
        for stream in streams.into_keys() {
            self.checks.streams.forgets(stream);
        }
        let pending = self.clients[client].pending.take();
        self.clients[client].dies();
        if let Some(pending) = pending {
            self.checks.witness.closes(pending.operation);
            self.schedule_begin(client);
        }
    }
}
