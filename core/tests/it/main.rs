//! Golden scripts, the paper's sections, and the project's own rules.

mod model;
mod store;
mod store_against_model;
