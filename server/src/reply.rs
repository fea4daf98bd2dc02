//! Answers, and the plain ones every endpoint gives in Go's words.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};

use crate::body::Body;
use crate::v2::json as write;

/// An answer.
pub type Reply = Response<Body>;

/// The type of documents.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The type of plain answers.
pub const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// An answer with a body.
#[must_use]
pub fn full(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Reply {
    let mut reply = Reply::new(Body::Full(body.into()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    reply
}

/// A document.
#[must_use]
pub fn json(status: StatusCode, document: impl Into<Bytes>) -> Reply {
    full(status, JSON, document)
}

/// An answer without a body.
#[must_use]
pub fn empty(status: StatusCode) -> Reply {
    let mut reply = Reply::new(Body::Empty);
    *reply.status_mut() = status;
    reply
}

/// A refusal of the endpoints beside the keys, on its way to becoming an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    status: StatusCode,
    text: String,
}

impl Failure {
    /// Says `text` under this status.
    #[must_use]
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { status, text }
    }

    /// 400.
    #[must_use]
    pub fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 404.
    #[must_use]
    pub fn missing(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// 500.
    #[must_use]
    pub fn refused(text: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    /// The answer: `{"message": …}`.
    #[must_use]
    pub fn reply(&self) -> Reply {
        let mut document = br#"{"message":"#.to_vec();
        write::string(&mut document, self.text.as_bytes());
        document.push(b'}');
        json(self.status, document)
    }
}

/// The answer of a path nobody serves.
#[must_use]
pub fn not_found() -> Reply {
    no_sniff(full(StatusCode::NOT_FOUND, TEXT, "404 page not found\n"))
}

/// The answer to a method the path does not take; `allow` lists those it takes.
#[must_use]
pub fn not_allowed(allow: &'static str) -> Reply {
    let mut reply = method_not_allowed();
    let allow = HeaderValue::from_static(allow);
    reply.headers_mut().insert(header::ALLOW, allow);
    reply
}

/// [`not_allowed`] without saying what is.
#[must_use]
pub fn method_not_allowed() -> Reply {
    no_sniff(full(
        StatusCode::METHOD_NOT_ALLOWED,
        TEXT,
        "Method Not Allowed\n",
    ))
}

/// The answer to what is no request; nothing more is read from its sender.
#[must_use]
pub fn bad_request(why: &str) -> Reply {
    let mut reply = full(
        StatusCode::BAD_REQUEST,
        TEXT,
        format!("400 Bad Request{why}"),
    );
    let close = HeaderValue::from_static("close");
    reply.headers_mut().insert(header::CONNECTION, close);
    reply
}

/// The answer to an unclean path: go to `location`.
#[must_use]
pub fn redirect(method: &Method, location: &str) -> Reply {
    let mut reply = empty(StatusCode::MOVED_PERMANENTLY);
    if matches!(*method, Method::GET | Method::HEAD) {
        let link = location
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&#34;")
            .replace('\'', "&#39;");
        let page = format!("<a href=\"{link}\">Moved Permanently</a>.\n\n");
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        reply = full(StatusCode::MOVED_PERMANENTLY, html, page);
    }
    let location = HeaderValue::try_from(location).expect("an escaped path and a parsed query");
    reply.headers_mut().insert(header::LOCATION, location);
    reply
}

fn no_sniff(mut reply: Reply) -> Reply {
    const NAME: HeaderName = header::X_CONTENT_TYPE_OPTIONS;
    let value = HeaderValue::from_static("nosniff");
    reply.headers_mut().insert(NAME, value);
    reply
}
