//! Stats that share a `StatAll`: each is as fresh as asked alone, since the call begins after it.

use std::time::Duration;

use cairn_proto::v1::stat_outcome::Outcome;
use cairn_proto::v1::{StatAllRequest, StatReply, StatRequest};
use tonic::{Response, Status};

use super::{Answers, Shares};
use crate::connection::Connections;

/// A call of more would keep its first ones waiting.
const AT_ONCE_MAX: usize = 64;

impl Shares for StatRequest {
    type Reply = StatReply;
    /// Freshness, age and reader.
    type Kind = (i32, u64, u64);
    const AT_ONCE_MAX: usize = AT_ONCE_MAX;

    fn kind(&self) -> (i32, u64, u64) {
        (self.consistency, self.max_age_ms, self.session)
    }

    async fn send(
        connections: &Connections,
        address: &str,
        mut requests: Vec<Self>,
        limit: Duration,
    ) -> Answers<StatReply> {
        let mut meta = connections.meta(address).map_err(|c| Status::invalid_argument(c.to_string()))?;
        if requests.len() == 1
            && let Some(request) = requests.pop()
        {
            let reply = meta.stat(connections.request(request, limit)).await;
            return Ok(vec![reply.map(Response::into_inner)]);
        }
        let Some((consistency, max_age_ms, session)) = requests.first().map(Self::kind) else {
            return Ok(Vec::new());
        };
        let targets = requests.into_iter().map(|request| request.target.unwrap_or_default()).collect();
        let request = StatAllRequest { group: 0, targets, consistency, max_age_ms, session };
        let reply = meta.stat_all(connections.request(request, limit)).await?.into_inner();
        let age_ms = reply.age_ms;
        let outcomes = reply.outcomes.into_iter().map(|outcome| match outcome.outcome {
            Some(Outcome::Reply(reply)) => Ok(StatReply { age_ms, ..reply }),
            Some(Outcome::Refusal(refusal)) => Err(refusal.into()),
            None => Err(Status::internal("the server left a stat unanswered")),
        });
        Ok(outcomes.collect())
    }
}
