//! Whole clusters of real processes. One binary: each would link the S3 client and gRPC once more. One
//! test at a time; `cargo xtask test` runs it module by module.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests, in real time")]

mod accept_loss;
mod append_disks;
mod append_failures;
mod append_partitions;
mod append_pipelines;
mod append_retries;
mod append_rolls;
mod bad_clock;
mod bad_input;
mod bad_storage;
mod cli;
mod cli_failures;
mod cli_json;
mod deploy;
mod disks;
mod drain;
mod dumps;
mod fault_proxy;
mod files;
mod fsck;
mod gc;
mod handles;
mod hung_nodes;
mod kv_store;
mod lag;
mod locks;
mod members;
mod merges;
mod meta_crashes;
mod metadata_failover;
mod mount_bed;
mod mount_faults;
mod mount_renames;
mod mount_three_actors;
mod mount_writes;
mod mounts;
mod node_memory;
mod policies;
mod posix;
mod reads;
mod removed_nodes;
mod restart;
mod servers;
mod tails;
mod traces;
mod transactions;
mod transports;
mod trees;
mod unlinked;
mod up;
mod upgrade;
mod watches;
mod write_through;
