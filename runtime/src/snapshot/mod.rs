//! Snapshots between members: the last checkpoint of one becomes the tables of another (DESIGN.md
//! §6).
//!
//! | file | what |
//! |---|---|
//! | `source.rs` | a checkpoint held still, cut into frames |
//! | `send.rs` | the frames on their way, paced, and again after a break |
//! | `incoming.rs` | a snapshot that arrives: streams that break off and go on, one at a time |
//! | `build.rs` | new tables beside the old ones, verified before anybody hears of them |
//! | `frames.rs` | frames on a stream |
//!
//! Invariants: nobody holds a snapshot in memory, only a few frames; what arrives counts for
//! nothing before all of it has proved itself; the tables in use are untouched until the log's
//! thread switches to the new ones, in one step.

mod build;
mod frames;
mod incoming;
mod send;
mod source;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(crate) use incoming::{Incoming, Installed};
use quorate_core::{Input, NodeId};
pub(crate) use send::Streams;
pub(crate) use source::{Source, Summary};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::driver::Mail;
use crate::inbox::Inbox;

/// The snapshots under way to and from a member. Dropped, it ends them.
#[derive(Debug)]
pub(crate) struct Snapshots {
    incoming: Arc<Incoming>,
    inbox: Arc<Inbox<Mail>>,
    runtime: Handle,
    tasks: Vec<AbortHandle>,
}

impl Snapshots {
    pub(crate) fn new(incoming: Arc<Incoming>, inbox: Arc<Inbox<Mail>>, runtime: Handle) -> Self {
        Self {
            incoming,
            inbox,
            runtime,
            tasks: Vec::new(),
        }
    }

    /// Sends `source`, and tells the driver what came of it.
    pub(crate) fn send(
        &mut self,
        to: NodeId,
        name: String,
        source: Source,
        streams: impl Streams + 'static,
    ) {
        let inbox = Arc::clone(&self.inbox);
        self.spawn(async move {
            let last = source.header().last;
            let delivered = send::send(Arc::new(source), &streams, &name).await;
            let input = Input::SnapshotSent {
                to,
                last,
                delivered,
            };
            let _ = inbox.send(Mail::Input(input));
        });
    }

    /// Takes in what a stream of the member called `from` brings.
    pub(crate) fn receive(
        &mut self,
        from: String,
        read: impl AsyncRead + Send + Unpin + 'static,
        write: impl AsyncWrite + Send + Unpin + 'static,
    ) {
        let incoming = Arc::clone(&self.incoming);
        self.spawn(incoming.serve(from, read, write));
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.retain(|task| !task.is_finished());
        self.tasks.push(self.runtime.spawn(task).abort_handle());
    }
}

impl Drop for Snapshots {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
