//! Table `hist`: one change log in slices, with a floor (DESIGN.md §5).

use alloc::sync::Arc;

use super::event::Event;
use crate::ids::ChangeId;

/// Names a slice of history: its first change.
pub type SliceId = ChangeId;

/// All events of one slice, in order.
pub type SliceEvents = Arc<[Arc<Event>]>;

/// A slice that should be on disk cannot be read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryLost;
