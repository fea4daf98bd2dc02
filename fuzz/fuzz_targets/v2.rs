//! libFuzzer over [`quorate_fuzz::v2`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| quorate_fuzz::v2(data));

#[cfg(not(fuzzing))]
fn main() {}
