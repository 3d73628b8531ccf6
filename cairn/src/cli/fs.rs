//! The command line of `cairn fs`.

use std::ffi::OsString;

use cairn_sdk::types::FileKind;
use clap::{Args, Subcommand};

/// `cairn fs`.
#[derive(Debug, Args)]
pub struct FsArgs {
    /// Print results as JSON, one object a line
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: FsCommand,
}

/// What to do with files and directories.
#[derive(Debug, Subcommand)]
pub enum FsCommand {
    /// List directories
    Ls(LsArgs),
    /// Show attributes
    Stat {
        /// Paths
        #[arg(required = true)]
        paths: Vec<OsString>,
        /// Show a symlink itself
        #[arg(short = 'P', long)]
        no_follow: bool,
    },
    /// Write files to standard output
    Cat {
        /// Paths
        #[arg(required = true)]
        paths: Vec<OsString>,
        /// The first byte
        #[arg(long, default_value_t = 0)]
        offset: u64,
        /// Bytes at most
        #[arg(long)]
        length: Option<u64>,
    },
    /// Show the end of a file, and what is appended
    Tail(TailArgs),
    /// Copy local files into the namespace ("-" is standard input)
    Put(TransferArgs),
    /// Copy files out of the namespace ("-" is standard output)
    Get(TransferArgs),
    /// Append records; each is durable on every replica when its offset is printed
    Append(AppendArgs),
    /// Copy inside the namespace
    Cp(TransferArgs),
    /// Rename files and directories, each in one atomic step
    Mv {
        /// From … to
        #[arg(required = true, num_args = 2.., value_name = "PATH")]
        paths: Vec<OsString>,
        /// Refuse to replace an existing destination
        #[arg(short = 'n', long, conflicts_with = "exchange")]
        no_replace: bool,
        /// Swap the two
        #[arg(long)]
        exchange: bool,
    },
    /// Remove files, and directories with -r
    Rm(RmArgs),
    /// Show paths below directories, by name and kind
    Find(FindArgs),
    /// Make directories
    Mkdir {
        /// Paths
        #[arg(required = true)]
        paths: Vec<OsString>,
        /// Those above too; no error when it exists
        #[arg(short = 'p', long)]
        parents: bool,
        /// Permission bits, octal
        #[arg(short = 'm', long, default_value = "755", value_parser = parse_mode)]
        mode: u32,
    },
    /// Make hard links, and symlinks with -s
    Ln {
        /// What it leads to
        to: OsString,
        /// The new name
        path: OsString,
        /// A symlink
        #[arg(short = 's', long)]
        symbolic: bool,
    },
    /// Add up sizes
    Du {
        /// Paths
        #[arg(default_value = "/")]
        paths: Vec<OsString>,
        /// Only a total for each path
        #[arg(short = 's', long)]
        summarize: bool,
    },
    /// Show a tree
    Tree {
        /// The directory
        #[arg(default_value = "/")]
        path: OsString,
        /// Levels at most
        #[arg(short = 'L', long)]
        depth: Option<usize>,
    },
    /// Wait until everything in files is in S3
    Sync {
        /// Paths of files
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Show or set a directory's policy
    Policy(PolicyArgs),
}

/// `cairn fs ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Paths
    #[arg(default_value = "/")]
    pub paths: Vec<OsString>,
    /// With attributes
    #[arg(short = 'l', long)]
    pub long: bool,
    /// All that lies below, by its path from the directory, as an S3 listing orders it
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Only names after this one; with -R paths, a directory's with a slash at its end
    #[arg(long, value_name = "NAME")]
    pub start_after: Option<OsString>,
    /// Only names (with -R: paths) that begin with this
    #[arg(long)]
    pub prefix: Option<OsString>,
    /// Entries at most
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub limit: u64,
}

/// `cairn fs rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// Paths
    #[arg(required = true)]
    pub paths: Vec<OsString>,
    /// Directories with all they hold, each in one atomic step; their space is given back in the background
    #[arg(short = 'r', long)]
    pub recursive: bool,
    /// Say nothing of what does not exist
    #[arg(short = 'f', long)]
    pub force: bool,
    /// With -r: wait until the space is given back
    #[arg(long, requires = "recursive")]
    pub wait: bool,
}

/// `cairn fs find`.
#[derive(Debug, Args)]
pub struct FindArgs {
    /// Paths
    #[arg(default_value = "/")]
    pub paths: Vec<OsString>,
    /// Only names that this pattern fits: * ? [a-z] [!a-z]
    #[arg(long, value_name = "GLOB")]
    pub name: Option<OsString>,
    /// Only files (f), directories (d) or symlinks (l)
    #[arg(long = "type", value_name = "KIND", value_parser = ["f", "d", "l"])]
    pub kind: Option<String>,
}

impl FindArgs {
    /// The kind that is wanted.
    pub fn kind(&self) -> Option<FileKind> {
        match self.kind.as_deref() {
            Some("f") => Some(FileKind::File),
            Some("d") => Some(FileKind::Directory),
            Some("l") => Some(FileKind::Symlink),
            _ => None,
        }
    }
}

/// `cairn fs tail`.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// The file
    pub path: OsString,
    /// Go on as it grows
    #[arg(short = 'f', long)]
    pub follow: bool,
    /// Lines from the end
    #[arg(short = 'n', long, default_value_t = 10, conflicts_with = "bytes")]
    pub lines: usize,
    /// Bytes from the end
    #[arg(short = 'c', long)]
    pub bytes: Option<u64>,
}

/// `cairn fs put`, `cairn fs get` and `cairn fs cp`.
#[derive(Debug, Args)]
pub struct TransferArgs {
    /// From … to
    #[arg(required = true, num_args = 2.., value_name = "PATH")]
    pub paths: Vec<OsString>,
    /// Directories with all they hold
    #[arg(short = 'r', long)]
    pub recursive: bool,
    /// Files at once
    #[arg(short = 'j', long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,
    /// No progress bar
    #[arg(short = 'q', long)]
    pub quiet: bool,
}

/// `cairn fs append`.
#[derive(Debug, Args)]
pub struct AppendArgs {
    /// The file, made if it is missing
    pub path: OsString,
    /// The record; without it standard input is one record (up to 1 MiB)
    pub data: Option<OsString>,
    /// Each line of standard input is a record
    #[arg(short = 'l', long, conflicts_with = "data")]
    pub lines: bool,
    /// Fence off every earlier writer first
    #[arg(long)]
    pub exclusive: bool,
    /// Only if the file ends here
    #[arg(long, value_name = "OFFSET", conflicts_with = "lines")]
    pub expect: Option<u64>,
}

/// `cairn fs policy`.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// The directory
    pub path: OsString,
    /// Copies of each chunk, 1–7
    #[arg(long)]
    pub replicas: Option<u8>,
    /// Copies without which nothing is written
    #[arg(long)]
    pub min_replicas: Option<u8>,
    /// fsync or memory
    #[arg(long, value_parser = ["fsync", "memory"])]
    pub ack: Option<String>,
    /// async, sync or never
    #[arg(long, value_parser = ["async", "sync", "never"])]
    pub persist: Option<String>,
    /// Age of unpersisted bytes that is aimed at, in milliseconds
    #[arg(long)]
    pub max_lag_ms: Option<u64>,
    /// Inherit from the directory above again
    #[arg(long)]
    pub inherit: bool,
}

fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err("a mode is octal, 0 to 7777".to_owned()),
    }
}
