//! Which file is explored.

use crate::mutation::Mutation;

/// How a writer opens the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It never does.
    Absent,
    /// It had it open from the start, at the first generation.
    Plain,
    /// It calls `open_exclusive` at some time (R11).
    Exclusive,
}

/// A bounded model of one file.
#[derive(Clone, Copy, Debug)]
pub struct File {
    /// Chunks it can roll over: 1 to 3.
    pub chunks: usize,
    /// Its three possible writers.
    pub writers: [Role; 3],
    /// Records each of them wants to append, at most 3.
    pub sequences: u8,
    /// Records a chunk can hold, at most 4.
    pub chunk_records: u8,
    /// A primary can close its chunk by a planned roll (R5).
    pub planned: bool,
    /// A planned roll goes on in a chunk that was made ahead, where there is one (R1).
    pub spares: bool,
    /// Somebody asks how long the file is (R9).
    pub asks_length: bool,
    /// The bug put in.
    pub mutation: Option<Mutation>,
}

impl File {
    /// A file with these writers, two records each, fenced rolls only.
    pub fn new(chunks: usize, writers: [Role; 3]) -> Self {
        Self {
            chunks,
            writers,
            sequences: 2,
            chunk_records: 3,
            planned: false,
            spares: false,
            asks_length: false,
            mutation: None,
        }
    }

    /// The same file with a bug put in.
    pub fn with(self, mutation: Mutation) -> Self {
        Self { mutation: Some(mutation), ..self }
    }

    pub(super) fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}
