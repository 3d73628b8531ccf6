//! Transact: all of it, in one entry, or nothing.

use cairn_types::limits::TRANSACTION_PARTS_MAX;
use cairn_types::{FsError, Inode, SessionId};

use crate::namespace::error::{NamespaceError, Outcome, refuse};
use crate::namespace::operation::Operation;
use crate::namespace::precondition::Precondition;
use crate::namespace::reply::Answer;
use crate::namespace::state::State;

/// How one operation is done.
type Operate = fn(&mut State<'_, '_>, SessionId, &Operation) -> Outcome<Answer>;

/// Checks the preconditions, then does the operations. The first refusal is the whole transaction's:
/// what was done before it goes with the entry's other changes.
pub fn transact(
    state: &mut State<'_, '_>,
    session: SessionId,
    preconditions: &[Precondition],
    operations: &[Operation],
    operate: Operate,
) -> Outcome<Answer> {
    if operations.is_empty() {
        return refuse(FsError::InvalidRequest);
    }
    if preconditions.len().max(operations.len()) > TRANSACTION_PARTS_MAX {
        return refuse(FsError::TooLarge);
    }
    for (index, precondition) in (0..).zip(preconditions) {
        state.require(index, precondition)?;
    }
    let mut steps = Vec::with_capacity(operations.len());
    for (index, operation) in (0..).zip(operations) {
        match step(state, session, operation, operate) {
            // A symlink's target is in the request; the reply is kept, and as long as it need be.
            Ok(answer) => steps.push(answer.inode.map(|inode| Inode { target: None, ..inode })),
            Err(NamespaceError::Refused(why)) => {
                return refuse(FsError::OperationRefused { index, why: Box::new(why) });
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(Answer { steps, ..Answer::default() })
}

fn step(
    state: &mut State<'_, '_>,
    session: SessionId,
    operation: &Operation,
    operate: Operate,
) -> Outcome<Answer> {
    if !may_be_a_step(operation) {
        return refuse(FsError::InvalidRequest);
    }
    let answer = operate(state, session, operation)?;
    state.check_rows()?;
    Ok(answer)
}

/// Names, attributes and extents. What opens, ends or binds something has answers that a list of
/// inodes does not hold.
fn may_be_a_step(operation: &Operation) -> bool {
    match operation {
        Operation::Mkdir { .. }
        | Operation::Create { .. }
        | Operation::Symlink { .. }
        | Operation::Link { .. }
        | Operation::Unlink { .. }
        | Operation::Rmdir { .. }
        | Operation::Rename { .. }
        | Operation::SetAttr { .. }
        | Operation::SetAttrNow { .. }
        | Operation::Mknod { .. }
        | Operation::SetXattr { .. }
        | Operation::RemoveXattr { .. }
        | Operation::Commit { .. }
        | Operation::Clone { .. }
        | Operation::CopyRange { .. }
        | Operation::Concat { .. }
        | Operation::PunchHole { .. }
        | Operation::Allocate { .. } => true,
        Operation::SetPolicy { .. }
        | Operation::OpenChunk { .. }
        | Operation::OpenTail { .. }
        | Operation::OpenExclusive { .. }
        | Operation::ReleaseChunk { .. }
        | Operation::MountAdd { .. }
        | Operation::MountRemove { .. }
        | Operation::MountAddAs { .. }
        | Operation::MountSet { .. }
        | Operation::MountRemoveWith { .. }
        | Operation::ConflictDismiss { .. }
        | Operation::RenewGrant { .. }
        | Operation::RemoveTree { .. }
        | Operation::Lock { .. }
        | Operation::Unlock { .. }
        | Operation::CancelLock { .. }
        | Operation::Holding { .. }
        | Operation::Transact { .. } => false,
    }
}
