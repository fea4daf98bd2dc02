//! Query, form and path of the v2 API.

use http::Method;
use quorate::v2::error::Error;
use quorate::v2::params::{self, Params};
use quorate::v2::{json, mime, path};
use quorate_core::store::Path;
use serde_json::Value as Json;

/// The longest value let in, in bytes.
const VALUE_BYTES_MAX: usize = 64;

/// Five lines are a request: path, query, method, type of the body, and the body, which is the
/// rest. Whatever they say is understood or refused, and means the same wherever it stands.
pub fn v2(data: &[u8]) {
    let mut lines = data.splitn(5, |&b| b == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (path, query, method, kind, form) = (line(), line(), line(), line(), line());
    read_path(path);
    let method = Method::from_bytes(method).unwrap_or(Method::PUT);
    match params::is_form(&method, Some(kind)) {
        Ok(is_form) => read_params(&method, query, is_form.then_some(form)),
        Err(error) => check_error(&error),
    }
    read_params(&method, query, Some(form));
    if let Ok(media) = mime::parse(kind) {
        assert!(!media.is_empty() && media.len() <= kind.len());
    }
    let mut text = Vec::new();
    json::string(&mut text, form);
    check_json(&text);
}

/// Decoding undoes encoding, cleaning is done once, and what is clean is a key, if it is not too
/// long for one.
fn read_path(raw: &[u8]) {
    let mut written = Vec::new();
    path::encode(raw, &mut written);
    let read = path::decode(&written).expect("what was encoded can be decoded");
    assert_eq!(read, raw, "another path");
    let Ok(decoded) = path::decode(raw) else {
        return;
    };
    assert!(decoded.len() <= raw.len());
    let clean = path::cleaned(&decoded).unwrap_or_else(|| decoded.to_vec());
    assert_eq!(path::cleaned(&clean), None, "cleaned, and not clean");
    let key = clean.strip_suffix(b"/").filter(|key| !key.is_empty());
    let key = key.unwrap_or(&clean);
    let names = key.split(|&byte| byte == b'/').count() - 1;
    let fits = key.len() <= Path::BYTES_MAX && names <= Path::NAMES_MAX;
    assert_eq!(Path::new(key).is_some(), fits, "clean, and no key");
}

fn read_params(method: &Method, query: &[u8], form: Option<&[u8]>) {
    let read = Params::read(method, query, form, VALUE_BYTES_MAX);
    match &read {
        Ok(params) => {
            assert!(params.value.len() <= VALUE_BYTES_MAX, "a value too long");
            assert_ne!(params.prev_value.as_deref(), Some(&b""[..]));
            assert!(!params.wait || method == Method::GET);
        }
        Err(error) => check_error(error),
    }
    // The form goes before the query: so would it in one text.
    let joined = [form.unwrap_or_default(), query].join(&b'&');
    let again = Params::read(method, &joined, None, VALUE_BYTES_MAX);
    assert_eq!(again.is_ok(), read.is_ok(), "refused in another place");
    if let (Ok(again), Ok(read)) = (again, read) {
        assert_eq!(again, read, "something else in another place");
    }
}

fn check_error(error: &Error) {
    check_json(&error.document());
}

fn check_json(text: &[u8]) {
    let parsed: Result<Json, _> = serde_json::from_slice(text);
    assert!(parsed.is_ok(), "no JSON: {}", text.escape_ascii());
}
