//! w
/// W
pub fn wal(_data: &[u8]) {}
