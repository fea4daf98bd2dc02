//! Things kept once, and named by a number.

use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

/// All things of a kind that were ever met. Equal keys are equal things.
#[derive(Debug)]
pub(super) struct Interned<K, T: ?Sized> {
    names: HashMap<K, u32>,
    things: Vec<Rc<T>>,
}

impl<K: Eq + Hash, T: ?Sized> Interned<K, T> {
    pub(super) fn new() -> Self {
        Self {
            names: HashMap::new(),
            things: Vec::new(),
        }
    }

    /// The name of the thing with this key: a new one, where it was not met before.
    pub(super) fn name(&mut self, key: K, thing: impl FnOnce() -> Rc<T>) -> u32 {
        *self.names.entry(key).or_insert_with(|| {
            self.things.push(thing());
            u32::try_from(self.things.len() - 1).expect("fewer than fit in memory")
        })
    }

    /// The thing of this name.
    pub(super) fn get(&self, name: u32) -> &Rc<T> {
        &self.things[name as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.things.len()
    }
}
