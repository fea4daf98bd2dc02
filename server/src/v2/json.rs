//! The JSON documents of the keys API, written straight into one buffer, byte for byte as Go writes
//! them: field order, escapes and the line feed at the end (api/v2.md §1, §5).

use std::io::Write as _;

use quorate_core::store::{Action, Event, Lease, NodeState, Tree};
use quorate_core::time::until_certain;
use quorate_core::{ClusterTime, Revision};

use super::date::Calendar;

/// Writes the document of an event: the answer to a write, and what watchers see.
///
/// Its `ttl`s count from the event's own moment, so that the document is the same for everyone who
/// ever asks for it.
pub fn event(out: &mut Vec<u8>, event: &Event, calendar: &Calendar) {
    out.extend_from_slice(b"{\"action\":\"");
    out.extend_from_slice(action(event.action).as_bytes());
    out.extend_from_slice(b"\",\"node\":{");
    key(out, &event.path);
    if event.action.removes() {
        // What is gone keeps its key and its indexes; a directory still says what it was.
        if event.node.is_directory() {
            out.extend_from_slice(b",\"dir\":true");
        }
    } else {
        state(out, &event.node, event.at, calendar);
    }
    indexes(out, &event.node);
    if let Some(previous) = &event.previous {
        out.extend_from_slice(b"},\"prevNode\":{");
        key(out, &event.path);
        state(out, previous, event.at, calendar);
        indexes(out, previous);
    }
    out.extend_from_slice(b"}}\n");
}

/// Writes an event's document without its nodes: the answer under `noValueOnSuccess`.
pub fn bare(out: &mut Vec<u8>, action_name: &str) {
    let _ = writeln!(out, r#"{{"action":"{action_name}"}}"#);
}

/// Writes what a GET found, with what remained of TTLs at `now`.
pub fn found(out: &mut Vec<u8>, found: &Tree, now: ClusterTime, calendar: &Calendar) {
    out.extend_from_slice(b"{\"action\":\"get\",\"node\":");
    tree(out, found, now, calendar);
    out.extend_from_slice(b"}\n");
}

/// Writes an error document; an empty `cause` is left out.
pub fn error(out: &mut Vec<u8>, code: u64, message: &str, cause: &[u8], index: Revision) {
    let _ = write!(out, r#"{{"errorCode":{code},"message":"#);
    string(out, message.as_bytes());
    if !cause.is_empty() {
        out.extend_from_slice(b",\"cause\":");
        string(out, cause);
    }
    let _ = writeln!(out, r#","index":{index}}}"#);
}

/// The name of an action in documents.
#[must_use]
pub const fn action(action: Action) -> &'static str {
    match action {
        Action::Set => "set",
        Action::Create => "create",
        Action::Update => "update",
        Action::CompareAndSwap => "compareAndSwap",
        Action::Delete => "delete",
        Action::CompareAndDelete => "compareAndDelete",
        Action::Expire => "expire",
    }
}

fn tree(out: &mut Vec<u8>, found: &Tree, now: ClusterTime, calendar: &Calendar) {
    out.push(b'{');
    if !found.path.is_root() {
        key(out, &found.path);
    }
    state(out, &found.node, now, calendar);
    if !found.children.is_empty() {
        name(out, "nodes");
        out.push(b'[');
        for (nth, child) in found.children.iter().enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            tree(out, child, now, calendar);
        }
        out.push(b']');
    }
    indexes(out, &found.node);
    out.push(b'}');
}

fn key(out: &mut Vec<u8>, path: &[u8]) {
    name(out, "key");
    string(out, path);
}

/// Writes what a node holds and how long it shall live, as of `now`.
fn state(out: &mut Vec<u8>, node: &NodeState, now: ClusterTime, calendar: &Calendar) {
    match &node.value {
        Some(value) => {
            name(out, "value");
            string(out, value);
        }
        None => {
            name(out, "dir");
            out.extend_from_slice(b"true");
        }
    }
    if let Some(lease) = node.lease {
        name(out, "expiration");
        out.push(b'"');
        calendar.write(out, lease.deadline);
        out.push(b'"');
        let seconds = seconds_left(&lease, now);
        if seconds > 0 {
            name(out, "ttl");
            let _ = write!(out, "{seconds}");
        }
    }
}

/// What remains of a lease at `now`, rounded up.
///
/// Cluster time stays behind true time by up to a thousandth, so that nothing expires early
/// (SIMULATION.md §6). People count in true time: two seconds after a set of 100 they expect 98,
/// not 98.002 rounded up.
fn seconds_left(lease: &Lease, now: ClusterTime) -> u64 {
    let left = lease.deadline.since(now);
    if left.is_zero() {
        return 0;
    }
    let passed = until_certain(lease.granted.saturating_sub(left));
    let left = left.min(lease.granted.saturating_sub(passed));
    let rounded = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    rounded.max(1)
}

/// Writes a node's indexes; the root has none.
fn indexes(out: &mut Vec<u8>, node: &NodeState) {
    if node.created.index() > Revision::ZERO {
        let (modified, created) = (node.modified.index(), node.created.index());
        name(out, "modifiedIndex");
        let _ = write!(out, "{modified}");
        name(out, "createdIndex");
        let _ = write!(out, "{created}");
    }
}

/// Begins a field, after a comma unless it is the first of its object.
fn name(out: &mut Vec<u8>, name: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Writes a string. Bytes that are no UTF-8 become U+FFFD, one each; what could end a script in a
/// web page is escaped, as Go does.
pub fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        text(out, chunk.valid().as_bytes());
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}

/// Writes valid UTF-8, copying what needs no escape in runs as long as possible.
fn text(out: &mut Vec<u8>, mut rest: &[u8]) {
    let mut run = 0;
    while let Some(&byte) = rest.get(run) {
        if ESCAPED[usize::from(byte)] {
            out.extend_from_slice(&rest[..run]);
            escape(out, byte);
            rest = &rest[run + 1..];
            run = 0;
        } else if let [0xe2, 0x80, last @ (0xa8 | 0xa9), ..] = rest[run..] {
            out.extend_from_slice(&rest[..run]);
            let _ = write!(out, "\\u20{:02x}", last - 0x80);
            rest = &rest[run + 3..];
            run = 0;
        } else {
            run += 1;
        }
    }
    out.extend_from_slice(rest);
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        other => {
            let _ = write!(out, "\\u{other:04x}");
        }
    }
}

/// The bytes that never stand in a string as they are.
const ESCAPED: [bool; 256] = {
    let mut escaped = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        escaped[byte] = true;
        byte += 1;
    }
    escaped[b'"' as usize] = true;
    escaped[b'\\' as usize] = true;
    escaped[b'<' as usize] = true;
    escaped[b'>' as usize] = true;
    escaped[b'&' as usize] = true;
    escaped
};

#[cfg(test)]
mod tests {
    use quorate_core::store::{Audience, Path, Value};
    use quorate_core::time::Duration;
    use quorate_core::{ChangeId, LeaseId};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn check_string(bytes: &[u8], expected: &str) {
        let mut out = Vec::new();
        string(&mut out, bytes);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn strings_are_escaped_as_go_does() {
        check_string(b"", r#""""#);
        check_string(b"plain", r#""plain""#);
        check_string(
            b"a\"b\\c\n\r\t\x01\x1f\x7f",
            "\"a\\\"b\\\\c\\n\\r\\t\\u0001\\u001f\x7f\"",
        );
        check_string(b"<b>&", r#""\u003cb\u003e\u0026""#);
        check_string("é\u{2028}x\u{2029}€".as_bytes(), "\"é\\u2028x\\u2029€\"");
        check_string(b"a\xff\xe2\x80b", r#""a\ufffd\ufffd\ufffdb""#);
        check_string("\u{2027}\u{202a}".as_bytes(), "\"\u{2027}\u{202a}\"");
    }

    fn change(revision: u64) -> ChangeId {
        ChangeId {
            revision: Revision(revision),
            sub: 0,
        }
    }

    fn node(value: Option<&str>, created: u64, modified: u64) -> NodeState {
        NodeState {
            value: value.map(Value::from),
            created: change(created),
            modified: change(modified),
            lease: None,
        }
    }

    fn lease(granted: u64, deadline: u64) -> Lease {
        Lease {
            id: LeaseId::PRIVATE,
            granted: Duration::from_secs(granted),
            deadline: ClusterTime(deadline),
        }
    }

    fn check_event(case: &Event, expected: &str) {
        let mut out = Vec::new();
        event(&mut out, case, &Calendar::default());
        assert_eq!(String::from_utf8(out).unwrap(), format!("{expected}\n"));
    }

    fn some_event(action: Action, node: NodeState, previous: Option<NodeState>) -> Event {
        Event {
            id: node.modified,
            at: ClusterTime(5 * SECOND),
            action,
            audience: Audience::Everyone,
            path: Path::new(b"/a").unwrap(),
            node,
            previous,
        }
    }

    #[test]
    fn a_set_shows_both_nodes_and_the_ttl_as_of_the_event() {
        let mut new = node(Some("2"), 8, 8);
        new.lease = Some(lease(30, 35 * SECOND));
        let mut old = node(Some(""), 7, 7);
        old.lease = Some(lease(30, 9 * SECOND + 1));
        check_event(
            &some_event(Action::Set, new, Some(old)),
            concat!(
                r#"{"action":"set","node":{"key":"/a","value":"2","#,
                r#""expiration":"1970-01-01T00:00:35Z","ttl":30,"#,
                r#""modifiedIndex":8,"createdIndex":8},"prevNode":{"key":"/a","value":"","#,
                r#""expiration":"1970-01-01T00:00:09.000000001Z","ttl":4,"#,
                r#""modifiedIndex":7,"createdIndex":7}}"#
            ),
        );
    }

    #[test]
    fn a_removal_shows_indexes_only_and_an_overdue_lease_no_ttl() {
        let mut old = node(Some("x"), 7, 7);
        old.lease = Some(lease(4, 4 * SECOND));
        check_event(
            &some_event(Action::Expire, node(Some(""), 7, 9), Some(old)),
            concat!(
                r#"{"action":"expire","node":{"key":"/a","modifiedIndex":9,"createdIndex":7},"#,
                r#""prevNode":{"key":"/a","value":"x","expiration":"1970-01-01T00:00:04Z","#,
                r#""modifiedIndex":7,"createdIndex":7}}"#
            ),
        );
        check_event(
            &some_event(Action::Delete, node(None, 7, 9), Some(node(None, 7, 7))),
            concat!(
                r#"{"action":"delete","node":{"key":"/a","dir":true,"modifiedIndex":9,"#,
                r#""createdIndex":7},"prevNode":{"key":"/a","dir":true,"modifiedIndex":7,"#,
                r#""createdIndex":7}}"#
            ),
        );
    }

    #[test]
    fn what_is_left_counts_in_true_time_and_is_never_nothing() {
        let check = |granted, left_nanos, expected| {
            let lease = lease(granted, 1000 * SECOND);
            let now = ClusterTime(1000 * SECOND - left_nanos);
            assert_eq!(
                seconds_left(&lease, now),
                expected,
                "{granted} s, {left_nanos} ns left"
            );
        };
        check(100, 100 * SECOND, 100);
        check(100, 98 * SECOND + 1_990_000, 98);
        check(100, 98 * SECOND + 2_100_000, 99);
        check(100, 1, 1);
        check(100, 0, 0);
        check(0, 0, 0);
        check(u64::MAX, 1000 * SECOND, 1000);
    }

    #[test]
    fn the_root_has_no_key_and_no_indexes() {
        let leaf = |path: &[u8], value| Tree {
            path: Path::new(path).unwrap(),
            node: node(value, 3, 4),
            children: Vec::new(),
        };
        let root = Tree {
            path: Path::root(),
            node: node(None, 0, 0),
            children: vec![leaf(b"/a", Some("1")), leaf(b"/d", None)],
        };
        let mut out = Vec::new();
        found(&mut out, &root, ClusterTime::ZERO, &Calendar::default());
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"action":"get","node":{"dir":true,"nodes":["#,
                r#"{"key":"/a","value":"1","modifiedIndex":4,"createdIndex":3},"#,
                r#"{"key":"/d","dir":true,"modifiedIndex":4,"createdIndex":3}]}}"#,
                "\n"
            )
        );
    }
}
