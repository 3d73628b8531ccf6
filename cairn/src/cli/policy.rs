//! The command line of `cairn policy`.

use std::ffi::OsString;

use clap::{Args, Subcommand, ValueEnum};

use crate::units::{parse_lag_age, parse_lag_bytes};

/// `cairn policy`.
#[derive(Debug, Args)]
#[command(
    after_help = "A directory has a policy of its own, as a whole, or inherits that of the nearest directory above that has\n\
    one. `set` gives it one: what is in force there, with the changes given. Below, directories with one of\n\
    their own keep it. It counts for what is written from then on; clients may write by the old one for some\n\
    seconds more."
)]
pub struct PolicyArgs {
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: PolicyCommand,
}

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Show the policy in force at a path, and where it is set
    Get {
        /// A path
        path: OsString,
    },
    /// Give a directory a policy of its own; only what is given changes
    Set(PolicySetArgs),
    /// Let a directory inherit from the one above again
    Unset {
        /// A directory
        path: OsString,
    },
}

/// `cairn policy set`.
#[derive(Debug, Args)]
pub struct PolicySetArgs {
    /// A directory
    pub path: OsString,
    /// What changes.
    #[command(flatten)]
    pub change: PolicyChange,
}

/// What of a policy changes.
#[derive(Debug, Default, Args)]
#[group(required = true, multiple = true)]
pub struct PolicyChange {
    /// Copies of each chunk, 1–7
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=7))]
    pub replicas: Option<u8>,
    /// Copies without which nothing is written, 1 up to --replicas
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=7))]
    pub min_replicas: Option<u8>,
    /// When an append is acknowledged: when it is on the disks (fsync), or written to the systems of all
    /// copies, where a loss of power may take it (memory)
    #[arg(long, value_enum)]
    pub ack: Option<AckWord>,
    /// When S3 gets it: in the background (async), before fsync and close return (sync), or never
    #[arg(long, value_enum)]
    pub persist: Option<PersistWord>,
    /// Age of bytes that are not in S3 that is aimed at: 500ms, 10s, 5m, 1h; 100ms to 365d
    #[arg(long, value_name = "TIME", value_parser = parse_lag_age)]
    pub max_lag_age: Option<u64>,
    /// Bytes of one file that may wait for S3: near it writers are slowed, at it refused; 1MiB to 1PiB
    #[arg(long, value_name = "BYTES", value_parser = parse_lag_bytes)]
    pub max_lag_bytes: Option<u64>,
}

/// What `--ack` may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AckWord {
    /// On disk.
    Fsync,
    /// In memory.
    Memory,
}

/// What `--persist` may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PersistWord {
    /// In the background.
    Async,
    /// Before fsync and close return.
    Sync,
    /// Not at all.
    Never,
}
