//! One stream's appends: read in order, checked, handed to their chunks' primaries. The replies
//! come back on one bounded way, in order for each chunk.

use std::sync::Arc;
use std::time::Duration;

use cairn_proto::v1::append_reply::Outcome;
use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::ChunkId;
use cairn_types::limits::APPEND_BYTES_MAX;
use futures::{Stream, StreamExt};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use crate::replicate::Primaries;
use crate::replicate::ticket::{Answer, Append, Ticket};

/// Appends of one stream that may be unanswered: as many as a client has under way in a chunk, so that a stream
/// whose acknowledgements are held back holds up nothing that comes behind it on its connection.
const UNANSWERED_MAX: usize = 1 << 14;

/// Serves one stream until the client closes its side and every append is answered.
///
/// While the disk fills up each acknowledgement is held back for a while, one after the other: the writer is
/// slowed once it has as much under way as it may. What it has sent is stored meanwhile, and waits for nobody.
pub fn serve(
    primaries: Primaries,
    inbound: impl Stream<Item = Result<v1::AppendRequest, Status>> + Send + Unpin + 'static,
) -> impl Stream<Item = Result<v1::AppendReply, Status>> + Send {
    let (replies, answers) = mpsc::channel(UNANSWERED_MAX);
    let reader = AbortOnDropHandle::new(tokio::spawn(read(primaries.clone(), inbound, replies)));
    // Taking the reply out of its answer frees its seat. The reader lives as long as the stream.
    ReceiverStream::new(answers).then(move |answer: Answer| {
        let _reader = &reader;
        let (context, reply) = (primaries.context(), &answer.reply);
        let (chunk, place) = (ChunkId(reply.chunk), (reply.writer, reply.sequence));
        context.slow.append(chunk, place, &answer.begun, context.clock.boottime());
        // A refusal takes no space.
        let is_taken = matches!(reply.outcome, Some(Outcome::Offset(_)));
        let pause = if is_taken { primaries.pause(chunk) } else { Duration::ZERO };
        async move {
            if !pause.is_zero() {
                metrics::counter!("cairn_data_appends_slowed_total").increment(1);
                tokio::time::sleep(pause).await;
            }
            Ok(answer.reply)
        }
    })
}

async fn read(
    primaries: Primaries,
    mut inbound: impl Stream<Item = Result<v1::AppendRequest, Status>> + Unpin,
    replies: mpsc::Sender<Answer>,
) {
    let seats = Arc::new(Semaphore::new(UNANSWERED_MAX));
    loop {
        let request = match inbound.next().await {
            Some(Ok(request)) => request,
            None => return,
            Some(Err(error)) => {
                tracing::debug!(%error, "a client's append stream ended");
                return;
            }
        };
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        let now = primaries.context().clock.boottime();
        let ticket = Ticket::new(&request, now, replies.clone(), seat);
        if let Err(error) = check(&request) {
            ticket.refuse(&WireError::Service(error), 0);
            continue;
        }
        match primaries.room(ChunkId(request.chunk), request.data.len()).await {
            Ok((handle, room)) => handle.append(Append { request, ticket, room }).await,
            Err(error) => ticket.refuse(&WireError::Service(error), 0),
        }
    }
}

fn check(request: &v1::AppendRequest) -> Result<(), ServiceError> {
    let malformed = |field: &str| Err(ServiceError::Malformed { field: field.to_owned() });
    if request.chunk == 0 {
        return malformed("chunk");
    }
    if request.writer == 0 || request.sequence == 0 {
        return malformed("writer");
    }
    if request.data.is_empty() || request.data.len() > APPEND_BYTES_MAX {
        return malformed("data");
    }
    if crc32c::crc32c(&request.data) != request.crc32c {
        return Err(ServiceError::ChecksumMismatch);
    }
    Ok(())
}
