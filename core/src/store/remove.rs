//! Removing keys and directories, because a client asks or because their time is over.
//!
//! What goes away with a directory makes no v2 event, but a record each: with them a watch knows
//! whether its own node went away, and the v3 API will show them (DESIGN.md §5).

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Store;
use super::bytes::Value;
use super::command::{Delete, Scope};
use super::error::Refusal;
use super::event::{Action, Audience, Event, NodeState};
use super::keyspace::Found;
use super::path::Path;
use super::write::compare_with;
use crate::ids::{ChangeId, Revision};
use crate::time::ClusterTime;

/// A node that was taken out of the tables, with what was below it, in order of path.
pub(super) struct Top {
    pub(super) path: Path,
    node: NodeState,
    below: Vec<(Path, NodeState)>,
}

impl Top {
    /// Takes the node at `path` out, frees it and all below it of their leases.
    pub(super) fn take(store: &mut Store, path: &Path) -> Self {
        let taken = store.keyspace.take(&mut store.ledger, path);
        let mut nodes: Vec<_> = Vec::with_capacity(taken.len());
        for (path, taken) in taken {
            let node = store.state(taken.found());
            store.release(&node);
            nodes.push((path, node));
        }
        let below = nodes.split_off(1);
        let (path, node) = nodes.swap_remove(0);
        Self { path, node, below }
    }
}

impl Store {
    pub(super) fn delete(&mut self, delete: &Delete) -> Result<Arc<Event>, Refusal> {
        let path = &delete.path;
        let action = match &delete.scope {
            Scope::Key | Scope::EmptyDirectory | Scope::Tree if path.is_root() => {
                return Err(Refusal::RootIsReadOnly);
            }
            Scope::Key | Scope::EmptyDirectory | Scope::Tree => Action::Delete,
            Scope::Matches(_) => Action::CompareAndDelete,
        };
        match (self.keyspace.find(path)?, &delete.scope) {
            (Found::Key(_), Scope::Key | Scope::EmptyDirectory | Scope::Tree) => {}
            (Found::Key(row), Scope::Matches(compare)) => compare_with(row, compare)?,
            (Found::Directory(_), Scope::Tree) => {}
            (Found::Directory(row), Scope::EmptyDirectory) if row.children == 0 => {}
            (Found::Directory(_), Scope::EmptyDirectory) => {
                return Err(Refusal::NotEmpty(path.clone()));
            }
            (Found::Directory(_), Scope::Key | Scope::Matches(_)) => {
                // etcd gives no cause for a compareAndDelete of the root (api/v2.md §7.3).
                return Err(Refusal::NotAKey((!path.is_root()).then(|| path.clone())));
            }
        }
        let top = Top::take(self, path);
        let events = self.publish_removals(alloc::vec![top], action);
        Ok(events
            .into_iter()
            .next()
            .expect("one removal makes one event"))
    }

    /// Removes up to `limit` nodes that are due. A directory takes what is in it along, due or not,
    /// so that nothing of it is due afterwards (SIMULATION.md T10).
    pub(super) fn remove_due(&mut self, until: ClusterTime, limit: u32) -> u32 {
        let mut tops = Vec::new();
        let mut removed = 0;
        while removed < limit
            && let Some(path) = self.leases.due(until).cloned()
        {
            tops.push(Top::take(self, &path));
            removed += 1;
        }
        let events = self.publish_removals(tops, Action::Expire);
        assert_eq!(events.len() as u64, u64::from(removed), "one event each");
        removed
    }

    /// Makes one v2 event for each removed node, then the records of what was below them, all in
    /// one revision.
    fn publish_removals(&mut self, tops: Vec<Top>, action: Action) -> Vec<Arc<Event>> {
        let mut id = self.next_change();
        let mut records = Vec::new();
        let mut events = Vec::with_capacity(tops.len());
        for Top { path, node, below } in tops {
            events.push(self.publish_removal(id, action, Audience::Everyone, path, node));
            records.extend(below);
            id = following(id);
        }
        for (path, node) in records {
            self.publish_removal(id, action, Audience::Records, path, node);
            id = following(id);
        }
        self.revision = Revision(self.revision.0 + events.len() as u64);
        events
    }

    fn publish_removal(
        &mut self,
        id: ChangeId,
        action: Action,
        audience: Audience,
        path: Path,
        previous: NodeState,
    ) -> Arc<Event> {
        if !previous.is_directory() {
            self.keyspace.bury(&mut self.ledger, &path, id);
        }
        let event = Arc::new(Event {
            id,
            at: self.clock,
            action,
            audience,
            path,
            node: NodeState {
                value: previous.value.as_ref().map(|_| Value::default()),
                created: previous.created,
                modified: id,
                lease: None,
            },
            previous: Some(previous),
        });
        self.history.push(&mut self.ledger, event.clone());
        event
    }
}

fn following(id: ChangeId) -> ChangeId {
    let sub = id.sub.checked_add(1);
    ChangeId {
        sub: sub.expect("a directory has fewer nodes than a u32 counts"),
        ..id
    }
}
