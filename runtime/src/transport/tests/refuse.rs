use std::net::Ipv4Addr;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint};

use super::*;
use crate::transport::endpoint::transport_config;
use crate::transport::hello::{Hello, Role, exchange, seal};
use crate::transport::link::Kind;
use crate::transport::refusal::Failure;
use crate::transport::tls::Credentials;

/// Somebody who speaks QUIC, and then does what the test says.
struct Rogue {
    endpoint: Endpoint,
    client: Arc<QuicClientConfig>,
    identity: Identity,
    hello: Hello,
}

impl Rogue {
    /// One that would be let in as `b`, if it did nothing wrong.
    fn new(victim: &Member) -> Self {
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
        let credentials = Credentials::load(PeerTls::SelfMade).expect("made");
        let identity = Identity::generate();
        let mut hello = victim.transport().network.hello(Some("a"));
        hello.founder = founder("b", &identity, "http://127.0.0.1:1".to_owned());
        hello.run += 1;
        hello.cluster = None;
        Self {
            endpoint,
            client: credentials.sides().client,
            identity,
            hello,
        }
    }

    async fn connect(&self, to: &Member) -> Result<Connection, ConnectionError> {
        let mut config = ClientConfig::new(self.client.clone());
        config.transport_config(transport_config(&Limits::default()));
        let connecting = self.endpoint.connect_with(config, to.address(), "quorate");
        timeout(PATIENCE, connecting.expect("it may be tried"))
            .await
            .expect("it ends")
    }

    async fn greet(&self, to: &Member) -> (Connection, Result<Hello, Failure>) {
        let connection = self.connect(to).await.expect("TLS asks for nothing");
        let hello = exchange(&connection, Role::Dialer, &self.hello, &self.identity);
        let hello = timeout(PATIENCE, hello).await.expect("it ends");
        (connection, hello)
    }
}

/// Says the bytes first on a stream both ways.
async fn say(connection: &Connection, bytes: &[u8]) {
    let (mut send, _receive) = connection.open_bi().await.expect("there is room");
    // It may be refused before it has said all.
    let _ = send.write_all(bytes).await;
    let _ = send.finish();
    let _ = connection.closed().await;
}

/// A pair that goes on, whatever a third one does to `a`.
async fn victim() -> ([Member; 2], BirthRecord) {
    let mut members = ["a", "c"].map(Member::new);
    introduce(&mut members);
    let [a, c] = &mut members;
    a.expects(&Member::new("b").me());
    a.limits().hello_timeout = Duration::from_millis(300);
    let record = record(&[a, c]);
    for member in &mut members {
        member.start();
        member.transport().born(&record);
    }
    let [a, c] = &mut members;
    still_talk(a, c, &record).await;
    (members, record)
}

/// What a connection was closed for, in words.
async fn words(connection: &Connection) -> String {
    let closed = timeout(PATIENCE, connection.closed());
    closed.await.expect("it is closed").to_string()
}

/// `hello`, once changed, is refused for `reason` in words with `part`.
async fn check_hello(reason: &'static str, part: &str, change: impl FnOnce(&mut Rogue, &Member)) {
    let ([mut a, mut c], record) = victim().await;
    let mut rogue = Rogue::new(&a);
    change(&mut rogue, &a);
    let (connection, _) = rogue.greet(&a).await;
    a.has_refused(reason).await;
    let words = words(&connection).await;
    assert!(words.contains(part), "{words}");
    still_talk(&mut a, &mut c, &record).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_in_order_is_let_in() {
    let ([mut a, mut c], record) = victim().await;
    let rogue = Rogue::new(&a);
    let (connection, hello) = rogue.greet(&a).await;
    let hello = hello.expect("nothing is wrong with it");
    assert_eq!(hello.founder, a.me());
    assert_eq!(hello.cluster, Some(record.hash()));
    still_talk(&mut a, &mut c, &record).await;
    assert_eq!(connection.close_reason(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_token_is_refused() {
    check_hello("token", "--initial-cluster-token", |rogue, _| {
        rogue.hello.token = "other".to_owned();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_is_refused() {
    check_hello("cluster", "born into cluster", |rogue, _| {
        rogue.hello.cluster = Some(1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_did_not_sign_is_refused() {
    check_hello("signature", "not signed", |rogue, _| {
        rogue.hello.founder.key = Identity::generate().public_key().expect("a key");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_directory_is_refused() {
    check_hello("identity", "a copy of the data directory", |rogue, a| {
        rogue.hello.founder.disk = a.me().disk;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founder_without_its_key_is_refused() {
    check_hello("identity", "not its identity", |rogue, a| {
        let peers = a.transport().network.all_peers();
        let c = peers.iter().find_map(|peer| peer.member());
        let c = c.expect("c is connected");
        rogue.hello.founder.disk = c.disk;
        rogue.hello.founder.name = "c".to_owned();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_not_listed_is_refused() {
    check_hello("identity", "not in the --initial-cluster", |rogue, _| {
        rogue.hello.founder.name = "nobody".to_owned();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namesake_is_refused() {
    check_hello("identity", "calls itself a too", |rogue, _| {
        rogue.hello.founder.name = "a".to_owned();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_of_another_connection_or_role_is_refused() {
    let ([mut a, mut c], record) = victim().await;
    let rogue = Rogue::new(&a);
    let first = rogue.connect(&a).await.expect("let in");
    let second = rogue.connect(&a).await.expect("let in");
    let replayed = seal(&first, Role::Dialer, &rogue.hello, &rogue.identity).expect("sealed");
    say(&second, &replayed).await;
    until(|| a.refused("signature", "this") == 1).await;
    let third = rogue.connect(&a).await.expect("let in");
    let reflected = seal(&third, Role::Acceptor, &rogue.hello, &rogue.identity);
    say(&third, &reflected.expect("sealed")).await;
    until(|| a.refused("signature", "this") == 2).await;
    still_talk(&mut a, &mut c, &record).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_for_a_hello_is_refused() {
    let ([mut a, mut c], record) = victim().await;
    let rogue = Rogue::new(&a);
    let too_long = [Kind::Hello.byte(), 0xff, 0xff, 0xff, 0xff, 1, 2, 3];
    let means_nothing = [&[Kind::Hello.byte(), 4, 0, 0, 0, 1, 1, 1, 1][..], &[0; 64]].concat();
    let cases: [&[u8]; 5] = [b"", b"GET / HTTP/1.1\r\n", b"h", &too_long, &means_nothing];
    for (count, bytes) in (1..).zip(cases) {
        let connection = rogue.connect(&a).await.expect("let in");
        say(&connection, bytes).await;
        until(|| a.refused("malformed", "this") == count).await;
    }
    let later = [&[Kind::Hello.byte(), 2, 0, 0, 0, 9, 9][..], &[0; 64]].concat();
    let connection = rogue.connect(&a).await.expect("let in");
    say(&connection, &later).await;
    a.has_refused("version").await;
    still_talk(&mut a, &mut c, &record).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_that_never_comes_is_refused() {
    let ([mut a, mut c], record) = victim().await;
    let rogue = Rogue::new(&a);
    let connection = rogue.connect(&a).await.expect("let in");
    a.has_refused("hello_timeout").await;
    assert!(words(&connection).await.contains("no hello"));
    let connection = rogue.connect(&a).await.expect("let in");
    let (mut send, _receive) = connection.open_bi().await.expect("there is room");
    send.write_all(b"h").await.expect("it is taken");
    until(|| a.refused("hello_timeout", "this") == 2).await;
    still_talk(&mut a, &mut c, &record).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_a_stream_ends_the_connection() {
    let ([mut a, mut c], record) = victim().await;
    let rogue = Rogue::new(&a);
    let mut flipped = quorate_core::codec::encode_message(&message(1));
    *flipped.last_mut().expect("bytes") ^= 1;
    let no_kind = quorate_core::codec::encode_frame(b'x', &7_u8);
    let no_control = quorate_core::codec::encode_frame(b'c', &77_u8);
    let too_long = [1, b'm', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    let cases: [(u8, &[u8]); 8] = [
        (b'x', b""),
        (b'h', b""),
        (b'r', b"\x09garbage and more"),
        (b'r', &flipped),
        (b'r', &no_kind),
        (b'r', &no_control),
        (b'r', &too_long),
        (b'f', &too_long),
    ];
    for (count, (kind, bytes)) in (1..).zip(cases) {
        let (connection, hello) = rogue.greet(&a).await;
        hello.expect("let in");
        let mut stream = connection.open_uni().await.expect("there is room");
        let _ = stream.write_all(&[&[kind], bytes].concat()).await;
        let words = words(&connection).await;
        until(|| a.refused("malformed", "this") == count).await;
        assert!(!words.is_empty());
    }
    // A stream both ways is for snapshots, and a second one for messages never is.
    let (connection, hello) = rogue.greet(&a).await;
    hello.expect("let in");
    say(&connection, b"x").await;
    until(|| a.refused("malformed", "this") == 9).await;
    let (connection, hello) = rogue.greet(&a).await;
    hello.expect("let in");
    for _ in 0..2 {
        let mut stream = connection.open_uni().await.expect("there is room");
        stream.write_all(b"r").await.expect("it is taken");
        // Unfinished, and not reset by being dropped.
        std::mem::forget(stream);
    }
    until(|| a.refused("malformed", "this") == 10).await;
    still_talk(&mut a, &mut c, &record).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_alpn_is_refused() {
    let ([mut a, mut c], record) = victim().await;
    let mut rogue = Rogue::new(&a);
    for alpn in [Some(b"h3".to_vec()), None] {
        let made = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).expect("made");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3");
        let mut tls = tls.with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = alpn.into_iter().collect();
        let client = QuicClientConfig::try_from(tls).expect("TLS 1.3");
        rogue.client = Arc::new(client);
        let error = rogue.connect(&a).await.map(|_| ());
        error.expect_err("it is refused");
    }
    until(|| a.refused("alpn", "this") == 2).await;
    still_talk(&mut a, &mut c, &record).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_count_a_refusal() {
    let mut a = Member::new("a");
    let mut b = Member::new("b");
    a.expects(&b.me());
    b.knows(&[&a.me()]);
    b.options.token = "other".to_owned();
    a.start();
    b.start();
    a.has_refused("token").await;
    until(|| b.refused("token", "peer") > 0).await;
    assert!(b.metrics.dials_failed.get_or_create(&label("a")).get() > 0 || !b.is_connected("a"));
}

fn label(peer: &str) -> crate::metrics::PeerLabel {
    crate::metrics::PeerLabel {
        peer: peer.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_that_leads_to_another_member_is_refused() {
    let mut a = Member::new("a");
    let mut b = Member::new("b");
    let mut c = Member::new("c");
    let mut wrong = c.me();
    wrong.peer_urls = b.me().peer_urls;
    a.knows(&[&b.me(), &wrong]);
    b.expects(&a.me());
    c.expects(&a.me());
    let mut own = a.me();
    own.name = "b".to_owned();
    c.knows(&[&own]);
    a.start();
    b.start();
    a.connected("b").await;
    b.has_refused("identity").await;
    until(|| a.refused("identity", "peer") > 2).await;
    assert_eq!(a.metrics.connected.get(), 1);
    // And one that leads to the member itself.
    let mut itself = Member::new("d");
    let mut own = itself.me();
    own.name = "a".to_owned();
    itself.knows(&[&own]);
    itself.start();
    itself.has_refused("identity").await;
    assert!(a.is_connected("b"));
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_of_garbage_harm_nobody() {
    let ([mut a, mut c], record) = victim().await;
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let mut state = 7_u64;
    for number in 0..10_000_u64 {
        let mut datagram = Vec::with_capacity(1200);
        while datagram.len() < 1200 {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            datagram.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
        }
        if number % 2 == 0 {
            // The first packet of a handshake, as far as its header tells.
            datagram[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
        }
        datagram.truncate(usize::try_from(state % 1200).expect("small").max(1));
        // A full socket loses some, as it may.
        let _ = socket.send_to(&datagram, a.address());
        if number % 1000 == 0 {
            still_talk(&mut a, &mut c, &record).await;
        }
    }
    still_talk(&mut a, &mut c, &record).await;
    // And who is new is let in.
    let rogue = Rogue::new(&a);
    until(|| a.transport().network.handshakes.available_permits() > 0).await;
    rogue.greet(&a).await.1.expect("let in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_the_unproved_is_bounded() {
    let mut a = Member::new("a");
    a.expects(&Member::new("b").me());
    a.limits().handshakes = 4;
    a.start();
    let rogue = Rogue::new(&a);
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(rogue.connect(&a).await.expect("let in"));
    }
    let fifth = rogue.connect(&a).await.map(|_| ());
    fifth.expect_err("there is no room");
    assert!(a.dropped("handshake", "full") > 0);
    let gone = held.pop().expect("four");
    gone.close(0_u32.into(), b"");
    until(|| a.transport().network.handshakes.available_permits() > 0).await;
    let (_connection, hello) = rogue.greet(&a).await;
    hello.expect("there is room, and its address is proved by a retry");
}
