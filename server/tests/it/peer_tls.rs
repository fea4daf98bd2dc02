//! Peers that prove themselves by certificates, in processes of their own.

use std::fs;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tokio::sync::watch;

use crate::client::Client;
use crate::cluster::{Cluster, has, write};

/// Who signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("signed"))
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for loopback and its key, both in PEM.
    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.0).expect("signed");
        (cert.pem(), key.serialize_pem())
    }
}

/// Puts a certificate with its key where member `place` has it.
fn give(cluster: &Cluster, place: usize, (cert, key): (String, String)) {
    replace(cluster, &format!("m{place}.key"), &key);
    replace(cluster, &format!("m{place}.crt"), &cert);
}

/// As whoever rolls certificates should: whole or not at all.
fn replace(cluster: &Cluster, name: &str, text: &str) {
    let new = cluster.path(&format!("{name}.new"));
    fs::write(&new, text).expect("written");
    fs::rename(new, cluster.path(name)).expect("renamed");
}

fn flags(cluster: &Cluster, place: usize) -> Vec<String> {
    let path = |name: String| cluster.path(&name).display().to_string();
    vec![
        format!("--peer-cert-file={}", path(format!("m{place}.crt"))),
        format!("--peer-key-file={}", path(format!("m{place}.key"))),
        format!("--peer-trusted-ca-file={}", path("ca.crt".to_owned())),
        "--peer-client-cert-auth".to_owned(),
        "--peer-cert-allowed-cn=quorate".to_owned(),
    ]
}

/// Three members with certificates of one CA.
async fn secured() -> (Cluster, Authority) {
    let mut cluster = Cluster::new(3, &["--log-format=json"]).secured();
    let authority = Authority::new("one");
    replace(&cluster, "ca.crt", &authority.pem());
    for place in 0..3 {
        give(&cluster, place, authority.sign("quorate", |_| {}));
        cluster.set_flags(place, flags(&cluster, place));
        cluster.run(place);
    }
    cluster.leader().await;
    (cluster, authority)
}

/// Restarts a member and waits until it has caught up.
async fn restart(cluster: &mut Cluster, place: usize, value: &str) {
    assert_eq!(cluster.stop(place).await, Some(0), "{}", cluster.log(place));
    cluster.run(place);
    has(cluster, place, value).await;
}

/// Writes to one address until told to end: how many writes there were, and how many failed.
async fn write_on(mut client: Client, mut end: watch::Receiver<bool>) -> (u32, u32) {
    let (mut all, mut failed) = (0, 0);
    while !*end.borrow_and_update() {
        let answer = client.ask("PUT", "/v2/keys/load", "value=x").await;
        all += 1;
        failed += u32::from(!matches!(answer.status, 200 | 201));
    }
    (all, failed)
}

#[tokio::test]
async fn certificates_and_authorities_are_rolled_without_a_failed_write() {
    let (mut cluster, old) = secured().await;
    write(&cluster, "k").await;
    let leader = cluster.leader().await;
    let (end, ended) = watch::channel(false);
    let writing = tokio::spawn(write_on(cluster.client(leader).await, ended));
    let new = Authority::new("two");
    let both = format!("{}{}", old.pem(), new.pem());
    let follower = (leader + 1) % 3;
    // New connections are what counts, so a follower makes some after each step.
    for (bundle, signer) in [(both.as_str(), &old), (&both, &new), (&new.pem(), &new)] {
        let since: Vec<_> = (0..3).map(|place| cluster.log(place).len()).collect();
        replace(&cluster, "ca.crt", bundle);
        for place in 0..3 {
            give(&cluster, place, signer.sign("quorate", |_| {}));
        }
        for (place, since) in since.into_iter().enumerate() {
            let words = "have changed: new connections use them";
            cluster.logs(place, since, words).await;
        }
        restart(&mut cluster, follower, "k").await;
    }
    end.send_replace(true);
    let (all, failed) = writing.await.expect("no panic");
    assert!(all > 0);
    assert_eq!(failed, 0, "of {all}");
    assert_eq!(cluster.leader().await, leader);
}

#[tokio::test]
async fn who_cannot_prove_itself_is_kept_out_and_the_log_says_why() {
    let (mut cluster, good) = secured().await;
    write(&cluster, "k").await;
    let stray = (cluster.leader().await + 1) % 3;
    let other = (stray + 1) % 3;
    assert_eq!(cluster.stop(stray).await, Some(0));
    let past = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    };
    let auto = vec!["--peer-auto-tls".to_owned()];
    let files = flags(&cluster, stray);
    let strangers = Authority::new("strangers");
    let cases = [
        (None, auto, "tls_no_certificate"),
        (
            Some(strangers.sign("quorate", |_| {})),
            files.clone(),
            "tls_unknown_ca",
        ),
        (
            Some(good.sign("quorate", past)),
            files.clone(),
            "tls_expired",
        ),
        (Some(good.sign("else", |_| {})), files.clone(), "tls_cn"),
    ];
    for (pair, flags, reason) in cases {
        if let Some(pair) = pair {
            give(&cluster, stray, pair);
        }
        cluster.set_flags(stray, flags);
        let since = cluster.log(stray).len();
        cluster.run(stray);
        // Both sides say so: one may act on the certificate, the other sees that somebody tries.
        let words = format!("\"reason\":\"{reason}\"");
        cluster.logs(other, 0, &words).await;
        cluster.logs(stray, since, &words).await;
        let name = format!("quorate_peer_refused_total{{reason=\"{reason}\",by=\"this\"}}");
        let counted = || async { cluster.counts(other, &name).await.then_some(()) };
        cluster.until(&name, counted).await;
        cluster.kill(stray);
        write(&cluster, "k").await;
    }
    // Mended, it is let in.
    give(&cluster, stray, good.sign("quorate", |_| {}));
    cluster.set_flags(stray, files);
    cluster.run(stray);
    write(&cluster, "mended").await;
    has(&cluster, stray, "mended").await;

    // A good certificate does not make another disk a member.
    cluster.kill(stray);
    fs::remove_dir_all(cluster.data_dir(stray)).expect("removed");
    cluster.run(stray);
    assert_eq!(cluster.ended(stray).await, Some(1));
    write(&cluster, "on").await;
}

#[tokio::test]
async fn members_make_certificates_of_their_own_where_nobody_checks() {
    let mut cluster = Cluster::new(3, &["--peer-auto-tls"]).secured();
    for place in 0..3 {
        cluster.run(place);
    }
    cluster.leader().await;
    write(&cluster, "k").await;
    for place in 0..3 {
        has(&cluster, place, "k").await;
        assert!(
            cluster.log(place).contains("--peer-auto-tls"),
            "{}",
            cluster.log(place)
        );
    }
}
