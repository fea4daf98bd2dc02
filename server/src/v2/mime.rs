//! Media types as Go reads them: the type matters, and whether the rest is well-formed (api/v2.md
//! §4).

/// The type of a `Content-Type`, without its parameters, which are only checked.
///
/// # Errors
/// What is wrong with it, in Go's words.
pub fn parse(text: &[u8]) -> Result<&[u8], &'static str> {
    let end = text.iter().position(|&b| b == b';').unwrap_or(text.len());
    let media = text[..end].trim_ascii();
    check_media(media)?;
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut rest = text[end..].trim_ascii_start();
    while !rest.is_empty() {
        let Some((name, after)) = parameter(rest) else {
            if rest.trim_ascii() == b";" {
                break;
            }
            return Err("mime: invalid media parameter");
        };
        let name = name.to_ascii_lowercase();
        if names.contains(&name) {
            return Err("mime: duplicate parameter name");
        }
        names.push(name);
        rest = after.trim_ascii_start();
    }
    Ok(media)
}

fn check_media(media: &[u8]) -> Result<(), &'static str> {
    let (kind, rest) = token(media);
    if kind.is_empty() {
        return Err("mime: no media type");
    }
    if rest.is_empty() {
        return Ok(());
    }
    let Some(rest) = rest.strip_prefix(b"/") else {
        return Err("mime: expected slash after first token");
    };
    match token(rest) {
        (b"", _) => Err("mime: expected token after slash"),
        (_, b"") => Ok(()),
        _ => Err("mime: unexpected content after media subtype"),
    }
}

/// Splits off `; name=value`: the name and what follows.
fn parameter(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = token(text.strip_prefix(b";")?.trim_ascii_start());
    if name.is_empty() {
        return None;
    }
    let rest = rest
        .trim_ascii_start()
        .strip_prefix(b"=")?
        .trim_ascii_start();
    let rest = match rest.strip_prefix(b"\"") {
        Some(quoted) => after_quote(quoted)?,
        None => match token(rest) {
            (b"", _) => return None,
            (_, rest) => rest,
        },
    };
    Some((name, rest))
}

/// What follows the closing quote.
fn after_quote(quoted: &[u8]) -> Option<&[u8]> {
    let mut rest = quoted;
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Some(after),
            [b'\\', escaped, after @ ..] if is_special(*escaped) => after,
            [b'\r' | b'\n', ..] | [] => return None,
            [_, after @ ..] => after,
        };
    }
}

fn token(text: &[u8]) -> (&[u8], &[u8]) {
    let in_token = |&b: &u8| b.is_ascii_graphic() && !is_special(b);
    let end = text.iter().position(|b| !in_token(b)).unwrap_or(text.len());
    text.split_at(end)
}

/// RFC 1521 and 2045: what ends a token.
const fn is_special(byte: u8) -> bool {
    matches!(
        byte,
        b'(' | b')'
            | b'<'
            | b'>'
            | b'@'
            | b','
            | b';'
            | b':'
            | b'\\'
            | b'"'
            | b'/'
            | b'['
            | b']'
            | b'?'
            | b'='
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let found = parse(text.as_bytes()).map(|media| str::from_utf8(media).unwrap());
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn good_types() {
        check("text/plain", Ok("text/plain"));
        check(" a/b ; charset=utf-8 ", Ok("a/b"));
        check("a/b;", Ok("a/b"));
        check("form", Ok("form"));
        check(
            r#"multipart/form-data; boundary="a\"b;c"; x=y"#,
            Ok("multipart/form-data"),
        );
    }

    #[test]
    fn bad_types() {
        check("", Err("mime: no media type"));
        check(";", Err("mime: no media type"));
        check("a b", Err("mime: expected slash after first token"));
        check("a/", Err("mime: expected token after slash"));
        check("a/b c", Err("mime: unexpected content after media subtype"));
        check("a/b; charset", Err("mime: invalid media parameter"));
        check("a/b; charset=", Err("mime: invalid media parameter"));
        check(r#"a/b; x="y"#, Err("mime: invalid media parameter"));
        check("a/b; x=1; X=2", Err("mime: duplicate parameter name"));
    }
}
