//! Whole members in scratch directories: started, used, stopped, killed, damaged, and started
//! again.

mod cluster;
mod damage;
mod directory;
mod full;
mod member;

use std::collections::BTreeMap;
use std::path::Path as FilePath;

use quorate_core::store::{
    Body, Command, Consistency, Content, Filter, Operation, Path, Put, Query, Response, Settings,
    Tree, Value, When,
};
use quorate_core::wal::WalLimits;
use quorate_core::{Config, Duration, RequestError, Revision};

use crate::files::Room;
use crate::node::Node;
use crate::shutdown::{Running, start_in};
use crate::watcher::WatchItem;
use crate::{Options, StartError};

/// Small and quick: segments of 32 KiB, an election in no time, checkpoints by the kilobyte.
fn options(directory: &FilePath) -> Options {
    Options {
        reserve_bytes: 1 << 16,
        wal: WalLimits {
            segment_bytes: 1 << 15,
            ready_segments: 1,
            spare_segments: 1,
        },
        core: Config {
            heartbeat_interval: Duration::from_millis(5),
            election_timeout: Duration::from_millis(10),
            seal_after: Duration::from_millis(5),
            checkpoint_bytes: 8 << 10,
            history_hot_bytes: 0,
            ..Config::default()
        },
        ..Options::new(directory)
    }
}

/// A member that leads.
async fn open(directory: &FilePath) -> (Node, Running) {
    let (node, running) = try_open(directory).await.expect("it starts");
    (node, running)
}

async fn try_open(directory: &FilePath) -> Result<(Node, Running), StartError> {
    open_with(options(directory), Room::default()).await
}

async fn open_with(options: Options, room: Room) -> Result<(Node, Running), StartError> {
    let (node, running) = start_in(options, room).await?;
    loop {
        match get(&node, "/").await {
            Ok(_) => return Ok((node, running)),
            // Nobody leads yet: each question takes a turn of the driver.
            Err(RequestError::NotLeader { .. } | RequestError::Dropped) => {
                tokio::task::yield_now().await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn path(text: &str) -> Path {
    Path::new(text.as_bytes()).expect("a clean path")
}

async fn put(node: &Node, key: &str, value: &str) -> Result<Response, RequestError> {
    let put = Put {
        path: path(key),
        content: Content::Value(Value::from(value)),
        when: When::Always,
        ttl: None,
    };
    propose(node, Operation::Put(put)).await
}

async fn propose(node: &Node, operation: Operation) -> Result<Response, RequestError> {
    let command = Command {
        client: None,
        operation,
    };
    node.propose(command).await
}

/// History in slices of a kilobyte.
async fn slice_finely(node: &Node) {
    let settings = Settings {
        slice_bytes: 1 << 10,
        ..Settings::default()
    };
    propose(node, Operation::Configure(settings))
        .await
        .expect("configured");
}

async fn get(node: &Node, key: &str) -> Result<Response, RequestError> {
    let query = Query {
        path: path(key),
        recursive: true,
        consistency: Consistency::Linearizable,
    };
    node.read(query).await
}

/// Every key with its value and index.
type Contents = BTreeMap<String, (String, Revision)>;

async fn contents(node: &Node) -> Contents {
    fn collect(tree: &Tree, contents: &mut Contents) {
        if let Some(value) = &tree.node.value {
            let found = (value.to_string(), tree.node.modified.index());
            contents.insert(tree.path.to_string(), found);
        }
        for child in &tree.children {
            collect(child, contents);
        }
    }
    let response = get(node, "/").await.expect("readable");
    let Body::Found(tree) = response.body else {
        panic!("a question was answered by {response:?}");
    };
    let mut all = Contents::new();
    collect(&tree, &mut all);
    all
}

/// Writes `count` values over 20 keys, and says what must then be there.
async fn fill(node: &Node, round: u32, count: u32, contents: &mut Contents) {
    for n in 0..count {
        let key = format!("/d{}/k{}", n % 3, n % 20);
        let value = format!("value {n} of round {round}");
        let response = loop {
            match put(node, &key, &value).await {
                // A checkpoint that ran out of room may say so when there is room again.
                Err(RequestError::DiskFull) => tokio::time::sleep(Duration::from_millis(20)).await,
                answer => break answer.expect("written"),
            }
        };
        let Body::Changed(event) = response.body else {
            panic!("a write was answered by {response:?}");
        };
        contents.insert(key, (value, event.id.index()));
    }
}

/// All events from index 1 on, as index, path and value.
async fn history(node: &Node) -> Vec<(Revision, String, String)> {
    let revision = node.view().await.expect("it runs").status.revision;
    let filter = Filter {
        path: Path::root(),
        recursive: true,
    };
    let (_, mut watcher) = node.watch(filter, Some(Revision(1))).await.expect("kept");
    let mut events: Vec<(Revision, _, _)> = Vec::new();
    while events.last().is_none_or(|(index, ..)| *index < revision) {
        match watcher.next().await {
            Some(WatchItem::Event(notice)) => {
                let event = &notice.event;
                let value = event
                    .node
                    .value
                    .as_ref()
                    .map_or_else(String::new, ToString::to_string);
                events.push((event.id.index(), event.path.to_string(), value));
            }
            other => panic!("history ends after {events:?} with {other:?}"),
        }
    }
    events
}
