//! How much space there is, and for how many chunks.

use crate::mutation::Mutation;

/// A bounded model of chunks that share one bound.
#[derive(Clone, Copy, Debug)]
pub struct Grants {
    /// Chunks that may be opened, 1 to 3. They are alike.
    pub chunks: usize,
    /// Bytes that may be charged at one time, at most 15.
    pub bound: u8,
    /// Bytes that a chunk can hold, at most 7.
    pub chunk_bytes: u8,
    /// The bug put in.
    pub mutation: Option<Mutation>,
}

impl Grants {
    /// The first grant, which activation gives (R13).
    pub(super) const FIRST: u8 = 1;

    /// Chunks of up to four bytes under this bound.
    pub fn new(chunks: usize, bound: u8) -> Self {
        Self { chunks, bound, chunk_bytes: 4, mutation: None }
    }

    /// The same model with a bug put in.
    pub fn with(self, mutation: Mutation) -> Self {
        Self { mutation: Some(mutation), ..self }
    }

    pub(super) fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}
