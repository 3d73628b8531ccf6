//! The stream of appends to one follower: requests go out without waiting for answers, so that a
//! follower's fsync covers many of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cairn_proto::v1::RaftMessage;
use cairn_proto::v1::raft_client::RaftClient;
use futures::{Stream, StreamExt};
use openraft::base::BoxStream;
use openraft::errors::{RPCError, Timeout, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use tonic::transport::Channel;
use tonic::{Request, Streaming};

use super::met::Met;
use super::network::{garbage, refused, unnoted};
use super::record::{self, AppendRecord, StreamedRecord};
use super::types::TypeConfig;

/// How long a follower may take for one answer. openraft's limit for a call is a heartbeat's
/// interval; one fsync of a busy disk may take longer, and breaking the stream for it would only
/// send the same entries again.
#[must_use]
pub fn idle(option: &RPCOption) -> Duration {
    option.hard_ttl() * 4
}

/// The follower ended the stream before it had answered everything.
#[derive(Debug, thiserror::Error)]
#[error("the follower ended the stream of appends")]
struct BrokenOff;

struct Answers {
    incoming: Streaming<RaftMessage>,
    sent: Arc<AtomicU64>,
    answered: u64,
    late: Timeout<TypeConfig>,
    to: u64,
    met: Arc<Met>,
}

type Answer = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

impl Answers {
    /// The next answer; `None` when the follower has ended the stream in order.
    async fn next(&mut self) -> Option<Answer> {
        let received = loop {
            let before = self.sent.load(Ordering::Acquire);
            match tokio::time::timeout(self.late.timeout, self.incoming.message()).await {
                Ok(received) => break received,
                // Silence is late only when something that was sent before it is unanswered.
                Err(_) if before > self.answered => return Some(Err(RPCError::Timeout(self.late.clone()))),
                Err(_) => {}
            }
        };
        match received {
            // A follower that ends the stream with requests unanswered has stopped: without an
            // error openraft would take them for still under way.
            Ok(None) if self.sent.load(Ordering::Acquire) > self.answered => {
                Some(Err(RPCError::Unreachable(Unreachable::new(&BrokenOff))))
            }
            Ok(None) => None,
            Ok(Some(message)) => {
                self.answered += 1;
                Some(self.read(&message))
            }
            Err(status) => Some(Err(refused(status))),
        }
    }

    /// Decodes an answer; one that acknowledges entries is written down as a promise first.
    fn read(&self, message: &RaftMessage) -> Answer {
        let answer = record::decode::<StreamedRecord>(&message.payload).map_err(garbage)?;
        let answer = StreamAppendResult::<TypeConfig>::from(answer);
        if answer.is_ok() {
            self.met.note(self.to).map_err(unnoted)?;
        }
        Ok(answer)
    }
}

/// Opens the stream and feeds it from `input` until that ends or the follower refuses. Whose
/// acknowledgement is used is written down in `met`.
///
/// # Errors
/// When the follower does not take the stream in time.
pub async fn open<'s, S>(
    mut client: RaftClient<Channel>,
    stamp: Request<()>,
    input: S,
    (from, to): (u64, u64),
    late: Timeout<TypeConfig>,
    met: Arc<Met>,
) -> Result<BoxStream<'s, Answer>, RPCError<TypeConfig>>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let outgoing = input.map(move |request| {
        counter.fetch_add(1, Ordering::AcqRel);
        let payload = record::encode(&AppendRecord::from(&request));
        RaftMessage { group: 0, from, to, payload }
    });
    let (metadata, extensions, ()) = stamp.into_parts();
    let request = Request::from_parts(metadata, extensions, outgoing);
    let opened = tokio::time::timeout(late.timeout, client.append_stream(request)).await;
    let incoming = match opened {
        Ok(answer) => answer.map_err(refused)?.into_inner(),
        Err(_) => return Err(RPCError::Timeout(late)),
    };
    let answers = Answers { incoming, sent, answered: 0, late, to, met };
    // The first error or refusal ends the stream, as openraft expects.
    let stream = futures::stream::unfold(Some(answers), |answers| async move {
        let mut answers = answers?;
        let answer = answers.next().await?;
        let goes_on = matches!(answer, Ok(Ok(_)));
        Some((answer, goes_on.then_some(answers)))
    });
    Ok(stream.boxed())
}
