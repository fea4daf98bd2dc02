//! Lines for people: one for each event. Kept only by runs that somebody looks at; the hash of a
//! run does not depend on them (SIMULATION.md X5).

use std::collections::VecDeque;

use quorate_core::{Input, Output};

use crate::clock::Time;

/// Lines kept for a failure's report.
const KEPT: usize = 20_000;

/// What becomes of lines.
#[derive(Debug, Default)]
pub enum Log {
    /// Nobody reads them.
    #[default]
    Off,
    /// The last ones are kept.
    Keep(VecDeque<Line>),
}

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    nodes: Vec<usize>,
    text: String,
}

impl Log {
    /// A log that keeps the last lines.
    #[must_use]
    pub const fn keep() -> Self {
        Self::Keep(VecDeque::new())
    }

    /// Whether lines are written at all.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        matches!(self, Self::Keep(_))
    }

    /// Something happened at these nodes.
    pub fn line(&mut self, now: Time, step: u64, nodes: &[usize], what: impl FnOnce() -> String) {
        if let Self::Keep(lines) = self {
            if lines.len() == KEPT {
                lines.pop_front();
            }
            lines.push_back(Line {
                nodes: nodes.to_vec(),
                text: format!("{step:>8} {now} {}", what()),
            });
        }
    }

    /// The last `count` lines of these nodes; of all nodes, where none is named.
    #[must_use]
    pub fn last(&self, nodes: &[usize], count: usize) -> Vec<&str> {
        let Self::Keep(lines) = self else {
            return Vec::new();
        };
        let concerns =
            |line: &&Line| nodes.is_empty() || line.nodes.iter().any(|node| nodes.contains(node));
        let mut last: Vec<&str> = lines
            .iter()
            .rev()
            .filter(concerns)
            .take(count)
            .map(|line| line.text.as_str())
            .collect();
        last.reverse();
        last
    }
}

/// An input, in one line.
#[must_use]
pub fn describe_input(seat: usize, input: &Input) -> String {
    match input {
        Input::SnapshotReceived { store } => {
            format!("n{seat} < snapshot of {}", store.applied())
        }
        Input::CheckpointFailed { changes } => {
            format!("n{seat} < checkpoint of {} failed", changes.applied)
        }
        Input::HistoryRead { slice, events } => {
            format!("n{seat} < slice {slice}: {}", events.is_ok())
        }
        Input::Deadline
        | Input::Receive { .. }
        | Input::Propose { .. }
        | Input::Read { .. }
        | Input::Cancel { .. }
        | Input::Watch { .. }
        | Input::Credit { .. }
        | Input::Unwatch { .. }
        | Input::Persisted { .. }
        | Input::Checkpointed { .. }
        | Input::SnapshotStarted { .. }
        | Input::SnapshotSent { .. }
        | Input::Unreachable { .. }
        | Input::DiskFull(_)
        | Input::Transfer { .. }
        | Input::Shutdown => format!("n{seat} < {input:?}"),
    }
}

/// An output, in one line.
#[must_use]
pub fn describe(seat: usize, output: &Output) -> String {
    match output {
        Output::Persist(write) => format!("n{seat} > persist {write}"),
        Output::Send { to, message } => {
            format!("n{seat} > {to} @{} {:?}", message.term, message.body)
        }
        Output::Checkpoint(changes) => format!("n{seat} > checkpoint of {}", changes.applied),
        Output::TrimLog { .. }
        | Output::SendSnapshot { .. }
        | Output::DropSnapshot { .. }
        | Output::ReadHistory { .. }
        | Output::Reply { .. }
        | Output::Watching { .. }
        | Output::Notify { .. }
        | Output::WatchEnd { .. }
        | Output::Fault { .. } => format!("n{seat} > {output:?}"),
    }
}
