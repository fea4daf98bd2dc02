//! The reference model: what the store means, written to be read rather than to be fast.
//!
//! It shares no code with the store, only the words (commands, events, trees, refusals), and keeps
//! everything: a plain tree of nodes, the list of all events, the list of all answers. What depends
//! on the length of encodings is not in it: history limited by bytes or age, answers limited by
//! bytes. The simulator uses this file too.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_core::store::{
    Action, Append, Audience, ClientRequest, Command, Compare, Content, Delete, Event, Lease,
    NodeState, Operation, Path, Put, Refusal, Scope, Settings, StoreError, Tree, Value, When,
};
use quorate_core::{ChangeId, ClusterTime, LeaseId, Revision};

/// The answer to a command: its event if it makes one, the counter after it, whether it is a retry.
pub(crate) type Answer = Result<(Option<Event>, Revision, bool), StoreError>;

#[derive(Clone, Debug)]
pub(crate) struct Model {
    root: Node,
    counter: u64,
    clock: ClusterTime,
    settings: Settings,
    oldest: u64,
    /// Every v2 event ever, that of index i at i - 1.
    happened: Vec<Happened>,
    /// Every answer kept, oldest first.
    answers: Vec<Kept>,
    /// Of each session, up to where it is done for.
    dropped: BTreeMap<u64, u64>,
}

#[derive(Clone, Debug)]
struct Node {
    created: ChangeId,
    modified: ChangeId,
    lease: Option<Lease>,
    inside: Inside,
}

#[derive(Clone, Debug)]
enum Inside {
    Value(Value),
    Children(BTreeMap<Vec<u8>, Node>),
}

#[derive(Clone, Debug)]
struct Happened {
    event: Event,
    /// Which paths existed below the removed node.
    gone: Vec<Path>,
}

#[derive(Clone, Debug)]
struct Kept {
    request: ClientRequest,
    stamp: ClusterTime,
    answer: Answer,
}

impl Node {
    fn directory(id: ChangeId, lease: Option<Lease>) -> Self {
        Self {
            created: id,
            modified: id,
            lease,
            inside: Inside::Children(BTreeMap::new()),
        }
    }

    fn state(&self) -> NodeState {
        NodeState {
            value: match &self.inside {
                Inside::Value(value) => Some(value.clone()),
                Inside::Children(_) => None,
            },
            created: self.created,
            modified: self.modified,
            lease: self.lease,
        }
    }

    fn children(&mut self) -> &mut BTreeMap<Vec<u8>, Self> {
        match &mut self.inside {
            Inside::Children(children) => children,
            Inside::Value(_) => panic!("a key has no children"),
        }
    }

    fn is_directory(&self) -> bool {
        matches!(self.inside, Inside::Children(_))
    }

    /// Itself and all below it.
    fn walk(&self, path: &Path, visit: &mut impl FnMut(&Path, &Self)) {
        visit(path, self);
        if let Inside::Children(children) = &self.inside {
            for (name, child) in children {
                child.walk(&path.child(name), visit);
            }
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        Self::new()
    }
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            root: Node::directory(ChangeId::ZERO, None),
            counter: 0,
            clock: ClusterTime::ZERO,
            settings: Settings::default(),
            oldest: 1,
            happened: Vec::new(),
            answers: Vec::new(),
            dropped: BTreeMap::new(),
        }
    }

    pub(crate) fn apply(&mut self, stamp: ClusterTime, command: &Command) -> Answer {
        self.clock = stamp;
        let answer = match &command.client {
            None => self.perform(&command.operation),
            Some(request) => self.perform_once(request, &command.operation),
        };
        self.forget();
        answer
    }

    pub(crate) fn expire(&mut self, stamp: ClusterTime, limit: u32, until: ClusterTime) -> u32 {
        self.clock = stamp;
        let revision = Revision(self.counter + 1);
        let mut expired = 0;
        while expired < limit
            && let Some(path) = self.next_due(until)
        {
            let id = ChangeId {
                revision,
                sub: expired,
            };
            self.remove(&path, id, Action::Expire);
            expired += 1;
        }
        self.forget();
        expired
    }

    pub(crate) fn skip(&mut self, stamp: ClusterTime) {
        self.clock = stamp;
        self.forget();
    }

    pub(crate) fn get(&self, path: &Path, recursive: bool) -> Result<Tree, StoreError> {
        match self.look(path) {
            Ok(node) => Ok(show(path, node, true, recursive)),
            Err(refusal) => Err(self.refuse(refusal)),
        }
    }

    /// All events from index `since` on that a watch on `path` is to see.
    pub(crate) fn watch(&self, path: &Path, recursive: bool, since: Revision) -> Vec<Event> {
        let from_there = self
            .happened
            .iter()
            .filter(|it| it.event.id.index() >= since);
        from_there
            .filter(|it| is_for(it, path, recursive))
            .map(|it| it.event.clone())
            .collect()
    }

    /// The v2 event of this index.
    pub(crate) fn event(&self, index: Revision) -> Option<&Event> {
        let at = usize::try_from(index.0.checked_sub(1)?).ok()?;
        self.happened.get(at).map(|it| &it.event)
    }

    pub(crate) fn revision(&self) -> Revision {
        Revision(self.counter)
    }

    /// The oldest index kept, as far as a limit by count says.
    pub(crate) fn oldest(&self) -> Revision {
        Revision(self.oldest)
    }

    pub(crate) fn next_deadline(&self) -> Option<ClusterTime> {
        let mut deadlines = Vec::new();
        self.root.walk(&Path::root(), &mut |_, node| {
            deadlines.extend(node.lease.map(|lease| lease.deadline));
        });
        deadlines.into_iter().min()
    }

    fn perform_once(&mut self, request: &ClientRequest, operation: &Operation) -> Answer {
        if let &ClientRequest::Numbered {
            client,
            sequence,
            acked,
        } = request
        {
            // Nobody has the answer to what he is only asking for now.
            let acked = acked.min(sequence.saturating_sub(1));
            self.answers.retain(|kept| match kept.request {
                ClientRequest::Numbered {
                    client: other,
                    sequence,
                    ..
                } => other != client || sequence > acked,
                ClientRequest::Opaque(_) => true,
            });
            let dropped = self.dropped.entry(client).or_default();
            *dropped = acked.max(*dropped);
        }
        if let Some(kept) = self
            .answers
            .iter()
            .find(|kept| same(&kept.request, request))
        {
            return kept
                .answer
                .clone()
                .map(|(event, revision, _)| (event, revision, true));
        }
        if let ClientRequest::Numbered {
            client, sequence, ..
        } = request
            && *sequence <= self.dropped[client]
        {
            return Err(self.refuse(Refusal::Expired));
        }
        let answer = self.perform(operation);
        self.answers.push(Kept {
            request: request.clone(),
            stamp: self.clock,
            answer: answer.clone(),
        });
        answer
    }

    fn perform(&mut self, operation: &Operation) -> Answer {
        let event = match operation {
            Operation::Put(put) => self.put(put).map(Some),
            Operation::Append(append) => self.append(append).map(Some),
            Operation::Delete(delete) => self.delete(delete).map(Some),
            Operation::Configure(settings) => {
                self.settings = settings.clone();
                Ok(None)
            }
            Operation::Publish(_) => Ok(None),
        };
        match event {
            Ok(event) => Ok((event, self.revision(), false)),
            Err(refusal) => Err(self.refuse(refusal)),
        }
    }

    fn put(&mut self, put: &Put) -> Result<Event, Refusal> {
        if put.path.is_root() {
            return Err(Refusal::RootIsReadOnly);
        }
        let found = self.look(&put.path).cloned();
        let (action, keeps_creation) = match (&put.when, &found) {
            (When::Always, Ok(node)) if node.is_directory() => {
                return Err(Refusal::NotAKey(Some(put.path.clone())));
            }
            (When::Always, _) => (Action::Set, false),
            (When::Missing, Ok(_)) => return Err(Refusal::Exists(put.path.clone())),
            (When::Missing, Err(_)) => (Action::Create, false),
            (When::Exists, _) => (Action::Update, true),
            (When::Matches(compare), Ok(node)) => {
                check_equal(&put.path, node, compare)?;
                (Action::CompareAndSwap, true)
            }
            (When::Matches(_), Err(_)) => (Action::CompareAndSwap, true),
        };
        let may_be_missing = match put.when {
            When::Always => put.content != Content::Kept,
            When::Missing => true,
            When::Exists | When::Matches(_) => false,
        };
        let old = match found {
            Ok(node) => Some(node),
            Err(Refusal::NotFound(_)) if may_be_missing => None,
            Err(refusal) => return Err(refusal),
        };

        let id = self.next_id();
        let lease = self.lease(put.ttl);
        let audience = match put.content {
            Content::Kept if old.is_some() => Audience::Nobody,
            Content::Kept | Content::Value(_) | Content::Directory => Audience::Everyone,
        };
        if keeps_creation && old.as_ref().is_some_and(Node::is_directory) {
            if matches!(&put.content, Content::Value(value) if !value.is_empty()) {
                return Err(Refusal::NotAKey(Some(put.path.clone())));
            }
            return Ok(self.renew_directory(put, lease, audience));
        }
        let inside = match (&put.content, &old) {
            (Content::Value(value), _) => Inside::Value(value.clone()),
            (Content::Directory, _) if keeps_creation => Inside::Value(Value::from("")),
            (Content::Directory, _) => Inside::Children(BTreeMap::new()),
            (Content::Kept, Some(node)) => node.inside.clone(),
            (Content::Kept, None) => Inside::Value(Value::from("")),
        };
        let node = Node {
            created: match &old {
                Some(node) if keeps_creation => node.created,
                _ => id,
            },
            modified: id,
            lease,
            inside,
        };
        let state = node.state();
        self.place(&put.path, node, id);
        let previous = old.map(|node| node.state());
        Ok(self.happen(id, action, audience, &put.path, state, previous, Vec::new()))
    }

    /// The event shows the directory as modified; the directory itself does not.
    fn renew_directory(&mut self, put: &Put, lease: Option<Lease>, audience: Audience) -> Event {
        let id = self.next_id();
        let node = self.node_mut(&put.path);
        let previous = node.state();
        node.lease = lease;
        let mut state = node.state();
        state.modified = id;
        let previous = Some(previous);
        self.happen(
            id,
            Action::Update,
            audience,
            &put.path,
            state,
            previous,
            Vec::new(),
        )
    }

    fn append(&mut self, append: &Append) -> Result<Event, Refusal> {
        let name = format!("{:020}", self.counter + 1);
        let content = match &append.value {
            Some(value) => Content::Value(value.clone()),
            None => Content::Directory,
        };
        self.put(&Put {
            path: append.directory.child(name.as_bytes()),
            content,
            when: When::Missing,
            ttl: append.ttl,
        })
    }

    fn delete(&mut self, delete: &Delete) -> Result<Event, Refusal> {
        let path = &delete.path;
        if let Scope::Matches(compare) = &delete.scope {
            check_equal(path, self.look(path)?, compare)?;
            return Ok(self.remove(path, self.next_id(), Action::CompareAndDelete));
        }
        if path.is_root() {
            return Err(Refusal::RootIsReadOnly);
        }
        if let Inside::Children(children) = &self.look(path)?.inside {
            if delete.scope == Scope::Key {
                return Err(Refusal::NotAKey(Some(path.clone())));
            }
            if delete.scope == Scope::EmptyDirectory && !children.is_empty() {
                return Err(Refusal::NotEmpty(path.clone()));
            }
        }
        Ok(self.remove(path, self.next_id(), Action::Delete))
    }

    fn remove(&mut self, path: &Path, id: ChangeId, action: Action) -> Event {
        let parent = path.parent().expect("the root stays");
        let siblings = self.node_mut(&parent).children();
        let node = siblings.remove(path.name()).expect("the node was seen");
        let mut gone = Vec::new();
        node.walk(path, &mut |path, _| gone.push(path.clone()));
        gone.remove(0);
        let state = NodeState {
            value: (!node.is_directory()).then(|| Value::from("")),
            created: node.created,
            modified: id,
            lease: None,
        };
        let previous = Some(node.state());
        self.happen(id, action, Audience::Everyone, path, state, previous, gone)
    }

    /// Of all nodes whose time is over: the one that was due first.
    fn next_due(&self, until: ClusterTime) -> Option<Path> {
        let mut due = Vec::new();
        self.root.walk(&Path::root(), &mut |path, node| {
            if let Some(lease) = node.lease
                && lease.deadline <= until
            {
                due.push((lease.deadline, node.created, path.clone()));
            }
        });
        due.into_iter().min().map(|(_, _, path)| path)
    }

    /// After each entry: what is over a limit goes, oldest first.
    fn forget(&mut self) {
        for _ in 0..Settings::FORGOTTEN_PER_ENTRY_MAX {
            let Some(first) = self.answers.first() else {
                break;
            };
            let old = self.clock.since(first.stamp) > self.settings.request_age;
            let many = self.answers.len() as u64 > self.settings.requests_max;
            if !old && !many {
                break;
            }
            let first = self.answers.remove(0);
            if let ClientRequest::Numbered {
                client, sequence, ..
            } = first.request
            {
                let dropped = self.dropped.get_mut(&client).expect("it has a session");
                *dropped = sequence.max(*dropped);
            }
        }
        let window = self.settings.history_events;
        if window > 0 && self.counter + 1 > window {
            self.oldest = self.oldest.max(self.counter + 1 - window);
        }
    }

    fn look(&self, path: &Path) -> Result<&Node, Refusal> {
        let mut at = Path::root();
        let mut node = &self.root;
        for name in names(path) {
            let Inside::Children(children) = &node.inside else {
                return Err(Refusal::NotADirectory(at));
            };
            at = at.child(name);
            node = children
                .get(name)
                .ok_or_else(|| Refusal::NotFound(at.clone()))?;
        }
        Ok(node)
    }

    fn node_mut(&mut self, path: &Path) -> &mut Node {
        let mut node = &mut self.root;
        for name in names(path) {
            node = node.children().get_mut(name).expect("the node was seen");
        }
        node
    }

    /// Puts a node at a path, with the directories on the way.
    fn place(&mut self, path: &Path, new: Node, id: ChangeId) {
        let parent = path.parent().expect("the root stays");
        let mut node = &mut self.root;
        for name in names(&parent) {
            let missing = || Node::directory(id, None);
            node = node.children().entry(name.to_vec()).or_insert_with(missing);
        }
        node.children().insert(path.name().to_vec(), new);
    }

    fn lease(&self, ttl: Option<Duration>) -> Option<Lease> {
        ttl.map(|granted| Lease {
            id: LeaseId(LeaseId::PRIVATE.0 | (self.counter + 1)),
            granted,
            deadline: self.clock + granted,
        })
    }

    fn happen(
        &mut self,
        id: ChangeId,
        action: Action,
        audience: Audience,
        path: &Path,
        node: NodeState,
        previous: Option<NodeState>,
        gone: Vec<Path>,
    ) -> Event {
        let event = Event {
            id,
            at: self.clock,
            action,
            audience,
            path: path.clone(),
            node,
            previous,
        };
        self.counter += 1;
        assert_eq!(id.index(), self.revision());
        self.happened.push(Happened {
            event: event.clone(),
            gone,
        });
        event
    }

    fn next_id(&self) -> ChangeId {
        ChangeId {
            revision: Revision(self.counter + 1),
            sub: 0,
        }
    }

    fn refuse(&self, reason: Refusal) -> StoreError {
        StoreError {
            reason,
            revision: self.revision(),
        }
    }
}

fn names(path: &Path) -> impl Iterator<Item = &[u8]> {
    path.split(|&b| b == b'/').filter(|name| !name.is_empty())
}

fn same(one: &ClientRequest, other: &ClientRequest) -> bool {
    match (one, other) {
        (ClientRequest::Opaque(one), ClientRequest::Opaque(other)) => one == other,
        (
            ClientRequest::Numbered {
                client, sequence, ..
            },
            ClientRequest::Numbered {
                client: other,
                sequence: number,
                ..
            },
        ) => client == other && sequence == number,
        _ => false,
    }
}

fn check_equal(path: &Path, node: &Node, compare: &Compare) -> Result<(), Refusal> {
    let Inside::Value(found) = &node.inside else {
        return Err(Refusal::NotAKey((!path.is_root()).then(|| path.clone())));
    };
    let mut failed = (None, None);
    if let Some(value) = &compare.value
        && value != found
    {
        failed.0 = Some((value.clone(), found.clone()));
    }
    if let Some(index) = compare.modified
        && index != node.modified.index()
    {
        failed.1 = Some((index, node.modified.index()));
    }
    match failed {
        (None, None) => Ok(()),
        (value, modified) => Err(Refusal::CompareFailed { value, modified }),
    }
}

fn is_hidden(name: &[u8]) -> bool {
    name.first() == Some(&b'_')
}

fn is_for(happened: &Happened, path: &Path, recursive: bool) -> bool {
    let Happened { event, gone } = happened;
    if event.audience != Audience::Everyone {
        return false;
    }
    let (watched, changed): (Vec<_>, Vec<_>) =
        (names(path).collect(), names(&event.path).collect());
    let is_it = watched == changed;
    let is_above = changed.len() > watched.len() && changed.starts_with(&watched);
    let sees =
        recursive && is_above && !changed[watched.len()..].iter().any(|name| is_hidden(name));
    is_it || sees || gone.contains(path)
}

fn show(path: &Path, node: &Node, expand: bool, recursive: bool) -> Tree {
    let mut children = Vec::new();
    if let Inside::Children(inside) = &node.inside
        && expand
    {
        for (name, child) in inside.iter().filter(|(name, _)| !is_hidden(name)) {
            children.push(show(&path.child(name), child, recursive, recursive));
        }
    }
    // As paths compare, which is how their last names do.
    children.sort_by(|one, other| one.path.cmp(&other.path));
    Tree {
        path: path.clone(),
        node: node.state(),
        children,
    }
}
