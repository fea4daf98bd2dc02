//! The server process: flags in, exit status out.
#![forbid(unsafe_code)]

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

use quorate::args::{self, Asked, Options};
use quorate::logging;
use quorate::server::{self, ServeError, Server};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

fn main() -> ExitCode {
    let options = match args::parse(std::env::args_os().skip(1), std::env::vars_os()) {
        Ok(Asked::Serve(options)) => *options,
        Ok(Asked::Print(text)) => {
            // Whoever closed the pipe has read enough.
            let _ = io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(&error),
    };
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// One line, whatever the logs look like.
fn fail(error: &dyn Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "quorate: {error}");
    ExitCode::FAILURE
}

fn run(mut options: Options) -> Result<(), ServeError> {
    let log_level = logging::start(options.log_level, options.log_format);
    info!(version = env!("CARGO_PKG_VERSION"), "quorate");
    for warning in &options.warnings {
        warn!("{warning}");
    }
    options.connections_max = server::room_for_connections(options.connections_max)?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if options.worker_threads > 0 {
        builder.worker_threads(options.worker_threads);
    }
    let runtime = builder.enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut stop = std::pin::pin!(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        let server = tokio::select! {
            started = Server::start(&options, log_level) => started?,
            () = &mut stop => return Ok(()),
        };
        server.run(stop).await
    })
}
