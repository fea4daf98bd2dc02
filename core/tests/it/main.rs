//! Golden scripts, the paper's sections, and the project's own rules.

mod wal;
