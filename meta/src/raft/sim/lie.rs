//! [`Lie`]: faults that are planted, to see them caught.

/// What a server's storage does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// A vote is told to be durable before it is.
    Votes,
    /// Entries are told to be durable before they are.
    Entries,
    /// After a crash the applied index may be that of a batch whose rows are gone.
    Applied,
    /// After a crash the kept replies are gone.
    Replies,
}
