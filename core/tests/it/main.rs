//! Golden scripts, the paper's sections, and the project's own rules.

mod birth;
mod chaos;
mod cluster;
mod hostile;
mod paper;
mod scripts;
