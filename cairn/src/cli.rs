//! The command line: what `cairn --help` teaches.

mod admin;
mod dump;
mod fs;
mod lag;
mod mount;
mod policy;
mod raft;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use admin::{
    AcceptLossArgs, AdminArgs, AdminCommand, ChunkCommand, DrainNodeArgs, FsckArgs, GcArgs, NodeCommand,
    RemoveNodeArgs,
};
pub use dump::{DumpArgs, LoadArgs};
pub use fs::{
    AppendArgs, FindArgs, FsArgs, FsCommand, LockArgs, LsArgs, MknodArgs, RmArgs, TailArgs, TransferArgs,
    WarmArgs, WatchArgs, XattrArgs, XattrCommand, parse_mode,
};
pub use lag::LagArgs;
pub use mount::{
    ConflictsArgs, ConflictsCommand, MountAddArgs, MountArgs, MountChange, MountCheckArgs, MountCommand,
    MountSetArgs, MountSyncArgs,
};
pub use policy::{AckWord, PersistWord, PolicyArgs, PolicyChange, PolicyCommand};
pub use raft::{AddArgs, PromoteArgs, RaftCommand};

/// A filesystem namespace over S3.
#[derive(Debug, Parser)]
#[command(name = "cairn", version, about, long_about = LONG_ABOUT, after_help = EXAMPLES)]
pub struct Cli {
    /// How to reach the cluster.
    #[command(flatten)]
    pub connect: Connect,

    /// What to log, to standard error: error, warn, info, debug, trace, or a filter like `cairn_sdk=debug`.
    #[arg(long, global = true, env = "CAIRN_LOG", default_value = "", hide_default_value = true)]
    pub log: String,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads the command line.
    ///
    /// # Errors
    /// What clap says of it; help and version come this way too.
    pub fn read<I, T>(arguments: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        let matches = Self::command().try_get_matches_from(arguments)?;
        let mut cli = Self::from_arg_matches(&matches).map_err(|e| e.format(&mut Self::command()))?;
        cli.connect.given = matches.value_source("connect") == Some(ValueSource::CommandLine);
        Ok(cli)
    }
}

const LONG_ABOUT: &str = "A filesystem namespace over S3: atomic rename, fast listings and durable appends.\n\n\
    `cairn up` starts everything in one process, for a first try. `cairn meta` and `cairn data` are the\n\
    servers of a cluster. The other commands talk to a cluster named by --connect.";

const EXAMPLES: &str = "Examples:\n  \
    cairn up                                    everything in one process, data under ~/.local/share/cairn\n  \
    cairn fs put -r ./project /project          copy a local tree into the namespace\n  \
    cairn fs ls -l /project                     list it\n  \
    echo hello | cairn fs append /logs/app      append a record, durable when the command ends\n  \
    cairn status                                servers, data nodes, lag\n  \
    cairn policy set /logs --max-lag-age 10s    how the files below are kept\n  \
    cairn lag /logs                             what of them is not in S3 yet\n\n\
    Exit codes: 0 done; 1 refused (it says why); 2 wrong usage or configuration;\n\
    3 the cluster or S3 cannot be reached, or the outcome is unknown; 4 damaged data; 70 a bug.";

/// How to reach the cluster.
#[derive(Clone, Debug, Args)]
pub struct Connect {
    /// Metadata servers, host:port, separated by commas; any one finds the others.
    #[arg(
        long,
        global = true,
        env = "CAIRN_CONNECT",
        default_value = "127.0.0.1:7100",
        value_delimiter = ','
    )]
    pub connect: Vec<String>,

    /// True when `--connect` was given as a flag: neither the environment nor the default named it.
    #[arg(skip)]
    pub given: bool,

    /// Refuse a cluster with another id (32 hexadecimal digits).
    #[arg(long, global = true, env = "CAIRN_CLUSTER_ID", value_name = "ID")]
    pub cluster_id: Option<String>,

    /// Seconds for which a call is retried before it gives up.
    #[arg(long, global = true, env = "CAIRN_RETRY_SECONDS", default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=31_536_000))]
    pub retry_seconds: u64,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a whole CairnFS in one process, with nothing to configure
    Up(UpArgs),
    /// Run a metadata server
    Meta(MetaArgs),
    /// Run a data node
    Data(DataArgs),
    /// Show servers, data nodes, capacity and lag
    Status(StatusArgs),
    /// Show what is acknowledged and not in S3 yet: of the cluster, a tree or a file
    Lag(LagArgs),
    /// Show and set how files are kept: replicas, acknowledgement, S3, bounds of the lag
    Policy(PolicyArgs),
    /// Work with files and directories
    Fs(FsArgs),
    /// Bind paths to existing buckets: their objects are files, and files their objects
    Mount(MountArgs),
    /// Decide what only an operator may decide
    Admin(AdminArgs),
    /// Measure, beside the limit of the same run; without a name, list what can be measured
    Bench(BenchArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// `cairn up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Where the data is kept [default: ~/.local/share/cairn]
    #[arg(long, env = "CAIRN_UP_DIR")]
    pub dir: Option<PathBuf>,
    /// Metadata servers and data nodes, of each: 1 or 3
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3))]
    pub nodes: u8,
    /// The first port; a cluster of 3 + 3 uses the next 60 as well
    #[arg(long, default_value_t = 7100)]
    pub port: u16,
    /// Write through to this bucket, s3://bucket/prefix; credentials come from the usual AWS chain
    #[arg(long, value_name = "URL")]
    pub s3: Option<String>,
    /// Where that bucket is
    #[command(flatten)]
    pub at: S3Place,
}

/// Where a bucket is.
#[derive(Debug, Args)]
pub struct S3Place {
    /// The S3 endpoint, for other than AWS
    #[arg(long, env = "AWS_ENDPOINT_URL", default_value = "", hide_default_value = true)]
    pub s3_endpoint: String,
    /// The S3 region
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1")]
    pub s3_region: String,
}

/// `cairn meta`.
#[derive(Debug, Args)]
#[command(after_help = "Every key of the TOML file can be set by the environment, as CAIRN_META_<KEY>\n\
    (CAIRN_META_LISTEN=…), and the common ones by flags. Flags win over the environment, that over the file.\n\
    deploy/sample/meta1.toml shows all keys.")]
pub struct MetaArgs {
    /// TOML file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// This server's id, unique in the cluster, never reused
    #[arg(long)]
    pub id: Option<u64>,
    /// Where the Raft log and the state are kept
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Address to listen on, host:port
    #[arg(long)]
    pub listen: Option<String>,
    /// Address that others are told, when it differs
    #[arg(long)]
    pub advertise: Option<String>,
    /// The first members, ID@host:port, separated by commas; used while the directory is new
    #[arg(long, value_delimiter = ',')]
    pub peers: Vec<String>,
    /// Servers of a running cluster, host:port, separated by commas: this one waits, empty, until
    /// `cairn admin raft add` adds it there
    #[arg(long, value_delimiter = ',', conflicts_with = "peers")]
    pub join: Vec<String>,
    /// Address of /metrics, /healthz and /readyz; empty turns them off
    #[arg(long)]
    pub http: Option<String>,
    /// Allow an address other than loopback without TLS
    #[arg(long)]
    pub insecure: bool,
    /// Print the configuration in force as TOML and leave
    #[arg(long)]
    pub print_config: bool,
}

/// `cairn data`.
#[derive(Debug, Args)]
#[command(after_help = "Every key of the TOML file can be set by the environment, as CAIRN_DATA_<KEY>\n\
    (CAIRN_DATA_LISTEN=…, CAIRN_DATA_UNDERSTORE_URL=…), and the common ones by flags. Flags win over the\n\
    environment, that over the file. S3 credentials come from the usual AWS chain (AWS_ACCESS_KEY_ID, ~/.aws, …),\n\
    never from flags or this file. deploy/sample/data1.toml shows all keys.")]
pub struct DataArgs {
    /// TOML file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the segments are kept; again for each further disk. One is made when it is missing, several must be there
    #[arg(long)]
    pub dir: Vec<PathBuf>,
    /// Address to listen on, host:port
    #[arg(long)]
    pub listen: Option<String>,
    /// Address that others are told, when it differs
    #[arg(long)]
    pub advertise: Option<String>,
    /// Metadata servers, host:port, separated by commas
    #[arg(long, value_delimiter = ',')]
    pub meta: Vec<String>,
    /// Address of /metrics, /healthz and /readyz; empty turns them off
    #[arg(long)]
    pub http: Option<String>,
    /// The zone that it is in: copies of a chunk are spread over zones
    #[arg(long, value_name = "NAME")]
    pub zone: Option<String>,
    /// The machine that it is on, when the boot id does not tell machines apart as they fail
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// The under-store, s3://bucket/prefix or file:///directory
    #[arg(long, value_name = "URL")]
    pub understore: Option<String>,
    /// Its S3 endpoint, for other than AWS
    #[arg(long, value_name = "URL")]
    pub understore_endpoint: Option<String>,
    /// Allow an address other than loopback without TLS
    #[arg(long)]
    pub insecure: bool,
    /// Print the configuration in force as TOML and leave
    #[arg(long)]
    pub print_config: bool,
}

/// `cairn status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `cairn bench`.
#[derive(Debug, Args)]
#[command(
    after_help = "Each case starts a cluster of its own and removes it. With the flag --connect the running cluster\n\
    that it names is measured instead; CAIRN_CONNECT alone is not enough, since a bench writes a lot.\n\
    Limits of the disk are those of --dir: on a file system in memory (tmpfs) an fsync costs nothing, and\n\
    every number that has one in it says nothing of a disk."
)]
pub struct BenchArgs {
    /// Names, or "all"
    pub names: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Runs, of which the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub runs: u16,
    /// Seconds of a timed run
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Entries of the large directory
    #[arg(long, default_value_t = 1_000_000)]
    pub entries: u64,
    /// Small objects of the mounted bucket
    #[arg(long, default_value_t = 20_000)]
    pub objects: u64,
    /// MiB of the large object of the mounted bucket
    #[arg(long, default_value_t = 256)]
    pub mounted_mib: u64,
    /// Where the bench's cluster and limits keep their files [default: the temporary directory]
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Write through to this bucket, s3://bucket/prefix, in the cases that need one; the prefix must be unused
    #[arg(long, value_name = "URL")]
    pub s3: Option<String>,
    /// Where that bucket is
    #[command(flatten)]
    pub at: S3Place,
    /// Be the server of the gRPC echoes that limits are taken from
    #[arg(long, hide = true, exclusive = true)]
    pub serve_echo: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn json_is_a_flag_of_fs_and_of_what_follows_it() {
        let json = |line: &str| match Cli::read(line.split(' ')).unwrap().command {
            Command::Fs(args) => args.json,
            other => panic!("{other:?}"),
        };
        assert!(json("cairn fs --json rm /x"));
        assert!(json("cairn fs rm --json /x"));
        assert!(!json("cairn fs rm /x"));
    }

    #[test]
    fn json_is_a_flag_of_admin_and_of_what_follows_it() {
        let json = |line: &str| match Cli::read(line.split(' ')).unwrap().command {
            Command::Admin(args) => args.json,
            other => panic!("{other:?}"),
        };
        assert!(json("cairn admin --json chunk accept-loss 7"));
        assert!(json("cairn admin chunk accept-loss chunk-7 --json"));
        assert!(!json("cairn admin chunk accept-loss 7 --yes"));
        assert!(json("cairn admin node remove node-101 --yes --json"));
        assert!(json("cairn admin raft status --json"));
        assert!(json("cairn admin --json raft add node-4 h:7100 --learner"));
        assert!(json("cairn admin fsck --repair --json"));
        assert!(json("cairn admin gc --dry-run --json"));
        assert!(
            Cli::read("cairn admin fsck --repair --server 2".split(' ')).is_err(),
            "only the leader repairs"
        );
    }

    #[test]
    fn a_policy_s_words_are_read_and_what_is_wrong_is_named() {
        let read = |line: &str| Cli::read(line.split(' '));
        let set = "cairn policy set /d --replicas 3 --min-replicas 2 --ack fsync --persist async --max-lag-age 10s --max-lag-bytes 1GiB";
        match read(set).unwrap().command {
            Command::Policy(PolicyArgs { command: PolicyCommand::Set(args), json: false }) => {
                let change = args.change;
                assert_eq!((change.replicas, change.min_replicas), (Some(3), Some(2)));
                assert_eq!((change.ack, change.persist), (Some(AckWord::Fsync), Some(PersistWord::Async)));
                assert_eq!((change.max_lag_age, change.max_lag_bytes), (Some(10_000), Some(1 << 30)));
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            read("cairn policy get /d --json").unwrap().command,
            Command::Policy(PolicyArgs { json: true, .. })
        ));
        for (line, says) in [
            ("cairn policy set /d", "required"),
            ("cairn policy set /d --replicas 8", "1..=7"),
            ("cairn policy set /d --ack disk", "fsync"),
            ("cairn policy set /d --persist later", "never"),
            ("cairn policy set /d --max-lag-age 10", "10s"),
            ("cairn policy set /d --max-lag-age 10ms", "100ms at least"),
            ("cairn policy set /d --max-lag-bytes 1KiB", "1MiB at least"),
            ("cairn lag --top 100000", "1000"),
        ] {
            let error = read(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(says), "{line}: {error}");
        }
    }

    #[test]
    fn connect_counts_as_given_wherever_the_flag_stands() {
        let given = |line: &str| Cli::read(line.split(' ')).unwrap().connect.given;
        assert!(given("cairn bench all --connect h:1"));
        assert!(given("cairn --connect h:1 bench all"));
        assert!(!given("cairn bench all"));
    }
}
