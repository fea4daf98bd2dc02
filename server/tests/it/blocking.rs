//! A client for threads: each request on a connection of its own, and an honest word on each that
//! got no answer.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long a request may take: longer than a member takes to give up on it.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Nobody listens: the request has not left.
    NotSent,
    /// The connection ended before the answer did.
    Cut,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    index: Option<u64>,
    /// The header `X-Quorate-Age-Ms`.
    pub(crate) age: Option<u64>,
    pub(crate) body: String,
}

impl Answer {
    /// The header `X-Etcd-Index`.
    pub(crate) fn index(&self) -> u64 {
        self.index.expect("an answer of the keys API has an index")
    }

    /// A text field of the document's node.
    pub(crate) fn field(&self, name: &str) -> String {
        let document = self.document();
        let field = document["node"][name].as_str();
        field.unwrap_or_default().to_owned()
    }

    /// A number of the document's node.
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.document()["node"][name].as_u64().unwrap_or_default()
    }

    pub(crate) fn document(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("a JSON document")
    }

    pub(crate) fn is_done(&self) -> bool {
        self.status < 300
    }

    /// Whether it says that nothing was done, and nothing will be.
    pub(crate) fn is_refusal(&self) -> bool {
        self.status < 500 || self.body.contains("too busy") || self.body.contains("server stopped")
    }
}

/// One request, and the whole answer to it.
pub(crate) fn ask(
    address: SocketAddr,
    method: &str,
    target: &str,
    form: &str,
) -> Result<Answer, Lost> {
    ask_as(address, method, target, None, form)
}

/// As [`ask`], with an `Idempotency-Key`.
pub(crate) fn ask_as(
    address: SocketAddr,
    method: &str,
    target: &str,
    name: Option<&str>,
    form: &str,
) -> Result<Answer, Lost> {
    let stream = TcpStream::connect(address).map_err(|_| Lost::NotSent)?;
    exchange(stream, method, target, name, form).ok_or(Lost::Cut)
}

fn exchange(
    mut stream: TcpStream,
    method: &str,
    target: &str,
    name: Option<&str>,
    form: &str,
) -> Option<Answer> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let name = name.map(|name| format!("Idempotency-Key: {name}\r\n"));
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{}\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        name.unwrap_or_default(),
        form.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut reader = BufReader::new(stream);
    let head = Head::read(&mut reader)?;
    let mut body = Vec::new();
    if let Some(length) = head.length {
        body.resize(length, 0);
        reader.read_exact(&mut body).ok()?;
    } else {
        while let Some(piece) = piece(&mut reader)? {
            body.extend_from_slice(&piece);
        }
    }
    Some(Answer {
        status: head.status,
        index: head.index,
        age: head.age,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

/// Watches everything below the root from the first event on, through the one with this value: the
/// documents.
///
/// # Panics
/// Where they do not come in time.
pub(crate) fn history(address: SocketAddr, last: &str) -> Vec<serde_json::Value> {
    let end = Instant::now() + 4 * PATIENCE;
    let mut stream = TcpStream::connect(address).expect("a member");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let target = "/v2/keys/?wait=true&stream=true&recursive=true&waitIndex=1";
    write!(stream, "GET {target} HTTP/1.1\r\nHost: test\r\n\r\n").expect("it reads");
    let mut reader = BufReader::new(stream);
    let head = Head::read(&mut reader).expect("the head of a stream");
    assert_eq!(head.status, 200);
    let (mut events, mut rest) = (Vec::new(), Vec::new());
    loop {
        assert!(Instant::now() < end, "{last} is not among {}", events.len());
        let next = piece(&mut reader).expect("a whole chunk");
        rest.extend_from_slice(&next.expect("a stream has no end"));
        while let Some(at) = rest.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=at).collect();
            let event: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
            let is_last = event["node"]["value"] == last;
            events.push(event);
            if is_last {
                return events;
            }
        }
    }
}

/// What is needed of the head of an answer.
struct Head {
    status: u16,
    index: Option<u64>,
    age: Option<u64>,
    length: Option<usize>,
}

impl Head {
    fn read(reader: &mut impl BufRead) -> Option<Self> {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut head = Self {
            status: line.get(9..12)?.parse().ok()?,
            index: None,
            age: None,
            length: None,
        };
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            if line == "\r\n" {
                return Some(head);
            }
            let (name, value) = line.trim_end().split_once(": ")?;
            match name.to_ascii_lowercase().as_str() {
                "content-length" => head.length = Some(value.parse().ok()?),
                "x-etcd-index" => head.index = Some(value.parse().ok()?),
                "x-quorate-age-ms" => head.age = Some(value.parse().ok()?),
                _ => {}
            }
        }
    }
}

/// The next chunk; `None` inside at the end, outside where the connection ended first.
fn piece(reader: &mut impl BufRead) -> Option<Option<Vec<u8>>> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let size = usize::from_str_radix(line.trim_end(), 16).ok()?;
    let mut piece = vec![0; size + 2];
    reader.read_exact(&mut piece).ok()?;
    piece.truncate(size);
    Some((size > 0).then_some(piece))
}
