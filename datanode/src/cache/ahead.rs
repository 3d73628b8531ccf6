//! [`Ahead`]: who reads in order, and how far ahead of them to fetch.

use std::collections::HashMap;

use super::BLOCK_BYTES;

/// Readers remembered, at most; the one silent for longest is forgotten.
const READERS_MAX: usize = 1024;
/// Blocks fetched ahead of a reader, at most.
const WINDOW_BLOCKS_MAX: u64 = 8;

#[derive(Clone, Copy)]
struct Reader {
    start: u64,
    end: u64,
    window: u64,
    seen: u64,
}

/// The last reads of the objects read lately.
#[derive(Default)]
pub(super) struct Ahead {
    readers: HashMap<u128, Reader>,
    reads: u64,
}

impl Ahead {
    /// Notes a read of `[start, end)` of an object; answers how many blocks after it to fetch: none
    /// for one who jumps about, then 2, 4, 8 for one who goes on where the last read ended.
    pub(super) fn note(&mut self, object: u128, start: u64, end: u64) -> u64 {
        self.reads += 1;
        let seen = self.reads;
        let known = self.readers.get(&object).copied();
        let window = match known {
            // Several frames of one read are asked for at once, and need not come in order.
            Some(last) if start >= last.start && start <= last.end + BLOCK_BYTES && end > last.end => {
                (last.window * 2).clamp(2, WINDOW_BLOCKS_MAX)
            }
            Some(last) if start >= last.start && end <= last.end => last.window,
            Some(_) => 0,
            None if start == 0 => 2,
            None => 0,
        };
        if known.is_none() && self.readers.len() >= READERS_MAX {
            let silent = self.readers.iter().min_by_key(|(_, reader)| reader.seen).map(|(id, _)| *id);
            if let Some(silent) = silent {
                self.readers.remove(&silent);
            }
        }
        self.readers.insert(object, Reader { start, end, window, seen });
        window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn who_reads_in_order_is_read_ahead_for() {
        let mut ahead = Ahead::default();
        let windows: Vec<u64> = (0..5).map(|n| ahead.note(1, n * MIB, (n + 1) * MIB)).collect();
        assert_eq!(windows, [2, 4, 8, 8, 8]);
        assert_eq!(ahead.note(1, 100 * MIB, 101 * MIB), 0, "a jump");
        assert_eq!(ahead.note(1, 101 * MIB, 102 * MIB), 2, "and on from there");
        assert_eq!(ahead.note(2, 7 * MIB, 8 * MIB), 0, "a first read in the middle");
    }

    #[test]
    fn readers_are_bounded() {
        let mut ahead = Ahead::default();
        for object in 0..5_000 {
            ahead.note(object, 0, MIB);
        }
        assert_eq!(ahead.readers.len(), READERS_MAX);
        assert_eq!(ahead.note(4_999, MIB, 2 * MIB), 4, "the latest is remembered");
    }
}
