//! [`Explained`]: where a file's bytes are, and how they come to S3.

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_proto::v1::{self, ExplainRequest};
use cairn_types::{Extent, Inode};
use tonic::Streaming;

use crate::answer::{extents_of, inode_of};
use crate::client::Client;
use crate::error::{Cause, Error, Result};
use crate::freshness::Freshness;
use crate::lag::FileLag;
use crate::progress;
use crate::target::At;

/// The server sends what it has read without a pause worth the name.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const ACTION: &str = "explain";

/// All that the metadata knows of a file's bytes at one point in time, and what the primary of its open
/// tail says after.
#[derive(Clone, Debug)]
pub struct Explained {
    /// The file's own: its path, policy, live writers.
    pub file: v1::ExplainedFile,
    /// Its inode. A growing file's length is the last recorded one.
    pub inode: Inode,
    /// What of it is not in S3, its open tail included.
    pub lag: FileLag,
    /// Where its bytes are, in the order of the file; gaps read as zeros.
    pub extents: Vec<Extent>,
    /// The chunks of these extents, and the open tail, by id.
    pub chunks: BTreeMap<u64, v1::ExplainedChunk>,
    /// The mounts of these extents, by id.
    pub mounts: BTreeMap<u32, v1::Mount>,
    /// The intents that concern these chunks, by id.
    pub intents: BTreeMap<u64, v1::ExplainedIntent>,
    /// Where packs go, by a data node: `s3://bucket/prefix/` or a directory; empty when none said.
    pub under_store: String,
}

impl Explained {
    /// The URL of a pack's object.
    #[must_use]
    pub fn pack_url(&self, key: &str) -> String {
        join(&self.under_store, key)
    }

    /// The URL of an object of a mount.
    #[must_use]
    pub fn object_url(&self, mount: u32, key: &[u8]) -> String {
        let bucket = self.mounts.get(&mount).map_or("", |mount| mount.bucket.as_str());
        format!("s3://{bucket}/{}", String::from_utf8_lossy(key))
    }
}

/// The key alone where the store is not known.
fn join(store: &str, key: &str) -> String {
    match store {
        "" => key.to_owned(),
        store if store.ends_with('/') => format!("{store}{key}"),
        store => format!("{store}/{key}"),
    }
}

impl Client {
    /// Explains a file: its extents, their chunks with replicas, seals, uploads and places in S3, its lag,
    /// what works on it, who writes. From one point in time, linearizable; the open tail's length and
    /// the under-store are asked of data nodes after.
    ///
    /// # Errors
    /// Those of [`stat`](Self::stat); `IsDirectory`, `NotFile`; `Overloaded` while too many of these run on
    /// the leader.
    pub async fn explain(&self, at: impl Into<At>) -> Result<Explained> {
        let at = at.into();
        let subject = at.to_string();
        let target = at.wire(ACTION, false)?;
        let request = |session| ExplainRequest { group: 0, target: Some(target.clone()), session };
        let mut parts = self
            .ask_imported(
                ACTION,
                &subject,
                (Freshness::Newest, request),
                |mut meta, mut request| async move {
                    // The stream outlives the deadline of the call that opens it.
                    request.metadata_mut().remove("grpc-timeout");
                    meta.explain(request).await
                },
            )
            .await?;
        let malformed = |field| Error::new(ACTION, &subject, Cause::MalformedAnswer(field));
        let first = next(&mut parts, &subject).await?;
        let mut done = first.done;
        let mut file = first.file.ok_or_else(|| malformed("file"))?;
        let lag = file.lag.take().ok_or_else(|| malformed("file.lag"))?;
        let mut explained = Explained {
            inode: inode_of(ACTION, &subject, file.inode.as_ref())?,
            lag: self.file_lag(lag).await?,
            file,
            extents: Vec::new(),
            chunks: BTreeMap::new(),
            mounts: BTreeMap::new(),
            intents: BTreeMap::new(),
            under_store: String::new(),
        };
        while !done {
            let part = next(&mut parts, &subject).await?;
            done = part.done;
            explained.extents.extend(extents_of(ACTION, &subject, &part.extents)?);
            let id = |chunk: &v1::ExplainedChunk| chunk.chunk.as_ref().map_or(0, |chunk| chunk.chunk);
            explained.chunks.extend(part.chunks.into_iter().map(|chunk| (id(&chunk), chunk)));
            explained.mounts.extend(part.mounts.into_iter().map(|mount| (mount.mount, mount)));
            explained.intents.extend(part.intents.into_iter().map(|intent| (intent.intent, intent)));
        }
        explained.under_store = self.under_store().await;
        Ok(explained)
    }

    /// Where packs go, by the first data node that says; empty when none does.
    async fn under_store(&self) -> String {
        let Ok(status) = self.status().await else { return String::new() };
        for node in status.nodes.iter().filter(|node| node.alive) {
            match self.node_status(node).await {
                Ok(told) if !told.under_store.is_empty() => return told.under_store,
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "a data node did not say where packs go"),
            }
        }
        String::new()
    }
}

async fn next(parts: &mut Streaming<v1::ExplainPart>, subject: &str) -> Result<v1::ExplainPart> {
    let part = progress::next(parts, SILENCE_MAX).await;
    part.map_err(|cause| progress::broken_off(ACTION, subject, cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_follows_the_store_s_url() {
        assert_eq!(join("s3://b/p/", "c/packs/1"), "s3://b/p/c/packs/1");
        assert_eq!(join("file:///d", "c/packs/1"), "file:///d/c/packs/1");
        assert_eq!(join("", "c/packs/1"), "c/packs/1");
    }
}
