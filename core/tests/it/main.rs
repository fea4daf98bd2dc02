//! Golden scripts, the paper's sections, and the project's own rules.

mod chaos;
mod cluster;
mod paper;
mod scripts;
