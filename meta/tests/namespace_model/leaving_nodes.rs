//! What the tests of data nodes that leave have in common: the nodes, a chunk, and what is asked of a state.

use cairn_meta::keys::queues::Queue;
use cairn_meta::namespace::command::PersistedChunk;
use cairn_meta::namespace::{Command, Operation, jobs};
use cairn_types::{ChunkId, Incarnation, NodeId};

use crate::driver::{Driver, FIRST, extent};

pub const THIRD: NodeId = NodeId(103);
/// Data nodes of a random history.
pub const NODES: u64 = 5;

pub fn remove(node: NodeId) -> Command {
    Command::RemoveNode { node, incarnation: Incarnation(1) }
}

pub fn waiting(d: &Driver, queue: Queue) -> Vec<u64> {
    jobs::queue(&d.store, queue, None, 100).unwrap().into_iter().map(|w| w.id).collect()
}

/// A sealed chunk of ten bytes, on the first two nodes, that `/a` names and nobody holds any more.
pub fn sealed(d: &mut Driver) -> ChunkId {
    let chunk = d.shared_chunk();
    d.create("/a", vec![extent(0, 10, chunk, 0)]).unwrap();
    d.close(chunk, 10, Vec::new());
    d.done(Operation::ReleaseChunk { chunk });
    chunk
}

pub fn persist(d: &mut Driver, chunk: ChunkId) {
    let intent = d.ok(Command::CreateUpload { assignee: FIRST, chunks: vec![chunk] }).intent.unwrap();
    let places = vec![PersistedChunk { chunk, offset: 0, length: 10, crc32c: 1 }];
    d.ok(Command::Persisted { intent, etag: "e".into(), places, bytes: 10 });
}

/// A node of a random history.
pub fn id(node: u64) -> NodeId {
    NodeId(FIRST.0 + node)
}

/// The file that names a chunk of a random history.
pub fn path(chunk: u64) -> String {
    format!("/of-{chunk}")
}
