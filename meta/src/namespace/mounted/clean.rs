//! What a removed mount leaves goes in bounded steps.

use cairn_types::MountId;

use crate::keys::intents::{self, IntentRecord};
use crate::keys::{self};
use crate::keys::{claims::ClaimRow, pending::PendingRow, surplus::SurplusRow};
use crate::namespace::error::Outcome;
use crate::namespace::state::State;
use crate::store::{KeyRange, Rows, Table};

impl State<'_, '_> {
    /// Removes some rows that a removed mount left; true when none are left.
    pub fn clean_mount(&mut self, mount: MountId) -> Outcome<bool> {
        let limit = self.bounds.rows_at_once;
        let all = KeyRange::prefix(&mount.0.to_be_bytes());
        let mut left = limit;
        for (key, row) in keys::scan::<ClaimRow>(&*self.txn, &all, left)? {
            self.end_left(Some(row.intent))?;
            self.delete(Table::Claims, key);
            left -= 1;
        }
        for (key, row) in keys::scan::<PendingRow>(&*self.txn, &all, left)? {
            self.end_left(row.intent)?;
            self.delete(Table::Pending, key);
            left -= 1;
        }
        for (key, row) in keys::scan::<SurplusRow>(&*self.txn, &all, left)? {
            self.end_left(row.intent)?;
            self.delete(Table::Surplus, key.clone());
            self.delete(Table::Keys, key);
            left -= 1;
        }
        for table in [Table::PendingSince, Table::Moves, Table::Conflicts, Table::Readings] {
            for (key, _) in self.txn.scan(table, &all, left)? {
                self.delete(table, key);
                left -= 1;
            }
        }
        Ok(left > 0)
    }

    /// Ends an intent about an object of a mount that is gone.
    fn end_left(&mut self, intent: Option<cairn_types::IntentId>) -> Outcome<()> {
        let Some(intent) = intent else { return Ok(()) };
        if let Some(record) = self.get::<IntentRecord>(&intents::key(intent))? {
            self.end_object_intent(&record)?;
        }
        Ok(())
    }
}
