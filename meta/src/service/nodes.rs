//! What data nodes ask: to be registered, to be heard, to have a chunk closed.

use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::limits::CHUNK_BYTES_MAX;
use cairn_types::{
    Chain, ChunkId, DiskId, Epoch, FsError, Incarnation, NodeId, Timestamp, WriterMark, is_domain_name,
};

use super::Context;
use super::call::malformed;
use crate::leader::domains::host_of;
use crate::leader::leaving::Leaving;
use crate::leader::nodes::{Heartbeat, NotRegistered, Registered};
use crate::leader::placement::{self, Candidate};
use crate::leader::rows;
use crate::namespace::Command;

/// How often a data node reports.
const HEARTBEAT_MS: u64 = 1000;
/// Bytes of an address or a version, at most.
const TEXT_BYTES_MAX: usize = 256;

/// Damaged chunks that a data node names, at most.
const DAMAGED_TOLD_MAX: usize = 16;

/// A data node starts: it gets its id, the same for the same disk.
pub async fn register(
    ctx: &Context,
    request: v1::RegisterRequest,
    deadline: Duration,
) -> Result<v1::RegisterReply, WireError> {
    let disk = DiskId::from_bytes(&request.disk).filter(|d| !d.is_nil()).ok_or_else(|| malformed("disk"))?;
    let boot_id: [u8; 16] = request.boot_id.as_ref().try_into().map_err(|_| malformed("boot_id"))?;
    let has_port =
        request.address.rsplit_once(':').is_some_and(|(h, p)| !h.is_empty() && p.parse::<u16>().is_ok());
    if !has_port || request.address.len() > TEXT_BYTES_MAX {
        return Err(malformed("address"));
    }
    if request.incarnation == 0 {
        return Err(malformed("incarnation"));
    }
    if request.version.len() > TEXT_BYTES_MAX {
        return Err(malformed("version"));
    }
    for (field, name) in [("zone", &request.zone), ("host", &request.host)] {
        if !name.is_empty() && !is_domain_name(name) {
            return Err(malformed(field));
        }
    }
    let tenure = ctx.tenure()?;
    let incarnation = Incarnation(request.incarnation);
    let command = Command::RegisterNodeIn {
        disk,
        address: request.address.clone(),
        incarnation,
        boot_id,
        capacity_bytes: request.capacity_bytes,
        version: request.version.clone(),
        zone: request.zone.clone(),
        host: request.host.clone(),
    };
    let (_, reply) = ctx.node.propose_internal(command, deadline).await?;
    let node = reply?.node.ok_or(ServiceError::Internal)?;
    let known = rows::nodes(&*tenure.local()?.store).map_err(super::fault)?;
    let known = known.into_iter().find(|d| d.node == node);
    let retired = known.as_ref().is_some_and(|d| d.retired);
    let leaving = known.map_or(Leaving::No, |d| d.leaving);
    let restarted = tenure.registry.register(Registered {
        node,
        disk,
        address: request.address,
        incarnation,
        capacity_bytes: request.capacity_bytes,
        retired,
        version: request.version,
        removed: false,
        host: host_of(&request.host, boot_id),
        zone: request.zone,
        leaving,
    });
    tracing::info!(%node, %disk, %incarnation, restarted, "a data node has registered");
    tenure.seals.retry();
    tenure.stir();
    Ok(v1::RegisterReply { node: node.0, cluster_id: tenure.cluster.0.to_vec().into(), retired })
}

/// A data node lives. `NotFound` tells it to register again.
pub async fn heartbeat(
    ctx: &Context,
    request: v1::HeartbeatRequest,
    deadline: Duration,
) -> Result<v1::HeartbeatReply, WireError> {
    let tenure = ctx.tenure()?;
    let node = NodeId(request.node);
    let heartbeat = Heartbeat {
        node,
        incarnation: Incarnation(request.incarnation),
        used_bytes: request.used_bytes,
        pinned_bytes: request.pinned_bytes,
        capacity_bytes: request.capacity_bytes,
        retired: request.retired,
        chunks: request.chunks,
        under_store_error: request.under_store_error,
        damaged_replicas: request.damaged_replicas,
        damaged_chunks: request.damaged_chunks.into_iter().take(DAMAGED_TOLD_MAX).collect(),
        repaired_records: request.repaired_records,
        room_bytes: request.room_bytes,
        dir: request.dir,
        failure: request.failure,
        refused: request.refused.into_iter().map(|refused| (refused.dir, refused.reason)).collect(),
    };
    let retired_now = request.retired;
    let was_silent = tenure.registry.get(node).is_some_and(|v| !v.is_live());
    tenure.registry.heartbeat(heartbeat).map_err(|NotRegistered { .. }| FsError::NotFound)?;
    if was_silent {
        tracing::info!(%node, "a data node is heard again");
        tenure.seals.retry();
        tenure.stir();
    }
    if retired_now
        && let Some(view) = tenure.registry.get(node)
        && !view.registered.retired
    {
        let command = Command::RetireDisk { disk: view.registered.disk };
        let (_, reply) = ctx.node.propose_internal(command, deadline).await?;
        reply?;
        tenure.registry.note_retired(node);
        tracing::warn!(%node, "its disk is retired");
    }
    let candidates = tenure.registry.candidates(&[]);
    let healthy: Vec<&Candidate> = candidates.iter().filter(|c| !c.shunned && c.has_room()).collect();
    let processes = placement::processes(&healthy);
    let healthy = healthy.iter().map(|c| c.node.0).collect();
    Ok(v1::HeartbeatReply { interval_ms: HEARTBEAT_MS, healthy, processes })
}

/// A primary has the close record on every replica: Open → Sealed.
pub async fn seal_planned(
    ctx: &Context,
    request: v1::SealPlannedRequest,
    deadline: Duration,
) -> Result<v1::Chunk, WireError> {
    if request.length > CHUNK_BYTES_MAX {
        return Err(malformed("length"));
    }
    let tenure = ctx.tenure()?;
    let chunk = ChunkId(request.chunk);
    let command = Command::SealPlanned {
        chunk,
        epoch: Epoch(request.epoch),
        length: request.length,
        chain: Chain(request.chain),
        marks: request.marks.iter().map(WriterMark::from).collect(),
        mtime: mtime(ctx),
    };
    let record = tenure.chunk(chunk).map_err(super::fault)?.ok_or(FsError::NotFound)?;
    if record.primary != NodeId(request.node) {
        return Err(ServiceError::NotPrimary { chunk }.into());
    }
    let (_, reply) = ctx.node.propose_internal(command, deadline).await?;
    let record = reply?.chunk.ok_or(ServiceError::Internal)?;
    if record.sealed.is_some() {
        tenure.announce_sealed(&record);
    }
    ctx.wire_chunk(&*tenure.local()?.store, &record)
}

/// A close says no time of its last record: it is now, by this server's clock.
pub(super) fn mtime(ctx: &Context) -> Timestamp {
    ctx.clock.wall()
}
