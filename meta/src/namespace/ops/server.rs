//! AdmitServer, RetireServer: which metadata servers may be members.

use cairn_types::{FsError, NodeId};

use crate::keys::servers::{self, DirectoryId, ID_MAX, KnownServer, Servers};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::reply::Answer;
use crate::namespace::state::State;

/// Gives an id to a server, for ever.
pub fn admit(state: &mut State<'_, '_>, node: NodeId, directory: DirectoryId) -> Outcome<Answer> {
    if !(1..=ID_MAX).contains(&node.0) || directory == DirectoryId::default() {
        return refuse(FsError::InvalidRequest);
    }
    let mut known: Servers = state.get(servers::KEY)?.unwrap_or_default();
    let server = KnownServer { node, directory, removed: false };
    match known.get(node) {
        Some(same) if same == server => return Ok(Answer::default()),
        Some(_) => return refuse(FsError::Exists),
        None => {}
    }
    known.set(server);
    state.put(servers::KEY.to_vec(), &known);
    Ok(Answer::default())
}

/// Takes an id out of use, for ever.
pub fn retire(state: &mut State<'_, '_>, node: NodeId) -> Outcome<Answer> {
    if node.0 == 0 {
        return refuse(FsError::InvalidRequest);
    }
    let mut known: Servers = state.get(servers::KEY)?.unwrap_or_default();
    let before = known.get(node);
    if before.is_some_and(|server| server.removed) {
        return Ok(Answer::default());
    }
    // A first member was never written down: its directory has no id.
    let directory = before.map(|server| server.directory).unwrap_or_default();
    known.set(KnownServer { node, directory, removed: true });
    state.put(servers::KEY.to_vec(), &known);
    Ok(Answer::default())
}
