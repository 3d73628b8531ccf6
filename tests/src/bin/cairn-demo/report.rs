//! [`Report`]: what was measured, as a table at the end.

use std::time::Duration;

use crate::say;

/// The rows of the table, in the order in which they were measured.
#[derive(Default)]
pub struct Report {
    rows: Vec<[String; 3]>,
}

impl Report {
    /// Adds a row: what, how much, under which conditions.
    pub fn row(&mut self, what: impl Into<String>, value: impl Into<String>, how: impl Into<String>) {
        self.rows.push([what.into(), value.into(), how.into()]);
    }

    /// Prints the table.
    pub fn print(&self) {
        say::act("What was measured (one machine, every server on the same disk: shapes, not records)");
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (first, second) = (width(0), width(1));
        for [what, value, how] in &self.rows {
            println!("  {what:<first$}  {value:>second$}  {how}");
        }
        println!("\nEverything written was there, once, and equal byte for byte.");
    }
}

/// A set of durations, sorted.
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Sorts them.
    pub fn new(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        Self(durations)
    }

    /// The smallest duration that `percent` of them do not exceed; zero when there are none.
    pub fn percentile(&self, percent: f64) -> Duration {
        let rank = (self.0.len() as f64 * percent / 100.0).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// Something a second.
pub fn rate(count: u64, within: Duration) -> f64 {
    count as f64 / within.as_secs_f64().max(1e-9)
}
