//! From request path to key (api/v2.md §3).

use std::borrow::Cow;

/// A path with a broken percent-encoding: the offending piece, as Go shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadEscape(pub String);

impl std::fmt::Display for BadEscape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "invalid URL escape {:?}", self.0)
    }
}

/// Percent-decodes a whole path. `%2F` becomes a real separator and `+` stays what it is.
///
/// # Errors
/// A `%` that two hexadecimal digits do not follow.
pub fn decode(raw: &[u8]) -> Result<Cow<'_, [u8]>, BadEscape> {
    unescape(raw, false)
}

/// Percent-decodes a piece of a query or form, where `+` is a space.
///
/// # Errors
/// A `%` that two hexadecimal digits do not follow.
pub fn decode_form(raw: &[u8]) -> Result<Cow<'_, [u8]>, BadEscape> {
    unescape(raw, true)
}

fn unescape(raw: &[u8], plus_is_space: bool) -> Result<Cow<'_, [u8]>, BadEscape> {
    let special = |&b: &u8| b == b'%' || (plus_is_space && b == b'+');
    let Some(first) = raw.iter().position(special) else {
        return Ok(Cow::Borrowed(raw));
    };
    let mut decoded = Vec::with_capacity(raw.len());
    decoded.extend_from_slice(&raw[..first]);
    let mut rest = &raw[first..];
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b'%' => {
                let (high, low) = match *after {
                    [high, low, ..] => (hex(high), hex(low)),
                    _ => (None, None),
                };
                let (Some(high), Some(low)) = (high, low) else {
                    let piece = &rest[..rest.len().min(3)];
                    return Err(BadEscape(String::from_utf8_lossy(piece).into_owned()));
                };
                decoded.push(high << 4 | low);
                rest = &rest[3..];
            }
            b'+' if plus_is_space => {
                decoded.push(b' ');
                rest = after;
            }
            other => {
                decoded.push(other);
                rest = after;
            }
        }
    }
    Ok(Cow::Owned(decoded))
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Where a decoded path that is not clean should have gone; `None` for a clean one.
///
/// Clean is: begins with a slash, no empty, `.` or `..` name. One slash at the end is kept.
#[must_use]
pub fn cleaned(path: &[u8]) -> Option<Vec<u8>> {
    if is_clean(path) {
        return None;
    }
    let mut clean = Vec::with_capacity(path.len() + 1);
    let mut starts = Vec::new();
    for name in path.split(|&b| b == b'/') {
        match name {
            b"" | b"." => {}
            b".." => clean.truncate(starts.pop().unwrap_or(0)),
            _ => {
                starts.push(clean.len());
                clean.push(b'/');
                clean.extend_from_slice(name);
            }
        }
    }
    // Go's mux looks at the last byte as sent, not at what a dot name at the end means.
    if clean.is_empty() || path.ends_with(b"/") {
        clean.push(b'/');
    }
    Some(clean)
}

fn is_clean(path: &[u8]) -> bool {
    let Some(names) = path.strip_prefix(b"/") else {
        return false;
    };
    let names = names.strip_suffix(b"/").unwrap_or(names);
    let good = |name: &[u8]| !matches!(name, b"" | b"." | b"..");
    path == b"/" || names.split(|&b| b == b'/').all(good)
}

/// Writes a decoded path back as Go does in a `Location`.
pub fn encode(path: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in path {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => out.push(byte),
            b'-' | b'_' | b'.' | b'~' | b'$' | b'&' | b'+' | b',' | b'/' | b':' | b';' | b'='
            | b'@' => out.push(byte),
            _ => out.extend_from_slice(&[
                b'%',
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_cleaned(path: &str, expected: Option<&str>) {
        let found = cleaned(path.as_bytes()).map(|p| String::from_utf8(p).unwrap());
        assert_eq!(found.as_deref(), expected, "{path}");
    }

    #[test]
    fn clean_paths_stay() {
        for path in ["/", "/a", "/a/", "/a/b", "/...", "/.hid/a..b", "/a b/"] {
            check_cleaned(path, None);
        }
    }

    #[test]
    fn unclean_paths_are_cleaned_and_keep_one_slash_at_the_end() {
        check_cleaned("/a//b", Some("/a/b"));
        check_cleaned("/v2/keys/ddd//", Some("/v2/keys/ddd/"));
        check_cleaned("/v2/keys/../members", Some("/v2/members"));
        check_cleaned("/v2/keys/x/..", Some("/v2/keys"));
        check_cleaned("/v2/keys/x/../", Some("/v2/keys/"));
        check_cleaned("/a/./b", Some("/a/b"));
        check_cleaned("/..", Some("/"));
        check_cleaned("//", Some("/"));
        check_cleaned("", Some("/"));
        check_cleaned("*", Some("/*"));
        check_cleaned("/../../a", Some("/a"));
    }

    fn check_decode(raw: &str, expected: Result<&[u8], &str>) {
        let found = decode(raw.as_bytes()).map_err(|e| e.to_string());
        let found = found.as_deref().map_err(String::as_str);
        assert_eq!(found, expected, "{raw}");
    }

    #[test]
    fn decoding_is_whole_and_leaves_plus_alone() {
        check_decode("/a%2Fb+c%20%5f", Ok(b"/a/b+c _"));
        check_decode("/%00%ff", Ok(b"/\0\xff"));
        check_decode("/a%zzb", Err("invalid URL escape \"%zz\""));
        check_decode("/a%", Err("invalid URL escape \"%\""));
        check_decode("/a%2", Err("invalid URL escape \"%2\""));
        assert_eq!(decode_form(b"a+b%2B").unwrap().as_ref(), b"a b+");
    }

    #[test]
    fn encoding_a_location_escapes_what_go_escapes() {
        let mut out = Vec::new();
        encode("/a b/é?#%[x]!~@".as_bytes(), &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "/a%20b/%C3%A9%3F%23%25%5Bx%5D%21~@"
        );
    }
}
