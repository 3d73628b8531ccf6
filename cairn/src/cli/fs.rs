//! The command line of `cairn fs`.

use std::ffi::OsString;

use cairn_sdk::types::{Credentials, FileKind, LockRange};
use clap::{Args, Subcommand};

use crate::units::parse_bytes;

/// `cairn fs`.
#[derive(Debug, Args)]
pub struct FsArgs {
    /// Print results as JSON, one object a line
    #[arg(long, global = true)]
    pub json: bool,

    /// Be checked as this user: uid:gid[,gid…]; without it nothing is checked
    #[arg(long = "as", global = true, value_name = "UID:GID", value_parser = parse_credentials)]
    pub credentials: Option<Credentials>,

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
    Cp(CopyArgs),
    /// Append files to another one, made if it is missing, without moving their bytes: all or nothing
    Concat {
        /// From … to
        #[arg(required = true, num_args = 2.., value_name = "PATH")]
        paths: Vec<OsString>,
    },
    /// Make several changes in one step, all or none, if what a JSON document demands holds
    #[command(after_help = TXN_HELP)]
    Txn {
        /// The document ("-" is standard input)
        file: OsString,
    },
    /// Rename files and directories, each in one atomic step; across mounts they are copied, then removed
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
    /// Make a fifo, a socket or a device
    Mknod(MknodArgs),
    /// Show and change extended attributes
    Xattr(XattrArgs),
    /// Show capacity, use and free room
    Df,
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
    /// Show where a file's bytes are: extents, chunks, replicas, uploads, places in S3, lag, writers
    Explain {
        /// The file
        path: OsString,
    },
    /// Wait until everything in files is in S3
    Sync {
        /// Paths of files
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Read files, and all below directories, so that the data nodes keep what they had to get from S3
    Warm(WarmArgs),
    /// Run a command while a file is locked, as flock(1) does
    ///
    /// Leaves with the command's exit code; with 75 when --no-wait is given and somebody else holds the
    /// lock, and with 3 when the lock was lost while the command ran.
    Lock(LockArgs),
    /// Show changes as they are made, until interrupted; tells then where to go on
    Watch(WatchArgs),
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

/// `cairn fs warm`.
#[derive(Debug, Args)]
pub struct WarmArgs {
    /// Paths
    #[arg(required = true)]
    pub paths: Vec<OsString>,
    /// Bytes a second, at most: 100MiB
    #[arg(long, value_name = "BYTES", value_parser = parse_bandwidth)]
    pub bandwidth: Option<u64>,
    /// Files at once
    #[arg(short = 'j', long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,
    /// No progress bar
    #[arg(short = 'q', long)]
    pub quiet: bool,
}

fn parse_bandwidth(text: &str) -> Result<u64, String> {
    match parse_bytes(text)? {
        0 => Err("nothing a second would never end".to_owned()),
        bytes => Ok(bytes),
    }
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
    /// Go on as it grows, with this file, whatever becomes of its name
    #[arg(short = 'f', long)]
    pub follow: bool,
    /// The same, with whatever file has the name
    #[arg(short = 'F', long)]
    pub by_name: bool,
    /// Lines from the end
    #[arg(short = 'n', long, default_value_t = 10, conflicts_with = "bytes")]
    pub lines: usize,
    /// Bytes from the end
    #[arg(short = 'c', long)]
    pub bytes: Option<u64>,
}

/// The document of `cairn fs txn`.
const TXN_HELP: &str = r#"The document:
  {"preconditions": [{"path": "/t/v2", "absent": true},
                     {"path": "/t/current", "ino": 7, "version": 3, "length": 2}],
   "operations":    [{"op": "create", "path": "/t/v2", "text": "{}"},
                     {"op": "put", "path": "/t/current", "text": "v2"}]}

A precondition without more than a path: something is there. Operations, in order, each seeing what
those before it did (1 to 256; paths are absolute):
  mkdir      path, mode          create, put  path, mode, text or file (local, up to 64 MiB)
  symlink    path, to            link         from, path
  unlink     path                rmdir        path
  rename     from, path, no_replace or exchange
  set_attr   path, mode, uid, gid, size, version (refused at another one)
  clone      from, path, replace or recursive
  copy_range from, from_offset, path, offset, length (to the end without)
  concat     path, from (a list) punch_hole, allocate  path, offset, length

With --json one object: what each operation made or changed, or which part was refused and why; for a
precondition what is there now. Exit code 1 when it was refused: nothing is changed then."#;

/// `cairn fs cp`.
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// What to copy, and how.
    #[command(flatten)]
    pub transfer: TransferArgs,
    /// Share the bytes instead of copying them; with -r a tree as it is at one point in time
    /// (about 800 small files at most), to a name that is free
    #[arg(long, visible_alias = "clone")]
    pub reflink: bool,
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
    /// Only if the file ends here: else nothing is appended, and its length is told
    #[arg(long, value_name = "OFFSET", visible_alias = "expect", conflicts_with = "lines")]
    pub at: Option<u64>,
}

/// `cairn fs mknod`.
#[derive(Debug, Args)]
pub struct MknodArgs {
    /// The new name
    pub path: OsString,
    /// p: a fifo, s: a socket, c: a character device, b: a block device
    #[arg(value_parser = ["p", "s", "c", "b"])]
    pub kind: String,
    /// A device's major number, 0–4095
    #[arg(requires = "minor")]
    pub major: Option<u32>,
    /// A device's minor number, 0–1048575
    pub minor: Option<u32>,
    /// Permission bits, octal
    #[arg(short = 'm', long, default_value = "644", value_parser = parse_mode)]
    pub mode: u32,
}

/// `cairn fs xattr`.
#[derive(Debug, Args)]
pub struct XattrArgs {
    /// A symlink itself, not what it leads to
    #[arg(short = 'P', long, global = true)]
    pub no_follow: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: XattrCommand,
}

/// What to do with extended attributes.
#[derive(Debug, Subcommand)]
pub enum XattrCommand {
    /// List names
    Ls {
        /// The path
        path: OsString,
    },
    /// Write a value to standard output as it is; with --json as hexadecimal digits
    Get {
        /// The path
        path: OsString,
        /// The attribute: user.…, trusted.… or security.…
        name: OsString,
    },
    /// Set a value (64 KiB at most)
    Set {
        /// The path
        path: OsString,
        /// The attribute: user.…, trusted.… or security.…
        name: OsString,
        /// The value; without it standard input is read
        value: Option<OsString>,
        /// Refuse one that exists
        #[arg(long, conflicts_with = "replace")]
        create: bool,
        /// Refuse one that does not exist
        #[arg(long)]
        replace: bool,
    },
    /// Remove an attribute
    Rm {
        /// The path
        path: OsString,
        /// The attribute
        name: OsString,
    },
}

/// `cairn fs lock`.
#[derive(Debug, Args)]
pub struct LockArgs {
    /// The file, made if it is missing
    pub path: OsString,
    /// Let others hold it shared too
    #[arg(short = 's', long)]
    pub shared: bool,
    /// Only these bytes, as fcntl(2) locks them: the first and the last, or "FIRST-" for all from there on
    #[arg(long, value_name = "FIRST-LAST", value_parser = parse_range)]
    pub range: Option<LockRange>,
    /// Leave with code 75 rather than wait when somebody else holds it
    #[arg(short = 'n', long)]
    pub no_wait: bool,
    /// What to run
    #[arg(required = true, last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

fn parse_range(text: &str) -> Result<LockRange, String> {
    let wrong = || "a range is FIRST-LAST or FIRST-, two numbers of bytes".to_owned();
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let start = first.parse().map_err(|_| wrong())?;
    let last = if last.is_empty() { u64::MAX } else { last.parse().map_err(|_| wrong())? };
    if start <= last { Ok(LockRange { start, last }) } else { Err(wrong()) }
}

/// `cairn fs watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The directory, or a file
    pub path: OsString,
    /// Also what lies in the directories below
    #[arg(short = 'r', long)]
    pub recursive: bool,
    /// Only what changed after this entry of the log: where an earlier watch ended
    #[arg(long, value_name = "INDEX")]
    pub after: Option<u64>,
}

fn parse_credentials(text: &str) -> Result<Credentials, String> {
    let known = text.split_once(':').and_then(|(uid, gids)| {
        let gids = gids.split(',').map(|gid| gid.parse().ok()).collect::<Option<Vec<u32>>>()?;
        let (gid, groups) = gids.split_first()?;
        Some(Credentials { uid: uid.parse().ok()?, gid: *gid, groups: groups.to_vec() })
    });
    known.filter(Credentials::is_valid).ok_or_else(|| "a user is uid:gid, or uid:gid,gid,…".to_owned())
}

/// Permission bits from octal digits.
pub fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err("a mode is octal, 0 to 7777".to_owned()),
    }
}
