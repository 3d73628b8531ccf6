//! The command line of `cairn admin raft`.

use clap::{Args, Subcommand};

/// What to do with the group of metadata servers.
#[derive(Debug, Subcommand)]
pub enum RaftCommand {
    /// Show the metadata servers, and how far each one is
    Status,
    /// Add an empty server that was started with --join, and make it a voter once it has caught up
    Add(AddArgs),
    /// Make a learner a voter once it has caught up
    Promote(PromoteArgs),
    /// Take a server out of the group, for ever: its id is never used again
    Remove(RemoveArgs),
    /// Hand the lead to another server
    Transfer(HandOverArgs),
    /// Have a majority write an entry that changes nothing, and tell how long it took
    Probe,
    /// Make a snapshot on the leader, so that the log before it can go
    Snapshot,
}

/// `cairn admin raft add`.
#[derive(Debug, Args)]
#[command(after_help = "Start the server first, with an empty directory and an id that was never used:\n\
    cairn meta --id 4 --dir DIR --listen HOST:PORT --join HOST:PORT,…\n\
    The command can be repeated: it goes on where it stopped.")]
pub struct AddArgs {
    /// The new server's id: 4 or node-4
    #[arg(value_parser = super::admin::node_number)]
    pub node: u64,
    /// Where the other servers and the clients reach it, host:port
    pub address: String,
    /// Leave it a learner: it gets the log, and does not vote
    #[arg(long)]
    pub learner: bool,
    /// How long it may take to catch up
    #[arg(long, default_value_t = 600, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=31_536_000))]
    pub wait_seconds: u64,
}

/// `cairn admin raft promote`.
#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// The learner: 4 or node-4
    #[arg(value_parser = super::admin::node_number)]
    pub node: u64,
    /// How long it may take to catch up
    #[arg(long, default_value_t = 600, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=31_536_000))]
    pub wait_seconds: u64,
}

/// `cairn admin raft remove`.
#[derive(Debug, Args)]
#[command(
    after_help = "A server that is dead can be removed; one whose removal would leave no majority that answers\n\
    cannot. Removing the leader hands the lead over first. Afterwards stop the server; a new one needs a new id."
)]
pub struct RemoveArgs {
    /// The server: 3 or node-3
    #[arg(value_parser = super::admin::node_number)]
    pub node: u64,
}

/// `cairn admin raft transfer`.
#[derive(Debug, Args)]
pub struct HandOverArgs {
    /// To whom; without it, to the voter that has most of the log
    #[arg(value_parser = super::admin::node_number)]
    pub node: Option<u64>,
}
