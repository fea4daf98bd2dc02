//! A state of a search: names of what it consists of.

use super::{Budget, MEMBERS};

/// All three members, what is on its way to each, what the checks remember, and what may still
/// happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) members: [u32; MEMBERS],
    pub(super) inboxes: [u32; MEMBERS],
    pub(super) past: u32,
    pub(super) left: Left,
    /// To which members something has happened, one bit for each.
    pub(super) touched: u8,
}

/// What may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Left {
    pub(super) elections: u8,
    pub(super) lapses: u8,
    pub(super) crashes: u8,
    pub(super) slow: u8,
    pub(super) operations: u8,
}

/// An event at one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Event {
    pub(super) what: What,
    /// What it makes the member write is on its way for a while, instead of durable at once.
    pub(super) slow: bool,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    /// The message of this name arrives.
    Arrives(u32),
    /// An election timeout passes.
    TimesOut,
    /// The least election timeout passes.
    Lapses,
    /// The write on its way is durable.
    Written,
    /// A client asks this operation.
    Asked(u8),
    /// It crashes; the write on its way is kept, or it is not.
    Crashes { kept: bool },
}

impl State {
    /// The first state.
    pub(super) fn new(members: [u32; MEMBERS], inbox: u32, past: u32, budget: &Budget) -> Self {
        Self {
            members,
            inboxes: [inbox; MEMBERS],
            past,
            left: Left {
                elections: budget.elections,
                lapses: budget.lapses,
                crashes: budget.crashes,
                slow: budget.slow,
                operations: budget.operations.len(),
            },
            touched: 0,
        }
    }

    /// Whether something has happened to a member.
    pub(super) const fn is_touched(&self, seat: usize) -> bool {
        self.touched & (1 << seat) != 0
    }

    /// Whether something may happen to it: not where that would be the same as at one before it.
    pub(super) fn may_touch(&self, seat: usize) -> bool {
        self.is_touched(seat) || (0..seat).all(|before| self.is_touched(before))
    }

    /// Takes what `event` costs.
    pub(super) const fn spend(&mut self, seat: usize, event: Event) {
        self.touched |= 1 << seat;
        if event.slow {
            self.left.slow -= 1;
        }
        match event.what {
            What::Arrives(_) | What::Written => {}
            What::TimesOut => self.left.elections -= 1,
            What::Lapses => self.left.lapses -= 1,
            What::Asked(_) => self.left.operations -= 1,
            What::Crashes { .. } => self.left.crashes -= 1,
        }
    }
}
