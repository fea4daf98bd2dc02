use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType,
    date_time_ymd,
};

use super::*;
use crate::testing::Scratch;
use crate::transport::dial::dial;
use crate::transport::refusal::Failure;

/// Signs certificates.
struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("signed"))
    }

    /// A certificate and its key, in PEM.
    fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "member");
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        params.subject_alt_names = vec![SanType::IpAddress(host)];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.0).expect("signed");
        (cert.pem(), key.serialize_pem())
    }
}

/// The files of one member.
struct Files {
    scratch: Scratch,
    client_cert_auth: bool,
    allowed_cn: Option<String>,
}

impl Files {
    fn new(ca: &Ca, pair: &(String, String)) -> Self {
        let files = Self {
            scratch: Scratch::new(),
            client_cert_auth: true,
            allowed_cn: None,
        };
        files.write("ca", &ca.0.pem());
        files.replace(pair);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn write(&self, name: &str, pem: &str) {
        fs::write(self.path(name), pem).expect("written");
    }

    fn replace(&self, (cert, key): &(String, String)) {
        self.write("cert", cert);
        self.write("key", key);
    }

    fn tls(&self) -> PeerTls {
        PeerTls::Files {
            cert: self.path("cert"),
            key: self.path("key"),
            trusted_ca: Some(self.path("ca")),
            client_cert_auth: self.client_cert_auth,
            allowed_cn: self.allowed_cn.clone(),
        }
    }
}

/// Two members of which B dials A.
fn pair(of_a: PeerTls, of_b: PeerTls) -> [Member; 2] {
    let mut a = Member::new("a");
    let mut b = Member::new("b");
    a.expects(&b.me());
    b.knows(&[&a.me()]);
    for (member, tls) in [(&mut a, of_a), (&mut b, of_b)] {
        member.options.tls = tls;
        member.limits().files_poll = Duration::from_millis(10);
        member.start();
    }
    [a, b]
}

async fn refused_by(member: &Member, reason: &'static str, by: &'static str) {
    let refused = timeout(PATIENCE, async {
        while member.refused(reason, by) == 0 {
            sleep(TICK).await;
        }
    });
    if refused.await.is_err() {
        panic!("{reason} by {by} is not among {:?}", member.metrics.refused);
    }
}

/// A refuses the certificate that B shows for `reason`, and both know.
async fn check_client(of_a: &Files, of_b: PeerTls, reason: &'static str) {
    let [a, b] = pair(of_a.tls(), of_b);
    refused_by(&a, reason, "this").await;
    refused_by(&b, reason, "peer").await;
    assert!(!a.is_connected("b"));
}

/// B refuses the certificate that A shows for `reason`, and both know.
async fn check_server(of_a: PeerTls, of_b: &Files, reason: &'static str) {
    let [a, b] = pair(of_a, of_b.tls());
    refused_by(&b, reason, "this").await;
    refused_by(&a, reason, "peer").await;
    assert!(!b.is_connected("a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_one_ca_meet() {
    let ca = Ca::new("ca");
    let [of_a, of_b] = [(), ()].map(|()| {
        let mut files = Files::new(&ca, &ca.sign(|_| {}));
        files.allowed_cn = Some("member".to_owned());
        files
    });
    let [mut a, mut b] = pair(of_a.tls(), of_b.tls());
    let record = record(&[&a, &b]);
    a.transport().born(&record);
    b.transport().born(&record);
    still_talk(&mut a, &mut b, &record).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_certificate_is_refused() {
    let ca = Ca::new("ca");
    let files = Files::new(&ca, &ca.sign(|_| {}));
    check_client(&files, PeerTls::SelfMade, "tls_no_certificate").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_ca_is_refused() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let files = Files::new(&ca, &ca.sign(|_| {}));
    let strange = Files::new(&ca, &other.sign(|_| {}));
    check_client(&files, strange.tls(), "tls_unknown_ca").await;
    check_server(strange.tls(), &files, "tls_unknown_ca").await;
    check_server(PeerTls::SelfMade, &files, "tls_unknown_ca").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_out_of_its_time_is_refused() {
    let ca = Ca::new("ca");
    let files = Files::new(&ca, &ca.sign(|_| {}));
    let expired = ca.sign(|params| params.not_after = date_time_ymd(2001, 1, 1));
    let too_new = ca.sign(|params| params.not_before = date_time_ymd(3001, 1, 1));
    for pair in [expired, too_new] {
        let wrong = Files::new(&ca, &pair);
        check_client(&files, wrong.tls(), "tls_expired").await;
        check_server(wrong.tls(), &files, "tls_expired").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_host_is_refused() {
    let ca = Ca::new("ca");
    let files = Files::new(&ca, &ca.sign(|_| {}));
    let elsewhere = ca.sign(|params| {
        let host = "elsewhere.example".try_into().expect("a name");
        params.subject_alt_names = vec![SanType::DnsName(host)];
    });
    let wrong = Files::new(&ca, &elsewhere);
    check_server(wrong.tls(), &files, "tls_wrong_host").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_common_name_is_refused() {
    let ca = Ca::new("ca");
    let mut files = Files::new(&ca, &ca.sign(|_| {}));
    files.allowed_cn = Some("member".to_owned());
    let stranger = ca.sign(|params| {
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "stranger");
    });
    let nameless = ca.sign(|params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
    });
    for pair in [stranger, nameless] {
        let wrong = Files::new(&ca, &pair);
        check_client(&files, wrong.tls(), "tls_cn").await;
        check_server(wrong.tls(), &files, "tls_cn").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_was_seen_and_what_was_wanted() {
    let ca = Ca::new("ca");
    let good = || Files::new(&ca, &ca.sign(|_| {}));
    let named = |name: &str| {
        let mut files = good();
        files.allowed_cn = Some(name.to_owned());
        files
    };
    let elsewhere = ca.sign(|params| {
        let host = "elsewhere.example".try_into().expect("a name");
        params.subject_alt_names = vec![SanType::DnsName(host)];
    });
    let elsewhere = Files::new(&ca, &elsewhere);
    let expired = ca.sign(|params| params.not_after = date_time_ymd(2001, 1, 1));
    let expired = Files::new(&ca, &expired);
    let strange = Files::new(&Ca::new("other"), &Ca::new("other").sign(|_| {}));

    // Each as the dialer hears it, whoever refuses.
    let cn = ["common name", "\"member\"", "\"king\""];
    check_words(&named("king").tls(), &good().tls(), false, &cn).await;
    check_words(&good().tls(), &named("king").tls(), true, &cn).await;
    let host = ["not for the host", "127.0.0.1", "elsewhere.example"];
    check_words(&elsewhere.tls(), &good().tls(), true, &host).await;
    let time = ["expired or not yet valid", "978307200"];
    check_words(&good().tls(), &expired.tls(), false, &time).await;
    check_words(&expired.tls(), &good().tls(), true, &time).await;
    let none = ["this member's certificate is missing"];
    check_words(&good().tls(), &PeerTls::SelfMade, false, &none).await;
    let authority = ["the peer's certificate", "--peer-trusted-ca-file"];
    check_words(&strange.tls(), &good().tls(), true, &authority).await;
}

/// A dial of B's at A is refused, by B itself or by A, in words with all `parts`.
async fn check_words(of_a: &PeerTls, of_b: &PeerTls, by_dialer: bool, parts: &[&str]) {
    let [a, b] = pair(of_a.clone(), of_b.clone());
    let network = &b.transport().network;
    let peer = &network.all_peers()[0];
    let failure = dial(network, peer, "127.0.0.1", a.address()).await;
    let words = match failure.map(|_| ()) {
        Err(Failure::Refused(refusal)) if by_dialer => refusal.words,
        Err(Failure::RefusedByPeer(refusal)) if !by_dialer => refusal.words,
        other => panic!("not as expected: {other:?}"),
    };
    for part in parts {
        assert!(words.contains(part), "{part} is not in: {words}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_rolled_under_load_break_nothing_and_count_for_new_connections() {
    let ca = Ca::new("ca");
    let of_a = Files::new(&ca, &ca.sign(|_| {}));
    let of_b = Files::new(&ca, &ca.sign(|_| {}));
    let [mut a, mut b] = pair(of_a.tls(), of_b.tls());
    let record = record(&[&a, &b]);
    let (to_a, to_b) = (id(&record, &a), id(&record, &b));
    a.transport().born(&record);
    b.transport().born(&record);
    a.connected("b").await;
    b.connected("a").await;
    let link = b.transport().network.all_peers()[0].member();
    let link = link.expect("connected");

    // A broken replacement changes nothing.
    of_a.write("cert", "nothing of use");
    // Both members move to another CA while they talk.
    let new_ca = Ca::new("new");
    for (number, files) in (1..).zip([&of_a, &of_b]) {
        for count in 0..200 {
            b.send(to_a, number * 1000 + count);
            a.send(to_b, number * 1000 + count);
        }
        files.replace(&new_ca.sign(|_| {}));
        files.write("ca", &new_ca.0.pem());
        for count in 0..200 {
            assert_eq!(a.next_message().await, (to_b, number * 1000 + count));
            assert_eq!(b.next_message().await, (to_a, number * 1000 + count));
        }
    }
    assert_eq!(link.connection.close_reason(), None, "it is the same still");

    // A newcomer of the old CA is refused, once the files were read; one of the new CA is let in.
    let old = Files::new(&ca, &ca.sign(|_| {}));
    let mut late = Member::new("b");
    late.expects(&a.me());
    late.options.tls = old.tls();
    late.start();
    let network = &late.transport().network;
    let peer = &network.all_peers()[0];
    let refused = async {
        loop {
            match dial(network, peer, "127.0.0.1", a.address()).await {
                // Let in still, since the files are being read; it is let go.
                Ok(let_in) => {
                    let_in.connection.close(0_u32.into(), b"");
                    *peer.places() = Default::default();
                }
                Err(Failure::Refused(refusal)) => return refusal.words,
                Err(Failure::RefusedByPeer(_) | Failure::Duplicate | Failure::Lost(_)) => {}
            }
        }
    };
    let words = timeout(PATIENCE, refused).await.expect("it is refused");
    assert!(words.contains("--peer-trusted-ca-file"), "{words}");
    link.connection.close(0_u32.into(), b"");
    still_talk(&mut a, &mut b, &record).await;
}

#[test]
fn files_that_are_wrong_are_named() {
    let ca = Ca::new("ca");
    let load = |files: &Files| super::super::tls::Credentials::load(files.tls());
    let check = |name: &str, pem: &str, part: &str| {
        let files = Files::new(&ca, &ca.sign(|_| {}));
        load(&files).expect("they are good");
        files.write(name, pem);
        let error = load(&files).map(|_| ()).expect_err("it is wrong");
        assert!(error.contains(part), "{error}");
        let path = files.path(name);
        assert!(error.contains(&path.display().to_string()), "{error}");
    };
    check("cert", "", "no certificate");
    check("ca", "x", "no certificate");
    check("key", "", "no private key");
    check("key", &ca.sign(|_| {}).1, "");
}

#[test]
fn a_broken_replacement_keeps_what_was_there() {
    let ca = Ca::new("ca");
    let files = Files::new(&ca, &ca.sign(|_| {}));
    let credentials = super::super::tls::Credentials::load(files.tls()).expect("good");
    assert!(credentials.refresh().is_none(), "nothing changed");
    // The certificate first: for a while its key is another's.
    let next = ca.sign(|_| {});
    files.write("cert", &next.0);
    assert!(credentials.refresh().is_none(), "half of a pair");
    files.write("key", &next.1);
    assert!(credentials.refresh().is_some(), "the other half");
    assert!(credentials.refresh().is_none(), "nothing changed");
    fs::remove_file(files.path("key")).expect("there");
    assert!(credentials.refresh().is_none());
    files.write("key", &next.1);
    assert!(credentials.refresh().is_some());
}
