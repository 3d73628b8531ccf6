//! The leader's words to data nodes and about them.

mod objects;

use cairn_proto::v1::{self, work};
use cairn_types::{ChunkId, ClusterId, NodeId};

pub use self::objects::{bucket, put};
use super::leaving::Leaving;
use super::nodes::{Liveness, View};
use super::wire;
use crate::keys::RowFault;
use crate::keys::chunks::{ChunkRecord, PlacedReplica};
use crate::keys::intents::{IntentRecord, MergePiece, Work};
use crate::namespace::read;
use crate::store::Rows;

fn work(work: work::Work) -> v1::Work {
    v1::Work { work: Some(work) }
}

/// Tells `node` how a chunk ended; `None` unless it is sealed.
#[must_use]
pub fn sealed(record: &ChunkRecord, node: NodeId) -> Option<v1::Work> {
    let sealed = record.sealed.as_ref()?;
    Some(work(work::Work::Sealed(v1::SealedNotice {
        chunk: record.chunk.0,
        epoch: record.epoch.0,
        length: sealed.length,
        chain: sealed.chain.0,
        holder: sealed.holders.contains(&node),
    })))
}

/// Tells a holder that its replica may be evicted; `None` unless the chunk is in S3.
#[must_use]
pub fn persisted(chunk: ChunkId, place: Option<v1::PackPlace>) -> Option<v1::Work> {
    let place = Some(place?);
    Some(work(work::Work::Persisted(v1::PersistedNotice { chunk: chunk.0, place })))
}

/// Tells a node to delete its replica.
#[must_use]
pub fn delete(chunk: ChunkId) -> v1::Work {
    work(work::Work::Delete(v1::DeleteReplica { chunk: chunk.0 }))
}

/// Tells a node to become a holder; `None` unless the chunk is sealed. What is in S3 gets no copies.
#[must_use]
pub fn copy(record: &ChunkRecord, address: &dyn Fn(NodeId) -> Option<String>) -> Option<v1::Work> {
    let sealed = record.sealed.as_ref()?;
    let holders = record.replicas.iter().filter(|r| sealed.holders.contains(&r.node));
    Some(work(work::Work::Copy(v1::CopyReplica {
        chunk: record.chunk.0,
        length: sealed.length,
        chain: sealed.chain.0,
        sources: holders.map(|r| wire::replica(r, address(r.node))).collect(),
        place: None,
        intent: 0,
    })))
}

/// The work of a merge: where the bytes of its pieces are now. `None` for another work, and when a chunk of
/// them is gone.
///
/// # Errors
/// [`RowFault`] when the store failed or a row is damaged.
pub fn merge(
    rows: &dyn Rows,
    cluster: ClusterId,
    record: &IntentRecord,
    address: &dyn Fn(NodeId) -> Option<String>,
) -> Result<Option<v1::Work>, RowFault> {
    let Work::Merge { pack, key, runs } = &record.work else { return Ok(None) };
    let mut chunks = Vec::with_capacity(runs.len());
    for run in runs {
        let pieces = run.pieces.iter().map(|piece| chunk_piece(rows, cluster, piece, address));
        let Some(pieces) = pieces.collect::<Result<Option<Vec<_>>, _>>()? else { return Ok(None) };
        let (chunk, length) = (run.chunk.0, run.length());
        chunks.push(v1::MergedChunk { chunk, length, ino: run.ino.0, base: run.base, pieces });
    }
    let (intent, pack, key) = (record.intent.0, pack.0, key.clone());
    Ok(Some(work(work::Work::Merge(v1::Merge { intent, pack, key, chunks }))))
}

fn chunk_piece(
    rows: &dyn Rows,
    cluster: ClusterId,
    piece: &MergePiece,
    address: &dyn Fn(NodeId) -> Option<String>,
) -> Result<Option<v1::ChunkPiece>, RowFault> {
    let range = chunk_range(rows, cluster, piece.chunk, address)?.filter(|range| range.sealed_length > 0);
    let piece = |chunk| v1::ChunkPiece { chunk: Some(chunk), offset: piece.offset, length: piece.length };
    Ok(range.map(piece))
}

/// Where a chunk's bytes are: of an open one, those that files point at. `None` when it is gone.
fn chunk_range(
    rows: &dyn Rows,
    cluster: ClusterId,
    chunk: ChunkId,
    address: &dyn Fn(NodeId) -> Option<String>,
) -> Result<Option<v1::ChunkRange>, RowFault> {
    let Some(record) = read::chunk(rows, chunk)? else { return Ok(None) };
    let sealed_length = record.sealed_length().unwrap_or(0);
    let has = |r: &&PlacedReplica| record.sealed.is_none() || record.is_holder(r.node);
    Ok(Some(v1::ChunkRange {
        chunk: chunk.0,
        known_committed: if record.sealed.is_some() { sealed_length } else { record.extent_end },
        place: wire::place(rows, cluster, &record)?,
        sealed_length,
        replicas: record.replicas.iter().filter(has).map(|r| wire::replica(r, address(r.node))).collect(),
    }))
}

/// The work of an intent, but for a [`merge`] and a [`put`]. What is done in a mount's bucket needs that
/// `bucket`; `None` without it.
#[must_use]
pub fn intent(record: &IntentRecord, bucket: Option<v1::MountedBucket>) -> Option<v1::Work> {
    let intent = record.intent.0;
    Some(work(match &record.work {
        Work::Merge { .. } | Work::PutObject { .. } => return None,
        Work::DeleteObject { key, etag, .. } => {
            let (bucket, key, etag) = (Some(bucket?), key.clone().into(), etag.clone());
            work::Work::DeleteObject(v1::DeleteObject { intent, bucket, key, etag })
        }
        Work::ProbeMount { prefix, write, .. } => {
            let (bucket, prefix, write) = (Some(bucket?), prefix.clone(), *write);
            work::Work::ProbeMount(v1::ProbeMount { intent, bucket, prefix, write })
        }
        Work::Upload { pack, key, chunks } => {
            let chunks = chunks.iter().map(|c| v1::UploadChunk {
                chunk: c.chunk.0,
                length: c.length,
                chain: c.chain.0,
            });
            work::Work::Upload(v1::Upload {
                intent,
                pack: pack.0,
                key: key.clone(),
                chunks: chunks.collect(),
            })
        }
        Work::DeletePack { pack, key } => {
            work::Work::DeletePack(v1::DeletePack { intent, pack: pack.0, key: key.clone() })
        }
        Work::Compact { pack, key, from, chunks } => {
            let source = |pack| from.iter().find(|f| f.pack == pack);
            let chunks = chunks.iter().filter_map(|c| {
                let source = source(c.place.pack)?;
                Some(v1::PackedChunk {
                    chunk: c.chunk.0,
                    length: c.place.length,
                    chain: c.chain.0,
                    ino: c.ino.0,
                    base: c.base,
                    key: source.key.clone(),
                    offset: c.place.offset,
                    crc32c: c.place.crc32c,
                })
            });
            work::Work::Compact(v1::Compact {
                intent,
                pack: pack.0,
                key: key.clone(),
                chunks: chunks.collect(),
            })
        }
        Work::Import { mount, directory, prefix, start_after } => {
            let source = bucket?;
            let named = prefix.strip_suffix(b"/").unwrap_or(prefix);
            let root = source.prefix.trim_end_matches('/').as_bytes() == named;
            work::Work::Import(v1::Import {
                intent,
                mount: mount.0,
                directory: directory.0,
                prefix: prefix.clone().into(),
                bucket: source.bucket,
                endpoint: source.endpoint,
                region: source.region,
                force_path_style: source.force_path_style,
                start_after: start_after.clone().into(),
                access: source.access,
                root,
            })
        }
    }))
}

/// A data node for `cairn status`.
#[must_use]
pub fn node_status(view: &View) -> v1::DataNode {
    let beat = view.heartbeat.clone().unwrap_or_default();
    let registered = &view.registered;
    let reported = view.heartbeat.is_some();
    v1::DataNode {
        node: registered.node.0,
        address: registered.address.clone(),
        alive: view.liveness == Liveness::Alive,
        disk: registered.disk.0.to_vec().into(),
        capacity_bytes: if reported { beat.capacity_bytes } else { registered.capacity_bytes },
        used_bytes: beat.used_bytes,
        pinned_bytes: beat.pinned_bytes,
        heartbeat_age_ms: u64::try_from(view.age.as_millis()).unwrap_or(u64::MAX),
        retired: view.is_retired(),
        chunks: beat.chunks,
        incarnation: registered.incarnation.0,
        version: registered.version.clone(),
        removed: registered.removed,
        zone: registered.zone.clone(),
        host: registered.host.clone(),
        draining: registered.leaving == Leaving::Draining,
        drained: registered.leaving == Leaving::Drained,
        drain_chunks: 0,
        drain_bytes: 0,
        slow: view.slow,
        damaged_replicas: beat.damaged_replicas,
        damaged_chunks: beat.damaged_chunks,
        repaired_records: beat.repaired_records,
        room_bytes: beat.room_bytes,
        dir: beat.dir,
        failure: beat.failure,
        refused: beat.refused.into_iter().map(|(dir, reason)| v1::RefusedDisk { dir, reason }).collect(),
    }
}
