//! Watches as cursors (DESIGN.md §5).

use super::path::Path;

/// Which events a watch wants.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Filter {
    /// The path watched; nothing need be there.
    pub path: Path,
    /// Whether what is below it is watched too, hidden names excepted.
    pub recursive: bool,
}
