//! Drains: data nodes that are to be shut down while they live, on an operator's word.

use std::time::Duration;

use cairn_proto::v1::drain_node_request::Action;
use cairn_proto::v1::{DataNode, DrainNodeRequest};
use cairn_types::NodeId;

use crate::client::Client;
use crate::error::{Cause, Error, Result};

/// The longest that one question about a drain waits at the leader.
const WAIT: Duration = Duration::from_secs(3);

/// A data node, and how far its drain is.
#[derive(Clone, Debug, PartialEq)]
pub struct Drained {
    /// The node as the leader knows it: `draining`, or `drained`, or neither; `drain_chunks` and
    /// `drain_bytes` say what was left of it when the leader looked last.
    pub node: DataNode,
    /// It had been asked for before the call.
    pub already: bool,
}

impl Client {
    /// Has a data node drained. It is in the log of a majority when this returns: from then on new chunks
    /// go elsewhere, and in the background the node's open chunks are closed, bytes that are neither in S3
    /// nor on enough other nodes are copied there, and its replicas are deleted. It goes on serving all the
    /// while. [`drain_progress`](Self::drain_progress) tells when no chunk names it any more: then it may be
    /// shut down, and removed ([`remove_node`](Self::remove_node)). Repeating it is safe.
    ///
    /// # Errors
    /// `NoSuchNode`; `NodeRemoved`; `TooFewLeft` when too few data nodes would be left for `min_replicas`;
    /// `NeedsLevel` while not all metadata servers know it. Nothing is changed then.
    pub async fn drain_node(&self, node: NodeId) -> Result<Drained> {
        self.ask_drain("drain", node, Action::Drain, Duration::ZERO).await
    }

    /// Keeps a data node that is being drained, or is: new chunks are placed there again. What has left it
    /// stays where it is. Repeating it is safe.
    ///
    /// # Errors
    /// `NoSuchNode`; `NodeRemoved`.
    pub async fn undrain_node(&self, node: NodeId) -> Result<Drained> {
        self.ask_drain("undrain", node, Action::Undrain, Duration::ZERO).await
    }

    /// How far a data node's drain is. It answers as soon as the node is drained, or is not to be any more,
    /// and in any case after some seconds. Changes nothing.
    ///
    /// # Errors
    /// `NoSuchNode`; `NodeRemoved`.
    pub async fn drain_progress(&self, node: NodeId) -> Result<Drained> {
        self.ask_drain("look at", node, Action::Look, WAIT).await
    }

    async fn ask_drain(
        &self,
        action: &'static str,
        node: NodeId,
        asked: Action,
        wait: Duration,
    ) -> Result<Drained> {
        let subject = node.to_string();
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let request = DrainNodeRequest { node: node.0, action: asked.into(), wait_ms };
        let reply = self
            .reach()
            .leader
            .call(
                action,
                &subject,
                request,
                |mut meta, request| async move { meta.drain_node(request).await },
            )
            .await?;
        let already = reply.already;
        match reply.node {
            Some(node) => Ok(Drained { node, already }),
            None => Err(Error::new(action, subject, Cause::MalformedAnswer("node"))),
        }
    }
}
