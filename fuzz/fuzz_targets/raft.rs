//! libFuzzer over [`quorate_fuzz::raft`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| quorate_fuzz::raft(data));

#[cfg(not(fuzzing))]
fn main() {}
