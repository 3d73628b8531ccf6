//! [`Uploader`]: carries out the work `Upload`, `Compact` and `DeletePack`, and writes the packs of others.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_proto::v1;
use cairn_types::ClusterId;
use tokio::sync::Semaphore;

use super::adopt::adopt;
use super::body::body;
use super::pack::IndexEntry;
use super::packed::PackedChunks;
use super::survey::{Plan, survey};
use super::{Findings, SealedChunks, UploadError};
use crate::understore::{
    BodyFailed, Capabilities, NewObject, ObjectHead, PutOutcome, UnderStore, UnderStoreError, has_checksum,
};

/// Uploads at once when nobody says otherwise: each holds at most three parts of 8 MiB.
const UPLOADS_MAX: usize = 2;
/// PUTs of one pack before the work is given back; each is retried by the S3 client besides, with pauses drawn at
/// random. A store that asks to slow down (`SlowDown`) is not asked again by us: the work rests at the leader.
const PUTS_MAX: usize = 2;

/// Writes packs from this node's sealed chunks. Cheap to clone.
#[derive(Clone)]
pub struct Uploader {
    store: Arc<dyn UnderStore>,
    source: Arc<dyn SealedChunks>,
    cluster: ClusterId,
    turns: Arc<Semaphore>,
    findings: Findings,
}

impl Uploader {
    /// An uploader of `source`'s chunks to `store`, which is taken for one that does all we need.
    #[must_use]
    pub fn new(store: Arc<dyn UnderStore>, source: Arc<dyn SealedChunks>, cluster: ClusterId) -> Self {
        let (put_if_absent, complete_if_absent, crc32c) = (true, true, true);
        let found = Capabilities { put_if_absent, complete_if_absent, crc32c, ..Capabilities::default() };
        let turns = Arc::new(Semaphore::new(UPLOADS_MAX));
        Self { store, source, cluster, turns, findings: Findings::known(found) }
    }

    /// The same, of as many uploads at once as there are `turns`, which others may take as well.
    #[must_use]
    pub fn with_turns(self, turns: Arc<Semaphore>) -> Self {
        Self { turns, ..self }
    }

    /// The same, of whose store only that is known: uploads wait until it is.
    #[must_use]
    pub fn with_findings(self, findings: Findings) -> Self {
        Self { findings, ..self }
    }

    /// Writes the pack that `work` describes and verifies size and checksum of what is there: by the
    /// store's own checksum when it was found to check it, else by reading all of it back.
    /// When it answers, the pack is durable in the under-store, whole and as intended; asked again,
    /// by any holder, it answers the same. A bounded number runs at once, others wait; all wait until it is
    /// known what the store does.
    ///
    /// # Errors
    /// [`UploadError`]. After an error the pack may exist; asking again finds out.
    pub async fn upload(&self, work: &v1::Upload) -> Result<v1::Uploaded, UploadError> {
        let outcome = match self.known().await {
            Ok(found) => {
                // The semaphore is never closed; were it, running on would only cost memory.
                let _turn = self.turns.acquire().await.ok();
                self.upload_now(work, found.crc32c).await
            }
            Err(error) => Err(error),
        };
        let label = match &outcome {
            Ok(_) => "ok",
            Err(UploadError::Store(error)) => error.kind(),
            Err(UploadError::Conflict { .. }) => "conflict",
            Err(UploadError::NotVerified { .. }) => "not_verified",
            Err(UploadError::Unfit { .. }) => "unfit",
            Err(_) => "chunk",
        };
        metrics::counter!("cairn_data_uploads_total", "outcome" => label).increment(1);
        if let Ok(done) = &outcome {
            metrics::counter!("cairn_data_uploaded_bytes_total").increment(done.bytes);
        }
        outcome
    }

    /// Writes chunks that are in packs into a new one, as [`upload`](Self::upload) does. The packs that they
    /// come from stay as they are.
    ///
    /// # Errors
    /// As [`upload`](Self::upload).
    pub async fn compact(&self, work: &v1::Compact) -> Result<v1::Uploaded, UploadError> {
        let source = Arc::new(PackedChunks::new(Arc::clone(&self.store), work)?);
        let chunk =
            |c: &v1::PackedChunk| v1::UploadChunk { chunk: c.chunk, length: c.length, chain: c.chain };
        let (intent, pack, key) = (work.intent, work.pack, work.key.clone());
        let upload = v1::Upload { intent, pack, key, chunks: work.chunks.iter().map(chunk).collect() };
        let done = self.upload_from(source, &upload).await?;
        metrics::counter!("cairn_data_compacted_bytes_total").increment(done.bytes);
        Ok(done)
    }

    /// As [`upload`](Self::upload), of chunks as `source` has them.
    ///
    /// # Errors
    /// As [`upload`](Self::upload).
    pub async fn upload_from(
        &self,
        source: Arc<dyn SealedChunks>,
        work: &v1::Upload,
    ) -> Result<v1::Uploaded, UploadError> {
        Self { source, ..self.clone() }.upload(work).await
    }

    /// What the store does, once that is known and enough.
    async fn known(&self) -> Result<Capabilities, UploadError> {
        let found = self.findings.wait().await.ok_or(UnderStoreError::Unreachable)?;
        if found.never_overwrites() {
            Ok(found)
        } else {
            Err(UploadError::Unfit { store: self.store.describe() })
        }
    }

    /// With `believed` the store's own checksum is proof enough.
    async fn upload_now(&self, work: &v1::Upload, believed: bool) -> Result<v1::Uploaded, UploadError> {
        let plan = survey(self.source.as_ref(), self.cluster, work).await?;
        let created = self.put(&work.key, &plan).await?;
        let mut head = self.store.head(&work.key).await?;
        head.crc32c = head.crc32c.filter(|_| believed);
        let same = self.is_planned(&work.key, &head, &plan).await?;
        if same {
            return Ok(uploaded(work, &head, &plan.entries));
        }
        if created.as_ref() == Some(&head.etag) {
            // Ours, made a moment ago, and not what was sent: make room for the next attempt.
            self.store.delete(&work.key, Some(&head.etag)).await?;
            return Err(UploadError::NotVerified { key: work.key.clone() });
        }
        let entries = adopt(self.store.as_ref(), &work.key, &head, self.cluster, &plan).await?;
        Ok(uploaded(work, &head, &entries))
    }

    /// The ETag of the pack that this call made; `None` when the key existed.
    async fn put(&self, key: &str, plan: &Plan) -> Result<Option<String>, UploadError> {
        let mut attempt = 1;
        loop {
            let object = NewObject {
                length: plan.bytes,
                crc32c: plan.crc32c,
                metadata: BTreeMap::from([("cairn-cluster".to_owned(), self.cluster.to_string())]),
                body: body(Arc::clone(&self.source), plan),
            };
            match self.store.put_new(key, object).await {
                Ok(PutOutcome::Created { etag }) => return Ok(Some(etag)),
                Ok(PutOutcome::Exists) => return Ok(None),
                Err(error) if error.retryable() && !is_throttled(&error) && attempt < PUTS_MAX => {
                    tracing::debug!(key, %error, "putting a pack again");
                    attempt += 1;
                }
                Err(UnderStoreError::Body(BodyFailed)) => return Err(self.unreadable(plan).await),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Which chunk is it that could not be read any more?
    async fn unreadable(&self, plan: &Plan) -> UploadError {
        for entry in &plan.entries {
            let length = entry.length.min(1) as usize;
            if let Err(error) = self.source.read(entry.chunk, 0, length).await {
                return error.into();
            }
        }
        UnderStoreError::from(BodyFailed).into()
    }

    async fn is_planned(&self, key: &str, head: &ObjectHead, plan: &Plan) -> Result<bool, UploadError> {
        if head.size != plan.bytes {
            return Ok(false);
        }
        Ok(has_checksum(self.store.as_ref(), key, head, plan.crc32c).await?)
    }

    /// Deletes a pack. No error when it is gone already.
    ///
    /// # Errors
    /// [`UploadError::Store`].
    pub async fn delete_pack(&self, work: &v1::DeletePack) -> Result<(), UploadError> {
        if work.key.is_empty() {
            return Err(UploadError::Malformed { field: "key" });
        }
        self.store.delete(&work.key, None).await?;
        metrics::counter!("cairn_data_packs_deleted_total").increment(1);
        Ok(())
    }
}

fn is_throttled(error: &UnderStoreError) -> bool {
    matches!(error, UnderStoreError::Throttled { .. })
}

fn uploaded(work: &v1::Upload, head: &ObjectHead, entries: &[IndexEntry]) -> v1::Uploaded {
    let chunks = entries
        .iter()
        .map(|entry| v1::UploadedChunk {
            chunk: entry.chunk.0,
            offset: entry.offset,
            length: entry.length,
            crc32c: entry.crc32c,
        })
        .collect();
    v1::Uploaded { pack: work.pack, etag: head.etag.clone(), bytes: head.size, chunks }
}
