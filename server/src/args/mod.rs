//! The command line: etcd's own flags, as far as they are served, and quorate's.
//!
//! Flags take one dash or two, `--flag=value` or `--flag value`, and Go's booleans; a repeated flag
//! counts as given last. Each can also come from the environment, as `QUORATE_FLAG_NAME` or
//! `ETCD_FLAG_NAME`; the command line wins, then `QUORATE_`.

mod cluster;
mod flags;
mod options;
mod text;
mod urls;

use std::ffi::OsString;

use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, FromArgMatches};

pub use cluster::Cluster;
pub use flags::{LocalReads, LogFormat};
pub use options::Options;
pub use urls::Listen;

use flags::Flags;

/// What the command line asks for.
#[derive(Debug)]
pub enum Asked {
    /// Serve.
    Serve(Box<Options>),
    /// Print this and end well.
    Print(String),
}

/// A command line that cannot be served: one line that says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(String);

impl UsageError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Flags of etcd that mean nothing here: taken, and named in one warning.
const WITHOUT_EFFECT: &[&str] = &[
    "auto-compaction-mode",
    "auto-compaction-retention",
    "enable-pprof",
    "enable-v2",
    "initial-election-tick-advance",
    "log-outputs",
    "log-package-levels",
    "logger",
    "max-snapshots",
    "max-wals",
    "pre-vote",
    "quota-backend-bytes",
    "snapshot-count",
    "strict-reconfig-check",
    "wal-dir",
];

/// Those of [`WITHOUT_EFFECT`] that are switches: they stand alone.
const SWITCHES_WITHOUT_EFFECT: &[&str] = &[
    "enable-pprof",
    "enable-v2",
    "initial-election-tick-advance",
    "pre-vote",
    "strict-reconfig-check",
];

/// Flags of etcd that this version does not serve. They are refused by name: what restricts access
/// or finds other members must not be dropped silently.
const NOT_SERVED: &[&str] = &[
    "auth-token",
    "auto-tls",
    "cert-file",
    "cipher-suites",
    "client-cert-allowed-hostname",
    "client-cert-auth",
    "client-crl-file",
    "config-file",
    "discovery",
    "discovery-fallback",
    "discovery-proxy",
    "discovery-srv",
    "discovery-srv-name",
    "force-new-cluster",
    "key-file",
    "listen-metrics-urls",
    "peer-cert-allowed-hostname",
    "peer-crl-file",
    "trusted-ca-file",
];

/// Reads the command line `args`, without the program's name, and the environment.
///
/// # Errors
/// Anything that cannot be served, in one line.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Asked, UsageError> {
    let mut command = Flags::command();
    let (set, unknown) = environment_flags(&command, environment);
    let asked = Given::collect(&set, &unknown, args).and_then(|given| {
        let matches = match command.try_get_matches_from_mut(&given.args) {
            Ok(matches) => matches,
            Err(error) => return explain(&error).map(Asked::Print),
        };
        let flags =
            Flags::from_arg_matches(&matches).map_err(|e| UsageError::new(e.to_string()))?;
        let options = Options::check(flags, given.warnings)?;
        Ok(Asked::Serve(Box::new(options)))
    });
    asked.map_err(|error| name_variable(error, &set))
}

/// Says from which variable of the environment a bad flag comes, if it may.
fn name_variable(error: UsageError, set: &[Variable]) -> UsageError {
    let (flag, _) = split_flag(&error.0);
    let flag = flag.split([' ', ':']).next().unwrap_or_default();
    match set.iter().rfind(|variable| variable.flag == flag) {
        Some(Variable { name, .. }) => UsageError(format!("{} ({name} is set)", error.0)),
        None => error,
    }
}

/// A variable of the environment that gives a flag. Sorted, those of `QUORATE_` come last.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Variable {
    rank: u8,
    flag: String,
    name: String,
    value: OsString,
}

/// The command line in clap's terms, and what to warn about.
struct Given {
    args: Vec<OsString>,
    warnings: Vec<String>,
}

impl Given {
    fn collect(
        set: &[Variable],
        unknown: &[String],
        args: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, UsageError> {
        let mut ignored = Vec::new();
        let mut kept = vec![OsString::from("quorate")];
        let from_environment = set.iter().map(|variable| {
            let mut flag = OsString::from(format!("--{}=", variable.flag));
            flag.push(&variable.value);
            flag
        });
        let mut all = from_environment.chain(args.into_iter().map(two_dashes));
        while let Some(arg) = all.next() {
            let text = arg.to_string_lossy().into_owned();
            let (name, value) = split_flag(&text);
            if NOT_SERVED.contains(&name) {
                return Err(UsageError::new(format!(
                    "--{name} is a flag of etcd that this version of quorate does not serve"
                )));
            }
            if !WITHOUT_EFFECT.contains(&name) {
                kept.push(arg);
                continue;
            }
            let switch = SWITCHES_WITHOUT_EFFECT.contains(&name);
            if name == "strict-reconfig-check"
                && value.is_some_and(|v| text::boolean(v) == Ok(false))
            {
                return Err(UsageError::new(
                    "--strict-reconfig-check=false is not served: members change safely only",
                ));
            }
            if value.is_none() && !switch {
                all.next();
            }
            ignored.push(format!("--{name}"));
        }
        let mut warnings = Vec::new();
        if !ignored.is_empty() {
            ignored.sort();
            ignored.dedup();
            warnings.push(format!("flags without effect here: {}", ignored.join(" ")));
        }
        if !unknown.is_empty() {
            warnings.push(format!(
                "variables of the environment that name no flag: {}",
                unknown.join(" ")
            ));
        }
        Ok(Self {
            args: kept,
            warnings,
        })
    }
}

/// The flags the environment gives, those of `QUORATE_` last, and variables that name none.
fn environment_flags(
    command: &clap::Command,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> (Vec<Variable>, Vec<String>) {
    let known = |name: &str| {
        let mut flags = command.get_arguments().filter_map(|arg| arg.get_long());
        flags.any(|flag| flag == name)
            || WITHOUT_EFFECT.contains(&name)
            || NOT_SERVED.contains(&name)
    };
    let mut found = Vec::new();
    let mut unknown = Vec::new();
    for (variable, value) in environment {
        let Some(variable) = variable.to_str() else {
            continue;
        };
        let (rank, rest) = match (
            variable.strip_prefix("ETCD_"),
            variable.strip_prefix("QUORATE_"),
        ) {
            (Some(rest), _) => (0, rest),
            (_, Some(rest)) => (1, rest),
            (None, None) => continue,
        };
        let name = rest.to_ascii_lowercase().replace('_', "-");
        if known(&name) {
            // An empty variable counts as not set, as in etcd.
            if !value.is_empty() {
                found.push(Variable {
                    rank,
                    flag: name,
                    name: variable.to_owned(),
                    value,
                });
            }
        } else {
            unknown.push(variable.to_owned());
        }
    }
    // Later ones win: the command line follows, QUORATE_ beats ETCD_.
    found.sort();
    unknown.sort();
    (found, unknown)
}

/// Gives a flag with one dash its second one.
fn two_dashes(arg: OsString) -> OsString {
    match arg.to_str() {
        Some(text)
            if text.len() > 2
                && text.starts_with('-')
                && text.as_bytes()[1].is_ascii_alphabetic() =>
        {
            OsString::from(format!("-{text}"))
        }
        _ => arg,
    }
}

/// The name of a flag and the value after its `=`.
fn split_flag(text: &str) -> (&str, Option<&str>) {
    let Some(flag) = text.strip_prefix("--") else {
        return ("", None);
    };
    flag.split_once('=')
        .map_or((flag, None), |(name, value)| (name, Some(value)))
}

/// Clap's long explanations in one line; help and version are no errors.
fn explain(error: &clap::Error) -> Result<String, UsageError> {
    let kind = error.kind();
    if matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Ok(error.to_string());
    }
    let flag = context(error, ContextKind::InvalidArg).unwrap_or_default();
    let flag = flag.split([' ', '=', '[']).next().unwrap_or_default();
    let value = context(error, ContextKind::InvalidValue).unwrap_or_default();
    Err(UsageError(if kind == ErrorKind::UnknownArgument {
        match context(error, ContextKind::SuggestedArg) {
            Some(meant) => format!("unknown flag {flag}: did you mean {meant}?"),
            None if flag.starts_with('-') => format!("unknown flag {flag}: see quorate --help"),
            None => format!("{flag:?} is no flag: see quorate --help"),
        }
    } else if kind == ErrorKind::InvalidUtf8 {
        "the name of a flag, or the value of one that is no path, is not UTF-8".to_owned()
    } else if value.is_empty() {
        format!("{flag} needs a value")
    } else if let Some(valid) = error.get(ContextKind::ValidValue) {
        format!("{flag}={value}: expected one of {valid}")
    } else {
        let why = std::error::Error::source(error).map(ToString::to_string);
        format!("{flag}={value}: {}", why.unwrap_or_default())
    }))
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    error.get(kind).map(ToString::to_string)
}

#[cfg(test)]
mod tests;
