//! Hello, and sessions: opened, kept alive, closed.

use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::limits::{HOLDS_PER_ANSWER_MAX, PROTOCOL_VERSION};
use cairn_types::{Credentials, FsError, InodeId, LogIndex, Sequence, SessionId};

use super::Context;
use super::call::malformed;
use crate::leader::Tenure;
use crate::leader::tenure::Refused;
use crate::namespace::command::HoldAnswer;
use crate::namespace::holds::{self, Question, Unlinked};
use crate::namespace::{Command, read};

/// Bytes of a client's name, at most.
const CLIENT_BYTES_MAX: usize = 256;
/// Unlinked files that a session is asked about at once, about.
const ASKED_MAX: usize = 4096;
/// Entries that closing one session may take.
const CLOSE_STEPS_MAX: usize = 64;
/// Sessions of a cluster, at most; beyond that one must end first.
const SESSIONS_MAX: u64 = 100_000;

/// Who this is and who leads. Never fails, on any server.
pub fn hello(ctx: &Context) -> v1::HelloReply {
    let status = ctx.node.status();
    let (leader, leader_address) = status.leader.map_or((0, String::new()), |(id, a)| (id.0, a));
    let member = |m: crate::node::MemberStatus| v1::MetaMember { node: m.node.0, address: m.address };
    v1::HelloReply {
        cluster_id: ctx.node.cluster_id().map(|id| id.0.to_vec()).unwrap_or_default().into(),
        node: status.node.0,
        leader,
        leader_address,
        protocol: PROTOCOL_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        members: status.members.into_iter().map(member).collect(),
        wall_ns: ctx.clock.wall().0,
    }
}

/// Opens a session; its lease begins when the entry is committed.
pub async fn open(
    ctx: &Context,
    request: v1::OpenSessionRequest,
    deadline: Duration,
) -> Result<v1::OpenSessionReply, WireError> {
    if request.client.len() > CLIENT_BYTES_MAX {
        return Err(malformed("client"));
    }
    let tenure = ctx.tenure()?;
    if read::cluster(&*tenure.local()?.store).map_err(super::fault)?.counts.sessions >= SESSIONS_MAX {
        return Err(ServiceError::Overloaded.into());
    }
    let (client, holds) = (request.client, request.holds_files);
    let command = match credentials(request.credentials)? {
        credentials if holds => Command::OpenHolder { client, credentials },
        Some(credentials) => Command::OpenSessionAs { client, credentials },
        None => Command::OpenSession { client },
    };
    let (_, reply) = ctx.node.propose(command, deadline).await?;
    let session = reply?.session.ok_or(ServiceError::Internal)?;
    tenure.leases.grant(session);
    Ok(v1::OpenSessionReply { session: session.0, lease_ms: lease_ms(&tenure) })
}

/// Who the client says it is.
fn credentials(wire: Option<v1::Credentials>) -> Result<Option<Credentials>, WireError> {
    let credentials = wire.map(|c| Credentials { uid: c.uid, gid: c.gid, groups: c.groups });
    match credentials {
        Some(credentials) if !credentials.is_valid() => Err(malformed("credentials.groups")),
        credentials => Ok(credentials),
    }
}

/// What a client is promised.
fn lease_ms(tenure: &Tenure) -> u64 {
    u64::try_from(tenure.leases.lease().as_millis()).unwrap_or(u64::MAX)
}

/// Renews a lease, takes what the session says of unlinked files, drops acknowledged replies, and asks
/// about files that were unlinked since.
pub async fn keep_alive(
    ctx: &Context,
    request: v1::KeepAliveRequest,
    deadline: Duration,
) -> Result<v1::KeepAliveReply, WireError> {
    let tenure = ctx.tenure()?;
    let session = SessionId(request.session);
    if !tenure.leases.renew(session) {
        return Err(FsError::SessionExpired.into());
    }
    if let Some(answer) = request.holds {
        tenure.answers.hand_in(hold_answer(session, answer)?, deadline).await?;
    }
    let below = Sequence(request.acknowledged_below);
    if tenure.leases.acknowledges(session, below) {
        let command = Command::Acknowledge { session, below };
        let (_, reply) = ctx.node.propose(command, deadline).await?;
        reply?;
    }
    let view = tenure.local()?;
    let asked = holds::question(&*view.store, session, view.applied, ASKED_MAX).map_err(super::fault)?;
    let (unlinked, unlinked_upto) = match asked {
        Some(Question { files, upto }) => (files.into_iter().map(unlinked).collect(), upto.0),
        None => (Vec::new(), 0),
    };
    Ok(v1::KeepAliveReply { lease_ms: lease_ms(&tenure), unlinked, unlinked_upto })
}

fn unlinked(file: Unlinked) -> v1::UnlinkedFile {
    v1::UnlinkedFile { ino: file.ino.0, log_index: file.since.0 }
}

fn hold_answer(session: SessionId, answer: v1::HoldAnswer) -> Result<HoldAnswer, WireError> {
    if answer.held.len().max(answer.released.len()) > HOLDS_PER_ANSWER_MAX {
        return Err(malformed("holds"));
    }
    let inos = |list: Vec<u64>| list.into_iter().map(InodeId).collect();
    let (held, released) = (inos(answer.held), inos(answer.released));
    Ok(HoldAnswer { session, number: answer.number, upto: LogIndex(answer.upto), held, released })
}

/// Ends a session; its open chunks begin their seal.
pub async fn close(
    ctx: &Context,
    request: v1::CloseSessionRequest,
    deadline: Duration,
) -> Result<v1::CloseSessionReply, WireError> {
    let tenure = ctx.tenure()?;
    let session = SessionId(request.session);
    if session.0 == 0 {
        return Err(malformed("session"));
    }
    let (_, reply) = ctx.node.propose(Command::CloseSession { session }, deadline).await?;
    let mut more = reply?.session.is_some();
    for _ in 0..CLOSE_STEPS_MAX {
        if !more {
            break;
        }
        more = match tenure.propose(Command::ExpireSession { session }).await {
            Ok(answer) => answer.session.is_some(),
            Err(Refused::Fs(_)) => false,
            Err(Refused::Node(error)) => {
                tenure.leases.lapse(session);
                return Err(error.into());
            }
        };
    }
    if more {
        // The sessions' job does the rest.
        tenure.leases.lapse(session);
    } else {
        tenure.leases.forget(session);
    }
    tenure.stir();
    Ok(v1::CloseSessionReply {})
}
