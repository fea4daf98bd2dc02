//! A guess at the order of a partition, before it is searched for: the one of the ledger.
//!
//! Whoever proposes an order, it explains the answers or it does not: what is guessed here is tried
//! operation by operation, as in the search, and a guess that does not fit is forgotten. So nothing
//! that is known from inside can make a history legal. It only saves the search where hundreds of
//! writes were never answered, for the ledger tells which of them took place, and where.

use std::collections::BTreeMap;

use quorate_core::store::{Action, Path};

use super::super::book::{Book, pin};
use super::super::names::{PathId, ROOT};
use super::super::spec::{Answer, Ask, Content};
use super::Search;
use crate::clock::nanos;
use crate::model::Change;

/// The changes of the ledger, by partition, in their order.
pub(in super::super) struct Guide<'a> {
    changes: BTreeMap<PathId, Vec<&'a Change>>,
}

impl<'a> Guide<'a> {
    /// The guide to a history: all changes there were.
    pub(in super::super) fn new(book: &Book, changes: &'a [Change], whole: bool) -> Self {
        let mut parts: BTreeMap<PathId, Vec<&'a Change>> = BTreeMap::new();
        for change in changes {
            let top = if whole {
                Some(ROOT)
            } else {
                book.names.top(&change.path)
            };
            // Of what nobody ever named nothing was told either.
            if let Some(top) = top {
                parts.entry(top).or_default().push(change);
            }
        }
        Self { changes: parts }
    }

    /// The changes in the partition of `top`.
    pub(in super::super) fn of(&self, top: PathId) -> &[&'a Change] {
        self.changes.get(&top).map_or(&[], Vec::as_slice)
    }
}

/// The children that nobody saw have made-up names: which change made them.
type Aliases<'a> = BTreeMap<&'a Path, PathId>;

impl Search<'_> {
    /// Whether all answers are explained when the changes take place in this order. Leaves what it
    /// has placed so far where they are not.
    pub(in super::super) fn follow(&mut self, changes: &[&Change]) -> bool {
        let mut aliases = Aliases::new();
        for change in changes {
            let (_, end) = self.settle();
            if self.left == 0 {
                return true;
            }
            if !self.takes_place(change, end, &mut aliases) {
                return false;
            }
        }
        self.settle();
        self.left == 0
    }

    /// Places the operation that made `change`, before `end`.
    fn takes_place<'c>(&mut self, change: &'c Change, end: u64, aliases: &mut Aliases<'c>) -> bool {
        let head = self.head(pin(change.index, false));
        if let Some(head) = head
            && !matches!(self.ops[head].answer, Answer::Gap(..))
        {
            let fits = self.ops[head].invoked <= end && self.fits(head);
            if fits {
                self.take(head);
            }
            return fits;
        }
        if change.action == Action::Expire {
            return self.expires(change, end, aliases);
        }
        // Of those that ask for the same the first one goes first: the others may be later ones.
        let unseen: Vec<usize> = self.open_hidden(end).collect();
        for op in unseen {
            let ask = self.ops[op].ask;
            if !could_make(&ask, change, self.book) {
                continue;
            }
            let before = self.marks();
            let fits = match head {
                Some(gap) => self.must_fits((gap, Some(op))),
                None => self.fits(op),
            };
            if fits && self.has_left(&ask, change) {
                head.into_iter().for_each(|gap| self.take(gap));
                self.take(op);
                if let Ask::Append { child, .. } = ask {
                    aliases.insert(&change.path, child);
                }
                return true;
            }
            self.rewind(before);
        }
        false
    }

    fn expires(&mut self, change: &Change, end: u64, aliases: &Aliases<'_>) -> bool {
        let alias = aliases.get(&change.path).copied();
        let Some(path) = alias.or_else(|| self.book.names.find(&change.path)) else {
            return false;
        };
        let lease = self.state.node(path).and_then(|node| node.lease);
        let is_over = lease.is_some_and(|lease| lease.earliest <= end);
        if is_over {
            self.state.expire(path);
        }
        is_over
    }

    /// Whether what was asked for left just what the change did.
    fn has_left(&self, ask: &Ask, change: &Change) -> bool {
        let node = self.state.node(ask.path());
        if change.action.removes() {
            return node.is_none();
        }
        let value = change.node.value.as_ref();
        let value = value.map(|value| self.book.names.find_value(value));
        let granted = change.node.lease.map(|lease| nanos(lease.granted));
        node.is_some_and(|node| {
            // A value that no client was ever shown or has asked for is no client's.
            node.value.map(Some) == value && node.lease.map(|lease| lease.granted) == granted
        })
    }
}

/// Whether `ask` is about what `change` changed, and does such a thing.
fn could_make(ask: &Ask, change: &Change, book: &Book) -> bool {
    let path = &book.names.place(ask.path()).path;
    if ask.action() != Some(change.action) {
        return false;
    }
    match ask {
        Ask::Get { .. } => false,
        Ask::Put { content, .. } => {
            let left = change.node.value.as_ref();
            let is_left = match *content {
                Content::Value(value) => {
                    left.is_none_or(|left| book.names.find_value(left) == Some(value))
                }
                Content::Directory | Content::Kept => true,
            };
            is_left && *path == change.path
        }
        Ask::Append { .. } => path.parent() == change.path.parent(),
        Ask::Delete { .. } => *path == change.path,
    }
}
