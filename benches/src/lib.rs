//! quorate: benches.
