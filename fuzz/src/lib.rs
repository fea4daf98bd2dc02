//! quorate: fuzz.
