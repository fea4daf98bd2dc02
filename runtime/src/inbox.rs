//! A queue between threads with one reader: bounded for clients, never refusing what must arrive.

use std::fmt;
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A queue into one thread.
///
/// The reader takes everything at once by swapping buffers, so a busy queue costs one lock and at
/// most one wake-up for each batch, not for each item (PERFORMANCE.md: hops are what to hunt).
///
/// [`Inbox::offer`] respects the limit and is for clients. [`Inbox::send`] does not, and is for
/// what is bounded elsewhere and must not be lost: answers of the disk, and watchers that go away.
pub(crate) struct Inbox<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
    limit: usize,
}

struct State<T> {
    items: Vec<T>,
    /// The reader sleeps: whoever adds the first item wakes it.
    asleep: bool,
    closed: bool,
}

/// Why an item was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// As many items wait as may.
    Full,
    /// The reader is gone.
    Closed,
}

impl<T> Inbox<T> {
    /// A queue that [`Inbox::offer`] fills up to `limit` items.
    pub(crate) fn new(limit: usize) -> Self {
        assert!(limit > 0, "a queue that takes nothing");
        Self {
            state: Mutex::new(State {
                items: Vec::new(),
                asleep: false,
                closed: false,
            }),
            arrived: Condvar::new(),
            limit,
        }
    }

    /// Adds an item if there is room.
    pub(crate) fn offer(&self, item: T) -> Result<(), Refused> {
        self.add(item, self.limit)
    }

    /// Adds an item, room or not. Fails only once the reader is gone.
    pub(crate) fn send(&self, item: T) -> Result<(), Refused> {
        self.add(item, usize::MAX)
    }

    /// Waits for items until `until` (`None`: for ever) and moves them all to the end of `into`.
    /// `false` once the queue is closed and empty.
    pub(crate) fn receive(&self, into: &mut Vec<T>, until: Option<Instant>) -> bool {
        let mut state = self.lock();
        while state.items.is_empty() && !state.closed {
            state.asleep = true;
            state = match until {
                None => self
                    .arrived
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let Some(left) = until.checked_duration_since(Instant::now()) else {
                        break;
                    };
                    let woken = self.arrived.wait_timeout(state, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        state.asleep = false;
        if into.is_empty() {
            mem::swap(into, &mut state.items);
        } else {
            into.append(&mut state.items);
        }
        !into.is_empty() || !state.closed
    }

    /// Takes nothing more. What waits is still read.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Takes nothing more and drops what waits: whoever waits for an answer to it learns that there
    /// will be none.
    pub(crate) fn abandon(&self) {
        let dropped = {
            let mut state = self.lock();
            state.closed = true;
            mem::take(&mut state.items)
        };
        self.arrived.notify_one();
        // Outside the lock: dropping an item may come back here.
        drop(dropped);
    }

    /// How many items wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().items.len()
    }

    fn add(&self, item: T, limit: usize) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.items.len() >= limit {
            return Err(Refused::Full);
        }
        state.items.push(item);
        let wake = mem::take(&mut state.asleep);
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// A panic elsewhere leaves a list that is whole: nothing under this lock can stop half-way.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inbox({} of {})", self.len(), self.limit)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn clients_are_bounded_and_the_disk_is_not() {
        let inbox = Inbox::new(2);
        assert_eq!(inbox.offer(1), Ok(()));
        assert_eq!(inbox.offer(2), Ok(()));
        assert_eq!(inbox.offer(3), Err(Refused::Full));
        assert_eq!(inbox.send(4), Ok(()));
        let mut batch = Vec::new();
        assert!(inbox.receive(&mut batch, None));
        assert_eq!(batch, [1, 2, 4]);
    }

    #[test]
    fn a_closed_queue_is_read_to_its_end() {
        let inbox = Inbox::new(9);
        inbox.offer(1).expect("room");
        inbox.close();
        assert_eq!(inbox.send(2), Err(Refused::Closed));
        let mut batch = Vec::new();
        assert!(inbox.receive(&mut batch, None));
        batch.clear();
        assert!(!inbox.receive(&mut batch, None));
    }

    #[test]
    fn waits_until_the_deadline_and_no_longer() {
        let inbox = Inbox::<u8>::new(1);
        let until = Instant::now() + Duration::from_millis(5);
        assert!(inbox.receive(&mut Vec::new(), Some(until)));
        assert!(Instant::now() >= until);
    }

    #[test]
    fn a_sleeping_reader_is_woken() {
        let inbox = Arc::new(Inbox::new(1));
        let reader = thread::spawn({
            let inbox = Arc::clone(&inbox);
            move || {
                let mut batch = Vec::new();
                inbox.receive(&mut batch, None);
                batch
            }
        });
        inbox.offer(7).expect("room");
        assert_eq!(reader.join().expect("the reader ends"), [7]);
    }
}
