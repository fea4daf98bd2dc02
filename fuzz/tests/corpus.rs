//! Every target over what libFuzzer once found worth keeping, and over bytes from a fixed seed.

#![expect(
    clippy::print_stdout,
    reason = "captured, and shown of a test that fails"
)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use quorate_core::rng::Rng;
use quorate_fuzz::{TARGETS, Target};

/// Inputs from the seed, for each target.
const INVENTED: usize = 400;

/// Beyond this a slow machine stops inventing.
const TIME_MAX: Duration = Duration::from_secs(2);

#[test]
fn corpora() {
    for (name, target) in TARGETS {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(name);
        let files = fs::read_dir(&corpus).unwrap_or_else(|e| panic!("{}: {e}", corpus.display()));
        let mut paths: Vec<_> = files
            .map(|file| file.expect("a readable entry").path())
            .collect();
        paths.sort();
        assert!(!paths.is_empty(), "{name} has no corpus");
        for path in paths {
            // Captured, and so shown of a test that fails: the last one is the culprit.
            println!("{}", path.display());
            target(&fs::read(&path).expect("a readable file"));
        }
    }
}

#[test]
fn codec() {
    invent("codec");
}

#[test]
fn wal() {
    invent("wal");
}

#[test]
fn raft() {
    invent("raft");
}

#[test]
fn store() {
    invent("store");
}

#[test]
fn v2() {
    invent("v2");
}

fn invent(name: &str) {
    let (_, target): Target = TARGETS
        .into_iter()
        .find(|(n, _)| *n == name)
        .expect("a target");
    let began = Instant::now();
    let mut rng = Rng::new(0x5eed);
    for round in 0..INVENTED {
        if began.elapsed() > TIME_MAX {
            break;
        }
        let length = usize::try_from(rng.below(4096)).expect("a small number");
        let bytes: Vec<u8> = (0..length)
            .map(|_| rng.next_u64().to_le_bytes()[0])
            .collect();
        println!("{name}: input {round} of {length} bytes");
        target(&bytes);
    }
}
