//! The suite of cases that the tests and `tilewise verify` share. Results are held against the truth.
//!
//! A case runs as an app would run it, on buffers of its own. Inputs are surrounded by NaN (behind their end, between
//! their rows, beyond `kv_lens`), outputs start as NaN, and what lies between an output's rows must stay as it was.
//! What comes back is [judged](judge::judge) against the reference in f64, within a tolerance that the error of a
//! plain implementation sets.

mod case;
mod cases;
mod checked;
mod expected;
mod inputs;
pub mod judge;
pub(crate) mod output;
pub(crate) mod place;
mod problem;
mod report;
mod run;
mod scale;
mod tiles;

pub use case::{Case, Fill, Placement, Style};
pub use cases::{cases, find_cases};
pub use checked::{CheckedTrial, TileSets, checked_trials};
pub use expected::Expected;
pub use report::{CaseFailure, CaseReport, Failure};
#[cfg(not(target_arch = "wasm32"))]
pub use run::run_case;
pub use run::{Trial, run_case_async};
pub use tiles::CaseTiles;
