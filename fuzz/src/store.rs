//! s
/// S
pub fn store(_data: &[u8]) {}
