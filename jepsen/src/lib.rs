//! Real processes under faults: workloads run while a nemesis kills and pauses servers; what the
//! clients saw is a history; checkers say whether a correct system could have answered so.
//!
//! A run that the harness itself could not carry through, and a check that ran out of time, are
//! errors of their own ([`RunError`]): never a pass.

#![allow(clippy::disallowed_methods, reason = "real processes, in real time")]

pub mod checker;
pub mod cluster;
pub mod history;
pub mod nemesis;
mod run;
pub mod workload;

pub use run::{Report, RunError, RunOptions, run, seed};
