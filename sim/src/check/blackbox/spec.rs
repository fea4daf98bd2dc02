//! What a part of the store does, one operation after the other: written down once more, apart from
//! the store and from the model.
//!
//! Answers show indexes, which the specification cannot know: it is told under which a change takes
//! place, or that no answer shows it. It is *hidden* then, and may have been any number.

use quorate_core::store::Action;

use super::names::{EMPTY, Names, PathId, Paths, REST, ROOT, ValueId};

/// The index of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(u64);

impl Stamp {
    pub(super) const HIDDEN: Self = Self(u64::MAX);

    pub(super) const fn known(index: u64) -> Self {
        Self(index)
    }
}

/// A limit on how long a node lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    /// In nanoseconds.
    pub(super) granted: u64,
    /// The earliest true time at which it may be over.
    pub(super) earliest: u64,
}

/// A key or a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// Of a key.
    pub(super) value: Option<ValueId>,
    pub(super) created: Stamp,
    pub(super) modified: Stamp,
    pub(super) lease: Option<Lease>,
}

/// A node in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) value: Option<ValueId>,
    pub(super) created: u64,
    pub(super) modified: u64,
    pub(super) granted: Option<u64>,
}

/// Why the store says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    NotFound(PathId),
    /// What was found instead.
    CompareFailed {
        path: PathId,
        value: Option<ValueId>,
        modified: Option<u64>,
    },
    NotAKey(Option<PathId>),
    NotADirectory(PathId),
    Exists(PathId),
    RootIsReadOnly,
    NotEmpty(PathId),
    /// What this operation is never answered.
    Strange,
}

impl Reason {
    /// What it is about.
    const fn path(self) -> Option<PathId> {
        match self {
            Self::NotFound(path)
            | Self::NotADirectory(path)
            | Self::Exists(path)
            | Self::NotEmpty(path)
            | Self::NotAKey(Some(path)) => Some(path),
            Self::CompareFailed { path, .. } => Some(path),
            Self::NotAKey(None) | Self::RootIsReadOnly | Self::Strange => None,
        }
    }
}

/// What a put leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Value(ValueId),
    Directory,
    Kept,
}

/// What a key is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Compare {
    pub(super) value: Option<ValueId>,
    pub(super) modified: Option<u64>,
}

/// The condition of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Always,
    Missing,
    Exists,
    Matches(Compare),
}

/// What a delete may remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Key,
    EmptyDirectory,
    Tree,
    Matches(Compare),
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Get {
        path: PathId,
        recursive: bool,
    },
    Put {
        path: PathId,
        content: Content,
        when: When,
        lease: Option<Lease>,
    },
    /// The child has a path of its own, known or made up.
    Append {
        child: PathId,
        value: Option<ValueId>,
        lease: Option<Lease>,
    },
    Delete {
        path: PathId,
        scope: Scope,
    },
}

impl Ask {
    /// What it is about.
    pub(super) const fn path(&self) -> PathId {
        match *self {
            Self::Get { path, .. } | Self::Put { path, .. } | Self::Delete { path, .. } => path,
            Self::Append { child, .. } => child,
        }
    }

    /// Whether it limits how long something lives.
    pub(super) const fn grants(&self) -> bool {
        match self {
            Self::Get { .. } | Self::Delete { .. } => false,
            Self::Put { lease, .. } | Self::Append { lease, .. } => lease.is_some(),
        }
    }

    /// What a change that it makes is called.
    pub(super) const fn action(&self) -> Option<Action> {
        Some(match self {
            Self::Get { .. } => return None,
            Self::Put { when, .. } => match when {
                When::Always => Action::Set,
                When::Missing => Action::Create,
                When::Exists => Action::Update,
                When::Matches(_) => Action::CompareAndSwap,
            },
            Self::Append { .. } => Action::Create,
            Self::Delete { scope, .. } => match scope {
                Scope::Key | Scope::EmptyDirectory | Scope::Tree => Action::Delete,
                Scope::Matches(_) => Action::CompareAndDelete,
            },
        })
    }

    /// Which index of its key it asks for.
    fn compared(&self) -> Option<u64> {
        match self {
            Self::Put {
                when: When::Matches(compare),
                ..
            }
            | Self::Delete {
                scope: Scope::Matches(compare),
                ..
            } => compare.modified,
            Self::Get { .. } | Self::Put { .. } | Self::Append { .. } | Self::Delete { .. } => None,
        }
    }

    /// All that is as this leaves it, whatever was there before.
    pub(super) fn determines(&self, answer: &Answer, names: &Names) -> Paths {
        let place = names.place(self.path());
        let paths = match (self, answer) {
            (Self::Get { .. }, _)
            | (_, Answer::Refused(_) | Answer::Found(_) | Answer::Gap(..)) => 0,
            (Self::Delete { .. }, _) => place.tree,
            // An answer shows what was there before, and so what is kept of it.
            (Self::Put { .. } | Self::Append { .. }, Answer::Changed(_)) => place.own,
            (Self::Append { .. }, Answer::Unseen(_)) => place.own,
            (Self::Put { content, when, .. }, Answer::Unseen(_)) => match (content, when) {
                (Content::Kept, _) | (_, When::Exists | When::Matches(_)) => 0,
                (Content::Value(_) | Content::Directory, When::Always | When::Missing) => place.own,
            },
        };
        paths & !REST
    }

    /// All that its answer may depend on.
    pub(super) fn reads(&self, names: &Names) -> Paths {
        let place = names.place(self.path());
        match self {
            Self::Get { .. }
            | Self::Delete {
                scope: Scope::EmptyDirectory,
                ..
            } => place.way | place.tree,
            Self::Put { .. } | Self::Append { .. } | Self::Delete { .. } => place.way,
        }
    }
}

/// A change, as its client saw it.
#[derive(Clone, Debug)]
pub(super) struct Changed {
    pub(super) index: u64,
    pub(super) action: Action,
    pub(super) path: PathId,
    pub(super) node: Shown,
    pub(super) previous: Option<Shown>,
}

/// What is answered.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// From the top down, each directory before what is in it.
    Found(Vec<(PathId, Shown)>),
    Changed(Box<Changed>),
    Refused(Reason),
    /// Nobody was told, and it took place under this index.
    Unseen(Index),
    /// No operation: something that nobody was told of took place under this index, and wrote
    /// these paths; with what it left there, where it was seen.
    Gap(u64, Vec<(PathId, Option<Shown>)>),
}

/// What is known of the index of a change that nobody was told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Index {
    /// It was in other answers.
    Known(u64),
    /// No answer shows it.
    Hidden,
}

/// What a command does.
enum Effect {
    /// What is stamped as `None` is made or changed by this very command.
    Write {
        action: Action,
        value: Option<ValueId>,
        created: Option<Stamp>,
        /// Of a directory that is renewed: what it keeps, and does not show.
        kept: Option<Stamp>,
        lease: Option<Lease>,
    },
    Remove {
        action: Action,
        old: Node,
    },
}

/// Everything at one moment, and the way back to the moments before.
#[derive(Debug)]
pub(super) struct State<'a> {
    names: &'a Names,
    nodes: Vec<Option<Node>>,
    log: Vec<(PathId, Option<Node>)>,
    hash: u128,
    /// Why the last operation did not fit: all of these would have to be otherwise, or one of them
    /// where it is a directory and all that is below it.
    blame: Paths,
}

impl<'a> State<'a> {
    /// Nothing but the root.
    pub(super) fn new(names: &'a Names) -> Self {
        let mut nodes = vec![None; names.len()];
        nodes[ROOT] = Some(Node {
            value: None,
            created: Stamp::known(0),
            modified: Stamp::known(0),
            lease: None,
        });
        Self {
            names,
            nodes,
            log: Vec::new(),
            hash: 0,
            blame: 0,
        }
    }

    /// A name for all that is there.
    pub(super) const fn hash(&self) -> u128 {
        self.hash
    }

    /// What would have to be otherwise for the operation to fit that just did not.
    pub(super) const fn blame(&self) -> Paths {
        self.blame
    }

    /// A name for the way here.
    pub(super) const fn mark(&self) -> usize {
        self.log.len()
    }

    /// Goes back to `mark`.
    pub(super) fn undo(&mut self, mark: usize) {
        while self.log.len() > mark {
            let (path, old) = self.log.pop().expect("longer than the mark");
            self.weigh(path, old);
            self.nodes[path] = old;
        }
    }

    /// What was changed since `mark`.
    pub(super) fn changed(&self, mark: usize) -> Paths {
        let changed = self.log[mark..].iter();
        changed.fold(0, |all, &(path, _)| all | self.names.place(path).own)
    }

    pub(super) fn node(&self, path: PathId) -> Option<&Node> {
        self.nodes[path].as_ref()
    }

    /// Whether `ask` could leave what a gap shows.
    pub(super) fn leaves(ask: &Ask, names: &Names, seen: &[(PathId, Option<Shown>)]) -> bool {
        let above = &names.place(ask.path()).above;
        let (value, granted) = match *ask {
            Ask::Get { .. } | Ask::Delete { .. } => return false,
            // What it kept is not known.
            Ask::Put {
                content: Content::Kept,
                lease,
                ..
            } => (None, lease),
            Ask::Put {
                content: Content::Directory,
                lease,
                when: When::Exists | When::Matches(_),
                ..
            } => (None, lease),
            Ask::Put {
                content: Content::Directory,
                lease,
                ..
            } => (Some(None), lease),
            Ask::Put {
                content: Content::Value(value),
                lease,
                ..
            } => (Some(Some(value)), lease),
            Ask::Append { value, lease, .. } => (Some(value), lease),
        };
        let granted = granted.map(|lease| lease.granted);
        seen.iter().all(|(path, node)| {
            if above.contains(path) {
                return node.is_none_or(|node| node.value.is_none());
            }
            // A directory that is renewed unseen has another lease under the same index.
            let fits = |node: Shown| {
                let is_granted = node.value.is_none() || node.granted == granted;
                is_granted && value.is_none_or(|value| value == node.value)
            };
            *path == ask.path() && node.is_none_or(fits)
        })
    }

    /// Whether all of `paths` were written under `index`. Blames one that was not.
    pub(super) fn wrote(&mut self, index: u64, mut paths: impl Iterator<Item = PathId>) -> bool {
        let index = Stamp::known(index);
        let is_of = |node: &Node| node.created == index || node.modified == index;
        let other = paths.find(|&path| !self.nodes[path].as_ref().is_some_and(is_of));
        other.is_none_or(|other| self.blames(Some(other)))
    }

    /// All that has a lease, and the earliest time at which it may be over.
    pub(super) fn leased(&self) -> impl Iterator<Item = (PathId, u64)> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter_map(|(path, node)| Some((path, node.as_ref()?.lease?.earliest)))
    }

    /// Does what is asked, if the answer fits.
    pub(super) fn place(&mut self, ask: &Ask, answer: &Answer) -> bool {
        let mark = self.mark();
        self.blame = 0;
        let fits = match ask {
            Ask::Get { path, recursive } => self.read(*path, *recursive, answer),
            Ask::Put { .. } | Ask::Append { .. } | Ask::Delete { .. } => self.write(ask, answer),
        };
        if !fits {
            self.undo(mark);
        }
        fits
    }

    /// What has a lease is over, with all that is in it.
    pub(super) fn expire(&mut self, path: PathId) {
        self.remove(path);
    }

    fn read(&mut self, path: PathId, recursive: bool, answer: &Answer) -> bool {
        match (self.way(path), answer) {
            (Ok(()), Answer::Found(found)) => {
                let depth = if recursive { usize::MAX } else { 1 };
                let mut rest = found.as_slice();
                if !self.lists(path, depth, &mut rest) {
                    return false;
                }
                // It shows more than there is.
                rest.first()
                    .is_none_or(|&(more, _)| self.blames(Some(more)))
            }
            (Err(reason), Answer::Refused(answer)) if reason == *answer => true,
            (way, answer) => self.disagrees(way.err(), answer),
        }
    }

    /// Whether what is at `path` and below it is what `rest` begins with.
    fn lists(&mut self, path: PathId, depth: usize, rest: &mut &[(PathId, Shown)]) -> bool {
        let Some((&(shown, node), others)) = rest.split_first() else {
            return self.blames(Some(path));
        };
        if shown != path {
            // One of the two is too much here, or missing.
            let is_there = self.nodes[shown].is_some();
            return self.blames(Some(if is_there { path } else { shown }));
        }
        if !self.shows(path, &node) {
            return false;
        }
        *rest = others;
        if node.value.is_some() || depth == 0 {
            return true;
        }
        let names = self.names;
        let children = names.place(path).children.iter();
        for &child in children.filter(|&&child| !names.place(child).hidden) {
            if self.nodes[child].is_some() && !self.lists(child, depth - 1, rest) {
                return false;
            }
        }
        true
    }

    fn write(&mut self, ask: &Ask, answer: &Answer) -> bool {
        let path = ask.path();
        if !self.explains(ask, path, answer) {
            return false;
        }
        match (self.decide(ask), answer) {
            (Ok(effect), Answer::Changed(changed)) => {
                if !self.agrees(path, &effect, changed) {
                    return self.blames(Some(path));
                }
                self.perform(path, &effect, Stamp::known(changed.index));
                true
            }
            (Ok(effect), Answer::Unseen(index)) => {
                let stamp = match *index {
                    Index::Known(index) => Stamp::known(index),
                    Index::Hidden => Stamp::HIDDEN,
                };
                self.perform(path, &effect, stamp);
                true
            }
            (Err(reason), Answer::Refused(answer)) if reason == *answer => true,
            (outcome, answer) => self.disagrees(outcome.err(), answer),
        }
    }

    /// The store would refuse for `reason`, or not at all; the answer is another one.
    fn disagrees(&mut self, reason: Option<Reason>, answer: &Answer) -> bool {
        let answered = match answer {
            Answer::Refused(answered) => Some(*answered),
            Answer::Found(_) | Answer::Changed(_) | Answer::Unseen(_) | Answer::Gap(..) => None,
        };
        if let (Some(Reason::NotEmpty(path)), None) = (reason, answered) {
            let mut children = self.names.place(path).children.iter();
            let child = children.find(|&&child| self.nodes[child].is_some());
            return self.blames(child.copied());
        }
        if let (None, Some(Reason::NotEmpty(path))) = (reason, answered) {
            self.blame = self.names.place(path).tree;
            return false;
        }
        // Nothing below matters before what is above is as it was.
        let paths = [reason, answered];
        let paths = paths.into_iter().flatten().filter_map(Reason::path);
        let highest = paths.min_by_key(|&path| self.names.place(path).above.len());
        self.blames(highest)
    }

    fn blames(&mut self, path: Option<PathId>) -> bool {
        self.blame = path.map_or(0, |path| self.names.place(path).own);
        false
    }

    /// Whether the answer shows what was there before; an index that was compared and that no
    /// answer shows is what it was compared with.
    fn explains(&mut self, ask: &Ask, path: PathId, answer: &Answer) -> bool {
        match answer {
            Answer::Changed(changed) => match &changed.previous {
                Some(previous) => self.shows(path, previous),
                None => self.nodes[path].is_none() || self.blames(Some(path)),
            },
            Answer::Unseen(_) => {
                if let (Some(asked), Some(mut node)) = (ask.compared(), self.nodes[path])
                    && node.modified == Stamp::HIDDEN
                {
                    node.modified = Stamp::known(asked);
                    self.set(path, Some(node));
                }
                true
            }
            Answer::Refused(_) | Answer::Found(_) | Answer::Gap(..) => true,
        }
    }

    fn decide(&self, ask: &Ask) -> Result<Effect, Reason> {
        match *ask {
            Ask::Get { .. } => unreachable!("a question changes nothing"),
            Ask::Put {
                path,
                content,
                when,
                lease,
            } => self.put(path, content, when, lease),
            Ask::Append {
                child,
                value,
                lease,
            } => match self.way(child) {
                Ok(()) => Err(Reason::Exists(child)),
                Err(Reason::NotFound(_)) => Ok(Effect::Write {
                    action: Action::Create,
                    value,
                    created: None,
                    kept: None,
                    lease,
                }),
                Err(reason) => Err(reason),
            },
            Ask::Delete { path, scope } => self.delete(path, scope),
        }
    }

    fn put(
        &self,
        path: PathId,
        content: Content,
        when: When,
        lease: Option<Lease>,
    ) -> Result<Effect, Reason> {
        if path == ROOT {
            return Err(Reason::RootIsReadOnly);
        }
        let old = match self.way(path) {
            Ok(()) => self.nodes[path],
            Err(Reason::NotFound(missing)) => {
                let makes = match when {
                    When::Always => content != Content::Kept,
                    When::Missing => true,
                    When::Exists | When::Matches(_) => false,
                };
                if !makes {
                    return Err(Reason::NotFound(missing));
                }
                None
            }
            Err(reason) => return Err(reason),
        };
        let is_directory = old.is_some_and(|old| old.value.is_none());
        let (action, keeps) = match when {
            When::Always if is_directory => return Err(Reason::NotAKey(Some(path))),
            When::Always => (Action::Set, false),
            When::Missing if old.is_some() => return Err(Reason::Exists(path)),
            When::Missing => (Action::Create, false),
            When::Exists => (Action::Update, true),
            When::Matches(_) if is_directory => return Err(Reason::NotAKey(Some(path))),
            When::Matches(compare) => {
                differs(path, compare, old.as_ref())?;
                (Action::CompareAndSwap, true)
            }
        };
        if keeps && is_directory {
            return match content {
                Content::Value(value) if value != EMPTY => Err(Reason::NotAKey(Some(path))),
                Content::Value(_) | Content::Directory | Content::Kept => Ok(Effect::Write {
                    action,
                    value: None,
                    created: old.map(|old| old.created),
                    kept: old.map(|old| old.modified),
                    lease,
                }),
            };
        }
        let value = match content {
            Content::Value(value) => Some(value),
            Content::Directory if keeps => Some(EMPTY),
            Content::Directory => None,
            Content::Kept => Some(old.and_then(|old| old.value).unwrap_or(EMPTY)),
        };
        Ok(Effect::Write {
            action,
            value,
            created: old.filter(|_| keeps).map(|old| old.created),
            kept: None,
            lease,
        })
    }

    fn delete(&self, path: PathId, scope: Scope) -> Result<Effect, Reason> {
        if path == ROOT {
            return Err(match scope {
                Scope::Matches(_) => Reason::NotAKey(None),
                Scope::Key | Scope::EmptyDirectory | Scope::Tree => Reason::RootIsReadOnly,
            });
        }
        self.way(path)?;
        let old = self.nodes[path].expect("the way leads to something");
        let mut action = Action::Delete;
        match scope {
            Scope::Key | Scope::Matches(_) if old.value.is_none() => {
                return Err(Reason::NotAKey(Some(path)));
            }
            Scope::Matches(compare) => {
                differs(path, compare, Some(&old))?;
                action = Action::CompareAndDelete;
            }
            Scope::EmptyDirectory => {
                let mut children = self.names.place(path).children.iter();
                if children.any(|&child| self.nodes[child].is_some()) {
                    return Err(Reason::NotEmpty(path));
                }
            }
            Scope::Key | Scope::Tree => {}
        }
        Ok(Effect::Remove { action, old })
    }

    /// Whether something is at `path`; else what stops one on the way there.
    fn way(&self, path: PathId) -> Result<(), Reason> {
        for &above in &self.names.place(path).above {
            match &self.nodes[above] {
                Some(node) if node.value.is_some() => return Err(Reason::NotADirectory(above)),
                Some(_) => {}
                None => return Err(Reason::NotFound(above)),
            }
        }
        match &self.nodes[path] {
            Some(_) => Ok(()),
            None => Err(Reason::NotFound(path)),
        }
    }

    /// Whether the client was told just that. What was there before has been compared already.
    fn agrees(&self, path: PathId, effect: &Effect, changed: &Changed) -> bool {
        let shown = &changed.node;
        let (right, value, created, granted) = match effect {
            Effect::Write {
                action,
                value,
                created,
                kept: _,
                lease,
            } => {
                let created = created.unwrap_or(Stamp::known(changed.index));
                let granted = lease.map(|lease| lease.granted);
                (*action, *value, created, granted)
            }
            Effect::Remove { action, old } => {
                (*action, old.value.map(|_| EMPTY), old.created, None)
            }
        };
        changed.path == path
            && changed.action == right
            && shown.value == value
            && Stamp::known(shown.created) == created
            && shown.modified == changed.index
            && shown.granted == granted
    }

    fn perform(&mut self, path: PathId, effect: &Effect, stamp: Stamp) {
        match *effect {
            Effect::Remove { .. } => self.remove(path),
            Effect::Write {
                value,
                created,
                kept,
                lease,
                action: _,
            } => {
                let names = self.names;
                for &above in &names.place(path).above {
                    if self.nodes[above].is_none() {
                        let made = Node {
                            value: None,
                            created: stamp,
                            modified: stamp,
                            lease: None,
                        };
                        self.set(above, Some(made));
                    }
                }
                let node = Node {
                    value,
                    created: created.unwrap_or(stamp),
                    modified: kept.unwrap_or(stamp),
                    lease,
                };
                self.set(path, Some(node));
            }
        }
    }

    fn remove(&mut self, path: PathId) {
        let names = self.names;
        for &child in &names.place(path).children {
            if self.nodes[child].is_some() {
                self.remove(child);
            }
        }
        self.set(path, None);
    }

    /// Whether `shown` is what is at `path`.
    fn shows(&mut self, path: PathId, shown: &Shown) -> bool {
        let Some(node) = self.nodes[path] else {
            let stop = self.way(path).err().and_then(Reason::path);
            return self.blames(stop);
        };
        let agrees = node.value == shown.value
            && node.created == Stamp::known(shown.created)
            && node.modified == Stamp::known(shown.modified)
            && node.lease.map(|lease| lease.granted) == shown.granted;
        agrees || self.blames(Some(path))
    }

    fn set(&mut self, path: PathId, node: Option<Node>) {
        if self.nodes[path] == node {
            return;
        }
        let old = std::mem::replace(&mut self.nodes[path], node);
        self.log.push((path, old));
        // Once for what was there, and once for what is.
        self.hash ^= weight(path, old) ^ weight(path, node);
    }

    /// What is at `path` becomes `node`, as far as the hash is concerned.
    fn weigh(&mut self, path: PathId, node: Option<Node>) {
        self.hash ^= weight(path, self.nodes[path]) ^ weight(path, node);
    }
}

fn differs(path: PathId, compare: Compare, old: Option<&Node>) -> Result<(), Reason> {
    let found = old.expect("only what is there is compared");
    let value = found.value.filter(|_| compare.value.is_some());
    let value = value.filter(|&value| compare.value != Some(value));
    let modified = Some(found.modified.0).filter(|_| compare.modified.is_some());
    let modified = modified.filter(|&modified| compare.modified != Some(modified));
    if value.is_none() && modified.is_none() {
        return Ok(());
    }
    Err(Reason::CompareFailed {
        path,
        value,
        modified,
    })
}

fn weight(path: PathId, node: Option<Node>) -> u128 {
    let Some(node) = node else {
        return 0;
    };
    let lease = node
        .lease
        .map_or((0, 0), |lease| (1 + lease.granted, lease.earliest));
    let words = [
        path as u64,
        node.value.map_or(0, |value| 1 + value as u64),
        node.created.0,
        node.modified.0,
        lease.0,
        lease.1,
    ];
    let mut bytes = [0; 48];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    xxhash_rust::xxh3::xxh3_128(&bytes)
}
