//! Requests: what clients ask, how it reaches a member, and how the answer comes back.

use std::collections::VecDeque;
use std::time::Duration;

use quorate_core::{Input, NodeId, RequestError, RequestId};

use super::World;
use crate::check::linearizability::Asked;
use crate::check::{Checks, Verdict, Violation};
use crate::client::{Begun, Pending, Step, Wanted, digest};
use crate::clock::{Time, nanos};
use crate::event::Event;
use crate::fates::Place;
use crate::fault::Fault;
use crate::node::Caller;
use crate::plan::PlannedOperation;
use crate::rng::Purpose;

impl World {
    pub(super) fn client_begins(&mut self, client: usize) -> Verdict {
        let Some(wanted) = self.wanted(client) else {
            return Ok(());
        };
        self.issued += 1;
        if wanted.is_slow() {
            self.fates.count(Fault::K5);
        }
        if wanted.wish.is_large() {
            self.fates.count(Fault::K8);
        }
        if let Some(begun) = &mut self.begun {
            begun.push(PlannedOperation {
                at: self.now,
                client,
                wanted: wanted.clone(),
            });
        }
        match self.clients[client].begin(wanted) {
            Begun::Operation { seat } => {
                if self.fates.dials.on(Fault::K9) && self.leader() != Some(seat) {
                    self.fates.count(Fault::K9);
                }
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

    /// What a client does next: what is planned, or what it will.
    fn wanted(&mut self, client: usize) -> Option<Wanted> {
        if let Some(script) = &mut self.script {
            let next = script.operations.get_mut(&client)?.pop_front()?;
            return Some(next.wanted);
        }
        if self.issued >= self.options.operations {
            return None;
        }
        if self.issued + 1 == self.options.operations {
            self.queue.push(self.now, Event::Heal);
        }
        let (options, dials) = (&self.options, &self.fates.dials);
        Some(self.clients[client].wants(self.seed, options, dials, &self.paths))
    }

    /// The client apart from the others asks.
    pub(crate) fn ask_apart(&mut self, asked: Asked, seat: usize) {
        let client = self.options.clients;
        self.clients[client].begun += 1;
        let number = ((client as u64) << 32) | self.clients[client].begun;
        self.checks.witness.asks(number, asked.clone());
        self.clients[client].pending = Some(Pending {
            operation: number,
            asked,
            attempt: 1,
            seat,
        });
        self.ask(client, Duration::ZERO);
    }

    fn ask(&mut self, client: usize, after: Duration) {
        self.see_asked(client, after);
        let Some(pending) = &self.clients[client].pending else {
            return;
        };
        let (operation, attempt) = (pending.operation, pending.attempt);
        self.history.asks(self.now, operation, &pending.asked);
        let mut draw = self.seed.draw(Purpose::ClientLink, operation, 2 * attempt);
        let way = Duration::from_micros(draw.between(50, 1_000));
        let at = self.now + after + way;
        let arrive = Event::Arrive {
            client,
            operation,
            attempt,
        };
        self.queue.push(at, arrive.clone());
        let mut draw = self.seed.draw(Purpose::Request, operation, attempt);
        let comes_twice = draw.percent(self.fates.dials.scale(Fault::K3, 40));
        let place = Place::Request(operation);
        if self.fates.strikes(Fault::K3, place, attempt, comes_twice) {
            let after = Duration::from_nanos(draw.skewed(nanos(self.options.unit()) / 8));
            self.queue.push(at + after, arrive);
        }
        // Whoever probes for progress waits until the time for that is over.
        let probes = client == self.options.clients;
        let waits = match self.heal {
            _ if probes => 100,
            Some(_) => 1,
            None => self.options.waits,
        };
        let mut patience = self.options.patience * waits;
        let mut draw = self
            .seed
            .draw(Purpose::Request, operation, (1 << 32) | attempt);
        let gives_up = !probes && draw.percent(self.fates.dials.scale(Fault::K1, 30));
        if self.fates.strikes(Fault::K1, place, attempt, gives_up) {
            patience = Duration::from_nanos(draw.below(nanos(self.options.unit()) / 8));
        }
        self.time_out(at + patience, client, operation, attempt);
    }

    fn time_out(&mut self, at: Time, client: usize, operation: u64, attempt: u64) {
        let timeout = Event::Timeout {
            client,
            operation,
            attempt,
        };
        self.queue.push(at, timeout);
    }

    /// Chaos is over: whoever waits longer than clients do otherwise no longer does.
    pub(crate) fn lose_patience(&mut self) {
        if self.options.waits == 1 {
            return;
        }
        let at = self.now + self.options.patience;
        for client in 0..self.options.clients {
            if let Some(Pending {
                operation, attempt, ..
            }) = self.clients[client].pending
            {
                self.time_out(at, client, operation, attempt);
            }
        }
    }

    pub(super) fn arrive(&mut self, client: usize, operation: u64, attempt: u64) -> Verdict {
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
        self.see_arrived(seat, operation, attempt);
        let Some(process) = self.nodes[seat].process_mut() else {
            let mut draw = self
                .seed
                .draw(Purpose::ClientLink, operation, 2 * attempt + 1);
            let step = self.clients[client].refused(&self.options, &mut draw);
            return self.follow(client, operation, step);
        };
        self.history.hands_in(operation);
        process.taken += 1;
        let request = RequestId(process.taken);
        let handed = match &asked {
            Asked::Write(command) => Some(self.checks.witness.hands_in(command)),
            Asked::Read(_) => None,
        };
        process.requests.insert(
            request,
            Caller {
                client,
                operation,
                attempt,
                handed,
            },
        );
        match asked {
            Asked::Write(command) => {
                let command = (*command).clone();
                self.input(seat, Input::Propose { request, command })
            }
            Asked::Read(query) => self.input(seat, Input::Read { request, query }),
        }
    }

    pub(super) fn reply(
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
            handed,
        }) = process.requests.remove(&request)
        else {
            let what = format!("n{seat} answers {request}, which is not open: {result:?}");
            return Err(Violation::new("L3", &[seat], what));
        };
        let is_busy = handed.is_none() && result == Err(RequestError::Busy);
        let questions = process.requests.values().filter(|c| c.handed.is_none());
        let open = is_busy.then(|| questions.count());
        self.checks.replies(seat, &result, open)?;
        self.trace
            .event(self.now, 104, seat as u64, digest(&result));
        self.see_reply(operation, attempt);
        let not_done = matches!(
            result,
            Err(RequestError::NotLeader { .. }
                | RequestError::Busy
                | RequestError::DiskFull
                | RequestError::Stopping)
        );
        if not_done {
            self.history.refuses(operation);
        }
        if let Some(handed) = handed.filter(|_| not_done && self.checks.are_on()) {
            self.checks.witness.refuses(handed)?;
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

    pub(super) fn answer(
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
        self.see_answer(operation, attempt, result);
        self.history.returns(self.now, operation, result);
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
        let here = self.fates.at(Place::Request(operation), attempt);
        let step = self.clients[client].answered(result, seat_of, &self.options, here, &mut draw);
        if client == self.options.clients && result.is_ok() {
            self.probe_answered();
        }
        self.follow(client, operation, step)
    }

    pub(super) fn lose(
        &mut self,
        client: usize,
        operation: u64,
        attempt: u64,
        patience: bool,
    ) -> Verdict {
        let Some(pending) = self.current(client, operation, attempt) else {
            return Ok(());
        };
        let seat = pending.seat;
        let open = self.open_requests(seat, client, operation, attempt);
        // V5: without faults patience has no end; what a member has taken in it answers.
        if patience && self.heal.is_some() && !open.is_empty() {
            let at = self.now + self.options.patience;
            self.time_out(at, client, operation, attempt);
            return Ok(());
        }
        let mut draw = self
            .seed
            .draw(Purpose::ClientLink, operation, (1 << 33) | attempt);
        self.see_loss(operation, attempt, patience);
        let here = self.fates.at(Place::Request(operation), attempt);
        let step = self.clients[client].lost(&self.options, here, &mut draw);
        self.follow(client, operation, step)?;
        let incarnation = self.nodes[seat].incarnation;
        for request in open.into_iter().filter(|_| patience) {
            self.queue.push(
                self.now,
                Event::Cancel {
                    seat,
                    incarnation,
                    request,
                },
            );
        }
        Ok(())
    }

    /// A member learns that nobody waits for the answer to a request any more.
    pub(super) fn cancel(&mut self, seat: usize, incarnation: u64, request: RequestId) -> Verdict {
        if !self.is(seat, incarnation) {
            return Ok(());
        }
        let process = self.nodes[seat].process_mut().expect("this incarnation");
        if !process.requests.contains_key(&request) {
            return Ok(());
        }
        process.cancelled.insert(request);
        self.input(seat, Input::Cancel { request })
    }

    /// What a member has taken in of this try and not answered.
    fn open_requests(
        &self,
        seat: usize,
        client: usize,
        operation: u64,
        attempt: u64,
    ) -> Vec<RequestId> {
        let Some(process) = self.nodes[seat].process() else {
            return Vec::new();
        };
        let asked = (client, operation, attempt);
        let open = process.requests.iter();
        open.filter(|(_, caller)| (caller.client, caller.operation, caller.attempt) == asked)
            .map(|(&request, _)| request)
            .collect()
    }

    fn follow(&mut self, client: usize, operation: u64, step: Step) -> Verdict {
        match step {
            Step::Ask { after, .. } => self.ask(client, after),
            Step::Over => {
                self.checks.witness.closes(operation);
                self.see_over(operation);
                self.clients[client].pending = None;
                if client < self.options.clients {
                    self.schedule_begin(client);
                }
            }
        }
        Ok(())
    }

    pub(super) fn schedule_begin(&mut self, client: usize) {
        if let Some(script) = &self.script {
            let left = script.operations.get(&client);
            if let Some(next) = left.and_then(VecDeque::front) {
                self.queue
                    .push(next.at.max(self.now), Event::Begin { client });
            }
            return;
        }
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

    pub(super) fn current(&self, client: usize, operation: u64, attempt: u64) -> Option<&Pending> {
        let pending = self.clients[client].pending.as_ref()?;
        (pending.operation == operation && pending.attempt == attempt).then_some(pending)
    }
}
