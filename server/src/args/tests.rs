use quorate_runtime::PeerTls;

use super::*;

fn asked(args: &[&str], environment: &[(&str, &str)]) -> Result<Asked, UsageError> {
    parse(
        args.iter().map(OsString::from),
        environment
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value))),
    )
}

fn options(args: &[&str], environment: &[(&str, &str)]) -> Options {
    match asked(args, environment) {
        Ok(Asked::Serve(options)) => *options,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn check_refused(args: &[&str], expected: &str) {
    let error = asked(args, &[]).expect_err("a command line that cannot be served");
    assert_eq!(error.to_string(), expected, "{args:?}");
    assert!(!error.to_string().contains('\n'), "one line");
}

#[test]
fn without_flags_it_serves_one_member_here() {
    let options = options(&[], &[]);
    assert_eq!(options.data_dir.to_str(), Some("default.quorate"));
    assert_eq!(options.listen.len(), 1);
    assert_eq!(options.listen[0].addresses[0].to_string(), "127.0.0.1:2379");
    assert_eq!(options.advertise_client_urls, ["http://127.0.0.1:2379"]);
    assert_eq!(options.history_age, std::time::Duration::from_secs(259_200));
    assert_eq!(options.history_bytes, 512 << 20);
    assert_eq!(options.history_events, 0);
    assert_eq!(options.value_bytes_max, 1_572_864);
    assert!(options.cluster.may_format);
    assert!(options.warnings.is_empty());
}

#[test]
fn every_spelling_of_a_flag_counts() {
    for args in [
        &["--name", "a"][..],
        &["--name=a"],
        &["-name", "a"],
        &["-name=a"],
        &["--name=b", "-name", "a"],
    ] {
        assert_eq!(options(args, &[]).cluster.name, "a", "{args:?}");
        assert_eq!(options(args, &[]).data_dir.to_str(), Some("a.quorate"));
    }
    for args in [
        &["--debug"][..],
        &["-debug"],
        &["--debug=True"],
        &["-debug=1"],
    ] {
        assert_eq!(options(args, &[]).log_level, "debug", "{args:?}");
    }
    assert_eq!(options(&["--debug", "--debug=F"], &[]).log_level, "info");
}

#[test]
fn a_flag_beats_the_environment_and_quorate_beats_etcd() {
    let etcd = ("ETCD_NAME", "e");
    let quorate = ("QUORATE_NAME", "q");
    assert_eq!(options(&[], &[etcd]).cluster.name, "e");
    assert_eq!(options(&[], &[quorate, etcd]).cluster.name, "q");
    assert_eq!(options(&["-name=f"], &[quorate, etcd]).cluster.name, "f");
    let empty = options(&[], &[("ETCD_HISTORY_EVENTS", "")]);
    assert_eq!(empty.history_events, 0);
    assert_eq!(options(&[], &[("ETCD_DEBUG", "true")]).log_level, "debug");
}

#[test]
fn what_has_no_effect_is_taken_with_one_warning() {
    let given = options(
        &[
            "--enable-v2",
            "--snapshot-count",
            "10000",
            "-max-wals=5",
            "--enable-v2=true",
            "--name=x",
        ],
        &[
            ("ETCD_AUTO_COMPACTION_RETENTION", "1"),
            ("ETCD_UNKNOWN_THING", "1"),
            ("HOME", "/"),
        ],
    );
    assert_eq!(given.cluster.name, "x");
    assert_eq!(
        given.warnings,
        [
            "flags without effect here: --auto-compaction-retention --enable-v2 --max-wals \
             --snapshot-count",
            "variables of the environment that name no flag: ETCD_UNKNOWN_THING",
        ]
    );
}

#[test]
fn what_cannot_be_served_is_refused_in_one_line() {
    check_refused(&["--nme=x"], "unknown flag --nme: did you mean --name?");
    check_refused(&["--zzzzzz"], "unknown flag --zzzzzz: see quorate --help");
    check_refused(&["serve"], "\"serve\" is no flag: see quorate --help");
    check_refused(&["--name"], "--name needs a value");
    check_refused(
        &["--history-events=x"],
        "--history-events=x: expected a number",
    );
    check_refused(
        &["--local-reads=x"],
        "--local-reads=x: expected one of asked, never",
    );
    check_refused(
        &["--cert-file=x"],
        "--cert-file is a flag of etcd that this version of quorate does not serve",
    );
    check_refused(
        &["--cors=https://example.com"],
        "--cors=https://example.com is not served by this version of quorate, only --cors=*",
    );
    check_refused(
        &["--strict-reconfig-check=false"],
        "--strict-reconfig-check=false is not served: members change safely only",
    );
    check_refused(
        &["--election-timeout=200"],
        "--heartbeat-interval must be above 0, and --election-timeout at least five times as long \
         and at most 50000: they are 100 and 200 ms",
    );
}

#[test]
fn values_out_of_range_are_refused() {
    for (flag, expected) in [
        (
            "--wal-segment-bytes=18446744073709551615",
            "must be at most",
        ),
        ("--wal-segment-bytes=1", "must be at least 1048576"),
        (
            "--disk-reserve-bytes=18446744073709551615",
            "must be at most",
        ),
        ("--worker-threads=999999999999", "must be at most 1024"),
        ("--max-connections=0", "must be at least 1"),
        ("--max-request-bytes=0", "must be at least 1"),
        ("--max-request-bytes=10485761", "must be at most 10485760"),
        ("--history-events=-1", "expected a number"),
    ] {
        let error = asked(&[flag], &[]).expect_err(flag).to_string();
        let name = flag.split('=').next().expect("a name");
        assert!(error.starts_with(name), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_bad_variable_of_the_environment_is_named() {
    for (variable, value, expected) in [
        (
            "ETCD_HEARTBEAT_INTERVAL",
            "abc",
            "--heartbeat-interval=abc: expected a number of milliseconds \
             (ETCD_HEARTBEAT_INTERVAL is set)",
        ),
        (
            "QUORATE_MAX_CONNECTIONS",
            "0",
            "--max-connections must be at least 1 (QUORATE_MAX_CONNECTIONS is set)",
        ),
        (
            "ETCD_LISTEN_CLIENT_URLS",
            "foo",
            "--listen-client-urls: foo: a URL must begin with http:// \
             (ETCD_LISTEN_CLIENT_URLS is set)",
        ),
        (
            "ETCD_CERT_FILE",
            "x",
            "--cert-file is a flag of etcd that this version of quorate does not serve \
             (ETCD_CERT_FILE is set)",
        ),
    ] {
        let error = asked(&[], &[(variable, value)]).expect_err(variable);
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn what_is_not_utf_8_is_called_so() {
    use std::os::unix::ffi::OsStringExt as _;
    let bad = OsString::from_vec(b"--name=\xff".to_vec());
    let error = parse([bad], []).expect_err("no name");
    assert!(error.to_string().contains("not UTF-8"), "{error}");
}

#[test]
fn urls_to_listen_on_are_addresses() {
    let listen = |url: &str| options(&["--listen-client-urls", url], &[]).listen;
    let texts = |listen: &[Listen]| {
        let all = listen.iter().flat_map(|listen| &listen.addresses);
        all.map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        texts(&listen("http://localhost:1,http://[::1]:2/")),
        ["127.0.0.1:1", "[::1]:1", "[::1]:2"]
    );
    for (url, why) in [
        (
            "https://127.0.0.1:1",
            "TLS is not served by this version of quorate",
        ),
        ("127.0.0.1:1", "a URL must begin with http://"),
        (
            "http://127.0.0.1",
            "a URL must have the form http://host:port",
        ),
        ("http://127.0.0.1:1/x", "a URL must not contain a path"),
        (
            "http://example.com:1",
            "listening needs an IP address or localhost, not a name",
        ),
    ] {
        let expected = format!("--listen-client-urls: {url}: {why}");
        check_refused(&["--listen-client-urls", url], &expected);
    }
    let everywhere = options(&["--listen-client-urls=http://0.0.0.0:1"], &[]);
    assert_eq!(everywhere.warnings.len(), 1);
}

/// The flags of member a of three.
fn of_three<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let cluster = "--initial-cluster=a=http://h:1,b=http://h:2,c=http://h:3/,a=http://h:4";
    let told = "--initial-advertise-peer-urls=http://h:4,http://h:1";
    let heard = "--listen-peer-urls=http://127.0.0.1:1,http://127.0.0.1:4";
    [&["--name=a", cluster, told, heard], more].concat()
}

fn check_founders_refused(args: &[&str], expected: &str) {
    let error = options(args, &[]).cluster.check_founders();
    let error = error.expect_err("a cluster that cannot be founded");
    assert_eq!(error.to_string(), expected, "{args:?}");
}

#[test]
fn founders_are_read_from_the_initial_cluster() {
    let three = options(&of_three(&[]), &[]).cluster;
    assert_eq!(three.check_founders(), Ok(()));
    assert_eq!(three.members["a"], ["http://h:1", "http://h:4"]);
    assert_eq!(three.members["c"], ["http://h:3"]);
    assert_eq!(three.members.len(), 3);
    assert_eq!(three.listen.len(), 2);
    let alone = options(&["--name=x"], &[]).cluster;
    assert_eq!(alone.check_founders(), Ok(()));
    assert_eq!(alone.members["x"], ["http://localhost:2380"]);
    for text in ["a", "=http://h:1"] {
        let expected = format!("--initial-cluster: {text:?} is not NAME=URL");
        check_refused(&["--name=a", "--initial-cluster", text], &expected);
    }
}

#[test]
fn a_cluster_that_contradicts_itself_is_not_founded() {
    check_founders_refused(
        &["--initial-cluster=b=http://h:2", "--name=a"],
        "--initial-cluster does not name this member, \"a\"",
    );
    check_founders_refused(
        &of_three(&["--initial-advertise-peer-urls=http://h:9"]),
        "--initial-cluster has http://h:1,http://h:4 for this member, \"a\", but \
         --initial-advertise-peer-urls is http://h:9: they must be the same",
    );
    check_founders_refused(
        &of_three(&["--initial-cluster=a=http://h:1,a=http://h:4,b=http://h:1"]),
        "--initial-cluster has http://h:1 for both \"a\" and \"b\": each member needs \
         URLs of its own",
    );
    check_founders_refused(
        &of_three(&["--initial-cluster=a=http://h:1,a=http://h:4,b=http://h:2,b=http://h:2"]),
        "--initial-cluster has http://h:2 twice for \"b\"",
    );
    check_founders_refused(
        &of_three(&["--initial-cluster=a=http://h:1,a=http://h:4,b=https://h:2"]),
        "--initial-cluster has https://h:2, and --listen-peer-urls is \
         http://127.0.0.1:1,http://127.0.0.1:4: all members speak http, or all speak https",
    );
}

#[test]
fn peers_speak_tls_where_their_urls_say_so() {
    let https = "--listen-peer-urls=https://127.0.0.1:1";
    let (cert, key) = ("--peer-cert-file=c.pem", "--peer-key-file=k.pem");
    let tls = |args: &[&str]| options(args, &[]).cluster.tls;
    assert_eq!(tls(&[]), PeerTls::SelfMade);
    assert_eq!(tls(&[https, "-peer-auto-tls"]), PeerTls::SelfMade);
    let files = |trusted_ca: Option<&str>, client_cert_auth| PeerTls::Files {
        cert: "c.pem".into(),
        key: "k.pem".into(),
        trusted_ca: trusted_ca.map(Into::into),
        client_cert_auth,
        allowed_cn: None,
    };
    assert_eq!(tls(&[https, cert, key]), files(None, false));
    let ca = "--peer-trusted-ca-file=ca.pem";
    assert_eq!(tls(&[https, cert, key, ca]), files(Some("ca.pem"), false));
    let both = files(Some("ca.pem"), true);
    assert_eq!(
        tls(&[https, cert, key, ca, "--peer-client-cert-auth"]),
        both
    );
    assert_eq!(tls(&[https, cert, key, "--peer-ca-file=ca.pem"]), both);
    let unused = options(&[cert, key], &[]);
    assert_eq!(unused.cluster.tls, PeerTls::SelfMade);
    assert_eq!(
        unused.warnings,
        ["peer URLs are http, so --peer-cert-file and --peer-key-file are not used"]
    );
}

#[test]
fn contradictions_about_tls_between_peers_are_refused() {
    let https = "--listen-peer-urls=https://127.0.0.1:1";
    check_refused(
        &[https],
        "--listen-peer-urls is https: give --peer-cert-file and --peer-key-file, or \
         --peer-auto-tls",
    );
    check_refused(
        &[https, "--peer-cert-file=c"],
        "--peer-cert-file needs --peer-key-file beside it",
    );
    check_refused(
        &["--listen-peer-urls=https://127.0.0.1:1,http://127.0.0.1:2"],
        "--listen-peer-urls: https://127.0.0.1:1,http://127.0.0.1:2: all of them must be http, or \
         all https",
    );
    for flag in [
        "--peer-trusted-ca-file=ca",
        "--peer-client-cert-auth",
        "--peer-cert-allowed-cn=x",
    ] {
        let name = flag.split('=').next().expect("a name");
        let expected = format!(
            "{name} would protect nothing: --listen-peer-urls is http, so give https URLs \
             there, in --initial-advertise-peer-urls and in --initial-cluster"
        );
        check_refused(&[flag], &expected);
        let expected = format!(
            "{name} cannot be served with --peer-auto-tls, whose certificates nobody can check: \
             give --peer-cert-file and --peer-key-file"
        );
        check_refused(&[https, "--peer-auto-tls", flag], &expected);
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for (arg, expected) in [
        ("--help", "--listen-client-urls <URLS>"),
        ("-help", "--history-age <TIME>"),
        ("-h", "--name <NAME>"),
        ("--version", concat!("quorate ", env!("CARGO_PKG_VERSION"))),
    ] {
        match asked(&[arg], &[]) {
            Ok(Asked::Print(text)) => assert!(text.contains(expected), "{arg}: {text}"),
            other => panic!("{arg}: {other:?}"),
        }
    }
}
