//! Numbered records: what the append tests write, and how they tell what became of it.
//!
//! A record says who wrote it, its number and its length, and its other bytes follow from these;
//! so a file of records can be taken apart, and whatever is lost, doubled, torn or out of order shows.

use std::collections::{BTreeMap, BTreeSet};

use cairn_sdk::Error;

/// The first bytes of each record.
const MAGIC: [u8; 4] = *b"CRec";
/// Magic, writer, number, length, checksum.
pub const HEADER_BYTES: usize = 4 + 4 + 8 + 4 + 4;

/// A record of `length` bytes in all, at least [`HEADER_BYTES`].
#[must_use]
pub fn record(writer: u32, number: u64, length: usize) -> Vec<u8> {
    let length = length.max(HEADER_BYTES);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&writer.to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    let seed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(writer);
    let body = (0..length - HEADER_BYTES).map(|n| (seed.rotate_left((n % 61) as u32) >> 7) as u8 ^ n as u8);
    let body: Vec<u8> = body.collect();
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes), &body);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// A record found in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Where its first byte is.
    pub offset: u64,
    /// Who wrote it.
    pub writer: u32,
    /// Its number.
    pub number: u64,
    /// Its bytes.
    pub length: usize,
}

/// Takes a file of records apart.
///
/// # Errors
/// Says at which offset something is that is no whole record.
pub fn records(file: &[u8]) -> Result<Vec<Found>, String> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < file.len() {
        let next = one(&file[at..], at as u64).ok_or_else(|| {
            format!("no whole record at {at} of {} bytes, after {:?}", file.len(), found.last())
        })?;
        at += next.length;
        found.push(next);
    }
    Ok(found)
}

fn one(bytes: &[u8], offset: u64) -> Option<Found> {
    let header = bytes.get(..HEADER_BYTES)?;
    let writer = u32::from_le_bytes(header.get(4..8)?.try_into().ok()?);
    let number = u64::from_le_bytes(header.get(8..16)?.try_into().ok()?);
    let length = u32::from_le_bytes(header.get(16..20)?.try_into().ok()?) as usize;
    let whole = bytes.get(..length)?;
    (whole == record(writer, number, length)).then_some(Found { offset, writer, number, length })
}

/// What a writer knows of its records.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The writer.
    pub writer: u32,
    /// Acknowledged: number and file offset.
    pub acknowledged: BTreeMap<u64, u64>,
    /// Submitted, and not acknowledged: they may be there or not.
    pub unknown: BTreeSet<u64>,
    /// Refused for certain: they must not be there.
    pub refused: BTreeSet<u64>,
    /// What the SDK said of those that were not acknowledged.
    pub errors: Vec<(u64, Error)>,
    /// The longest time from one acknowledgement to the next, in milliseconds.
    pub longest_pause_ms: u128,
}

impl Ledger {
    /// The end of the last acknowledged record of `length` bytes.
    #[must_use]
    pub fn last(&self) -> Option<(u64, u64)> {
        self.acknowledged.last_key_value().map(|(n, at)| (*n, *at))
    }
}

/// Compares a file with what its writers know: every acknowledged record is there once, at the
/// offset told; an unknown one at most once; a refused one not; a writer's records in the order in
/// which it submitted them; and nothing else.
///
/// # Errors
/// Says what is wrong.
pub fn verify(file: &[u8], ledgers: &[&Ledger]) -> Result<Vec<Found>, String> {
    let found = records(file)?;
    let mut places: BTreeMap<(u32, u64), Vec<u64>> = BTreeMap::new();
    let mut last: BTreeMap<u32, u64> = BTreeMap::new();
    for f in &found {
        places.entry((f.writer, f.number)).or_default().push(f.offset);
        let before = last.insert(f.writer, f.number);
        if before.is_some_and(|before| before >= f.number) {
            return Err(format!(
                "writer {}: {} stands after {before:?}, at {}",
                f.writer, f.number, f.offset
            ));
        }
        let known = ledgers.iter().find(|l| l.writer == f.writer);
        let sent =
            known.is_some_and(|l| l.acknowledged.contains_key(&f.number) || l.unknown.contains(&f.number));
        if !sent {
            return Err(format!("nobody knows of {f:?}, or it was refused"));
        }
    }
    for ledger in ledgers {
        for (number, offset) in &ledger.acknowledged {
            match places.get(&(ledger.writer, *number)).map(Vec::as_slice) {
                Some([at]) if at == offset => {}
                at => {
                    let writer = ledger.writer;
                    return Err(format!(
                        "writer {writer}: {number} was acknowledged at {offset} and is at {at:?} in a file of {} bytes",
                        file.len()
                    ));
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(numbers: &[u64]) -> Vec<u8> {
        numbers.iter().flat_map(|n| record(1, *n, 100)).collect()
    }

    fn ledger(acknowledged: &[(u64, u64)], unknown: &[u64]) -> Ledger {
        Ledger {
            writer: 1,
            acknowledged: acknowledged.iter().copied().collect(),
            unknown: unknown.iter().copied().collect(),
            ..Ledger::default()
        }
    }

    #[test]
    fn a_good_file_passes() {
        let known = ledger(&[(1, 0), (3, 200)], &[2, 4]);
        assert_eq!(verify(&file(&[1, 2, 3]), &[&known]).unwrap().len(), 3);
    }

    #[test]
    fn what_is_wrong_is_found() {
        let known = ledger(&[(1, 0), (2, 100)], &[3]);
        for (bad, what) in [
            (file(&[1]), "lost"),
            (file(&[1, 2, 2]), "doubled"),
            (file(&[1, 2, 3, 3]), "an unknown one doubled"),
            (file(&[2, 1]), "out of order"),
            (file(&[1, 3, 2]), "moved"),
            (file(&[1, 2, 4]), "never submitted"),
            (file(&[1, 2])[..150].to_vec(), "torn"),
            ([file(&[1, 2]), vec![0; 64]].concat(), "zeros at the end"),
        ] {
            assert!(verify(&bad, &[&known]).is_err(), "{what}");
        }
        let mut flipped = file(&[1, 2]);
        flipped[150] ^= 1;
        assert!(verify(&flipped, &[&known]).is_err());
    }
}
