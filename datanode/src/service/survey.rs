//! `SurveyPacks`, `SurveyReplicas`: what is really there, page by page, for the leader to compare.

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{ChunkId, FsError, NodeId, Timestamp};

use crate::chunk::ChunkStore;
use crate::node::{Node, Nodes};
use crate::understore::{LIST_PAGE_MAX, ListRequest, UnderStoreError};

/// Uploads in parts that are that old, and were never completed, nobody works on any more.
const ABANDONED_AGE_NS: i64 = 24 * 3_600 * 1_000_000_000;
/// Replicas in one page, at most.
const REPLICAS_MAX: usize = 4096;

/// A page of the objects under the cluster's packs.
///
/// # Errors
/// [`FsError::NotSupported`] when this node has no under-store; [`ServiceError::UnderStore`] when that does
/// not answer.
pub(super) async fn packs(
    node: &Node,
    asked: v1::SurveyPacksRequest,
) -> Result<v1::SurveyPacksReply, WireError> {
    let store = node.packs.as_ref().ok_or(FsError::NotSupported)?;
    let area = format!("{}/", node.cluster);
    let first = asked.start_after.is_empty();
    let request = ListRequest {
        prefix: format!("{area}packs/"),
        start_after: (!first).then_some(asked.start_after),
        max: LIST_PAGE_MAX,
        ..ListRequest::default()
    };
    let page = store.list(&request).await.map_err(|error| refused(&error))?;
    let abandoned_uploads = if first { abandoned(node, &area, asked.only_look).await } else { 0 };
    let objects = page.objects.into_iter();
    let objects = objects.map(|o| v1::SurveyedObject { key: o.key, bytes: o.size, etag: o.etag });
    Ok(v1::SurveyPacksReply {
        objects: objects.collect(),
        more: page.continuation.is_some(),
        abandoned_uploads,
    })
}

/// Not every endpoint lists its uploads: then none are told.
async fn abandoned(node: &Node, area: &str, only_look: bool) -> u64 {
    let Some(store) = &node.packs else { return 0 };
    let before = Timestamp(node.context.clock.wall().0.saturating_sub(ABANDONED_AGE_NS));
    let found = if only_look {
        store.count_abandoned(area, before).await
    } else {
        store.abort_abandoned(area, before).await
    };
    found.unwrap_or_else(|error| {
        tracing::warn!(%error, "look for abandoned uploads");
        0
    })
}

fn refused(error: &UnderStoreError) -> WireError {
    tracing::warn!(%error, "list the packs in the under-store");
    ServiceError::UnderStore.into()
}

/// A page of the replicas on the disk of the asked node; an older leader names none, and means the one disk that
/// there is.
pub(super) async fn replicas(
    nodes: &Nodes,
    asked: v1::SurveyReplicasRequest,
) -> Result<v1::SurveyReplicasReply, WireError> {
    let named = NodeId(asked.node);
    let node = if named.0 == 0 { nodes.only() } else { nodes.find(named) };
    let node = node.ok_or(ServiceError::NoSuchNode { node: named })?;
    let limit = usize::try_from(asked.limit).ok().filter(|l| (1..=REPLICAS_MAX).contains(l));
    let (store, limit) = (node.context.store.clone(), limit.unwrap_or(REPLICAS_MAX));
    let page = tokio::task::spawn_blocking(move || page(&store, ChunkId(asked.after), limit));
    page.await.map_err(|_| ServiceError::Internal.into())
}

fn page(store: &ChunkStore, after: ChunkId, limit: usize) -> v1::SurveyReplicasReply {
    let all = store.list().into_iter().filter(|view| view.chunk > after);
    let mut found: Vec<(u64, u64)> = all.map(|view| (view.chunk.0, view.length)).collect();
    found.sort_unstable();
    let more = found.len() > limit;
    let replicas = found.into_iter().take(limit);
    let replicas = replicas.map(|(chunk, bytes)| v1::SurveyedReplica { chunk, bytes }).collect();
    v1::SurveyReplicasReply { replicas, more }
}
