//! Listings that began before a change of ours and are told after it: an import passes over what was changed since
//! it began, as over what any other intent uses.

use cairn_types::{IntentId, MountId};

use crate::keys::imports::ImportRecord;
use crate::keys::{RowFault, readings};
use crate::namespace::state::State;
use crate::store::{KeyRange, Rows, Table};

/// Rows that go at the end of an import, at most. What is left means nothing, and goes with a later one.
const ROWS_AT_ONCE: usize = 1000;
/// Rows of imports that are over that are looked for with each.
const OLD_AT_ONCE: usize = 64;
/// Imports that list one prefix at once, at most: of directories that left it one after the other.
const READERS_MAX: usize = 256;

impl State<'_, '_> {
    /// Notes that an import of a written mount begins to list its prefix.
    pub fn begin_reading(&mut self, import: &ImportRecord, intent: IntentId) -> Result<(), RowFault> {
        if self.is_noted(import.mount)? {
            self.mark(Table::Readings, readings::key(import.mount, &import.prefix, intent));
        }
        Ok(())
    }

    /// An object was just written, deleted or found changed: imports of the prefixes that it lies below may tell
    /// how it was before. Where directories are by now does not matter.
    pub fn shield(&mut self, mount: MountId, key: &[u8]) -> Result<(), RowFault> {
        let Some(record) = self.mount(mount)? else { return Ok(()) };
        let root = record.source.prefix.len();
        if !key.starts_with(record.source.prefix.as_bytes()) {
            return Ok(());
        }
        let mut at = root;
        loop {
            let rest = key.get(at..).unwrap_or_default();
            // What a listing of this prefix calls it: the object, or the prefix that it lies below. A marker is
            // told by the listing of its own prefix too.
            let end = rest.iter().position(|byte| *byte == b'/').map_or(key.len(), |slash| at + slash + 1);
            self.shield_in(mount, &key[..at], &key[..end])?;
            if rest.is_empty() {
                return Ok(());
            }
            if !key[..end].ends_with(b"/") {
                return Ok(());
            }
            at = end;
        }
    }

    fn shield_in(&mut self, mount: MountId, prefix: &[u8], told: &[u8]) -> Result<(), RowFault> {
        let range = KeyRange::prefix(&readings::of_prefix(mount, prefix));
        for (row, _) in self.txn.scan(Table::Readings, &range, READERS_MAX)? {
            let Some(import) = readings::import(row.last_chunk()) else { continue };
            match self.unfinished(Some(import))? {
                Some(_) => self.mark(Table::Shields, readings::shield(import, told)),
                None => self.delete(Table::Readings, row),
            }
        }
        Ok(())
    }

    /// True when an import passes over a key: an intent uses it, or it was changed since the import began.
    pub fn is_passed_over(&self, import: &ImportRecord, key: &[u8]) -> Result<bool, RowFault> {
        if self.claim(import.mount, key)?.is_some() {
            return Ok(true);
        }
        let Some(intent) = import.intent else { return Ok(false) };
        Ok(self.txn.get(Table::Shields, &readings::shield(intent, key))?.is_some())
    }

    /// An import is over.
    pub fn end_reading(&mut self, import: &ImportRecord) -> Result<(), RowFault> {
        let Some(intent) = import.intent else { return Ok(()) };
        self.delete(Table::Readings, readings::key(import.mount, &import.prefix, intent));
        let own = KeyRange::prefix(&readings::shields_of(intent));
        for (row, _) in self.txn.scan(Table::Shields, &own, ROWS_AT_ONCE)? {
            self.delete(Table::Shields, row);
        }
        for (row, _) in self.txn.scan(Table::Shields, &KeyRange::default(), OLD_AT_ONCE)? {
            let of = readings::import(row.first_chunk());
            if of != Some(intent) && self.unfinished(of)?.is_none() {
                self.delete(Table::Shields, row);
            }
        }
        Ok(())
    }
}
