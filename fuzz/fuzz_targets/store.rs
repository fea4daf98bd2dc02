//! libFuzzer over [`quorate_fuzz::store`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| quorate_fuzz::store(data));

#[cfg(not(fuzzing))]
fn main() {}
