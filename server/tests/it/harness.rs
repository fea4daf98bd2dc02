//! A server in this process, on a port and a directory of its own.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use quorate::args::{self, Asked, Options};
use quorate::logging::LogLevel;
use quorate::server::{ServeError, Server};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::client::{Answer, Client};

/// A directory that is removed with the last one who knows it.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("quorate-it-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a directory for tests");
        Self(path)
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Flags that make a member start fast and small.
pub(crate) const SMALL: &[&str] = &[
    "--listen-client-urls=http://127.0.0.1:0",
    "--heartbeat-interval=10",
    "--election-timeout=50",
    "--wal-segment-bytes=4MiB",
    "--disk-reserve-bytes=0",
];

/// A server that serves.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ServeError>>,
    _scratch: Scratch,
}

impl Served {
    pub(crate) async fn start(flags: &[&str]) -> Self {
        let scratch = Scratch::new();
        let options = options(&scratch.join("data"), flags);
        let server = Server::start(&options, LogLevel::fixed()).await;
        let server = server.expect("an empty directory and a free port");
        let address = server.addresses().expect("an address")[0];
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self {
            address,
            stop,
            task,
            _scratch: scratch,
        }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, method: &str, target: &str, form: &str) -> Answer {
        self.client().await.ask(method, target, form).await
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        let ended = self.task.await.expect("the server does not panic");
        ended.expect("an orderly end");
    }
}

fn options(data_dir: &Path, flags: &[&str]) -> Options {
    let mut data_dir_flag = OsString::from("--data-dir=");
    data_dir_flag.push(data_dir);
    let advertise = "--advertise-client-urls=http://127.0.0.1:2379";
    let flags = SMALL.iter().chain(flags).chain([&advertise]);
    let args = flags.map(OsString::from).chain([data_dir_flag]);
    match args::parse(args, []) {
        Ok(Asked::Serve(options)) => *options,
        other => panic!("{other:?}"),
    }
}
