//! quorate: sim.
#![forbid(unsafe_code)]
