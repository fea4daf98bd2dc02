//! A whole member: Raft, store and watches behind `step`, `poll` and `deadline`.
