//! The parameters of `/v2/keys`: query and form, read and checked as etcd does (api/v2.md §4).

use std::borrow::Cow;

use http::Method;
use quorate_core::Revision;
use quorate_core::store::Value;
use quorate_core::time::Duration;

use super::error::{Code, Error};
use super::{mime, path};

/// What a request asks for, beside its method and path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params {
    /// `prevIndex`; `None` is no condition.
    pub prev_index: Option<Revision>,
    /// `waitIndex`; `None` is after now.
    pub wait_index: Option<Revision>,
    /// `recursive`.
    pub recursive: bool,
    /// `wait`.
    pub wait: bool,
    /// `dir`.
    pub dir: bool,
    /// `quorum`, where it was given.
    pub quorum: Option<bool>,
    /// `stream`.
    pub stream: bool,
    /// `prevValue`; never empty.
    pub prev_value: Option<Value>,
    /// `noValueOnSuccess`.
    pub no_value_on_success: bool,
    /// `ttl`; `None` is for ever.
    pub ttl: Option<Duration>,
    /// `prevExist`, where it was given.
    pub prev_exist: Option<bool>,
    /// `refresh`.
    pub refresh: bool,
    /// `value`.
    pub value: Value,
    /// `minIndex`, quorate's own: what a local read waits for.
    pub min_index: Revision,
}

impl Params {
    /// Reads and checks everything, in etcd's order: the first failure is reported.
    ///
    /// `form` is the body of a method that has one, if [`is_form`] said so. `value_bytes_max`
    /// bounds the value.
    ///
    /// # Errors
    /// The error to answer; its index is 0, since the store is not asked.
    pub fn read(
        method: &Method,
        query: &[u8],
        form: Option<&[u8]>,
        value_bytes_max: usize,
    ) -> Result<Self, Error> {
        let fields = Fields::parse(form.unwrap_or_default(), query)?;
        let mut params = Self {
            prev_index: fields.index(Name::PrevIndex)?,
            wait_index: fields.index(Name::WaitIndex)?,
            recursive: fields.flag(Name::Recursive)?,
            ..Self::default()
        };
        // Every listing is sorted, so this one is only checked.
        fields.flag(Name::Sorted)?;
        params.wait = fields.flag(Name::Wait)?;
        params.dir = fields.flag(Name::Dir)?;
        params.quorum = fields.choice(Name::Quorum)?;
        params.stream = fields.flag(Name::Stream)?;
        if params.wait && method != Method::GET {
            let cause = "\"wait\" can only be used with GET requests";
            return Err(Error::new(Code::InvalidField, cause));
        }
        params.prev_value = fields.prev_value()?;
        params.no_value_on_success = fields.flag(Name::NoValueOnSuccess)?;
        params.ttl = fields.ttl()?;
        params.prev_exist = fields.choice(Name::PrevExist)?;
        params.refresh = fields.flag(Name::Refresh)?;
        let value = fields.get(Name::Value).unwrap_or_default();
        if params.refresh {
            fields.check_refresh(value, params.ttl)?;
        }
        params.min_index = fields.index(Name::MinIndex)?.unwrap_or_default();
        if value.len() > value_bytes_max {
            let cause = format!(
                "the value has {} bytes, above {value_bytes_max}",
                value.len()
            );
            return Err(Error::new(Code::InvalidForm, cause));
        }
        params.value = Value::new(value);
        Ok(params)
    }
}

/// Whether the body of a request with this `Content-Type` is a form that counts.
///
/// # Errors
/// A type that is no media type at all; its words are Go's.
pub fn is_form(method: &Method, content_type: Option<&[u8]>) -> Result<bool, Error> {
    let has_body = *method == Method::PUT || *method == Method::POST || *method == Method::PATCH;
    match content_type {
        Some(text) if has_body && !text.is_empty() => {
            let media = mime::parse(text).map_err(|e| Error::new(Code::InvalidForm, e))?;
            Ok(media.eq_ignore_ascii_case(b"application/x-www-form-urlencoded"))
        }
        Some(_) | None => Ok(false),
    }
}

/// The parameters that mean something. Others are ignored.
#[derive(Clone, Copy, Debug)]
enum Name {
    PrevIndex,
    WaitIndex,
    Recursive,
    Sorted,
    Wait,
    Dir,
    Quorum,
    Stream,
    PrevValue,
    NoValueOnSuccess,
    Ttl,
    PrevExist,
    Refresh,
    Value,
    MinIndex,
}

const NAMES: [(Name, &str); 15] = [
    (Name::PrevIndex, "prevIndex"),
    (Name::WaitIndex, "waitIndex"),
    (Name::Recursive, "recursive"),
    (Name::Sorted, "sorted"),
    (Name::Wait, "wait"),
    (Name::Dir, "dir"),
    (Name::Quorum, "quorum"),
    (Name::Stream, "stream"),
    (Name::PrevValue, "prevValue"),
    (Name::NoValueOnSuccess, "noValueOnSuccess"),
    (Name::Ttl, "ttl"),
    (Name::PrevExist, "prevExist"),
    (Name::Refresh, "refresh"),
    (Name::Value, "value"),
    (Name::MinIndex, "minIndex"),
];

/// The first value of each known parameter, the form before the query. Borrowed where nothing had
/// to be decoded.
#[derive(Debug, Default)]
struct Fields<'a>([Option<Cow<'a, [u8]>>; NAMES.len()]);

impl<'a> Fields<'a> {
    fn parse(form: &'a [u8], query: &'a [u8]) -> Result<Self, Error> {
        let mut fields = Self::default();
        for source in [form, query] {
            fields
                .add(source)
                .map_err(|cause| Error::new(Code::InvalidForm, cause))?;
        }
        Ok(fields)
    }

    /// Takes in one source. All of it is looked at, as Go does: a semicolon counts for more than an
    /// earlier bad escape.
    fn add(&mut self, source: &'a [u8]) -> Result<(), String> {
        let mut failure = None;
        for pair in source.split(|&b| b == b'&').filter(|pair| !pair.is_empty()) {
            if pair.contains(&b';') {
                failure = Some("invalid semicolon separator in query".to_owned());
                continue;
            }
            let end = pair.iter().position(|&b| b == b'=');
            let (name, value) = end.map_or((pair, &b""[..]), |at| (&pair[..at], &pair[at + 1..]));
            match (path::decode_form(name), path::decode_form(value)) {
                (Ok(name), Ok(value)) => {
                    let known = NAMES
                        .iter()
                        .position(|(_, known)| known.as_bytes() == &*name);
                    if let Some(slot) = known {
                        self.0[slot].get_or_insert(value);
                    }
                }
                (Err(bad), _) | (_, Err(bad)) => {
                    failure.get_or_insert_with(|| bad.to_string());
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn get(&self, name: Name) -> Option<&[u8]> {
        self.0[name as usize].as_deref()
    }

    /// An index; zero is none.
    fn index(&self, name: Name) -> Result<Option<Revision>, Error> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let index = number(text).ok_or_else(|| invalid(Code::IndexIsNoNumber, name))?;
        Ok((index > 0).then_some(Revision(index)))
    }

    fn flag(&self, name: Name) -> Result<bool, Error> {
        Ok(self.choice(name)?.unwrap_or(false))
    }

    fn choice(&self, name: Name) -> Result<Option<bool>, Error> {
        match self.get(name) {
            None => Ok(None),
            Some(b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True") => Ok(Some(true)),
            Some(b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False") => Ok(Some(false)),
            Some(_) => Err(invalid(Code::InvalidField, name)),
        }
    }

    fn prev_value(&self) -> Result<Option<Value>, Error> {
        match self.get(Name::PrevValue) {
            Some(b"") => Err(Error::new(
                Code::PrevValueRequired,
                "\"prevValue\" cannot be empty",
            )),
            given => Ok(given.map(Value::new)),
        }
    }

    /// The time to live; given but empty is none.
    fn ttl(&self) -> Result<Option<Duration>, Error> {
        let text = self.get(Name::Ttl).unwrap_or_default();
        if text.is_empty() {
            return Ok(None);
        }
        let seconds = number(text).ok_or_else(|| invalid(Code::TtlIsNoNumber, Name::Ttl))?;
        Ok(Some(Duration::from_secs(seconds)))
    }

    fn check_refresh(&self, value: &[u8], ttl: Option<Duration>) -> Result<(), Error> {
        if !value.is_empty() {
            let cause = "A value was provided on a refresh";
            return Err(Error::new(Code::RefreshValue, cause));
        }
        if ttl.is_none() {
            return Err(Error::new(Code::RefreshTtlRequired, "No TTL value set"));
        }
        Ok(())
    }
}

fn invalid(code: Code, name: Name) -> Error {
    let text = NAMES[name as usize].1;
    // etcd quotes all names but these two.
    let cause = match name {
        Name::PrevExist | Name::Refresh => format!("invalid value for {text}"),
        Name::PrevIndex
        | Name::WaitIndex
        | Name::Recursive
        | Name::Sorted
        | Name::Wait
        | Name::Dir
        | Name::Quorum
        | Name::Stream
        | Name::PrevValue
        | Name::NoValueOnSuccess
        | Name::Ttl
        | Name::Value
        | Name::MinIndex => format!("invalid value for \"{text}\""),
    };
    Error::new(code, cause)
}

/// Plain decimal digits that fit 64 bits: no sign, space or underscore.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &Method, query: &str, form: &str) -> Result<Params, Error> {
        Params::read(method, query.as_bytes(), Some(form.as_bytes()), 16)
    }

    fn good(query: &str, form: &str) -> Params {
        read(&Method::PUT, query, form).expect("good parameters")
    }

    fn check_bad(query: &str, code: u64, cause: &str) {
        let error = read(&Method::PUT, query, "").expect_err(query);
        let found = (error.code.number(), String::from_utf8(error.cause).unwrap());
        assert_eq!(found, (code, cause.to_owned()), "{query}");
        assert_eq!(error.index, Revision::ZERO);
    }

    #[test]
    fn names_stand_at_their_own_place() {
        for (slot, (name, text)) in NAMES.into_iter().enumerate() {
            assert_eq!(name as usize, slot, "{text}");
        }
    }

    #[test]
    fn the_form_wins_even_when_empty_and_the_first_of_repeated_values_counts() {
        assert_eq!(good("value=q", "value=f").value, Value::from("f"));
        assert_eq!(good("value=q", "value=").value, Value::from(""));
        assert_eq!(good("value=q", "").value, Value::from("q"));
        assert_eq!(good("", "value=1&value=2").value, Value::from("1"));
        assert!(!good("dir=true", "dir=false").dir);
    }

    #[test]
    fn values_are_decoded_as_forms() {
        let value = |text: &str| good("", text).value;
        assert_eq!(value("value=a+b%26c%3Dd%2B"), Value::from("a b&c=d+"));
        assert_eq!(value("&&value=a=b&"), Value::from("a=b"));
        assert_eq!(value("%76alue=%ff"), Value::new(b"\xff"));
        assert_eq!(value("Value=x"), Value::from(""));
    }

    #[test]
    fn spellings_of_booleans_and_numbers_are_gos() {
        for text in ["1", "t", "T", "true", "TRUE", "True"] {
            assert!(good(&format!("recursive={text}"), "").recursive, "{text}");
        }
        for text in ["0", "f", "F", "false", "FALSE", "False"] {
            assert!(!good(&format!("recursive={text}"), "").recursive, "{text}");
        }
        for text in ["", "tRue", "yes", "2", " 1"] {
            let query = format!("recursive={}", text.replace(' ', "+"));
            check_bad(&query, 209, "invalid value for \"recursive\"");
        }
        assert_eq!(good("prevIndex=007", "").prev_index, Some(Revision(7)));
        assert_eq!(good("prevIndex=0", "").prev_index, None);
        let most = "waitIndex=18446744073709551615";
        assert_eq!(good(most, "").wait_index, Some(Revision(u64::MAX)));
        for text in [
            "",
            "-1",
            "%2B1",
            "1.5",
            "0x10",
            "1_0",
            "18446744073709551616",
        ] {
            check_bad(
                &format!("prevIndex={text}"),
                203,
                "invalid value for \"prevIndex\"",
            );
        }
        assert_eq!(good("ttl=", "").ttl, None);
        assert_eq!(good("ttl=0", "").ttl, Some(Duration::ZERO));
        check_bad("ttl=10s", 202, "invalid value for \"ttl\"");
    }

    #[test]
    fn checks_come_in_etcds_order() {
        // Each query fails at two checks; the first of the table is reported.
        let order = [
            ("prevIndex=x", 203, "invalid value for \"prevIndex\""),
            ("waitIndex=x", 203, "invalid value for \"waitIndex\""),
            ("recursive=x", 209, "invalid value for \"recursive\""),
            ("sorted=x", 209, "invalid value for \"sorted\""),
            ("wait=x", 209, "invalid value for \"wait\""),
            ("dir=x", 209, "invalid value for \"dir\""),
            ("quorum=x", 209, "invalid value for \"quorum\""),
            ("stream", 209, "invalid value for \"stream\""),
            ("prevValue=", 201, "\"prevValue\" cannot be empty"),
            (
                "noValueOnSuccess=x",
                209,
                "invalid value for \"noValueOnSuccess\"",
            ),
            ("ttl=x", 202, "invalid value for \"ttl\""),
            ("prevExist=", 209, "invalid value for prevExist"),
            ("refresh=x", 209, "invalid value for refresh"),
        ];
        for (nth, &(query, code, cause)) in order.iter().enumerate() {
            check_bad(query, code, cause);
            for &(later, ..) in &order[nth + 1..] {
                check_bad(&format!("{later}&{query}"), code, cause);
            }
        }
        let waiting = "\"wait\" can only be used with GET requests";
        check_bad("wait=true&prevValue=", 209, waiting);
        check_bad("stream=x&wait=true", 209, "invalid value for \"stream\"");
        check_bad(
            "refresh=true&value=v",
            211,
            "A value was provided on a refresh",
        );
        check_bad("refresh=true&ttl=", 212, "No TTL value set");
        assert!(read(&Method::GET, "wait=true", "").is_ok_and(|params| params.wait));
        assert!(read(&Method::HEAD, "wait=true", "").is_err());
    }

    #[test]
    fn broken_forms_are_refused() {
        check_bad("x=%zz", 210, "invalid URL escape \"%zz\"");
        check_bad("%4=1", 210, "invalid URL escape \"%4\"");
        check_bad("a=%zz&b;c", 210, "invalid semicolon separator in query");
        let error = read(&Method::PUT, "x=%zz", "value=%yy").expect_err("the form comes first");
        assert_eq!(error.cause, b"invalid URL escape \"%yy\"");
    }

    #[test]
    fn values_have_a_limit() {
        assert!(read(&Method::PUT, "", "value=0123456789abcdef").is_ok());
        check_bad(
            "value=0123456789abcdefg",
            210,
            "the value has 17 bytes, above 16",
        );
    }

    #[test]
    fn only_forms_of_methods_with_a_body_count() {
        let form = Some(b"Application/X-WWW-form-urlencoded; charset=utf-8".as_slice());
        assert_eq!(is_form(&Method::PUT, form), Ok(true));
        assert_eq!(is_form(&Method::POST, form), Ok(true));
        assert_eq!(is_form(&Method::DELETE, form), Ok(false));
        assert_eq!(is_form(&Method::GET, Some(b"///")), Ok(false));
        assert_eq!(is_form(&Method::PUT, Some(b"application/json")), Ok(false));
        assert_eq!(is_form(&Method::PUT, None), Ok(false));
        let error = is_form(&Method::PUT, Some(b"a b")).expect_err("no media type");
        assert_eq!(error.code, Code::InvalidForm);
        assert!(error.cause.starts_with(b"mime: "));
    }
}
