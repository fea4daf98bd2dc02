//! Clean v2 paths: the keys that v2 can name.

use alloc::vec::Vec;
use core::borrow::Borrow;
use core::fmt;
use core::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::bytes::Value;

/// A clean v2 path, as key bytes: `/`, or `/name/name…` with no empty, `.` or `..` name and no
/// slash at the end (api/v2.md §3). Names are any bytes but the slash. At most
/// [`NAMES_MAX`](Self::NAMES_MAX) of them, in at most [`BYTES_MAX`](Self::BYTES_MAX): trees are
/// walked and dropped level by level, and the tables on disk have a limit on the length of a key.
///
/// Invariant: held by the constructors; decoding checks it too, so a peer cannot break it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Value);

impl Path {
    /// The deepest path, in names.
    pub const NAMES_MAX: usize = 512;

    /// The longest path, in bytes.
    pub const BYTES_MAX: usize = 32 << 10;

    /// The root directory, which always exists.
    #[must_use]
    pub fn root() -> Self {
        Self(Value::new(b"/"))
    }

    /// The path of exactly these bytes, if they are a clean one.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        is_clean(bytes).then(|| Self(Value::new(bytes)))
    }

    /// The path that `key` is, if it is a clean one; shares its bytes.
    #[must_use]
    pub fn from_key(key: Value) -> Option<Self> {
        is_clean(&key).then_some(Self(key))
    }

    /// The child called `name`, if that is a name and the path does not become too long.
    #[must_use]
    pub fn try_child(&self, name: &[u8]) -> Option<Self> {
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        if !self.is_root() {
            bytes.extend_from_slice(&self.0);
        }
        bytes.push(b'/');
        bytes.extend_from_slice(name);
        Self::new(&bytes).filter(|child| child.parent().as_ref() == Some(self))
    }

    /// The child called `name`, known to be one.
    ///
    /// # Panics
    /// Where [`try_child`](Self::try_child) has none.
    #[must_use]
    pub fn child(&self, name: &[u8]) -> Self {
        self.try_child(name)
            .expect("a name, and not too long a path")
    }

    /// Whether this is `/`.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// The directory this is in; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.ancestors().next()
    }

    /// The directories this is in, nearest first, the root last.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> + '_ {
        let slashes = self.0.iter().enumerate().rev().filter(|&(_, &b)| b == b'/');
        slashes.filter(|_| !self.is_root()).map(|(at, _)| {
            if at == 0 {
                Self::root()
            } else {
                Self(Value::new(&self.0[..at]))
            }
        })
    }

    /// The names on the way from `ancestor` to this; `None` where this is not in that directory.
    /// `/foobar` is not in `/foo`, and nothing is in itself.
    #[must_use]
    pub fn below<'a>(&'a self, ancestor: &[u8]) -> Option<&'a [u8]> {
        if ancestor == b"/" {
            return (!self.is_root()).then(|| &self.0[1..]);
        }
        self.0.strip_prefix(ancestor)?.strip_prefix(b"/")
    }

    /// The last name; empty for the root.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|&b| b == b'/').next().unwrap_or_default()
    }

    /// The bytes, shared.
    #[must_use]
    pub fn as_key(&self) -> &Value {
        &self.0
    }
}

fn is_clean(bytes: &[u8]) -> bool {
    let Some(names) = bytes.strip_prefix(b"/") else {
        return false;
    };
    let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..");
    names.is_empty()
        || bytes.len() <= Path::BYTES_MAX
            && names.split(|&b| b == b'/').all(is_name)
            && names.iter().filter(|&&b| b == b'/').count() < Path::NAMES_MAX
}

/// Whether any of the `/`-separated `names` is hidden: begins with `_` (api/v2.md §11).
#[must_use]
pub fn hidden(names: &[u8]) -> bool {
    names
        .split(|&b| b == b'/')
        .any(|name| name.first() == Some(&b'_'))
}

impl Deref for Path {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Ordered as its bytes are, so that a table can be asked without making a `Path`.
impl Borrow<[u8]> for Path {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Serialize for Path {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Value::deserialize(deserializer)?;
        Self::new(&bytes).ok_or_else(|| de::Error::custom("not a clean path"))
    }
}

#[cfg(feature = "arbitrary")]
impl<'a> arbitrary::Arbitrary<'a> for Path {
    fn arbitrary(u: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
        let mut path = Self::root();
        for _ in 0..u.int_in_range(0..=4)? {
            path = path.child(u.choose(&[b"a".as_slice(), b"b", b"ab", b"_h", b"a!"])?);
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        Path::new(text.as_bytes()).expect("a clean path")
    }

    #[test]
    fn only_clean_paths_are_paths() {
        for bad in ["", "a", "//", "/a/", "/a//b", "/.", "/a/..", "/../a"] {
            assert_eq!(Path::new(bad.as_bytes()), None, "{bad}");
        }
        for good in ["/", "/a", "/a/b", "/...", "/.a", "/a b"] {
            assert!(Path::new(good.as_bytes()).is_some(), "{good}");
        }
    }

    #[test]
    fn paths_are_neither_too_deep_nor_too_long() {
        let of = |text: &str| Path::new(text.as_bytes());
        let deep = of(&"/a".repeat(Path::NAMES_MAX)).expect("as deep as may be");
        assert_eq!(deep.try_child(b"b"), None);
        assert_eq!(of(&"/a".repeat(Path::NAMES_MAX + 1)), None);
        let long = |bytes| of(&["/", &"a".repeat(bytes - 1)].concat());
        assert!(long(Path::BYTES_MAX).is_some());
        assert_eq!(long(Path::BYTES_MAX + 1), None);
    }

    #[test]
    fn a_child_is_one_level_below() {
        assert_eq!(Path::root().child(b"a"), path("/a"));
        assert_eq!(path("/a").child(b"b"), path("/a/b"));
        for bad in [b"".as_slice(), b".", b"..", b"b/c", b"b/", b"/b"] {
            assert_eq!(path("/a").try_child(bad), None, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn ancestors_end_at_the_root() {
        let of = |text| {
            path(text)
                .ancestors()
                .map(|p| p.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(of("/a/b/c"), ["/a/b", "/a", "/"]);
        assert_eq!(of("/a"), ["/"]);
        assert!(of("/").is_empty());
    }

    #[test]
    fn below_ends_at_a_slash() {
        assert_eq!(path("/foo/x/y").below(b"/foo"), Some(b"x/y".as_slice()));
        assert_eq!(path("/foobar").below(b"/foo"), None);
        assert_eq!(path("/foo").below(b"/foo"), None);
        assert_eq!(path("/foo").below(b"/"), Some(b"foo".as_slice()));
        assert_eq!(path("/").below(b"/"), None);
    }

    #[test]
    fn hidden_names_begin_with_an_underscore() {
        assert!(hidden(b"_a") && hidden(b"x/_a/y"));
        assert!(!hidden(b"a_b") && !hidden(b""));
    }

    use alloc::string::ToString;
}
