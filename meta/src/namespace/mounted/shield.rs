//! Listings that began before a change of ours and are told after it: what was changed meanwhile is claimed by the
//! import, and passed over by it as what any other intent uses.

use cairn_types::{IntentId, MountId};

use crate::keys::claims::{self, ClaimRow};
use crate::keys::imports::ImportRecord;
use crate::keys::intents::Work;
use crate::keys::{self, RowFault};
use crate::namespace::state::State;
use crate::namespace::walk;
use crate::store::{KeyRange, Table};

/// Claims that go at the end of an import, at most. What is left is void, and goes with a later one.
const CLAIMS_AT_ONCE: usize = 1000;

impl State<'_, '_> {
    /// An object was just written or deleted: imports of the directories on its way that are under way may tell
    /// how it was before.
    pub fn shield(&mut self, mount: MountId, key: &[u8]) -> Result<(), RowFault> {
        let Some(record) = self.mount(mount)? else { return Ok(()) };
        let prefix = record.source.prefix.as_bytes();
        let Some(path) = key.strip_prefix(prefix) else { return Ok(()) };
        let (mut at, mut done) = (record.root, prefix.len());
        for part in path.split_inclusive(|byte| *byte == b'/') {
            done += part.len();
            let import: Option<ImportRecord> = self.get(&keys::imports::key(at))?;
            if let Some(reads) = self.unfinished(import.and_then(|import| import.intent))? {
                self.put_claim(mount, &key[..done], reads.intent);
            }
            let name = part.strip_suffix(b"/").unwrap_or(part);
            match walk::lookup(&*self.txn, at, name)? {
                Some(found) if found.inode.is_dir() => at = found.inode.ino,
                _ => break,
            }
        }
        Ok(())
    }

    /// The intent that uses a key, unless that is an import, which only passes it over.
    pub fn user_of(&self, mount: MountId, key: &[u8]) -> Result<Option<IntentId>, RowFault> {
        let user = self.claim(mount, key)?;
        let reads = self.unfinished(user)?.is_some_and(|record| matches!(record.work, Work::Import { .. }));
        Ok(user.filter(|_| !reads))
    }

    /// An import is over: what it was to pass over may be looked at again.
    pub fn unshield(&mut self, import: &ImportRecord) -> Result<(), RowFault> {
        let range = KeyRange::prefix(&claims::key(import.mount, &import.prefix));
        for (key, row) in keys::scan::<ClaimRow>(&*self.txn, &range, CLAIMS_AT_ONCE)? {
            if Some(row.intent) == import.intent || self.unfinished(Some(row.intent))?.is_none() {
                self.delete(Table::Claims, key);
            }
        }
        Ok(())
    }
}
