//! `/v2/members` and `/v2/machines` (api/v2.md §12). Who the members are is served; changing that
//! comes with several members, and is refused after etcd's own checks.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use quorate_core::{Founder, NodeId};
use serde::{Deserialize, Serialize};

use super::headers;
use crate::app::App;
use crate::reply::{self, Failure, Reply};

/// The methods served.
const ALLOW: &str = "GET,POST,DELETE,PUT";

/// What a well-formed change is told.
const NOT_SERVED: &str = "quorate: members cannot be changed in this version";

/// A member as documents show it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    id: String,
    name: String,
    #[serde(rename = "peerURLs")]
    peer_urls: Vec<String>,
    #[serde(rename = "clientURLs")]
    client_urls: Vec<String>,
}

/// All members, by id.
#[derive(Debug, Serialize)]
struct Members {
    members: Vec<Member>,
}

/// What asks for a change. Other fields are ignored.
#[derive(Debug, Deserialize)]
struct Wanted {
    #[serde(rename = "peerURLs", default)]
    peer_urls: Option<Vec<String>>,
}

/// Answers a request for what follows `/v2/members`.
pub async fn serve<B>(app: &App, head: &Parts, rest: &[u8], body: B) -> Reply
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let of_all = matches!(rest, b"" | b"/");
    let answered = match head.method {
        Method::GET => list(app, rest).await,
        Method::PUT | Method::DELETE if of_all => Ok(reply::method_not_allowed()),
        Method::POST => wanted(app, head, body).await.map_or_else(Err, refuse),
        Method::PUT => update(app, head, rest, body).await,
        Method::DELETE => remove(app, rest),
        _ => return reply::not_allowed(ALLOW),
    };
    let mut reply = answered.unwrap_or_else(|failure| failure.reply());
    let cluster = app.cluster_id.clone();
    reply.headers_mut().insert(headers::CLUSTER_ID, cluster);
    reply
}

/// `GET /v2/machines`: the URLs of all members.
pub async fn machines(app: &App, method: &Method) -> Reply {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return reply::not_allowed("GET,HEAD");
    }
    let members = members(app).await;
    let mut urls: Vec<_> = members.into_iter().flat_map(|m| m.client_urls).collect();
    urls.sort();
    reply::full(StatusCode::OK, reply::TEXT, urls.join(", "))
}

async fn list(app: &App, rest: &[u8]) -> Result<Reply, Failure> {
    match rest {
        b"" | b"/" => {
            let members = members(app).await;
            Ok(document(&Members { members }))
        }
        b"/leader" => {
            let view = app.node.view().await.ok();
            let leader = view.and_then(|view| view.status.leader);
            let leader = leader.map(|id| id.to_string());
            let members = members(app).await;
            let found = members.iter().find(|m| Some(&m.id) == leader.as_ref());
            let during = || Failure::new(StatusCode::SERVICE_UNAVAILABLE, "During election");
            found.map(document).ok_or_else(during)
        }
        _ => Err(Failure::missing("Not found")),
    }
}

async fn update<B>(app: &App, head: &Parts, rest: &[u8], body: B) -> Result<Reply, Failure>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let id = parse_id(rest)?;
    let urls = wanted(app, head, body).await?;
    if app.node.birth().founder(id).is_none() {
        return Err(unknown(&id.to_string()));
    }
    refuse(urls)
}

fn remove(app: &App, rest: &[u8]) -> Result<Reply, Failure> {
    let id = parse_id(rest)?;
    if app.node.birth().founder(id).is_none() {
        return Err(unknown(&id.to_string()));
    }
    if app.node.birth().founders.len() > 1 {
        return refuse(Vec::new());
    }
    // etcd's own words: nobody would be left to ask.
    let mut reply = Failure::refused("Internal Server Error").reply();
    let reason = HeaderValue::from_static("the only member cannot be removed");
    reply.headers_mut().insert(headers::REASON, reason);
    Ok(reply)
}

/// What comes of a well-formed change for now.
fn refuse(_: Vec<String>) -> Result<Reply, Failure> {
    Err(Failure::refused(NOT_SERVED))
}

/// The members in order of their ids: those that founded the cluster, as they published themselves.
async fn members(app: &App) -> Vec<Member> {
    let published = app.node.view().await.map(|view| view.members);
    let published = published.unwrap_or_default();
    let mut members: Vec<_> = app.node.birth().nodes().collect();
    members.sort_by_key(|&(id, _)| id);
    let member = |(id, founder): (NodeId, &Founder)| {
        let published = published.get(&id);
        Member {
            id: id.to_string(),
            name: published.map_or_else(String::new, |member| member.name.clone()),
            peer_urls: founder.peer_urls.clone(),
            client_urls: published.map_or_else(Vec::new, |member| member.client_urls.clone()),
        }
    };
    members.into_iter().map(member).collect()
}

/// Reads what a change asks for.
///
/// # Errors
/// The answer to what is not well-formed, in etcd's order of checks.
async fn wanted<B>(app: &App, head: &Parts, body: B) -> Result<Vec<String>, Failure>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let kind = head.headers.get(header::CONTENT_TYPE);
    let kind = String::from_utf8_lossy(kind.map_or(b"", HeaderValue::as_bytes));
    if !is_json(&kind) {
        let text = format!("Bad Content-Type {kind}, accept application/json");
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let waits = head.headers.contains_key(header::EXPECT);
    let body = app.intake.read(body, waits).await;
    let body = body.map_err(|error| Failure::bad(error.to_string()))?;
    let mut documents = serde_json::Deserializer::from_slice(&body).into_iter::<Wanted>();
    let wanted = match documents.next() {
        Some(Ok(wanted)) => wanted.peer_urls.unwrap_or_default(),
        Some(Err(error)) => return Err(Failure::bad(error.to_string())),
        None => return Err(Failure::bad("EOF")),
    };
    if wanted.is_empty() {
        return Err(Failure::bad("no valid URLs given"));
    }
    let urls: Vec<_> = wanted.iter().map(|url| url.trim().to_owned()).collect();
    for url in &urls {
        check_url(url).map_err(Failure::bad)?;
    }
    let mut taken = app.node.birth().founders.iter().flat_map(|f| &f.peer_urls);
    if head.method == Method::POST && taken.any(|url| urls.contains(url)) {
        let text = "membership: peerURL exists";
        return Err(Failure::new(StatusCode::CONFLICT, text));
    }
    Ok(urls)
}

/// etcd compares exactly, unless parameters follow.
fn is_json(kind: &str) -> bool {
    match kind.split_once(';') {
        None => kind == "application/json",
        Some((kind, _)) => kind.trim().eq_ignore_ascii_case("application/json"),
    }
}

fn check_url(url: &str) -> Result<(), String> {
    let scheme = format!("URL scheme must be http, https, unix, or unixs: {url}");
    let (kind, rest) = url.split_once("://").ok_or_else(|| scheme.clone())?;
    match kind {
        "http" | "https" => {}
        "unix" | "unixs" => return Ok(()),
        _ => return Err(scheme),
    }
    let host = rest.find(['/', '?', '#']).map_or(rest, |end| &rest[..end]);
    if host
        .rsplit_once(':')
        .is_none_or(|(_, port)| port.contains(']'))
    {
        return Err(format!(
            "URL address does not have the form \"host:port\": {url}"
        ));
    }
    if rest[host.len()..].starts_with('/') {
        return Err(format!("URL must not contain a path: {url}"));
    }
    Ok(())
}

/// The id in the path of a request.
fn parse_id(rest: &[u8]) -> Result<NodeId, Failure> {
    let text = String::from_utf8_lossy(rest.strip_prefix(b"/").unwrap_or(rest)).into_owned();
    // No sign: what the standard library takes, etcd does not.
    let digits = text.bytes().all(|b| b.is_ascii_hexdigit());
    match u64::from_str_radix(&text, 16) {
        Ok(id) if digits => Ok(NodeId(id)),
        Ok(_) | Err(_) => Err(unknown(&text)),
    }
}

fn unknown(id: &str) -> Failure {
    Failure::missing(format!("No such member: {id}"))
}

fn document(value: &impl Serialize) -> Reply {
    let mut document = serde_json::to_vec(value).expect("strings and lists");
    document.push(b'\n');
    reply::json(StatusCode::OK, document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked_in_etcds_words() {
        for good in [
            "http://127.0.0.1:9",
            "https://[::1]:2380",
            "unix://localhost:1",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for (url, words) in [
            ("foo", "URL scheme must be http, https, unix, or unixs: "),
            (
                "ftp://127.0.0.1:9",
                "URL scheme must be http, https, unix, or unixs: ",
            ),
            (
                "http://127.0.0.1",
                "URL address does not have the form \"host:port\": ",
            ),
            (
                "http://[::1]",
                "URL address does not have the form \"host:port\": ",
            ),
            ("http://127.0.0.1:9/path", "URL must not contain a path: "),
        ] {
            assert_eq!(check_url(url), Err(format!("{words}{url}")));
        }
    }

    #[test]
    fn the_type_is_compared_exactly_unless_parameters_follow() {
        assert!(is_json("application/json"));
        assert!(is_json("Application/JSON; charset=utf-8"));
        assert!(!is_json("Application/JSON"));
        assert!(!is_json(""));
    }

    #[test]
    fn ids_are_hexadecimal() {
        assert_eq!(parse_id(b"/00fF").ok(), Some(NodeId(255)));
        for bad in [&b"/xyz"[..], b"/+f", b"/f/", b"/", b"/12345678901234567"] {
            assert!(parse_id(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
