//! What is remembered for a few seconds to save round trips: directories' policies, living nodes.

use std::collections::HashMap;
use std::time::Duration;

use cairn_types::FsError;
use tokio::time::Instant;

use crate::answer::inode_of;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::fetch;
use crate::freshness::Freshness;
use crate::growth::PolicyAt;
use crate::target::At;

/// Directories whose policy is remembered, at most.
const POLICIES_MAX: usize = 1024;
/// How long a directory's policy and the list of nodes are remembered.
const REMEMBER: Duration = Duration::from_secs(5);

/// It may be wrong: it is never relied on for safety.
#[derive(Default)]
pub(crate) struct Memory {
    policies: HashMap<At, (PolicyAt, Instant)>,
    nodes: Option<(Vec<String>, Instant)>,
}

impl Client {
    /// The policy in force for a new file at `at`: that of its directory.
    pub(crate) async fn policy_for_new(&self, at: &At) -> Result<PolicyAt> {
        let directory = match at {
            At::Inode(_) => at.clone(),
            At::Path(bytes) => {
                let path = cairn_types::FsPath::parse(bytes).map_err(|e| Error::new("put", at, e))?;
                At::Path(path.parent().ok_or_else(|| Error::new("put", at, FsError::IsDirectory))?.to_bytes())
            }
        };
        if let Some((known, asked)) = self.memory().policies.get(&directory)
            && asked.elapsed() < REMEMBER
        {
            return Ok(*known);
        }
        let reply = self.stat_wire("put", &directory, false, Freshness::Newest).await?;
        let inode = inode_of("put", &directory.to_string(), reply.inode.as_ref())?;
        let policy = reply.policy.unwrap_or_default();
        let at = PolicyAt { policy, ino: inode.ino };
        let mut memory = self.memory();
        if memory.policies.len() >= POLICIES_MAX {
            memory.policies.clear();
        }
        memory.policies.insert(directory, (at, Instant::now()));
        Ok(at)
    }

    /// Forgets the policies that were remembered: a directory they name may be gone.
    pub(crate) fn forget_policies(&self) {
        self.memory().policies.clear();
    }

    /// The addresses of the data nodes that are alive, remembered for a few seconds.
    pub(crate) async fn alive_nodes(&self, fresh: bool) -> Result<Vec<String>> {
        if !fresh
            && let Some((nodes, asked)) = &self.memory().nodes
            && asked.elapsed() < REMEMBER
        {
            return Ok(nodes.clone());
        }
        let nodes = fetch::alive_nodes(self).await?;
        self.memory().nodes = Some((nodes.clone(), Instant::now()));
        Ok(nodes)
    }
}
