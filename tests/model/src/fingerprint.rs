//! A 64-bit fingerprint of a state.

use std::hash::{Hash, Hasher};

/// The odd constants of the mixing steps: digits of the golden ratio and of pi.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
const SPREAD: u64 = 0x2437_54f3_1319_8a2f;

/// The fingerprint under which a state is remembered as visited; never 0.
///
/// Two different states share one with probability 2⁻⁶⁴, so a run of ten million states misses
/// one with a probability of about three in a million.
pub fn fingerprint<S: Hash>(state: &S) -> u64 {
    let mut packer = Packer { mixed: SPREAD, word: 0, bits: 0 };
    state.hash(&mut packer);
    packer.finish().max(1)
}

/// Packs small fields into words before it mixes, since states are made of bytes.
struct Packer {
    mixed: u64,
    word: u64,
    bits: u32,
}

impl Packer {
    fn push(&mut self, value: u64, bits: u32) {
        if self.bits + bits > 64 {
            self.mixed = fold(self.mixed ^ self.word, MIX);
            self.word = 0;
            self.bits = 0;
        }
        self.word |= value << self.bits;
        self.bits += bits;
    }
}

impl Hasher for Packer {
    fn finish(&self) -> u64 {
        let mixed = fold(self.mixed ^ self.word, MIX);
        fold(mixed ^ u64::from(self.bits), SPREAD)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.push(u64::from(*byte), 8);
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.push(u64::from(value), 8);
    }

    fn write_u16(&mut self, value: u16) {
        self.push(u64::from(value), 16);
    }

    fn write_u32(&mut self, value: u32) {
        self.push(u64::from(value), 32);
    }

    fn write_isize(&mut self, discriminant: isize) {
        self.push(discriminant as u64 & 0xff, 8);
    }

    fn write_usize(&mut self, _length: usize) {
        // Only the lengths of arrays come here, and those never differ.
    }
}

/// The two halves of the 128-bit product, folded into one word.
fn fold(value: u64, by: u64) -> u64 {
    let product = u128::from(value ^ SPREAD) * u128::from(by);
    (product as u64) ^ ((product >> 64) as u64)
}
