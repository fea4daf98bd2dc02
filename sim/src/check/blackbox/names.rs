//! The paths and values of a history, each as a small number.

use std::collections::BTreeMap;

use quorate_core::store::{Path, Value};

/// The number of a path. The root is 0.
pub(super) type PathId = usize;

/// The number of a value. The empty one is 0.
pub(super) type ValueId = usize;

/// A set of paths of one partition, or a larger one: the last bit stands for all paths that have
/// none of their own.
pub(super) type Paths = u128;

/// The bit that many paths share.
pub(super) const REST: Paths = 1 << 127;

/// The root.
pub(super) const ROOT: PathId = 0;

/// The empty value.
pub(super) const EMPTY: ValueId = 0;

/// The length of the names of children in order: there are many of them.
pub(super) const NUMBERED: usize = 20;

/// One path and those around it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: Path,
    /// Not shown in listings of its directory.
    pub(super) hidden: bool,
    /// The directories on the way, the top one first, without the root.
    pub(super) above: Vec<PathId>,
    /// In order of names, once [`Names::sort`] was called.
    pub(super) children: Vec<PathId>,
    /// The first name of it alone; the root's is the root.
    pub(super) top: PathId,
    /// Itself.
    pub(super) own: Paths,
    /// Itself and all above it.
    pub(super) way: Paths,
    /// Itself and all below it, once [`Names::sort`] was called.
    pub(super) tree: Paths,
}

/// All paths and values.
#[derive(Clone, Debug)]
pub(super) struct Names {
    places: Vec<Place>,
    paths: BTreeMap<Path, PathId>,
    /// How many bits are in use, by partition.
    bits: BTreeMap<PathId, u32>,
    whole: bool,
    values: BTreeMap<Value, ValueId>,
}

impl Names {
    /// No names yet, of a store that is one partition, or one for each first name.
    pub(super) fn new(whole: bool) -> Self {
        let root = Place {
            path: Path::root(),
            hidden: false,
            above: Vec::new(),
            children: Vec::new(),
            top: ROOT,
            own: 1,
            way: 1,
            tree: 1,
        };
        Self {
            places: vec![root],
            paths: BTreeMap::from([(Path::root(), ROOT)]),
            bits: BTreeMap::new(),
            whole,
            values: BTreeMap::from([(Value::default(), EMPTY)]),
        }
    }

    pub(super) fn value(&mut self, value: &Value) -> ValueId {
        if let Some(&id) = self.values.get(value) {
            return id;
        }
        let id = self.values.len();
        self.values.insert(value.clone(), id);
        id
    }

    pub(super) fn path(&mut self, path: &Path) -> PathId {
        if let Some(&id) = self.paths.get(path) {
            return id;
        }
        let parent = path.parent().expect("the root is there from the beginning");
        let parent = self.path(&parent);
        let id = self.places.len();
        let mut above = self.places[parent].above.clone();
        if parent != ROOT {
            above.push(parent);
        }
        let top = above.first().copied().unwrap_or(id);
        // The root has the first one.
        let bits = self
            .bits
            .entry(if self.whole { ROOT } else { top })
            .or_insert(1);
        let is_numbered = path.name().len() == NUMBERED || path.name().starts_with(b"?");
        let own = if is_numbered || *bits == REST.trailing_zeros() {
            REST
        } else {
            *bits += 1;
            1 << (*bits - 1)
        };
        self.places[parent].children.push(id);
        self.places.push(Place {
            path: path.clone(),
            hidden: path.name().starts_with(b"_"),
            top,
            above,
            children: Vec::new(),
            own,
            way: own | self.places[parent].way,
            tree: own,
        });
        self.paths.insert(path.clone(), id);
        id
    }

    /// To be called once all paths are known.
    pub(super) fn sort(&mut self) {
        for id in (0..self.places.len()).rev() {
            // Those below have larger numbers.
            let mut children = std::mem::take(&mut self.places[id].children);
            children.sort_by(|&a, &b| self.places[a].path.cmp(&self.places[b].path));
            let below = children.iter().map(|&child| self.places[child].tree);
            self.places[id].tree |= below.fold(0, |all, tree| all | tree);
            self.places[id].children = children;
        }
    }

    /// The number of a path, where it has one.
    pub(super) fn find(&self, path: &Path) -> Option<PathId> {
        self.paths.get(path).copied()
    }

    /// The number of a value, where it has one.
    pub(super) fn find_value(&self, value: &Value) -> Option<ValueId> {
        self.values.get(value).copied()
    }

    /// The number of the first name of a path alone, where it has one.
    pub(super) fn top(&self, path: &Path) -> Option<PathId> {
        let mut top = path.clone();
        while let Some(above) = top.parent().filter(|above| !above.is_root()) {
            top = above;
        }
        self.find(&top)
    }

    pub(super) fn place(&self, id: PathId) -> &Place {
        &self.places[id]
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }
}
