//! A small HTTP/1.1 client that sends exactly what it is told and shows exactly what it got.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

/// An answer; of one in chunks, the head and what was read of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn index(&self) -> u64 {
        let index = self.header("X-Etcd-Index").expect("an index");
        index.parse().expect("a number")
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.expect("a server")
    }

    /// A connection, if somebody listens.
    pub(crate) async fn try_connect(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).await.ok()?;
        Some(Self {
            stream,
            read: Vec::new(),
        })
    }

    /// A client whose side of the connection holds next to nothing.
    pub(crate) async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let stream = socket.connect(address).await.expect("a server");
        Self {
            stream,
            read: Vec::new(),
        }
    }

    pub(crate) async fn ask(&mut self, method: &str, target: &str, form: &str) -> Answer {
        self.ask_with(method, target, &[], form).await
    }

    /// Asks and reads the whole answer, if one comes.
    pub(crate) async fn try_ask(&mut self, method: &str, target: &str) -> Option<Answer> {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n\r\n");
        self.try_send(request.as_bytes()).await.ok()?;
        self.stream.readable().await.ok()?;
        // A peer that closes is readable as well.
        if !self.fill().await {
            return None;
        }
        Some(self.answer(method != "HEAD").await)
    }

    /// Asks with headers and reads the whole answer. A form that is not empty gets its type.
    pub(crate) async fn ask_with(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        form: &str,
    ) -> Answer {
        self.send_request(method, target, headers, form).await;
        self.answer(method != "HEAD").await
    }

    /// The whole answer to what was sent, with its body if it has one.
    pub(crate) async fn answer(&mut self, has_body: bool) -> Answer {
        let mut answer = self.head().await;
        if has_body {
            self.body(&mut answer).await;
        }
        answer
    }

    /// Asks, and reads no more than the head of the answer.
    pub(crate) async fn open(&mut self, target: &str) -> Answer {
        self.send_request("GET", target, &[], "").await;
        self.head().await
    }

    pub(crate) async fn send_request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        form: &str,
    ) {
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        if !form.is_empty() {
            if !headers
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
            {
                request += "Content-Type: application/x-www-form-urlencoded\r\n";
            }
            request += &format!("Content-Length: {}\r\n", form.len());
        }
        self.send(format!("{request}\r\n{form}").as_bytes()).await;
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.expect("the server reads");
    }

    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let written = tokio::time::timeout(PATIENCE, self.stream.write_all(bytes)).await;
        written.expect("the server reads in time")
    }

    pub(crate) async fn head(&mut self) -> Answer {
        let head = self
            .until(b"\r\n\r\n")
            .await
            .expect("the head of an answer");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let headers = lines.filter_map(|line| line.split_once(": "));
        Answer {
            status: status.and_then(|s| s.parse().ok()).expect("a status"),
            headers: headers.map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
            body: String::new(),
        }
    }

    async fn body(&mut self, answer: &mut Answer) {
        if let Some(length) = answer.header("Content-Length") {
            let length: usize = length.parse().expect("a length");
            while self.read.len() < length {
                assert!(self.fill().await, "the answer is cut: {answer:?}");
            }
            let body: Vec<u8> = self.read.drain(..length).collect();
            answer.body = String::from_utf8(body).expect("UTF-8");
        } else if answer.header("Transfer-Encoding").is_some() {
            while let Some(piece) = self.piece().await {
                answer.body += &piece;
            }
        }
    }

    /// The next chunk of an answer; `None` at its end.
    ///
    /// # Panics
    /// Where the answer is cut off, or nothing comes in time.
    pub(crate) async fn piece(&mut self) -> Option<String> {
        let size = self.until(b"\r\n").await.expect("a chunk");
        let size = usize::from_str_radix(&size, 16).expect("the size of a chunk");
        while self.read.len() < size + 2 {
            assert!(self.fill().await, "the chunk is cut");
        }
        let piece: Vec<u8> = self.read.drain(..size + 2).take(size).collect();
        (size > 0).then(|| String::from_utf8(piece).expect("UTF-8"))
    }

    /// Whether the server says nothing for a while and keeps the connection open.
    pub(crate) async fn is_quiet(&self) -> bool {
        let wait = tokio::time::timeout(Duration::from_millis(150), self.stream.readable());
        self.read.is_empty() && wait.await.is_err()
    }

    /// Whether the server closed the connection and sent nothing more before.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.read.is_empty() && !self.fill().await
    }

    /// What came before `end`, without it; `None` where the connection ended first.
    async fn until(&mut self, end: &[u8]) -> Option<String> {
        loop {
            let found = self
                .read
                .windows(end.len())
                .position(|window| window == end);
            if let Some(at) = found {
                let before = self.read.drain(..at + end.len()).take(at).collect();
                return Some(String::from_utf8(before).expect("UTF-8"));
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// Reads what there is; false at the end.
    async fn fill(&mut self) -> bool {
        let mut piece = [0; 16 << 10];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut piece)).await;
        match read.expect("something comes in time") {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.read.extend_from_slice(&piece[..count]);
                true
            }
        }
    }
}
