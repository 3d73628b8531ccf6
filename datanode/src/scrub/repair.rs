//! A bad replica is put right: each bad record is written again from another holder's, else from the
//! bytes in S3. Readers are served the good parts meanwhile, and the bad ones from elsewhere.

use bytes::Bytes;
use cairn_proto::{WireError, v1};
use cairn_types::{ChunkId, FsError};
use prost::Message;

use crate::cache::ReadError as CacheError;
use crate::chunk::{ChunkView, ReplicaPhase, StoreError};
use crate::node::Node;
use crate::replicate::mend;
use crate::replicate::seal::{self, Reason};

/// What became of a replica that was said to be bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All of it reads.
    Sound,
    /// So many records were put right; all of it reads now.
    Repaired {
        /// How many.
        records: u64,
    },
    /// It is in S3, and went: readers get it from there.
    Dropped {
        /// How many of its records were bad.
        records: u64,
    },
    /// It was not sealed: it takes nothing any more, and its seal brings it up from the others.
    Sealing,
    /// There is no such replica, or no such chunk.
    Gone,
}

/// A replica stays bad.
#[derive(Debug, thiserror::Error)]
#[error("{records} of its records are bad and {repaired} were put right: {reason}")]
pub(super) struct Unrepaired {
    /// Bad records, or missing ranges, that were found.
    pub(super) records: u64,
    /// How many of them were put right.
    pub(super) repaired: u64,
    /// What prevented the rest.
    pub(super) reason: String,
}

/// Why one range was not put right.
#[derive(Debug, thiserror::Error)]
enum RangeError {
    #[error("no other holder: {0}")]
    Peers(WireError),
    #[error("the bytes in S3: {0}")]
    S3(#[from] CacheError),
    #[error("the record's header is lost")]
    HeaderLost,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Looks a replica over and puts it right if it can.
pub(super) async fn repair(node: &Node, chunk: ChunkId) -> Result<Outcome, Unrepaired> {
    let store = &node.context.store;
    let Some(view) = store.chunk(chunk) else { return Ok(Outcome::Gone) };
    if view.phase != ReplicaPhase::Sealed {
        return Ok(give_up_open(node, &view).await);
    }
    let Some(faults) = mend::faults(&node.context, chunk).await else { return Ok(Outcome::Gone) };
    let records = faults.ranges.len() as u64;
    let failed = |repaired, reason: String| Unrepaired { records, repaired, reason };
    if records == 0 {
        store.heal(chunk).await.map_err(|error| failed(0, error.to_string()))?;
        return Ok(Outcome::Sound);
    }
    tracing::warn!(%chunk, records, "a sealed replica is bad");
    let found = match node.context.metadata.get_chunk(chunk).await {
        Ok(found) => found,
        Err(WireError::Fs(FsError::NotFound)) => return Ok(Outcome::Gone),
        Err(error) => return Err(failed(0, error.to_string())),
    };
    let place = place_of(&found, &view);
    let (mut repaired, mut last) = (0, None);
    for (from, until) in faults.ranges {
        match range(node, &found, place.as_ref(), chunk, (from, until)).await {
            Ok(()) => repaired += 1,
            Err(error) => last = Some(error),
        }
    }
    match last {
        None => {}
        Some(RangeError::HeaderLost) => {
            // Its bytes are where they belong: readers get them from there.
            let Some(place) = place else { return Err(failed(repaired, "its headers are lost".to_owned())) };
            drop_persisted(node, chunk, &place).await.map_err(|error| failed(repaired, error.to_string()))?;
            return Ok(Outcome::Dropped { records });
        }
        Some(error) => return Err(failed(repaired, error.to_string())),
    }
    match mend::faults(&node.context, chunk).await {
        None => Ok(Outcome::Gone),
        Some(faults) if faults.ranges.is_empty() => {
            store.heal(chunk).await.map_err(|error| failed(repaired, error.to_string()))?;
            Ok(Outcome::Repaired { records })
        }
        Some(_) => Err(failed(repaired, "what was written again is bad as well".to_owned())),
    }
}

/// An open replica that lacks acknowledged bytes must take no more, and no seal may count it as
/// whole: then it is brought up to the others, or left out.
async fn give_up_open(node: &Node, view: &ChunkView) -> Outcome {
    node.context.store.mark_damaged(view.chunk);
    let (metadata, blame) = (&node.context.metadata, Some(node.id));
    // Its outcome is logged there. A seal that is not decided yet comes as a notice.
    let _ = seal::ask(metadata, view.chunk, view.opened_epoch, Reason::Damaged, blame).await;
    Outcome::Sealing
}

fn place_of(found: &v1::Chunk, view: &ChunkView) -> Option<v1::PackPlace> {
    let told = view.place.as_ref().and_then(|place| v1::PackPlace::decode(place.clone()).ok());
    found.place.clone().or(told)
}

/// Puts one range right: from a peer, else from S3.
async fn range(
    node: &Node,
    found: &v1::Chunk,
    place: Option<&v1::PackPlace>,
    chunk: ChunkId,
    (from, until): (u64, u64),
) -> Result<(), RangeError> {
    let told = mend::from_any(&node.context, &found.replicas, chunk, from, until).await;
    let Err(told) = told else { return Ok(()) };
    let Some(place) = place else { return Err(RangeError::Peers(told)) };
    let payload = from_s3(node, chunk, place, from, until).await?;
    let store = node.context.store.clone();
    let restored = tokio::task::spawn_blocking(move || store.restored(chunk, from, payload)).await;
    let restored = restored.ok().flatten().ok_or(RangeError::HeaderLost)?;
    node.context.store.ready().await;
    Ok(node.context.store.repair(restored).await?)
}

/// A record's payload from S3, checked against the checksums made before the upload. What is longer
/// than a record is no record of which the header is known.
async fn from_s3(
    node: &Node,
    chunk: ChunkId,
    place: &v1::PackPlace,
    from: u64,
    until: u64,
) -> Result<Bytes, RangeError> {
    let length = usize::try_from(until - from).unwrap_or(usize::MAX);
    if length > cairn_types::limits::APPEND_BYTES_MAX {
        return Err(RangeError::HeaderLost);
    }
    Ok(node.cache.read_persisted(chunk, place, from, length).await?)
}

async fn drop_persisted(node: &Node, chunk: ChunkId, place: &v1::PackPlace) -> Result<(), StoreError> {
    let store = &node.context.store;
    store.persisted(chunk, Bytes::from(place.encode_to_vec())).await?;
    store.evict(Some(chunk)).await.map(|_| ())
}
