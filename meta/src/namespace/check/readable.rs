//! Tables whose rows are looked at one by one, for what they are alone: attributes, credentials,
//! locks, removed trees, events.

use cairn_types::Credentials;

use super::Finding;
use super::look::{Cursor, Look, Pass};
use crate::keys::Record;
use crate::keys::events::EventRow;
use crate::keys::locks::{LockRecord, LockerRecord, WaitRecord};
use crate::keys::trees::{Branch, RemovedTree};
use crate::keys::xattrs::{XattrRow, XattrTotals};
use crate::store::{StoreFault, Table};

/// Bytes of a key that is a number alone.
const NUMBER_BYTES: usize = 8;

pub(super) fn passes() -> Vec<Box<dyn Pass>> {
    let tables = [
        Table::Xattrs,
        Table::Credentials,
        Table::Locks,
        Table::LockWaits,
        Table::Lockers,
        Table::Trees,
        Table::Branches,
        Table::Events,
    ];
    tables.into_iter().map(|table| Box::new(Readable(table, Cursor::all(table))) as Box<dyn Pass>).collect()
}

struct Readable(Table, Cursor);

impl Pass for Readable {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let (rows, ended) = self.1.next(look)?;
        for (key, bytes) in rows {
            if !is_record(self.0, &key, &bytes) {
                look.found(Finding::Undecodable { table: self.0.name().to_owned(), key });
            }
        }
        Ok(ended)
    }
}

/// True when the row is what its table holds.
fn is_record(table: Table, key: &[u8], bytes: &[u8]) -> bool {
    let of_number = key.len() == NUMBER_BYTES;
    match table {
        Table::Xattrs if of_number => XattrTotals::from_bytes(key, bytes).is_ok(),
        Table::Xattrs => XattrRow::from_bytes(key, bytes).is_ok(),
        Table::Credentials => Credentials::from_bytes(key, bytes).is_ok(),
        Table::Locks => LockRecord::from_bytes(key, bytes).is_ok(),
        Table::LockWaits => WaitRecord::from_bytes(key, bytes).is_ok(),
        // The rows of single locks and waits say all in their keys.
        Table::Lockers => !of_number || LockerRecord::from_bytes(key, bytes).is_ok(),
        Table::Trees => RemovedTree::from_bytes(key, bytes).is_ok(),
        Table::Branches => Branch::from_bytes(key, bytes).is_ok(),
        Table::Events => EventRow::from_bytes(key, bytes).is_ok(),
        _ => true,
    }
}
