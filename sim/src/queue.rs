//! What is due when: one heap for the whole world.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::clock::Time;

/// Things due, ordered by (time, kind, node, insertion number): a total order, so that equal times
/// replay equally (SIMULATION.md §1.4).
#[derive(Debug)]
pub struct Queue<E> {
    heap: BinaryHeap<Reverse<Due<E>>>,
    inserted: u64,
}

/// What the order of two events due at one instant depends on.
pub trait Ranked {
    /// Its kind's and its node's place among those due at the same instant.
    fn rank(&self) -> (u8, u8);
}

#[derive(Debug)]
struct Due<E> {
    key: (Time, (u8, u8), u64),
    event: E,
}

impl<E: Ranked> Queue<E> {
    /// Nothing due.
    #[must_use]
    pub fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            inserted: 0,
        }
    }

    /// `event` is due at `time`.
    pub fn push(&mut self, time: Time, event: E) {
        self.inserted += 1;
        let key = (time, event.rank(), self.inserted);
        self.heap.push(Reverse(Due { key, event }));
    }

    /// Takes what is due next.
    pub fn pop(&mut self) -> Option<(Time, E)> {
        let Reverse(due) = self.heap.pop()?;
        Some((due.key.0, due.event))
    }

    /// When something is due next.
    #[must_use]
    pub fn next_time(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse(due)| due.key.0)
    }

    /// How many are due.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing is due.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

impl<E: Ranked> Default for Queue<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> PartialEq for Due<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<E> Eq for Due<E> {}

impl<E> PartialOrd for Due<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Due<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Ranked for (u8, u8, char) {
        fn rank(&self) -> (u8, u8) {
            (self.0, self.1)
        }
    }

    #[test]
    fn ties_are_broken_by_kind_then_node_then_insertion() {
        let mut queue = Queue::new();
        queue.push(Time(2), (0, 0, 'f'));
        queue.push(Time(1), (1, 0, 'd'));
        queue.push(Time(1), (0, 1, 'b'));
        queue.push(Time(1), (0, 1, 'c'));
        queue.push(Time(1), (0, 0, 'a'));
        queue.push(Time(1), (1, 1, 'e'));
        let order: String = std::iter::from_fn(|| queue.pop())
            .map(|(_, e)| e.2)
            .collect();
        assert_eq!(order, "abcdef");
    }
}
