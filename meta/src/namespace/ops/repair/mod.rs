//! Repair: mends one finding of a check. Each looks again whether the damage is there, and reads rows
//! that it may not trust with the check's own eyes: a row that cannot be read is a refusal here, and
//! no fault that stops the server.

mod adopt;
mod chunks;
mod content;
mod counts;
mod holds;
mod names;
mod sessions;

use cairn_types::{FsError, LogIndex};

use super::import::end_import_of;
use crate::keys::{RowFault, imports, objects};
use crate::namespace::check::{At, Finding, recheck};
use crate::namespace::error::{NamespaceError, Outcome, refuse};
use crate::namespace::reply::Answer;
use crate::namespace::state::State;
use crate::store::Table;

/// Mends what a check of the state at `seen` found. `NotFound` when it is not so any more,
/// `InvalidRequest` for a kind that is not mended, `Damaged` when what is needed cannot be read.
pub fn repair(state: &mut State<'_, '_>, seen: LogIndex, finding: &Finding) -> Outcome<Answer> {
    if !finding.is_repairable() {
        return refuse(FsError::InvalidRequest);
    }
    match mend(state, seen, finding) {
        Ok(()) => Ok(Answer::default()),
        // An entry that stopped the server would stop it again at every start.
        Err(NamespaceError::Fault(RowFault::Damaged { .. })) => refuse(FsError::Damaged),
        Err(error) => Err(error),
    }
}

fn mend(state: &mut State<'_, '_>, seen: LogIndex, finding: &Finding) -> Outcome<()> {
    match finding {
        Finding::NoPlace { ino, parent, name } => names::place(state, *ino, *parent, name)?,
        Finding::DanglingPlace { ino, .. } => names::drop_place(state, *ino)?,
        Finding::DanglingName { ino, parent, name } => names::drop_name(state, *ino, *parent, name)?,
        Finding::UnlistedLink { ino, parent, name } => names::list_link(state, *ino, *parent, name)?,
        Finding::StrayLink { ino, parent, name } => names::drop_link(state, *ino, *parent, name)?,
        Finding::LinkCount { ino, version, counted, .. } => {
            names::count_links(state, *ino, *version, *counted)?;
        }
        Finding::LostDirectory { ino, subdirectories } => adopt::directory(state, *ino, *subdirectories)?,
        Finding::Cycle { ino } => adopt::ring(state, *ino)?,
        Finding::NamedOrphan { ino } => names::drop_orphan(state, *ino)?,
        Finding::LostFile { ino } => adopt::file(state, *ino)?,
        Finding::LostContent { content } => adopt::content(state, seen, *content)?,
        Finding::BeyondSize { ino, .. } => content::lengthen(state, *ino)?,
        Finding::BeyondExtentEnd { chunk, end, .. } => content::extent_end(state, *chunk, *end)?,
        Finding::LiveBytes { chunk, recorded, counted, .. } => {
            content::live_bytes(state, *chunk, *recorded, *counted)?;
        }
        Finding::StrayKey { mount, key, .. } => {
            still(state, finding)?;
            state.delete(Table::Keys, objects::key(*mount, key));
        }
        Finding::StrayImport { ino } => {
            still(state, finding)?;
            end_import_of(state, *ino)?;
            state.delete(Table::Imports, imports::key(*ino));
        }
        Finding::WrongCount { counter, recorded, counted } => {
            counts::count(state, seen, *counter, *recorded, *counted)?;
        }
        Finding::NextId { counter, used, .. } => counts::next_id(state, *counter, *used)?,
        _ => chunks::repair(state, finding)?,
    }
    Ok(())
}

/// Refuses when lookups say that it is not so any more.
fn still(state: &State<'_, '_>, finding: &Finding) -> Outcome<()> {
    if recheck::is_so(&*state.txn, finding)? { Ok(()) } else { refuse(FsError::NotFound) }
}

/// The record, or a refusal.
fn record<R>(at: At<R>) -> Outcome<R> {
    match at {
        At::Record(record) => Ok(record),
        At::Nothing => refuse(FsError::NotFound),
        At::Unreadable => refuse(FsError::Damaged),
    }
}
