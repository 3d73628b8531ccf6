//! What is granted, charged and written at one moment.

/// A chunk in the metadata's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Extent {
    /// Not opened yet.
    #[default]
    Unused,
    /// Activated, with a grant.
    Open,
    /// Its end is asked for.
    Sealing,
    /// Its end is decided.
    Sealed,
    /// In S3: no longer charged.
    Persisted,
}

/// One chunk and its primary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tail {
    /// The metadata's view.
    pub extent: Extent,
    /// The bytes granted to it by the log.
    pub granted: u8,
    /// The bytes its primary knows to be granted.
    pub known: u8,
    /// Bit n: a renewal to n bytes was asked for once, and may be applied at any time.
    pub asked: u8,
    /// The bytes its primary took.
    pub taken: u8,
    /// How many of them are acknowledged.
    pub committed: u8,
    /// The primary is fenced, or closed the chunk: it takes and acknowledges nothing more.
    pub fenced: bool,
    /// The decided length.
    pub length: u8,
}

impl Tail {
    /// What it is to be charged: the grant, then the length, in the end nothing.
    pub(super) fn due(&self) -> u8 {
        match self.extent {
            Extent::Open | Extent::Sealing => self.granted,
            Extent::Sealed => self.length,
            Extent::Unused | Extent::Persisted => 0,
        }
    }

    /// The bytes it has: those taken, then those decided.
    pub(super) fn held(&self) -> u8 {
        match self.extent {
            Extent::Open | Extent::Sealing => self.taken,
            Extent::Sealed => self.length,
            Extent::Unused | Extent::Persisted => 0,
        }
    }
}

/// The whole state of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    /// The chunks.
    pub tails: [Tail; 3],
    /// What the log counts as charged, over all of them.
    pub charged: u8,
}

impl State {
    /// The bytes that all chunks have.
    pub(super) fn held(&self) -> u8 {
        self.tails.iter().map(Tail::held).sum()
    }

    /// The representative of the states that differ by the names of the chunks.
    pub(super) fn canonical(&self) -> Self {
        let mut named = *self;
        named.tails.sort_unstable();
        named
    }
}
