//! [`Tally`]: several things to do, of which some may fail.

use std::ffi::OsString;

use super::absolute;
use crate::exit::{self, CliError};

/// Counts what fails among several things: each failure is told at once and the rest goes on, as
/// POSIX tools do. What cannot get better with the next one ends the command: wrong usage, a
/// cluster that cannot be reached, an unknown outcome, a bug.
#[derive(Debug)]
pub struct Tally {
    failed: usize,
    total: usize,
}

impl Tally {
    /// For so many things.
    pub fn of(total: usize) -> Self {
        Self { failed: 0, total }
    }

    /// For these paths of the namespace.
    ///
    /// # Errors
    /// `Usage` for a relative one: wrong usage is told before anything is done.
    pub fn over(paths: &[OsString]) -> Result<Self, CliError> {
        paths.iter().try_for_each(|path| absolute(path))?;
        Ok(Self::of(paths.len()))
    }

    /// So many things are still to do: what was counted until now only found them.
    pub fn expect(&mut self, more: usize) {
        self.total = self.failed + more;
    }

    /// Takes the outcome of one thing; `None` when it failed and the rest goes on.
    ///
    /// # Errors
    /// The outcome's own error, when it was the only thing to do or the rest is in vain.
    pub fn count<T>(&mut self, outcome: Result<T, CliError>) -> Result<Option<T>, CliError> {
        match outcome {
            Ok(done) => Ok(Some(done)),
            Err(error) if self.total > 1 && matches!(error.code(), 1 | 4) => {
                self.failed += 1;
                exit::tell(&error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// How many failed.
    pub fn failed(&self) -> usize {
        self.failed
    }

    /// What all of it came to.
    ///
    /// # Errors
    /// `Partial` when something failed.
    pub fn end(self) -> Result<(), CliError> {
        match self.failed {
            0 => Ok(()),
            failed => Err(CliError::Partial { failed, total: self.total }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_sdk::types::FsError;

    fn refused() -> Result<(), CliError> {
        Err(CliError::Path { path: "/x".to_owned(), refused: FsError::NameTooLong })
    }

    #[test]
    fn what_is_refused_is_told_and_the_rest_goes_on() {
        let mut tally = Tally::of(3);
        assert!(matches!(tally.count(Ok(7)), Ok(Some(7))));
        assert!(matches!(tally.count(refused()), Ok(None)));
        assert!(matches!(tally.count(refused()), Ok(None)));
        assert!(matches!(tally.end(), Err(CliError::Partial { failed: 2, total: 3 })));
        assert!(Tally::of(2).end().is_ok());
    }

    #[test]
    fn one_thing_alone_and_what_is_in_vain_end_at_once() {
        assert!(matches!(Tally::of(1).count(refused()), Err(CliError::Path { .. })));
        let mut tally = Tally::of(3);
        let usage: Result<(), _> = Err(CliError::Usage("x".to_owned()));
        assert!(matches!(tally.count(usage), Err(CliError::Usage(_))));
        assert!(Tally::over(&["/a".into(), "b".into()]).is_err());
        assert!(Tally::over(&["/a".into(), "/b".into()]).is_ok());
    }
}
