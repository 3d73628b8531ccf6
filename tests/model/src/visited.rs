//! The set of fingerprints of the states already met.

/// An open-addressed set of 64-bit fingerprints; 0 marks a free slot.
pub(crate) struct Visited {
    slots: Vec<u64>,
    held: usize,
}

impl Visited {
    pub(crate) fn new() -> Self {
        Self { slots: vec![0; 1 << 12], held: 0 }
    }

    /// Adds a fingerprint; false when it was there already.
    pub(crate) fn insert(&mut self, fingerprint: u64) -> bool {
        if self.held * 8 >= self.slots.len() * 5 {
            self.grow();
        }
        let fresh = place(&mut self.slots, fingerprint);
        self.held += usize::from(fresh);
        fresh
    }

    fn grow(&mut self) {
        let doubled = vec![0; self.slots.len() * 2];
        let old = std::mem::replace(&mut self.slots, doubled);
        for fingerprint in old.into_iter().filter(|slot| *slot != 0) {
            place(&mut self.slots, fingerprint);
        }
    }
}

fn place(slots: &mut [u64], fingerprint: u64) -> bool {
    let mask = slots.len() - 1;
    let mut at = fingerprint as usize & mask;
    while slots[at] != 0 {
        if slots[at] == fingerprint {
            return false;
        }
        at = (at + 1) & mask;
    }
    slots[at] = fingerprint;
    true
}
