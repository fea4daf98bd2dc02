//! What to say of a history without an order.

use std::fmt::Write;

use quorate_core::store::{Body, Operation, Path, Scope, Tree};

use super::super::linearizability::Asked;
use super::book::{Book, Clocks, Depth, Op};
use super::history::{History, Record};
use super::names::PathId;
use super::search::{Outcome, Search, Stuck};
use super::spec::{Answer, Shown};
use crate::clock::Time;

/// So many of the operations before those that fit nowhere are shown.
const BEFORE_MAX: usize = 24;

/// The property that does not hold, and the shortest beginning of the history, in the partition of
/// `top`, that has no order.
pub(super) fn told(
    history: &History,
    clocks: &Clocks,
    whole: bool,
    top: &Path,
) -> (&'static str, String) {
    let answers = history
        .records()
        .iter()
        .filter_map(|record| record.answer.as_ref());
    let mut ends: Vec<Time> = answers.map(|(at, _)| *at).collect();
    ends.sort_unstable();
    // Whatever has no order has none with more in it either.
    let legal =
        ends.partition_point(|&end| stuck(&history.until(end), clocks, whole, top).is_none());
    let cut = ends
        .get(legal)
        .map_or_else(|| history.clone(), |&end| history.until(end));
    let (book, stuck) = stuck(&cut, clocks, whole, top).unwrap_or_else(|| {
        let book = Book::new(history, clocks, whole, Depth::Sighted);
        (book, Stuck::default())
    });
    text(&cut, &book, top, &stuck)
}

/// Where the search in the partition of `top` gets stuck, if it does.
fn stuck(history: &History, clocks: &Clocks, whole: bool, top: &Path) -> Option<(Book, Stuck)> {
    let book = Book::new(history, clocks, whole, Depth::Sighted);
    let found = book.partitions.iter();
    let mut found = found.filter(|(partition, _)| book.names.place(**partition).path == *top);
    let (_, ops) = found.next()?;
    match Search::new(&book, ops).run(&[]) {
        Outcome::Illegal(stuck) => {
            // Places in the partition become places in the book.
            let blocked = stuck.blocked.iter().map(|&op| ops[op]).collect();
            let stuck = Stuck { blocked, ..stuck };
            Some((book, stuck))
        }
        Outcome::Legal | Outcome::Undecided => None,
    }
}

fn text(history: &History, book: &Book, top: &Path, stuck: &Stuck) -> (&'static str, String) {
    let records = history.records();
    let blocked: Vec<&Op> = stuck.blocked.iter().map(|&op| &book.ops[op]).collect();
    let is_of_a_directory = blocked.iter().any(|op| is_wide(&records[op.record]));
    let id = if is_of_a_directory { "L2" } else { "L1" };
    let mut what = format!(
        "what clients were told about {top} has no order: {} operations can be placed, then none \
         of these fits:",
        stuck.placed
    );
    for op in &blocked {
        match &op.answer {
            Answer::Gap(index, paths) => gap(&mut what, book, *index, paths),
            Answer::Found(_) | Answer::Changed(_) | Answer::Refused(_) | Answer::Unseen(_) => {
                line(&mut what, &records[op.record]);
            }
        }
    }
    let concerned = blocked
        .iter()
        .fold(0, |all, op| all | book.names.place(op.ask.path()).own);
    let is_before = |op: &&Op| {
        let place = book.names.place(op.ask.path());
        let is_near = concerned & (place.way | place.tree) != 0;
        let is_gap = matches!(op.answer, Answer::Gap(..));
        let is_here = top.is_root() || book.names.place(place.top).path == *top;
        is_here && is_near && !is_gap && !blocked.iter().any(|other| other.record == op.record)
    };
    let mut before: Vec<&Op> = book.ops.iter().filter(is_before).collect();
    before.sort_by_key(|op| (op.returned.min(u64::MAX - 1), op.record));
    before.dedup_by_key(|op| op.record);
    let from = before.len().saturating_sub(BEFORE_MAX);
    what.push_str("\n  of the same and of what is above and below it, the last ones:");
    for op in &before[from..] {
        line(&mut what, &records[op.record]);
    }
    (id, what)
}

fn line(what: &mut String, record: &Record) {
    let end = record
        .answer
        .as_ref()
        .map_or_else(|| "never".to_owned(), |(at, _)| at.to_string());
    let _ = write!(
        what,
        "\n    client {} from {} to {end}: {}\n      {}",
        record.client,
        record.invoked,
        asked(record),
        answer(record)
    );
}

fn gap(what: &mut String, book: &Book, index: u64, paths: &[(PathId, Option<Shown>)]) {
    let _ = write!(
        what,
        "\n    whatever made the change {index}, of which answers show"
    );
    for &(path, _) in paths {
        let _ = write!(what, " {}", book.names.place(path).path);
    }
}

fn asked(record: &Record) -> String {
    match &record.asked {
        Asked::Read(query) => {
            let how = if query.recursive {
                "read all of"
            } else {
                "read"
            };
            format!("{how} {}", query.path)
        }
        Asked::Write(command) => match &command.client {
            Some(id) => format!("{:?}, as {id:?}", command.operation),
            None => format!("{:?}", command.operation),
        },
    }
}

fn answer(record: &Record) -> String {
    match &record.answer {
        None => format!(
            "no answer; taken in {} times, refused {} times",
            record.handed_in, record.refused
        ),
        Some((_, Ok(Body::Changed(event)))) => event.to_string(),
        Some((_, Ok(Body::Done))) => "done".to_owned(),
        Some((_, Ok(Body::Found(tree)))) => {
            let mut text = String::from("found");
            listing(&mut text, tree);
            text
        }
        Some((_, Err(error))) => format!("{error}, at {}", error.revision),
    }
}

fn listing(text: &mut String, tree: &Tree) {
    let _ = write!(text, " {} {};", tree.path, tree.node);
    for child in &tree.children {
        listing(text, child);
    }
}

/// Whether it is about directories.
fn is_wide(record: &Record) -> bool {
    match &record.asked {
        Asked::Read(_) => matches!(
            &record.answer,
            Some((_, Ok(Body::Found(tree)))) if tree.node.is_directory()
        ),
        Asked::Write(command) => match &command.operation {
            Operation::Put(put) => put.content == quorate_core::store::Content::Directory,
            Operation::Append(_) => true,
            Operation::Delete(delete) => {
                matches!(delete.scope, Scope::Tree | Scope::EmptyDirectory)
            }
            Operation::Configure(_) | Operation::Publish(_) => false,
        },
    }
}
