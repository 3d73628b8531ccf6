//! The command line of `cairn mount`.

use std::ffi::OsString;

use cairn_sdk::ConflictRule;
use clap::{Args, Subcommand, ValueEnum};

use crate::units::parse_ms;

/// `cairn mount`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct MountArgs {
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: MountCommand,
}

const EXAMPLES: &str = "Examples:\n  \
    cairn mount add s3://bucket/photos /photos            its objects are files, and files its objects\n  \
    cairn mount add s3://bucket /data --read-only         nothing is ever written to the bucket\n  \
    cairn mount sync /photos                              read all of it now\n  \
    cairn mount show /photos                              what of it is not in the bucket yet, and why\n  \
    cairn mount check /photos                             does the bucket hold what the namespace says?\n  \
    cairn mount conflicts /photos                         what others changed while we did too\n\n\
    docs/MOUNTS.md says what is promised, and what the bucket shows when.";

/// What to do with mounts.
#[derive(Debug, Subcommand)]
pub enum MountCommand {
    /// Bind a path to s3://bucket/prefix: its objects are files at once
    #[command(
        after_help = "Credentials are the data nodes': their usual AWS chain (a role, the environment, ~/.aws), or the profile or\n\
        file that is named, which must be on each of them. What an endpoint can do is tried by some objects below\n\
        .cairn-temporary/, which are removed again; one that cannot write conditionally is mounted read-only, unless\n\
        --sole-writer says that nobody else writes there."
    )]
    Add(MountAddArgs),
    /// Show the mounts
    Ls,
    /// Show one mount: what its endpoint can do, what is pending and why, conflicts
    Show {
        /// The mount's path
        path: OsString,
    },
    /// Change how a mount is kept; only what is given changes
    Set(MountSetArgs),
    /// Read a directory of a mount from its bucket now, with all below it
    Sync(MountSyncArgs),
    /// Compare a mount, or a directory of one, with its bucket, object by object
    #[command(
        after_help = "What differs is told with the reason: pending (it is on its way to the bucket), conflict (it has a record, see\n\
        `cairn mount conflicts`), foreign (somebody else wrote the object and it was not read yet), missing (somebody\n\
        else deleted it and that was not read yet), unlike (neither: look at the logs). Keys that cannot be names are\n\
        told as well. Exit code 1 when something differs that is not pending."
    )]
    Check(MountCheckArgs),
    /// Show what others changed in the bucket while we changed it too
    Conflicts(ConflictsArgs),
    /// Unbind a path; the bucket stays as it is
    Rm {
        /// The mount's path
        path: OsString,
        /// Wait until the bucket holds everything
        #[arg(long, conflicts_with = "abandon")]
        wait: bool,
        /// Also with changes that the bucket has not got: they are lost
        #[arg(long)]
        abandon: bool,
    },
}

/// `cairn mount add`.
#[derive(Debug, Args)]
pub struct MountAddArgs {
    /// s3://bucket/prefix
    pub url: String,
    /// The path, made if it is missing
    pub path: OsString,
    /// The S3 endpoint, for other than AWS
    #[arg(long, env = "AWS_ENDPOINT_URL", default_value = "", hide_default_value = true)]
    pub endpoint: String,
    /// The region
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1")]
    pub region: String,
    /// Put the bucket in the host name, not in the path, at an endpoint of one's own
    #[arg(long)]
    pub virtual_host: bool,
    /// The same in seconds
    #[arg(long, hide = true, conflicts_with = "refresh")]
    pub refresh_seconds: Option<u64>,
    /// Do not wait until the endpoint was tried
    #[arg(long)]
    pub no_wait: bool,
    /// How it is kept.
    #[command(flatten)]
    pub change: MountChange,
}

/// `cairn mount set`.
#[derive(Debug, Args)]
pub struct MountSetArgs {
    /// The mount's path
    pub path: OsString,
    /// What changes.
    #[command(flatten)]
    pub change: MountChange,
}

/// How a mount is kept; what is not given stays, or is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct MountChange {
    /// Write nothing to the bucket, and refuse changes below the path
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub read_only: Option<bool>,
    /// After how long a directory is read from the bucket again: 60s, 5m, never [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = parse_refresh)]
    pub refresh: Option<u64>,
    /// A file that is being changed gets its object no later than this: 30s, 5m [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_ms)]
    pub object_lag: Option<u64>,
    /// Who has the name when a file and its object were both changed; the other side is kept [default: keep-both]
    #[arg(long, value_enum, value_name = "WHO")]
    pub on_conflict: Option<ConflictWord>,
    /// Nobody else writes to the bucket: endpoints without conditional writes can be written to
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub sole_writer: Option<bool>,
    /// A profile of the data nodes' AWS configuration; empty: their usual chain
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// A file with credentials on the data nodes; empty: the usual place
    #[arg(long, value_name = "FILE")]
    pub credentials_file: Option<String>,
    /// Who asks pays
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub requester_pays: Option<bool>,
    /// How what is written is encrypted in the bucket
    #[arg(long, value_name = "HOW", value_parser = ["AES256", "aws:kms", "none"])]
    pub sse: Option<String>,
    /// The key of aws:kms; empty: the bucket's
    #[arg(long, value_name = "KEY")]
    pub sse_kms_key: Option<String>,
    /// The storage class of what is written; empty: the bucket's
    #[arg(long, value_name = "CLASS")]
    pub storage_class: Option<String>,
}

/// Who has the name after a conflict, on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ConflictWord {
    /// The bucket's version; the file's is kept beside it as name.conflict-N
    KeepBoth,
    /// The bucket's version; the file's is kept below .cairn-conflicts of the mount
    Bucket,
    /// The file's version; the bucket's is kept below .cairn-conflicts of the mount
    Namespace,
}

impl From<ConflictWord> for ConflictRule {
    fn from(word: ConflictWord) -> Self {
        match word {
            ConflictWord::KeepBoth => Self::KeepBoth,
            ConflictWord::Bucket => Self::Bucket,
            ConflictWord::Namespace => Self::Namespace,
        }
    }
}

/// `cairn mount sync`.
#[derive(Debug, Args)]
pub struct MountSyncArgs {
    /// A directory of a mount, or the mount's path
    pub path: OsString,
    /// Only the directory itself
    #[arg(long)]
    pub shallow: bool,
    /// Directories at once
    #[arg(short = 'j', long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,
}

/// `cairn mount check`.
#[derive(Debug, Args)]
pub struct MountCheckArgs {
    /// A mount's path, or a directory of one
    pub path: OsString,
    /// Read directories from the bucket in which something differs that is not pending, and look again
    #[arg(long)]
    pub repair: bool,
    /// Files looked at at once
    #[arg(short = 'j', long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,
}

/// `cairn mount conflicts`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ConflictsArgs {
    /// A mount's path; without it those of all mounts
    pub path: Option<OsString>,
    /// Conflicts of each mount, at most
    #[arg(long, default_value_t = 1_000)]
    pub limit: usize,

    /// What else to do.
    #[command(subcommand)]
    pub command: Option<ConflictsCommand>,
}

/// What to do with conflicts.
#[derive(Debug, Subcommand)]
pub enum ConflictsCommand {
    /// Forget conflicts that were looked at; the files stay
    Dismiss {
        /// The mount's path
        path: OsString,
        /// Their numbers
        #[arg(required_unless_present = "all")]
        conflicts: Vec<u64>,
        /// All there are now
        #[arg(long, conflicts_with = "conflicts")]
        all: bool,
    },
}

/// A time in milliseconds, or 0 for "never".
fn parse_refresh(text: &str) -> Result<u64, String> {
    match text {
        "never" => Ok(0),
        text => match parse_ms(text)? {
            0 => {
                Err("a refresh of no time would read the bucket at each look: write never, or 1s".to_owned())
            }
            ms => Ok(ms),
        },
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::{Cli, Command};

    use super::*;

    fn read(line: &str) -> Result<MountArgs, clap::Error> {
        match Cli::read(line.split(' '))?.command {
            Command::Mount(args) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_mount_is_writable_unless_it_is_said_and_its_times_have_units() {
        let line = "cairn mount add s3://b/p /m --refresh never --object-lag 5s --on-conflict keep-both --sole-writer \
             --profile x --credentials-file /f --requester-pays --sse aws:kms --sse-kms-key k --storage-class GLACIER_IR";
        let MountCommand::Add(args) = read(line).unwrap().command else { panic!("{line}") };
        let change = args.change;
        assert_eq!((change.read_only, change.refresh, change.object_lag), (None, Some(0), Some(5_000)));
        assert_eq!((change.on_conflict, change.sole_writer), (Some(ConflictWord::KeepBoth), Some(true)));
        let MountCommand::Set(args) = read("cairn mount set /m --read-only=false").unwrap().command else {
            panic!("no set")
        };
        assert_eq!(args.change, MountChange { read_only: Some(false), ..MountChange::default() });
        let MountCommand::Add(args) = read("cairn mount add s3://b /m --read-only").unwrap().command else {
            panic!("no add")
        };
        assert_eq!(args.change.read_only, Some(true));
        for (line, says) in [
            ("cairn mount add s3://b /m --refresh 60", "500ms"),
            ("cairn mount add s3://b /m --refresh 0s", "never"),
            ("cairn mount add s3://b /m --on-conflict mine", "namespace"),
            ("cairn mount rm /m --wait --abandon", "--abandon"),
            ("cairn mount conflicts dismiss /m", "<CONFLICTS>"),
        ] {
            let refused = read(line).expect_err(line).to_string();
            assert!(refused.contains(says), "{line}: {refused}");
        }
    }

    #[test]
    fn json_is_a_flag_of_mount_and_of_what_follows_it() {
        assert!(read("cairn mount --json ls").unwrap().json);
        assert!(read("cairn mount ls --json").unwrap().json);
        assert!(read("cairn mount conflicts dismiss /m 7 --json").unwrap().json);
        assert!(!read("cairn mount conflicts /m").unwrap().json);
    }
}
