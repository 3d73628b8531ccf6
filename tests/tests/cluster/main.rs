//! Whole clusters of real processes. One binary: each would link the S3 client and gRPC once more. One
//! test at a time; `cargo xtask test` runs it module by module.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests, in real time")]

mod accept_loss;
mod append_failures;
mod append_retries;
mod bad_clock;
mod bad_input;
mod bad_storage;
mod cli;
mod cli_failures;
mod cli_json;
mod deploy;
mod dumps;
mod fault_proxy;
mod files;
mod fsck;
mod handles;
mod hung_nodes;
mod locks;
mod members;
mod meta_crashes;
mod metadata_failover;
mod mounts;
mod posix;
mod reads;
mod removed_nodes;
mod restart;
mod servers;
mod transactions;
mod transports;
mod trees;
mod unlinked;
mod up;
mod upgrade;
mod watches;
mod write_through;
