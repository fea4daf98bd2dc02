//! The jobs of a member's disk threads: the log's and the checkpoint's, and how long each takes.

use std::time::Duration;

use quorate_core::Input;
use quorate_core::wal::{Files, slice};

use super::World;
use crate::check::{Verdict, Violation};
use crate::clock::nanos;
use crate::disk::{Pace, SimFiles};
use crate::event::Event;
use crate::fates::{Here, Place};
use crate::fault::Fault;
use crate::node::{Checkpointing, Life};
use crate::rng::{Draw, Purpose};
use crate::tables::write_slices;

impl World {
    /// The thread of the log begins what waits for it, if it is idle.
    pub(super) fn kick_log(&mut self, seat: usize) -> Verdict {
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
                self.may_fail(seat, job);
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

    /// D11: whether the sync of this job will fail.
    fn may_fail(&mut self, seat: usize, job: u64) {
        let failing = self.fates.dials.scale(Fault::D11, 100);
        if failing == 0 {
            return;
        }
        let mut draw = self
            .seed
            .draw(Purpose::DiskLatency, (1 << 32) | seat as u64, job);
        let fails = draw.below(20_000) < failing;
        let fails = self
            .fates
            .strikes(Fault::D11, Place::Node(seat), job, fails);
        let process = self.nodes[seat].process_mut();
        if let Some(writing) = process.and_then(|process| process.writing.as_mut()) {
            writing.fails = fails;
        }
    }

    pub(super) fn log_done(&mut self, seat: usize, incarnation: u64, job: u64) -> Verdict {
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
        if writing.fails {
            let mut draw = self
                .seed
                .draw(Purpose::DiskLatency, (1 << 33) | seat as u64, job);
            disk.borrow_mut().fail(writing.job, &mut draw);
            self.gives_up(seat);
            return Ok(());
        }
        disk.borrow_mut().complete(writing.job);
        let changed = writing.full != process.disk_full;
        process.disk_full = writing.full;
        self.checks.durable(seat, &writing.writes);
        if !writing.full {
            let may_fail = self.options.dials.on(Fault::D12);
            let (bytes, segment) = (process.wal.disk_bytes(), self.limits.segment_bytes);
            let writes = writing.writes.len();
            self.checks
                .log_done(seat, writes, may_fail, bytes, segment)?;
        }
        self.see_durable(seat, &writing.writes);
        self.marking.durable(seat, &writing.writes);
        if changed {
            self.absorb(seat, Input::DiskFull(writing.full));
        }
        if writing.full {
            self.fates.count(Fault::D12);
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

    pub(super) fn checkpoint(
        &mut self,
        seat: usize,
        changes: quorate_core::store::Changes,
    ) -> Verdict {
        let jobs = self.nodes[seat].jobs;
        let mut draw = self.seed.draw(Purpose::Checkpoint, seat as u64, jobs);
        let node = &mut self.nodes[seat];
        let incarnation = node.incarnation;
        let mut files = SimFiles::new(node.disk.clone());
        let full = write_slices(&mut files, &changes).is_err();
        let job = node.disk.borrow_mut().take_job();
        let fails = draw.percent(if self.heal.is_some() || full { 0 } else { 5 });
        let (place, count) = (Place::Node(seat), (1 << 36) | jobs);
        let fails = self.fates.strikes(Fault::D12, place, count, fails) || full;
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

    pub(super) fn checkpoint_done(&mut self, seat: usize, incarnation: u64) -> Verdict {
        if !self.is(seat, incarnation) {
            return Ok(());
        }
        let node = &mut self.nodes[seat];
        let process = node.process_mut().expect("it is this incarnation");
        // The end of the faults may have hurried it.
        let Some(Checkpointing {
            job,
            changes,
            fails,
        }) = process.checkpoint.take()
        else {
            return Ok(());
        };
        if fails {
            let written = changes.slices.iter().map(|info| info.id);
            process.abandoned.extend(written);
            node.disk.borrow_mut().complete(job);
            return self.input(seat, Input::CheckpointFailed { changes });
        }
        process.abandoned.clear();
        node.disk.borrow_mut().complete(job);
        node.tables.put(&changes);
        self.sweep_slices(seat);
        let applied = changes.applied;
        self.input(seat, Input::Checkpointed { applied })
    }

    /// B3: nothing is left on disk that nobody needs.
    pub(crate) fn look_at_files(&self, seat: usize) -> Verdict {
        let node = &self.nodes[seat];
        let Some(process) = node.process().filter(|_| self.checks.are_on()) else {
            return Ok(());
        };
        let files = SimFiles::new(node.disk.clone());
        let names = files.list().unwrap_or_default();
        let (slices, others): (Vec<_>, Vec<_>) =
            names.iter().partition(|name| slice::id_of(name).is_some());
        let bytes = others.iter().filter_map(|name| files.len(name).ok()).sum();
        let there = slices
            .iter()
            .filter_map(|name| slice::id_of(name))
            .collect();
        let spare = self.limits.spare_segments as u64 * self.limits.segment_bytes;
        let log = (process.wal.disk_bytes(), spare);
        let listed = node.kept_slices();
        self.checks.on_disk(seat, bytes, log, &there, &listed)
    }

    pub(super) fn disk_latency(
        &mut self,
        seat: usize,
        latency: fn(&Pace, &mut Here<'_>, &mut Draw) -> Duration,
    ) -> Duration {
        let node = &mut self.nodes[seat];
        node.jobs += 1;
        let mut draw = self.seed.draw(Purpose::DiskLatency, seat as u64, node.jobs);
        let mut here = self.fates.at(Place::Node(seat), node.jobs);
        latency(&node.pace, &mut here, &mut draw)
    }
}
