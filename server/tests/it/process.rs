//! The process itself: flags, exit status, signals, and what it says when it cannot start.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use crate::client::Client;
use crate::harness::{SMALL, Scratch};

/// A server in a process of its own; killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: BufReader<ChildStderr>,
    pub(crate) address: SocketAddr,
}

impl Process {
    /// Starts it and waits until it serves.
    pub(crate) fn start(data_dir: &Path, flags: &[&str]) -> Self {
        let mut child = command(data_dir, flags)
            .arg("--log-format=json")
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut log = BufReader::new(child.stderr.take().expect("its log"));
        let (mut said, mut line) = (String::new(), String::new());
        let address = loop {
            said.push_str(&line);
            line.clear();
            let read = log.read_line(&mut line).expect("a log");
            assert!(read > 0, "it ended: {said}");
            if let Some((_, rest)) = line.split_once("\"address\":\"") {
                let (address, _) = rest.split_once('"').expect("an address");
                break address.parse().expect("an address");
            }
        };
        Self {
            child,
            log,
            address,
        }
    }

    /// Sends a signal and waits for the end: its status, and the rest of its log.
    pub(crate) fn end(mut self, signal: &str) -> (Option<i32>, String) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status();
        assert!(sent.expect("kill").success());
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).expect("its log");
        let status = self.child.wait().expect("it ends");
        (status.code(), rest)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn command(data_dir: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command
        .args(SMALL)
        .arg("--data-dir")
        .arg(data_dir)
        .args(flags);
    command.env_clear();
    command
}

/// A start that must fail with status 1: the last line of what it says.
fn refused(data_dir: &Path, flags: &[&str]) -> String {
    let output = command(data_dir, flags).output().expect("the program runs");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{said}");
    let lines = said.lines().filter(|line| line.starts_with("quorate: "));
    assert_eq!(lines.count(), 1, "{said}");
    said.lines().last().expect("a line").to_owned()
}

#[track_caller]
fn check_refused(data_dir: &Path, flags: &[&str], expected: &[&str]) {
    let said = refused(data_dir, flags);
    for words in expected {
        assert!(said.contains(words), "{words:?} not in {said:?}");
    }
}

#[tokio::test]
async fn what_was_written_is_there_after_an_orderly_end_and_after_a_kill() {
    let scratch = Scratch::new();
    let data = scratch.join("data");
    for round in 1..=4_u64 {
        let server = Process::start(&data, &[]);
        let mut client = Client::connect(server.address).await;
        if round > 1 {
            let kept = client.ask("GET", "/v2/keys/a", "").await;
            let value = format!(
                "\"value\":\"{}\",\"modifiedIndex\":{}",
                round - 1,
                round - 1
            );
            assert!(kept.body.contains(&value), "{}", kept.body);
        }
        let written = client
            .ask("PUT", "/v2/keys/a", &format!("value={round}"))
            .await;
        assert_eq!(written.index(), round);
        if round % 2 == 1 {
            let (status, log) = server.end("-TERM");
            assert_eq!(status, Some(0), "{log}");
        } else {
            let (status, _) = server.end("-KILL");
            assert_eq!(status, None);
        }
    }
}

#[test]
fn an_interrupt_ends_it_well_too() {
    let scratch = Scratch::new();
    let server = Process::start(&scratch.join("data"), &[]);
    assert_eq!(server.end("-INT").0, Some(0));
}

#[test]
fn bad_flags_are_refused() {
    let scratch = Scratch::new();
    let data = scratch.join("data");
    check_refused(&data, &["--nmae=x"], &["unknown flag --nmae", "--name"]);
    check_refused(
        &data,
        &["--cert-file=x"],
        &["--cert-file", "does not serve"],
    );
    let several = "--initial-cluster=default=http://h:1,b=http://h:2";
    check_refused(&data, &[several], &["http://h:1", "http://localhost:2380"]);
    check_refused(
        &data,
        &["--listen-peer-urls=https://127.0.0.1:1"],
        &["--peer-cert-file", "--peer-auto-tls"],
    );
    check_refused(&data, &["--initial-cluster=b=http://h:2"], &["\"default\""]);
    assert!(!data.exists(), "nothing was made");
}

#[test]
fn a_port_in_use_is_named() {
    let scratch = Scratch::new();
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = other.local_addr().expect("an address").to_string();
    let flag = format!("--listen-client-urls=http://{address}");
    check_refused(
        &scratch.join("data"),
        &[&flag],
        &[&address, "another process listens"],
    );
}

#[test]
fn a_data_directory_in_use_is_named() {
    let scratch = Scratch::new();
    let data = scratch.join("data");
    let _server = Process::start(&data, &[]);
    check_refused(&data, &[], &["in use", data.to_str().expect("UTF-8")]);
}

#[test]
fn data_of_etcd_or_of_somebody_else_is_not_touched() {
    let scratch = Scratch::new();
    let etcd = scratch.join("etcd");
    fs::create_dir_all(etcd.join("member/wal")).expect("a directory");
    check_refused(&etcd, &[], &["etcd", "/v2/keys/?recursive=true"]);
    let foreign = scratch.join("foreign");
    fs::create_dir_all(&foreign).expect("a directory");
    fs::write(foreign.join("letters.txt"), "dear").expect("a file");
    check_refused(&foreign, &[], &["letters.txt"]);
    assert_eq!(fs::read_dir(&foreign).expect("a directory").count(), 1);
}

#[test]
fn only_a_new_cluster_formats_a_directory() {
    let scratch = Scratch::new();
    let data = scratch.join("data");
    check_refused(
        &data,
        &["--initial-cluster-state=existing"],
        &["cannot be added", "--initial-cluster-state new"],
    );
    fs::create_dir_all(&data).expect("an empty directory is fine");
    let server = Process::start(&data, &[]);
    assert_eq!(server.end("-TERM").0, Some(0));
    // Nothing of what a new cluster would need counts any more.
    let flags = [
        "--initial-cluster-state=existing",
        "--initial-cluster=x=http://h:1",
    ];
    let server = Process::start(&data, &flags);
    assert_eq!(server.end("-TERM").0, Some(0));
}

#[test]
fn version_and_help_are_printed() {
    for (flag, expected) in [("--version", "quorate "), ("-help", "--listen-client-urls")] {
        let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
            .arg(flag)
            .output();
        let output = output.expect("the program runs");
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stdout).contains(expected));
    }
}
