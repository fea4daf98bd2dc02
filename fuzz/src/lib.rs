//! quorate: fuzz.
#![forbid(unsafe_code)]
