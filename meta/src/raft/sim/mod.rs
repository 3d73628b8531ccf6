//! The replication of metadata, simulated: real openraft, log store, state machine and namespace over
//! disks that forget what was not synced and a network that loses, delays, repeats and cuts. One thread
//! and one seed: a seed gives the same run again.

pub mod dice;
pub mod executor;
pub mod runtime;
