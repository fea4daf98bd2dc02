//! The store once more: slow and obvious, sharing no code with the real one (SIMULATION.md E5).
//!
//! It keeps every version of every path for ever, named by the index of the entry that made it, so
//! that any answer can be checked at the index it claims, however late it arrives.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_core::raft::Payload;
use quorate_core::store::{
    Action, Append, Audience, ClientRequest, Command, Compare, Content, Delete, Event, NodeState,
    Operation, Path, Publish, Put, Refusal, Scope, Settings, Tree, Value, When,
};
use quorate_core::{ClusterTime, Index, NodeId};

/// A key or a directory, as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Of a key.
    pub value: Option<Value>,
    /// v2's `createdIndex`.
    pub created: u64,
    /// v2's `modifiedIndex`.
    pub modified: u64,
    /// How long it lives.
    pub lease: Option<Lease>,
}

/// A limit on how long a node lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// How long was granted.
    pub granted: Duration,
    /// When it is over.
    pub deadline: ClusterTime,
    /// The entry that granted it.
    pub by: Index,
}

/// A v2 event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its v2 index.
    pub index: u64,
    /// The entry that made it.
    pub by: Index,
    /// What was done.
    pub action: Action,
    /// Whether watchers see it: refreshes are silent.
    pub visible: bool,
    /// To what.
    pub path: Path,
    /// What is there now.
    pub node: Node,
    /// What was there before.
    pub previous: Option<Node>,
}

/// What a command is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This event: its v2 index.
    Changed(u64),
    /// Done, without an event.
    Done,
    /// Refused, when the counter stood there.
    Refused(Refusal, u64),
}

/// What a question finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where.
    pub path: Path,
    /// What.
    pub node: Node,
    /// In order of names.
    pub children: Vec<Self>,
}

/// The model.
#[derive(Clone, Debug)]
pub struct Model {
    /// Every version of every path: from the entry on, until the next.
    versions: BTreeMap<Path, Vec<(Index, Option<Node>)>>,
    /// The place of the event with v2 index `i` is `i - 1`.
    changes: Vec<Change>,
    /// What each entry's command was answered; the first entry is at 0.
    answers: Vec<Option<Answer>>,
    /// Whether each entry's command was more than a repetition of an earlier one.
    done: Vec<bool>,
    /// The counter after each entry; before the first one at 0.
    revisions: Vec<u64>,
    clock: ClusterTime,
    settings: Settings,
    /// The entry that changed them.
    configured: Index,
    /// The oldest event to be kept after each entry, as far as their number decides.
    counted: Vec<u64>,
    requests: Requests,
    /// What was made known of each member, and by which entry.
    members: BTreeMap<NodeId, Vec<(Index, Publish)>>,
}

impl Model {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        let root = Node {
            value: None,
            created: 0,
            modified: 0,
            lease: None,
        };
        Self {
            versions: BTreeMap::from([(Path::root(), vec![(Index::ZERO, Some(root))])]),
            changes: Vec::new(),
            answers: Vec::new(),
            done: Vec::new(),
            revisions: vec![0],
            clock: ClusterTime::ZERO,
            settings: Settings::default(),
            configured: Index::ZERO,
            counted: vec![0],
            requests: Requests::default(),
            members: BTreeMap::new(),
        }
    }

    /// Applies the next entry of the ledger.
    pub fn apply(&mut self, stamp: ClusterTime, payload: &Payload) {
        self.clock = stamp;
        self.revisions.push(self.revision());
        self.done.push(true);
        let answer = match payload {
            Payload::Empty | Payload::Configuration(_) => None,
            Payload::Expire { limit, until } => {
                self.expire(*until, *limit);
                None
            }
            Payload::Renew { since } => {
                self.renew(*since);
                None
            }
            Payload::Command(command) => Some(self.command(command)),
        };
        self.requests.forget(stamp, &self.settings);
        // What was dropped does not come back when more may be kept.
        let before = self.counted.last().copied().unwrap_or_default();
        let by_count = match self.settings.history_events {
            0 => 0,
            most => (self.revision() + 1).saturating_sub(most),
        };
        self.counted.push(before.max(by_count));
        self.answers.push(answer);
    }

    /// The last entry applied.
    #[must_use]
    pub const fn applied(&self) -> Index {
        Index(self.answers.len() as u64)
    }

    /// What the command at `index` was answered.
    #[must_use]
    pub fn answer(&self, index: Index) -> Option<&Answer> {
        self.answers.get(place(index.0.checked_sub(1)?))?.as_ref()
    }

    /// Whether the command at `index` was neither a repetition of an earlier one nor too late.
    #[must_use]
    pub fn is_done(&self, index: Index) -> bool {
        let done = index.0.checked_sub(1).map(place);
        done.is_some_and(|place| self.done.get(place) == Some(&true))
    }

    /// The counter now.
    #[must_use]
    pub fn revision(&self) -> u64 {
        *self.revisions.last().expect("one more than entries")
    }

    /// The counter after the entry at `index`.
    #[must_use]
    pub fn revision_at(&self, index: Index) -> Option<u64> {
        self.revisions.get(place(index.0)).copied()
    }

    /// All v2 events, the one with index 1 first.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Cluster time now.
    #[must_use]
    pub const fn clock(&self) -> ClusterTime {
        self.clock
    }

    /// The settings in force.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What was last made known of each member at `index`.
    pub fn members(&self, index: Index) -> impl Iterator<Item = &Publish> {
        self.members.values().filter_map(move |known| {
            let known = known.iter().rev().find(|(at, _)| *at <= index);
            known.map(|(_, publish)| publish)
        })
    }

    /// The oldest event to be kept at `index`, as far as their number decides.
    #[must_use]
    pub fn counted(&self, index: Index) -> Option<u64> {
        let place = usize::try_from(index.0).ok()?;
        self.counted.get(place).copied()
    }

    /// The entry that put them in force.
    #[must_use]
    pub const fn configured(&self) -> Index {
        self.configured
    }

    /// Every path there ever was.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.versions.keys()
    }

    /// What was at `path` after the entry at `at`.
    #[must_use]
    pub fn node_at(&self, at: Index, path: &Path) -> Option<&Node> {
        let versions = self.versions.get(path)?;
        let after = versions.partition_point(|(since, _)| *since <= at);
        versions[..after].last()?.1.as_ref()
    }

    /// What was at `path` at any time, oldest first.
    pub fn versions(&self, path: &Path) -> impl Iterator<Item = &Node> {
        let versions = self.versions.get(path).into_iter().flatten();
        versions.filter_map(|(_, node)| node.as_ref())
    }

    /// What was ever below `path` and is not there after the entry at `at`.
    pub fn gone_below(&self, at: Index, path: &Path) -> impl Iterator<Item = &Path> {
        let paths = self.versions.range(path.clone()..).map(|(other, _)| other);
        let inside = paths.filter(move |other| below(other, path).is_some());
        inside.filter(move |other| self.node_at(at, other).is_none())
    }

    /// All that lives for a limited time now.
    pub fn leased(&self) -> impl Iterator<Item = (&Path, &Node, Lease)> {
        self.versions.iter().filter_map(|(path, versions)| {
            let node = versions.last()?.1.as_ref()?;
            Some((path, node, node.lease?))
        })
    }

    /// The answer to a question at `at`.
    ///
    /// # Errors
    /// What the store would refuse with.
    pub fn get(&self, at: Index, path: &Path, recursive: bool) -> Result<Found, Refusal> {
        self.walk(at, path)?;
        let node = self
            .node_at(at, path)
            .ok_or_else(|| self.missing(at, path))?;
        let depth = if recursive { usize::MAX } else { 1 };
        Ok(self.found(at, path, node, depth))
    }

    /// Whether a watch of `path` wants `change` (api/v2.md §10, DESIGN.md §8).
    #[must_use]
    pub fn wants(&self, path: &Path, recursive: bool, change: &Change) -> bool {
        if !change.visible {
            return false;
        }
        if change.path == *path {
            return true;
        }
        if let Some(names) = below(&change.path, path) {
            return recursive
                && !names
                    .split(|&b| b == b'/')
                    .any(|name| name.starts_with(b"_"));
        }
        // Whoever watches something that went away with its directory is told.
        let went_along = change.action.removes() && below(path, &change.path).is_some();
        went_along && self.was_there(change, path)
    }

    /// Whether `path` went away with the removal `change`.
    fn was_there(&self, change: &Change, path: &Path) -> bool {
        // Of several removals by one entry, each took only what those before it had left; a path
        // below two of them is below both, and the outer one comes later or takes all.
        let before = Index(change.by.0 - 1);
        let taken_earlier = self.changes[..place(change.index - 1)]
            .iter()
            .rev()
            .take_while(|earlier| earlier.by == change.by)
            .any(|earlier| earlier.path == *path || below(path, &earlier.path).is_some());
        self.node_at(before, path).is_some() && !taken_earlier
    }

    fn command(&mut self, command: &Command) -> Answer {
        let now = self.clock;
        if let Some(client) = &command.client
            && let Some(answer) = self.requests.earlier(client)
        {
            *self.done.last_mut().expect("of this entry") = false;
            return match answer {
                Some(answer) => answer,
                None => Answer::Refused(Refusal::Expired, self.revision()),
            };
        }
        let answer = match &command.operation {
            Operation::Put(put) => self.put(put),
            Operation::Append(append) => self.append(append),
            Operation::Delete(delete) => self.delete(delete),
            Operation::Configure(settings) => {
                self.settings = settings.clone();
                self.configured = self.applied().next();
                Ok(Answer::Done)
            }
            Operation::Publish(publish) => {
                let at = self.applied().next();
                let known = self.members.entry(publish.member).or_default();
                known.push((at, publish.clone()));
                Ok(Answer::Done)
            }
        };
        let answer = answer.unwrap_or_else(|refusal| Answer::Refused(refusal, self.revision()));
        if let Some(client) = &command.client {
            self.requests.keep(now, client, answer.clone());
        }
        answer
    }

    fn put(&mut self, put: &Put) -> Result<Answer, Refusal> {
        let path = &put.path;
        if path.is_root() {
            return Err(Refusal::RootIsReadOnly);
        }
        self.walk(self.here(), path)?;
        let old = self.node(path).cloned();
        let next = self.revision() + 1;
        let is_directory = old.as_ref().is_some_and(|node| node.value.is_none());
        let needs_old = !matches!(put.when, When::Always | When::Missing)
            || (put.content == Content::Kept && put.when == When::Always);
        if needs_old && old.is_none() {
            return Err(self.missing(self.here(), path));
        }
        let action = match &put.when {
            When::Always if is_directory => return Err(Refusal::NotAKey(Some(path.clone()))),
            When::Always => Action::Set,
            When::Missing if old.is_some() => return Err(Refusal::Exists(path.clone())),
            When::Missing => Action::Create,
            When::Exists => Action::Update,
            When::Matches(_) if is_directory => return Err(Refusal::NotAKey(Some(path.clone()))),
            When::Matches(compare) => {
                check_compare(compare, old.as_ref().expect("needed and there"))?;
                Action::CompareAndSwap
            }
        };
        let value = match (&put.content, action) {
            // A directory stays one, and cannot be given a value.
            (Content::Value(value), Action::Update) if is_directory => {
                if !value.is_empty() {
                    return Err(Refusal::NotAKey(Some(path.clone())));
                }
                None
            }
            (Content::Value(value), _) => Some(value.clone()),
            // A key stays one; what it held is overwritten by nothing.
            (Content::Directory, Action::Update | Action::CompareAndSwap) if !is_directory => {
                Some(Value::default())
            }
            (Content::Directory, _) => None,
            // There is nothing to keep: an ordinary create.
            (Content::Kept, Action::Create) => Some(Value::default()),
            (Content::Kept, _) => old.as_ref().and_then(|old| old.value.clone()),
        };
        let keeps_creation = matches!(action, Action::Update | Action::CompareAndSwap);
        let created = match &old {
            Some(old) if keeps_creation => old.created,
            Some(_) | None => next,
        };
        let node = Node {
            value,
            created,
            modified: next,
            lease: self.lease(put.ttl),
        };
        self.make_parents(path, next);
        let mut kept = node.clone();
        if is_directory {
            // api/v2.md, surprise 3.
            kept.modified = old.as_ref().expect("a directory is there").modified;
        }
        self.write(path, Some(kept));
        let visible = put.content != Content::Kept || action == Action::Create;
        self.change(action, visible, path, node, old);
        Ok(Answer::Changed(next))
    }

    fn append(&mut self, append: &Append) -> Result<Answer, Refusal> {
        let next = self.revision() + 1;
        let path = append.directory.child(format!("{next:020}").as_bytes());
        self.walk(self.here(), &path)?;
        if self.node(&path).is_some() {
            return Err(Refusal::Exists(path));
        }
        let node = Node {
            value: append.value.clone(),
            created: next,
            modified: next,
            lease: self.lease(append.ttl),
        };
        self.make_parents(&path, next);
        self.write(&path, Some(node.clone()));
        self.change(Action::Create, true, &path, node, None);
        Ok(Answer::Changed(next))
    }

    fn delete(&mut self, delete: &Delete) -> Result<Answer, Refusal> {
        let path = &delete.path;
        if path.is_root() {
            return Err(match delete.scope {
                Scope::Matches(_) => Refusal::NotAKey(None),
                Scope::Key | Scope::EmptyDirectory | Scope::Tree => Refusal::RootIsReadOnly,
            });
        }
        self.walk(self.here(), path)?;
        let Some(old) = self.node(path).cloned() else {
            return Err(self.missing(self.here(), path));
        };
        let mut action = Action::Delete;
        match &delete.scope {
            Scope::Matches(compare) => {
                if old.value.is_none() {
                    return Err(Refusal::NotAKey(Some(path.clone())));
                }
                check_compare(compare, &old)?;
                action = Action::CompareAndDelete;
            }
            Scope::Key if old.value.is_none() => {
                return Err(Refusal::NotAKey(Some(path.clone())));
            }
            Scope::EmptyDirectory if !self.subtree(path).is_empty() => {
                return Err(Refusal::NotEmpty(path.clone()));
            }
            Scope::Key | Scope::EmptyDirectory | Scope::Tree => {}
        }
        let next = self.revision() + 1;
        self.remove(path, action);
        Ok(Answer::Changed(next))
    }

    fn expire(&mut self, until: ClusterTime, limit: u32) {
        let mut due: Vec<_> = self
            .leased()
            .filter(|(_, _, lease)| lease.deadline <= until.min(self.clock))
            .map(|(path, node, lease)| (lease.deadline, node.created, path.clone()))
            .collect();
        due.sort();
        let mut left = limit;
        for (_, _, path) in due {
            // It may have gone with its directory.
            if left > 0 && self.node(&path).is_some() {
                self.remove(&path, Action::Expire);
                left -= 1;
            }
        }
    }

    /// What was granted since then is granted anew.
    fn renew(&mut self, since: ClusterTime) {
        let recent = self
            .leased()
            .filter(|(_, _, lease)| lease.deadline.since(since) >= lease.granted)
            .filter(|(_, _, lease)| lease.deadline >= since);
        let renewed: Vec<_> = recent
            .map(|(path, node, lease)| {
                let deadline = self.clock + lease.granted;
                let lease = Some(Lease { deadline, ..lease });
                let node = Node {
                    lease,
                    ..node.clone()
                };
                (path.clone(), node)
            })
            .collect();
        for (path, node) in renewed {
            self.write(&path, Some(node));
        }
    }

    fn remove(&mut self, path: &Path, action: Action) {
        let old = self.node(path).cloned().expect("only what is there goes");
        for below in self.subtree(path) {
            self.write(&below, None);
        }
        self.write(path, None);
        let node = Node {
            value: old.value.as_ref().map(|_| Value::default()),
            created: old.created,
            modified: self.revision() + 1,
            lease: None,
        };
        self.change(action, true, path, node, Some(old));
    }

    fn change(
        &mut self,
        action: Action,
        visible: bool,
        path: &Path,
        node: Node,
        previous: Option<Node>,
    ) {
        let counter = self.revisions.last_mut().expect("one more than entries");
        *counter += 1;
        self.changes.push(Change {
            index: *counter,
            by: Index(self.answers.len() as u64 + 1),
            action,
            visible,
            path: path.clone(),
            node,
            previous,
        });
    }

    fn make_parents(&mut self, path: &Path, index: u64) {
        let missing: Vec<_> = path
            .ancestors()
            .filter(|parent| self.node(parent).is_none())
            .collect();
        for parent in missing {
            let directory = Node {
                value: None,
                created: index,
                modified: index,
                lease: None,
            };
            self.write(&parent, Some(directory));
        }
    }

    fn write(&mut self, path: &Path, node: Option<Node>) {
        let by = self.here();
        let versions = self.versions.entry(path.clone()).or_default();
        match versions.last_mut() {
            Some((since, latest)) if *since == by => *latest = node,
            Some(_) | None => versions.push((by, node)),
        }
    }

    fn lease(&self, ttl: Option<Duration>) -> Option<Lease> {
        ttl.map(|granted| Lease {
            granted,
            deadline: self.clock + granted,
            by: self.here(),
        })
    }

    /// The entry being applied.
    const fn here(&self) -> Index {
        Index(self.answers.len() as u64 + 1)
    }

    fn node(&self, path: &Path) -> Option<&Node> {
        self.versions.get(path)?.last()?.1.as_ref()
    }

    /// What is below `path` now.
    fn subtree(&self, path: &Path) -> Vec<Path> {
        let all = self.versions.iter();
        all.filter(|(other, versions)| {
            below(other, path).is_some() && versions.last().is_some_and(|(_, node)| node.is_some())
        })
        .map(|(other, _)| other.clone())
        .collect()
    }

    /// Refuses where a key stands on the way to `path`.
    fn walk(&self, at: Index, path: &Path) -> Result<(), Refusal> {
        let mut parents: Vec<_> = path.ancestors().collect();
        parents.reverse();
        for parent in parents {
            if self
                .node_at(at, &parent)
                .is_some_and(|node| node.value.is_some())
            {
                return Err(Refusal::NotADirectory(parent));
            }
        }
        Ok(())
    }

    /// The first part of `path` that is not there.
    fn missing(&self, at: Index, path: &Path) -> Refusal {
        let mut first = path.clone();
        for parent in path.ancestors() {
            if self.node_at(at, &parent).is_none() {
                first = parent;
            }
        }
        Refusal::NotFound(first)
    }

    fn found(&self, at: Index, path: &Path, node: &Node, depth: usize) -> Found {
        let mut children = Vec::new();
        if node.value.is_none() && depth > 0 {
            for (child, _) in self.versions.range(path.clone()..) {
                let Some(name) = below(child, path) else {
                    continue;
                };
                let shown = !name.contains(&b'/') && !name.starts_with(b"_");
                if let Some(node) = self.node_at(at, child)
                    && shown
                {
                    children.push(self.found(at, child, node, depth - 1));
                }
            }
        }
        Found {
            path: path.clone(),
            node: node.clone(),
            children,
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        Self::new()
    }
}

impl Node {
    /// Whether the store shows the same. Ids of leases are the store's own business.
    #[must_use]
    pub fn agrees(&self, real: &NodeState) -> bool {
        self.value == real.value
            && self.created == real.created.index().0
            && self.modified == real.modified.index().0
            && self.lease.map(|lease| (lease.granted, lease.deadline))
                == real.lease.map(|lease| (lease.granted, lease.deadline))
    }
}

impl Change {
    /// Whether the store's event is this one.
    #[must_use]
    pub fn agrees(&self, real: &Event) -> bool {
        let audience = if self.visible {
            Audience::Everyone
        } else {
            Audience::Nobody
        };
        self.index == real.id.index().0
            && self.action == real.action
            && audience == real.audience
            && self.path == real.path
            && self.node.agrees(&real.node)
            && match (&self.previous, &real.previous) {
                (Some(mine), Some(theirs)) => mine.agrees(theirs),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            }
    }
}

impl Found {
    /// Whether the store found the same.
    #[must_use]
    pub fn agrees(&self, real: &Tree) -> bool {
        self.path == real.path
            && self.node.agrees(&real.node)
            && self.children.len() == real.children.len()
            && self
                .children
                .iter()
                .zip(&real.children)
                .all(|(mine, theirs)| mine.agrees(theirs))
    }
}

/// The answers kept for retries.
#[derive(Clone, Debug, Default)]
struct Requests {
    /// In order of arrival.
    kept: Vec<(ClusterTime, ClientRequest, Answer)>,
    /// Of each session, the highest sequence whose answer is gone.
    gone: BTreeMap<u64, u64>,
}

impl Requests {
    /// The answer of an earlier request of this name; `Some(None)` if it is no longer kept.
    fn earlier(&mut self, request: &ClientRequest) -> Option<Option<Answer>> {
        let mut gone = 0;
        if let ClientRequest::Numbered {
            client,
            sequence,
            acked,
        } = request
        {
            // No client has the answer to what it has not asked for yet.
            gone = self.drop_through(*client, (*acked).min(sequence.saturating_sub(1)));
        }
        let mut kept = self.kept.iter();
        if let Some((_, _, answer)) = kept.find(|(_, other, _)| same_request(request, other)) {
            return Some(Some(answer.clone()));
        }
        match request {
            ClientRequest::Numbered { sequence, .. } if *sequence <= gone => Some(None),
            ClientRequest::Numbered { .. } | ClientRequest::Opaque(_) => None,
        }
    }

    fn keep(&mut self, now: ClusterTime, request: &ClientRequest, answer: Answer) {
        self.kept.push((now, request.clone(), answer));
    }

    /// Forgets what is too old or too many, the oldest first, so many with each entry.
    fn forget(&mut self, now: ClusterTime, settings: &Settings) {
        for _ in 0..Settings::FORGOTTEN_PER_ENTRY_MAX {
            let Some((since, request, _)) = self.kept.first() else {
                return;
            };
            let too_old = now.since(*since) > settings.request_age;
            if !too_old && self.kept.len() as u64 <= settings.requests_max {
                return;
            }
            if let ClientRequest::Numbered {
                client, sequence, ..
            } = request
            {
                let gone = self.gone.entry(*client).or_default();
                *gone = (*gone).max(*sequence);
            }
            self.kept.remove(0);
        }
    }

    /// The client has its answers through `acked`. Returns through where its answers are gone.
    fn drop_through(&mut self, session: u64, acked: u64) -> u64 {
        self.kept.retain(|(_, request, _)| match request {
            ClientRequest::Numbered {
                client, sequence, ..
            } => *client != session || *sequence > acked,
            ClientRequest::Opaque(_) => true,
        });
        let gone = self.gone.entry(session).or_default();
        *gone = (*gone).max(acked);
        *gone
    }
}

fn same_request(a: &ClientRequest, b: &ClientRequest) -> bool {
    match (a, b) {
        (ClientRequest::Opaque(a), ClientRequest::Opaque(b)) => a == b,
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
        (ClientRequest::Opaque(_), ClientRequest::Numbered { .. })
        | (ClientRequest::Numbered { .. }, ClientRequest::Opaque(_)) => false,
    }
}

fn check_compare(compare: &Compare, old: &Node) -> Result<(), Refusal> {
    let actual = old.value.as_ref().expect("only keys are compared");
    let value = compare
        .value
        .as_ref()
        .filter(|given| *given != actual)
        .map(|given| (given.clone(), actual.clone()));
    let modified = compare
        .modified
        .filter(|given| given.0 != old.modified)
        .map(|given| (given, quorate_core::Revision(old.modified)));
    if value.is_none() && modified.is_none() {
        return Ok(());
    }
    Err(Refusal::CompareFailed { value, modified })
}

/// The names on the way from `ancestor` to `path`, if it is below it.
pub(crate) fn below<'a>(path: &'a Path, ancestor: &Path) -> Option<&'a [u8]> {
    let (path, ancestor): (&'a [u8], &[u8]) = (path, ancestor);
    let prefix = if ancestor == b"/" { b"" } else { ancestor };
    let rest = path.strip_prefix(prefix)?.strip_prefix(b"/")?;
    (!rest.is_empty()).then_some(rest)
}

fn place(number: u64) -> usize {
    usize::try_from(number).expect("runs are short")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        Path::new(text.as_bytes()).expect("a clean path")
    }

    fn put(model: &mut Model, at: u64, text: &str, ttl: Option<u64>) {
        let operation = Operation::Put(Put {
            path: path(text),
            content: Content::Value("v".into()),
            when: When::Always,
            ttl: ttl.map(Duration::from_secs),
        });
        let command = Command {
            client: None,
            operation,
        };
        model.apply(ClusterTime(at), &Payload::Command(command.into()));
    }

    #[test]
    fn every_version_stays() {
        let mut model = Model::new();
        put(&mut model, 0, "/a/b", None);
        put(&mut model, 0, "/a/b", None);
        assert_eq!(
            model.get(Index(0), &path("/a"), false),
            Err(Refusal::NotFound(path("/a")))
        );
        let at = |index| {
            model
                .get(Index(index), &path("/a/b"), false)
                .expect("there")
                .node
                .modified
        };
        assert_eq!((at(1), at(2)), (1, 2));
        assert_eq!(
            model
                .get(Index(2), &path("/a"), false)
                .expect("there")
                .children
                .len(),
            1
        );
    }

    #[test]
    fn a_removed_directory_tells_those_who_watched_what_was_in_it() {
        let mut model = Model::new();
        put(&mut model, 0, "/a/b/_c", None);
        let operation = Operation::Delete(Delete {
            path: path("/a"),
            scope: Scope::Tree,
        });
        let command = Command {
            client: None,
            operation,
        };
        model.apply(ClusterTime(0), &Payload::Command(command.into()));
        let removal = &model.changes()[1];
        for (watched, wanted) in [
            ("/a/b/_c", true),
            ("/a/b", true),
            ("/a/x", false),
            ("/ab", false),
        ] {
            assert_eq!(
                model.wants(&path(watched), false, removal),
                wanted,
                "{watched}"
            );
        }
        assert!(
            !model.wants(&path("/a"), true, &model.changes()[0]),
            "hidden from above"
        );
    }

    #[test]
    fn what_is_due_goes_in_order_of_deadlines() {
        let mut model = Model::new();
        put(&mut model, 0, "/late", Some(9));
        put(&mut model, 0, "/second", Some(2));
        put(&mut model, 0, "/first", Some(1));
        model.apply(
            ClusterTime(5_000_000_000),
            &Payload::Expire {
                limit: 5,
                until: ClusterTime(5_000_000_000),
            },
        );
        let gone: Vec<_> = model.changes()[3..]
            .iter()
            .map(|c| c.path.to_string())
            .collect();
        assert_eq!(gone, ["/first", "/second"]);
        assert_eq!(model.revision(), 5);
    }

    #[test]
    fn what_was_granted_last_is_granted_anew() {
        let mut model = Model::new();
        put(&mut model, 0, "/old", Some(9));
        put(&mut model, 1_000_000_000, "/new", Some(9));
        let since = ClusterTime(1_000_000_000);
        model.apply(ClusterTime(4_000_000_000), &Payload::Renew { since });
        let deadlines: Vec<_> = model
            .leased()
            .map(|(_, _, lease)| lease.deadline.0)
            .collect();
        assert_eq!(deadlines, [13_000_000_000, 9_000_000_000]);
    }
}
