//! Golden scripts: conversations between Rafts in text (STYLE.md §3.11). A file of
//! `testdata/raft` is a list of blocks: commands, a line `---`, and what they led to.
//! `UPDATE_EXPECT=1 cargo test -p quorate-core` writes what they lead to now.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use quorate_core::raft::{MessageBody, Raft, RaftOutput};
use quorate_core::time::Duration;
use quorate_core::{Config, Index, LogId, NodeId, RequestError};

use crate::cluster::{Cluster, Flight};

#[test]
fn scripts_lead_to_what_they_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/raft");
    let mut scripts: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "no scripts in {}", folder.display());
    let mut wrong = Vec::new();
    for path in scripts {
        let text = fs::read_to_string(&path).unwrap();
        let played = play(&text);
        if played != text {
            if env::var_os("UPDATE_EXPECT").is_some() {
                fs::write(&path, &played).unwrap();
            } else {
                wrong.push(format!(
                    "{}\n{}",
                    path.display(),
                    first_difference(&text, &played)
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "UPDATE_EXPECT=1 accepts:\n{}",
        wrong.join("\n")
    );
}

fn first_difference(expected: &str, played: &str) -> String {
    let lines = expected.lines().chain([""]).zip(played.lines().chain([""]));
    let differing = lines
        .zip(1..)
        .find(|((expected, played), _)| expected != played);
    match differing {
        Some(((expected, played), line)) => {
            format!("  line {line}\n  expected: {expected}\n  played:   {played}")
        }
        None => String::from("  one is the beginning of the other"),
    }
}

/// The script with the results it leads to now.
fn play(text: &str) -> String {
    let mut cluster = Cluster::new(1, 0);
    let mut played = String::new();
    for block in text.trim_end().split("\n\n") {
        let commands: Vec<_> = block.lines().take_while(|line| *line != "---").collect();
        let mut result = String::new();
        for command in commands.iter().filter(|line| !line.starts_with('#')) {
            perform(&mut cluster, command, &mut result);
        }
        if !played.is_empty() {
            played.push('\n');
        }
        writeln!(played, "{}", commands.join("\n")).expect("a string grows");
        if commands.iter().any(|line| !line.starts_with('#')) {
            write!(played, "---\n{result}").expect("a string grows");
        }
    }
    played
}

/// Performs one command and tells what it led to.
fn perform(cluster: &mut Cluster, command: &str, result: &mut String) {
    let words: Vec<_> = command.split_whitespace().collect();
    let mut outputs = Vec::new();
    match words[..] {
        ["cluster", ref options @ ..] => *cluster = make(options),
        // All is delivered and written at once, and nothing is told.
        ["quietly", "settle"] => drop(cluster.settle()),
        ["quietly", "elect", node] => cluster.elect(number(node)),
        ["quietly", "run", millis] => drop(cluster.run(Duration::from_millis(number(millis)))),
        ["settle"] => outputs = cluster.settle(),
        ["run", millis] => outputs = cluster.run(Duration::from_millis(number(millis))),
        ["pass", millis] => cluster.pass(Duration::from_millis(number(millis))),
        ["timeout", node] => cluster.timeout(number(node)),
        ["tick", node] => {
            let now = cluster.now;
            raft(cluster, node).tick(now);
        }
        ["deliver"] => cluster.deliver(),
        ["deliver", from, to] => {
            for flight in take(cluster, from, to) {
                cluster.arrive(flight);
            }
        }
        ["drop"] => cluster.network.clear(),
        ["drop", from, to] => drop(take(cluster, from, to)),
        ["persist", node] => {
            if !cluster.persist(id(node)) {
                writeln!(result, "{node} has nothing to write").expect("a string grows");
            }
        }
        ["propose", node] => propose(cluster, node, result),
        // So many before the next poll.
        ["propose", node, times] => {
            (0..number(times)).for_each(|_| propose(cluster, node, result));
        }
        ["read", node, request] => {
            if let Err(error) = cluster.read(number(node), number(request)) {
                refuse(result, node, &error);
            }
        }
        // A candidate with an empty log asks for a vote.
        ["vote", from, to, term] => {
            let body = MessageBody::Vote {
                last: LogId::ZERO,
                transfer: false,
            };
            cluster.inject(number(from), number(to), number(term), body);
        }
        ["transfer", from, to] => {
            let now = cluster.now;
            raft(cluster, from).transfer(now, id(to));
        }
        ["full", node, on] => {
            let now = cluster.now;
            raft(cluster, node).disk_full(now, on == "yes");
        }
        ["shutdown", node] => {
            let now = cluster.now;
            raft(cluster, node).shutdown(now);
        }
        ["unreachable", node, peer] => raft(cluster, node).unreachable(id(peer)),
        ["trim", node, below] => raft(cluster, node).trim(Index(number(below))),
        ["cut", node] => drop(cluster.cut.insert(id(node))),
        ["join", node] => drop(cluster.cut.remove(&id(node))),
        ["crash", node] => cluster.crash(id(node)),
        ["restart", node] => cluster.restart(id(node)),
        ["damage", node, "after", index] => damage(cluster, node, Index(number(index))),
        ["status"] => {
            for node in cluster.nodes() {
                tell_status(cluster, node, result);
            }
        }
        _ => panic!("no such command: {command}"),
    }
    outputs.extend(cluster.poll_all());
    if words[0] != "quietly" {
        outputs
            .iter()
            .for_each(|(node, output)| tell(cluster, *node, output, result));
    }
}

fn make(options: &[&str]) -> Cluster {
    let (mut voters, mut learners, mut config) = (3, 0, Config::default());
    for option in options {
        let (name, value) = option.split_once('=').expect("name=value");
        match name {
            "nodes" => voters = number(value),
            "learners" => learners = number(value),
            "batch" => config.batch_entries_max = usize::try_from(number(value)).expect("small"),
            "uncommitted" => {
                config.uncommitted_bytes_max = usize::try_from(number(value)).expect("small")
            }
            "log" => config.log_bytes_max = usize::try_from(number(value)).expect("small"),
            _ => panic!("no such option: {option}"),
        }
    }
    Cluster::with(config, voters, learners)
}

fn propose(cluster: &mut Cluster, node: &str, result: &mut String) {
    match cluster.propose(number(node)) {
        Ok(id) => writeln!(result, "{node} appends {id}").expect("a string grows"),
        Err(error) => refuse(result, node, &error),
    }
}

/// The log on disk is lost after `after`, and the member knows how far it had gone.
fn damage(cluster: &mut Cluster, node: &str, after: Index) {
    let disk = &mut cluster.members.get_mut(&id(node)).expect("a member").disk;
    disk.held = Some(disk.last().index);
    disk.entries.retain(|entry| entry.id.index <= after);
}

fn take(cluster: &mut Cluster, from: &str, to: &str) -> VecDeque<Flight> {
    let (from, to) = (id(from), id(to));
    let all = std::mem::take(&mut cluster.network);
    let (taken, left) = all
        .into_iter()
        .partition(|flight| flight.from == from && flight.to == to);
    cluster.network = left;
    taken
}

fn tell(cluster: &Cluster, node: NodeId, output: &RaftOutput, result: &mut String) {
    match &cluster.members[&node].raft {
        Some(raft) => {
            writeln!(result, "n{node}@{} {output}", raft.hard_state().term).expect("a string grows")
        }
        None => writeln!(result, "n{node} {output}").expect("a string grows"),
    }
}

fn tell_status(cluster: &Cluster, node: NodeId, result: &mut String) {
    match &cluster.members[&node].raft {
        Some(raft) => {
            let leader = raft
                .leader()
                .map_or_else(|| String::from("nobody"), |id| format!("n{id}"));
            let repairing = raft
                .repairing()
                .map_or_else(String::new, |to| format!(" repairing to {to}"));
            writeln!(
                result,
                "{raft} last {} follows {leader}{repairing}",
                raft.last()
            )
            .expect("a string grows");
        }
        None => writeln!(result, "n{node} is down").expect("a string grows"),
    }
}

fn refuse(result: &mut String, node: &str, error: &RequestError) {
    writeln!(result, "{node} refuses: {error}").expect("a string grows");
}

fn raft<'a>(cluster: &'a mut Cluster, node: &str) -> &'a mut Raft {
    cluster.raft_mut(id(node)).expect("runs")
}

fn id(node: &str) -> NodeId {
    NodeId(number(node))
}

/// `7`, `n7` or `r7`.
fn number(word: &str) -> u64 {
    let digits = word.trim_start_matches(['n', 'r']);
    digits
        .parse()
        .unwrap_or_else(|_| panic!("no number: {word}"))
}
