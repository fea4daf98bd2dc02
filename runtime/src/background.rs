//! Threads whose work nobody waits for: they leave the processors to those that answer.

use std::io;
use std::thread;

use rustix::process::setpriority_process;
use rustix::thread::gettid;

/// How much nicer than the others: at 10, a tenth of the time where both want it.
const NICE: i32 = 10;

/// Runs `work` on a thread of its own, which may block.
///
/// # Errors
/// The system has no thread left.
pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name(name.to_owned());
    let spawned = thread.spawn(move || {
        // Where the system does not allow it, the work is done all the same.
        let _ = setpriority_process(Some(gettid()), NICE);
        work();
    });
    spawned.map(drop)
}
