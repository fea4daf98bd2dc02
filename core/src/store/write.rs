//! Writing keys and directories: every operation that leaves a node behind (api/v2.md §7).

use alloc::format;
use alloc::sync::Arc;
use core::num::NonZeroU64;

use super::Store;
use super::bytes::Value;
use super::command::{Append, Compare, Content, Put, When};
use super::error::Refusal;
use super::event::{Action, Audience, Event, NodeState};
use super::keyspace::{Changed, DirectoryRow, Found, KeyRow};
use super::lease::LeaseRow;
use super::path::Path;
use super::remove::Top;
use crate::ids::{ChangeId, LeaseId};
use crate::time::Duration;

/// What a write leaves behind.
struct Written<'a> {
    path: &'a Path,
    /// The value of a key, `None` for a directory.
    value: Option<Value>,
    ttl: Option<Duration>,
    action: Action,
    audience: Audience,
}

impl Store {
    pub(super) fn put(&mut self, put: &Put) -> Result<Arc<Event>, Refusal> {
        if put.path.is_root() {
            return Err(Refusal::RootIsReadOnly);
        }
        match &put.when {
            When::Always => self.set(put),
            When::Missing => {
                let value = match &put.content {
                    Content::Value(value) => Some(value.clone()),
                    // There is nothing to refresh: an ordinary create (api/v2.md §7.5).
                    Content::Kept => Some(Value::default()),
                    Content::Directory => None,
                };
                self.create(&put.path, value, put.ttl)
            }
            When::Exists => self.update(put),
            When::Matches(compare) => self.swap(put, compare),
        }
    }

    pub(super) fn append(&mut self, append: &Append) -> Result<Arc<Event>, Refusal> {
        let name = format!("{:020}", self.revision.next().0);
        let child = append.directory.try_child(name.as_bytes());
        let path = child.ok_or_else(|| Refusal::TooLong(append.directory.clone()))?;
        self.create(&path, append.value.clone(), append.ttl)
    }

    /// Writes a node whatever was there, unless that is a directory. The node is a new one.
    fn set(&mut self, put: &Put) -> Result<Arc<Event>, Refusal> {
        let previous = match self.keyspace.find(&put.path) {
            Ok(Found::Directory(_)) => return Err(Refusal::NotAKey(Some(put.path.clone()))),
            Ok(found @ Found::Key(_)) => Some(self.state(found)),
            Err(Refusal::NotFound(_)) if put.content != Content::Kept => None,
            Err(refusal) => return Err(refusal),
        };
        let mut written = Written {
            path: &put.path,
            value: previous.as_ref().and_then(|node| node.value.clone()),
            ttl: put.ttl,
            action: Action::Set,
            audience: Audience::Everyone,
        };
        match &put.content {
            Content::Value(value) => written.value = Some(value.clone()),
            Content::Directory => written.value = None,
            Content::Kept => written.audience = Audience::Nobody,
        }
        Ok(self.replace(written, previous))
    }

    /// Makes a node where nothing is.
    fn create(
        &mut self,
        path: &Path,
        value: Option<Value>,
        ttl: Option<Duration>,
    ) -> Result<Arc<Event>, Refusal> {
        match self.keyspace.find(path) {
            Ok(_) => return Err(Refusal::Exists(path.clone())),
            Err(Refusal::NotFound(_)) => {}
            Err(refusal) => return Err(refusal),
        }
        let written = Written {
            path,
            value,
            ttl,
            action: Action::Create,
            audience: Audience::Everyone,
        };
        Ok(self.replace(written, None))
    }

    /// Changes a node where it is. A directory has nothing to change but its TTL.
    fn update(&mut self, put: &Put) -> Result<Arc<Event>, Refusal> {
        match self.keyspace.find(&put.path)? {
            Found::Key(_) => Ok(self.change(put, Action::Update)),
            Found::Directory(_) => match &put.content {
                Content::Value(value) if !value.is_empty() => {
                    Err(Refusal::NotAKey(Some(put.path.clone())))
                }
                Content::Value(_) | Content::Directory | Content::Kept => Ok(self.renew(put)),
            },
        }
    }

    /// Changes a key that compares equal.
    fn swap(&mut self, put: &Put, compare: &Compare) -> Result<Arc<Event>, Refusal> {
        match self.keyspace.find(&put.path)? {
            Found::Directory(_) => Err(Refusal::NotAKey(Some(put.path.clone()))),
            Found::Key(row) => {
                compare_with(row, compare)?;
                Ok(self.change(put, Action::CompareAndSwap))
            }
        }
    }

    /// A new node at a path where there is nothing, or a key.
    fn replace(&mut self, written: Written<'_>, previous: Option<NodeState>) -> Arc<Event> {
        let (path, id) = (written.path, self.next_change());
        match &previous {
            Some(node) if written.value.is_none() => {
                assert!(node.value.is_some(), "a directory is never replaced");
                let top = Top::take(self, path);
                self.keyspace.bury(&mut self.ledger, &top.path, id);
            }
            Some(node) => self.release(node),
            None => {}
        }
        let lease = self.grant(path, written.ttl, id);
        let (changed, ledger) = (Changed::new(id, id), &mut self.ledger);
        match written.value.clone() {
            Some(value) => {
                let version = 1;
                let row = KeyRow {
                    changed,
                    version,
                    lease,
                    value,
                };
                self.keyspace.put_key(ledger, path, row, id);
            }
            None => {
                let (children, explicit) = (0, true);
                let row = DirectoryRow {
                    changed,
                    children,
                    lease,
                    explicit,
                };
                self.keyspace.put_directory(ledger, path, row, id);
            }
        }
        self.publish_write(written, id, changed, lease, previous)
    }

    /// New content and TTL for a key.
    fn change(&mut self, put: &Put, action: Action) -> Arc<Event> {
        let id = self.next_change();
        let Ok(Found::Key(old)) = self.keyspace.find(&put.path) else {
            unreachable!("the caller found a key at {}", put.path);
        };
        let old = old.clone();
        let previous = self.state(Found::Key(&old));
        self.release(&previous);
        let changed = Changed::new(old.changed.created(), id);
        let lease = self.grant(&put.path, put.ttl, changed.created());
        let (value, audience) = match &put.content {
            Content::Value(value) => (value.clone(), Audience::Everyone),
            // v2 ignores `dir` on a key that is there, and so sets the value it did not give.
            Content::Directory => (Value::default(), Audience::Everyone),
            Content::Kept => (old.value, Audience::Nobody),
        };
        let row = KeyRow {
            changed,
            version: old.version + 1,
            lease,
            value: value.clone(),
        };
        self.keyspace.put_key(&mut self.ledger, &put.path, row, id);
        let written = Written {
            path: &put.path,
            value: Some(value),
            ttl: put.ttl,
            action,
            audience,
        };
        self.publish_write(written, id, changed, lease, Some(previous))
    }

    /// A new TTL for a directory. It is shown as changed by this, and stays as it was changed
    /// before (api/v2.md §7.2).
    fn renew(&mut self, put: &Put) -> Arc<Event> {
        let id = self.next_change();
        let Ok(Found::Directory(old)) = self.keyspace.find(&put.path) else {
            unreachable!("the caller found a directory at {}", put.path);
        };
        let mut row = old.clone();
        let previous = self.state(Found::Directory(&row));
        self.release(&previous);
        row.lease = self.grant(&put.path, put.ttl, previous.created);
        let lease = row.lease;
        self.keyspace
            .put_directory(&mut self.ledger, &put.path, row, id);
        let audience = match put.content {
            Content::Kept => Audience::Nobody,
            Content::Value(_) | Content::Directory => Audience::Everyone,
        };
        let written = Written {
            path: &put.path,
            value: None,
            ttl: put.ttl,
            action: Action::Update,
            audience,
        };
        let shown = Changed::new(previous.created, id);
        self.publish_write(written, id, shown, lease, Some(previous))
    }

    fn publish_write(
        &mut self,
        written: Written<'_>,
        id: ChangeId,
        changed: Changed,
        lease: Option<NonZeroU64>,
        previous: Option<NodeState>,
    ) -> Arc<Event> {
        let node = NodeState {
            value: written.value,
            created: changed.created(),
            modified: changed.modified(),
            lease: lease.map(|id| self.leases.lease(LeaseId(id.get()))),
        };
        let event = Arc::new(Event {
            id,
            at: self.clock,
            action: written.action,
            audience: written.audience,
            path: written.path.clone(),
            node,
            previous,
        });
        self.history.push(&mut self.ledger, event.clone());
        self.revision = id.revision;
        event
    }

    /// The change that is being made: the first of the next revision.
    pub(super) const fn next_change(&self) -> ChangeId {
        ChangeId {
            revision: self.revision.next(),
            sub: 0,
        }
    }

    /// Grants a node that `created` made a lease of its own, named by the change being made.
    fn grant(
        &mut self,
        path: &Path,
        ttl: Option<Duration>,
        created: ChangeId,
    ) -> Option<NonZeroU64> {
        let granted = ttl?;
        let id = LeaseId(LeaseId::PRIVATE.0 | self.next_change().revision.0);
        let row = LeaseRow {
            granted,
            deadline: self.clock + granted,
            path: path.clone(),
        };
        self.leases.attach(&mut self.ledger, id, row, created);
        NonZeroU64::new(id.0)
    }

    /// Frees a node of its lease, if it has one.
    pub(super) fn release(&mut self, node: &NodeState) {
        if let Some(lease) = node.lease {
            self.leases.detach(&mut self.ledger, lease.id, node.created);
        }
    }
}

/// Whether a key compares equal: both what is given must hold.
pub(super) fn compare_with(row: &KeyRow, compare: &Compare) -> Result<(), Refusal> {
    let found = &row.value;
    let value = compare.value.as_ref().filter(|asked| *asked != found);
    let index = row.changed.modified().index();
    let modified = compare.modified.filter(|&asked| asked != index);
    if value.is_none() && modified.is_none() {
        return Ok(());
    }
    Err(Refusal::CompareFailed {
        value: value.map(|asked| (asked.clone(), found.clone())),
        modified: modified.map(|asked| (asked, index)),
    })
}
