//! The replication of metadata, simulated: real openraft, log store, state machine and namespace over
//! disks that forget what was not synced and a network that loses, delays, repeats and cuts. One thread
//! and one seed: a seed gives the same run again.
//!
//! ```text
//! run ─┬─ client, nemesis, check (with the reference model of meta/tests/namespace_model)
//!      └─ hub ── server ── openraft ──┬── log_store, tail ── log  (ForgetfulLog) ── life
//!                                     ├── recorded ── machine ── store (ForgetfulStore) ── life
//!                                     └── net ── hub
//! executor, runtime, dice: time, tasks and chance
//! ```

mod check;
mod client;
mod dice;
pub mod executor;
mod hub;
mod ledger;
mod lie;
mod life;
mod log;
#[allow(dead_code, unused_imports, reason = "the namespace's tests use the rest")]
#[path = "../../../tests/namespace_model/model.rs"]
mod model;
mod nemesis;
mod net;
mod recorded;
mod run;
pub mod runtime;
mod server;
mod store;
mod tests;
