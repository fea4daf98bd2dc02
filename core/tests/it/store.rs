//! Golden scripts of the store: `testdata/store/*.txt`. What stands above `---` is done, what
//! stands below it is what came of it; `UPDATE_EXPECT=1 cargo test` writes it anew, and the diff is
//! reviewed. Each command is one entry of the log; `sleep` moves cluster time before the next one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use quorate_core::store::{
    Append, ClientRequest, Command, Compare, Content, Delete, Filter, HistoryLost, Operation, Path,
    Put, Scope, Settings, SliceEvents, SliceId, Store, Tree, Value, WatchOutput, Watches, When,
};
use quorate_core::{ClusterTime, Duration, Index, LogId, Revision, Term, WatchId};

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*

        /// A script that no test plays proves nothing.
        #[test]
        fn every_script_is_played() {
            let mut found: Vec<_> = fs::read_dir(folder())
                .expect("the scripts are here")
                .map(|entry| entry.expect("the folder is readable").file_name())
                .collect();
            found.sort();
            let mut played = vec![$(concat!(stringify!($name), ".txt")),*];
            played.sort_unstable();
            assert_eq!(found, played);
        }
    };
}

scripts! {
    compare, directories, expiry, hidden, history, in_order, refresh, requests, set_and_delete,
    watches, watches_and_history,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/store")
}

fn check(name: &str) {
    let file = folder().join(name).with_extension("txt");
    let text = fs::read_to_string(&file).expect("the script is readable");
    let mut player = Player::new();
    let mut played = String::new();
    for block in text.split("\n\n") {
        let (commands, _) = block.split_once("\n---").unwrap_or((block, ""));
        let commands = commands.trim_matches('\n');
        if !played.is_empty() {
            played.push('\n');
        }
        let answers: String = commands.lines().map(|line| player.play(line)).collect();
        writeln!(played, "{commands}").expect("a string takes everything");
        if commands.lines().any(|line| !line.starts_with('#')) {
            write!(played, "---\n{answers}").expect("a string takes everything");
        }
    }
    if env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&file, played).expect("the script is writable");
    } else {
        assert_eq!(text, played, "{name}: UPDATE_EXPECT=1 rewrites it");
    }
}

struct Player {
    store: Store,
    watches: Watches,
    clock: ClusterTime,
    disk: BTreeMap<SliceId, SliceEvents>,
}

/// A line of a script: a verb, its operands, and `name=value` options behind them.
struct Line<'a> {
    verb: &'a str,
    operands: Vec<&'a str>,
    options: BTreeMap<&'a str, &'a str>,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Self {
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        let verb = words.next().expect("a line has a verb");
        let (mut operands, mut options) = (Vec::new(), BTreeMap::new());
        for word in words {
            match word.split_once('=') {
                Some((name, value)) if !name.starts_with('/') => {
                    options.insert(name, value);
                }
                _ => operands.push(word),
            }
        }
        Self {
            verb,
            operands,
            options,
        }
    }

    fn has(&self, word: &str) -> bool {
        self.operands.contains(&word)
    }

    fn number(&self, option: &str) -> Option<u64> {
        let text = self.options.get(option)?;
        Some(text.parse().expect("a number"))
    }

    /// `/path`, `/path=value` is a key; `/path/` a directory.
    fn path(&self) -> Path {
        let name = self.operands[0]
            .split('=')
            .next()
            .expect("split yields one");
        path(name)
    }

    fn content(&self) -> Content {
        let operand = self.operands[0];
        match operand.split_once('=') {
            Some((_, value)) => Content::Value(Value::from(value)),
            None if operand.ends_with('/') => Content::Directory,
            None => Content::Value(Value::from("")),
        }
    }

    fn ttl(&self) -> Option<Duration> {
        self.options.get("ttl").map(|text| duration(text))
    }

    fn compare(&self) -> Compare {
        Compare {
            value: self.options.get("value").map(|&text| Value::from(text)),
            modified: self.number("index").map(Revision),
        }
    }

    /// `id=text`, or `id=client:sequence:acked`.
    fn client(&self) -> Option<ClientRequest> {
        let text = self.options.get("id")?;
        let numbers: Vec<_> = text.split(':').map(str::parse).collect();
        Some(match numbers[..] {
            [Ok(client), Ok(sequence), Ok(acked)] => ClientRequest::Numbered {
                client,
                sequence,
                acked,
            },
            _ => ClientRequest::Opaque(Value::from(*text)),
        })
    }

    fn operation(&self) -> Operation {
        let put = |when| {
            Operation::Put(Put {
                path: self.path(),
                content: if self.has("refresh") {
                    Content::Kept
                } else {
                    self.content()
                },
                when,
                ttl: self.ttl(),
            })
        };
        let delete = |scope| {
            let path = self.path();
            Operation::Delete(Delete { path, scope })
        };
        match self.verb {
            "set" => put(When::Always),
            "create" => put(When::Missing),
            "update" => put(When::Exists),
            "swap" => put(When::Matches(self.compare())),
            "post" => Operation::Append(Append {
                directory: self.path(),
                value: match self.content() {
                    Content::Value(value) => Some(value),
                    Content::Directory | Content::Kept => None,
                },
                ttl: self.ttl(),
            }),
            "delete"
                if self
                    .options
                    .keys()
                    .any(|name| matches!(*name, "value" | "index")) =>
            {
                delete(Scope::Matches(self.compare()))
            }
            "delete" if self.has("tree") => delete(Scope::Tree),
            "delete" if self.has("dir") => delete(Scope::EmptyDirectory),
            "delete" => delete(Scope::Key),
            "settings" => Operation::Configure(self.settings()),
            other => panic!("no verb is called {other}"),
        }
    }

    fn settings(&self) -> Settings {
        let default = Settings::default();
        let age = |name, default| {
            self.options
                .get(name)
                .map_or(default, |text| duration(text))
        };
        Settings {
            history_age: age("age", default.history_age),
            history_bytes: self.number("bytes").unwrap_or(default.history_bytes),
            history_events: self.number("events").unwrap_or(default.history_events),
            slice_bytes: self.number("slice").unwrap_or(default.slice_bytes),
            request_age: age("request-age", default.request_age),
            requests_max: self.number("requests").unwrap_or(default.requests_max),
            ..default
        }
    }
}

impl Player {
    fn new() -> Self {
        let store = Store::new();
        Self {
            watches: Watches::new(3, 2, &store),
            store,
            clock: ClusterTime::ZERO,
            disk: BTreeMap::new(),
        }
    }

    fn play(&mut self, text: &str) -> String {
        if text.starts_with('#') {
            return String::new();
        }
        let line = Line::parse(text);
        let mut out = String::new();
        match line.verb {
            "sleep" => self.clock = self.clock + duration(line.operands[0]),
            "get" => match self.store.get(&line.path(), line.has("recursive")) {
                Ok(tree) => show(&mut out, &tree, 0),
                Err(error) => say(&mut out, format_args!("{error} ({})", error.revision)),
            },
            "expire" => {
                let limit = line.number("limit").unwrap_or(100);
                let limit = u32::try_from(limit).expect("a small limit");
                let id = self.next();
                let before = self.store.revision();
                let count = self.store.expire(id, self.clock, limit, self.clock);
                say(&mut out, format_args!("{before} + {count}"));
            }
            "watch" => {
                let filter = Filter {
                    path: path(line.operands[1]),
                    recursive: line.has("recursive"),
                };
                let since = line.number("from").map(Revision);
                let credit = credit(line.number("credit").unwrap_or(100));
                let watch = watch(line.operands[0]);
                self.watches.open(&self.store, watch, filter, since, credit);
            }
            "credit" => {
                let events = credit(line.operands[1].parse().expect("a number"));
                self.watches
                    .credit(&self.store, watch(line.operands[0]), events);
            }
            "unwatch" => self.watches.unwatch(watch(line.operands[0])),
            "checkpoint" => self.checkpoint(&mut out),
            // The disk forgets its slices.
            "lose" => self.disk.clear(),
            "history" => {
                let (store, bytes) = (&self.store, self.store.history_bytes());
                let oldest = store.oldest();
                let some = if bytes > 0 { "some" } else { "no" };
                let slices: Vec<_> = store
                    .slices()
                    .map(|info| format!("{}..={}", info.id.index(), info.last_index))
                    .collect();
                let slices = slices.join(" ");
                say(
                    &mut out,
                    format_args!("from {oldest}, closed [{slices}], {some} bytes"),
                );
            }
            _ => {
                let command = Command {
                    client: line.client(),
                    operation: line.operation(),
                };
                let id = self.next();
                match self.store.apply(id, self.clock, &command) {
                    Ok(applied) => {
                        let again = if applied.replay { " (again)" } else { "" };
                        match applied.event {
                            Some(event) => say(&mut out, format_args!("{event}{again}")),
                            None => say(&mut out, format_args!("done{again}")),
                        }
                    }
                    Err(error) => say(&mut out, format_args!("{error} ({})", error.revision)),
                }
            }
        }
        self.watch_on(&mut out);
        out
    }

    fn next(&self) -> LogId {
        LogId {
            term: Term(1),
            index: Index(self.store.applied().index.0 + 1),
        }
    }

    /// Everything goes to disk, and closed slices leave memory.
    fn checkpoint(&mut self, out: &mut String) {
        let changes = self.store.take_changes();
        for slice in &changes.closed {
            self.disk.insert(slice.info.id, slice.events.clone());
        }
        self.store.checkpointed(changes.applied, 0);
        say(
            out,
            format_args!("{} closed slices written", changes.closed.len()),
        );
    }

    fn watch_on(&mut self, out: &mut String) {
        loop {
            match self.watches.poll(&self.store) {
                None if self.watches.has_work() => {}
                None => break,
                Some(WatchOutput::Watching { watch }) => say(out, format_args!("{watch} begins")),
                Some(WatchOutput::Notify { watches, event }) => {
                    let names: Vec<_> = watches.iter().map(ToString::to_string).collect();
                    say(out, format_args!("{} <- {event}", names.join(" ")));
                }
                Some(WatchOutput::End {
                    watch,
                    reason,
                    resume,
                }) => say(
                    out,
                    format_args!("{watch} ends: {reason:?}, resume at {resume}"),
                ),
                Some(WatchOutput::ReadHistory { slice }) => {
                    say(out, format_args!("read slice {slice}"));
                    let events = self.disk.get(&slice).cloned().ok_or(HistoryLost);
                    self.watches.history_read(&self.store, slice, events);
                }
            }
        }
    }
}

fn say(out: &mut String, what: std::fmt::Arguments<'_>) {
    writeln!(out, "{what}").expect("a string takes everything");
}

fn show(out: &mut String, tree: &Tree, depth: usize) {
    say(
        out,
        format_args!(
            "{:indent$}{} {}",
            "",
            tree.path,
            tree.node,
            indent = 2 * depth
        ),
    );
    for child in &tree.children {
        show(out, child, depth + 1);
    }
}

fn path(text: &str) -> Path {
    let text = if text == "/" {
        text
    } else {
        text.trim_end_matches('/')
    };
    Path::new(text.as_bytes()).expect("a clean path")
}

fn watch(text: &str) -> WatchId {
    let number = text.strip_prefix('h').expect("watches are called h1, h2 …");
    WatchId(number.parse().expect("a number"))
}

fn credit(number: u64) -> u32 {
    u32::try_from(number).expect("a small credit")
}

fn duration(text: &str) -> Duration {
    let seconds = text.strip_suffix('s').expect("a duration such as 5s");
    Duration::from_secs(seconds.parse().expect("a number of seconds"))
}
