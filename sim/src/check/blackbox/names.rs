//! The paths and values of a history, each as a small number.

use std::collections::BTreeMap;

use quorate_core::store::{Path, Value};

/// The number of a path. The root is 0.
pub(super) type PathId = usize;

/// The number of a value. The empty one is 0.
pub(super) type ValueId = usize;

/// A set of paths, or a larger one: a path is the bit of its number modulo 128.
pub(super) type Paths = u128;

/// The root.
pub(super) const ROOT: PathId = 0;

/// The empty value.
pub(super) const EMPTY: ValueId = 0;

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
    values: BTreeMap<Value, ValueId>,
}

impl Names {
    pub(super) fn new() -> Self {
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
        let own = 1 << (id % 128);
        self.places[parent].children.push(id);
        self.places.push(Place {
            path: path.clone(),
            hidden: path.name().starts_with(b"_"),
            top: above.first().copied().unwrap_or(id),
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

    pub(super) fn place(&self, id: PathId) -> &Place {
        &self.places[id]
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }
}
