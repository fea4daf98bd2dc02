//! `/v2/keys`: reads and writes (api/v2.md §4–9).

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use quorate_core::store::{
    Action, Append, Body, ClientRequest, Command, Compare, Consistency, Content, Delete, Event,
    Header, Operation, Path, Put, Query, Response, Scope, Tree, Value, When,
};

use super::error::{Code, Error};
use super::params::{self, Params};
use super::{headers, json, watch};
use crate::app::App;
use crate::args::LocalReads;
use crate::reply::{self, Reply};

/// The methods served.
const ALLOW: &str = "HEAD,GET,PUT,POST,DELETE";

/// Nodes beyond which a listing is written out off the threads that serve clients.
const LARGE: usize = 10_000;

/// Answers a request for the key `key`, which is what followed `/v2/keys`, decoded and clean.
pub async fn serve<B>(app: &App, head: &Parts, key: &[u8], body: B) -> Reply
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    if !is_served(&head.method) {
        return reply::not_allowed(ALLOW);
    }
    let mut reply = match answer(app, head, key, body).await {
        Ok(reply) => reply,
        Err(error) => refusal(&error),
    };
    let cluster = app.cluster_id.clone();
    reply.headers_mut().insert(headers::CLUSTER_ID, cluster);
    reply
}

async fn answer<B>(app: &App, head: &Parts, key: &[u8], body: B) -> Result<Reply, Error>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let params = read_params(app, head, body).await?;
    let path = path(key)?;
    if matches!(head.method, Method::GET | Method::HEAD) {
        if params.wait {
            return watch::serve(app, path, &params).await;
        }
        return get(app, path, &params).await;
    }
    let command = Command {
        client: client_request(head)?,
        operation: operation(&head.method, path, &params),
    };
    let response = app.node.propose(command).await?;
    app.calendar.observe(response.header.now);
    Ok(written(app, &params, &response))
}

async fn read_params<B>(app: &App, head: &Parts, body: B) -> Result<Params, Error>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let kind = head.headers.get(header::CONTENT_TYPE);
    let form = if params::is_form(&head.method, kind.map(HeaderValue::as_bytes))? {
        let waits = head.headers.contains_key(header::EXPECT);
        Some(app.intake.read(body, waits).await?)
    } else {
        None
    };
    let query = head.uri.query().unwrap_or_default();
    let form = form.as_deref();
    Params::read(&head.method, query.as_bytes(), form, app.value_bytes_max)
}

/// The path of a key: one slash at the end is dropped.
fn path(key: &[u8]) -> Result<Path, Error> {
    let key = key.strip_suffix(b"/").unwrap_or(key);
    if key.is_empty() {
        return Ok(Path::root());
    }
    // The request path is clean, so only its length can be wrong.
    Path::new(key).ok_or_else(Error::path_too_long)
}

fn client_request(head: &Parts) -> Result<Option<ClientRequest>, Error> {
    let Some(key) = head.headers.get(headers::IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let most = ClientRequest::OPAQUE_BYTES_MAX;
    if key.is_empty() || key.len() > most {
        let cause = format!("Idempotency-Key must have 1 to {most} bytes");
        return Err(Error::new(Code::InvalidField, cause));
    }
    Ok(Some(ClientRequest::Opaque(Value::new(key.as_bytes()))))
}

/// Which operation a request is (api/v2.md §7.1).
fn operation(method: &Method, path: Path, params: &Params) -> Operation {
    match *method {
        Method::POST => Operation::Append(Append {
            directory: path,
            value: (!params.dir).then(|| params.value.clone()),
            ttl: params.ttl,
        }),
        Method::DELETE => Operation::Delete(Delete {
            path,
            scope: match compare(params) {
                Some(compare) => Scope::Matches(compare),
                None if params.recursive => Scope::Tree,
                None if params.dir => Scope::EmptyDirectory,
                None => Scope::Key,
            },
        }),
        _ => Operation::Put(put(path, params)),
    }
}

fn put(path: Path, params: &Params) -> Put {
    let when = match (params.prev_exist, compare(params)) {
        (Some(false), _) => When::Missing,
        (None | Some(true), Some(compare)) => When::Matches(compare),
        (Some(true), None) => When::Exists,
        (None, None) => When::Always,
    };
    // Only what makes a node can make a directory, and there is nothing to refresh in a new one.
    let content = match when {
        When::Always | When::Exists | When::Matches(_) if params.refresh => Content::Kept,
        When::Always | When::Missing if params.dir => Content::Directory,
        When::Always | When::Missing | When::Exists | When::Matches(_) => {
            Content::Value(params.value.clone())
        }
    };
    Put {
        path,
        content,
        when,
        ttl: params.ttl,
    }
}

fn compare(params: &Params) -> Option<Compare> {
    let compare = Compare {
        value: params.prev_value.clone(),
        modified: params.prev_index,
    };
    (compare.value.is_some() || compare.modified.is_some()).then_some(compare)
}

async fn get(app: &App, path: Path, params: &Params) -> Result<Reply, Error> {
    let local = params.quorum == Some(false) && app.local_reads == LocalReads::Asked;
    let query = Query {
        path,
        recursive: params.recursive,
        consistency: if local {
            Consistency::Local {
                at_least: params.min_index,
            }
        } else {
            Consistency::Linearizable
        },
    };
    let result = if local {
        app.node.read_aged(query).await
    } else {
        app.node.read(query).await.map(|response| (response, None))
    };
    app.counts.read(result.is_ok());
    let (Response { header, body }, age) = result?;
    app.calendar.observe(header.now);
    let document = match body {
        Body::Found(tree) => render(app, tree, &header).await,
        Body::Changed(_) | Body::Done => unreachable!("a question changes nothing"),
    };
    let mut reply = reply::json(StatusCode::OK, document);
    headers::position(reply.headers_mut(), header.revision, &header);
    // Of a member that has heard of no leader yet, nobody knows.
    if let Some(age) = age {
        let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let fields = reply.headers_mut();
        fields.insert(headers::AGE_MS, HeaderValue::from(millis));
    }
    Ok(reply)
}

/// The document of a listing. A large one takes long enough to keep other clients waiting.
async fn render(app: &App, tree: Tree, header: &Header) -> Vec<u8> {
    let now = header.now;
    let calendar = Arc::clone(&app.calendar);
    let mut countdown = LARGE;
    let large = exceeds(&tree, &mut countdown);
    let write = move || {
        let mut document = Vec::with_capacity(256);
        json::found(&mut document, &tree, now, &calendar);
        document
    };
    if large {
        let task = tokio::task::spawn_blocking(write);
        return task.await.expect("writing a document does not panic");
    }
    write()
}

/// Whether a tree has more nodes than are left to count.
fn exceeds(tree: &Tree, left: &mut usize) -> bool {
    match left.checked_sub(tree.children.len()) {
        Some(rest) => {
            *left = rest;
            tree.children.iter().any(|child| exceeds(child, left))
        }
        None => true,
    }
}

/// The answer to a write that was done.
fn written(app: &App, params: &Params, response: &Response) -> Reply {
    let event = match &response.body {
        Body::Changed(event) => event,
        Body::Done | Body::Found(_) => unreachable!("a write of a key is an event"),
    };
    let mut document = Vec::with_capacity(256);
    if params.no_value_on_success && !event.action.removes() {
        json::bare(&mut document, json::action(event.action));
    } else {
        json::event(&mut document, event, &app.calendar);
    }
    let mut reply = reply::json(status(event), document);
    headers::position(reply.headers_mut(), event.id.index(), &response.header);
    reply
}

fn status(event: &Event) -> StatusCode {
    match event.action {
        Action::Create => StatusCode::CREATED,
        Action::Set if event.previous.is_none() => StatusCode::CREATED,
        Action::Set
        | Action::Update
        | Action::CompareAndSwap
        | Action::Delete
        | Action::CompareAndDelete
        | Action::Expire => StatusCode::OK,
    }
}

fn refusal(error: &Error) -> Reply {
    let mut reply = reply::json(error.code.status(), error.document());
    let index = HeaderValue::from(error.index.0);
    reply.headers_mut().insert(headers::ETCD_INDEX, index);
    if error.code == Code::Busy {
        let soon = HeaderValue::from_static("1");
        reply.headers_mut().insert(header::RETRY_AFTER, soon);
    }
    reply
}

fn is_served(method: &Method) -> bool {
    matches!(
        *method,
        Method::HEAD | Method::GET | Method::PUT | Method::POST | Method::DELETE
    )
}

#[cfg(test)]
mod tests {
    use quorate_core::Revision;
    use quorate_core::time::Duration;

    use super::*;

    fn check(method: Method, query: &str, expected: Operation) {
        let params = Params::read(&method, query.as_bytes(), None, 64).expect("good parameters");
        let path = path(b"/a/").expect("a good path");
        assert_eq!(
            operation(&method, path, &params),
            expected,
            "{method} {query}"
        );
    }

    fn a_put(content: Content, when: When) -> Operation {
        Operation::Put(Put {
            path: Path::new(b"/a").expect("clean"),
            content,
            when,
            ttl: None,
        })
    }

    fn matching(value: Option<&str>, modified: Option<u64>) -> Compare {
        Compare {
            value: value.map(Value::from),
            modified: modified.map(Revision),
        }
    }

    fn value(text: &str) -> Content {
        Content::Value(Value::from(text))
    }

    #[test]
    fn puts_are_told_apart_as_etcd_does() {
        let check = |query, content, when| check(Method::PUT, query, a_put(content, when));
        check("value=1", value("1"), When::Always);
        check("dir=true&value=1", Content::Directory, When::Always);
        check(
            "prevExist=false&value=1&prevIndex=4",
            value("1"),
            When::Missing,
        );
        check("prevExist=false&dir=1", Content::Directory, When::Missing);
        check("prevExist=true&dir=1", value(""), When::Exists);
        check("prevIndex=0&value=1", value("1"), When::Always);
        let both = matching(Some("x"), Some(7));
        check(
            "prevIndex=7&prevValue=x&dir=1",
            value(""),
            When::Matches(both),
        );
        let index = matching(None, Some(7));
        check(
            "prevExist=true&prevIndex=7&value=1",
            value("1"),
            When::Matches(index),
        );
    }

    #[test]
    fn a_refresh_keeps_what_is_there_unless_nothing_may_be() {
        let check = |query: &str, content, when| {
            let query = format!("{query}&refresh=true&ttl=5");
            let put = Put {
                path: Path::new(b"/a").expect("clean"),
                content,
                when,
                ttl: Some(Duration::from_secs(5)),
            };
            check(Method::PUT, &query, Operation::Put(put));
        };
        check("", Content::Kept, When::Always);
        check("prevExist=true", Content::Kept, When::Exists);
        let index = matching(None, Some(7));
        check("prevIndex=7", Content::Kept, When::Matches(index));
        check("prevExist=false", value(""), When::Missing);
    }

    #[test]
    fn deletes_compare_or_reach_as_far_as_they_may() {
        let check = |query, scope| {
            let path = Path::new(b"/a").expect("clean");
            check(
                Method::DELETE,
                query,
                Operation::Delete(Delete { path, scope }),
            );
        };
        check("", Scope::Key);
        check("dir=true", Scope::EmptyDirectory);
        check("recursive=true", Scope::Tree);
        check("recursive=true&dir=true", Scope::Tree);
        let compare = matching(Some("x"), None);
        check("prevValue=x&recursive=true", Scope::Matches(compare));
    }

    #[test]
    fn posts_append() {
        let append = |value: Option<&str>| {
            Operation::Append(Append {
                directory: Path::new(b"/a").expect("clean"),
                value: value.map(Value::from),
                ttl: None,
            })
        };
        check(Method::POST, "value=1&prevExist=true", append(Some("1")));
        check(Method::POST, "value=1&dir=true", append(None));
    }

    #[test]
    fn paths_end_without_a_slash_and_are_neither_too_deep_nor_too_long() {
        assert_eq!(path(b""), Ok(Path::root()));
        assert_eq!(path(b"/"), Ok(Path::root()));
        assert!(path("/a".repeat(Path::NAMES_MAX).as_bytes()).is_ok());
        assert!(path("/a".repeat(Path::NAMES_MAX + 1).as_bytes()).is_err());
    }
}
