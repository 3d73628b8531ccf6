//! The command line of `cairn lag`.

use std::ffi::OsString;

use clap::Args;

/// `cairn lag`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without a path: the cluster, with what each data node may not evict and has asked of S3. With one: the\n\
    file, or all files below, at one point in time, and how near they are to the bounds of their policies.\n\
    At a file's bytes, or at the cluster's, writers are refused; before it, and at a file's age while S3 fails,\n\
    they are slowed. `cairn policy` shows and sets a file's bounds; the cluster's is 8 GiB for each data node."
)]
pub struct LagArgs {
    /// A file, or a directory with all below it
    pub path: Option<OsString>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Files of a directory that are shown, those with the most bytes first
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub top: u16,
}
