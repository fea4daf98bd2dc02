//! quorate: runtime.
#![forbid(unsafe_code)]
