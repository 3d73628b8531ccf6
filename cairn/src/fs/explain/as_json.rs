//! An explained file as JSON.

use cairn_sdk::types::{Extent, ExtentSource, Policy, WriterId};
use cairn_sdk::{ChunkState, Explained, ExplainedChunk, ExplainedIntent, ExplainedReplica};
use serde_json::{Value, json};

use crate::output::inode_json;

pub fn of(path: &[u8], explained: &Explained) -> Value {
    let (file, lag) = (&explained.file, &explained.lag);
    let origin = file.origin.clone().unwrap_or_default();
    let tail = explained.inode.tail.as_ref().map(|tail| {
        let bytes = lag.tail.and_then(|tail| tail.bytes);
        json!({"chunk": tail.chunk.0, "base": tail.base, "bytes": bytes})
    });
    let writers = file.writers.iter().map(|mark| {
        json!({"writer": mark.writer, "session": WriterId(mark.writer).session().0, "sequence": mark.sequence,
               "offset": mark.offset})
    });
    json!({
        "file": inode_json(path, &explained.inode, false),
        "generation": explained.inode.generation.0,
        "log_index": file.log_index,
        "policy": policy(file.policy.as_ref()),
        "policy_from": String::from_utf8_lossy(&origin.path),
        "lag": {"bytes": lag.bytes, "age_ms": lag.age_ms, "never_bytes": lag.never_bytes},
        "tail": tail,
        "writers": writers.collect::<Vec<_>>(),
        "extents": explained.extents.iter().map(|e| extent(explained, e)).collect::<Vec<_>>(),
        "chunks": explained.chunks.values().map(|c| chunk(explained, c)).collect::<Vec<_>>(),
        "intents": explained.intents.values().map(|i| intent(explained, i)).collect::<Vec<_>>(),
    })
}

fn policy(wire: Option<&cairn_proto::v1::Policy>) -> Value {
    let policy = wire.and_then(|wire| Policy::try_from(wire).ok());
    policy.map_or(Value::Null, |policy| json!(policy))
}

fn extent(explained: &Explained, extent: &Extent) -> Value {
    let mut fields = json!({"from": extent.file_offset, "length": extent.length});
    let source = match &extent.source {
        ExtentSource::Chunk { chunk, offset } => json!({"chunk": chunk.0, "offset": offset}),
        ExtentSource::Object { object, offset } => json!({
            "mount": object.mount.0, "key": String::from_utf8_lossy(&object.key), "etag": object.etag,
            "url": explained.object_url(object.mount.0, &object.key), "offset": offset,
        }),
    };
    if let (Value::Object(fields), Value::Object(source)) = (&mut fields, source) {
        fields.extend(source);
    }
    fields
}

fn chunk(explained: &Explained, known: &ExplainedChunk) -> Value {
    let chunk = known.chunk.clone().unwrap_or_default();
    let activation = chunk.activation.unwrap_or_default();
    let state = match chunk.state() {
        ChunkState::Open => "open",
        ChunkState::Spare => "spare",
        ChunkState::Sealing => "sealing",
        ChunkState::Sealed => "sealed",
        ChunkState::Unspecified => "unknown",
    };
    let place = chunk.place.as_ref().map(|place| {
        json!({"pack": place.pack, "key": place.key, "url": explained.pack_url(&place.key), "offset": place.offset,
               "length": place.length, "etag": known.etag, "pack_bytes": known.pack_bytes, "crc32c": known.crc32c})
    });
    let last = chunk.marks.first().map(|mark| {
        json!({"writer": mark.writer, "session": WriterId(mark.writer).session().0, "sequence": mark.sequence})
    });
    json!({
        "chunk": chunk.chunk, "state": state, "epoch": chunk.epoch, "primary": chunk.primary,
        "length": (chunk.state() == ChunkState::Sealed).then_some(chunk.length),
        "session": (activation.session != 0).then_some(activation.session), "held": known.held,
        "base": (activation.session == 0).then_some(activation.base), "generation": activation.generation,
        "live_bytes": known.live_bytes, "extent_end": known.extent_end, "opened_ns": known.opened_ns,
        "sealed_ns": (known.sealed_ns != 0).then_some(known.sealed_ns), "policy": policy(chunk.policy.as_ref()),
        "replicas": known.replicas.iter().map(replica).collect::<Vec<_>>(), "last_append": last,
        "upload": (known.upload != 0).then_some(known.upload), "place": place,
    })
}

fn replica(replica: &ExplainedReplica) -> Value {
    json!({
        "node": replica.node, "address": replica.address, "holder": replica.holder, "primary": replica.primary,
        "alive": replica.alive, "retired": replica.retired, "removed": replica.removed,
    })
}

fn intent(explained: &Explained, intent: &ExplainedIntent) -> Value {
    let url = (intent.kind != "import").then(|| explained.pack_url(&intent.key));
    json!({
        "intent": intent.intent, "kind": intent.kind, "assignee": intent.assignee, "created_ns": intent.created_ns,
        "assigned_ns": intent.assigned_ns, "failures": intent.failures, "message": intent.message,
        "failed": intent.failed, "key": intent.key, "url": url, "chunks": intent.chunks, "bytes": intent.bytes,
    })
}
