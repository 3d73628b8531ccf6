//! Losses: the end of a chunk that its replicas cannot decide, on an operator's word.

use cairn_proto::convert::replica_health;
use cairn_proto::v1::{AcceptLossReply, AcceptLossRequest};
use cairn_types::{ChunkId, NodeId, ReplicaHealth};

use crate::client::Client;
use crate::error::{Cause, Error, Result};

/// What one replica of an undecided chunk answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaAnswer {
    /// Its node.
    pub node: NodeId,
    /// Where that listens, or listened last.
    pub address: String,
    /// What it has; `None` when it did not answer.
    pub answer: Option<ReplicaContent>,
}

/// What a replica has of its chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaContent {
    /// The end of its valid prefix, in bytes.
    pub length: u64,
    /// What that proves.
    pub health: ReplicaHealth,
    /// The highest committed length that it had heard of.
    pub heard: u64,
}

/// What is left of a chunk, and what would be, or is, lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The chunk.
    pub chunk: ChunkId,
    /// The path of the file whose tail it is; empty for a chunk that many files share, and for a
    /// file that is gone.
    pub path: Vec<u8>,
    /// The chunk's end, in bytes from its first one: decided, or what it would be.
    pub length: u64,
    /// Bytes up to here were acknowledged for certain. Beyond it nobody knows.
    pub heard: u64,
    /// The end of what files point at in a shared chunk: what lies beyond `length` cannot be read any more.
    pub referenced: u64,
    /// Its replicas' answers; empty when `already`.
    pub replicas: Vec<ReplicaAnswer>,
    /// It was sealed at this length before the call: what its replicas had answered is not known
    /// any more, and `heard` and `referenced` are 0.
    pub already: bool,
}

impl Loss {
    /// Acknowledged bytes that are lost for certain. There may be more: what was acknowledged and
    /// heard of by no replica that answered.
    #[must_use]
    pub fn lost_min(&self) -> u64 {
        self.heard.max(self.referenced).saturating_sub(self.length)
    }
}

impl Client {
    /// What would be lost if an undecided chunk ended where it can now: at the longest valid prefix
    /// of its replicas that answer. Changes nothing. [`status`](Self::status) lists such chunks.
    ///
    /// # Errors
    /// `NotFound`; `NotUndecided` when its end is not waited for, `Decidable` when its replicas'
    /// answers decide it, `Diverged` when two of them contradict each other.
    pub async fn loss(&self, chunk: ChunkId) -> Result<Loss> {
        let request = AcceptLossRequest { chunk: chunk.0, accept: false, length: 0, nothing_left: false };
        self.ask_loss("look at the loss", chunk, request).await
    }

    /// Ends an undecided chunk at `length`, which [`loss`](Self::loss) showed: what was acknowledged
    /// beyond it is lost for ever, also when a replica that holds it returns. With `nothing_left` a
    /// length of 0 is accepted too. The end is durable, on a majority of the metadata servers and at
    /// its holders, when this returns; writers of the file go on from there, and those that had an
    /// acknowledgement for what is lost get [`Cause::Lost`]. Repeating it is safe.
    ///
    /// # Errors
    /// Those of [`loss`](Self::loss); `LossDiffers` when another length is left, `NothingLeft`,
    /// `TooFewNodes` when too few nodes can hold what is left. Nothing is decided then.
    pub async fn accept_loss(&self, chunk: ChunkId, length: u64, nothing_left: bool) -> Result<Loss> {
        let request = AcceptLossRequest { chunk: chunk.0, accept: true, length, nothing_left };
        self.ask_loss("accept the loss", chunk, request).await
    }

    async fn ask_loss(
        &self,
        action: &'static str,
        chunk: ChunkId,
        request: AcceptLossRequest,
    ) -> Result<Loss> {
        let subject = chunk.to_string();
        let reply =
            self.reach()
                .leader
                .call(action, &subject, request, |mut meta, request| async move {
                    meta.accept_loss(request).await
                })
                .await?;
        loss_of(chunk, reply).map_err(|cause| Error::new(action, subject, cause))
    }
}

fn loss_of(chunk: ChunkId, reply: AcceptLossReply) -> std::result::Result<Loss, Cause> {
    let mut replicas = Vec::new();
    for r in reply.replicas {
        let health = replica_health(r.health).map_err(|_| Cause::MalformedAnswer("replicas.health"))?;
        let content = ReplicaContent { length: r.length, health, heard: r.heard };
        let answer = r.answered.then_some(content);
        replicas.push(ReplicaAnswer { node: NodeId(r.node), address: r.address, answer });
    }
    Ok(Loss {
        chunk,
        path: reply.path.to_vec(),
        length: reply.length,
        heard: reply.heard,
        referenced: reply.referenced,
        replicas,
        already: reply.already,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_proto::v1;

    #[test]
    fn what_is_lost_for_certain_is_what_was_heard_or_is_pointed_at() {
        let mut reply = AcceptLossReply { length: 40, heard: 60, ..Default::default() };
        reply.replicas = vec![
            v1::ReplicaAnswer {
                node: 1,
                answered: true,
                length: 40,
                health: 1,
                heard: 60,
                ..Default::default()
            },
            v1::ReplicaAnswer { node: 2, ..Default::default() },
        ];
        let loss = loss_of(ChunkId(9), reply.clone()).unwrap();
        assert_eq!(loss.lost_min(), 20);
        let content = ReplicaContent { length: 40, health: ReplicaHealth::Limbo, heard: 60 };
        assert_eq!(loss.replicas[0].answer, Some(content));
        assert_eq!(loss.replicas[1].answer, None);
        reply.referenced = 70;
        assert_eq!(loss_of(ChunkId(9), reply.clone()).unwrap().lost_min(), 30);
        reply.length = 80;
        assert_eq!(loss_of(ChunkId(9), reply.clone()).unwrap().lost_min(), 0);
        reply.replicas[0].health = 3;
        assert_eq!(loss_of(ChunkId(9), reply), Err(Cause::MalformedAnswer("replicas.health")));
    }
}
