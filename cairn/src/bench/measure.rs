//! Counting: one run's latencies and rate, and the median of several runs.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::{Case, Unit};

/// Latencies up to a minute are told apart, to three digits.
const HIGHEST_NANOS: u64 = 60_000_000_000;

/// Counts one run.
pub struct Recorder {
    histogram: Option<Histogram<u64>>,
    started: Instant,
    count: f64,
}

/// What one run came to: latencies in µs, `rate` in the case's own unit a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub rate: f64,
}

/// A case's result.
pub struct Measured {
    pub name: &'static str,
    pub unit: Unit,
    pub run: Run,
    pub limit_name: &'static str,
    pub limit: Run,
    pub ratio: f64,
}

impl Recorder {
    /// Starts the clock.
    pub fn start() -> Self {
        Self {
            histogram: Histogram::new_with_max(HIGHEST_NANOS, 3).ok(),
            started: Instant::now(),
            count: 0.0,
        }
    }

    /// One operation took `latency` and counts `weight` towards the rate.
    pub fn record(&mut self, latency: Duration, weight: f64) {
        self.count += weight;
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(HIGHEST_NANOS).max(1));
        }
    }

    /// Takes another's counts in.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        if let (Some(histogram), Some(theirs)) = (&mut self.histogram, &other.histogram) {
            // Both have the same range, so this cannot fail.
            let _ = histogram.add(theirs);
        }
    }

    /// Stops the clock.
    pub fn finish(self) -> Run {
        let seconds = self.started.elapsed().as_secs_f64().max(1e-9);
        let at = |q: f64| self.histogram.as_ref().map_or(0.0, |h| h.value_at_quantile(q) as f64 / 1000.0);
        Run { p50: at(0.5), p99: at(0.99), p999: at(0.999), rate: self.count / seconds }
    }
}

impl Run {
    /// One line's worth.
    pub fn short(&self, unit: Unit) -> String {
        match unit {
            Unit::Micros => format!("p50 {:.0} us, p99 {:.0} us, {:.0}/s", self.p50, self.p99, self.rate),
            Unit::PerSecond => format!("{:.0}/s, p50 {:.0} us", self.rate, self.p50),
            Unit::MegabytesPerSecond => format!("{:.0} MB/s", self.rate),
        }
    }
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// The median of each figure over the runs; the ratio is the median of the runs' ratios, since
/// a run and its limit were measured under the same noise.
pub fn median(case: &Case, limit_name: &'static str, runs: Vec<(Run, Run)>) -> Measured {
    let of = |pick: fn(&Run) -> f64, limit: bool| {
        middle(runs.iter().map(|(run, lim)| pick(if limit { lim } else { run })).collect())
    };
    let fold = |limit: bool| Run {
        p50: of(|r| r.p50, limit),
        p99: of(|r| r.p99, limit),
        p999: of(|r| r.p999, limit),
        rate: of(|r| r.rate, limit),
    };
    let ratio = |(run, limit): &(Run, Run)| match case.unit {
        Unit::Micros => run.p50 / limit.p50,
        _ => run.rate / limit.rate,
    };
    Measured {
        name: case.name,
        unit: case.unit,
        run: fold(false),
        limit_name,
        limit: fold(true),
        ratio: middle(runs.iter().map(ratio).collect()),
    }
}
