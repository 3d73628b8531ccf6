//! [`Link`]: a primary's stream to one secondary of one chunk. What is sent arrives in order.

use std::pin::Pin;

use cairn_proto::{ServiceError, WireError, status, v1};
use cairn_types::NodeId;
use futures::{Stream, StreamExt, TryFutureExt};
use tokio::sync::mpsc;
use tonic::Status;

use crate::connection::Peers;

/// What a secondary says.
#[derive(Debug)]
pub enum Progress {
    /// The chunk's record is durable there.
    Created,
    /// Everything below is durable there.
    Durable(u64),
    /// The close record is durable there.
    Closed,
    /// It takes nothing further, or cannot be reached.
    Broken(WireError),
}

/// What the secondary at this place of the chunk's set says.
pub type Said = Pin<Box<dyn Stream<Item = (usize, Progress)> + Send>>;

/// The way to one secondary.
#[derive(Debug)]
pub struct Link {
    /// The node.
    pub node: NodeId,
    sender: mpsc::Sender<v1::ReplicateRequest>,
}

impl Link {
    /// Opens the stream to `replica`, for at most `capacity` unsent messages. What it answers comes
    /// as `(place, progress)`; a broken stream says [`Progress::Broken`] once, last.
    ///
    /// # Errors
    /// The replica's address is none.
    pub fn open(
        peers: &Peers,
        replica: &v1::Replica,
        place: usize,
        capacity: usize,
    ) -> Result<(Self, Said), WireError> {
        let (sender, messages) = mpsc::channel(capacity);
        let open = peers.replicate(&replica.address, messages)?;
        let ended = futures::stream::once(async { Err(Status::unavailable("the stream ended")) });
        let said = open.try_flatten_stream().chain(ended).map(move |reply| (place, progress(reply))).scan(
            false,
            |broken, said| {
                let go_on = !std::mem::replace(broken, matches!(said.1, Progress::Broken(_)));
                std::future::ready(go_on.then_some(said))
            },
        );
        Ok((Self { node: NodeId(replica.node), sender }, said.boxed()))
    }

    /// Sends at once; false when the secondary is so far behind that nothing more fits, or gone.
    pub fn send(&self, message: v1::replicate_request::Message) -> bool {
        self.send_for(message, 0)
    }

    /// The same, for the client's operation with this trace id; 0: of none.
    pub fn send_for(&self, message: v1::replicate_request::Message, trace: u64) -> bool {
        self.sender.try_send(v1::ReplicateRequest { message: Some(message), trace }).is_ok()
    }
}

fn progress(reply: Result<v1::ReplicateReply, Status>) -> Progress {
    use v1::replicate_reply::Outcome;
    match reply.map(|reply| reply.outcome) {
        Ok(Some(Outcome::Durable(length))) => Progress::Durable(length),
        Ok(Some(Outcome::Created(_))) => Progress::Created,
        Ok(Some(Outcome::Closed(_))) => Progress::Closed,
        Ok(Some(Outcome::Refused(detail))) => {
            let unknown = WireError::Service(ServiceError::Internal);
            Progress::Broken(status::parse_detail(&detail, "").unwrap_or(unknown))
        }
        Ok(None) => Progress::Broken(ServiceError::Malformed { field: "outcome".to_owned() }.into()),
        Err(status) => Progress::Broken(status.into()),
    }
}
