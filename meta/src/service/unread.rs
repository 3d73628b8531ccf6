//! What a change below a mount needs to know of its bucket first: a directory that was never read has names that
//! nobody knows.

use cairn_proto::WireError;
use cairn_types::{MountId, Timestamp};

use super::Context;
use super::stat::importing;
use crate::keys::imports::{self, ImportRecord};
use crate::keys::{self, RowFault, sessions};
use crate::leader::Tenure;
use crate::namespace::read::{self, ImportNeeded};
use crate::namespace::{Command, Operation, Target, mounting};
use crate::store::{Rows, Table};

/// Checks that the directories of mounts on the way of a change were read, however long ago. The first that was
/// not is being read from here on. As all refusals before the entry this one is not kept, and what has its reply
/// already is not refused.
///
/// # Errors
/// `Importing` names the intent to wait for.
pub async fn check(ctx: &Context, tenure: &Tenure, command: &Command) -> Result<(), WireError> {
    let Command::Request { session, sequence, operation, .. } = command else { return Ok(()) };
    let mut targets = Vec::new();
    collect(operation, &mut targets);
    if targets.is_empty() {
        return Ok(());
    }
    let view = tenure.local()?;
    let rows: &dyn Rows = &*view.store;
    match needed(rows, &targets)? {
        Some(needed) => {
            let kept = rows.get(Table::Replies, &sessions::reply_key(*session, *sequence));
            match kept.map_err(|error| super::fault(RowFault::from(error)))? {
                Some(_) => Ok(()),
                None => Err(importing(ctx, needed).await),
            }
        }
        None => Ok(()),
    }
}

fn needed(rows: &dyn Rows, targets: &[(&Target, bool)]) -> Result<Option<ImportNeeded>, WireError> {
    // A cluster that never had a mount has nothing to be read.
    if read::cluster(rows).map_err(super::fault)?.next.mount <= MountId(1) {
        return Ok(None);
    }
    for (target, contents) in targets {
        // At the beginning of time nothing that was ever read is old.
        let found =
            read::import_needed(rows, target, *contents, Timestamp(i64::MIN)).map_err(super::fault)?;
        // Where nothing is written the refusal needs no bucket.
        if let Some(needed) = found
            && takes_writes(rows, &needed).map_err(super::fault)?
        {
            return Ok(Some(needed));
        }
    }
    Ok(None)
}

fn takes_writes(rows: &dyn Rows, needed: &ImportNeeded) -> Result<bool, RowFault> {
    let import: Option<ImportRecord> = keys::get(rows, &imports::key(needed.directory))?;
    let Some(import) = import else { return Ok(false) };
    Ok(mounting::mode(rows, import.mount)?.takes_writes())
}

/// The targets of a change of names or of what has them, and whether all names in them count too.
fn collect<'o>(operation: &'o Operation, targets: &mut Vec<(&'o Target, bool)>) {
    match operation {
        Operation::Rmdir { target } => targets.push((target, true)),
        Operation::Mkdir { target, .. }
        | Operation::Create { target, .. }
        | Operation::Symlink { target, .. }
        | Operation::Unlink { target }
        | Operation::SetAttr { target, .. }
        | Operation::SetAttrNow { target, .. }
        | Operation::SetPolicy { target, .. }
        | Operation::Mknod { target, .. }
        | Operation::SetXattr { target, .. }
        | Operation::RemoveXattr { target, .. }
        | Operation::RemoveTree { target, .. } => targets.push((target, false)),
        Operation::Rename { from, to, .. } => targets.extend([(from, false), (to, true)]),
        Operation::Link { from, to } => targets.extend([(from, false), (to, false)]),
        Operation::Holding { operation, .. } => collect(operation, targets),
        Operation::Transact { operations, .. } => {
            operations.iter().for_each(|operation| collect(operation, targets));
        }
        _ => {}
    }
}
