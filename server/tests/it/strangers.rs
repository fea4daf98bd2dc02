//! Who reaches the peer port and is no member.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::time::timeout;

use crate::cluster::{Cluster, PATIENCE, write};

#[tokio::test]
async fn members_of_another_token_are_refused_and_counted() {
    let cluster = Cluster::start(3, &[]).await;
    let scratch = crate::harness::Scratch::new();
    let peers = format!("m0=http://{},m9=http://127.0.0.1:1", cluster.peers(0));
    let mut stranger = crate::process::command(
        &scratch.join("data"),
        &[
            "--name=m9",
            "--listen-peer-urls=http://127.0.0.1:0",
            "--initial-advertise-peer-urls=http://127.0.0.1:1",
            "--initial-cluster-token=another",
            &format!("--initial-cluster={peers}"),
        ],
    );
    let stranger = stranger.stderr(std::process::Stdio::null()).spawn();
    let mut stranger = stranger.expect("the program runs");
    let name = "quorate_peer_refused_total{reason=\"token\",by=\"this\"}";
    let counted = || async { cluster.counts(0, name).await.then_some(()) };
    cluster.until(name, counted).await;
    stranger.kill().expect("killed");
    stranger.wait().expect("dead");
    write(&cluster, "k").await;
}

/// Trusts every server, as members without peer TLS do before the hello.
#[derive(Debug)]
struct Credulous(rustls::crypto::CryptoProvider);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = self.0.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// Dials a peer port with this protocol, and says `hello` where it is let in.
async fn dial(at: SocketAddr, alpn: &[u8], hello: &[u8]) -> quinn::ConnectionError {
    let provider = rustls::crypto::ring::default_provider();
    let verifier = Arc::new(Credulous(provider.clone()));
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let made = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).expect("made");
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let tls = tls.with_client_auth_cert(vec![made.cert.der().clone()], key.into());
    let mut tls = tls.expect("a certificate and its key");
    tls.alpn_protocols = vec![alpn.to_vec()];
    let tls = QuicClientConfig::try_from(tls).expect("TLS 1.3");
    let config = quinn::ClientConfig::new(Arc::new(tls));
    let here = SocketAddr::from(([127, 0, 0, 1], 0));
    let endpoint = quinn::Endpoint::client(here).expect("a socket");
    let dialing = endpoint
        .connect_with(config, at, "x")
        .expect("it is dialed");
    let connection = match dialing.await {
        Ok(connection) => connection,
        Err(error) => return error,
    };
    // It may be closed already: that is what is waited for.
    if let Ok((mut stream, _reply)) = connection.open_bi().await {
        let _ = stream.write_all(hello).await;
        let _ = stream.finish();
    }
    connection.closed().await
}

#[tokio::test]
async fn raw_quic_clients_are_refused_and_counted() {
    let cluster = Cluster::start(3, &[]).await;
    for (alpn, hello, reason) in [
        (&b"h3"[..], &b""[..], "alpn"),
        (b"quorate/1", b"hello, who are you?", "malformed"),
    ] {
        let dialed = timeout(PATIENCE, dial(cluster.peers(0), alpn, hello)).await;
        let error = dialed.expect("a stranger is sent away");
        let name = format!("quorate_peer_refused_total{{reason=\"{reason}\",by=\"this\"}}");
        let counted = || async { cluster.counts(0, &name).await.then_some(()) };
        cluster
            .until(&format!("{name} after {error}"), counted)
            .await;
    }
    write(&cluster, "k").await;
}

/// Datagrams that mean nothing, of which some look like the first of a connection.
fn throw(at: SocketAddr, end: &AtomicBool) -> u64 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let (mut datagram, mut thrown) = ([0_u8; 1200], 0_u64);
    while !end.load(Ordering::Relaxed) {
        for _ in 0..100 {
            thrown += 1;
            let (first, length) = match thrown % 3 {
                0 => (0xc3, 1200),
                1 => (0x40, 40),
                _ => (u8::try_from(thrown % 256).unwrap_or_default(), 300),
            };
            let seed = thrown.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
            datagram
                .iter_mut()
                .zip(seed.iter().cycle())
                .for_each(|(to, from)| *to = *from);
            datagram[0] = first;
            datagram[1..5].copy_from_slice(&[0, 0, 0, 1]);
            let _ = socket.send_to(&datagram[..length], at);
        }
        thread::sleep(Duration::from_millis(10));
    }
    thrown
}

#[tokio::test]
async fn garbage_on_the_peer_port_disturbs_no_client() {
    let cluster = Cluster::start(3, &[]).await;
    let leader = cluster.leader().await;
    let end = Arc::new(AtomicBool::new(false));
    let (at, told) = (cluster.peers(leader), Arc::clone(&end));
    let throwing = thread::spawn(move || throw(at, &told));
    let mut client = cluster.client(leader).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        let answer = client.ask("PUT", "/v2/keys/k", "value=x").await;
        assert!(matches!(answer.status, 200 | 201), "{}", answer.body);
    }
    end.store(true, Ordering::Relaxed);
    assert!(throwing.join().expect("no panic") > 0);
    assert_eq!(cluster.leader().await, leader, "nobody was missed");
}
