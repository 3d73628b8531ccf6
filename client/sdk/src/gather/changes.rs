//! Changes that share a `MutateAll`.

use std::time::Duration;

use cairn_proto::v1::mutate_outcome::Outcome;
use cairn_proto::v1::{MutateAllRequest, MutateReply, MutateRequest};
use cairn_types::limits::MUTATIONS_MAX;
use tonic::{Response, Status};

use super::{Answers, Shares};
use crate::connection::Connections;

impl Shares for MutateRequest {
    type Reply = MutateReply;
    type Kind = ();
    const AT_ONCE_MAX: usize = MUTATIONS_MAX;

    fn kind(&self) {}

    async fn send(
        connections: &Connections,
        address: &str,
        mut requests: Vec<Self>,
        limit: Duration,
    ) -> Answers<MutateReply> {
        let mut meta = connections.meta(address).map_err(|c| Status::invalid_argument(c.to_string()))?;
        if requests.len() == 1
            && let Some(request) = requests.pop()
        {
            let reply = meta.mutate(connections.request(request, limit)).await;
            return Ok(vec![reply.map(Response::into_inner)]);
        }
        let request = connections.request(MutateAllRequest { requests }, limit);
        let outcomes = meta.mutate_all(request).await?.into_inner().outcomes.into_iter();
        let outcomes = outcomes.map(|outcome| match outcome.outcome {
            Some(Outcome::Reply(reply)) => Ok(reply),
            Some(Outcome::Refusal(refusal)) => Err(refusal.into()),
            None => Err(Status::internal("the server left a change unanswered")),
        });
        Ok(outcomes.collect())
    }
}
