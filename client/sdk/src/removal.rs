//! Removals: data nodes whose disks will never return, on an operator's word.

use cairn_proto::v1::{DataNode, RemoveNodeRequest};
use cairn_types::NodeId;

use crate::client::Client;
use crate::error::{Cause, Error, Result};

/// A data node that can be removed, or is.
#[derive(Clone, Debug, PartialEq)]
pub struct Removal {
    /// The node as the leader knows it: its id and its disk alone once no chunk names it any more.
    pub node: DataNode,
    /// It had been removed before the call.
    pub already: bool,
}

impl Client {
    /// What is known of a data node that could be removed. Changes nothing.
    ///
    /// # Errors
    /// `NoSuchNode`; `NodeAlive` unless the node has been silent for `node_timeout_ms` at a leader that
    /// has led that long.
    pub async fn removal(&self, node: NodeId) -> Result<Removal> {
        self.ask_removal("look at", RemoveNodeRequest { node: node.0, remove: false }).await
    }

    /// Says that a data node's disk will never return. It is in the log of a majority when this
    /// returns: from then on the disk is never taken back, and no new chunk is placed there. The
    /// node's copies are struck from the records of chunks in the background, so that what others
    /// hold gets further copies; [`status`](Self::status) shows the node as removed until that is
    /// done, and the chunks whose only copy it had as lost. There is no way back. Repeating it is safe.
    ///
    /// # Errors
    /// Those of [`removal`](Self::removal). Nothing is changed then.
    pub async fn remove_node(&self, node: NodeId) -> Result<Removal> {
        self.ask_removal("remove", RemoveNodeRequest { node: node.0, remove: true }).await
    }

    async fn ask_removal(&self, action: &'static str, request: RemoveNodeRequest) -> Result<Removal> {
        let subject = NodeId(request.node).to_string();
        let reply =
            self.reach()
                .leader
                .call(action, &subject, request, |mut meta, request| async move {
                    meta.remove_node(request).await
                })
                .await?;
        let already = reply.already;
        match reply.node {
            Some(node) => Ok(Removal { node, already }),
            None => Err(Error::new(action, subject, Cause::MalformedAnswer("node"))),
        }
    }
}
