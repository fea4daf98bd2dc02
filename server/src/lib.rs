//! quorate: server.
