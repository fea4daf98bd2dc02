//! What waits for one peer: bounded, and taken by the handful.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A queue into one task, bounded in number and in bytes. Adding never blocks.
#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    arrived: Notify,
    items_max: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
}

impl<T> Queue<T> {
    pub(super) fn new(items_max: usize, bytes_max: usize) -> Self {
        Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                bytes: 0,
            }),
            arrived: Notify::new(),
            items_max,
            bytes_max,
        }
    }

    /// Adds an item of about so many bytes; `false` where there is no room. A single item has
    /// always room, or one larger than the limit would never leave.
    pub(super) fn push(&self, item: T, bytes: usize) -> bool {
        let mut state = self.lock();
        let is_full = state.items.len() >= self.items_max
            || (!state.items.is_empty() && state.bytes.saturating_add(bytes) > self.bytes_max);
        if is_full {
            return false;
        }
        let is_first = state.items.is_empty();
        state.items.push_back((item, bytes));
        state.bytes = state.bytes.saturating_add(bytes);
        drop(state);
        if is_first {
            self.arrived.notify_one();
        }
        true
    }

    /// Waits for items and takes the first ones, until they are about so many bytes.
    pub(super) async fn take(&self, bytes: usize) -> Vec<T> {
        loop {
            let taken = self.take_now(bytes);
            if !taken.is_empty() {
                return taken;
            }
            self.arrived.notified().await;
        }
    }

    fn take_now(&self, bytes: usize) -> Vec<T> {
        let mut state = self.lock();
        let mut taken = 0;
        let mut count = 0;
        for (_, weight) in &state.items {
            count += 1;
            taken += weight;
            if taken >= bytes {
                break;
            }
        }
        // What a single item weighs above the limit was never added to more than itself.
        state.bytes = state.bytes.saturating_sub(taken);
        state.items.drain(..count).map(|(item, _)| item).collect()
    }

    /// A panic elsewhere leaves a list that is whole: nothing under this lock can stop half-way.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bounded_both_ways_and_takes_what_is_larger_than_all() {
        let queue = Queue::new(3, 10);
        assert!(queue.push('a', 99));
        assert!(!queue.push('b', 1));
        assert_eq!(queue.take_now(1), ['a']);
        for item in ['c', 'd', 'e'] {
            assert!(queue.push(item, 3));
        }
        assert!(!queue.push('f', 0), "three are as many as may wait");
        assert_eq!(queue.take_now(4), ['c', 'd']);
        assert!(queue.push('g', 7));
        assert!(!queue.push('h', 1));
        assert_eq!(queue.take_now(99), ['e', 'g']);
        assert!(queue.take_now(99).is_empty());
        assert_eq!(queue.lock().bytes, 0);
    }

    #[tokio::test]
    async fn a_waiting_task_is_woken() {
        let queue = std::sync::Arc::new(Queue::new(9, 9));
        let taker = tokio::spawn({
            let queue = std::sync::Arc::clone(&queue);
            async move { queue.take(9).await }
        });
        tokio::task::yield_now().await;
        assert!(queue.push(7, 1));
        assert_eq!(taker.await.expect("it ends"), [7]);
    }
}
