//! Checkers: could a correct system have answered so?

pub mod append;
pub mod linear;

/// Why a history is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// No correct system answers so.
    #[error("{0}")]
    Violation(String),
    /// The checker ran out of time. That is no pass.
    #[error("the check of {what} did not end in {seconds} s: nothing is known")]
    OutOfTime {
        /// What was checked.
        what: String,
        /// Its limit.
        seconds: u64,
    },
    /// There is nothing to check, or next to nothing: a run that did nothing proves nothing.
    #[error("only {ok} operations succeeded: the run proves nothing")]
    TooLittle {
        /// How many.
        ok: usize,
    },
}
