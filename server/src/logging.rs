//! Logs: for people on a terminal, one JSON object a line elsewhere.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt as lines, registry, reload};

use crate::args::LogFormat;

/// Changes how much is logged while the server runs.
#[derive(Clone)]
pub struct LogLevel(Arc<dyn Fn(LevelFilter) -> bool + Send + Sync>);

impl LogLevel {
    /// For a server that does not log.
    #[must_use]
    pub fn fixed() -> Self {
        Self(Arc::new(|_| true))
    }

    /// Logs from now on what is at least as grave as `level`, in etcd's words. False where that is
    /// no level.
    #[must_use]
    pub fn set(&self, level: &str) -> bool {
        parse(level).is_some_and(|level| (self.0)(level))
    }
}

impl fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogLevel")
    }
}

/// Begins to log to standard error. To be called once.
#[must_use]
pub fn start(level: &str, format: LogFormat) -> LogLevel {
    let level = parse(level).unwrap_or(LevelFilter::INFO);
    let (filter, handle) = reload::Layer::new(level);
    let terminal = io::stderr().is_terminal();
    let human = match format {
        LogFormat::Human => true,
        LogFormat::Json => false,
        LogFormat::Auto => terminal,
    };
    let layer = lines::layer().with_writer(io::stderr).with_ansi(terminal);
    let layer = if human {
        layer.with_target(false).boxed()
    } else {
        layer.json().flatten_event(true).boxed()
    };
    registry().with(layer.with_filter(filter)).init();
    LogLevel(Arc::new(move |level| handle.reload(level).is_ok()))
}

/// A level in etcd's words; its case does not matter.
fn parse(level: &str) -> Option<LevelFilter> {
    Some(match level.to_ascii_lowercase().as_str() {
        "debug" => LevelFilter::DEBUG,
        "info" => LevelFilter::INFO,
        "warn" | "warning" => LevelFilter::WARN,
        "error" | "dpanic" | "panic" | "fatal" | "critical" => LevelFilter::ERROR,
        _ => return None,
    })
}
