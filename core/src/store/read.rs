//! Reading: a node and what is below it (api/v2.md §8, §11).

use alloc::vec::Vec;

use super::Store;
use super::error::StoreError;
use super::event::NodeState;
use super::keyspace::Found;
use super::path::{Path, hidden};
use super::query::Tree;

impl Store {
    /// Reads a node, with its direct children or everything below it.
    ///
    /// # Errors
    /// A refusal, true at this revision.
    pub fn get(&self, path: &Path, recursive: bool) -> Result<Tree, StoreError> {
        let found = self
            .keyspace
            .find(path)
            .map_err(|reason| self.refusal(reason))?;
        let mut tree = self.leaf(path.clone(), found);
        self.grow(&mut tree, recursive);
        Ok(tree)
    }

    /// A node without what is below it.
    fn leaf(&self, path: Path, found: Found<'_>) -> Tree {
        Tree {
            path,
            node: self.state(found),
            children: Vec::new(),
        }
    }

    /// Adds what is below a directory, hidden names excepted (api/v2.md §11).
    fn grow(&self, tree: &mut Tree, recursive: bool) {
        if !tree.node.is_directory() {
            return;
        }
        for (key, found) in self.keyspace.children(&tree.path) {
            let path = Path::from_key(key).expect("what is in a directory is a path");
            if hidden(path.name()) {
                continue;
            }
            let mut child = self.leaf(path, found);
            if recursive {
                self.grow(&mut child, recursive);
            }
            tree.children.push(child);
        }
    }

    /// A node as events and answers show it.
    pub(super) fn state(&self, found: Found<'_>) -> NodeState {
        NodeState {
            value: match found {
                Found::Key(row) => Some(row.value.clone()),
                Found::Directory(_) => None,
            },
            created: found.changed().created(),
            modified: found.changed().modified(),
            lease: found.lease().map(|id| self.leases.lease(id)),
        }
    }
}
