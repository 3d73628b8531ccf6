//! The command line of `cairn admin`.

use clap::{Args, Subcommand};

/// `cairn admin`.
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// Print results as JSON, one object a line
    #[arg(long, global = true)]
    pub json: bool,

    /// On what.
    #[command(subcommand)]
    pub command: AdminCommand,
}

/// What is administered.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Decide about a chunk what the cluster may not decide by itself
    #[command(subcommand)]
    Chunk(ChunkCommand),
    /// Decide about a data node what the cluster may not decide by itself
    #[command(subcommand)]
    Node(NodeCommand),
    /// Grow, shrink and look at the group of metadata servers, while it runs
    #[command(subcommand)]
    Raft(super::raft::RaftCommand),
    /// Check the metadata, and mend what can be mended
    Fsck(FsckArgs),
    /// Collect what nothing points at any more, now: chunks, packs, objects, replicas
    Gc(GcArgs),
    /// Write the whole namespace, at one point in time, as JSON lines
    Dump(super::dump::DumpArgs),
    /// Make a dump the namespace of a cluster that has none
    Load(super::dump::LoadArgs),
}

/// `cairn admin fsck`.
#[derive(Debug, Args)]
#[command(
    after_help = "It reads one point in time and runs beside clients. Exit codes: 0 nothing is wrong, or all is mended;\n\
    4 damage is left; 3 it could not finish. docs/OPERATIONS.md says what each finding means."
)]
pub struct FsckArgs {
    /// Mend what can be mended; what no path reaches is hung into /lost+found
    #[arg(long, conflicts_with = "server")]
    pub repair: bool,
    /// Check the state of this metadata server instead of the leader's: 2 or node-2
    #[arg(long, value_name = "N", value_parser = node_number)]
    pub server: Option<u64>,
}

/// `cairn admin gc`.
#[derive(Debug, Args)]
#[command(
    after_help = "The cluster collects by itself; this only looks at once, and says what is there. Nothing goes before its\n\
    delay is over: replicas 10 s, objects pack_delay_ms (60 s). Exit codes: 0 nothing is left, or --dry-run; 3 something is left.\n\
    docs/OPERATIONS.md says what each kind means."
)]
pub struct GcArgs {
    /// Only say what would go, and why
    #[arg(long)]
    pub dry_run: bool,
    /// Give up waiting after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, conflicts_with = "dry_run")]
    pub timeout: u64,
}

/// What to do with a chunk.
#[derive(Debug, Subcommand)]
pub enum ChunkCommand {
    /// Accept that the end of an undecided chunk is lost, so that its file goes on
    AcceptLoss(AcceptLossArgs),
}

/// `cairn admin chunk accept-loss`.
#[derive(Debug, Args)]
#[command(
    after_help = "Bring the data nodes back first: what a node holds that does not answer now is lost for ever.\n\
    Without --yes it only shows what would be lost. `cairn status` lists the chunks that wait."
)]
pub struct AcceptLossArgs {
    /// The chunk, as `cairn status` shows it: 7 or chunk-7
    #[arg(value_parser = chunk_number)]
    pub chunk: u64,
    /// Accept the loss; there is no way back
    #[arg(long)]
    pub yes: bool,
    /// Refuse unless exactly so many bytes of the chunk are left
    #[arg(long, value_name = "BYTES")]
    pub length: Option<u64>,
    /// Accept also that nothing is left: the chunk ends at 0
    #[arg(long)]
    pub nothing_left: bool,
}

/// What to do with a data node.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Say that a data node's disk will never return, so that what it held gets other copies
    Remove(RemoveNodeArgs),
    /// Empty a data node that lives: no new chunks, and what only it has goes elsewhere
    Drain(DrainNodeArgs),
    /// Keep a data node that was to be drained
    Undrain(UndrainNodeArgs),
    /// List the data nodes, where they are and which are to leave
    Ls,
}

/// `cairn admin node drain`.
#[derive(Debug, Args)]
#[command(
    after_help = "It serves on all the while, and clients notice nothing. Once it is drained it may be shut down and\n\
    removed (cairn admin node remove). It is refused when too few data nodes would be left for min_replicas.\n\
    Repeated it changes nothing, so that an interrupted --wait can be taken up again."
)]
pub struct DrainNodeArgs {
    /// The data node, as `cairn status` shows it: 101 or node-101
    #[arg(value_parser = node_number)]
    pub node: u64,
    /// Wait until it is drained, and tell how far it is
    #[arg(long)]
    pub wait: bool,
}

/// `cairn admin node undrain`.
#[derive(Debug, Args)]
pub struct UndrainNodeArgs {
    /// The data node, as `cairn status` shows it: 101 or node-101
    #[arg(value_parser = node_number)]
    pub node: u64,
}

/// `cairn admin node remove`.
#[derive(Debug, Args)]
#[command(
    after_help = "A node that is alive is refused: stop it first. Its disk is never taken back afterwards.\n\
    Without --yes it only shows the node. `cairn status` lists the nodes, and what was lost with one."
)]
pub struct RemoveNodeArgs {
    /// The data node, as `cairn status` shows it: 101 or node-101
    #[arg(value_parser = node_number)]
    pub node: u64,
    /// Remove it; there is no way back
    #[arg(long)]
    pub yes: bool,
}

pub(super) fn node_number(text: &str) -> Result<u64, String> {
    let number = text.strip_prefix("node-").unwrap_or(text).parse::<u64>();
    number.ok().filter(|n| *n > 0).ok_or_else(|| "a node is a number from 1, or node-<number>".to_owned())
}

fn chunk_number(text: &str) -> Result<u64, String> {
    let number = text.strip_prefix("chunk-").unwrap_or(text).parse::<u64>();
    number.ok().filter(|n| *n > 0).ok_or_else(|| "a chunk is a number from 1, or chunk-<number>".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_named_by_its_number_or_as_it_is_shown() {
        assert_eq!(chunk_number("7"), Ok(7));
        assert_eq!(chunk_number("chunk-7"), Ok(7));
        for wrong in ["0", "chunk-", "-1", "x", ""] {
            assert!(chunk_number(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_node_is_named_by_its_number_or_as_it_is_shown() {
        assert_eq!(node_number("101"), Ok(101));
        assert_eq!(node_number("node-101"), Ok(101));
        for wrong in ["0", "node-", "chunk-7", "127.0.0.1:1", ""] {
            assert!(node_number(wrong).is_err(), "{wrong}");
        }
    }
}
