//! Streams: the clients' watches, what they are told, and how they go on elsewhere.

use std::time::Duration;

use quorate_core::{EndReason, Input, Revision, WatchId};

use super::World;
use crate::check::Verdict;
use crate::client::Read;
use crate::event::Event;
use crate::rng::Purpose;
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
