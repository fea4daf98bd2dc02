//! `/v2/auth` (api/v2.md §15) as it is with nobody in it: authentication is off, and there is one
//! role, `root`. What would make users or roles is refused after etcd's own checks.

use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::headers;
use crate::app::App;
use crate::reply::{self, Failure, Reply};

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
        is_empty(&self.kv.read) && is_empty(&self.kv.write)
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
    let answered = match names[..] {
        ["", "enable"] if !rest.ends_with('/') => enable(&head.method),
        ["", "users"] if head.method == Method::GET => Ok(document(r#"{"users":null}"#)),
        ["", "roles"] if head.method == Method::GET => {
            Ok(document(&format!(r#"{{"roles":[{ROOT}]}}"#)))
        }
        ["", "users" | "roles"] => Ok(reply::not_allowed("GET")),
        ["", "users", name] => user(app, head, name, body).await,
        ["", "roles", name] => role(app, head, name, body).await,
        ["", "users" | "roles", ..] => return Failure::bad("Invalid path").reply(),
        _ => return reply::not_found(),
    };
    let mut reply = answered.unwrap_or_else(|failure| failure.reply());
    if reply.status() != StatusCode::METHOD_NOT_ALLOWED {
        let cluster = app.cluster_id.clone();
        reply.headers_mut().insert(headers::CLUSTER_ID, cluster);
    }
    reply
}

fn enable(method: &Method) -> Result<Reply, Failure> {
    let conflict = |text| Err(Failure::new(StatusCode::CONFLICT, text));
    match *method {
        Method::GET => Ok(document(r#"{"enabled":false}"#)),
        Method::PUT => conflict("auth: No root user available, please create one"),
        Method::DELETE => conflict("auth: already disabled"),
        _ => Ok(reply::not_allowed(ALLOW_ONE)),
    }
}

async fn user<B>(app: &App, head: &Parts, name: &str, body: B) -> Result<Reply, Failure>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let missing = |text: &str| Err(Failure::missing(format!("auth: User {name} {text}")));
    match head.method {
        Method::GET => missing("does not exist."),
        // Without a full stop, as in etcd.
        Method::DELETE => missing("does not exist"),
        Method::PUT => {
            let user: User = read(app, head, body).await?;
            if user.user != name {
                let text = "User JSON name does not match the name in the URL";
                return Err(Failure::bad(text));
            }
            if is_empty(&user.grant) && is_empty(&user.revoke) {
                return create_user(&user);
            }
            if !is_empty(&user.roles) {
                let text = "User JSON contains both roles and grant/revoke";
                return Err(Failure::bad(text));
            }
            missing("does not exist.")
        }
        _ => Ok(reply::not_allowed(ALLOW_ONE)),
    }
}

fn create_user(user: &User) -> Result<Reply, Failure> {
    let name = &user.user;
    if user.password.is_empty() {
        let text = format!("auth: Cannot create user {name} with an empty password");
        return Err(Failure::bad(text));
    }
    Err(Failure::refused(NOT_SERVED))
}

async fn role<B>(app: &App, head: &Parts, name: &str, body: B) -> Result<Reply, Failure>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let missing = |text: &str| Err(Failure::missing(format!("auth: Role {name} {text}")));
    let fixed = || {
        let text = "auth: Cannot modify role root: is root role.";
        Err(Failure::new(StatusCode::FORBIDDEN, text))
    };
    match head.method {
        Method::GET if name == "root" => Ok(document(ROOT)),
        Method::GET => missing("does not exist."),
        Method::DELETE if name == "root" => fixed(),
        Method::DELETE => missing("doesn't exist."),
        Method::PUT => {
            let role: Role = read(app, head, body).await?;
            let changes = role.grant.is_some_and(|c| !c.is_empty())
                || role.revoke.is_some_and(|c| !c.is_empty());
            if role.role != name {
                let text = "Role JSON name does not match the name in the URL";
                Err(Failure::bad(text))
            } else if changes && !role.permissions.is_empty() {
                let text = "Role JSON contains both permissions and grant/revoke";
                Err(Failure::bad(text))
            } else if name == "root" {
                fixed()
            } else if changes {
                missing("does not exist.")
            } else {
                Err(Failure::refused(NOT_SERVED))
            }
        }
        _ => Ok(reply::not_allowed(ALLOW_ONE)),
    }
}

/// Reads the first JSON document of a body, whatever its type claims to be.
async fn read<T, B>(app: &App, head: &Parts, body: B) -> Result<T, Failure>
where
    T: DeserializeOwned,
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let waits = head.headers.contains_key(header::EXPECT);
    let body = app.intake.read(body, waits).await;
    let body = body.map_err(|error| Failure::bad(error.to_string()))?;
    let mut documents = serde_json::Deserializer::from_slice(&body).into_iter();
    match documents.next() {
        Some(Ok(document)) => Ok(document),
        Some(Err(_)) | None => Err(Failure::bad("Invalid JSON in request body.")),
    }
}

fn is_empty(list: &Option<Vec<String>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

fn document(text: &str) -> Reply {
    reply::json(StatusCode::OK, format!("{text}\n"))
}
