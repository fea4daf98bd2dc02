//! quorate: server.
#![forbid(unsafe_code)]
