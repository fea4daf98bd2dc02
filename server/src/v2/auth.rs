//! `/v2/auth` (api/v2.md §15) as it is with nobody in it: authentication is off, and there is one
//! role, `root`. What would make users or roles is refused after etcd's own checks.

use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::headers;
use crate::app::App;
use crate::reply::{self, Reply};

/// What a well-formed change is told.
const NOT_SERVED: &str = "quorate: users and roles cannot be changed in this version";

/// The role that is always there.
const ROOT: &str = r#"{"role":"root","permissions":{"kv":{"read":["/*"],"write":["/*"]}}}"#;

/// The methods of one user or role.
const ALLOW_ONE: &str = "GET,PUT,DELETE";

/// A change of a user. Other fields are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct User {
    user: String,
    password: String,
    roles: Option<Vec<String>>,
    grant: Option<Vec<String>>,
    revoke: Option<Vec<String>>,
}

/// A change of a role. Other fields are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Role {
    role: String,
    permissions: Permissions,
    grant: Option<Permissions>,
    revoke: Option<Permissions>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Permissions {
    kv: Patterns,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Patterns {
    read: Option<Vec<String>>,
    write: Option<Vec<String>>,
}

impl Permissions {
    fn is_empty(&self) -> bool {
        is_none_or_empty(&self.kv.read) && is_none_or_empty(&self.kv.write)
    }
}

/// Answers a request for what follows `/v2/auth`.
pub async fn serve<B>(app: &App, head: &Parts, rest: &[u8], body: B) -> Reply
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let rest = String::from_utf8_lossy(rest);
    // One slash at the end is as good as none, but for «enable».
    let names: Vec<&str> = rest.strip_suffix('/').unwrap_or(&rest).split('/').collect();
    let mut reply = match names[..] {
        ["", "enable"] if !rest.ends_with('/') => enable(&head.method),
        ["", "users"] if head.method == Method::GET => document(r#"{"users":null}"#),
        ["", "roles"] if head.method == Method::GET => {
            document(&format!(r#"{{"roles":[{ROOT}]}}"#))
        }
        ["", "users" | "roles"] => return reply::not_allowed("GET"),
        ["", "users", name] => user(app, head, name, body).await,
        ["", "roles", name] => role(app, head, name, body).await,
        ["", "users" | "roles", ..] => {
            return reply::message(StatusCode::BAD_REQUEST, "Invalid path");
        }
        _ => return reply::not_found(),
    };
    if reply.status() != StatusCode::METHOD_NOT_ALLOWED {
        let cluster = app.cluster_id.clone();
        reply.headers_mut().insert(headers::CLUSTER_ID, cluster);
    }
    reply
}

fn enable(method: &Method) -> Reply {
    match *method {
        Method::GET => document(r#"{"enabled":false}"#),
        Method::PUT => conflict("auth: No root user available, please create one"),
        Method::DELETE => conflict("auth: already disabled"),
        _ => reply::not_allowed(ALLOW_ONE),
    }
}

async fn user<B>(app: &App, head: &Parts, name: &str, body: B) -> Reply
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    match head.method {
        Method::GET => missing(&format!("auth: User {name} does not exist.")),
        // Without a full stop, as in etcd.
        Method::DELETE => missing(&format!("auth: User {name} does not exist")),
        Method::PUT => match read::<User, B>(app, head, body).await {
            Ok(user) => put_user(&user, name),
            Err(reply) => reply,
        },
        _ => reply::not_allowed(ALLOW_ONE),
    }
}

fn put_user(user: &User, name: &str) -> Reply {
    if user.user != name {
        return bad("User JSON name does not match the name in the URL");
    }
    if !is_none_or_empty(&user.grant) || !is_none_or_empty(&user.revoke) {
        if !is_none_or_empty(&user.roles) {
            return bad("User JSON contains both roles and grant/revoke");
        }
        return missing(&format!("auth: User {name} does not exist."));
    }
    if user.password.is_empty() {
        return bad(&format!(
            "auth: Cannot create user {name} with an empty password"
        ));
    }
    not_served()
}

async fn role<B>(app: &App, head: &Parts, name: &str, body: B) -> Reply
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    const FIXED: &str = "auth: Cannot modify role root: is root role.";
    match head.method {
        Method::GET if name == "root" => document(ROOT),
        Method::GET => missing(&format!("auth: Role {name} does not exist.")),
        Method::DELETE if name == "root" => reply::message(StatusCode::FORBIDDEN, FIXED),
        Method::DELETE => missing(&format!("auth: Role {name} doesn't exist.")),
        Method::PUT => match read::<Role, B>(app, head, body).await {
            Ok(role) if role.role == name && name == "root" => {
                reply::message(StatusCode::FORBIDDEN, FIXED)
            }
            Ok(role) => put_role(&role, name),
            Err(reply) => reply,
        },
        _ => reply::not_allowed(ALLOW_ONE),
    }
}

fn put_role(role: &Role, name: &str) -> Reply {
    let changes = |change: &Option<Permissions>| change.as_ref().is_some_and(|c| !c.is_empty());
    if role.role != name {
        return bad("Role JSON name does not match the name in the URL");
    }
    if changes(&role.grant) || changes(&role.revoke) {
        if !role.permissions.is_empty() {
            return bad("Role JSON contains both permissions and grant/revoke");
        }
        return missing(&format!("auth: Role {name} does not exist."));
    }
    not_served()
}

/// Reads the first JSON document of a body, whatever its type claims to be.
async fn read<T, B>(app: &App, head: &Parts, body: B) -> Result<T, Reply>
where
    T: DeserializeOwned,
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let waits = head.headers.contains_key(header::EXPECT);
    let body = app.intake.read(body, waits).await;
    let body = body.map_err(|error| bad(&error.to_string()))?;
    let mut documents = serde_json::Deserializer::from_slice(&body).into_iter();
    match documents.next() {
        Some(Ok(document)) => Ok(document),
        Some(Err(_)) | None => Err(bad("Invalid JSON in request body.")),
    }
}

fn is_none_or_empty(list: &Option<Vec<String>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

fn document(text: &str) -> Reply {
    reply::json(StatusCode::OK, format!("{text}\n"))
}

fn bad(text: &str) -> Reply {
    reply::message(StatusCode::BAD_REQUEST, text)
}

fn missing(text: &str) -> Reply {
    reply::message(StatusCode::NOT_FOUND, text)
}

fn conflict(text: &str) -> Reply {
    reply::message(StatusCode::CONFLICT, text)
}

fn not_served() -> Reply {
    reply::message(StatusCode::INTERNAL_SERVER_ERROR, NOT_SERVED)
}
