//! Conversations under `testdata/v2`, played against a fresh server each.
//!
//! ```text
//! > PUT /v2/keys/a?prevExist=false value=1     a request: method, target, form
//! + Idempotency-Key: x                         a header of the request above
//! < 201 X-Etcd-Index: 1                        its answer: status, headers worth a look
//! < {"action":"create",…}                      the body
//! >w GET /v2/keys/a?wait=true                  a request on a connection called w, left open
//! .w                                           reads the next piece from it
//! < {"action":"set",…}
//! flags: --history-events=10                   for the server; anywhere in the file
//! ```
//!
//! Everything else is a comment. `UPDATE_EXPECT=1 cargo test` writes the answers anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::client::{Answer, Client};
use crate::harness::Served;

/// The headers a transcript shows, where an answer has them.
const SHOWN: &[&str] = &[
    "X-Etcd-Index",
    "Allow",
    "Location",
    "Retry-After",
    "X-Quorate-Age-Ms",
    "X-Quorate-Reason",
];

#[tokio::test]
async fn transcripts_are_as_written() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/v2");
    let entries = std::fs::read_dir(&directory).expect("testdata");
    let mut files: Vec<_> = entries.map(|e| e.expect("an entry").path()).collect();
    files.sort();
    assert!(files.len() >= 8, "transcripts are missing: {files:?}");
    let mut wrong = Vec::new();
    for file in files {
        let written = std::fs::read_to_string(&file).expect("a transcript");
        let played = play(&written).await;
        if written == played {
            continue;
        }
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&file, played).expect("a transcript can be written");
        } else {
            wrong.push(format!(
                "{}:\n{}",
                file.display(),
                difference(&written, &played)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Plays a transcript and writes it with the answers that came.
async fn play(transcript: &str) -> String {
    let flags: Vec<_> = transcript
        .lines()
        .filter_map(|line| line.strip_prefix("flags: "))
        .flat_map(str::split_whitespace)
        .collect();
    let server = Served::start(&flags).await;
    let mut open = BTreeMap::new();
    let mut played = String::new();
    let mut lines = transcript
        .lines()
        .filter(|line| !line.starts_with('<'))
        .peekable();
    while let Some(line) = lines.next() {
        let _ = writeln!(played, "{line}");
        let mut headers = Vec::new();
        while let Some(header) = lines.next_if(|line| line.starts_with("+ ")) {
            let _ = writeln!(played, "{header}");
            headers.push(header[2..].split_once(": ").expect("a name and a value"));
        }
        if let Some(request) = line.strip_prefix("> ") {
            let (method, target, form) = split(request);
            let mut client = server.client().await;
            let answer = client.ask_with(method, target, &headers, form).await;
            show(&mut played, &answer);
        } else if let Some(rest) = line.strip_prefix('>') {
            let (name, request) = rest.split_once(' ').expect("a name and a request");
            let (_, target, _) = split(request);
            let mut client = server.client().await;
            show(&mut played, &client.open(target).await);
            open.insert(name, client);
        } else if let Some(name) = line.strip_prefix('.') {
            let client: &mut Client = open.get_mut(name).expect("a connection that was opened");
            match client.piece().await {
                Some(piece) => show_body(&mut played, &piece),
                None => played.push_str("< (the end)\n"),
            }
        }
    }
    server.stop().await;
    played
}

fn split(request: &str) -> (&str, &str, &str) {
    let mut words = request.splitn(3, ' ');
    let mut word = || words.next().unwrap_or_default();
    (word(), word(), word())
}

fn show(played: &mut String, answer: &Answer) {
    let _ = write!(played, "< {}", answer.status);
    for name in SHOWN {
        if let Some(value) = answer.header(name) {
            let _ = write!(played, " {name}: {value}");
        }
    }
    if answer
        .header("Content-Type")
        .is_some_and(|kind| kind != "application/json")
    {
        let _ = write!(
            played,
            " {}",
            answer.header("Content-Type").expect("a type")
        );
    }
    played.push('\n');
    show_body(played, &answer.body);
}

fn show_body(played: &mut String, body: &str) {
    for line in masked(body).lines() {
        let _ = writeln!(played, "< {line}");
    }
}

/// What differs from run to run is masked: dates, lengths of time, ids.
fn masked(body: &str) -> String {
    let mut out = body.to_owned();
    for (field, mask) in [
        ("expiration", "<date>"),
        ("startTime", "<date>"),
        ("uptime", "<time>"),
        ("id", "<id>"),
        ("leader", "<id>"),
    ] {
        let begin = format!("\"{field}\":\"");
        let mut from = 0;
        while let Some(at) = out[from..].find(&begin) {
            let start = from + at + begin.len();
            let end = start + out[start..].find('"').expect("a string ends");
            out.replace_range(start..end, mask);
            from = start;
        }
    }
    out
}

fn difference(written: &str, played: &str) -> String {
    let mut text = String::new();
    let (mut old, mut new) = (written.lines(), played.lines());
    loop {
        match (old.next(), new.next()) {
            (None, None) => return text,
            (old, new) if old == new => {}
            (old, new) => {
                let _ = writeln!(text, "- {}", old.unwrap_or_default());
                let _ = writeln!(text, "+ {}", new.unwrap_or_default());
            }
        }
    }
}
