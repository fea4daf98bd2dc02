//! Directories in a table ordered by the bytes of paths.
//!
//! `!` sorts before `/` and `0` behind it: so what is below `/a/b` is the range from `/a/b/` to
//! `/a/b0`, and `/a/b!` lies before it.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Range;
use alloc::vec::Vec;
use core::ops::Bound;

use super::bytes::Value;
use super::path::Path;

/// The keys of `table` that are below `path`, at any depth, in order.
pub(super) fn below<'a, R>(
    table: &'a BTreeMap<Value, R>,
    path: &Path,
) -> impl Iterator<Item = &'a Value> {
    let (from, to) = (with(path, b'/'), with(path, b'/' + 1));
    let range = (Bound::Included(&*from), Bound::Excluded(&*to));
    table.range::<[u8], _>(range).map(|(key, _)| key)
}

/// The rows of one table that are directly in a directory.
pub(super) struct Level<'a, R> {
    table: &'a BTreeMap<Value, R>,
    prefix: Vec<u8>,
    rows: Range<'a, Value, R>,
}

impl<'a, R> Level<'a, R> {
    pub(super) fn new(table: &'a BTreeMap<Value, R>, path: &Path) -> Self {
        let prefix = with(path, b'/');
        let rows = table.range::<[u8], _>((Bound::Included(&*prefix), Bound::Unbounded));
        Self {
            table,
            prefix,
            rows,
        }
    }
}

impl<'a, R> Iterator for Level<'a, R> {
    type Item = (&'a Value, &'a R);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (key, row) = self.rows.next()?;
            let name = key.strip_prefix(&*self.prefix)?;
            let Some(slash) = name.iter().position(|&b| b == b'/') else {
                if name.is_empty() {
                    continue; // the root, under its own prefix
                }
                return Some((key, row));
            };
            // Inside a child: go on behind its whole subtree.
            let mut behind = key[..self.prefix.len() + slash].to_vec();
            behind.push(b'/' + 1);
            let rest = (Bound::Included(&*behind), Bound::Unbounded);
            self.rows = self.table.range::<[u8], _>(rest);
        }
    }
}

/// The path with `byte` behind it, as the bound of a range: `/` begins what is below it, and the
/// byte after `/` ends that.
fn with(path: &Path, byte: u8) -> Vec<u8> {
    let names = if path.is_root() { b"" } else { &**path };
    let mut bytes = Vec::with_capacity(names.len() + 1);
    bytes.extend_from_slice(names);
    bytes.push(byte);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};

    fn table() -> BTreeMap<Value, ()> {
        let keys = [
            "/",
            "/a",
            "/a!",
            "/a!/x",
            "/a/b",
            "/a/b!",
            "/a/b!/x/y",
            "/a/b/c",
            "/a/b0",
            "/a0",
        ];
        keys.iter().map(|&key| (Value::from(key), ())).collect()
    }

    fn path(text: &str) -> Path {
        Path::new(text.as_bytes()).expect("a clean path")
    }

    #[test]
    fn a_level_is_what_is_directly_in_a_directory() {
        let level = |text| -> Vec<String> {
            let table = table();
            Level::new(&table, &path(text))
                .map(|(key, ())| key.to_string())
                .collect()
        };
        assert_eq!(level("/"), ["/a", "/a!", "/a0"]);
        assert_eq!(level("/a"), ["/a/b", "/a/b!", "/a/b0"]);
        assert_eq!(level("/a/b"), ["/a/b/c"]);
        assert!(
            level("/a/b!").is_empty(),
            "only the level below has something"
        );
        assert!(level("/a0").is_empty());
    }

    #[test]
    fn below_is_a_subtree_without_its_top_and_its_siblings() {
        let below = |text| -> Vec<String> {
            below(&table(), &path(text))
                .map(ToString::to_string)
                .collect()
        };
        assert_eq!(below("/a/b"), ["/a/b/c"]);
        assert_eq!(
            below("/a"),
            ["/a/b", "/a/b!", "/a/b!/x/y", "/a/b/c", "/a/b0"]
        );
        assert_eq!(below("/a!"), ["/a!/x"]);
    }
}
