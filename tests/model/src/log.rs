//! A log of at most four records, packed into sixteen bits.

use std::fmt;

/// One record: who it is and, in its header, a second small number.
///
/// The one-chunk model keeps the value and the committed length the primary knew (R3); the file
/// model keeps the sequence and the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// 1, 2 or 3: what makes the record itself.
    pub value: u8,
    /// 0 to 3: the rest of the header.
    pub header: u8,
}

/// Records in order, four bits each. Equal logs have equal chains (R2): comparing prefixes is
/// what comparing `chain = crc(previous chain, header)` stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Log(u16);

impl Log {
    /// The most records a log can hold.
    pub const RECORDS_MAX: u8 = 4;

    /// The number of records.
    pub fn len(self) -> u8 {
        ((19 - self.0.leading_zeros()) / 4) as u8
    }

    /// True when there is no record.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The record at a position, if there is one.
    pub fn get(self, at: u8) -> Option<Record> {
        if at >= self.len() {
            return None;
        }
        let nibble = (self.0 >> (4 * at)) as u8 & 15;
        Some(Record { value: nibble & 3, header: nibble >> 2 })
    }

    /// This log with one more record.
    pub fn with(self, record: Record) -> Self {
        let nibble = u16::from(record.value | (record.header << 2));
        Self(self.0 | (nibble << (4 * self.len())))
    }

    /// The first `records` of it.
    pub fn prefix(self, records: u8) -> Self {
        if records >= Self::RECORDS_MAX { self } else { Self(self.0 & ((1 << (4 * records)) - 1)) }
    }

    /// True when `other` begins with this log.
    pub fn begins(self, other: Self) -> bool {
        other.prefix(self.len()) == self
    }

    /// The records in order.
    pub fn records(self) -> impl Iterator<Item = Record> {
        (0..self.len()).filter_map(move |at| self.get(at))
    }

    /// Where a value first lies.
    pub fn find(self, value: u8) -> Option<u8> {
        (0..self.len()).find(|at| self.get(*at).is_some_and(|record| record.value == value))
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for record in self.records() {
            write!(out, "{}", record.value)?;
        }
        if self.is_empty() { write!(out, "-") } else { Ok(()) }
    }
}
