//! Bad input gets a clear error and loses nothing.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::harness::Served;

#[tokio::test]
async fn large_values_and_bodies_are_refused_in_words() {
    let server = Served::start(&[]).await;
    let largest = format!("value={}", "x".repeat(1_572_864));
    let answer = server.ask("PUT", "/v2/keys/a", &largest).await;
    assert_eq!(answer.status, 201);
    for (bytes, cause) in [
        (1_572_865, "the value has 1572865 bytes, above 1572864"),
        (11 << 20, "http: POST too large"),
    ] {
        let form = format!("value={}", "x".repeat(bytes));
        let answer = server.ask("PUT", "/v2/keys/a", &form).await;
        assert_eq!(answer.status, 400, "{bytes}");
        assert!(
            answer.body.starts_with("{\"errorCode\":210"),
            "{}",
            answer.body
        );
        assert!(answer.body.contains(cause), "{}", answer.body);
    }
    let kept = server.ask("GET", "/v2/keys/a", "").await;
    assert!(kept.body.contains("\"modifiedIndex\":1,"));
    assert_eq!(kept.index(), 1, "nothing was written");
}

#[tokio::test]
async fn a_client_that_asks_before_it_sends_is_told_before_it_sends() {
    let server = Served::start(&[]).await;
    let mut client = server.client().await;
    let head = "PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\
                Content-Type: application/x-www-form-urlencoded\r\nContent-Length:";
    client
        .send(format!("{head} 20000000\r\n\r\n").as_bytes())
        .await;
    assert_eq!(client.head().await.status, 400);
    let mut client = server.client().await;
    client.send(format!("{head} 7\r\n\r\n").as_bytes()).await;
    assert_eq!(client.head().await.status, 100);
    client.send(b"value=1").await;
    assert_eq!(client.head().await.status, 201);
}

#[tokio::test]
async fn heads_that_are_no_requests_are_refused() {
    let server = Served::start(&[]).await;
    let endless = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}", "x".repeat(200_000));
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(70_000));
    for (request, status) in [
        ("GET /v2/keys/%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET /v2/keys/% HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET /v2/keys/a HTTP/1.1\r\n\r\n", 400),
        ("GET /v2/keys/a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 400),
        (&endless, 431),
        (&long, 414),
    ] {
        let mut client = server.client().await;
        // The server may have had enough before all is sent.
        let _ = client.try_send(request.as_bytes()).await;
        let shown = &request[..request.len().min(40)];
        assert_eq!(client.head().await.status, status, "{shown}");
    }
    assert_eq!(server.ask("GET", "/v2/keys/", "").await.status, 200);
}

#[tokio::test]
async fn slow_and_idle_clients_hold_nobody() {
    const IDLE: usize = 300;
    let server = Served::start(&[]).await;
    let mut idle = Vec::new();
    for nth in 0..IDLE {
        let mut client = server.client().await;
        match nth % 4 {
            0 => {}
            1 => client.send(b"GET /v2/keys/a HT").await,
            2 => {
                let head = "PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\
                            Content-Type: application/x-www-form-urlencoded\r\n\r\nval";
                client.send(head.as_bytes()).await;
            }
            _ => drop(client.ask("GET", "/health", "").await),
        }
        idle.push(client);
    }
    let answer = tokio::time::timeout(
        Duration::from_secs(5),
        server.ask("PUT", "/v2/keys/b", "value=1"),
    );
    assert_eq!(answer.await.expect("in time").status, 201);
    // They are still served once they get on.
    idle[1].send(b"TP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(idle[1].head().await.status, 404);
    idle[2].send(b"ue=123").await;
    assert_eq!(idle[2].head().await.status, 201);
    assert_eq!(idle[3].ask("GET", "/v2/keys/b", "").await.status, 200);
    assert_eq!(idle[0].ask("GET", "/v2/keys/b", "").await.status, 200);
}

/// Time passes at once where nobody has anything to do, so a minute costs nothing here.
#[tokio::test(start_paused = true)]
async fn who_never_gets_on_is_cut_off() {
    const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: &str = "\0\0\0\x04\0\0\0\0\0";
    let server = Served::start(&[]).await;
    let body = "PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\
                Content-Type: application/x-www-form-urlencoded\r\n\r\nvalue=";
    let silent = [
        String::new(),
        "P".to_owned(),
        "GET /v2/keys/a HTTP/1.1\r\nX: ".to_owned(),
        "GET /v2/keys/a HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        body.to_owned(),
        PREFACE[..12].to_owned(),
        PREFACE.to_owned(),
        format!("{PREFACE}{SETTINGS}"),
    ];
    for sent in silent {
        let mut stream = TcpStream::connect(server.address).await.expect("a server");
        stream.write_all(sent.as_bytes()).await.expect("room");
        let mut answer = Vec::new();
        // It may end in a reset, since what was sent was not read.
        let _ = stream.read_to_end(&mut answer).await;
    }
    // A byte a second is no way to get on either.
    for head in ["GET /v2/keys/a HTTP/1.1\r\nX: ", body] {
        let stream = TcpStream::connect(server.address).await.expect("a server");
        let (mut reader, mut writer) = stream.into_split();
        writer.write_all(head.as_bytes()).await.expect("room");
        let trickle = async {
            while writer.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let mut answer = Vec::new();
        tokio::select! {
            () = trickle => {}
            _ = reader.read_to_end(&mut answer) => {}
        }
    }
    tokio::time::resume();
    assert_eq!(server.ask("GET", "/v2/keys/a", "").await.status, 404);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let server = Served::start(&["--max-connections=2"]).await;
    let first = server.client().await;
    let mut second = server.client().await;
    assert_eq!(second.ask("GET", "/health", "").await.status, 200);
    let mut third = server.client().await;
    third.send_request("GET", "/health", &[], "").await;
    assert!(third.is_quiet().await);
    drop(first);
    assert_eq!(third.head().await.status, 200);
}

#[tokio::test]
async fn requests_may_follow_each_other_without_waiting() {
    let server = Served::start(&[]).await;
    let mut client = server.client().await;
    client
        .send_request("PUT", "/v2/keys/a", &[], "value=1")
        .await;
    client.send_request("GET", "/v2/keys/a", &[], "").await;
    client.send_request("HEAD", "/v2/keys/a", &[], "").await;
    client.send_request("GET", "/v2/keys/b", &[], "").await;
    for (status, body) in [(201, true), (200, true), (200, false), (404, true)] {
        let answer = client.answer(body).await;
        assert_eq!((answer.status, answer.index()), (status, 1));
        assert_eq!(answer.body.is_empty(), !body, "{answer:?}");
    }
}

#[tokio::test]
async fn http_2_is_understood_where_the_client_begins_with_it() {
    let server = Served::start(&[]).await;
    let stream = TcpStream::connect(server.address).await.expect("a server");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    let url = |target: &str| format!("http://{}{target}", server.address);
    let watch = Request::get(url("/v2/keys/a?wait=true&stream=true"));
    let watch = watch.body(Full::new(Bytes::new())).expect("a request");
    let mut watch = sender.send_request(watch).await.expect("headers at once");
    let put = Request::put(url("/v2/keys/a"))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from("value=1")))
        .expect("a request");
    let put = sender.send_request(put).await.expect("an answer");
    assert_eq!(put.status(), 201);
    assert_eq!(put.headers()["x-etcd-index"], "1");
    let written = put.into_body().collect().await.expect("a body").to_bytes();
    let seen = watch.frame().await.expect("a frame").expect("an event");
    assert_eq!(seen.into_data().expect("data"), written);
}

#[tokio::test]
async fn a_narrow_client_gets_a_large_answer_whole() {
    let server = Served::start(&[]).await;
    let form = format!("value={}", "y".repeat(1 << 20));
    server.ask("PUT", "/v2/keys/a", &form).await;
    let mut client = Client::connect_narrow(server.address).await;
    let answer = client.ask("GET", "/v2/keys/a", "").await;
    assert_eq!(answer.body.matches('y').count(), (1 << 20) + 1);
}
