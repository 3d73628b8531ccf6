//! Chunk records as the wire has them, for clients and for data nodes alike.

use cairn_proto::v1;
use cairn_types::{ClusterId, NodeId};

use crate::keys::chunks::{ChunkOwner, ChunkRecord, ChunkState, PlacedReplica};
use crate::keys::mount_modes::{BucketAccess, ConflictRule, EndpointAbilities, MountRules};
use crate::keys::packs::{self, PackRecord};
use crate::keys::{self, RowFault};
use crate::store::Rows;

/// Where a chunk is in S3, when it is there. The key is the pack's own: one that was loaded from a dump
/// is another cluster's.
///
/// # Errors
/// [`RowFault`] when the pack's row cannot be read.
pub fn place(
    rows: &dyn Rows,
    cluster: ClusterId,
    record: &ChunkRecord,
) -> Result<Option<v1::PackPlace>, RowFault> {
    let Some(place) = record.place else { return Ok(None) };
    let pack: Option<PackRecord> = keys::get(rows, &packs::key(place.pack))?;
    let key = pack.map_or_else(|| packs::object_key(cluster, place.pack), |pack| pack.key);
    Ok(Some(v1::PackPlace { pack: place.pack.0, key, offset: place.offset, length: place.length }))
}

/// How a mounted bucket is spoken to.
#[must_use]
pub fn access(access: &BucketAccess) -> v1::BucketAccess {
    let BucketAccess { profile, credentials_file, requester_pays, sse, sse_kms_key, storage_class } =
        access.clone();
    v1::BucketAccess { profile, credentials_file, requester_pays, sse, sse_kms_key, storage_class }
}

/// How a mount is written to.
#[must_use]
pub fn rules(rules: &MountRules) -> v1::MountRules {
    v1::MountRules {
        writable: rules.writable,
        object_lag_ms: rules.object_lag_ms,
        on_conflict: conflict_rule(rules.on_conflict).into(),
        sole_writer: rules.sole_writer,
    }
}

/// Who wins a conflict.
#[must_use]
pub fn conflict_rule(rule: ConflictRule) -> v1::ConflictRule {
    match rule {
        ConflictRule::KeepBoth => v1::ConflictRule::KeepBoth,
        ConflictRule::Bucket => v1::ConflictRule::Bucket,
        ConflictRule::Namespace => v1::ConflictRule::Namespace,
    }
}

/// What an endpoint can do.
#[must_use]
pub fn abilities(a: &EndpointAbilities) -> v1::EndpointAbilities {
    v1::EndpointAbilities {
        put_if_absent: a.put_if_absent,
        put_if_match: a.put_if_match,
        complete_if_absent: a.complete_if_absent,
        complete_if_match: a.complete_if_match,
        copy_if_absent: a.copy_if_absent,
        copy_if_match: a.copy_if_match,
        copy_source_if_match: a.copy_source_if_match,
        delete_if_match: a.delete_if_match,
        part_copy: a.part_copy,
        crc32c: a.crc32c,
        crc64nvme: a.crc64nvme,
        get_if_match: a.get_if_match,
        byte_order: a.byte_order,
        writable: a.writable,
    }
}

/// One replica; `address` is empty when the node is unknown.
#[must_use]
pub fn replica(placed: &PlacedReplica, address: Option<String>) -> v1::Replica {
    v1::Replica {
        node: placed.node.0,
        address: address.unwrap_or_default(),
        incarnation: placed.incarnation.0,
        disk: placed.disk.0.to_vec().into(),
    }
}

/// A chunk with its replicas' addresses: the set while it is open or sealing, the holders once
/// it is sealed; and its [`place`].
#[must_use]
pub fn chunk(
    record: &ChunkRecord,
    place: Option<v1::PackPlace>,
    address: &dyn Fn(NodeId) -> Option<String>,
) -> v1::Chunk {
    let state = match record.state {
        ChunkState::Open => v1::ChunkState::Open,
        ChunkState::Sealing => v1::ChunkState::Sealing,
        ChunkState::Sealed => v1::ChunkState::Sealed,
        ChunkState::Spare => v1::ChunkState::Spare,
    };
    let shown = |r: &&PlacedReplica| record.sealed.is_none() || record.is_holder(r.node);
    let marks = record.sealed.as_ref().map_or(&record.activation.marks, |s| &s.marks);
    v1::Chunk {
        chunk: record.chunk.0,
        state: state.into(),
        epoch: record.epoch.0,
        replicas: record.replicas.iter().filter(shown).map(|r| replica(r, address(r.node))).collect(),
        primary: record.primary.0,
        policy: Some(v1::Policy::from(&record.policy)),
        length: record.sealed.as_ref().map_or(0, |s| s.length),
        chain: record.sealed.as_ref().map_or(0, |s| s.chain.0),
        marks: marks.iter().map(v1::WriterMark::from).collect(),
        // Nothing may be taken for a spare.
        activation: (record.state != ChunkState::Spare).then(|| activation(record)),
        place,
    }
}

fn activation(record: &ChunkRecord) -> v1::Activation {
    let (ino, base, session) = match record.owner {
        ChunkOwner::Session(session) => (0, 0, session.0),
        ChunkOwner::Tail { ino, base } => (ino.0, base, 0),
    };
    v1::Activation {
        log_index: record.activation.log_index.0,
        ino,
        base,
        generation: record.activation.generation.0,
        session,
        grant_bytes: record.activation.grant_bytes,
    }
}
