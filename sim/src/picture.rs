//! A run as a picture: one page with the space-time diagram of what was seen, which needs nothing
//! else (SIMULATION.md §9, «Look»).
//!
//! The page is made of fixed files, in `picture/`, and of the run as JSON; the script draws.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::clock::{Time, nanos};
use crate::event::Event;
use crate::fault::kinds;
use crate::node::birth;
use crate::options::Options;
use crate::run::Report;
use crate::scene::{
    Band, Change, Film, Job, MESSAGE_KINDS, Mark, Message, Notice, Operation, Outcome, Part,
    Progress, Reel, Scene, Sign, Standing, Transfer, Try, Writing,
};
use crate::words;

const PAGE: &str = include_str!("picture/page.html");
const STYLE: &str = include_str!("picture/page.css");
/// One script, in this order.
const SCRIPT: [&str; 12] = [
    include_str!("picture/palette.js"),
    include_str!("picture/things.js"),
    include_str!("picture/view.js"),
    include_str!("picture/lanes.js"),
    include_str!("picture/messages.js"),
    include_str!("picture/work.js"),
    include_str!("picture/labels.js"),
    include_str!("picture/overview.js"),
    include_str!("picture/facts.js"),
    include_str!("picture/story.js"),
    include_str!("picture/moving.js"),
    include_str!("picture/page.js"),
];

/// The page of a run with these knobs that was looked at. `replay` is the command that runs it
/// again.
#[must_use]
pub fn page(options: &Options, report: &Report, replay: &str) -> String {
    let data = data(options, report, replay);
    let mut page = String::with_capacity(100_000 + data.len());
    for piece in PAGE.split_inclusive("-->") {
        // Each place that is to be filled in ends the piece of its own.
        match piece.rsplit_once("<!--") {
            Some((before, "style-->")) => page.extend([before, STYLE]),
            Some((before, "script-->")) => page.extend([&[before], &SCRIPT[..]].concat()),
            Some((before, "data-->")) => page.extend([before, data.as_str()]),
            Some(_) | None => page.push_str(piece),
        }
    }
    page
}

/// The run as JSON that may stand in a script element: no value ends it.
fn data(options: &Options, report: &Report, replay: &str) -> String {
    let mut rows = Rows::default();
    let empty = Film::default();
    let film = match &report.scene {
        Scene::Off => &empty,
        Scene::On(film) => film,
    };
    rows.head("run", &json!(report.run.to_string()));
    rows.head("replay", &json!(replay));
    rows.head("header", &json!(options.to_string()));
    rows.head("members", &json!(options.members));
    let birth = birth(options.members);
    let ids: Vec<_> = birth.nodes().map(|(id, _)| id.0.to_string()).collect();
    rows.head("ids", &json!(ids));
    rows.head("clients", &json!(options.clients));
    rows.head("unit", &json!(nanos(options.unit()) / 1_000));
    rows.head(
        "heartbeat",
        &json!(nanos(options.config.heartbeat_interval) / 1_000),
    );
    rows.head("end", &json!(micros(film.now)));
    rows.head("from", &json!(micros(film.span.from)));
    rows.head("steps", &json!(report.steps));
    rows.head("failure", &failure(report, film));
    rows.head("counters", &json!(report.counters.to_string()));
    let faults = kinds().map(|kind| (kind.fault.to_string(), json!(kind.what)));
    rows.head("faults", &Value::Object(faults.collect()));
    rows.head("kinds", &json!(MESSAGE_KINDS));
    rows.reel("messages", &film.messages, message);
    rows.reel("standings", &film.standings, standing);
    rows.reel("progress", &film.progress, progress);
    rows.reel("writings", &film.writings, writing);
    rows.reel("bands", &film.bands, band);
    rows.reel("marks", &film.marks, mark);
    rows.reel("transfers", &film.transfers, transfer);
    rows.reel("notices", &film.notices, notice);
    rows.list("operations", film.operations.values(), operation);
    rows.list("entries", &film.entries, |words, (id, (text, key))| {
        json!([id.index.0, id.term.0, words.place(text), words.place(key)])
    });
    rows.end()
}

/// What did not hold, and what was being done.
fn failure(report: &Report, film: &Film) -> Value {
    let Some(failure) = &report.failure else {
        return Value::Null;
    };
    let event = match &film.event {
        None => String::new(),
        Some(Event::Deliver { to, from, .. }) => format!("n{to} hears n{from}"),
        Some(event) => words::cut(format!("{event:?}")),
    };
    json!({
        "id": failure.violation.id,
        "what": failure.violation.what,
        "nodes": failure.violation.nodes,
        "step": failure.step,
        "time": micros(failure.time),
        // The one under which its event is recorded.
        "began": film.step,
        "event": event,
    })
}

/// The object under way, and the texts in it, each once.
#[derive(Default)]
struct Rows {
    out: String,
    words: Words,
}

#[derive(Default)]
struct Words {
    places: BTreeMap<String, usize>,
    list: Vec<String>,
}

impl Words {
    fn place(&mut self, text: &str) -> usize {
        if let Some(&place) = self.places.get(text) {
            return place;
        }
        let place = self.list.len();
        self.places.insert(text.to_owned(), place);
        self.list.push(text.to_owned());
        place
    }
}

impl Rows {
    fn head(&mut self, name: &str, value: &Value) {
        self.out.push(if self.out.is_empty() { '{' } else { ',' });
        self.out.push_str(&format!("\n\"{name}\":{value}"));
    }

    fn list<T>(
        &mut self,
        name: &str,
        things: impl IntoIterator<Item = T>,
        row: impl Fn(&mut Words, T) -> Value,
    ) {
        self.out.push_str(&format!(",\n\"{name}\":["));
        let mut comma = "";
        for thing in things {
            let row = row(&mut self.words, thing);
            self.out.push_str(&format!("{comma}{row}"));
            comma = ",";
        }
        self.out.push(']');
    }

    fn reel<T>(&mut self, name: &str, reel: &Reel<T>, row: fn(&mut Words, &T) -> Value) {
        self.list(name, reel.iter(), row);
        self.head(&format!("{name}_dropped"), &json!(reel.dropped()));
    }

    fn end(mut self) -> String {
        let words = json!(self.words.list);
        self.head("words", &words);
        self.out.push_str("\n}");
        self.out.replace('<', "\\u003c")
    }
}

const fn micros(time: Time) -> u64 {
    time.0 / 1_000
}

/// A time that may never come is −1.
fn maybe(time: Option<Time>) -> Value {
    time.map_or(json!(-1), |time| json!(micros(time)))
}

fn message(words: &mut Words, message: &Message) -> Value {
    let Message {
        from,
        to,
        sent,
        arrived,
        step,
        kind,
        term,
        text,
        indexes: (after, through),
        fate,
    } = message;
    let (sent, arrived) = (micros(*sent), maybe(*arrived));
    let (text, fate) = (words.place(text), words.place(fate));
    json!([
        from, to, sent, arrived, step, kind, term, text, after, through, fate
    ])
}

fn standing(words: &mut Words, change: &Change<Standing>) -> Value {
    let Change {
        seat,
        at,
        step,
        now,
        why,
    } = change;
    let part = match now.part {
        Part::Follower => 0,
        Part::PreCandidate => 1,
        Part::Candidate => 2,
        Part::Leader => 3,
        Part::Down => 4,
        Part::Starting => 5,
    };
    let seat_or = |seat: Option<usize>| seat.map_or(json!(-1), |seat| json!(seat));
    let (vote, leader) = (seat_or(now.vote), seat_or(now.leader));
    json!([
        seat,
        micros(*at),
        step,
        part,
        now.term,
        vote,
        leader,
        words.place(why)
    ])
}

fn progress(words: &mut Words, change: &Change<Progress>) -> Value {
    let Change {
        seat,
        at,
        step,
        now,
        why,
    } = change;
    json!([
        seat,
        micros(*at),
        step,
        now.last.index.0,
        now.last.term.0,
        now.persisted,
        now.committed,
        now.applied,
        words.place(why)
    ])
}

fn writing(words: &mut Words, writing: &Writing) -> Value {
    let job = match writing.job {
        Job::Log => 0,
        Job::Checkpoint => 1,
        Job::Store => 2,
        Job::Install => 3,
    };
    let (after, through) = writing.indexes;
    json!([
        writing.seat,
        job,
        micros(writing.from),
        maybe(writing.to),
        writing.step,
        writing.ended,
        words.place(&writing.text),
        after,
        through,
        u8::from(writing.durable)
    ])
}

fn band(words: &mut Words, band: &Band) -> Value {
    let to = (band.to < Time(u64::MAX)).then_some(band.to);
    let fault = words.place(&band.fault.to_string());
    let text = words.place(&band.text);
    json!([band.seat, fault, micros(band.from), maybe(to), text])
}

fn mark(words: &mut Words, mark: &Mark) -> Value {
    let sign = match mark.sign {
        Sign::Strike => 0,
        Sign::Installed => 1,
        Sign::Heal => 2,
    };
    let seat = mark.seat.map_or(json!(-1), |seat| json!(seat));
    json!([
        sign,
        seat,
        micros(mark.at),
        mark.step,
        words.place(&mark.text)
    ])
}

fn transfer(words: &mut Words, transfer: &Transfer) -> Value {
    json!([
        transfer.from,
        transfer.to,
        micros(transfer.begun),
        maybe(transfer.ended),
        transfer.step,
        u8::from(transfer.arrived),
        words.place(&transfer.text)
    ])
}

fn notice(words: &mut Words, notice: &Notice) -> Value {
    let text = words.place(&notice.text);
    let (at, index) = (micros(notice.at), notice.index);
    json!([notice.client, notice.seat, at, notice.step, text, index])
}

fn operation(words: &mut Words, operation: &Operation) -> Value {
    let outcome = match operation.outcome {
        Outcome::Open => 0,
        Outcome::Done => 1,
        Outcome::Refused => 2,
        Outcome::Unknown => 3,
    };
    let tries: Vec<_> = operation.tries.iter().map(|t| tried(words, t)).collect();
    json!([
        operation.client,
        operation.number & u64::from(u32::MAX),
        micros(operation.begun),
        maybe(operation.over),
        operation.step,
        u8::from(operation.writes),
        words.place(&operation.asked),
        words.place(&operation.key),
        outcome,
        words.place(&operation.answer),
        operation.at.map_or(0, |at| at.index.0),
        operation.at.map_or(0, |at| at.term.0),
        tries
    ])
}

fn tried(words: &mut Words, tried: &Try) -> Value {
    json!([
        tried.seat,
        micros(tried.asked),
        maybe(tried.arrived),
        maybe(tried.answered),
        maybe(tried.ended),
        words.place(&tried.text)
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Run;
    use crate::run::{Look, run_with};
    use crate::scene::Span;

    fn report(seed: u64, until: u64) -> (Options, Report) {
        let profile = crate::options::Profile::Swarm;
        let options = Options::new(Run { profile, seed });
        let look = Look {
            until: Some(until),
            scene: Some(Span::default()),
            ..Look::default()
        };
        (options.clone(), run_with(options, look))
    }

    fn data_in(page: &str) -> Value {
        let (_, rest) = page.split_once("id=\"data\">").expect("the data");
        let (data, _) = rest.split_once("</script>").expect("their end");
        serde_json::from_str(data).expect("JSON")
    }

    #[test]
    fn a_page_holds_the_run_and_needs_nothing_else() {
        let (options, report) = report(3, 6_000);
        let page = page(&options, &report, "again");
        let data = data_in(&page);
        assert_eq!(data["members"], json!(options.members));
        assert_eq!(data["replay"], json!("again"));
        for name in [
            "messages",
            "standings",
            "progress",
            "writings",
            "operations",
        ] {
            let rows = data[name].as_array().expect("rows");
            assert!(rows.len() > 10, "{name}: {}", rows.len());
        }
        for loads in [
            "http:", "https:", "src=", "href=", "url(", "import", "fetch",
        ] {
            assert!(!page.contains(loads), "{loads}");
        }
        assert!(!page.contains("<!--"), "something is not filled in");
    }

    #[test]
    fn no_value_ends_the_script_it_stands_in() {
        let (options, mut report) = report(3, 500);
        let bad = "</script><script>alert(1)</script><!--data-->\u{2028}\"\\";
        let Scene::On(film) = &mut report.scene else {
            panic!("it was looked at");
        };
        film.mark(Sign::Strike, Some(0), bad.to_owned());
        let page = page(&options, &report, bad);
        assert_eq!(page.matches("</script").count(), 2);
        assert_eq!(page.matches("<script").count(), 2);
        let data = data_in(&page);
        assert_eq!(data["replay"], json!(bad));
        let words = data["words"].as_array().expect("words");
        assert!(words.contains(&json!(bad)));
    }

    #[test]
    fn a_seed_gives_one_page() {
        let page = || {
            let (options, report) = report(5, 4_000);
            page(&options, &report, "again")
        };
        assert_eq!(page(), page());
    }
}
