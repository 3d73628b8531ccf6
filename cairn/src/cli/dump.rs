//! The command lines of `cairn admin dump` and `cairn admin load`.

use std::path::PathBuf;

use clap::Args;

/// `cairn admin dump`.
#[derive(Debug, Args)]
#[command(
    after_help = "It reads one point in time and runs beside clients. docs/DUMP.md describes the lines; the bytes of\n\
    files are no part of them: those are in the bucket, and what is not there yet is on data nodes alone.\n\
    A dump without its last line is cut, and `cairn admin load` refuses it."
)]
pub struct DumpArgs {
    /// Write to this file, which appears when all of it is on the disk; - is standard output
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
}

/// `cairn admin load`.
#[derive(Debug, Args)]
#[command(
    after_help = "The namespace must hold nothing but its root. The whole dump is read and checked first, in a scratch\n\
    directory ($TMPDIR) that gets about as large as the metadata; nothing is changed until it is found sound.\n\
    While it is loaded clients change nothing. A load that breaks off stays so: the same command goes on where\n\
    it stopped, and --discard makes the namespace empty again.\n\
    The cluster that was dumped must not run any more on the same bucket: either would delete what the other\n\
    still needs. Exit codes: 0 loaded; 1 refused, nothing is changed; 3 it broke off."
)]
pub struct LoadArgs {
    /// The dump; - is standard input
    #[arg(value_name = "FILE", required_unless_present = "discard")]
    pub file: Option<PathBuf>,
    /// Check the dump, and tell what would be lost; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Load it also when chunks are in no pack and on no data node of this cluster: what points at them
    /// cannot be read, for ever
    #[arg(long)]
    pub accept_loss: bool,
    /// Take out what a load that broke off has loaded
    #[arg(long, conflicts_with_all = ["file", "dry_run", "accept_loss"])]
    pub discard: bool,
}
