//! Work `PutObject`: an object of a mounted bucket is brought to what the namespace says.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_proto::v1;
use cairn_proto::v1::report_work_request::Outcome;
use cairn_types::ChunkId;

use super::Worker;
use super::mounted::failed;
use crate::node::Node;
use crate::objects::{Chunks, ObjectError, Order, Put, PutDone, PutKind};
use crate::service::read::chunk_piece;
use crate::upload::ReadFailed;

/// A put that takes longer, beyond what its bytes may take, has a line in the log.
const SLOW: Duration = Duration::from_secs(5);
const SLOW_BYTES_PER_SECOND: u64 = 8 << 20;

/// Sealed chunks, read as any reader's are: from here, else from another holder, else from S3.
struct NodeChunks(Arc<Node>);

#[async_trait]
impl Chunks for NodeChunks {
    async fn read(&self, range: &v1::ChunkRange, offset: u64, length: usize) -> Result<Bytes, ReadFailed> {
        chunk_piece(&self.0, range, (offset, length), 0).await.map_err(|error| {
            let chunk = ChunkId(range.chunk);
            tracing::warn!(chunk = chunk.0, offset, %error, "read a chunk for an object of a mount");
            ReadFailed { chunk, offset }
        })
    }
}

impl Worker {
    /// Writes an object.
    pub(super) async fn put_object(&self, work: &v1::PutObject) -> Outcome {
        match self.put_ordered(work).await {
            Ok(done) => done.into(),
            Err(error) => failed(&error),
        }
    }

    async fn put_ordered(&self, work: &v1::PutObject) -> Result<PutDone, ObjectError> {
        let order = Order::new(self.node.cluster, work)?;
        let key = order.key().to_owned();
        let store = self.mounted(work.bucket.as_ref())?;
        let chunks = Arc::new(NodeChunks(Arc::clone(&self.node)));
        let put = Put::new(order, store, chunks, self.buffers.clone())?;
        let clock = &self.node.context.clock;
        let begun = clock.boottime();
        let done = put.run().await;
        let took = clock.boottime().saturating_sub(begun);
        note(&key, put.kind(), work.length, &done, took);
        done
    }
}

/// Counts a put, and tells of a slow one.
fn note(key: &str, kind: PutKind, bytes: u64, done: &Result<PutDone, ObjectError>, took: Duration) {
    let outcome = match done {
        Ok(PutDone::Written { sent_bytes, copied_bytes, .. }) => {
            metrics::counter!("cairn_data_mount_put_bytes_total").increment(*sent_bytes);
            metrics::counter!("cairn_data_mount_copied_bytes_total").increment(*copied_bytes);
            "ok"
        }
        Ok(PutDone::Conflict(_)) => {
            metrics::counter!("cairn_data_mount_conflicts_total").increment(1);
            "conflict"
        }
        Err(_) => "failed",
    };
    metrics::counter!("cairn_data_mount_puts_total", "kind" => kind.word(), "outcome" => outcome)
        .increment(1);
    metrics::histogram!("cairn_data_mount_put_seconds", "kind" => kind.word()).record(took.as_secs_f64());
    if took > SLOW + Duration::from_millis(bytes * 1000 / SLOW_BYTES_PER_SECOND) {
        let took_ms = took.as_millis();
        tracing::warn!(key, kind = kind.word(), bytes, outcome, took_ms, "slow object of a mount");
    }
}
