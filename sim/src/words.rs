//! Short words for what is asked, answered and written, as a picture shows them.

use std::fmt::Write as _;

use quorate_core::raft::{Entry, Payload};
use quorate_core::store::{
    Body, Command, Compare, Consistency, Content, Event, Filter, Operation, Query, Response, Scope,
    Tree, When,
};
use quorate_core::{LogId, RequestError, Revision};

use crate::check::linearizability::Asked;

/// The longest text; the rest of it is cut off.
const LONGEST: usize = 240;

/// What is asked, of which key, and whether it changes anything.
#[must_use]
pub fn asked(asked: &Asked) -> (String, String, bool) {
    match asked {
        Asked::Write(command) => {
            let (what, key) = self::command(command);
            (what, key, true)
        }
        Asked::Read(query) => (question(query), query.path.to_string(), false),
    }
}

/// What a command does, and to which key.
#[must_use]
pub fn command(command: &Command) -> (String, String) {
    let (what, key) = match &command.operation {
        Operation::Put(put) => {
            let path = &put.path;
            let mut what = match (&put.when, &put.content) {
                (_, Content::Kept) => format!("refresh {path}"),
                (When::Always, Content::Directory) => format!("mkdir {path}"),
                (When::Always, Content::Value(value)) => format!("set {path} = {value}"),
                (When::Missing, Content::Value(value)) => format!("create {path} = {value}"),
                (When::Missing, Content::Directory) => format!("create {path}/"),
                (When::Exists, Content::Value(value)) => format!("update {path} = {value}"),
                (When::Exists, Content::Directory) => format!("update {path}/"),
                (When::Matches(_), Content::Value(value)) => format!("swap {path} = {value}"),
                (When::Matches(_), Content::Directory) => format!("swap {path}/"),
            };
            if let When::Matches(compare) = &put.when {
                what += &condition(compare);
            }
            (what, path)
        }
        Operation::Append(append) => {
            let directory = &append.directory;
            let what = match &append.value {
                Some(value) => format!("post {directory}/… = {value}"),
                None => format!("post {directory}/…/"),
            };
            (what, directory)
        }
        Operation::Delete(delete) => {
            let path = &delete.path;
            let what = match &delete.scope {
                Scope::Key => format!("delete {path}"),
                Scope::EmptyDirectory => format!("rmdir {path}"),
                Scope::Tree => format!("delete {path}/**"),
                Scope::Matches(compare) => format!("delete {path}{}", condition(compare)),
            };
            (what, path)
        }
        Operation::Configure(_) => return ("settings".to_owned(), String::new()),
        Operation::Publish(publish) => return (format!("publish {}", publish.name), String::new()),
    };
    let lives = command.granted().map(|ttl| format!(" for {ttl:?}"));
    (cut(what + lives.as_deref().unwrap_or("")), key.to_string())
}

fn condition(compare: &Compare) -> String {
    let mut text = " if".to_owned();
    if let Some(value) = &compare.value {
        let _ = write!(text, " = {value}");
    }
    if let Some(modified) = &compare.modified {
        let _ = write!(text, " at {modified}");
    }
    text
}

fn question(query: &Query) -> String {
    let Query {
        path,
        recursive,
        consistency,
    } = query;
    let deep = if *recursive { "/**" } else { "" };
    let stale = match consistency {
        Consistency::Linearizable => String::new(),
        Consistency::Local { at_least } => format!(" locally, ≥ {at_least}"),
    };
    cut(format!("get {path}{deep}{stale}"))
}

/// What an entry says, and about which key.
#[must_use]
pub fn entry(entry: &Entry) -> (String, String) {
    match &entry.payload {
        Payload::Empty => ("empty".to_owned(), String::new()),
        Payload::Command(command) => self::command(command),
        Payload::Expire { limit, until } => {
            (format!("expire ≤ {limit} due by {until}"), String::new())
        }
        Payload::Configuration(_) => ("configuration".to_owned(), String::new()),
        Payload::Renew { since } => (format!("renew since {since}"), String::new()),
    }
}

/// An answer, and the entry it belongs to.
#[must_use]
pub fn answer(result: &Result<Response, RequestError>) -> (String, Option<LogId>) {
    match result {
        Ok(Response { header, body }) => {
            let text = match body {
                Body::Done => "done".to_owned(),
                Body::Changed(event) => format!("{} at {}", event.action, event.id.index()),
                Body::Found(tree) => found(tree),
            };
            (cut(text), Some(header.applied))
        }
        Err(RequestError::Store { header, error }) => {
            (cut(error.to_string()), Some(header.applied))
        }
        Err(error) => (error.to_string(), None),
    }
}

fn found(tree: &Tree) -> String {
    let modified = tree.node.modified.index();
    match &tree.node.value {
        Some(value) => format!("{value} of {modified}"),
        None => {
            let names = tree.children.iter().take(6);
            let names: Vec<_> = names
                .map(|child| child.path.name().escape_ascii().to_string())
                .collect();
            format!("{} in it: {}", tree.children.len(), names.join(" "))
        }
    }
}

/// An event, as a watcher sees it.
#[must_use]
pub fn event(event: &Event) -> String {
    let value = event.node.value.as_ref();
    let value = value.filter(|_| !event.action.removes());
    let value = value.map_or(String::new(), |value| format!(" = {value}"));
    let (action, path) = (event.action, &event.path);
    cut(format!("{action} {path}{value} at {}", event.id.index()))
}

/// What a watcher wants.
#[must_use]
pub fn watch(filter: &Filter, since: Option<Revision>) -> String {
    let deep = if filter.recursive { "/**" } else { "" };
    let since = since.map_or("now".to_owned(), |since| since.to_string());
    cut(format!("watch {}{deep} from {since}", filter.path))
}

/// The beginning of a text that may be long.
#[must_use]
pub fn cut(text: String) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
