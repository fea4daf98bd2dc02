//! quorate: runtime.
