//! [`Lines`]: how much a log says about what was slow. A disk that stands still would fill it: of each
//! kind there are so many lines in a second and no more, and the next one says how many were left out.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Lines of one kind in a second, at most.
const LINES_MAX: u32 = 5;
const SECOND: Duration = Duration::from_secs(1);

/// The lines of one kind.
#[derive(Debug)]
pub struct Lines {
    // Guards: that the counts belong to the second that began then. Never held across an await.
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    began: Option<Duration>,
    lines: u32,
    left_out: u64,
}

impl Default for Lines {
    fn default() -> Self {
        Self::new()
    }
}

impl Lines {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { window: Mutex::new(Window { began: None, lines: 0, left_out: 0 }) }
    }

    /// Whether there may be a line at `now`, by a clock that never goes back: as many as were left out
    /// before it.
    #[must_use]
    pub fn admit(&self, now: Duration) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = window.began.is_none_or(|began| now.saturating_sub(began) >= SECOND);
        if is_over {
            (window.began, window.lines) = (Some(now), 0);
        }
        if window.lines >= LINES_MAX {
            window.left_out += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

/// Whole milliseconds.
#[must_use]
pub fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_lines_a_second_and_what_was_left_out_is_told() {
        let lines = Lines::new();
        let at = Duration::from_millis;
        let told: Vec<_> = (0..20).map(|n| lines.admit(at(10_000 + n * 10))).collect();
        assert_eq!(told.iter().flatten().count(), LINES_MAX as usize);
        assert!(told[..LINES_MAX as usize].iter().all(|told| *told == Some(0)));
        assert_eq!(lines.admit(at(10_999)), None, "the second is not over");
        assert_eq!(lines.admit(at(11_000)), Some(16), "as many as were left out");
        assert_eq!(lines.admit(at(11_001)), Some(0));
    }
}
